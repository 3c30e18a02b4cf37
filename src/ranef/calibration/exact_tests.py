"""Exact tests that ranks are uniform and that two samples share one distribution.

Both count how many values lie below a moving bound and look at the smallest two-sided tail
probability of a count (Säilynoja, Bürkner and Vehtari 2022, Statistics and Computing 32:32). They
simulate the distribution of that statistic; here it is computed, step by step along the counts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr, bdtrc, gammaln

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranef.common.array_types import Array, IntArray

__all__ = ["band", "holm", "two_sample_p_value", "uniformity_p_value"]

# Sums of rounding errors in a probability near one; no smaller p-value can be told from zero.
_SMALLEST_P = 1e-12
# Tail probabilities that differ by rounding alone count as equal.
_SAME = 1 + 1e-9
# Places in the pooled order at which two samples are compared.
_PLACES = 100


def uniformity_p_value(ranks: IntArray, top: int) -> float:
    """Exact p-value of the hypothesis that ranks are uniform on 0..top.

    At every k the number of ranks below k is binomial. The counts in the top + 1 bins are
    independent Poisson variables given their sum, so the probability that the cumulative count
    stays inside a band is a chain of convolutions.

    Parameters
    ----------
    ranks
        Shape (S,).
    top
        The largest possible rank.

    Returns
    -------
    float
        Not below 1e-12, the rounding error of the sum.

    Examples
    --------
    >>> uniformity_p_value(np.arange(100), 99) > 0.9
    True
    >>> uniformity_p_value(np.arange(100) // 2, 99)
    1e-12
    """
    S = len(ranks)
    count = np.cumsum(np.bincount(ranks, minlength=top + 1))[:-1]
    tails = _binomial_tails(S, top + 1)
    least = tails[np.arange(top), count].min()
    return float(np.clip(1 - _stay(tails > least * _SAME, S), _SMALLEST_P, 1.0))


def band(S: int, top: int, error_rate: float) -> tuple[Array, Array]:
    """Bounds that hold the whole distribution function of S uniform ranks at once.

    The picture of `uniformity_p_value`: the p-value is at most the error rate where, and only
    where, the share of ranks below k leaves the bounds for some k.

    Parameters
    ----------
    S
        Number of ranks.
    top
        The largest possible rank.
    error_rate
        Probability that uniform ranks leave the bounds, or less, since counts are whole numbers.

    Returns
    -------
    low, high : numpy.ndarray
        Smallest and largest share of ranks below k = 1..top, shape (top,).

    Examples
    --------
    >>> low, high = band(1000, 99, 0.01)
    >>> round(float(low[49]), 3), round(float(high[49]), 3)
    (0.445, 0.555)
    """
    tails = _binomial_tails(S, top + 1)
    # The band widens as the tail probability that is still inside falls: bisect the possible ones.
    levels = np.unique(tails)
    low, high = -1, len(levels)
    while high - low > 1:
        middle = (low + high) // 2
        if 1 - _stay(tails > levels[middle] * _SAME, S) <= error_rate:
            low = middle
        else:
            high = middle
    inside = tails > (levels[low] * _SAME if low >= 0 else 0.0)
    return inside.argmax(axis=1) / S, (S - inside[:, ::-1].argmax(axis=1)) / S


def two_sample_p_value(first: Array, second: Array, rng: np.random.Generator) -> float:
    """Exact p-value of the hypothesis that two samples come from one distribution.

    Among the m smallest of all values the number from the second sample is hypergeometric; 100
    values of m are looked at, so the test is as sensitive in the tails as in the middle. The
    statistic's distribution is that of a lattice path; nothing is assumed of the values.

    Parameters
    ----------
    first, second
        Shapes (M,) and (N,), each of independent values.
    rng
        Breaks ties at random.

    Returns
    -------
    float
        Not below 1e-12.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> two_sample_p_value(rng.normal(size=200), 1 + rng.normal(size=200), rng) < 1e-6
    True
    """
    M, N = len(first), len(second)
    pooled = np.concatenate([first, second])
    order = np.lexsort([rng.random(M + N), pooled])
    count = np.cumsum(order >= M)
    places = np.unique(np.linspace(1, M + N - 1, min(_PLACES, M + N - 1)).astype(int))
    tails = _hypergeometric_tails(M, N, tuple(int(m) for m in places))
    least = tails[np.arange(len(places)), count[places - 1]].min()
    inside = tails > least * _SAME
    stays = _paths(M, N, places, inside)[-1].sum()
    return float(np.clip(1 - stays, _SMALLEST_P, 1.0))


def holm(p: Array) -> Array:
    """Adjust p-values for their number (Holm 1979): reject those at most the error rate.

    Parameters
    ----------
    p
        Shape (Q,).

    Returns
    -------
    numpy.ndarray
        Shape (Q,). If all hypotheses hold, the chance that any value is at most alpha is at most
        alpha, however the p-values depend on each other.

    Examples
    --------
    >>> holm(np.array([0.01, 0.5, 0.02]))
    array([0.03, 0.5 , 0.04])
    """
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(steps, 1.0)
    return out


@lru_cache(maxsize=4)
def _binomial_tails(S: int, bins: int) -> Array:
    """Two-sided tail probability of each count c at each edge k / bins, shape (bins - 1, S + 1)."""
    at = np.arange(1, bins)[:, None] / bins
    c = np.arange(S + 1)
    above = np.ones((bins - 1, S + 1))
    above[:, 1:] = bdtrc(c[:-1], S, at)
    tails = 2 * np.minimum(bdtr(c, S, at), above)
    tails.flags.writeable = False
    return np.asarray(tails)


def _stay(inside: NDArray[np.bool_], S: int) -> float:
    """Probability that the cumulative count of S uniform ranks stays inside a band.

    Parameters
    ----------
    inside
        Whether each count is inside at each edge, shape (bins - 1, S + 1); a run in each row.
    S
        Number of ranks.
    """
    if not inside.any(axis=1).all():
        return 0.0
    low = np.append(inside.argmax(axis=1), S)
    high = np.append(S - inside[:, ::-1].argmax(axis=1), S)
    rate = S / len(low)
    steps = np.arange(S + 1)
    poisson = np.exp(steps * np.log(rate) - rate - gammaln(steps + 1))
    mass, start = np.ones(1), 0
    for a, b in zip(low, high, strict=True):
        full = np.convolve(mass, poisson[: b - start + 1])
        skip = max(a - start, 0)
        mass, start = full[skip : b - start + 1], start + skip
    return float(mass[-1] / np.exp(S * np.log(S) - S - gammaln(S + 1)))


@lru_cache(maxsize=2)
def _hypergeometric_tails(M: int, N: int, places: tuple[int, ...]) -> Array:
    """Two-sided tail probability of each count at each place, shape (places, N + 1)."""
    mass = _paths(M, N, np.array(places), None)
    below = np.cumsum(mass, axis=1)
    above = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(2 * np.minimum(below, above))


def _paths(M: int, N: int, places: IntArray, inside: NDArray[np.bool_] | None) -> Array:
    """Probability of each count at each place, on paths that have stayed inside so far."""
    out = np.empty((len(places), N + 1))
    mass = np.zeros(N + 1)
    mass[0] = 1.0
    left = N - np.arange(N + 1)
    before = np.append(0, places[:-1])
    for i, (start, place) in enumerate(zip(before, places, strict=True)):
        for m in range(start, place):
            taken = mass * (left / (M + N - m))
            mass = mass - taken
            mass[1:] += taken[:-1]
        if inside is not None:
            mass = np.where(inside[i], mass, 0.0)
        out[i] = mass
    return out

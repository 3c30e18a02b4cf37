"""Ranks of true values among posterior draws, and an exact test that they are uniform.

If parameters come from the prior, data from the model and draws from the posterior, then truth and
draws are exchangeable and the truth's rank is uniform (Talts et al. 2018, arXiv:1804.06788).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr, bdtrc, gammaln

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranef.common.array_types import Array, IntArray

__all__ = ["band", "failing", "holm", "random_rank", "uniformity_p_value"]

# Sums of rounding errors in a probability near one; no smaller p-value can be told from zero.
_SMALLEST_P = 1e-12
# Tail probabilities that differ by rounding alone count as equal.
_SAME = 1 + 1e-9


def random_rank(draws: Array, truth: float, rng: np.random.Generator) -> int:
    """Count the draws below the truth, with ties broken at random.

    Parameters
    ----------
    draws
        Posterior draws of one quantity, shape (L,).
    truth
        Its true value.
    rng
        Used only where a draw equals the truth.

    Returns
    -------
    int
        0..L.

    Examples
    --------
    >>> random_rank(np.array([0.1, 0.7, 0.4]), 0.5, np.random.default_rng(1))
    2
    """
    ties = int(np.sum(draws == truth))
    return int(np.sum(draws < truth)) + (int(rng.integers(ties + 1)) if ties else 0)


def uniformity_p_value(ranks: IntArray, top: int) -> float:
    """Exact p-value of the hypothesis that ranks are uniform on 0..top.

    The statistic of Säilynoja, Bürkner and Vehtari (2022, Statistics and Computing 32:32): at
    every k the number of ranks below k is binomial; the smallest of their two-sided tail
    probabilities decides. They simulate its distribution; here it is computed. The counts in the
    top + 1 bins are independent Poisson variables given their sum, so the probability that the
    cumulative count stays inside a band is a chain of convolutions.

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
    tails = _tails(S, top + 1)
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
    tails = _tails(S, top + 1)
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


def failing(adjusted: Array, error_rate: float) -> IntArray:
    """Positions of the adjusted p-values at most the error rate, the smallest first."""
    failed = np.flatnonzero(adjusted <= error_rate)
    return np.asarray(failed[np.argsort(adjusted[failed], kind="stable")])


@lru_cache(maxsize=4)
def _tails(S: int, bins: int) -> Array:
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

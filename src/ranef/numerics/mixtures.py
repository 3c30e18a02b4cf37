"""Quantiles and tail probabilities of equal mixtures of normal distributions.

Given the variance parameters every coefficient and effect is normal, so its posterior is the
average of as many normals as there are draws of the variance parameters (mathematics.md, 4.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri

from ranef.common import budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ranef.common.array_types import Array

__all__ = ["above", "cdf", "moments", "quantiles"]

# Newton steps, cut back to bisection where they leave the bracket; ten are usual.
_STEPS = 80
# Error of the distribution function at which a quantile is taken as found.
_CLOSE = 1e-11


def moments(mean: Array, sd: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each mixture.

    Parameters
    ----------
    mean, sd
        Of the n parts of m mixtures, shape (n, m).

    Returns
    -------
    mean, sd : numpy.ndarray
        Shape (m,), in the units of mean.
    """
    middle = mean.mean(axis=0)
    return middle, np.sqrt(np.mean((mean - middle) ** 2 + sd**2, axis=0))


def quantiles(mean: Array, sd: Array, probs: Sequence[float]) -> Array:
    """Quantiles of each mixture, by Newton's method between the extreme quantiles of its parts.

    Parameters
    ----------
    mean, sd
        Of the n parts of m mixtures, shape (n, m). Where all sd of a mixture are zero its parts are
        draws, and their sample quantiles are given.
    probs
        k probabilities between 0 and 1.

    Returns
    -------
    numpy.ndarray
        Shape (k, m), in the units of mean; the error in probability is below 1e-11.

    Examples
    --------
    >>> import numpy as np
    >>> x = quantiles(np.array([[-1.0], [1.0]]), np.ones((2, 1)), [0.5, 0.975])
    >>> [round(float(v), 4) for v in x[:, 0]]
    [0.0, 2.6461]
    """
    out = np.empty((len(probs), mean.shape[1]))
    drawn = ~np.any(sd > 0, axis=0)
    if drawn.any():
        out[:, drawn] = np.quantile(mean[:, drawn], probs, axis=0)
    left = np.flatnonzero(~drawn)
    for block in budget.QUANTILES.blocks(len(left), len(mean)):
        part = left[block]
        for i, p in enumerate(probs):
            out[i, part] = _quantile(mean[:, part], sd[:, part], p)
    return out


def cdf(x: Array, mean: Array, sd: Array, weight: Array | None = None) -> Array:
    """Distribution function of each mixture at one point.

    Parameters
    ----------
    x
        Shape (m,).
    mean, sd
        Of the n parts of m mixtures, shape (n, m); sd positive.
    weight
        Weights of the parts, shape (n, m), columns summing to one; equal by default.

    Returns
    -------
    numpy.ndarray
        Shape (m,).
    """
    below = ndtr((x - mean) / sd)
    return np.asarray(below.mean(axis=0) if weight is None else (below * weight).sum(axis=0))


def above(mean: Array, sd: Array, x: Array | float) -> Array:
    """Probability of each mixture above x.

    Parameters
    ----------
    mean, sd
        Of the n parts of m mixtures, shape (n, m).
    x
        A number, or one for each mixture.

    Returns
    -------
    numpy.ndarray
        Shape (m,).
    """
    if not sd.any():
        return np.asarray(np.mean(mean > x, axis=0))
    return np.asarray(ndtr((mean - x) / sd).mean(axis=0))


def _quantile(mean: Array, sd: Array, prob: float) -> Array:
    """One quantile of r mixtures whose components are not all without spread."""
    z = ndtri(prob)
    own = mean + z * sd
    low, high = own.min(axis=0), own.max(axis=0)
    middle, spread = moments(mean, sd)
    x = np.clip(middle + z * spread, low, high)
    sd = np.maximum(sd, np.finfo(float).tiny)
    left = np.arange(len(x))
    for _ in range(_STEPS):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            u = (x[left] - mean[:, left]) / sd[:, left]
            gap = ndtr(u).mean(axis=0) - prob
            slope = (np.exp(-0.5 * u * u) / sd[:, left]).mean(axis=0) / np.sqrt(2 * np.pi)
            step = x[left] - gap / slope
        low[left] = np.where(gap < 0, x[left], low[left])
        high[left] = np.where(gap > 0, x[left], high[left])
        inside = (step > low[left]) & (step < high[left])
        found = np.abs(gap) < _CLOSE
        x[left] = np.where(found, x[left], np.where(inside, step, (low[left] + high[left]) / 2))
        left = left[~found]
        if not len(left):
            break
    return np.asarray(x)

"""Mixtures of normals with equal weights: moments, distribution function and exact quantiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.types import Array

__all__ = ["mixture_cdf", "mixture_moments", "mixture_quantiles"]

# Newton steps, cut back to bisection where they leave the bracket; ten are usual.
_STEPS = 80
# Error of the distribution function at which a quantile is taken as found.
_CLOSE = 1e-11


def mixture_moments(mean: Array, variance: Array) -> tuple[Array, Array]:
    """Mean and SD of mixtures.

    Parameters
    ----------
    mean, variance
        Of n components for each of r mixtures, shape (n, r). Variances may be zero.

    Returns
    -------
    mean, sd : numpy.ndarray
        Shape (r,).
    """
    return mean.mean(axis=0), np.sqrt(mean.var(axis=0) + variance.mean(axis=0))


def mixture_cdf(x: Array, mean: Array, variance: Array, weight: Array | None = None) -> Array:
    """Distribution function of each mixture at one point.

    Parameters
    ----------
    x
        Shape (r,).
    mean, variance
        Shape (n, r); variances positive.
    weight
        Weights of the components, shape (n, r), columns summing to one; equal by default.

    Returns
    -------
    numpy.ndarray
        Shape (r,).
    """
    from scipy.special import ndtr

    below = ndtr((x - mean) / np.sqrt(variance))
    return np.asarray(below.mean(axis=0) if weight is None else (below * weight).sum(axis=0))


def mixture_quantiles(mean: Array, variance: Array, probs: tuple[float, ...]) -> Array:
    """Quantiles of mixtures, by Newton's method inside a bracket.

    A quantile of the mixture lies between the least and the greatest of its components' quantiles.

    Parameters
    ----------
    mean, variance
        Of n components for each of r mixtures, shape (n, r). Where all variances of a mixture are
        zero its components are draws, and the quantiles are those of the draws.
    probs
        Between 0 and 1.

    Returns
    -------
    numpy.ndarray
        Shape (len(probs), r).

    Examples
    --------
    >>> import numpy as np
    >>> mixture_quantiles(np.zeros((1, 1)), np.ones((1, 1)), (0.975,)).round(6)
    array([[1.959964]])
    """
    out = np.empty((len(probs), mean.shape[1]))
    drawn = ~np.any(variance > 0, axis=0)
    if drawn.any():
        out[:, drawn] = np.quantile(mean[:, drawn], probs, axis=0)
    if not drawn.all():
        m, sd = mean[:, ~drawn], np.sqrt(variance[:, ~drawn])
        for k, prob in enumerate(probs):
            out[k, ~drawn] = _quantile(m, sd, prob)
    return out


def _quantile(mean: Array, sd: Array, prob: float) -> Array:
    """One quantile of r mixtures whose components are not all without spread."""
    from scipy.special import ndtr, ndtri

    z = ndtri(prob)
    own = mean + z * sd
    low, high = own.min(axis=0), own.max(axis=0)
    middle, spread = mixture_moments(mean, sd**2)
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

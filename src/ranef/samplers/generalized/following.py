"""Coefficients in units that follow the SD of group effects.

The larger the effects, the less is known of an intercept: the posterior of coefficients and log SD
is a funnel, which no ellipse covers. Given the log SD the coefficients are nearly normal, so in
units of that normal distribution the funnel is gone (mathematics.md, 4.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import chebyshev

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array

__all__ = ["Following", "follow", "stay"]

# Places along the log SD.
_PLACES = 5
# Of differences of slopes.
_STEP = 1e-4


@dataclass(frozen=True)
class Following:
    """A map from c to coefficients mean(s) + root(s) c, s a place along the line.

    Attributes
    ----------
    middle, reach
        The line from -1 to 1 in s.
    mean
        Chebyshev coefficients of the mean, shape (places, p).
    root
        Of the lower root, logarithms on its diagonal, shape (places, p, p).
    """

    middle: float
    reach: float
    mean: Array
    root: Array

    def at(self, s: Array) -> tuple[Array, Array]:
        """Mean (n, p) and root (n, p, p) at places s (n,)."""
        place = np.clip((s - self.middle) / self.reach, -1.0, 1.0)
        basis = chebyshev.chebvander(place, len(self.mean) - 1)
        mean, root = basis @ self.mean, np.einsum("nk,kij->nij", basis, self.root)
        own = np.arange(root.shape[1])
        root[:, own, own] = np.exp(root[:, own, own])
        return mean, root

    def inside(self, c: Array, t: Array) -> tuple[Array, Array]:
        """Coefficients (n, p) of c (n, p) at t (n, d), and the log determinant of the map (n,)."""
        mean, root = self.at(t[:, 0])
        own = np.arange(root.shape[1])
        log_det = np.log(root[:, own, own]).sum(axis=1)
        return mean + np.einsum("nij,nj->ni", root, c), log_det

    def outside(self, beta: Array, t: Array) -> Array:
        """The inverse of `inside`."""
        mean, root = self.at(t[:, 0])
        return np.asarray(np.linalg.solve(root, (beta - mean)[:, :, None])[:, :, 0])


def follow(
    slopes: Callable[[Array], tuple[Array, Array]],
    mode: Array,
    covariance: Array,
    p: int,
    reach: float,
) -> Following:
    """Find how mode and curvature of p coefficients change along the parameter after them.

    Parameters
    ----------
    slopes
        Log density (n,) and slope (n, d) of points (n, d); coefficients stand first.
    mode, covariance
        The mode and the inverse Hessian there, shapes (d,) and (d, d).
    p
        Number of coefficients.
    reach
        How far to look, in SDs of that parameter.

    Returns
    -------
    Following
        At Chebyshev points about the mode: two steps of Newton's method from where the
        inverse Hessian leads, and the curvature after the first.
    """
    sd = float(np.sqrt(covariance[p, p]))
    place = np.cos(np.pi * (np.arange(_PLACES) + 0.5) / _PLACES)
    away = reach * sd * place
    points = mode + away[:, None] * covariance[:, p] / covariance[p, p]
    given = covariance[:p, :p] - np.outer(covariance[:p, p], covariance[p, :p]) / sd**2
    cover = np.tile(given, (_PLACES, 1, 1))
    for _ in range(2):
        cover = _covers(slopes, points, cover, p)
        _, slope = slopes(points)
        step = np.einsum("kij,kj->ki", cover, slope[:, :p])
        points[:, :p] += np.where(np.isfinite(step), step, 0.0)
    root = np.linalg.cholesky(cover)
    own = np.arange(p)
    root[:, own, own] = np.log(root[:, own, own])
    basis = chebyshev.chebvander(place, _PLACES - 1)
    return Following(
        float(mode[p]),
        reach * sd,
        np.linalg.solve(basis, points[:, :p]),
        np.linalg.solve(basis, root.reshape(_PLACES, -1)).reshape(root.shape),
    )


def stay(mode: Array, covariance: Array, p: int) -> Following:
    """Coordinates that follow nothing: the mode, and the curvature there."""
    root = np.linalg.cholesky(covariance[:p, :p])
    own = np.arange(p)
    root[own, own] = np.log(root[own, own])
    return Following(float(mode[p]), 1.0, mode[None, :p], np.asarray(root[None], dtype=float))


def _covers(
    slopes: Callable[[Array], tuple[Array, Array]], points: Array, before: Array, p: int
) -> Array:
    """Inverse negative Hessians of the coefficients at points (k, d); those before where none."""
    k, d = points.shape
    # In units of what is known of each, so that differences are neither too fine nor too coarse.
    size = _STEP * np.sqrt(np.einsum("kii->ki", before))
    shift = np.zeros((k, p, d))
    shift[:, range(p), range(p)] = size
    ends = [
        slopes((points[:, None] + sign * shift).reshape(-1, d))[1][:, :p].reshape(k, p, p)
        for sign in (1.0, -1.0)
    ]
    hessian = (ends[0] - ends[1]) / (2 * size[:, :, None])
    hessian = -(hessian + hessian.transpose(0, 2, 1)) / 2
    out = before.copy()
    for i in range(k):
        if p and np.isfinite(hessian[i]).all() and np.linalg.eigvalsh(hessian[i])[0] > 0:
            out[i] = np.linalg.inv(hessian[i])
    return out

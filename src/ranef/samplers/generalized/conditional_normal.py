"""Normal approximations of coefficients and kept effects given the variance parameters.

Their mode and curvature are found at a few places, and a mean beside the mode: under the normal
distribution the average slope of the log density is zero there (Opper and Archambeau 2009, Neural
Computation 21, 786), which in dozens of skewed dimensions is worth far more than the mode. Between
places mean and root are quadratic functions (mathematics.md, 4.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array
    from ranef.likelihood.integrated.posterior import IntegratedPosterior

__all__ = ["ConditionalNormal", "Peak", "climb_linear", "fit_conditional"]

# Newton's steps and halvings of each, and the step below which a climb has arrived.
_STEPS, _HALVINGS, _NEAR = 40, 12, 1e-4
# Pairs of points that find the mean, and how often.
_PAIRS, _MEANS = 40, 2
# Nats that a place may lie below the best, and how often it is moved halfway to the middle.
_BELOW, _NEARER = 12.0, 4
# Places beyond the middle, in SDs, on axes and at corners.
_AXIS, _CORNER = 2.2, 1.8


@dataclass(frozen=True)
class Peak:
    """Where coefficients and kept effects lie at one theta.

    Attributes
    ----------
    place
        Shape (k,).
    root
        Lower root of the inverse curvature, shape (k, k).
    log_mass
        Laplace's approximation of the log density of theta.
    """

    place: Array
    root: Array
    log_mass: float


@dataclass(frozen=True)
class ConditionalNormal:
    """Mean and root as quadratic functions of t.

    Attributes
    ----------
    center, axes
        w = axes^-1 (t - center) are coordinates in SDs; shapes (d,) and (d, d).
    mean
        Shape (terms, k).
    root
        Of the lower root, logarithms on its diagonal, shape (terms, k, k).
    """

    center: Array
    axes: Array
    mean: Array
    root: Array

    def inside(self, c: Array, t: Array) -> tuple[Array, Array]:
        """Coefficients (n, k) of c (n, k) at t (n, d), and the log determinant of the map (n,)."""
        basis = self._basis(t)
        out, own = basis @ self.mean, np.arange(c.shape[1])
        log_det = np.empty(len(c))
        for i, terms in enumerate(basis):
            root = np.tensordot(terms, self.root, axes=1)
            log_det[i] = root[own, own].sum()
            root[own, own] = np.exp(root[own, own])
            out[i] += root @ c[i]
        return out, log_det

    def _basis(self, t: Array) -> Array:
        # Beyond the places functions stay as they are at the border.
        w = np.clip(np.linalg.solve(self.axes, (t - self.center).T).T, -_AXIS, _AXIS)
        return quadratic_basis(w)


def quadratic_basis(w: Array) -> Array:
    """One, w and all products of two of them, at w (n, d), shape (n, terms)."""
    i, j = np.triu_indices(w.shape[1])
    return np.column_stack([np.ones(len(w)), w, w[:, i] * w[:, j]])


def climb_linear(target: IntegratedPosterior, theta: Array, begin: Array) -> Peak:
    """Climb to the mode of coefficients and kept effects at theta (d,), from begin (k,)."""
    k, place = len(begin), begin.copy()
    v = np.concatenate([place, theta])
    value, slope = target.gradient(v[None])
    if not np.isfinite(value[0]):
        return Peak(place, np.eye(k), -np.inf)
    for _ in range(_STEPS):
        step = np.linalg.solve(_definite(target.curvature(v)), slope[0, :k])
        if np.abs(step).max() < _NEAR:
            break
        length, moved = 1.0, False
        for _ in range(_HALVINGS):
            tried = v.copy()
            tried[:k] += length * step
            there, bent = target.gradient(tried[None])
            if there[0] > value[0]:
                v, value, slope, moved = tried, there, bent, True
                break
            length /= 2
        if not moved:
            break
    curvature = target.curvature(v)
    if not np.isfinite(curvature).all():  # so far out that no mass can be told
        return Peak(v[:k], np.eye(k), -np.inf)
    curvature = _definite(curvature)
    root = np.linalg.cholesky(np.linalg.inv(curvature))
    log_mass = float(value[0] + np.log(np.diag(root)).sum())
    return Peak(v[:k], root, log_mass)


def _definite(curvature: Array) -> Array:
    """The curvature, or what is nearest to it and positive definite."""
    if not np.isfinite(curvature).all():
        return np.eye(len(curvature))
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    if values[0] > 1e-6 * values[-1]:
        return curvature
    return np.asarray((vectors * np.maximum(values, 1e-6 * values[-1])) @ vectors.T)


def fit_conditional(
    target: IntegratedPosterior,
    center: Array,
    axes: Array,
    inside: Callable[[Array], Array],
    begin: Array,
    rng: np.random.Generator,
) -> ConditionalNormal:
    """Find means and roots about a center, and quadratic functions through them.

    Parameters
    ----------
    target
        The posterior.
    center, axes
        Middle and lower root of the covariance of t, shapes (d,) and (d, d).
    inside
        From t (n, d) to theta (n, d).
    begin
        Coefficients and kept effects at the center, shape (k,).
    rng
        For the points that find means, the same at all places.
    """
    d, k = len(center), len(begin)
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * d)).reshape(d, -1).T
    w = np.vstack([np.zeros((1, d)), _AXIS * np.eye(d), -_AXIS * np.eye(d), _CORNER * corners])
    noise = rng.standard_normal((_PAIRS, k))
    noise = np.vstack([noise, -noise])
    means, roots = np.empty((len(w), k)), np.empty((len(w), k, k))
    top = -np.inf
    for i in range(len(w)):
        for _ in range(_NEARER):
            theta = inside((center + axes @ w[i])[None])[0]
            peak = climb_linear(target, theta, begin)
            # Where the posterior is not, quadratic functions need not be right.
            if i == 0 or peak.log_mass > top - _BELOW:
                break
            w[i] /= 2
        top = max(top, peak.log_mass)
        means[i], roots[i] = _mean(target, theta, peak, noise), peak.root
    own = np.arange(k)
    roots[:, own, own] = np.log(roots[:, own, own])
    basis = quadratic_basis(w)
    return ConditionalNormal(
        center,
        axes,
        np.asarray(np.linalg.lstsq(basis, means)[0], dtype=float),
        np.asarray(np.linalg.lstsq(basis, roots.reshape(len(w), -1))[0], float).reshape(-1, k, k),
    )


def _mean(target: IntegratedPosterior, theta: Array, peak: Peak, noise: Array) -> Array:
    """Move from the mode to where slopes are zero on average."""
    place, k = peak.place, len(peak.place)
    for _ in range(_MEANS):
        points = place + noise @ peak.root.T
        v = np.column_stack([points, np.tile(theta, (len(points), 1))])
        _, slopes = target.gradient(v)
        there = np.isfinite(slopes).all(axis=1)
        if not there.any():
            break
        average = slopes[there, :k].mean(axis=0)
        # In SDs; an exponential of a few points far out may be larger than all else.
        place = place + peak.root @ np.clip(peak.root.T @ average, -1.0, 1.0)
    return np.asarray(place)

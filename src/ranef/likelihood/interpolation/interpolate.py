"""Mode and surrogate of a likelihood too expensive to evaluate often (mathematics.md, 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

from ranef.common import budget
from ranef.likelihood.interpolation.boxes import MOST_RATIOS, LogBox, PlainBox
from ranef.likelihood.interpolation.surrogate import LARGEST_ERROR, fit_surrogate
from ranef.likelihood.posterior import MarginalPosterior
from ranef.numerics.modes import hessian

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ranef.common.array_types import Array
    from ranef.likelihood.interpolation.boxes import Box
    from ranef.likelihood.interpolation.surrogate import Surrogate
    from ranef.mixed_model.parameters import ParameterVector

__all__ = ["interpolate", "is_expensive"]

# A log SD with a wider posterior than this belongs to an SD that may be next to zero.
_LOOSE = 0.3
# Nats below the mode at which a plain box ends, and the least of it in posterior SDs.
_DEPTH = 12.0
_WIDTH = 5.0
# How far out an end is looked for, in log SDs: evenly in logarithms.
_REACH = np.geomspace(0.04, 8.0, 22)
# An SD that may fall to this share of its mode may as well be zero: the box then ends there.
_SMALL = 0.25


def is_expensive(target: MarginalPosterior) -> bool:
    """Say whether thousands of evaluations would take too long.

    By a count of operations, not by the clock: the same data and seed give the same draws on a busy
    machine and on an idle one.

    Parameters
    ----------
    target
        The marginal posterior.

    Returns
    -------
    bool
    """
    affordable = budget.DIRECT_EVALUATIONS.affords(target.structure.cost)
    return not affordable and target.parameters.ratios <= MOST_RATIOS


def interpolate(target: MarginalPosterior, start: Array) -> tuple[MarginalPosterior, Array, float]:
    """Find the mode with few evaluations and interpolate the likelihood around it.

    Parameters
    ----------
    target
        The marginal posterior.
    start
        Where to climb from, shape (d,).

    Returns
    -------
    target : MarginalPosterior
        The same posterior over the interpolated likelihood.
    mode : numpy.ndarray
        Shape (d,).
    error : float
        Largest error of the log likelihood at fresh points, in nats.
    """
    parameters, step = target.parameters, 1e-4
    best = {"log_sigma": float(parameters.log_sigma(start[None])[0])}

    def over_sigma(relative: Array) -> tuple[Array, Array]:
        """Maximum over log sigma at each point (n, K), and where it lies; no new likelihoods."""
        parts = target.ratio_sums(relative)
        profile = target.coefficients.profile(*parts)
        log_sigma = np.full(len(relative), best["log_sigma"])
        if not parameters.family.dispersions:
            return target.log_density(parameters.absolute(relative, log_sigma), profile), log_sigma
        width = 3.0
        for _ in range(9):
            grid = log_sigma[:, None] + np.linspace(-width, width, 13)
            values = np.column_stack(
                [target.log_density(parameters.absolute(relative, t), profile) for t in grid.T]
            )
            log_sigma = grid[np.arange(len(relative)), values.argmax(axis=1)]
            width /= 4
        return values.max(axis=1), log_sigma

    def climb(relative: Array) -> tuple[float, Array]:
        around = np.vstack([relative, relative + step * np.eye(len(relative))])
        values, log_sigma = over_sigma(around)
        best["log_sigma"] = float(log_sigma[0])
        return -float(values[0]), -(values[1:] - values[0]) / step

    phi0 = parameters.relative(start[None])[0]
    center = optimize.minimize(climb, phi0, jac=True, method="BFGS", options={"gtol": 0.05}).x
    curved = -hessian(lambda p: over_sigma(p)[0], center, step=0.02)
    values, vectors = np.linalg.eigh(curved)
    root = vectors / np.sqrt(np.maximum(values, 0.2))
    log_sigma = np.array([over_sigma(center[None])[1][0]])

    def score(log_det: Array, U: Array) -> Array:
        profile = target.coefficients.profile(log_det, U)
        return target.coefficients.core(profile, np.repeat(log_sigma, len(log_det)))

    def interpolated(box: Box) -> tuple[Surrogate, float]:
        return fit_surrogate(target.ratio_sums, box, center, score)

    spread = np.sqrt(np.diag(root @ root.T))
    loose = bool((spread[_scales(parameters)] > _LOOSE).any())
    error = np.inf
    if not loose:
        surrogate, error = interpolated(LogBox(center, root))
    if error > LARGEST_ERROR:
        surrogate, error = interpolated(
            _plain_box(lambda relative: over_sigma(relative)[0], center, spread, parameters)
        )
    mode = parameters.absolute(center[None], log_sigma)[0]
    return MarginalPosterior(target.model, target.structure, surrogate), mode, error


def _scales(parameters: ParameterVector) -> NDArray[np.bool_]:
    """Which of the variance ratios are SDs, the others correlations; shape (K,)."""
    marks = np.zeros((1, parameters.size))
    for log_sd, _ in parameters.split(marks):
        log_sd[:] = 1.0
    return np.asarray(marks[0, : parameters.ratios] > 0)


def _plain_box(
    log_f: Callable[[Array], Array], center: Array, spread: Array, parameters: ParameterVector
) -> PlainBox:
    """Box in SDs and correlations around the mode (K,), as wide as the posterior log_f."""
    scale = _scales(parameters)
    # Of an SD that may be zero the curvature at the mode says little.
    width = np.where(scale & (spread > _LOOSE), 0.0, _WIDTH * spread)
    low = np.minimum(_edges(log_f, center, -1.0), center - width)
    high = np.maximum(_edges(log_f, center, 1.0), center + width)
    plain_low = np.where(scale, np.exp(low), np.tanh(low))
    plain_high = np.where(scale, np.exp(high), np.tanh(high))
    vanishing = scale & (low < center + np.log(_SMALL))
    plain_low[vanishing] = 0.0
    at = np.arange(parameters.size)[None].astype(float)
    for log_sd, z in parameters.split(at):
        # Beside an SD of zero a correlation may be anything.
        if vanishing[log_sd.astype(int)].any():
            plain_low[z.astype(int)], plain_high[z.astype(int)] = -1.0, 1.0
    return PlainBox(plain_low, plain_high, scale)


def _edges(log_f: Callable[[Array], Array], center: Array, sign: float) -> Array:
    """Where log_f has fallen by so many nats on the way from the mode along each axis, (K,)."""
    out, axes = center.copy(), np.eye(len(center))
    open_, least = np.full(len(center), True), float(log_f(center[None])[0]) - _DEPTH
    for step in _REACH:
        out[open_] = center[open_] + sign * step
        fallen = log_f(center + sign * step * axes[open_]) < least
        open_[np.flatnonzero(open_)[fallen]] = False
        if not open_.any():
            break
    return out

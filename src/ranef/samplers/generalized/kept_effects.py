"""Where the posterior of a model with several columns of group effects lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.common.random_streams import split_stream
from ranef.likelihood.integrated.posterior import first_guess
from ranef.numerics.modes import find_modes
from ranef.samplers.bounds import bounds_of
from ranef.samplers.generalized.conditional_normal import climb_linear, fit_conditional
from ranef.samplers.generalized.landscape import (
    POINTS,
    TOLERANCE,
    GeneralizedLandscape,
    start_at,
    weigh_about,
)
from ranef.samplers.tails import TailTransform

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.likelihood.integrated.posterior import IntegratedPosterior
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.samplers.generalized.conditional_normal import Peak

__all__ = ["explore_kept"]

# SDs of group effects from which the mode of Laplace's approximation is searched.
_STARTS = (0.7, 0.1)
# Of differences of Laplace's approximation by the variance parameters.
_STEP = 1e-3
# Centers that are tried, the share of independent draws with which one is good, and points that
# tell.
_CENTERS, _ENOUGH, _MOMENTS = 3, 0.5, 400


def explore_kept(model: GeneralizedModel, rng: np.random.Generator) -> GeneralizedLandscape:
    """Find where a posterior with kept effects lies, by Laplace's approximation at first.

    Parameters
    ----------
    model
        Data, family and priors.
    rng
        Source of random numbers, for points at which the rule is chosen and means are found.
    """
    points, means = split_stream(rng, 2)
    target = first_guess(model, reach=6.0, nodes=13)
    bounds, k = bounds_of(model.parameters), model.rows.linear
    begin = np.zeros(k)
    begin[: len(model.names)] = start_at(model, 1.0)[: len(model.names)]
    peaks: dict[bytes, Peak] = {}

    def log_mass(v: Array) -> Array:
        values = []
        for at, jacobian in zip(v, bounds.log_jacobian(v)[0].sum(axis=1), strict=True):
            away = [np.abs(np.frombuffer(key) - at).sum() for key in peaks]
            start = list(peaks.values())[int(np.argmin(away))].place if peaks else begin
            peak = climb_linear(target, bounds.inside(at[None])[0], start)
            peaks[at.tobytes()] = peak
            values.append(peak.log_mass + jacobian)
        return np.array(values)

    def slopes(v: Array) -> tuple[Array, Array]:
        n, d = v.shape
        away = np.concatenate([np.zeros((1, d)), _STEP * np.eye(d), -_STEP * np.eye(d)])
        f = log_mass((v + away[:, None]).reshape(-1, d)).reshape(-1, n)
        return f[0], ((f[1 : d + 1] - f[d + 1 :]) / (2 * _STEP)).T

    starts = np.stack([start_at(model, sd)[len(model.names) :] for sd in _STARTS])
    mode, cover = find_modes(slopes, bounds.outside(starts))[0]
    peak = peaks[mode.tobytes()]
    root = np.linalg.cholesky(cover)
    theta = bounds.inside(mode + points.standard_normal((POINTS, len(mode))) @ root.T)
    linear = peak.place + points.standard_normal((POINTS, k)) @ peak.root.T
    target = target.refined(np.column_stack([linear, theta]), TOLERANCE)
    tails = TailTransform(bounds, mode)
    center, spread = tails.outside(mode, cover)
    best, landscape = -1.0, None
    for _ in range(_CENTERS):
        tried = _about(target, tails, center, spread, peak.place, means)
        share, center, spread = _weighted_moments(tried, points)
        if landscape is None or share > best:
            best, landscape = share, tried
        if share > _ENOUGH:
            break
    assert landscape is not None
    return landscape


def _about(
    target: IntegratedPosterior,
    tails: TailTransform,
    center: Array,
    spread: Array,
    begin: Array,
    rng: np.random.Generator,
) -> GeneralizedLandscape:
    """Coordinates of a posterior with kept effects about a center of the variance parameters."""
    p, k, d = len(target.model.names), len(begin), len(center)
    axes = np.asarray(np.linalg.cholesky(spread), dtype=float)
    conditional = fit_conditional(target, center, axes, tails.inside, begin, rng)
    place, shape = np.zeros(k + d), np.eye(k + d)
    place[p : p + d], shape[p : p + d, p : p + d] = center, spread
    return GeneralizedLandscape(target, tails, conditional, [(place, shape)])


def _weighted_moments(
    landscape: GeneralizedLandscape, rng: np.random.Generator
) -> tuple[float, Array, Array]:
    """What points about the center are worth, and where the variance parameters truly lie.

    Laplace's approximation may be far too wide on one side, as for an alpha without end.
    """
    y, weight, share = weigh_about(landscape, _MOMENTS, rng)
    p = len(landscape.target.model.names)
    t = y[:, p : y.shape[1] - landscape.free]
    center = weight @ t
    gap = t - center
    spread = (weight[:, None] * gap).T @ gap
    # Where no point has a density, nearer to the center.
    return share, center, spread + 1e-4 * np.eye(t.shape[1]) if share else spread / 4

"""Where the posterior of a model with one column of group effects lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.likelihood.integrated.posterior import first_guess
from ranef.numerics.modes import find_modes
from ranef.samplers.bounds import bounds_of
from ranef.samplers.generalized.following import follow, stay
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

__all__ = ["explore_one"]

# SDs of group effects from which modes are searched.
_STARTS = (0.7, 0.1, 3.0)
# How far coordinates follow the SD of effects, in SDs of its logarithm, and points that compare.
_REACHES, _TRIED = (3.5, 2.0), 150


def explore_one(model: GeneralizedModel, rng: np.random.Generator) -> GeneralizedLandscape:
    """Find the modes of a model with one group term, and a rule that holds where it lies.

    Parameters
    ----------
    model
        Data, family and priors.
    rng
        Source of random numbers, for the points at which the rule is chosen.
    """
    target, bounds, p = first_guess(model), bounds_of(model.parameters), len(model.names)
    starts = np.stack([start_at(model, sd) for sd in _STARTS])
    starts[:, p:] = bounds.outside(starts[:, p:])

    def opened(v: Array) -> Array:
        return np.column_stack([v[:, :p], bounds.inside(v[:, p:])])

    def slopes(target: IntegratedPosterior, v: Array) -> tuple[Array, Array]:
        log_jacobian, bend = bounds.log_jacobian(v[:, p:])
        value, slope = target.gradient(opened(v))
        slope[:, p:] = slope[:, p:] * np.exp(log_jacobian) + bend
        return value + log_jacobian.sum(axis=1), slope

    rough, cover = find_modes(lambda v: slopes(target, v), starts)[0]
    root = np.linalg.cholesky(cover)
    points = rough + rng.standard_normal((POINTS, len(rough))) @ root.T
    # And where effects are as large, and as small, as they may be.
    ends = rough + np.array([[3.0], [-3.0]]) * cover[:, p] / np.sqrt(cover[p, p])
    target = target.refined(opened(np.vstack([rough, points, ends])), TOLERANCE)
    mode, cover = find_modes(lambda v: slopes(target, v), rough[None])[0]
    tails = TailTransform(bounds, mode[p:])

    def bent(y: Array) -> tuple[Array, Array]:
        # As `slopes`, with the tails' coordinates for the variance parameters.
        t = y[:, p:]
        v = np.column_stack([y[:, :p], tails.open(t)])
        value, slope = slopes(target, v)
        return value, slope

    center, spread = tails.outside(mode[p:], cover[p:, p:])
    place = np.concatenate([mode[:p], center])
    candidates = [follow(bent, place, cover, p, reach) for reach in _REACHES]
    tried = []
    for following in [*candidates, stay(place, cover, p)]:
        begin = np.concatenate([following.outside(mode[None, :p], center[None])[0], center])
        shape = np.eye(len(begin))
        shape[p:, p:] = spread
        tried.append(GeneralizedLandscape(target, tails, following, [(begin, shape)]))
    # Far out a polynomial may lead astray; a few points tell which coordinates are best.
    return max(tried, key=lambda landscape: weigh_about(landscape, _TRIED, rng)[2])

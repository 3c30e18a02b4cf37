"""Draws of models of other families, by the engine of all posteriors (mathematics.md, 10).

Coefficients and variance parameters are drawn at once, and group effects given these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ranef.common.random_streams import split_stream
from ranef.likelihood.integrated.posterior import IntegratedPosterior, first_guess
from ranef.numerics.modes import find_modes
from ranef.samplers.annealed.fit_proposal import proposal_at
from ranef.samplers.annealed.particles import weighted
from ranef.samplers.annealed.sampler import sample_by_proposals
from ranef.samplers.bounds import bounds_of
from ranef.samplers.following import follow, stay
from ranef.samplers.group_effects import effect_moments, sample_group_effects
from ranef.samplers.sample import PosteriorSample
from ranef.samplers.tails import TailTransform

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.samplers.following import Following
    from ranef.samplers.sample import SamplerSettings

__all__ = ["GeneralizedLandscape", "explore_generalized", "sample_generalized"]

# How far coordinates follow the SD of effects, in SDs of its logarithm, and points that compare.
_REACHES, _TRIED = (3.5, 2.0), 150
# SDs of group effects from which modes are searched.
_STARTS = (0.7, 0.1, 3.0)
# Nats that the rule may be off at points of the posterior, and how many points tell.
_TOLERANCE, _POINTS = 1e-4, 12
# Draws at which the final rule is checked, and from which moments come, at least and of how many.
_CHECKED, _LEAST, _EVERY = 20, 1000, 4
# Rules that are tried in all, and the error, in nats, with which nothing is wrong.
_RULES, _GOOD = 3, 0.01


@dataclass(frozen=True)
class GeneralizedLandscape:
    """The posterior of coefficients and variance parameters of a model of another family.

    Attributes
    ----------
    target
        The posterior, effects integrated out.
    tails
        Coordinates of the variance parameters whose tails are like a normal density's; these stand
        last in y.
    following
        Coordinates of the coefficients, first in y.
    modes
        Modes in y and the inverse Hessians there, the best first.
    """

    target: IntegratedPosterior
    tails: TailTransform
    following: Following
    modes: list[tuple[Array, Array]]

    @property
    def error(self) -> float | None:
        """Nothing is interpolated."""
        return None

    @property
    def narrow(self) -> bool:
        """Coordinates follow the posterior, so that little lies beyond."""
        return True

    @property
    def proper(self) -> bool:
        """All priors are proper; others were refused."""
        return True

    def inside(self, y: Array) -> tuple[Array, Array]:
        """Vectors (n, p + d) at y, and the log Jacobian of the map, shape (n,)."""
        p = len(self.target.model.names)
        t = y[:, p:]
        beta, log_det = self.following.inside(y[:, :p], t[:, 0])
        v = np.column_stack([beta, self.tails.inside(t)])
        return v, log_det + self.tails.log_jacobian(t)

    def log_density(self, y: Array) -> Array:
        """Log posterior density of y, shape (n, p + d)."""
        v, log_jacobian = self.inside(y)
        return np.asarray(self.target.log_density(v) + log_jacobian)

    log_density_inside = log_density

    def features(self, y: Array) -> Array:
        """Coefficients, the vector, and SDs."""
        v, _ = self.inside(y)
        _, theta = self.target.split(v)
        return np.column_stack([v, *self.target.parameters.scales(theta).values()])

    def complete(
        self,
        settings: SamplerSettings,
        y: Array,
        log_density: Array,
        streams: list[np.random.Generator],
    ) -> PosteriorSample:
        """Add the moments of effects, and draws of those that were asked for."""
        target, (v, log_jacobian) = self.target, self.inside(y)
        beta, theta = target.split(v)
        shape = (settings.chains, len(v) // settings.chains)
        (term,) = target.parameters.terms
        (name,) = term.names
        effects: dict[str, Array] = {}
        if name in settings.effects:
            drawn = sample_group_effects(target, v, streams[1])
            effects[name] = drawn.reshape(*shape, -1)
        some = v[:: max(1, min(_EVERY, len(v) // _LEAST))]
        return PosteriorSample(
            parameters=target.parameters,
            theta=theta.reshape(*shape, -1),
            beta=beta.reshape(*shape, -1),
            log_density=(log_density - log_jacobian).reshape(shape),
            accepted=None,
            log_weight=None,
            moments={name: effect_moments(target, some)} if settings.moments else {},
            effects=effects,
            structure=target.structure,
            quadrature_error=target.quadrature_error(v[:: max(1, len(v) // _CHECKED)]),
        )


def sample_generalized(
    model: GeneralizedModel, settings: SamplerSettings, rng: np.random.Generator
) -> PosteriorSample:
    """Draw from the posterior of a model of another family.

    Parameters
    ----------
    model
        Data, family and priors.
    settings
        How many draws.
    rng
        Source of random numbers.

    Returns
    -------
    PosteriorSample
    """
    streams = split_stream(rng, 1 + _RULES)
    landscape = explore_generalized(model, streams[0])
    for stream in streams[1:]:
        sample = sample_by_proposals(landscape, settings, stream)
        if sample.quadrature_error is not None and sample.quadrature_error < _GOOD:
            break
        # Effects may be larger than about the mode, and take more nodes there.
        v = vectors_of(model, sample)
        target = landscape.target.refined(v[_extremes(v[:, len(model.names)])], _TOLERANCE)
        landscape = replace(landscape, target=target)
    return sample


def vectors_of(model: GeneralizedModel, sample: PosteriorSample) -> Array:
    """Internal coefficients and parameter vectors of a sample, shape (n, p + d)."""
    beta = sample.beta.reshape(-1, len(model.names))
    theta = sample.theta.reshape(len(beta), -1)
    return np.column_stack([model.rows.internal(beta), theta])


def _extremes(log_sd: Array) -> IntArray:
    """Draws for which a rule is chosen: even ones, and those with the smallest and largest SD."""
    n = len(log_sd)
    return np.append(np.arange(0, n, max(1, n // _CHECKED)), [log_sd.argmin(), log_sd.argmax()])


def explore_generalized(model: GeneralizedModel, rng: np.random.Generator) -> GeneralizedLandscape:
    """Find the modes, and a quadrature rule that holds where the posterior lies.

    Parameters
    ----------
    model
        Data, family and priors.
    rng
        Source of random numbers, for the points at which the rule is chosen.
    """
    target, bounds, p = first_guess(model), bounds_of(model.parameters), len(model.names)
    starts = np.stack([_start(model, sd) for sd in _STARTS])
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
    points = rough + rng.standard_normal((_POINTS, len(rough))) @ root.T
    # And where effects are as large, and as small, as they may be.
    ends = rough + np.array([[3.0], [-3.0]]) * cover[:, p] / np.sqrt(cover[p, p])
    target = target.refined(opened(np.vstack([rough, points, ends])), _TOLERANCE)
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
        begin = np.concatenate([following.outside(mode[None, :p], center[:1])[0], center])
        shape = np.eye(len(begin))
        shape[p:, p:] = spread
        tried.append(GeneralizedLandscape(target, tails, following, [(begin, shape)]))
    # Far out a polynomial may lead astray; a few points tell which coordinates are best.
    return max(tried, key=lambda landscape: _worth(landscape, rng))


def _worth(landscape: GeneralizedLandscape, rng: np.random.Generator) -> float:
    """Share of independent draws that points about the mode are worth in these coordinates."""
    proposal = proposal_at(landscape.modes)
    y = proposal.draw(_TRIED, rng)
    return weighted(landscape.log_density(y) - proposal.log_density(y))[1]


def _start(model: GeneralizedModel, sd: float) -> Array:
    """Coefficients that give every row the common linear predictor, and one SD for all effects."""
    rows = model.rows
    size = np.sqrt((rows.Z**2).mean(axis=0))
    common = np.linalg.lstsq(rows.X, np.full(len(rows.X), model.location))[0]
    theta = [np.log(sd / size[j]) for term in model.parameters.terms for j in term.place]
    own = [np.log(s.median or 1.0) for s in model.parameters.family.scales.values()]
    return np.concatenate([common, theta, own])

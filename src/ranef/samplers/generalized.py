"""Draws of models of other families, by the engine of all posteriors (mathematics.md, 10).

Coefficients and variance parameters are drawn at once, and group effects given these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ranef.common.random_streams import split_stream
from ranef.likelihood.integrated.posterior import IntegratedPosterior, first_guess
from ranef.numerics.modes import find_modes
from ranef.samplers.annealed.fit_proposal import proposal_at
from ranef.samplers.annealed.particles import weighted
from ranef.samplers.annealed.sampler import sample_by_proposals
from ranef.samplers.bounds import bounds_of
from ranef.samplers.conditional_normal import climb_linear, fit_conditional
from ranef.samplers.following import follow, stay
from ranef.samplers.group_effects import effect_moments, sample_group_effects
from ranef.samplers.sample import PosteriorSample
from ranef.samplers.tails import TailTransform

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.samplers.conditional_normal import Peak
    from ranef.samplers.sample import SamplerSettings

__all__ = ["GeneralizedLandscape", "explore_generalized", "sample_generalized"]

# Of differences of Laplace's approximation by the variance parameters.
_STEP = 1e-3
# How far coordinates follow the SD of effects, in SDs of its logarithm, and points that compare.
_REACHES, _TRIED = (3.5, 2.0), 150
# Centers that are tried for kept effects, the share of independent draws with which one is good,
# and points that tell.
_CENTERS, _ENOUGH, _MOMENTS = 3, 0.5, 400
# SDs of group effects from which modes are searched.
_STARTS = (0.7, 0.1, 3.0)
# Nats that the rule may be off at points of the posterior, and how many points tell.
_TOLERANCE, _POINTS = 1e-4, 12
# Draws at which the final rule is checked, and from which moments come, at least and of how many.
_CHECKED, _LEAST, _EVERY = 20, 1000, 4
# Rules that are tried in all, and the error, in nats, with which nothing is wrong.
_RULES, _GOOD = 3, 0.01


class LinearCoordinates(Protocol):
    """Coordinates of coefficients and kept effects, given those of the variance parameters."""

    def inside(self, c: Array, t: Array) -> tuple[Array, Array]:
        """Coefficients and kept effects at c (n, k) and t (n, d), and the log determinant (n,)."""
        ...


@dataclass(frozen=True)
class GeneralizedLandscape:
    """The posterior of all that is not integrated out, of a model of another family.

    Its coordinates y are those of p coefficients, of the variance parameters t, of kept effects.

    Attributes
    ----------
    target
        The posterior, effects of one term integrated out.
    tails
        Coordinates of the variance parameters whose tails are like a normal density's.
    linear
        Coordinates of coefficients and kept effects, nearly standard normal given t.
    modes
        Modes in y and the inverse Hessians there, the best first.
    """

    target: IntegratedPosterior
    tails: TailTransform
    linear: LinearCoordinates
    modes: list[tuple[Array, Array]]

    @property
    def free(self) -> int:
        """Kept effects, which come last."""
        return self.target.model.rows.linear - len(self.target.model.names)

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
        """Vectors (n, k + d) at y, and the log Jacobian of the map, shape (n,)."""
        p, end = len(self.target.model.names), y.shape[1] - self.free
        t = y[:, p:end]
        linear, log_det = self.linear.inside(np.column_stack([y[:, :p], y[:, end:]]), t)
        v = np.column_stack([linear, self.tails.inside(t)])
        return v, log_det + self.tails.log_jacobian(t)

    def log_density(self, y: Array) -> Array:
        """Log posterior density of y, shape (n, p + d)."""
        v, log_jacobian = self.inside(y)
        value = self.target.log_density(v) + log_jacobian
        return np.where(np.isnan(value), -np.inf, value)

    log_density_inside = log_density

    def log_exact(self, y: Array) -> Array | None:
        """None: the likelihood itself is evaluated everywhere."""
        del y
        return None

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
        p, k = beta.shape[1], target.model.rows.linear
        kept = v[:, p:k] * target.scales(theta)[:, p:]
        effects, moments = _kept_effects(target, kept, settings, shape)
        name = target.model.spec.effect_columns[target.model.rows.place].name
        if name in settings.effects:
            drawn = sample_group_effects(target, v, streams[1])
            effects[name] = drawn.reshape(*shape, -1)
        if settings.moments:
            some = v[:: max(1, min(_EVERY, len(v) // _LEAST))]
            moments[name] = effect_moments(target, some)
        return PosteriorSample(
            parameters=target.parameters,
            theta=theta.reshape(*shape, -1),
            beta=beta.reshape(*shape, -1),
            log_density=(log_density - log_jacobian).reshape(shape),
            accepted=None,
            log_weight=None,
            moments=moments,
            effects=effects,
            structure=target.structure,
            kept=v[:, p:k].reshape(*shape, k - p),
            quadrature_error=target.quadrature_error(v[:: max(1, len(v) // _CHECKED)]),
        )


def _kept_effects(
    target: IntegratedPosterior, kept: Array, settings: SamplerSettings, shape: tuple[int, int]
) -> tuple[dict[str, Array], dict[str, tuple[Array, Array]]]:
    """Draws of kept effects that were asked for, and moments of all, by name."""
    effects: dict[str, Array] = {}
    moments: dict[str, tuple[Array, Array]] = {}
    at = 0
    for column in target.model.rows.kept:
        name = target.model.spec.effect_columns[column.place].name
        drawn = kept[:, at : at + column.levels]
        at += column.levels
        moments[name] = drawn.mean(axis=0), drawn.std(axis=0)
        if name in settings.effects:
            effects[name] = drawn.reshape(*shape, -1)
    return effects, moments


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
    landscape = _explore(model, streams[0])
    for stream in streams[1:]:
        sample = sample_by_proposals(landscape, settings, stream)
        if sample.quadrature_error is not None and sample.quadrature_error < _GOOD:
            break
        # Effects may be larger than about the mode, and take more nodes there.
        v = vectors_of(model, sample)
        log_sd = v[:, model.rows.linear + model.rows.place]
        target = landscape.target.refined(v[_extremes(log_sd)], _TOLERANCE)
        landscape = replace(landscape, target=target)
    return sample


def vectors_of(model: GeneralizedModel, sample: PosteriorSample) -> Array:
    """Internal coefficients and parameter vectors of a sample, shape (n, p + d)."""
    beta = sample.beta.reshape(-1, len(model.names))
    theta = sample.theta.reshape(len(beta), -1)
    assert sample.kept is not None
    z = sample.kept.reshape(len(beta), sample.kept.shape[-1])
    return np.column_stack([model.rows.internal(beta), z, theta])


def _extremes(log_sd: Array) -> IntArray:
    """Draws for which a rule is chosen: even ones, and those with the smallest and largest SD."""
    n = len(log_sd)
    return np.append(np.arange(0, n, max(1, n // _CHECKED)), [log_sd.argmin(), log_sd.argmax()])


def _explore(model: GeneralizedModel, rng: np.random.Generator) -> GeneralizedLandscape:
    """The way that a model's group terms call for."""
    return explore_kept(model, rng) if model.rows.kept else explore_generalized(model, rng)


def explore_generalized(model: GeneralizedModel, rng: np.random.Generator) -> GeneralizedLandscape:
    """Find the modes of a model with one group term, and a rule that holds where it lies.

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
        begin = np.concatenate([following.outside(mode[None, :p], center[None])[0], center])
        shape = np.eye(len(begin))
        shape[p:, p:] = spread
        tried.append(GeneralizedLandscape(target, tails, following, [(begin, shape)]))
    # Far out a polynomial may lead astray; a few points tell which coordinates are best.
    return max(tried, key=lambda landscape: _worth(landscape, rng))


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
    begin[: len(model.names)] = _start(model, 1.0)[: len(model.names)]
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

    starts = np.stack([_start(model, sd)[len(model.names) :] for sd in _STARTS[:2]])
    mode, cover = find_modes(slopes, bounds.outside(starts))[0]
    peak = peaks[mode.tobytes()]
    root = np.linalg.cholesky(cover)
    theta = bounds.inside(mode + points.standard_normal((_POINTS, len(mode))) @ root.T)
    linear = peak.place + points.standard_normal((_POINTS, k)) @ peak.root.T
    target = target.refined(np.column_stack([linear, theta]), _TOLERANCE)
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
    proposal = proposal_at(landscape.modes, landscape.free)
    y = proposal.draw(_MOMENTS, rng)
    weight, share = weighted(landscape.log_density(y) - proposal.log_density(y))
    p = len(landscape.target.model.names)
    t = y[:, p : y.shape[1] - landscape.free]
    center = weight @ t
    gap = t - center
    return share, center, (weight[:, None] * gap).T @ gap + 1e-4 * np.eye(t.shape[1])


def _worth(landscape: GeneralizedLandscape, rng: np.random.Generator) -> float:
    """Share of independent draws that points about the mode are worth in these coordinates."""
    proposal = proposal_at(landscape.modes)
    y = proposal.draw(_TRIED, rng)
    return weighted(landscape.log_density(y) - proposal.log_density(y))[1]


def _start(model: GeneralizedModel, sd: float) -> Array:
    """Coefficients that give every row the common linear predictor, and one SD for all effects."""
    rows = model.rows
    size = {rows.place: rows.Z} | {kept.place: kept.column for kept in rows.kept}
    common = np.linalg.lstsq(rows.X, np.full(len(rows.X), model.location))[0]
    theta = [np.log(sd / np.sqrt((size[j] ** 2).mean())) for j in range(len(size))]
    own = [np.log(s.median or 1.0) for s in model.parameters.family.scales.values()]
    return np.concatenate([common, theta, own])

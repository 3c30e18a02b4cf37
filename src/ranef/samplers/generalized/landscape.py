"""The posterior of a model of another family, as the engine of all posteriors takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ranef.samplers.annealed.fit_proposal import proposal_at
from ranef.samplers.annealed.particles import weighted
from ranef.samplers.generalized.group_effects import effect_moments, sample_group_effects
from ranef.samplers.sample import PosteriorSample

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.likelihood.integrated.posterior import IntegratedPosterior
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.samplers.sample import SamplerSettings
    from ranef.samplers.tails import TailTransform

__all__ = [
    "CHECKED",
    "POINTS",
    "TOLERANCE",
    "GeneralizedLandscape",
    "LinearCoordinates",
    "start_at",
    "weigh_about",
]

# Nats that a quadrature rule may be off at points of the posterior, and how many points tell.
TOLERANCE, POINTS = 1e-4, 12
# Draws at which the final rule is checked; moments come from so many at least, of every few.
CHECKED, _LEAST, _EVERY = 20, 1000, 4


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
            quadrature_error=target.quadrature_error(v[:: max(1, len(v) // CHECKED)]),
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


def weigh_about(
    landscape: GeneralizedLandscape, n: int, rng: np.random.Generator
) -> tuple[Array, Array, float]:
    """Points about the mode (n, d), their weights (n,) and the share of draws they are worth.

    Of points none of which has a density, weights are even and worth nothing.
    """
    proposal = proposal_at(landscape.modes, landscape.free)
    y = proposal.draw(n, rng)
    log_weight = landscape.log_density(y) - proposal.log_density(y)
    if not np.isfinite(log_weight).any():
        return y, np.full(n, 1 / n), 0.0
    return y, *weighted(log_weight)


def start_at(model: GeneralizedModel, sd: float) -> Array:
    """Coefficients that give every row the common linear predictor, and one SD for all effects."""
    rows = model.rows
    size = {rows.place: rows.Z} | {kept.place: kept.column for kept in rows.kept}
    common = np.linalg.lstsq(rows.X, np.full(len(rows.X), model.location))[0]
    theta = [np.log(sd / np.sqrt((size[j] ** 2).mean())) for j in range(len(size))]
    own = [np.log(s.median or 1.0) for s in model.parameters.family.scales.values()]
    return np.concatenate([common, theta, own])

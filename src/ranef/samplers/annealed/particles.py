"""Particles annealed from a proposal to a posterior (mathematics.md, 4.7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ranef.samplers.annealed.fit_proposal import MOVING, fit_proposal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array, IntArray
    from ranef.samplers.annealed.proposal import Proposal, Reach

    LogDensity = Callable[[Array], Array]

__all__ = ["Particles", "anneal", "move", "weighted"]

# How far single moves go, as correlations: independent ones, and smaller ones for particles that an
# independent one would leave where they are.
_ON_THE_WAY, _THERE = (0.0, 0.8), (0.0, 0.5, 0.8, 0.95)
# Share of the particles that is to be left of each stage's weights.
_LEFT = 0.5
_MOST_STAGES = 60
# Rounds of moves on the posterior itself, after which the proposal is fitted to all they passed.
_FITS = 2


@dataclass(frozen=True)
class Particles:
    """Points with the densities between which they are annealed.

    Attributes
    ----------
    y
        Shape (n, d).
    log_f, log_start
        Log density of the posterior, and of where the particles began, shape (n,).
    t
        How far they are: they follow `start^(1 - t) f^t`.
    """

    y: Array
    log_f: Array
    log_start: Array
    t: float = 0.0

    @classmethod
    def of_posterior(cls, y: Array, log_f: Array) -> Particles:
        """Points that have arrived."""
        return cls(y, log_f, np.zeros(len(y)), t=1.0)

    @property
    def log_density(self) -> Array:
        """Of what they follow, up to a constant; the start may be wherever the posterior is not."""
        return self.log_f if self.t == 1.0 else _between(self.log_start, self.log_f, self.t)

    def take(self, index: IntArray) -> Particles:
        """Keep the particles of `index`, in that order."""
        return replace(
            self, y=self.y[index], log_f=self.log_f[index], log_start=self.log_start[index]
        )


def anneal(
    log_f: LogDensity,
    start: Proposal,
    particles: Particles,
    rng: np.random.Generator,
    reach: Reach,
) -> tuple[Proposal, Particles]:
    """Lead draws of a proposal to a posterior, and fit a proposal to them there.

    Parameters
    ----------
    log_f
        Where to, up to a constant, of points (n, d).
    start
        Where from.
    particles
        Independent draws from there.
    rng
        Source of random numbers.
    reach
        Of the fitted proposal.

    Returns
    -------
    proposal : Proposal
        Fitted to the particles.
    particles : Particles
        At t = 1, unless there is no way.
    """
    proposal, n = start, len(particles.y)
    for _ in range(_MOST_STAGES):
        gain = np.nan_to_num(particles.log_f - particles.log_start, nan=-1e300, neginf=-1e300)
        t = _next(gain, particles.t)
        weight, _ = weighted((t - particles.t) * gain)
        proposal = fit_proposal(particles.y, weight, proposal, MOVING)
        index = np.searchsorted(np.cumsum(weight), (rng.random() + np.arange(n)) / n)
        particles = replace(particles.take(np.minimum(index, n - 1)), t=t)
        if t == 1.0:
            break
        particles = move(particles, log_f, start.log_density, proposal, rng, _ON_THE_WAY)[-1]
    else:
        return proposal, particles
    for i in range(_FITS):
        passed = move(particles, log_f, None, proposal, rng, _THERE)
        particles = passed[-1]
        every = np.concatenate([p.y for p in passed])
        last = i == _FITS - 1
        proposal = fit_proposal(every, None, proposal, reach if last else MOVING)
    return proposal, particles


def move(
    particles: Particles,
    log_f: LogDensity,
    log_start: LogDensity | None,
    proposal: Proposal,
    rng: np.random.Generator,
    rhos: tuple[float, ...],
) -> list[Particles]:
    """Move every particle once for each rho; what they follow stays as it is.

    Parameters
    ----------
    particles
        Points and their densities.
    log_f, log_start
        As for `anneal`; the start is not needed at t = 1.
    proposal
        Its steps are accepted with the ratio of densities relative to it.
    rng
        Source of random numbers.
    rhos
        Correlations of the steps.

    Returns
    -------
    list of Particles
        After each move.
    """
    passed = []
    own = proposal.log_density(particles.y)
    for rho in rhos:
        n = len(own)
        y = proposal.draw(n, rng) if rho == 0.0 else proposal.step(particles.y, rho, rng)
        there = Particles(
            y,
            log_f(y),
            np.zeros(n) if log_start is None else log_start(y),
            particles.t,
        )
        of_there = proposal.log_density(y)
        with np.errstate(invalid="ignore"):  # from nowhere to nowhere
            gain = (there.log_density - of_there) - (particles.log_density - own)
        accepted = np.log(rng.random(n)) < np.where(np.isnan(gain), -np.inf, gain)
        particles = replace(
            particles,
            y=np.where(accepted[:, None], there.y, particles.y),
            log_f=np.where(accepted, there.log_f, particles.log_f),
            log_start=np.where(accepted, there.log_start, particles.log_start),
        )
        own = np.where(accepted, of_there, own)
        passed.append(particles)
    return passed


def _between(log_start: Array, log_f: Array, t: float) -> Array:
    return np.asarray((1 - t) * log_start + t * log_f)


def weighted(log_weight: Array) -> tuple[Array, float]:
    """Weights that sum to one, and the share of independent draws that they are worth."""
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    return weight, float(1 / (weight @ weight) / len(weight))


def _next(gain: Array, t: float) -> float:
    """How far to go in one stage: to where half of the particles' worth is left, or to the end."""

    def left(at: float) -> float:
        return weighted((at - t) * gain)[1]

    if left(1.0) >= _LEFT:
        return 1.0
    low, high = t, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) >= _LEFT else (low, middle)
    return low

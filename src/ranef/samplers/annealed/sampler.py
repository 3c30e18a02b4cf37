"""Draws of many variance parameters by particles that forget where they began.

They are annealed to the posterior, then moved until draws from one particle are no more alike than
others (mathematics.md, 4.7).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ranef.common.progress import track
from ranef.common.random_streams import split_stream
from ranef.samplers.annealed.particles import RHOS, Particles, anneal, move
from ranef.samplers.annealed.proposal import fit_proposal
from ranef.samplers.complete import complete_draws
from ranef.samplers.independent.mixture import starting_mixture

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.samplers.sample import PosteriorSample, SamplerSettings
    from ranef.samplers.search import Landscape

__all__ = ["sample_annealed"]

# Independent anneals, which must agree; and particles of each: enough to fit a proposal to, and no
# more than four draws from one.
_ANNEALS = 2
_PARTICLES, _COPIES = 500, 4
# Rounds of moves that refit the proposal, then rounds with it as it is until nothing is remembered.
_REFITS = 2
_FEWEST, _MOST = 2, 12
# Correlation of draws that began as one particle, and of a draw with where it began.
MEMORY = 0.03
# Standard errors that the largest of some dozens of correlations is away from zero by chance.
_CHANCE = 2.5


def sample_annealed(
    landscape: Landscape, settings: SamplerSettings, rng: np.random.Generator
) -> PosteriorSample:
    """Draw from the posterior of any Gaussian mixed model by annealed particles.

    Parameters
    ----------
    landscape
        The posterior, its modes and coordinates to move in.
    settings
        How many draws. Chains hold the draws of one anneal after the other's.
    rng
        Source of random numbers.

    Returns
    -------
    PosteriorSample
        Its `memory` is the largest correlation left.
    """
    shape = (settings.chains, settings.draws // settings.chains)
    n = shape[0] * shape[1]
    streams = split_stream(rng, _ANNEALS + 2)
    anneals = [
        _one_anneal(landscape, -(-n // _ANNEALS), stream)
        for stream in track(streams[:_ANNEALS], "Annealing", show=settings.progress)
    ]
    theta = landscape.tails.inside(np.concatenate([y for y, _ in anneals])[:n])
    log_density = landscape.target.log_density(theta)
    sample = complete_draws(landscape.target, settings, theta, log_density, streams[_ANNEALS:])
    memory = max(correlation for _, correlation in anneals)
    return replace(sample, memory=memory, surrogate_error=landscape.error)


def _one_anneal(landscape: Landscape, draws: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Draws of y (draws, d), and their largest correlation with where they began, or siblings."""
    count = max(_PARTICLES, -(-draws // _COPIES))
    start = starting_mixture(landscape.modes)
    log_f = landscape.log_density
    particles, proposal = anneal(log_f, start.log_density, start.draw(rng, count), rng)
    if particles.t < 1.0:  # no way led to the posterior
        return particles.y[:draws], 1.0
    for _ in range(_REFITS):
        particles = move(particles, log_f, None, proposal, rng, RHOS)
        proposal = fit_proposal(particles.y)
    # From here on the proposal stays: each move leaves the posterior as it is.
    copies = -(-draws // count)
    particles = particles.take(np.repeat(np.arange(count), copies))
    begin = _features(landscape, particles)
    for done in range(1, _MOST + 1):
        particles = move(particles, log_f, None, proposal, rng, RHOS)
        memory = _memory(begin, _features(landscape, particles), copies)
        if done >= _FEWEST and memory < MEMORY:
            break
    return particles.y[:draws], memory


def _features(landscape: Landscape, particles: Particles) -> Array:
    """What is to be forgotten: parameters on both scales, and the density; shape (n, features)."""
    theta = landscape.tails.inside(particles.y)
    parameters = landscape.target.parameters
    sds = list(parameters.scales(theta).values())
    correlations = list(parameters.correlations(theta).values())
    return np.column_stack([theta, *sds, *correlations, particles.log_f])


def _memory(begin: Array, now: Array, copies: int) -> float:
    """Largest correlation of features with where they began, and of siblings with each other.

    Less what chance alone would bring about in the largest of some dozens.
    """
    gap = now - now.mean(axis=0)
    spread = np.sqrt((gap**2).mean(axis=0))
    first = begin - begin.mean(axis=0)
    same = spread > 1e-12 * np.abs(now).max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = (gap * first).mean(axis=0) / (spread * np.sqrt((first**2).mean(axis=0)))
        largest = float(np.max(kept[same]))
        if copies > 1:
            family = gap.reshape(-1, copies, gap.shape[1])
            pairs = (family.sum(axis=1) ** 2).mean(axis=0) - (family**2).sum(axis=1).mean(axis=0)
            alike = pairs / (copies * (copies - 1)) / spread**2
            largest = max(largest, float(np.max(alike[same])))
    return max(0.0, largest - _CHANCE / float(np.sqrt(len(now))))

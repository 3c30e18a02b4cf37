"""Draws from a fitted proposal, accepted or rejected, and moved on where too few are accepted.

Independence Metropolis makes draws exact whatever the proposal. Where it holds some of them for
long, all are moved by further steps, each of which leaves the posterior as it is, until they
remember nothing of where they began (mathematics.md, 4.2 and 4.7).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from ranef.common.progress import track
from ranef.common.random_streams import split_stream
from ranef.numerics.metropolis import START, run_chain
from ranef.samplers.annealed.adapt import adapt
from ranef.samplers.annealed.fit_proposal import MOVING, NARROW, WIDE, fit_proposal
from ranef.samplers.annealed.particles import Particles, move, weighted
from ranef.samplers.proposal_quality import (
    GOOD_ACCEPTANCE,
    LEAST_ACCEPTANCE,
    pareto_k,
    proposal_quality,
)

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.samplers.annealed.proposal import Proposal
    from ranef.samplers.landscape import Landscape
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["MEMORY", "sample_by_proposals"]

# Correlation of a draw with where it began, and with the draw before it.
MEMORY = 0.03
# Standard errors that the largest of some dozens of correlations is away from zero by chance.
_CHANCE = 2.5
# How far moves go, as correlations, over and over: an independent one goes farthest where it is
# accepted, small ones free the draws for which it is not.
_MOVES = (0.0, 0.5, 0.0, 0.8, 0.0, 0.5, 0.0, 0.95)
_FEWEST_MOVES, _MOST_MOVES = 2, 64
# Share of independent draws that the tails of draws must be worth to stand as they are, and how few
# draws say nothing of it.
_WORTH, _JUDGED, _ENDS = 0.45, 400, (0.05, 0.95)
# Share of independent draws that weights have to be worth to correct an interpolation.
_EVEN = 0.5


@dataclass(frozen=True)
class _Chain:
    """Proposals and what independence Metropolis holds of them.

    Attributes
    ----------
    proposal
        Where they came from.
    y, log_f, log_weight
        Points (START + n, d), their log densities and log weights.
    kept
        Position of the point that each of n steps holds.
    """

    proposal: Proposal
    y: Array
    log_f: Array
    log_weight: Array
    kept: IntArray

    @property
    def accepted(self) -> Array:
        """Whether each step holds a fresh point, shape (n,)."""
        return np.asarray(np.diff(self.kept, prepend=-1) != 0)

    @property
    def held(self) -> Particles:
        """The point of each step."""
        return Particles.of_posterior(self.y[self.kept], self.log_f[self.kept])

    @property
    def good(self) -> bool:
        """Whether the draws may stand as they are."""
        from arviz_stats.base import array_stats

        quality = proposal_quality(self.accepted, self.log_weight[START:])
        if quality.acceptance < GOOD_ACCEPTANCE or quality.problems:
            return False
        # Draws far out may be held for long although few are.
        tails = [
            float(array_stats.ess(y[None], chain_axis=0, draw_axis=1, method="tail", prob=_ENDS))
            for y in self.held.y.T
        ]
        return len(self.kept) < _JUDGED or min(tails) >= _WORTH * len(self.kept)


@dataclass(frozen=True)
class _Corrected:
    """Draws after they were weighted by the likelihood itself.

    Attributes
    ----------
    drawn
        As many as before, of the posterior itself.
    gain
        Log of the mean weight: what the integral gains.
    share
        Of independent draws that the weights are worth.
    """

    drawn: Particles
    gain: float
    share: float


def _begin(chain: _Chain, particles: Particles | None, n: int) -> Particles:
    """Where n draws begin: at annealed particles, copied, or at what the chain holds."""
    if particles is None:
        return chain.held.take(np.arange(n))
    return particles.take(np.arange(n) * len(particles.y) // n)


def sample_by_proposals(
    landscape: Landscape,
    settings: SamplerSettings,
    rng: np.random.Generator,
    *,
    moving: bool = True,
) -> PosteriorSample:
    """Draw from a posterior of two to some thirty dimensions.

    Parameters
    ----------
    landscape
        The posterior, its modes and coordinates to move in.
    settings
        How many draws. Chains are their layout; where draws are moved, the first and the second
        half come from proposals that were found apart from each other.
    rng
        Source of random numbers.
    moving
        Whether draws may be moved, which takes many evaluations more.

    Returns
    -------
    PosteriorSample
        With `memory` where draws were moved, else with `accepted` and `log_weight`.
    """
    n = settings.draws - settings.draws % settings.chains
    reach = NARROW if landscape.narrow else WIDE
    # A stream for each purpose, so that more draws only go on where fewer stopped.
    streams = split_stream(rng, 8)
    proposal, particles = adapt(landscape, streams[0], reach)
    chain = _run(landscape, proposal, n, streams[1:4])
    if chain.good or not moving:
        return _as_they_are(landscape, settings, chain, streams[6:])
    later, half = split_stream(streams[5], 6), n - n // 2
    if particles is None and chain.accepted.mean() >= LEAST_ACCEPTANCE:
        chains, begin = [chain], [chain.held.take(k) for k in np.split(np.arange(n), [half])]
    else:
        if particles is None:  # weights had promised more
            _, particles = adapt(landscape, later[5], reach, annealing=True)
        # Annealed apart from the first, so that what only one of them finds shows.
        proposal, others = adapt(landscape, streams[4], reach, annealing=True)
        chains = [chain, _run(landscape, proposal, n // 2, later[:3])]
        begin = [
            _begin(chain, p, k)
            for chain, p, k in zip(chains, (particles, others), (half, n // 2), strict=True)
        ]
    return _moved(landscape, settings, begin, chains, later[3:5], streams[6:])


def _run(
    landscape: Landscape, proposal: Proposal, n: int, streams: list[np.random.Generator]
) -> _Chain:
    """Propose START + n points and decide on the last n."""
    y = proposal.draw(n + START, streams[0])
    log_f = landscape.log_density(y)
    log_weight = log_f - proposal.log_density(y)
    return _Chain(proposal, y, log_f, log_weight, run_chain(log_weight, streams[1], streams[2]))


def _as_they_are(
    landscape: Landscape,
    settings: SamplerSettings,
    chain: _Chain,
    streams: list[np.random.Generator],
) -> PosteriorSample:
    sample = _complete(landscape, settings, [chain.held], [chain], streams)
    shape = sample.log_density.shape
    theta = sample.theta.reshape(len(chain.kept), -1)
    fresh = np.diff(theta, axis=0, prepend=np.nan) != 0
    return replace(
        sample,
        accepted=fresh.any(axis=1).reshape(shape),
        log_weight=chain.log_weight[START:].reshape(shape),
    )


def _moved(
    landscape: Landscape,
    settings: SamplerSettings,
    halves: list[Particles],
    chains: list[_Chain],
    moves: list[np.random.Generator],
    streams: list[np.random.Generator],
) -> PosteriorSample:
    """Move the draws of both halves, each by a proposal that the other half's draws shape."""
    begin, now, like = [_features(landscape, p) for p in halves], halves, chains[0].proposal
    passes = list(zip(range(_MOST_MOVES), cycle(_MOVES), strict=False))
    for done, rho in track(passes, "Moving draws", show=settings.progress):
        proposals = [fit_proposal(p.y, None, like, MOVING) for p in now]
        now = [
            move(p, landscape.log_density, None, proposal, rng, (rho,))[-1]
            for p, proposal, rng in zip(now, reversed(proposals), moves, strict=True)
        ]
        memory = max(_memory(b, _features(landscape, p)) for b, p in zip(begin, now, strict=True))
        if memory < MEMORY and done + 1 >= _FEWEST_MOVES:
            break
    sample = _complete(landscape, settings, now, chains, streams)
    return replace(sample, memory=memory)


def _complete(
    landscape: Landscape,
    settings: SamplerSettings,
    drawn: list[Particles],
    chains: list[_Chain],
    streams: list[np.random.Generator],
) -> PosteriorSample:
    """Complete draws, and take the integral from the weights of all proposals."""
    error = landscape.error
    masses = [_log_mass(c.log_weight) for c in chains]
    log_mass = float(np.mean([m for m, _ in masses]))
    spread = float(np.sqrt(np.sum([s**2 for _, s in masses]))) / len(masses)
    exact = [landscape.log_exact(p.y) for p in drawn]
    made = [_corrected(p, f) for p, f in zip(drawn, exact, strict=True) if f is not None]
    if made:
        drawn, log_mass = [m.drawn for m in made], log_mass + float(np.mean([m.gain for m in made]))
        if min(m.share for m in made) >= _EVEN:
            error = None
    y, log_f = np.concatenate([p.y for p in drawn]), np.concatenate([p.log_f for p in drawn])
    sample = landscape.complete(settings, y, log_f, streams)
    return replace(
        sample,
        log_mass=log_mass,
        log_mass_error=spread + (error or 0.0),
        log_mass_k=max(_tail(c) for c in chains),
        log_marginal_likelihood=log_mass if landscape.proper else None,
        surrogate_error=error,
    )


def _tail(chain: _Chain) -> float:
    """Tail index of a chain's weights; infinite where there are too few to tell."""
    k = pareto_k(chain.log_weight)
    return np.inf if k is None else k


def _corrected(drawn: Particles, log_f: Array) -> _Corrected:
    """Weight draws of an interpolated posterior by the likelihood itself, and draw as many anew.

    At even steps of the weights' sum, in the order in which they came: draws that are not quite
    independent stay so, where independence Metropolis would take them for it.
    """
    n, log_weight = len(drawn.y), log_f - drawn.log_f
    weight, share = weighted(log_weight)
    at = np.searchsorted(np.cumsum(weight), (np.arange(n) + 0.5) / n)
    weighed = replace(drawn, log_f=log_f).take(np.minimum(at, n - 1))
    return _Corrected(weighed, float(logsumexp(log_weight) - np.log(n)), share)


def _log_mass(log_weight: Array) -> tuple[float, float]:
    """Logarithm of the mean weight, and its standard error."""
    n = len(log_weight)
    log_mass = float(logsumexp(log_weight) - np.log(n))
    # Delta method: the standard error of a logarithm is the relative one of the mean weight.
    spread = np.expm1(logsumexp(2 * log_weight) + np.log(n) - 2 * logsumexp(log_weight))
    return log_mass, float(np.sqrt(max(spread, 0.0) / n))


def _features(landscape: Landscape, particles: Particles) -> Array:
    """What is to be forgotten: parameters on several scales, and the density, (n, features)."""
    return np.column_stack([landscape.features(particles.y), particles.log_f])


def _memory(begin: Array, now: Array) -> float:
    """Largest correlation of features with where they began, and with the draw before.

    Draws that began at the same point stand side by side. Less what chance alone would bring about
    in the largest of some dozens.
    """
    gap = now - now.mean(axis=0)
    spread = np.sqrt((gap**2).mean(axis=0))
    first = begin - begin.mean(axis=0)
    same = spread > 1e-12 * np.abs(now).max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = (gap * first).mean(axis=0) / (spread * np.sqrt((first**2).mean(axis=0)))
        beside = (gap[1:] * gap[:-1]).mean(axis=0) / spread**2
    largest = max(np.max(kept[same], initial=0.0), np.max(beside[same], initial=0.0))
    return max(0.0, float(largest) - _CHANCE / float(np.sqrt(len(now))))

"""A proposal for a posterior whose modes are known (mathematics.md, 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.errors import RanefError
from ranef.samplers.annealed.fit_proposal import fit_proposal, proposal_at
from ranef.samplers.annealed.particles import Particles, anneal, weighted

if TYPE_CHECKING:
    from ranef.samplers.annealed.proposal import Proposal, Reach
    from ranef.samplers.landscape import Landscape

__all__ = ["adapt"]

# Points of the rounds: the first finds where the posterior lies, the others how it is shaped.
_ROUNDS = (1000, 2000, 2000, 2000)
# Share of independent draws that weighted points are worth: fewer than the first are led to the
# posterior by stages, from the second on another round would change nothing.
_FEW, _ENOUGH = 0.15, 0.6
# Particles, at least and for each dimension.
_PARTICLES, _EACH = 500, 25


def adapt(
    landscape: Landscape, rng: np.random.Generator, reach: Reach, *, annealing: bool = False
) -> tuple[Proposal, Particles | None]:
    """Fit a proposal to a posterior.

    Parameters
    ----------
    landscape
        The posterior, its modes and coordinates to move in.
    rng
        Source of random numbers.
    reach
        How far the proposal goes beyond what it was fitted to.
    annealing
        Whether particles are annealed in any case.

    Returns
    -------
    proposal : Proposal
    particles : Particles or None
        Weighted draws of one proposal give the next, as long as their weights are worth something;
        else particles are annealed, and these are they.
    """
    proposal = proposal_at(landscape.modes, landscape.free)
    log_f = landscape.log_density_inside
    for round_, size in enumerate(_ROUNDS):
        y = proposal.draw(size, rng)
        points = Particles(y, log_f(y), proposal.log_density(y))
        if not np.isfinite(points.log_f).any():
            raise RanefError(
                "The posterior has no density at any of the points where it was looked for, about "
                "its mode; check the units of the columns, or state tighter priors."
            )
        weight, share = weighted(points.log_f - points.log_start)
        if annealing or share < _FEW:
            count = min(size, max(_PARTICLES, _EACH * y.shape[1]))
            begin = points.take(np.arange(count))
            fitted, particles = anneal(log_f, proposal, begin, rng, reach)
            # Where no way leads to the posterior, what is known of it is its modes.
            return (fitted, particles) if particles.t == 1.0 else (proposal, None)
        proposal = fit_proposal(y, weight, proposal, reach)
        if round_ and share > _ENOUGH:
            break
    return proposal, None

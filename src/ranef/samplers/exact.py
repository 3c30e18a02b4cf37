"""Exact draws, by the cheapest way that the model allows (mathematics.md, section 4)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ranef.common import budget
from ranef.common.progress import status
from ranef.likelihood.interpolation.surrogate import LARGEST_ERROR
from ranef.samplers.annealed.sampler import sample_by_proposals
from ranef.samplers.independent.random_intercept import sample_ratio
from ranef.samplers.proposal_quality import shortfall
from ranef.samplers.search import explore

if TYPE_CHECKING:
    import numpy as np

    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["sample_exact"]

# Nats by which an interpolation may err whose draws the likelihood itself weights.
_GUIDING = 1.0


def sample_exact(
    model: ModelSpec, settings: SamplerSettings, rng: np.random.Generator
) -> PosteriorSample:
    """Draw independently from the posterior, or by particles where proposals do not cover it.

    Parameters
    ----------
    model
        Data and priors.
    settings
        How many draws.
    rng
        Source of random numbers.

    Returns
    -------
    PosteriorSample
        Without `accepted` where particles drew. Where an evaluation is too expensive for them the
        independent proposals stand, and the certificate tells what is wrong with them.
    """
    if model.random_intercept:
        return sample_ratio(model, settings, rng)
    landscape = explore(model, settings)
    cost, error = landscape.target.structure.cost, landscape.error
    moving = budget.ANNEALING.affords(cost)
    again = error is not None and budget.SECOND_ATTEMPT.affords(cost)
    rough = error is not None and error > LARGEST_ERROR
    # One that errs too much for draws to stand may tell all the same where they are to be.
    guiding = error is not None and LARGEST_ERROR < error < _GUIDING
    guiding = guiding and budget.CORRECTION.affords(cost)
    if guiding:
        landscape = landscape.weighed_exactly()
    if guiding or not (again and rough):
        moving_there = guiding or (moving and not rough)
        drawn = sample_by_proposals(landscape, settings, rng, moving=moving_there)
        right = shortfall(drawn) is None and not (guiding and drawn.surrogate_error)
        if right or not again:
            return drawn
    # The interpolation holds in a box around the mode; this posterior reaches beyond, or is rough.
    with _evaluating(settings):
        landscape = explore(model, settings, interpolated=False)
        return sample_by_proposals(landscape, settings, rng, moving=moving)


def _evaluating(settings: SamplerSettings) -> AbstractContextManager[None]:
    return status("Evaluating the likelihood itself") if settings.progress else nullcontext()

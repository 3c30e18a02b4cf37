"""Exact draws, by the cheapest way that the model allows (mathematics.md, section 4)."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from ranef.common import budget
from ranef.common.progress import status
from ranef.likelihood.interpolation.surrogate import LARGEST_ERROR
from ranef.likelihood.posterior import MarginalPosterior
from ranef.samplers.independent.general import sample_independent
from ranef.samplers.independent.random_intercept import sample_ratio
from ranef.samplers.nuts import has_nuts, nuts_seconds, sample_nuts
from ranef.samplers.proposal_quality import shortfall

if TYPE_CHECKING:
    import numpy as np

    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["sample_exact"]

# The least warm-up of NUTS.
_WARMUP = 500


def sample_exact(
    model: ModelSpec, settings: SamplerSettings, rng: np.random.Generator
) -> PosteriorSample:
    """Draw independently from the posterior, or by NUTS where proposals do not cover it.

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
        Its `fallback` says whether and why NUTS drew. That needs the package mici and an
        evaluation cheap enough to be done with in two minutes; else the independent proposals
        stand, and the certificate tells what is wrong with them.
    """
    sample = sample_ratio if model.random_intercept else sample_independent
    drawn = sample(model, settings, rng)
    reason = shortfall(drawn)
    error = drawn.surrogate_error
    if error is not None and (reason is not None or error > LARGEST_ERROR):
        # The interpolation holds in a box around the mode, and this posterior reaches beyond.
        if not budget.SECOND_ATTEMPT.affords(MarginalPosterior(model).structure.cost):
            return drawn
        with status("Evaluating the likelihood itself") if settings.progress else nullcontext():
            drawn = sample_independent(model, settings, rng, interpolated=False)
        reason = shortfall(drawn)
    if reason is None or not has_nuts():
        return drawn
    longer = replace(settings, warmup=max(settings.warmup, _WARMUP))
    if nuts_seconds(model, longer) > budget.SECOND_ATTEMPT.seconds:
        return drawn
    return replace(sample_nuts(model, longer, rng), fallback=reason)

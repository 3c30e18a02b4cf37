"""Exact draws, by the cheapest way that the model allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranef.samplers.independence import sample_independent
from ranef.samplers.ratio import sample_ratio

if TYPE_CHECKING:
    import numpy as np

    from ranef.mixed_model import Model
    from ranef.samplers.posterior import Request, Sample

__all__ = ["sample_exact"]


def sample_exact(model: Model, request: Request, rng: np.random.Generator) -> Sample:
    """Draw independently from the posterior.

    Parameters
    ----------
    model
        Data and priors.
    request
        How many draws.
    rng
        Source of random numbers.

    Returns
    -------
    Sample
    """
    sample = sample_ratio if model.random_intercept else sample_independent
    return sample(model, request, rng)

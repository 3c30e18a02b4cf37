"""Samplers, and the one table of them; every row passes the same contract tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ranef.samplers.exact import sample_exact
from ranef.samplers.gibbs import sample_gibbs
from ranef.samplers.nuts import sample_nuts

if TYPE_CHECKING:
    import numpy as np

    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["SAMPLERS", "Sampler"]


class Sampler(Protocol):
    """A function from a model to draws from its posterior."""

    def __call__(
        self, model: ModelSpec, settings: SamplerSettings, rng: np.random.Generator
    ) -> PosteriorSample:
        """Draw from the posterior of `model`."""
        ...


SAMPLERS: dict[str, Sampler] = {
    "exact": sample_exact,
    "gibbs": sample_gibbs,
    "nuts": sample_nuts,
}

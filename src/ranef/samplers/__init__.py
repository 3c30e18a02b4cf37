"""Samplers, and the one table of them; every row passes the same contract tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ranef.common.arguments import choice, is_name
from ranef.errors import DataError
from ranef.samplers.exact import sample_exact
from ranef.samplers.gibbs import sample_gibbs

if TYPE_CHECKING:
    import numpy as np

    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["SAMPLERS", "Sampler", "check_method"]


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
}


def check_method(method: object) -> None:
    """Raise DataError unless `method` names a sampler of the table."""
    if is_name(method, ("nuts",)):
        raise DataError(
            "method='nuts' is no longer there; use method='exact', which draws hard posteriors by "
            "particles, or method='gibbs' for a Markov chain."
        )
    choice("method", method, SAMPLERS)

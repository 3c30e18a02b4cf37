"""A posterior of another family, and model, rows and arrays behind it when asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ranef.posterior.generalized_draws import GeneralizedDraws, generalized_draws
from ranef.posterior.generalized_source import read_generalized
from ranef.posterior.posterior import Posterior
from ranef.posterior.source import Source

if TYPE_CHECKING:
    from ranef.mixed_model.generalized import GeneralizedModel

__all__ = ["GeneralizedPosterior"]


class GeneralizedPosterior(Posterior):
    """Draws with their labels; `ranef.fitting.generalized.GeneralizedFit` adds the questions.

    Parameters
    ----------
    draws, source
        As of `ranef.Fit`.
    """

    @property
    def source(self) -> Source[GeneralizedModel]:  # type: ignore[override]
        """The model and its rows, as the engine holds them."""
        if not isinstance(self._source, Source):
            self._source = read_generalized(self.draws.attrs, self._source)
        return self._source

    @cached_property
    def posterior_draws(self) -> GeneralizedDraws:  # type: ignore[override]
        """The draws as arrays, as the engine holds them."""
        return generalized_draws(self.draws, self.source.model)

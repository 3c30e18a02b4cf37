"""A posterior of another family, and model, rows and arrays behind it when asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ranef.posterior.generalized_draws import GeneralizedDraws, generalized_draws
from ranef.posterior.generalized_source import GeneralizedSource, read_generalized
from ranef.posterior.posterior import Posterior

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["GeneralizedPosterior"]


class GeneralizedPosterior(Posterior):
    """Draws with their labels; `ranef.fitting.generalized.GeneralizedFit` adds the questions.

    Parameters
    ----------
    draws
        A DataTree as `ranef.fit` makes it.
    source
        Model and rows, or the stored rows to build them from when they are asked for.
    """

    _source: GeneralizedSource | xr.Dataset | None  # type: ignore[assignment]

    def __init__(
        self, draws: xr.DataTree, source: GeneralizedSource | xr.Dataset | None = None
    ) -> None:
        self.draws = draws
        self._source = source

    @property
    def source(self) -> GeneralizedSource:  # type: ignore[override]
        """The model and its rows, as the engine holds them."""
        if not isinstance(self._source, GeneralizedSource):
            self._source = read_generalized(self.draws.attrs, self._source)
        return self._source

    @cached_property
    def posterior_draws(self) -> GeneralizedDraws:  # type: ignore[override]
        """The draws as arrays, as the engine holds them."""
        return generalized_draws(self.draws, self.source.model)

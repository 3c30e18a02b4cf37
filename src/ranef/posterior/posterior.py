"""A posterior: draws with their labels, and model, rows and arrays behind them when asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ranef.posterior.certificate import Certificate, certify
from ranef.posterior.draws import posterior_draws
from ranef.posterior.source import GROUP, Source, read_source, rows_of
from ranef.posterior.summary import format_table, summarise
from ranef.posterior.tree import save_tree

if TYPE_CHECKING:
    import os

    import pandas as pd
    import xarray as xr

    from ranef.common.array_types import Array
    from ranef.posterior.draws import PosteriorDraws

__all__ = ["Posterior"]


class Posterior:
    """Draws with their labels; `ranef.Fit` adds the questions that can be put to them.

    Parameters
    ----------
    draws, source, theta
        As of `ranef.Fit`.
    """

    def __init__(
        self,
        draws: xr.DataTree,
        source: Source | xr.Dataset | None = None,
        *,
        theta: Array | None = None,
    ) -> None:
        self.draws = draws
        self._source = source
        self._theta = theta

    @property
    def source(self) -> Source:
        """The model and its rows, as the engine holds them."""
        if not isinstance(self._source, Source):
            self._source = read_source(self.draws.attrs, self._source)
        return self._source

    @cached_property
    def posterior_draws(self) -> PosteriorDraws:
        """The draws as arrays, with the likelihood behind them, as the engine holds them."""
        return posterior_draws(self.draws, self.source.model, self._theta)

    @cached_property
    def certificate(self) -> Certificate:
        """How far the draws can be trusted: acceptance, Pareto k-hat, ESS."""
        return certify(self.draws)

    def summary(self, prob: float = 0.95) -> pd.DataFrame:
        """Mean, sd, median, interval and ESS of coefficients and standard deviations.

        Parameters
        ----------
        prob
            Probability of the equal-tailed interval.

        Returns
        -------
        pandas.DataFrame
            One row per parameter; `r_hat` too for Gibbs and NUTS draws.
        """
        return summarise(self.draws, prob)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to one NetCDF file, whole or not at all.

        Parameters
        ----------
        path
            The file, e.g. `"fit.nc"`; `ranef.load` reads it back. It holds the used columns of the
            data too.
        """
        import xarray as xr

        rows = rows_of(self.source.rows)
        save_tree(self.draws.assign({GROUP: xr.DataTree(rows)}), path)

    def __str__(self) -> str:
        """The table a statistician would paste."""
        return format_table(self.draws, self.certificate)

    __repr__ = __str__

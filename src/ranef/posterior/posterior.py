"""A posterior: draws with their labels, and model, rows and arrays behind them when asked for."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import generator
from ranef.posterior.certificate import Certificate, certify
from ranef.posterior.draws import posterior_draws
from ranef.posterior.source import GROUP, Source, read_source, rows_of
from ranef.posterior.summary import format_table, summarise
from ranef.posterior.tree import save_tree

if TYPE_CHECKING:
    import os

    import pandas as pd
    import xarray as xr

    from ranef.common.array_types import Seed
    from ranef.mixed_model.model import ModelSpec
    from ranef.posterior.draws import PosteriorDraws

__all__ = ["Posterior"]


class Posterior:
    """Draws with their labels; `ranef.Fit` adds the questions that can be put to them.

    Parameters
    ----------
    draws, source
        As of `ranef.Fit`.
    """

    def __init__(self, draws: xr.DataTree, source: Source[Any] | xr.Dataset | None = None) -> None:
        self.draws = draws
        self._source = source

    @property
    def source(self) -> Source[ModelSpec]:
        """The model and its rows, as the engine holds them."""
        if not isinstance(self._source, Source):
            self._source = read_source(self.draws.attrs, self._source)
        return self._source

    @cached_property
    def posterior_draws(self) -> PosteriorDraws:
        """The draws as arrays, with the likelihood behind them, as the engine holds them."""
        return posterior_draws(self.draws, self.source.model)

    @cached_property
    def certificate(self) -> Certificate:
        """How far the draws can be trusted: acceptance, Pareto k-hat, ESS."""
        return certify(self.draws)

    def stream(self, seed: Seed = None) -> np.random.Generator:
        """Source of random numbers for a question to this fit.

        Parameters
        ----------
        seed
            A number or generator of the user's. None for the fit's own, which comes from its draws:
            the same question gets the same answer, after `save` and `load` too, and the numbers
            have nothing to do with those that the fit was drawn with.

        Returns
        -------
        numpy.random.Generator
        """
        if seed is not None:
            return generator(seed)
        draws = self.draws["sample_stats"]["lp"].transpose("chain", "draw").to_numpy()
        return np.random.default_rng(list(sha256(draws.tobytes()).digest()))

    def summary(self, prob: float = 0.95) -> pd.DataFrame:
        """Mean, sd, median, interval and ESS of coefficients and standard deviations.

        Parameters
        ----------
        prob
            Probability of the equal-tailed interval.

        Returns
        -------
        pandas.DataFrame
            One row per parameter; `r_hat` too for draws by Gibbs or particles.
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

"""fit(): the pipeline in one screen; Fit: what it gives.

The module is not called `fit`, because importing it would then put the module where the function
`ranef.fit` belongs.
"""

from __future__ import annotations

import time
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ranef.certificate import Certificate, certify
from ranef.draws import load_tree, save_tree, to_tree
from ranef.errors import DataError, ReliabilityWarning, nearest
from ranef.marginal.random_intercept import RandomIntercept
from ranef.model import build_model
from ranef.plots import FitPlots
from ranef.samplers import SAMPLERS
from ranef.samplers.effects import effect_moments
from ranef.samplers.posterior import Request
from ranef.summary import effects_table, format_table, summarise
from ranef.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import pandas as pd
    import xarray as xr

    from ranef.types import Seed

__all__ = ["Fit", "fit", "load"]


def fit(
    formula: str,
    data: Any,
    *,
    priors: Mapping[str, Any] | None = None,
    method: Literal["exact", "gibbs"] = "exact",
    draws: int = 4000,
    chains: int = 4,
    warmup: int = 1000,
    effects: Literal["moments", "draws"] = "moments",
    seed: Seed = None,
    progress: bool = True,
) -> Fit:
    """Draw from the posterior of a random-intercept model.

    Parameters
    ----------
    formula
        `"response ~ fixed effects + (1|group)"`. The intercept is implied, as in R; `0 +` leaves
        it out. Fixed effects are formulaic's language (factors, interactions, `log(x)`,
        `poly(x, 2)`). Put odd column names in backticks. Formulas can call Python functions:
        never pass one from a source you do not trust.
    data
        A pandas, polars, pyarrow, DuckDB or other narwhals-compatible table, a mapping of
        columns, or the path of a CSV or Parquet file. Rows with a missing value in a used column
        are left out and counted in a warning.
    priors
        By parameter: `"sigma"` and `"1|g"` take a frozen `scipy.stats` distribution on the
        standard deviation, `variance(distribution)` for one on the variance, `flat()` or
        `jeffreys()`; coefficients (a term `"x"`, a column `"f[b]"`, `"Intercept"`) take
        `scipy.stats.norm(mean, sd)` or `flat()`. Text as on the command line works too:
        `"half_t(50)"`. Default: flat coefficients, and on both standard deviations
        `half_t(scale, df=3)` with scale max(2.5, mad(y)) rounded to one decimal, as in brms. The
        intercept's prior is on the value at x = 0, not at the mean of x.
    method
        `"exact"`: independent draws. `"gibbs"`: the textbook Gibbs sampler, for comparison.
    draws
        Number of draws in all chains together.
    chains
        Exact draws are independent, so for them chains are only a layout.
    warmup
        Gibbs sweeps left out at the start of each chain.
    effects
        `"moments"`: exact posterior mean and sd of every group effect, no draws stored.
        `"draws"`: draws as well, as the variable `1|g`; draws x groups numbers of memory.
    seed
        Integer or `numpy.random.Generator`, for the same draws again.
    progress
        Show a bar on anything that takes more than a second.

    Returns
    -------
    Fit

    Raises
    ------
    RanefError
        `FormulaError`, `DataError`, `PriorError`, `IdentifiabilityError` (one group, or every
        group of size one, under default priors), `ImproperPosteriorError`.

    Warns
    -----
    MissingRowsWarning, IdentifiabilityWarning, ReliabilityWarning

    Notes
    -----
    Effects and coefficients are integrated out in closed form; what remains, the ratio of
    variances and where the priors are not inverse gamma the residual SD, is drawn from an
    interpolated quadrature rule and corrected by independence Metropolis (docs/mathematics of
    the random-intercept model: Searle, Casella and McCulloch 1992, ch. 3).

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> list(fit.summary().index)
    ['Intercept', '1|Batch_sigma', 'sigma']
    """
    started = time.perf_counter()
    request = _request(method, draws, chains, warmup, effects, progress)
    model, columns = build_model(formula, data, priors)
    sample = SAMPLERS[method](model, request, np.random.default_rng(seed))
    moments = effect_moments(RandomIntercept(model), sample.points)
    seconds = time.perf_counter() - started
    tree = to_tree(
        model,
        sample,
        effect_moments=moments,
        response=columns.y,
        attributes={
            "ranef_version": __version__,
            "formula": model.formula.text,
            "method": method,
            "group_factor": model.formula.groups[0].factor,
            "rows": model.design.N,
            "dropped": model.dropped,
            "groups": model.design.G,
            "seconds": seconds,
            "seed": _recorded(seed),
            "priors": model.prior_texts(),
        },
    )
    made = Fit(tree)
    if not made.certificate.trusted:
        warnings.warn(
            f"The draws should not be trusted: {'; '.join(made.certificate.problems)}. "
            + (
                "Take more draws or sweeps (draws=, warmup=)."
                if method == "gibbs" or made.certificate.draws < 1000
                else "Compare with method='gibbs' and look at the priors."
            ),
            ReliabilityWarning,
            stacklevel=2,
        )
    return made


def _recorded(seed: Seed) -> int | str:
    """Write a seed as the file format can hold it: long numbers as text."""
    if not isinstance(seed, (int, np.integer)):
        return "not given as a number"
    return int(seed) if abs(int(seed)) < 2**63 else str(seed)


def _request(
    method: str, draws: int, chains: int, warmup: int, effects: str, progress: bool
) -> Request:
    """Check the plain arguments of `fit`."""
    if method not in SAMPLERS:
        raise DataError(f"method is {method!r}. {nearest(str(method), SAMPLERS)}")
    if effects not in ("moments", "draws"):
        raise DataError(f"effects is {effects!r}; 'moments' or 'draws' is expected.")
    for name, value in (("draws", draws), ("chains", chains), ("warmup", warmup)):
        if not isinstance(value, (int, np.integer)):
            raise DataError(f"{name} is {value!r}; a whole number is expected, e.g. 4000.")
    if chains < 1 or draws < 4 * chains or warmup < 0:
        raise DataError(
            f"draws={draws}, chains={chains}, warmup={warmup} came; at least one chain, four draws "
            "for each chain and no negative warm-up are expected."
        )
    return Request(draws // chains * chains, chains, warmup, effects == "draws", progress)


class Fit:
    """A posterior with its labels.

    Parameters
    ----------
    draws
        A DataTree as `ranef.fit` makes it; all methods read from it alone.

    Attributes
    ----------
    draws
        `xarray.DataTree` in ArviZ's convention; every `arviz_stats` and `arviz_plots` function
        takes it.
    """

    def __init__(self, draws: xr.DataTree) -> None:
        self.draws = draws

    @cached_property
    def certificate(self) -> Certificate:
        """How far the draws can be trusted: acceptance, Pareto k-hat, ESS."""
        return certify(self.draws)

    @property
    def plot(self) -> FitPlots:
        """Pictures: `.trace()`, `.density(truth=...)`, `.effects()`."""
        return FitPlots(self.draws)

    def summary(self, prob: float = 0.95) -> pd.DataFrame:
        """Mean, sd, median, interval and ESS of coefficients and standard deviations.

        Parameters
        ----------
        prob
            Probability of the equal-tailed interval.

        Returns
        -------
        pandas.DataFrame
            One row per parameter; `r_hat` too for Gibbs draws.
        """
        return summarise(self.draws, prob)

    def effects(self) -> pd.DataFrame:
        """Exact posterior mean and sd of every group effect.

        Returns
        -------
        pandas.DataFrame
            One row per level, in units of the response.
        """
        return effects_table(self.draws)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to one NetCDF file, whole or not at all.

        Parameters
        ----------
        path
            The file, e.g. `"fit.nc"`; `ranef.load` reads it back.
        """
        save_tree(self.draws, path)

    def __str__(self) -> str:
        """The table a statistician would paste."""
        return format_table(self.draws, self.certificate)

    __repr__ = __str__


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Parameters
    ----------
    path
        The NetCDF file.

    Returns
    -------
    Fit

    Raises
    ------
    DataError
        If the file is missing or holds no fit.
    """
    return Fit(load_tree(path))

"""Shares of variance: ICC, repeatability, reliability, R2, variation (mathematics.md, 5.5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.answers.level_posterior import joint_draws, usable
from ranef.answers.reference_grid import group_squares
from ranef.answers.variance_components import fitted_variance, observed_rows, variance_parts
from ranef.common import budget
from ranef.common.arguments import mapping, whole_number
from ranef.common.figures import interval_figure
from ranef.posterior.summary import check_prob, describe, format_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.answers.variance_components import VarianceParts
    from ranef.common.array_types import Array, IntArray, Seed
    from ranef.mixed_model.model import ModelSpec
    from ranef.posterior.draws import PosteriorDraws
    from ranef.posterior.posterior import Posterior
    from ranef.posterior.source import Source

__all__ = ["VarianceShares", "bayes_r2", "coefficients_of_variation", "shares", "variance_shares"]


@dataclass(frozen=True)
class VarianceShares:
    """Posterior of the shares of variance, from `Fit.variance_shares`.

    Attributes
    ----------
    draws
        By name, shape (draws,) each, all between 0 and 1 except the coefficients of variation:

        - `share[1|g]`, `share[residual]`: of the variance of a row that fixed effects leave;
        - `ICC`: what the group effects together take of it;
        - `repeatability[g]`: what one grouping factor takes of it;
        - `reliability[g, k=3]`: repeatability of a level's mean of k rows;
        - `R2_marginal`, `R2_conditional`: of the whole variance of a row, explained by the fixed
          part, and by fixed part and group effects;
        - `R2_bayes`: variance of the fitted rows, against itself plus the residual variance;
        - `CV[1|g]`, `CV[residual]`, `CV[total]`: SD as a share of the mean response; only where all
          responses are positive.

        The R2 and the CV are left out where columns are held at values.
    prob
        Probability of the equal-tailed intervals.
    at
        Values at which columns were held.
    residual
        What the residual variance is, in words.
    """

    draws: dict[str, Array]
    prob: float
    at: dict[str, Any]
    residual: str

    def table(self) -> pd.DataFrame:
        """Mean, sd, median and equal-tailed interval of each quantity."""
        import pandas as pd

        rows = {name: describe(values, self.prob) for name, values in self.draws.items()}
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index.name = "quantity"
        return table

    def plot(self) -> Figure:
        """Medians and intervals of everything that lies between 0 and 1."""
        table = self.table()
        table = table[[not str(name).startswith("CV[") for name in table.index]]
        return interval_figure(
            [str(name) for name in table.index],
            *(table.iloc[:, i].to_numpy() for i in (3, 2, 4)),
            xlabel=f"share of variance{self._where()} (median, {self.prob:.0%} interval)",
            # A share of exactly 0 or 1 keeps its whole point.
            limits=(-0.02, 1.02),
        )

    def _where(self) -> str:
        """Say where columns were held."""
        if not self.at:
            return ""
        return " at " + ", ".join(f"{name} = {value}" for name, value in self.at.items())

    def __str__(self) -> str:
        """The table a statistician would paste."""
        over = f"Shares of variance{self._where() or ', averaged over the rows of the data'}"
        return f"{over}\nResidual variance: {self.residual}\n\n{format_rows(self.table())}"

    __repr__ = __str__


def variance_shares(
    fit: Posterior,
    at: Mapping[str, Any] | None = None,
    k: int | list[int] = 1,
    prob: float = 0.95,
    *,
    seed: Seed = None,
) -> VarianceShares:
    """Shares of variance: ICC, repeatability, reliability, R2, coefficient of variation.

    Parameters
    ----------
    at
        Values of columns that vary by group, `{"Days": 5}`: the shares among rows with these.
        By default variances are averaged over the rows of the data (Johnson 2014).
    k
        Number of rows, or several, that the mean of a level is of; beyond 1 it adds the
        reliability of such a mean.
    prob
        Probability of the equal-tailed intervals.
    seed
        For the effects behind the Bayesian R2; by default the fit's own, so that the same question
        gets the same answer.

    Returns
    -------
    ranef.answers.variance_shares.VarianceShares
        With `.draws`, `.table()` and `.plot()`.

    Raises
    ------
    DataError
        If at names a column with which no effect varies, k is no whole number from 1, or prob
        is not between 0 and 1.

    Notes
    -----
    With weights the residual variance is the mean of `sigma² / weight` over rows, with known
    standard errors the mean of their squares. R2 as in Nakagawa and Schielzeth (2013) and
    Johnson (2014), Methods in Ecology and Evolution 4 and 5; Bayesian R2 as in Gelman et al.
    (2019), The American Statistician 73. What offsets explain is not counted.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> bool(0.2 < fit.variance_shares().table().loc["ICC", "mean"] < 0.6)
    True
    """
    check_prob(prob)
    held = {} if at is None else dict(mapping("at", at, "at={'Days': 5}"))
    rng = fit.stream(seed)
    source, posterior = fit.source, fit.posterior_draws
    model, data = source.model, source.rows
    rows = observed_rows(model, data)
    if held:
        rows = replace(rows, squares=group_squares(source, held))
    parts = variance_parts(model, rows, posterior.theta, posterior.beta)
    draws = shares(parts, _replicates(k))
    if not held:
        between = parts.between
        total = parts.fixed + between + parts.residual
        draws["R2_marginal"] = parts.fixed / total
        draws["R2_conditional"] = (parts.fixed + between) / total
        draws["R2_bayes"] = _fitted_share(posterior, source, parts, rng)
        if data.y.min() > 0:
            offset = 0.0 if data.offset is None else float(data.offset.mean())
            mean = posterior.beta @ data.X.mean(axis=0) + offset
            draws |= coefficients_of_variation(parts, mean)
    return VarianceShares(draws, prob, held, _residual(source))


def shares(parts: VarianceParts, replicates: list[int]) -> dict[str, Array]:
    """Shares of the variance that fixed effects leave, ICC, repeatability and reliability.

    Parameters
    ----------
    parts
        From `ranef.answers.variance_components.variance_parts`.
    replicates
        Numbers k of rows that a level's mean may be of.

    Returns
    -------
    dict
        Shape (n,) by name; see `VarianceShares.draws`.

    Notes
    -----
    Repeatability R is one factor's share; the reliability of a mean of k rows is
    `k R / (1 + (k - 1) R)`, the Spearman-Brown formula (Nakagawa and Schielzeth 2010, Biological
    Reviews 85, eq. 37): everything but the factor's own effects is drawn anew for each row.
    """
    between = parts.between
    total = between + parts.residual
    out = {f"share[{name}]": v / total for name, v in parts.groups.items()}
    out["share[residual]"] = parts.residual / total
    out["ICC"] = between / total
    for factor in dict.fromkeys(parts.factors.values()):
        own = sum(v for name, v in parts.groups.items() if parts.factors[name] == factor)
        share = np.asarray(own, float) / total
        out[f"repeatability[{factor}]"] = share
        for k in replicates:
            if k > 1:
                out[f"reliability[{factor}, k={k}]"] = k * share / (1 + (k - 1) * share)
    return out


def bayes_r2(fitted: Array, residual: Array) -> Array:
    """Bayesian R2 of Gelman, Goodrich, Gabry and Vehtari (2019, The American Statistician 73).

    Parameters
    ----------
    fitted
        Variance over rows of the fitted values, shape (n,).
    residual
        Residual variance, shape (n,).

    Returns
    -------
    numpy.ndarray
        `fitted / (fitted + residual)`, with the modelled residual variance, shape (n,).
    """
    return fitted / (fitted + residual)


def coefficients_of_variation(parts: VarianceParts, mean: Array) -> dict[str, Array]:
    """SD of each component, and of a row given its fixed part, as shares of the mean response.

    Parameters
    ----------
    parts
        From `ranef.answers.variance_components.variance_parts`.
    mean
        Mean response over rows, shape (n,).

    Returns
    -------
    dict
        Shape (n,) by name.
    """
    variances = {**parts.groups, "residual": parts.residual}
    variances["total"] = parts.between + parts.residual
    return {f"CV[{name}]": np.sqrt(v) / np.abs(mean) for name, v in variances.items()}


def _fitted_share(
    posterior: PosteriorDraws,
    source: Source[ModelSpec],
    parts: VarianceParts,
    rng: np.random.Generator,
) -> Array:
    """Bayesian R2 with group effects at jointly drawn effects; large data use every k-th draw."""
    model, rows = source.model, source.rows
    use: IntArray = usable(posterior)
    use = use[budget.BAYESIAN_R2.draws(len(use), numbers=len(rows.y))]
    fitted = np.empty(len(use))
    for part, effects in joint_draws(posterior, use, rng):
        fitted[part] = fitted_variance(model, rows, posterior.beta[use[part]], effects)
    return bayes_r2(fitted, parts.residual[use])


def _replicates(k: int | list[int]) -> list[int]:
    """Check the numbers of replicates."""
    values = list(k) if isinstance(k, (list, tuple, range, np.ndarray)) else [k]
    return [whole_number("k", value) for value in values]


def _residual(source: Source[ModelSpec]) -> str:
    """Say what the residual variance is."""
    if source.model.spec.sigma is not None:
        return "mean over rows of the squared known standard errors"
    if source.rows.weights is not None:
        return "mean over rows of sigma² / weight"
    return "sigma²"

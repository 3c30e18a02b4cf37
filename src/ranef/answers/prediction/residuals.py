"""Residuals of the rows: plain, standardised, and where each falls in its leave-one-out prediction.

Given the variance parameters a row's mean is normal with moments m, v that include the row itself.
Taking its own likelihood N(y; mean, s²) out again divides one normal by another, which leaves
`v' = v / (1 - v/s²)` and `m' = (m - y v/s²) / (1 - v/s²)`, so the row is predicted by
N(m', v' + s²). Draws are weighted by the inverse of that density at y (Gelfand, Dey and Chang 1992,
Bayesian Statistics 4), smoothed by a Pareto tail (Vehtari et al. 2024, Journal of Machine Learning
Research 25, 72) (mathematics.md, 5.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ranef.answers.prediction.predictive import components, prepare, row_blocks
from ranef.common.arguments import choice
from ranef.common.figures import panels, with_legend
from ranef.common.random_streams import split_stream
from ranef.formula.new_rows import fitted_rows
from ranef.formula.parse import parse_formula
from ranef.numerics import mixtures
from ranef.posterior.summary import decimals, shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.common.array_types import Array, Seed
    from ranef.posterior.posterior import Posterior

__all__ = ["ResidualKind", "Residuals", "leave_one_out_pit", "residuals"]

ResidualKind = Literal["response", "pearson", "pit"]
# Least share of a row's mean that other rows must tell, for it to be predicted from them.
_LEVERAGE = 1e-9


@dataclass(frozen=True)
class Residuals:
    """Residuals of N rows.

    Attributes
    ----------
    values
        Shape (N,): in units of the response, in residual SDs, or between 0 and 1.
    fitted
        Posterior mean of each row's mean, shape (N,).
    kind
        What the values are.
    formula
        The model.
    index
        Index of the rows in the table that was fitted.
    """

    values: Array
    fitted: Array
    kind: ResidualKind
    formula: str
    index: pd.Index

    def table(self) -> pd.DataFrame:
        """Fitted value and residual of each row.

        Returns
        -------
        pandas.DataFrame
            Columns fitted and residual (`pit` for that kind), one row for each complete row of the
            data, with its index.
        """
        import pandas as pd

        name = "pit" if self.kind == "pit" else "residual"
        return pd.DataFrame({"fitted": self.fitted, name: self.values}, index=self.index)

    def plot(self) -> Figure:
        """Residuals against fitted values, and against the quantiles that they should have.

        Returns
        -------
        matplotlib.figure.Figure
            The second panel has normal quantiles, uniform ones for `"pit"`.
        """
        from scipy.special import ndtri

        figure, (left, right) = panels(2, size=(4.2, 4.2), most=2)
        response = parse_formula(self.formula).response_name
        label = {"response": f"residual of {response}", "pearson": "residual / SD"}.get(
            self.kind, "leave-one-out PIT"
        )
        style: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 3}
        line: dict[str, Any] = {"color": "0.4", "linewidth": 0.8}
        left.plot(self.fitted, self.values, **style)
        left.axhline(0.5 if self.kind == "pit" else 0.0, **line)
        left.set_xlabel(f"fitted {response}")
        left.set_ylabel(label)
        sorted_ = np.sort(self.values[np.isfinite(self.values)])
        expected = (np.arange(len(sorted_)) + 0.5) / len(sorted_)
        if self.kind == "pit":
            right.axline((0, 0), (1, 1), label="expected if the model is right", **line)
            right.set_xlabel("uniform quantile")
        else:
            expected = ndtri(expected)
            label = "normal residuals of the same mean and SD"
            slope = float(sorted_.std())
            right.axline((0, float(sorted_.mean())), slope=slope, label=label, **line)
            right.set_xlabel("normal quantile")
        right.plot(expected, sorted_, label="one row", **style)
        right.set_ylabel(label)
        return with_legend(figure)

    def __str__(self) -> str:
        """What was computed, and its quantiles."""
        kept = self.values[np.isfinite(self.values)]
        digits = 2 if self.kind == "pit" else decimals(float(kept.std()))
        quantiles = np.quantile(kept, [0, 0.25, 0.5, 0.75, 1])
        names = ("min", "25%", "median", "75%", "max")
        cells = [shown(v, digits) for v in quantiles]
        widths = [max(len(n), len(c)) for n, c in zip(names, cells, strict=True)]
        return "\n".join(
            [
                f"{self.formula}",
                f"{self.kind} residuals of {len(self.values):,} rows",
                "",
                "  ".join(n.rjust(w) for n, w in zip(names, widths, strict=True)),
                "  ".join(c.rjust(w) for c, w in zip(cells, widths, strict=True)),
            ]
        )

    __repr__ = __str__


def residuals(fit: Posterior, kind: ResidualKind = "response", *, seed: Seed = None) -> Residuals:
    """Residuals of the rows, given their groups' effects.

    Parameters
    ----------
    kind
        `"response"`: y less the fitted value. `"pearson"`: that in residual SDs of the row.
        `"pit"`: the probability of less than y in the prediction from all other rows
        (leave-one-out), uniform where the model is right; NaN for a row that no other row
        speaks of.
    seed
        For models with several grouping factors, whose effects are drawn; by default the fit's
        own, and the draws those of `fitted`.

    Returns
    -------
    Residuals
        `.values`, `.table()`, and `.plot()` with a quantile plot.

    Raises
    ------
    DataError
        If the kind is unknown.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> fit.residuals("pit").values.shape
    (30,)
    """
    choice("kind", kind, get_args(ResidualKind))
    source, rng = fit.source, fit.stream(seed)
    rows = fitted_rows(source.rows, "response", "conditional")
    y, weights = source.rows.y, rows.weights
    assert weights is not None
    predictive = prepare(fit.posterior_draws, rows, split_stream(rng, 2)[0])
    fitted, pit = np.empty(len(rows)), np.empty(len(rows))
    for part in row_blocks(predictive, rows, "Residuals"):
        mean, variance = components(predictive, rows, part)
        fitted[part] = mean.mean(axis=0)
        if kind == "pit":
            noise = predictive.sigma2[:, None] / weights[part]
            pit[part] = leave_one_out_pit(y[part], mean, variance, noise)
    values = pit if kind == "pit" else y - fitted
    if kind == "pearson":
        values = values / np.sqrt(predictive.sigma2.mean() / weights)
    index = source.rows.frame.index
    return Residuals(values, fitted, kind, source.model.spec.formula.text, index)


def leave_one_out_pit(y: Array, mean: Array, variance: Array, noise: Array) -> Array:
    """Probability of less than y where the row itself is left out.

    Parameters
    ----------
    y
        Shape (r,).
    mean, variance
        Of the row's mean given each draw, all rows included, shape (n, r). Zero variances mean that
        the means themselves are drawn.
    noise
        Residual variances, shape (n, r).

    Returns
    -------
    numpy.ndarray
        Shape (r,); NaN for a row that no other row speaks of, such as the only one of a level among
        the fixed effects.
    """
    from arviz_stats.base import array_stats

    share = variance / noise
    lost = np.any(share > 1 - _LEVERAGE, axis=0)
    left = 1 - np.where(lost, 0.0, share)
    middle = y - (y - mean) / left
    spread = variance / left + noise
    log_density = -0.5 * np.log(spread) - 0.5 * (y - middle) ** 2 / spread
    log_weight = -log_density
    log_weight -= log_weight.max(axis=0)
    # Weights that are all but equal have no tail to smooth.
    heavy = (np.ptp(log_weight, axis=0) > 0.1) & ~lost
    if heavy.any() and len(log_weight) >= 25:
        with np.errstate(all="ignore"):
            smooth, k = array_stats.psislw(log_density[:, heavy], axis=0)
        log_weight[:, heavy] = np.where(np.isfinite(k), smooth.T, log_weight[:, heavy])
    weight = np.exp(log_weight - log_weight.max(axis=0))
    out = mixtures.cdf(y, middle, np.sqrt(spread), weight / weight.sum(axis=0))
    return np.where(lost, np.nan, out)

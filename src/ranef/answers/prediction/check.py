"""Posterior predictive checks: statistics of data that the model would give, against the data's.

The p-value is P(T(replicated) > T(data)), ties counted half (Gelman, Meng and Stern 1996,
Statistica Sinica 6) (mathematics.md, 5.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ranef.answers.prediction.predictive import draw_rows, prepare
from ranef.common import budget
from ranef.common.arguments import (
    choice,
    function,
    names_list,
    one_number,
    share,
    whole_number,
)
from ranef.common.figures import panels, shade_key, with_legend
from ranef.common.progress import track
from ranef.common.random_streams import split_stream
from ranef.errors import DataError, nearest
from ranef.formula.new_rows import fitted_rows, in_new_groups
from ranef.formula.parse import parse_formula
from ranef.posterior.summary import decimals, shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.common.array_types import Array, IntArray, Seed
    from ranef.formula.rows import Rows
    from ranef.posterior.posterior import Posterior

__all__ = ["PredictiveCheck", "apply_statistics", "check", "group_statistics", "statistics_of"]

Statistic = Callable[[Any], Any]
# Data sets kept for the picture, and rows shown of each.
_KEPT = 50
_POINTS = 5_000


@dataclass(frozen=True)
class PredictiveCheck:
    """Statistics of the data and of replicated data.

    Attributes
    ----------
    names
        The S statistics.
    observed
        Of the data, shape (S,).
    replicated
        Of n replicated data sets, shape (n, S).
    y
        The response, shape (N,).
    examples
        Up to 50 replicated data sets, shape (k, N).
    formula
        The model.
    groups
        Whether groups kept their effects, `"conditional"`, or were drawn anew, `"new"`.
    interval
        Probability of the table's intervals.
    """

    names: tuple[str, ...]
    observed: Array
    replicated: Array
    y: Array
    examples: Array
    formula: str
    groups: str
    interval: float

    @property
    def p_values(self) -> Array:
        """Share of replicated data sets whose statistic is above the data's, shape (S,)."""
        above, ties = self.replicated > self.observed, self.replicated == self.observed
        unknown = np.isnan(self.replicated).any(axis=0) | np.isnan(self.observed)
        return np.where(unknown, np.nan, above.mean(axis=0) + 0.5 * ties.mean(axis=0))

    def table(self) -> pd.DataFrame:
        """Each statistic, what the model expects of it, and its p-value.

        Returns
        -------
        pandas.DataFrame
            Index: statistic. Columns observed; mean, sd, lower, upper of the replicated data;
            p_value, near 0 or 1 where the model gives such data rarely.
        """
        import pandas as pd

        low, high = (1 - self.interval) / 2, (1 + self.interval) / 2
        lower, upper = np.quantile(self.replicated, [low, high], axis=0)
        return pd.DataFrame(
            {
                "observed": self.observed,
                "mean": self.replicated.mean(axis=0),
                "sd": self.replicated.std(axis=0),
                "lower": lower,
                "upper": upper,
                "p_value": self.p_values,
            },
            index=pd.Index(self.names, name="statistic"),
        )

    def plot(self) -> Figure:
        """Densities of the data and of replicated data, and each statistic's distribution.

        Returns
        -------
        matplotlib.figure.Figure
            The data in red; p is the share of replicated data sets whose statistic is above.
        """
        figure, (first, *others) = panels(1 + len(self.names), size=(3.2, 2.7), most=3)
        # At most so many rows: the eye sees no more, and kernel densities take their time.
        pick = budget.evenly(len(self.y), min(len(self.y), _POINTS))
        for values in self.examples:
            first.plot(*_density(values[pick]), color="C0", alpha=0.25, linewidth=0.7)
        (data,) = first.plot(*_density(self.y[pick]), color="red")
        first.set_xlabel(parse_formula(self.formula).response_name)
        first.set_ylabel("density")
        first.set_yticks([])
        for axis, name, value, drawn, p in zip(
            others, self.names, self.observed, self.replicated.T, self.p_values, strict=True
        ):
            axis.hist(drawn, bins=40, color="C0", alpha=0.5)
            axis.axvline(value, color="red")
            axis.set_xlabel(name)
            axis.set_title(f"p = {p:.2f}", fontsize="medium")
            axis.set_yticks([])
        above = "share of replicated data sets above the data"
        keys = {"data": data, "replicated data sets": shade_key("C0", 0.5)}
        return with_legend(figure, keys, title=f"p: {above}" if self.names else None)

    def __str__(self) -> str:
        """The table as text."""
        table = self.table()
        digits = [decimals(sd) for sd in table["sd"]]
        for name in table.columns[:-1]:
            table[name] = [shown(v, d) for v, d in zip(table[name], digits, strict=True)]
        table["p_value"] = [f"{p:.3f}" for p in self.p_values]
        table.index.name = None
        return "\n".join(
            [
                self.formula,
                f"{len(self.replicated):,} replicated data sets, groups {self.groups}, "
                f"{100 * self.interval:g}% intervals",
                "",
                table.to_string(),
            ]
        )

    __repr__ = __str__


def check(
    fit: Posterior,
    statistics: Sequence[str] | Mapping[str, Callable[[Any], Any]] | None = None,
    *,
    groups: Literal["conditional", "new"] = "conditional",
    replications: int = 1000,
    interval: float = 0.95,
    seed: Seed = None,
) -> PredictiveCheck:
    """Posterior predictive check, whether the model would give data like these.

    Parameters
    ----------
    statistics
        Names out of `"mean"`, `"sd"`, `"min"`, `"max"`, `"between_sd"` (SD of the group means),
        `"within_sd"` (pooled), `"icc"` (intraclass correlation by analysis of variance; with
        several factors `"icc[g]"` and so on); or functions by name, each from the response,
        shape (N,), to a number. Default: all of the names.
    groups
        `"conditional"`: the same groups measured again. `"new"`: other groups, which also tests
        the distribution of the group effects.
    replications
        Number of replicated data sets, at most one for each draw.
    interval
        Probability of the table's intervals.
    seed
        For other replicated data; by default the fit's own, so that the same question gets the
        same answer.

    Returns
    -------
    PredictiveCheck
        `.table()` with p-values, `.plot()` with densities and statistics.

    Raises
    ------
    DataError
        If a statistic is unknown or gives no number.

    Notes
    -----
    These p-values are no tests at a level: data are used twice, so for statistics that the
    model fits, such as the mean, they crowd around a half.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> fit.check(["max", "icc"], seed=1).names
    ('max', 'icc')
    """
    choice("groups", groups, ("conditional", "new"))
    replications = whole_number("replications", replications)
    interval, rng = share("interval", interval), fit.stream(seed)
    source, drawn = fit.source, fit.posterior_draws
    chosen = statistics_of(statistics, source.rows)
    if not chosen:
        raise DataError("statistics is empty; at least one is expected, e.g. ['max'].")
    rows = fitted_rows(source.rows, "response", "conditional")
    if groups == "new":
        rows = in_new_groups(rows, source.model.spec)
    n = len(drawn.theta)
    use = budget.evenly(n, min(replications, n))
    effects, rest = split_stream(rng, 2)
    y = source.rows.y
    parts: list[Array] = []
    examples: list[Array] = []
    blocks = budget.REPLICATED_DATA.blocks(len(use), len(y))
    for part in track(blocks, "Replicating the data"):
        predictive = prepare(drawn.take(use[part]), rows, effects, draw=True, show=False)
        simulated = draw_rows(predictive, rows, rest)
        parts.append(apply_statistics(chosen, simulated))
        kept = sum(len(e) for e in examples)
        examples.append(simulated[: max(0, _KEPT - kept)])
    return PredictiveCheck(
        names=tuple(chosen),
        observed=apply_statistics(chosen, y[None])[0],
        replicated=np.concatenate(parts),
        y=y,
        examples=np.concatenate(examples),
        formula=source.model.spec.formula.text,
        groups=groups,
        interval=interval,
    )


def _density(values: Array) -> tuple[Array, Array]:
    """Kernel density on the whole line; ArviZ's default holds the least and largest for bounds."""
    from arviz_stats.base import array_stats

    grid, density, _ = array_stats.kde(values, extend=True, extend_fct=0.5, bound_correction=False)
    return grid, density


def statistics_of(
    statistics: Sequence[str] | Mapping[str, Statistic] | None, rows: Rows, *, skip: bool = False
) -> dict[str, Statistic]:
    """Statistics by name, each a function of data sets (k, N) to (k,); skip what there is not."""
    if isinstance(statistics, Mapping):
        own = {str(name): f for name, f in statistics.items()}
        return {
            name: partial(_by_row, name, function(f"statistics[{name!r}]", f, "of the response"))
            for name, f in own.items()
        }
    known: dict[str, Statistic] = {
        "mean": partial(np.mean, axis=1),
        "sd": partial(np.std, axis=1, ddof=1),
        "min": partial(np.min, axis=1),
        "max": partial(np.max, axis=1),
        "zeros": _zeros,
    }
    factors = rows.spec.factors
    for factor, codes in zip(factors, rows.codes, strict=True):
        for j, name in enumerate(_GROUPED):
            if len(factor.levels) > 1 and (j == 0 or len(factor.levels) < len(rows.y)):
                label = f"{name}[{factor.name}]" if len(factors) > 1 else name
                known[label] = partial(_grouped, j, codes)
    if statistics is None:
        return {name: f for name, f in known.items() if f is not _zeros}
    wanted = names_list("statistics", statistics, "['max', 'sd']")
    for name in wanted:
        if name not in known and not skip:
            raise DataError(f"statistics names {name!r}. {nearest(name, known)}")
    return {name: known[name] for name in wanted if name in known}


def _zeros(Y: Array) -> Array:
    """Share of zeros of each data set; measurements have none."""
    return np.asarray((Y == 0).mean(axis=1))


def _by_row(name: str, f: Statistic, Y: Array) -> Array:
    """Apply a user's function to each data set."""
    return np.array([one_number(f"Statistic {name!r}", f(y)) for y in Y])


_GROUPED = ("between_sd", "within_sd", "icc")


def _grouped(which: int, codes: IntArray, Y: Array) -> Array:
    """One of the group statistics."""
    return group_statistics(Y, codes)[which]


def group_statistics(Y: Array, codes: IntArray) -> tuple[Array, Array, Array]:
    """SD of the group means, pooled SD within groups, and the intraclass correlation.

    Parameters
    ----------
    Y
        k data sets, shape (k, N).
    codes
        Group of each row, shape (N,), 0..G-1, all of them seen.

    Returns
    -------
    between, within, icc : numpy.ndarray
        Shape (k,). The last is the analysis-of-variance estimate
        (MSB - MSW) / (MSB + (n0 - 1) MSW), n0 the mean group size corrected for its spread
        (Donner 1986, International Statistical Review 54).
    """
    order = np.argsort(codes, kind="stable")
    count = np.bincount(codes).astype(float)
    begins = np.concatenate([[0], np.cumsum(count).astype(int)[:-1]])
    N, G = len(codes), len(count)
    centred = Y - Y.mean(axis=1, keepdims=True)
    means = np.add.reduceat(centred[:, order], begins, axis=1) / count
    within = ((centred - means[:, codes]) ** 2).sum(axis=1)
    msb = (count * means**2).sum(axis=1) / (G - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        msw = within / (N - G)
        n0 = (N - (count**2).sum() / N) / (G - 1)
        return means.std(axis=1, ddof=1), np.sqrt(msw), (msb - msw) / (msb + (n0 - 1) * msw)


def apply_statistics(chosen: dict[str, Statistic], Y: Array) -> Array:
    """All statistics of data sets (k, N), shape (k, S)."""
    return np.column_stack([f(Y) for f in chosen.values()])

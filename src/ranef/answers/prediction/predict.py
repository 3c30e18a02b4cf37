"""Predictions of rows: their means, SDs, intervals, draws, and a picture (mathematics.md, 5.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, get_args

import numpy as np

from ranef.answers.prediction.predictive import components, draw_rows, prepare, row_blocks
from ranef.common.arguments import brief, choice, flag, is_name, share
from ranef.common.figures import name_levels, panels, with_legend
from ranef.common.random_streams import split_stream
from ranef.errors import DataError, nearest
from ranef.formula.new_rows import DesignRows, Groups, Kind, fitted_rows, new_rows
from ranef.formula.parse import parse_formula
from ranef.numerics import mixtures
from ranef.posterior.summary import decimals, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ranef.common.array_types import Array, Seed
    from ranef.posterior.draws import PosteriorDraws
    from ranef.posterior.posterior import Posterior

__all__ = ["Prediction", "fitted", "predict"]

# Rows that are printed; lines, and lines with bands, that a picture draws.
_PRINTED = 12
_LINES = 40
_BANDS = 6
# Lines that colours tell apart.
_COLOURS = 10
# Values on the horizontal axis at which rows stand side by side.
_PLACES = 30


@dataclass(frozen=True)
class Prediction:
    """Predictions of m rows, in the units of the formula's left side.

    Attributes
    ----------
    mean, sd, lower, upper
        Of each row's predictive distribution, shape (m,).
    interval
        Probability between lower and upper, equal-tailed.
    kind, groups
        What was asked for.
    formula
        The model.
    rows
        The columns that were read, with the user's index.
    observed
        The response, shape (m,), where the rows are the data; None else.
    draws
        Joint draws, shape (n, m), where they were asked for.
    """

    mean: Array
    sd: Array
    lower: Array
    upper: Array
    interval: float
    kind: Kind
    groups: Groups
    formula: str
    rows: pd.DataFrame
    observed: Array | None
    draws: Array | None = None

    @property
    def response(self) -> str:
        """Left side of the formula."""
        return parse_formula(self.formula).response_name

    @property
    def _shown(self) -> str:
        """What is predicted."""
        return f"mean of {self.response}" if self.kind == "mean" else self.response

    def table(self) -> pd.DataFrame:
        """Mean, SD and interval of each row.

        Returns
        -------
        pandas.DataFrame
            Columns mean, sd, lower, upper; the index of the table that was predicted.
        """
        import pandas as pd

        columns = {"mean": self.mean, "sd": self.sd, "lower": self.lower, "upper": self.upper}
        return pd.DataFrame(columns, index=self.rows.index)

    def full_table(self) -> pd.DataFrame:
        """Give the table beside the columns that were read.

        Returns
        -------
        pandas.DataFrame
            A column of the user's that is called `mean`, `sd`, `lower` or `upper` is called
            `mean (given)` and so on.
        """
        import pandas as pd

        table = self.table()
        columns = self.rows.rename(columns={c: f"{c} (given)" for c in table})
        return pd.concat([columns, table], axis=1)

    def plot(self, x: str | None = None) -> Figure:
        """Draw mean and interval against a column.

        Parameters
        ----------
        x
            Name of a column that was read. Default: the first numeric one that is no grouping
            factor, else the first.

        Returns
        -------
        matplotlib.figure.Figure
            Along a numeric column, one line for each combination of the other columns, up to 40 of
            them, with bands where there are at most 6 and colours where there are at most 10; else,
            or where rows of one combination share a value, points with bars, side by side where
            there are few values. Observed responses are grey points.

        Raises
        ------
        DataError
            If there is no such column.
        """
        if x is not None and not is_name(x, list(self.rows)):
            raise DataError(
                f"x is {brief(x)}, no column of the rows. {nearest(x, self.rows.columns)}"
            )
        factors = {name for term in parse_formula(self.formula).groups for name in term.factors}
        if x is None:
            numeric = [c for c in self.rows if self.rows[c].dtype.kind in "iuf"]
            first = [*[c for c in numeric if c not in factors], *self.rows.columns]
            x = first[0] if first else None
        figure, (axis,) = panels(size=(6.4, 4.6))
        where = np.arange(len(self.mean)) if x is None else self.rows[x].to_numpy()
        parts = self._parts([c for c in self.rows if c != x])
        lines = (
            where.dtype.kind in "iuf"
            and x not in factors
            and len(parts) <= _LINES
            and all(self._single(where[at], self.mean[at]) for at in parts)
        )
        axis.set_xlabel("row" if x is None else str(x))
        if where.dtype.kind not in "iuf" or x in factors:
            names, where = np.unique(where.astype(str), return_inverse=True)
            name_levels(axis, list(names), str(x))
        place: Array = np.asarray(where, float)
        place = place if lines else _side_by_side(place)
        if self.observed is not None:
            dots: dict[str, Any] = {"color": "0.45", "markersize": 3, "zorder": 3}
            axis.plot(place, self.observed, "o", label="observed", **dots)
        if lines:
            self._draw_lines(axis, place, parts, [c for c in self.rows if c != x])
        else:
            reach = np.stack([self.mean - self.lower, self.upper - self.mean])
            style: dict[str, Any] = {"fmt": "o", "markersize": 4, "linewidth": 1, "alpha": 0.7}
            label = f"predicted mean of a row, {self._told}"
            axis.errorbar(place, self.mean, yerr=reach, label=label, **style)
        axis.set_ylabel(self._shown)
        return with_legend(figure)

    @property
    def _told(self) -> str:
        """The interval in a legend."""
        return f"{100 * self.interval:g}% interval"

    def _draw_lines(
        self, axis: Axes, where: Array, parts: Sequence[Any], others: list[str]
    ) -> None:
        """Draw a line for each combination of the other columns, with bands if they are few."""
        vary = [c for c in others if self.rows[c].nunique(dropna=False) > 1]
        for k, part in enumerate(parts):
            at = part[np.argsort(where[part])]
            label, color = "predicted mean", f"C{k}"
            if len(parts) > _COLOURS:
                label, color = f"{label}, a line for each {', '.join(vary)}", "C0"
            elif vary:
                label = ", ".join(f"{c} = {self.rows[c].iloc[at[0]]}" for c in vary)
            width = 1.5 if len(parts) <= _COLOURS else 1.0
            axis.plot(where[at], self.mean[at], label=label, color=color, linewidth=width)
            if len(parts) <= _BANDS:
                style: dict[str, Any] = {"alpha": 0.2, "linewidth": 0, "color": color}
                style["label"] = self._told if k == len(parts) - 1 else None
                axis.fill_between(where[at], self.lower[at], self.upper[at], **style)

    def _single(self, where: Array, mean: Array) -> bool:
        """Whether there are several places, with one mean at each."""
        places = np.unique(where)
        rounded = np.round(mean / (1e-6 * self.sd.mean() or 1.0))
        return 1 < len(places) == len(np.unique(np.column_stack([where, rounded]), axis=0))

    def _parts(self, others: list[str]) -> list[Any]:
        """Positions of the rows that agree in all other columns."""
        if not others:
            return [np.arange(len(self.mean))]
        codes = self.rows.groupby(others, sort=False, observed=True).ngroup().to_numpy()
        order = np.argsort(codes, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)

    def __str__(self) -> str:
        """The first rows as a text table."""
        digits = decimals(float(np.median(self.sd)))
        head = self.full_table().iloc[:_PRINTED].copy()
        for name in self.table():
            head[name] = [shown(v, digits) for v in head[name]]
        more = len(self.mean) - len(head)
        return "\n".join(
            [
                self.formula,
                f"{self._shown}, groups {self.groups}, {100 * self.interval:g}% intervals",
                "",
                head.to_string(),
                *([f"… {more:,} more rows"] if more else []),
            ]
        )

    __repr__ = __str__


def predict(
    fit: Posterior,
    new: Any = None,
    kind: Kind = "mean",
    groups: Groups = "conditional",
    interval: float = 0.95,
    *,
    seed: Seed = None,
    draws: bool = False,
) -> Prediction:
    """Predict rows, of the data or new ones, in the units of the formula's left side.

    A formula `log(y) ~ …` gives predictions of log(y).

    Parameters
    ----------
    new
        A table as in `fit`; None predicts the complete rows of the data. Transforms such as
        `scale(x)` and `poly(x, 2)` keep what they learnt from the data. A missing column or
        value, or a level of a fixed-effect factor that the data had not, is an error.
    kind
        `"mean"`: the expected value of a row, offset + X beta + Z b. `"response"`: a new
        observation there, with its residual. Where the fit has `weights` or `se`, new rows need
        that column for their residual SD.
    groups
        `"conditional"`: every group has its own effects; a group that the data had not is an
        error. `"new"`: such a group gets new effects from its term's covariance, the same for
        all its rows, and groups of the data keep theirs. `"marginal"`: the population;
        grouping columns are not read. Its mean is X beta, effects at zero; its response adds
        the variance of effects and residual, as of a row from a group never seen.
    interval
        Probability of the equal-tailed interval.
    seed
        For `draws=True`, and for models with several grouping factors, whose effects are drawn; by
        default the fit's own, so that the same question gets the same answer.
    draws
        Keep joint draws too, `Prediction.draws`, shape (draws, rows): rows of one group, known
        or new, move together; with `"marginal"` every row is a group of its own.

    Returns
    -------
    Prediction
        `.table()`, `.plot()`, `.draws`; printed, the first rows.

    Raises
    ------
    DataError
        If the rows cannot be read as the data were, or an argument is unknown.

    Notes
    -----
    Mean, SD and interval of a row are those of a mixture of normals over the draws of the
    variance parameters, coefficients and effects integrated out (Rao–Blackwell), so with one
    grouping factor the table involves no further random numbers. With several factors the
    effects of known groups, and coefficients, are drawn. Where that takes more than some 20
    seconds, or more than 1e8 numbers, every k-th draw is used, 400 at least.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> fit.predict({"Batch": ["G"]}, groups="new").table().columns.tolist()
    ['mean', 'sd', 'lower', 'upper']
    """
    for name, value, known in (("kind", kind, Kind), ("groups", groups, Groups)):
        choice(name, value, get_args(known))
    interval, rng = share("interval", interval), fit.stream(seed)
    source, drawn = fit.source, fit.posterior_draws
    if new is None:
        rows = fitted_rows(source.rows, kind, groups)
    else:
        rows = new_rows(source.model.spec, new, kind, groups)
    if kind == "mean":
        rows = replace(rows, weights=None)
    streams = split_stream(rng, 2)
    summary = _summary(drawn, rows, interval, streams[0])
    joint = None
    if flag("draws", draws):
        effects, rest = split_stream(streams[1], 2)
        joint = draw_rows(prepare(drawn, rows, effects, draw=True), rows, rest)
    return Prediction(
        *summary,
        interval=interval,
        kind=kind,
        groups=groups,
        formula=source.model.spec.formula.text,
        rows=rows.frame,
        observed=rows.y,
        draws=joint,
    )


class _Predicts(Protocol):
    """A fit of any family."""

    def predict(self, *, interval: float, seed: Seed) -> Prediction: ...


def fitted(fit: _Predicts, interval: float = 0.95, *, seed: Seed = None) -> pd.DataFrame:
    """Fitted values: the mean of every row of the data, given its groups' effects.

    Parameters
    ----------
    interval
        Probability of the equal-tailed interval.
    seed
        As in `predict`.

    Returns
    -------
    pandas.DataFrame
        Columns mean, sd, lower, upper, one row for each complete row of the data, numbered from
        0: rows with missing values are left out, as in the fit.
    """
    return fit.predict(interval=interval, seed=seed).table()


def _summary(
    drawn: PosteriorDraws, rows: DesignRows, interval: float, rng: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """Mean, SD and quantiles of each row, block by block."""
    predictive = prepare(drawn, rows, rng)
    mean, sd, lower, upper = (np.empty(len(rows)) for _ in range(4))
    for part in row_blocks(predictive, rows, "Predicting"):
        m, v = components(predictive, rows, part)
        if rows.weights is not None:
            v += predictive.sigma2[:, None] / rows.weights[part]
        mean[part], sd[part] = mixtures.moments(m, np.sqrt(v))
        lower[part], upper[part] = mixtures.quantiles(
            m, np.sqrt(v), ((1 - interval) / 2, (1 + interval) / 2)
        )
    return mean, sd, lower, upper


def _side_by_side(where: Array) -> Array:
    """Move rows that share a place apart, in their order, within 0.7 of the least distance."""
    places, code, count = np.unique(where, return_inverse=True, return_counts=True)
    if len(places) > _PLACES or count.max() == 1:
        return where
    order = np.argsort(code, kind="stable")
    rank = np.empty(len(where))
    rank[order] = np.concatenate([np.arange(n) for n in count])
    room = 0.7 * float(np.diff(places).min()) if len(places) > 1 else 0.7
    return where + room * ((rank + 0.5) / count[code] - 0.5)

"""Gauge R&R: the variance of repeated measurements split among instrument, operators and parts.

The model of the crossed study is `y_ijk = mu + part_i + operator_j + (part x operator)_ij + e_ijk`,
all effects Gaussian (AIAG, Measurement Systems Analysis, 4th ed., chapter III).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import brief, is_number, mapping, positive
from ranef.common.stored_names import stored_name
from ranef.data.tables import check_column, drop_missing, read_table, require_numbers
from ranef.errors import DataError, IdentifiabilityError, PriorError, nearest
from ranef.fitting.fit import fit
from ranef.posterior.summary import check_prob, decimals, describe, percent
from ranef.priors import half_t

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.common.array_types import Array, Seed
    from ranef.fitting.result import Fit

__all__ = ["GaugeStudy", "gauge_rr"]

_COLUMNS = ("value", "part", "operator")
# Degrees of freedom of the default half-t.
_DF = 3
# Upper limits by measure, and the least number of distinct categories.
_LIMITS = {"%study variation": (10, 30), "%tolerance": (10, 30), "%contribution": (1, 9)}
_NDC = 5
# Indentation of the table's rows.
_DEPTH = {
    "gauge R&R": 0,
    "repeatability": 1,
    "reproducibility": 1,
    "operator": 2,
    "interaction": 2,
    "part-to-part": 0,
    "total": 0,
}


def gauge_rr(
    data: Any,
    value: str,
    part: str,
    operator: str,
    tolerance: float | None = None,
    priors: Mapping[str, Any] | None = None,
    study: float = 6.0,
    seed: Seed = None,
    *,
    draws: int = 4000,
) -> GaugeStudy:
    """Gauge repeatability and reproducibility of a crossed study, with intervals.

    Parameters
    ----------
    data
        Any table that `ranef.fit` takes, one row per measurement.
    value
        Column of measurements.
    part, operator
        Columns that say which part was measured by whom. Every operator measures the same parts;
        cells may be missing or of different size.
    tolerance
        Width of the specification, upper less lower limit, in units of the measurements.
    priors
        By component, `"repeatability"`, `"operator"`, `"interaction"`, `"part"`: priors on the SD,
        as in `ranef.fit`. Default: half-t with 3 degrees of freedom; for parts its scale is the SD
        of all measurements, for the other three the SD of measurements about their part's mean.
        That SD holds operators, interaction and repeatability together, so none of the three can be
        much larger, and two or three operators alone say little of how much operators differ;
        the half-t's tail still allows several times that.
    study
        Number of SDs that span the process: 6 (99.7%), or 5.15 (99%) as older manuals have it.
    seed
        Integer or `numpy.random.Generator`.
    draws
        Independent draws from the posterior.

    Returns
    -------
    GaugeStudy

    Raises
    ------
    DataError
        If a column is missing, tolerance or study is not positive, or no part was measured by two
        operators.
    IdentifiabilityError
        If there is a single operator or a single part, and no prior was stated for its SD.
    PriorError
        If `priors` names something else.

    Notes
    -----
    Where no operator measured a part twice, the interaction cannot be told from repeatability; it
    is left out, and what is called repeatability holds both. The classical ANOVA estimates can be
    negative; SDs here cannot.

    Examples
    --------
    >>> import ranef as rf
    >>> data = rf.datasets.load("gauge_aiag")
    >>> study = rf.gauge_rr(data, "measurement", "part", "operator", tolerance=8, seed=1)
    >>> bool(study.probabilities()["%study variation < 30"] > 0.4)
    True
    """
    tolerance = None if tolerance is None else _width(tolerance)
    study = positive("study", study)
    frame = _frame(read_table(data), {"value": value, "part": part, "operator": operator})
    own = list(frame)
    complete, _ = drop_missing(frame, own)
    complete = complete.set_axis(_COLUMNS, axis=1)
    per_cell = complete.groupby(["part", "operator"], observed=True).size()
    names = {
        "part": f"1|{own[1]}",
        "operator": f"1|{own[2]}",
        "interaction": f"1|{own[1]}:{own[2]}",
        "repeatability": "sigma",
    }
    if per_cell.max() == 1:
        del names["interaction"]
    stated = _stated(priors, names)
    spread, about_parts = _scales(complete)
    _check_design(complete, stated, {"part": part, "operator": operator})
    default = {k: half_t(spread if k == "part" else about_parts, _DF) for k in names}
    quoted = [f"`{name}`" for name in own]
    both = f" + (1|{quoted[1]}:{quoted[2]})" if "interaction" in names else ""
    fitted = fit(
        f"{quoted[0]} ~ 1 + (1|{quoted[1]}) + (1|{quoted[2]}){both}",
        frame,
        priors={names[k]: stated.get(k, default[k]) for k in names},
        draws=draws,
        seed=seed,
        progress=False,
    )
    posterior = fitted.draws["posterior"]
    variances = {
        k: posterior[stored_name(name if k == "repeatability" else f"{name}_sigma")]
        .to_numpy()
        .ravel()
        ** 2
        for k, name in names.items()
    }
    return GaugeStudy(fitted, (own[0], own[1], own[2]), variances, tolerance, study)


def _width(tolerance: Any) -> float:
    """Check the width of the specification; limits are answered with theirs."""
    limits = tolerance if isinstance(tolerance, (tuple, list)) else ()
    if len(limits) == 2 and all(map(is_number, limits)):
        low, high = limits
        raise DataError(
            f"tolerance is {brief(tolerance)}; the width between the limits is expected, "
            f"tolerance={abs(high - low):g}."
        )
    return positive("tolerance", tolerance)


@dataclass(frozen=True)
class GaugeStudy:
    """The result of `ranef.gauge_rr`.

    Attributes
    ----------
    fit
        The fitted model.
    names
        Its columns of measurements, parts and operators.
    variances
        Posterior draws of each component's variance, in squared units of the measurements, shape
        (n,): repeatability, operator, interaction (unless it was left out) and part.
    tolerance
        Width of the specification; None where it was not given.
    study
        Number of SDs that span the process.
    """

    fit: Fit
    names: tuple[str, str, str]
    variances: dict[str, Array]
    tolerance: float | None
    study: float

    @cached_property
    def components(self) -> dict[str, Array]:
        """Draws of every variance of the usual table, shape (n,), by its row."""
        v = self.variances
        reproducibility = v["operator"] + v.get("interaction", 0.0)
        gauge = v["repeatability"] + reproducibility
        rows = {
            "gauge R&R": gauge,
            "repeatability": v["repeatability"],
            "reproducibility": reproducibility,
            "operator": v["operator"],
            "interaction": v.get("interaction"),
            "part-to-part": v["part"],
            "total": gauge + v["part"],
        }
        return {k: a for k, a in rows.items() if a is not None}

    @cached_property
    def measures(self) -> dict[str, dict[str, Array]]:
        """Draws of each measure by component: variance, sd, shares in percent; ndc."""
        rows = self.components
        sd = {k: np.sqrt(a) for k, a in rows.items()}
        out = {
            "variance": rows,
            "sd": sd,
            "%contribution": {k: 100 * a / rows["total"] for k, a in rows.items()},
            "%study variation": {k: 100 * a / sd["total"] for k, a in sd.items()},
        }
        if self.tolerance is not None:
            scale = 100 * self.study / self.tolerance
            out["%tolerance"] = {k: scale * a for k, a in sd.items()}
        out["ndc"] = {"gauge R&R": 1.41 * sd["part-to-part"] / sd["gauge R&R"]}
        return out

    def table(self, prob: float = 0.95) -> pd.DataFrame:
        """Posterior of every measure of every component.

        Parameters
        ----------
        prob
            Probability of the equal-tailed interval.

        Returns
        -------
        pandas.DataFrame
            Indexed by measure (`variance`, `sd`, `%contribution` of the total variance, `%study
            variation`: SD over total SD, `%tolerance`: study x SD over the tolerance, `ndc`, the
            number of distinct categories 1.41 SD_part / SD_gauge, not rounded down) and component;
            columns mean, median and the interval's ends.

        Raises
        ------
        DataError
            If prob is not between 0 and 1.
        """
        import pandas as pd

        ends = [percent(p) for p in check_prob(prob)]
        rows = {
            (measure, component): describe(values, prob)
            for measure, parts in self.measures.items()
            for component, values in parts.items()
        }
        table = pd.DataFrame.from_dict(rows, orient="index")[["mean", "median", *ends]]
        table.index = pd.MultiIndex.from_tuples(rows, names=["measure", "component"])
        return table

    def probabilities(self) -> pd.Series:
        """Posterior probability that the gauge passes each of the usual limits.

        Returns
        -------
        pandas.Series
            `%study variation < 10` (acceptable) and `< 30` (acceptable for some uses), the same
            for `%tolerance`, `%contribution < 1` and `< 9` (the same limits on variances), and
            `ndc >= 5` (AIAG, Measurement Systems Analysis, 4th ed., chapter II, section D).
        """
        import pandas as pd

        out: dict[str, float] = {}
        for measure, limits in _LIMITS.items():
            if measure in self.measures:
                values = self.measures[measure]["gauge R&R"]
                out |= {f"{measure} < {limit}": float(np.mean(values < limit)) for limit in limits}
        out[f"ndc >= {_NDC}"] = float(np.mean(self.measures["ndc"]["gauge R&R"] >= _NDC))
        return pd.Series(out, name="probability")

    def plot(self) -> Figure:
        """Six panels: components of variation, control charts, and results by part and operator.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from ranef.gauge.figure import plot_gauge

        return plot_gauge(self.table(), self.fit.source.rows.frame, self.names)

    def __str__(self) -> str:
        """The usual table with intervals, and the probability of passing."""
        table = self.table()
        value, part, operator = self.names
        shown = [m for m in table.index.unique("measure") if m not in ("variance", "ndc")]
        low, high = table.columns[2:]
        body = [["", *shown]]
        for component in self.components:
            cells = []
            for measure in shown:
                row = table.loc[(measure, component)]
                digits = decimals((row[high] - row[low]) / 4) if measure == "sd" else 1
                if row[low] == row[high]:
                    cells.append(f"{row['median']:.{digits}f}")
                    continue
                ends = f"[{row[low]:.{digits}f}, {row[high]:.{digits}f}]"
                cells.append(f"{row['median']:.{digits}f} {ends}")
            body.append([f"{'  ' * _DEPTH[component]}{component}", *cells])
        widths = [max(len(r[j]) for r in body) for j in range(len(body[0]))]
        ndc = table.loc[("ndc", "gauge R&R")]
        passing = [f"P({k}) = {p:.2f}" for k, p in self.probabilities().items()]
        design = self.fit.source.model.design
        counts = {f.name: f.levels for f in design.factors}
        missing = (
            ""
            if "interaction" in self.variances
            else ("\nNo operator measured a part twice: repeatability holds the interaction too.")
        )
        return "\n".join(
            [
                f"Gauge R&R of {value}: {counts[part]} levels of {part}, {counts[operator]} of "
                f"{operator}, {design.N} measurements",
                "Posterior medians and 95% intervals",
                "",
                *[
                    "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip()
                    for r in body
                ],
                "",
                f"Number of distinct categories: {ndc['median']:.1f} "
                f"[{ndc[low]:.1f}, {ndc[high]:.1f}]",
                "Probability of passing: " + ", ".join(passing) + missing,
                f"Certificate: {self.fit.certificate}",
            ]
        )

    __repr__ = __str__


def _frame(table: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Take the three columns, under names that a formula can quote."""
    for role, column in columns.items():
        check_column(role, column, table)
    if len(set(columns.values())) < len(columns):
        arguments = ", ".join(f"{k}={v!r}" for k, v in columns.items())
        raise DataError(f"{arguments} came; three different columns are expected.")
    require_numbers(table, columns["value"])
    names = [column.replace("`", "'") or f"({role})" for role, column in columns.items()]
    return table[list(columns.values())].set_axis(names, axis=1)


def _stated(priors: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """Priors by component."""
    if priors is None:
        return {}
    for name in mapping("priors", priors, "{'operator': 'half_t(0.2)'}", error=PriorError):
        if name not in names:
            raise PriorError(
                f"A prior was given for {name!r}, which this gauge study does not have. "
                f"{nearest(name, names)}",
                parameter=name,
            )
    return dict(priors)


def _check_design(rows: pd.DataFrame, stated: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Refuse what says nothing of a component: one operator, one part, nested parts."""
    for role, what in (("operator", "reproducibility"), ("part", "part-to-part variation")):
        if rows[role].nunique() == 1 and role not in stated:
            raise IdentifiabilityError(
                f"Column {names[role]!r} has a single level, so the data say nothing of {what}. "
                f"Bring measurements of another {role}, or state what is known of the SD, "
                f"priors={{{role!r}: ...}}.",
                parameters=(role,),
            )
    cells = rows.groupby(["part", "operator"], observed=True)["value"]
    if cells.size().max() > 1 and cells.nunique().max() == 1 and "repeatability" not in stated:
        raise DataError(
            "Repeated measurements of a part by the same operator never differ, so repeatability "
            "lies below the gauge's resolution; record more digits, or state a prior that vanishes "
            "at zero, priors={'repeatability': 'variance(invgamma(1, scale=...))'}.",
        )
    seen = rows.groupby("part", observed=True)["operator"].nunique()
    if rows["operator"].nunique() > 1 and seen.max() == 1:
        raise DataError(
            f"No level of {names['part']!r} was measured by two levels of {names['operator']!r}, "
            "so parts and operators cannot be told apart; a crossed study is expected. If parts "
            "are destroyed, label equal ones alike; if labels are mixed up, check the columns."
        )


def _scales(rows: pd.DataFrame) -> tuple[float, float]:
    """SD of all measurements, and SD of measurements about their part's mean.

    The second is that of all where no part was measured twice, or all its measurements agree.
    """
    y = rows["value"].astype(float)
    rest = y - y.groupby(rows["part"], observed=True).transform("mean")
    parts = rows["part"].nunique()
    spread = float(y.std(ddof=1)) if len(y) > 1 else 0.0
    if not spread > 0:
        raise DataError(
            f"All {len(y)} measurements are the same number; the gauge's resolution is too coarse "
            "to show any variation."
        )
    degrees = len(y) - parts
    about = float(np.sqrt((rest**2).sum() / degrees)) if degrees else 0.0
    return spread, about if about > 1e-9 * spread else spread

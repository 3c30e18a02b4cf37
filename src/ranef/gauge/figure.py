"""The six panels of a gauge study: components of variation, R and X-bar charts, results."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.figures import name_levels, panels, with_legend, wrap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ranef.common.array_types import Array

__all__ = ["plot_gauge", "range_moments"]

_BARS = ("gauge R&R", "repeatability", "reproducibility", "part-to-part")
_LIMITS = "control limits, 3 SD either side"
# Characters of an operator's name in a line of the legend.
_LINE = 16


@cache
def range_moments(n: int) -> tuple[float, float]:
    """Mean d2 and SD d3 of the range of n standard normal values (Tippett 1925).

    Parameters
    ----------
    n
        Number of values, at least 2.

    Returns
    -------
    d2, d3 : float

    Examples
    --------
    >>> d2, d3 = range_moments(3)
    >>> round(d2, 3), round(d3, 3)
    (1.693, 0.888)
    """
    from scipy.special import ndtr

    x = np.linspace(-9.0, 9.0, 1201)
    step, F = x[1] - x[0], ndtr(x)
    d2 = float(np.sum(1 - F**n - (1 - F) ** n) * step)
    low, high = F[:, None], F[None, :]
    # P(min < x and max > y) for x < y; the range squared is twice the integral of 1{min < x < y <
    # max} over the plane. Symmetric in x and y, so the whole square counts it twice by itself.
    low, high = np.minimum(low, high), np.maximum(low, high)
    both = 1 - high**n - (1 - low) ** n + (high - low) ** n
    return d2, float(np.sqrt(both.sum() * step**2 - d2**2))


def plot_gauge(summary: pd.DataFrame, rows: pd.DataFrame, names: tuple[str, str, str]) -> Figure:
    """Draw the usual six panels.

    Parameters
    ----------
    summary
        From `GaugeStudy.table`.
    rows
        The measurements, one in each row.
    names
        The columns of the measurements, their part and their operator.

    Returns
    -------
    matplotlib.figure.Figure
    """
    value, part, operator = names
    rows = rows.loc[:, list(names)].set_axis(["value", "part", "operator"], axis=1)
    cells = rows.groupby(["operator", "part"], observed=True, sort=True)["value"]
    table = cells.agg(["mean", "size", np.ptp]).reset_index()
    figure, axes = panels(6, size=(6.0, 3.6), most=2)
    _components(axes[0], summary)
    _points(axes[1], rows, "part", value, part)
    _chart_by_operator(axes[2], table, rows, "range", value, operator)
    _points(axes[3], rows, "operator", value, operator)
    _chart_by_operator(axes[4], table, rows, "mean", value, operator)
    _interaction(axes[5], table, value, part, operator)
    return with_legend(figure)


def _components(axis: Axes, table: pd.DataFrame) -> None:
    """Bars of posterior medians with 95% intervals."""
    low, high = table.columns[2:]
    shown = [m for m in table.index.unique("measure") if m.startswith("%")]
    width = 0.8 / len(shown)
    for j, measure in enumerate(shown):
        part = table.loc[measure].loc[list(_BARS)]
        middle = part["median"].to_numpy()
        reach = np.stack([middle - part[low].to_numpy(), part[high].to_numpy() - middle])
        at = np.arange(len(_BARS)) + (j - (len(shown) - 1) / 2) * width
        axis.bar(at, middle, width, yerr=reach, label=measure, capsize=2)
    axis.set_xticks(range(len(_BARS)), _BARS)
    axis.set_ylabel("percent (median, 95% interval)")
    # Above the bars, where it hides none.
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(shown), frameon=False)
    axis.set_title("Components of variation", pad=24)


def _chart_by_operator(
    axis: Axes, table: pd.DataFrame, rows: pd.DataFrame, kind: str, value: str, operator: str
) -> None:
    """R or X-bar chart of the cells, operator after operator, limits from the mean range.

    Limits of a cell with n measurements: d2 s -+ 3 d3 s for ranges and the grand mean -+ 3 s /
    sqrt(n) for means, with s the average of range / d2; for equal n these are R-bar times D3, D4
    and A2.
    """
    at, size = np.arange(len(table)), table["size"].to_numpy()
    repeated = size > 1
    axis.set_title("R chart by operator" if kind == "range" else "X-bar chart by operator")
    axis.set_ylabel(f"{kind} of {value}")
    y = table["ptp" if kind == "range" else "mean"].to_numpy(float)
    if kind == "range":
        y = np.where(repeated, y, np.nan)
    centers: list[float] = []
    names: list[str] = []
    for name, place in table.groupby("operator", observed=True, sort=False).indices.items():
        style: dict[str, Any] = {"marker": "o", "markersize": 3, "linewidth": 1, "color": "C0"}
        axis.plot(at[place], y[place], label="one part", **style)
        axis.axvline(place[-1] + 0.5, color="0.8", linewidth=0.8)
        centers.append(float(place.mean()))
        names.append(str(name))
    axis.set_xlim(-0.5, len(table) - 0.5)
    axis.set_xticks(centers, names)
    axis.set_xlabel(f"parts within each {operator}")
    if not repeated.any():
        axis.set_title(f"{axis.get_title()}\none measurement each: no ranges, no limits")
        if kind == "range":
            axis.set_yticks([])
        return
    d2, d3 = np.array([range_moments(int(n)) if n > 1 else (np.nan, np.nan) for n in size]).T
    s = float(np.nanmean(table["ptp"].to_numpy(float) / d2))
    if kind == "range":
        middle, low, high = d2 * s, np.maximum(d2 - 3 * d3, 0.0) * s, (d2 + 3 * d3) * s
    else:
        grand = float(rows["value"].mean())
        middle = np.full(len(at), grand)
        low, high = grand - 3 * s / np.sqrt(size), grand + 3 * s / np.sqrt(size)
    for line, dash, color, label in (
        (middle, "-", "C2", "average"),
        (low, "--", "C3", _LIMITS),
        (high, "--", "C3", _LIMITS),
    ):
        lines: dict[str, Any] = {"color": color, "linewidth": 1, "linestyle": dash, "label": label}
        axis.step(at, line, where="mid", **lines)


def _points(axis: Axes, rows: pd.DataFrame, role: str, value: str, name: str) -> None:
    """All measurements of each part or operator, and their mean."""
    groups = rows.groupby(role, observed=True, sort=True)["value"]
    levels, mean = list(groups.groups), groups.mean().to_numpy()
    for i, level in enumerate(levels):
        y: Array = groups.get_group(level).to_numpy()
        axis.plot(np.full(len(y), i), y, "o", color="0.6", markersize=3, label="one measurement")
    axis.plot(range(len(levels)), mean, marker="D", markersize=4, color="C0", label="mean")
    name_levels(axis, levels, name)
    axis.set_ylabel(value)
    axis.set_title(f"{value} by {name}")


def _interaction(axis: Axes, table: pd.DataFrame, value: str, part: str, operator: str) -> None:
    """Mean of each part by operator; parallel lines say that there is no interaction."""
    wide = table.pivot(index="part", columns="operator", values="mean")
    for name in wide.columns:
        axis.plot(range(len(wide)), wide[name], marker="o", markersize=3, label=str(name))
    name_levels(axis, list(wide.index), part)
    axis.set_ylabel(f"mean of {value}")
    axis.set_title(f"{part} by {operator}")
    beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
    labels = [wrap(str(name), _LINE) for name in wide.columns]
    axis.legend(axis.lines, labels, title=wrap(operator, _LINE), fontsize=8, **beside)

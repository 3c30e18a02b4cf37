"""What figures share: sizes, rows of intervals, labels that fit, and legends below the panels."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from ranef.common.array_types import Array

__all__ = [
    "finish",
    "interval_figure",
    "name_levels",
    "panels",
    "plot_rows",
    "row_size",
    "shade_key",
    "with_legend",
    "wrap",
]

# Characters of a row's name in a line, and of any label where there is little room.
_LINE, _LEAST = 36, 8
# Levels on a horizontal axis that are named.
_NAMED = 30
# Share of the room that a wrapped label takes, because letters differ in width.
_SLACK = 0.92
# Pixels between names of ticks.
_APART = 4
# Height, in inches, that labels may take from a panel before the figure grows.
_LOST = 0.6


def wrap(text: str, width: int) -> str:
    r"""Break text into lines: after spaces and bars, else after other marks, else anywhere.

    Parameters
    ----------
    text
        Line breaks are kept.
    width
        Characters in a line.

    Returns
    -------
    str

    Examples
    --------
    >>> wrap("1|Research station_sigma", 12)
    '1|Research\nstation_\nsigma'
    >>> wrap("Days per week|Subject_sigma", 15)
    'Days per week|\nSubject_sigma'
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in _pieces(paragraph, width):
            if line and len((line + word).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += word
        lines.append(line.rstrip())
    return "\n".join(lines)


def _pieces(text: str, width: int) -> list[str]:
    """Cut text where a line may end, so that no piece is longer than a line."""
    pieces = [text]
    for mark in (r"(?<=[\s|])", r"(?<=[:,/_+-])"):
        cut = [re.split(mark, p) if len(p.rstrip()) > width else [p] for p in pieces]
        pieces = [p for some in cut for p in some]
    while any(len(p.rstrip()) > width for p in pieces):
        pieces = [q for p in pieces for q in (p[:width], p[width:]) if q]
    return pieces


def panels(
    count: int = 1, *, size: tuple[float, float], most: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure that is shown only where it is returned, with a grid of panels.

    Parameters
    ----------
    count
        Number of panels; what is left of the last row stays empty.
    size
        Width and height of a panel, in inches.
    most
        Panels in a row.
    **options
        Passed on to `matplotlib.pyplot.subplots`.

    Returns
    -------
    figure
        With constrained layout.
    panels
        One for each of `count`, row by row.
    """
    import matplotlib.pyplot as plt

    columns = min(count, most)
    rows = -(-count // columns)
    grid: tuple[Figure, Any] = plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns, size[1] * rows),
        squeeze=False,
        layout="constrained",
        **options,
    )
    figure, axes = grid
    plt.close(figure)
    for axis in axes.ravel()[count:]:
        axis.set_visible(False)
    return figure, list(axes.ravel()[:count])


def row_size(names: Sequence[str], each: float = 0.35) -> tuple[float, float]:
    """Width and height, in inches, of a panel with one named row for each name.

    Parameters
    ----------
    names
        Of the rows.
    each
        Height of a row whose name takes one line.
    """
    lines = [wrap(name, _LINE).split("\n") for name in names]
    longest = max(len(line) for some in lines for line in some)
    height = sum(max(each, 0.17 * len(some) + 0.08) for some in lines)
    return max(6.4, 5.2 + 0.085 * longest), max(height + 1.0, 1.7)


def plot_rows(
    axis: Axes, names: Sequence[str], middle: Array, low: Array, high: Array, **style: Any
) -> None:
    """Draw a point and an interval in each row, the first row at the bottom.

    Parameters
    ----------
    axis
        Where to draw.
    names
        Of the rows.
    middle, low, high
        Point and ends of the interval in each row.
    **style
        Passed on to `Axes.errorbar`.
    """
    at = np.arange(len(names))
    middle = np.asarray(middle, float)
    reach = np.maximum([middle - np.asarray(low), np.asarray(high) - middle], 0.0)
    axis.errorbar(
        middle, at, xerr=reach, **{"fmt": "o", "markersize": 4, "linewidth": 1.2, **style}
    )
    axis.set_yticks(at, [wrap(name, _LINE) for name in names])
    axis.set_ylim(-0.6, len(names) - 0.4)


def interval_figure(
    names: Sequence[str],
    middle: Array,
    low: Array,
    high: Array,
    *,
    xlabel: str,
    ylabel: str = "",
    zero: bool = False,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """One panel of intervals, a row for each name, the first at the top.

    Parameters
    ----------
    names
        Of the rows.
    middle, low, high
        Point and ends of the interval in each row.
    xlabel, ylabel
        Of the axes.
    zero
        Whether to mark zero.
    limits
        Ends of the horizontal axis; default: what the intervals need.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (axis,) = panels(size=row_size(names))
    if zero:
        axis.axvline(0, color="0.4", linewidth=0.8)
    ends = (np.asarray(values)[::-1] for values in (middle, low, high))
    plot_rows(axis, names[::-1], *ends, markersize=6, linewidth=2)
    if limits:
        axis.set_xlim(limits)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.grid(axis="x", linewidth=0.4)
    return finish(figure)


def name_levels(axis: Axes, levels: Sequence[object], name: str) -> None:
    """Name the levels on the horizontal axis at 0, 1, …, or say how many they are.

    Parameters
    ----------
    axis
        Where they stand.
    levels, name
        Of the factor.
    """
    named = len(levels) <= _NAMED
    axis.set_xticks(range(len(levels)) if named else [], [str(v) for v in levels] if named else [])
    axis.set_xlabel(name if named else f"{name} ({len(levels):,} levels)")


def shade_key(color: str, alpha: float = 1.0) -> Artist:
    """Key of a shaded area in a legend."""
    from matplotlib.patches import Patch

    return Patch(color=color, alpha=alpha, linewidth=0)


def with_legend(figure: Figure, keys: Mapping[str, Any] | None = None, **options: Any) -> Figure:
    """Put one legend beside the panels, where it hides nothing, and finish the figure.

    Parameters
    ----------
    figure
        With constrained layout.
    keys
        Artist by label; default: what is labelled in any panel without its own legend, each label
        once.
    **options
        Passed on to `Figure.legend`; by default it stands below.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if keys is None:
        found = [a.get_legend_handles_labels() for a in figure.axes if a.get_legend() is None]
        keys = {label: artist for pair in found for artist, label in zip(*pair, strict=True)}
    options = {"loc": "outside lower center", "frameon": False, **options}
    room = figure.get_figwidth() * figure.dpi
    labels = [wrap(label, int(10 * figure.get_figwidth())) for label in keys]
    for columns in range(len(labels), 0, -1):
        legend = figure.legend(list(keys.values()), labels, ncols=columns, **options)
        if columns == 1 or legend.get_window_extent().width <= room:
            break
        legend.remove()
    return finish(figure)


def finish(figure: Figure) -> Figure:
    """Make every label fit: break titles and names of axes, part ticks that touch, give room.

    Names are taken as they are written: a dollar sign in one starts no formula.

    Parameters
    ----------
    figure
        With constrained layout, complete but for this.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    shown = [axis for axis in figure.axes if axis.get_visible() and axis.axison]
    across = [t for a in shown for t in (a.title, a.xaxis.label)]
    upright = [a.yaxis.label for a in shown]
    # A label that is longer than its panel would shrink the panel that it is to fit.
    for label in [*across, *upright]:
        label.set_in_layout(False)
    figure.draw_without_rendering()
    before = [axis.get_window_extent().height for axis in shown]
    for axis in shown:
        _part_ticks(axis)
        for label in (axis.title, axis.xaxis.label):
            _fit(label, axis.get_window_extent().width, upright=False)
    for label in across:
        label.set_in_layout(True)
    figure.draw_without_rendering()
    after = [axis.get_window_extent().height for axis in shown]
    lost = max(b - a for b, a in zip(before, after, strict=True)) / figure.dpi
    if lost > _LOST:
        rows = shown[0].get_gridspec().nrows  # type: ignore[union-attr]
        figure.set_figheight(figure.get_figheight() + rows * (lost - _LOST))
        figure.draw_without_rendering()
    for axis in shown:
        _fit(axis.yaxis.label, axis.get_window_extent().height, upright=True)
    for label in upright:
        label.set_in_layout(True)
    return figure


def _fit(label: Text, room: float, *, upright: bool) -> None:
    """Break a label into lines that are no longer than the room, in pixels."""
    text, extent = label.get_text(), label.get_window_extent()
    size = extent.height if upright else extent.width
    if text and size > room:
        longest = max(map(len, text.split("\n")))
        label.set_text(wrap(text, max(_LEAST, int(_SLACK * longest * room / size))))


def _part_ticks(axis: Axes) -> None:
    """Part labels along the axis that touch: fewer numbers; names broken, turned or left out."""
    from matplotlib.ticker import FixedLocator

    labels = axis.get_xticklabels()
    ticks = [float(t.get_position()[0]) for t in labels]
    left, right = sorted(axis.get_xlim())
    inside = [
        t for t, at in zip(labels, ticks, strict=True) if t.get_text() and left <= at <= right
    ]
    boxes = [t.get_window_extent() for t in inside]
    if all(a.x1 + _APART < b.x0 for a, b in pairwise(boxes)):
        return
    if not isinstance(axis.xaxis.get_major_locator(), FixedLocator):
        axis.locator_params(axis="x", nbins=4)
        return
    names = [t.get_text() for t in labels]
    places = axis.transData.transform(np.column_stack([ticks, np.zeros(len(ticks))]))[:, 0]
    gap = float(np.diff(np.sort(places)).min())
    letter = max(b.width / len(t.get_text()) for b, t in zip(boxes, inside, strict=True))
    width = int(gap / letter * _SLACK)
    words = max(len(w) for name in names for w in name.split())
    if width >= words and max(wrap(n, width).count("\n") for n in names) < 3:
        axis.set_xticks(ticks, [wrap(n, width) for n in names])
    elif gap > 1.05 * boxes[0].height:
        axis.set_xticks(ticks, [wrap(n, _LINE) if gap > 3 * boxes[0].height else n for n in names])
        axis.tick_params(axis="x", rotation=90)
    else:
        end = -np.inf
        for i, (name, place) in enumerate(zip(names, places, strict=True)):
            reach = 0.55 * letter * len(name)
            if place - reach > end:
                end = place + reach
            else:
                names[i] = ""
        axis.set_xticks(ticks, names)

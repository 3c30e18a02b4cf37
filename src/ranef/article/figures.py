"""The article's pictures, with the exact posterior drawn over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ranef.article.study import ScenarioResult
    from ranef.common.array_types import Array

__all__ = ["SYMBOLS", "density_figure", "trace_figure"]

Parameter = Literal["sigma2_e", "sigma2_x"]
SYMBOLS: dict[Parameter, str] = {"sigma2_e": r"$\sigma_e^2$", "sigma2_x": r"$\sigma_x^2$"}
_PRINTED, _EXACT, _TRUTH = "#444444", "#1f6fb2", "#d62728"


def trace_figure(result: ScenarioResult) -> Figure:
    """Draw the printed sampler's traces, the true values in red, the exact 95% interval as a band.

    Parameters
    ----------
    result
        One scenario from `study`.

    Returns
    -------
    matplotlib.figure.Figure
        One axis for each variance, as in the article.
    """
    figure, axes = _axes(2, 1, (7.2, 3.9))
    for axis, parameter in zip(axes, SYMBOLS, strict=True):
        values = result.printed.draws[parameter].to_numpy().ravel()
        low, high = result.interval(parameter)
        # The band goes under nothing and over nothing: it is often far from the trace.
        axis.axhspan(low, high, color=_EXACT, alpha=0.35, label="exact posterior, 95%")
        axis.plot(values, color=_PRINTED, linewidth=0.35, label="sampler as printed")
        truth = getattr(result.scenario, parameter)
        axis.axhline(truth, color=_TRUTH, linewidth=1.3, label="true value")
        if _far_apart(values, low, high):
            axis.set_yscale("log")
        axis.set_ylabel(SYMBOLS[parameter])
    axes[-1].set_xlabel("iteration")
    _legend(figure, axes[0])
    return figure


def density_figure(result: ScenarioResult) -> Figure:
    """Draw densities of both variances: as printed, exact, and the true value in red.

    Parameters
    ----------
    result
        One scenario from `study`.

    Returns
    -------
    matplotlib.figure.Figure
        Curves are scaled to equal height, because their widths differ by up to six orders of
        magnitude; the axis is logarithmic where the two lie far apart. Where the data have a mean
        and the article's model has none, that model's exact posterior is dashed.
    """
    figure, axes = _axes(1, 2, (7.2, 2.9))
    for axis, parameter in zip(axes, SYMBOLS, strict=True):
        values = result.printed.draws[parameter].to_numpy().ravel()
        shown = [("exact", "-", "exact posterior")]
        if result.scenario.mean:
            shown.append(("exact_zero", "--", "exact, model without a mean"))
        logarithmic = any(_far_apart(values, *result.interval(parameter, w)) for w, _, _ in shown)
        _curve(axis, *_kernel_density(values, logarithmic), color=_PRINTED, label="as printed")
        for way, style, label in shown:
            grid = _exact_grid(result.draws(way)[parameter].to_numpy().ravel())
            density = getattr(result, way).density(parameter, grid)
            if logarithmic:
                density = density * grid
            _curve(axis, grid, density, color=_EXACT, linestyle=style, label=label)
        truth = getattr(result.scenario, parameter)
        axis.axvline(truth, color=_TRUTH, linewidth=1.3, label="true value")
        if logarithmic:
            axis.set_xscale("log")
        axis.set_xlabel(SYMBOLS[parameter])
        axis.set_yticks([])
        axis.set_ylim(0, 1.08)
    axes[0].set_ylabel("density (equal heights)")
    _legend(figure, axes[1])
    return figure


def _axes(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Make a figure without pyplot, so that no window system or global state is involved."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes: list[Axes] = list(np.ravel(figure.subplots(rows, columns, sharex=columns == 1)))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False
    )
    # A trace is drawn too thin for its colour to be seen in a key.
    for line in legend.get_lines():
        line.set_linewidth(max(line.get_linewidth(), 1.3))


def _far_apart(values: Array, low: float, high: float) -> bool:
    """Whether a linear axis would flatten one of the two."""
    center = float(np.median(values))
    return not low / 8 < center < high * 8


def _kernel_density(values: Array, logarithmic: bool) -> tuple[Array, Array]:
    """Kernel density, on the logarithm where the axis will be logarithmic."""
    from arviz_stats.base import array_stats

    grid, density, _ = array_stats.kde(np.log(values) if logarithmic else values)
    return np.exp(grid) if logarithmic else grid, density


def _exact_grid(values: Array) -> Array:
    """Points that cover the draws on a logarithmic scale."""
    low, high = np.quantile(values, [0.0005, 0.9995])
    return np.asarray(np.geomspace(float(low), float(high), 300))


def _curve(axis: Axes, x: Array, density: Array, **style: Any) -> None:
    axis.plot(x, density / density.max(), linewidth=1.5, **style)

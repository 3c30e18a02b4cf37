"""Pictures of a fit, through arviz-plots."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.answers.shrinkage import raw_effects
from ranef.common.arguments import mapping, number, share
from ranef.common.figures import finish, panels, plot_rows, row_size, with_legend
from ranef.errors import DataError, nearest
from ranef.posterior.summary import effects_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.posterior.posterior import Posterior

__all__ = ["FitPlots", "figure_of"]

# Levels that are drawn with their names.
_NAMED = 60
# Bars of more levels, under points that stay visible.
_FAINT = {"color": "C0", "ecolor": "0.75"}


class FitPlots:
    """The plots of a fit: `fit.plot.trace()`, `.density()`, `.effects()`, `.shrinkage()`.

    Parameters
    ----------
    fit
        What to show.
    effects
        `Fit.effects` of it.
    """

    def __init__(self, fit: Posterior, effects: Callable[..., pd.DataFrame]) -> None:
        self._fit, self._tree, self._effects = fit, fit.draws, effects

    def _parameters(self) -> list[str]:
        """Every variable but the group effects."""
        effects = json.loads(self._tree.attrs["effects"])
        return [str(v) for v in self._tree["posterior"].data_vars if v not in effects]

    def _panels(self) -> int:
        """How many numbers the variables but group effects hold."""
        posterior = self._tree["posterior"]
        return sum(posterior[n].isel(chain=0, draw=0).size for n in self._parameters())

    def trace(self) -> Figure:
        """Draws in order, beside their density, for coefficients and standard deviations.

        Returns
        -------
        matplotlib.figure.Figure
        """
        import arviz_plots

        collection = arviz_plots.plot_trace_dist(
            self._tree,
            var_names=self._parameters(),
            # A row for each number, unless that would make a wall of them.
            compact=self._panels() > _NAMED,
            aes={"color": ["chain"]},
            visuals={"trace": {"alpha": 0.7, "width": 0.8}},
            backend="matplotlib",
        )
        figure = figure_of(collection)
        chains = self._tree["posterior"]["chain"].to_numpy()
        lines = figure.axes[0].lines
        return with_legend(
            figure, {f"chain {c}": line for c, line in zip(chains, lines, strict=False)}
        )

    def density(self, truth: Mapping[str, float] | None = None) -> Figure:
        """Posterior densities, with true values as red lines if they are known.

        Parameters
        ----------
        truth
            True value by parameter, e.g. `{"sigma": 1.7}`.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DataError
            If truth names an unknown parameter.
        """
        import arviz_plots

        names = self._parameters()
        written = json.loads(self._tree.attrs["names"])
        stored = {written.get(name, name): name for name in names}
        posterior = self._tree["posterior"]
        truths = {} if truth is None else mapping("truth", truth, "{'sigma': 1.7}")
        for name, value in truths.items():
            if name not in stored:
                raise DataError(f"truth names {name!r}, no parameter. {nearest(name, stored)}")
            if posterior[stored[name]].ndim == 2:
                number(f"truth[{name!r}]", value)
        rows = -(-self._panels() // 3)
        # arviz-plots rounds a point estimate before placing it, which moves 1527 to 1500.
        collection = arviz_plots.plot_dist(
            self._tree,
            var_names=names,
            ci_prob=0.95,
            backend="matplotlib",
            col_wrap=3,
            figure_kwargs={"figsize": (9.6, 2.4 * rows), "figsize_units": "inches"},
            visuals={"point_estimate": False, "point_estimate_text": False},
        )
        if truths:
            values = {stored[name]: value for name, value in truths.items()}
            arviz_plots.add_lines(collection, values=values, visuals={"ref_line": {"color": "red"}})
        figure = figure_of(collection)
        density, interval = figure.axes[0].lines[:2]
        keys = {"posterior density": density, "95% interval": interval}
        if truth:
            lines = (line for axis in figure.axes for line in axis.lines)
            keys["true value"] = next(line for line in lines if line.get_color() == "red")
        return with_legend(figure, keys)

    def effects(self, prob: float = 0.95) -> Figure:
        """Group effects in order of size, with the intervals of `Fit.effects`.

        Parameters
        ----------
        prob
            Probability of the intervals.

        Returns
        -------
        matplotlib.figure.Figure
            One panel for each effect; beyond 60 levels they are drawn without names.

        Raises
        ------
        DataError
            If prob is not between 0 and 1.
        """
        prob = share("prob", prob)
        written = json.loads(self._tree.attrs["names"])
        names = [written.get(n, n) for n in json.loads(self._tree.attrs["effects"])]
        tables = [self._effects(name, prob) for name in names]
        # Not sort_values: a grouping factor, which names the index, may be called "mean" too.
        tables = [t.iloc[np.argsort(t["mean"].to_numpy(), kind="stable")] for t in tables]
        levels = [[str(v) for v in t.index] for t in tables]
        sizes = [row_size(v, 0.22) if len(v) <= _NAMED else (6.4, 5.0) for v in levels]
        heights = [height for _, height in sizes]
        figure, axes = panels(
            len(tables),
            size=(max(width for width, _ in sizes), sum(heights) / len(tables)),
            height_ratios=heights,
        )
        for axis, name, table, own in zip(axes, names, tables, levels, strict=True):
            mean, named = table["mean"].to_numpy(), len(own) <= _NAMED
            lower, upper = (table.iloc[:, i].to_numpy() for i in (2, 3))
            style = {} if named else {"markersize": 2, "linewidth": 0.6, **_FAINT}
            axis.axvline(0, color="0.4", linewidth=0.8)
            plot_rows(axis, own, mean, lower, upper, **style)
            if not named:
                axis.set_yticks([])
            count = "" if named else f" ({len(own):,} levels)"
            axis.set_ylabel(f"{table.index.name}{count}")
            axis.set_xlabel(f"effect {name} (mean, {prob:.0%} interval)")
        return finish(figure)

    def shrinkage(self, name: str | None = None) -> Figure:
        """Each level's raw estimate against its posterior mean, with the line of no shrinkage.

        The raw estimate is least squares on the level's own rows, after fixed part and other
        factors' effects are taken off at their posterior means.

        Parameters
        ----------
        name
            One effect, such as `"Days|Subject"`; the first by default.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DataError
            If there is no such effect.
        """
        names = [n for term in self._fit.source.model.parameters.terms for n in term.names]
        name = names[0] if name is None else name
        table = effects_table(self._tree, name)
        raw = raw_effects(self._fit)[name]
        figure, (axis,) = panels(size=(5.4, 5.2))
        axis.axline((0, 0), slope=1, color="0.4", linewidth=1, label="no shrinkage")
        axis.axhline(0, color="0.4", linewidth=1, linestyle=":", label="complete pooling")
        style: dict[str, Any] = {"fmt": "o", "markersize": 4, "linewidth": 1}
        if len(table) > _NAMED:
            style |= {"markersize": 2, "linewidth": 0.6, **_FAINT}
        shown = f"one level of {table.index.name}"
        axis.errorbar(raw, table["mean"], yerr=table["sd"], label=shown, **style)
        axis.set_xlabel(f"{name}, raw estimate")
        axis.set_ylabel(f"{name}, posterior mean \u00b1 sd")
        return with_legend(figure)


def figure_of(collection: Any) -> Figure:
    """Take the matplotlib figure out of a plot collection; it shows where it is returned."""
    import matplotlib.pyplot as plt

    figure: Figure = collection.viz["figure"].item()
    # Without a layout engine, titles of one row lie on the tick labels of the row above.
    figure.set_layout_engine("constrained")
    plt.close(figure)
    return figure

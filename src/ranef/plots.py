"""Pictures of a fit, through arviz-plots."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import DataError, nearest
from ranef.summary import effects_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["FitPlots"]


class FitPlots:
    """The plots of a fit: `fit.plot.trace()`, `.density()`, `.effects()`.

    Parameters
    ----------
    tree
        Labelled draws.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def _parameters(self) -> list[str]:
        """Every variable but the group effects."""
        label = self._tree.attrs["group_label"]
        return [str(v) for v in self._tree["posterior"].data_vars if v != label]

    def trace(self) -> Figure:
        """Draws in order, beside their density, for coefficients and standard deviations.

        Returns
        -------
        matplotlib.figure.Figure
        """
        import arviz_plots

        made = arviz_plots.plot_trace_dist(
            self._tree, var_names=self._parameters(), backend="matplotlib"
        )
        return _figure(made)

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
        for name in truth or {}:
            if name not in stored:
                raise DataError(f"truth names {name!r}, no parameter. {nearest(name, stored)}")
        posterior = self._tree["posterior"]
        panels = sum(posterior[n].isel(chain=0, draw=0).size for n in names)
        rows = -(-panels // 3)
        # arviz-plots rounds a point estimate before placing it, which moves 1527 to 1500.
        made = arviz_plots.plot_dist(
            self._tree,
            var_names=names,
            ci_prob=0.95,
            backend="matplotlib",
            col_wrap=3,
            figure_kwargs={"figsize": (9.6, 2.4 * rows), "figsize_units": "inches"},
            visuals={"point_estimate": False, "point_estimate_text": False},
        )
        if truth:
            values = {stored[name]: value for name, value in truth.items()}
            arviz_plots.add_lines(made, values=values, visuals={"ref_line": {"color": "red"}})
        return _figure(made)

    def effects(self, prob: float = 0.95) -> Figure:
        """Group effects in order of size, with normal intervals from their exact moments.

        Parameters
        ----------
        prob
            Probability of the intervals.

        Returns
        -------
        matplotlib.figure.Figure
            Beyond 60 levels they are drawn without names.

        Raises
        ------
        ValueError
            If prob is not between 0 and 1.
        """
        if not 0 < prob < 1:
            raise ValueError(f"prob is {prob}; a number between 0 and 1 is expected, e.g. 0.95.")
        import matplotlib.pyplot as plt
        from scipy.stats import norm

        table = effects_table(self._tree).sort_values("mean")
        reach = norm.ppf((1 + prob) / 2) * table["sd"].to_numpy()
        at = np.arange(len(table))
        named = len(table) <= 60
        height = max(2.0, 0.22 * len(table) + 1.0) if named else 6.0
        made: tuple[Figure, Any] = plt.subplots(figsize=(6.4, height), layout="constrained")
        figure, axis = made
        style: dict[str, Any] = {"fmt": "o", "markersize": 4 if named else 1.5, "linewidth": 1}
        axis.errorbar(table["mean"], at, xerr=reach, **style)
        axis.axvline(0, color="0.6", linewidth=0.8)
        if named:
            axis.set_yticks(at, [str(v) for v in table.index])
        else:
            axis.set_yticks([])
        axis.set_ylabel(str(table.index.name))
        axis.set_xlabel(f"effect {self._tree.attrs['group_label']} ({prob:.0%} interval)")
        plt.close(figure)
        return figure


def _figure(made: Any) -> Figure:
    """Take the matplotlib figure out of a plot collection; it shows where it is returned."""
    import matplotlib.pyplot as plt

    figure: Figure = made.viz["figure"].item()
    plt.close(figure)
    return figure

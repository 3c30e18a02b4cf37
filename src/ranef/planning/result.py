"""The result of a plan: every design's chance of reaching the goal, the cheapest, its figure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import brief, is_number, whole_number
from ranef.common.figures import panels, with_legend
from ranef.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.common.array_types import Array
    from ranef.planning.criteria import Goal

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """The result of `ranef.plan`.

    Attributes
    ----------
    goal
        What was to be reached.
    measures
        The goal's number in every simulated experiment, shape (simulations,), by (groups,
        replicates).
    assurance
        Share of experiments that should reach it.
    costs
        Of a group, and of a measurement.
    truth
        The plausible values: numbers or frozen distributions.
    """

    goal: Goal
    measures: dict[tuple[int, int], Array]
    assurance: float
    costs: tuple[float, float]
    truth: dict[str, Any]

    def cost(self, groups: int, replicates: int) -> float:
        """Cost of a design."""
        groups, replicates = whole_number("groups", groups), whole_number("replicates", replicates)
        return groups * self.costs[0] + groups * replicates * self.costs[1]

    @cached_property
    def probability(self) -> dict[tuple[int, int], float]:
        """Estimated probability of reaching the goal, by (groups, replicates)."""
        return {d: float(self.goal.reached(v).mean()) for d, v in self.measures.items()}

    def _error(self, design: tuple[int, int]) -> float:
        """Standard error of a design's probability."""
        p = self.probability[design]
        return float(np.sqrt(p * (1 - p) / len(self.measures[design])))

    def attained(self, groups: int, replicates: int) -> float:
        """The threshold that a design reaches with probability `assurance`."""
        numbers = is_number(groups) and is_number(replicates)
        if not numbers or (groups, replicates) not in self.measures:
            raise DataError(
                f"A design of {brief(groups)} groups with {brief(replicates)} replicates was not "
                f"considered; (groups, replicates) is one of {', '.join(map(str, self.measures))}."
            )
        level = self.assurance if self.goal.falls else 1 - self.assurance
        return float(np.quantile(self.measures[groups, replicates], level))

    @cached_property
    def recommended(self) -> tuple[int, int] | None:
        """Groups and replicates of the cheapest design that reaches the goal; None if none does.

        Of two that cost the same, the one that is likelier to reach it.
        """
        reaching = [d for d, p in self.probability.items() if p >= self.assurance]
        return min(reaching, key=lambda d: (self.cost(*d), -self.probability[d], d), default=None)

    @property
    def recommendation(self) -> str:
        """One or two sentences: the cheapest design, or what the best one attains."""
        if (best := self.recommended) is not None:
            p = self.probability[best]
            return (
                f"{best[0]} groups with {best[1]} measurements each ({best[0] * best[1]} in all, "
                f"cost {self.cost(*best):g}) reach '{self.goal.text}' with probability {p:.2f} "
                f"(standard error {self._error(best):.2f}); the cheapest "
                f"design considered that reaches {self.assurance:g}."
            )
        largest = max(self.measures, key=lambda d: (d[0] * d[1], d))
        p = self.probability[largest]
        text = (
            f"No design considered reaches '{self.goal.text}' with probability "
            f"{self.assurance:g}. The largest, {largest[0]} groups with {largest[1]} measurements "
            f"each, reaches it with probability {p:.2f}; what it reaches with probability "
            f"{self.assurance:g} is '{self.goal.at(self.attained(*largest))}'. "
        )
        sigma, group_sd = self.truth["sigma"], self.truth.get("group_sd")
        if (
            self.goal.kind == "reliability"
            and isinstance(sigma, float)
            and isinstance(group_sd, float)
        ):
            signal = largest[1] * group_sd**2
            share = signal / (signal + sigma**2)
            if share <= self.goal.threshold:
                return text + (
                    f"At these values the mean of {largest[1]} measurements has reliability "
                    f"{share:.2f}, so more replicates are needed, not more groups."
                )
        return text + "Consider more groups or replicates, or a goal within reach."

    def table(self) -> pd.DataFrame:
        """Every design.

        Returns
        -------
        pandas.DataFrame
            Indexed by groups and replicates; columns measurements, cost, probability of reaching
            the goal, its standard error, `attained` (the threshold that is reached with probability
            `assurance`) and whether the design reaches the goal.
        """
        import pandas as pd

        rows = {
            d: {
                "measurements": d[0] * d[1],
                "cost": self.cost(*d),
                "probability": p,
                "se": self._error(d),
                "attained": self.attained(*d),
                "reaches": p >= self.assurance,
            }
            for d, p in self.probability.items()
        }
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index = pd.MultiIndex.from_tuples(rows, names=["groups", "replicates"])
        return table

    def plot(self) -> Figure:
        """Probability of reaching the goal against groups, a line for each number of replicates.

        Returns
        -------
        matplotlib.figure.Figure
            Bars are one standard error of the simulation; the recommended design is circled.
        """
        figure, (axis,) = panels(size=(6.4, 4.8))
        for m in sorted({m for _, m in self.measures}):
            x = sorted(g for g, n in self.measures if n == m)
            y = [self.probability[g, m] for g in x]
            error = [self._error((g, m)) for g in x]
            label = f"{m} measurement{'s' * (m != 1)} in each group"
            axis.errorbar(x, y, yerr=error, marker="o", markersize=4, linewidth=1, label=label)
        wanted = f"wanted: {self.assurance:g}"
        axis.axhline(self.assurance, color="0.4", linewidth=0.8, linestyle="--", label=wanted)
        if (best := self.recommended) is not None:
            axis.plot(
                best[0],
                self.probability[best],
                "o",
                markersize=13,
                markerfacecolor="none",
                color="k",
                linestyle="none",
                label="recommended",
            )
        axis.set_xscale("log")
        ticks = sorted({g for g, _ in self.measures})
        axis.set_xticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
        axis.set_ylim(-0.03, 1.03)
        axis.set_xlabel("number of groups")
        axis.set_ylabel(f"probability of '{self.goal.text}'")
        return with_legend(figure, title="bars: one standard error of the simulation")

    def __str__(self) -> str:
        """Probabilities of all designs and the recommendation."""
        import pandas as pd

        wide = pd.Series(self.probability).unstack().sort_index(axis=0).sort_index(axis=1)
        values = ", ".join(f"{k} {_text(v)}" for k, v in self.truth.items())
        return "\n".join(
            [
                f"Probability of '{self.goal.text}' at {values}",
                "",
                *wide.rename_axis("groups")
                .rename_axis("replicates", axis=1)
                .to_string(float_format="{:.2f}".format)
                .splitlines(),
                "",
                self.recommendation,
            ]
        )

    __repr__ = __str__


def _text(value: Any) -> str:
    """Write a plausible value."""
    if isinstance(value, float):
        return f"{value:g}"
    numbers = [f"{a:g}" for a in value.args] + [f"{k}={v:g}" for k, v in value.kwds.items()]
    return f"~ {value.dist.name}({', '.join(numbers)})"

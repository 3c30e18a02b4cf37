"""plan(): how many groups and replicates reach a goal, by simulation (mathematics.md, 5.8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import (
    brief,
    generator,
    is_number,
    mapping,
    number,
    positive,
    share,
    whole_number,
)
from ranef.common.figures import panels, with_legend
from ranef.common.progress import track
from ranef.errors import DataError, PriorError, nearest
from ranef.planning.balanced import (
    balanced_model,
    balanced_posterior,
    simulate_means,
    simulate_slopes,
    spread_of_x,
)
from ranef.planning.criteria import Goal, parse_goal
from ranef.priors import parse_prior, scale_prior

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.common.array_types import Array, Seed

__all__ = ["Plan", "plan"]

# Simulations that a process takes at once.
_PART = 50
_PRIORS = ("sigma", "group_sd", "slope_sd")


def plan(
    goal: Goal | str,
    *,
    sigma: Any = 1.0,
    group_sd: Any = 0.5,
    slope: Any = None,
    slope_sd: Any = None,
    groups: Sequence[int] = (5, 10, 20, 40),
    replicates: Sequence[int] = (2, 3, 5, 10),
    assurance: float = 0.8,
    simulations: int = 200,
    cost_per_group: float = 0.0,
    cost_per_measurement: float = 1.0,
    priors: Mapping[str, Any] | None = None,
    processes: int = 1,
    seed: Seed = None,
    progress: bool = True,
) -> Plan:
    """Find how many groups, and how many measurements of each, reach a goal.

    Experiments are simulated at plausible values, each is fitted, and a design's assurance is the
    share of experiments whose posterior reaches the goal.

    Parameters
    ----------
    goal
        Text such as `"icc width < 0.2"` (see `ranef.goals.KNOWN`), or from `ranef.goals`:
        `icc_width(0.2)`, `mean_width(5)`, `sd_within(0.25)`, `slope_sign(0.9)`, `slope_width(5)`,
        `reliability(0.8)`.
    sigma, group_sd
        Plausible residual SD and SD between groups: numbers, or frozen `scipy.stats` distributions
        (text works too, `"lognorm(0.3, scale=2)"`), from which each experiment draws its own.
    slope, slope_sd
        For goals about a slope: plausible mean slope, and SD of slopes between groups, None where
        all groups share one slope. The covariate is evenly spaced from 0 to 1 over each group's
        replicates, so a slope is the change over its whole range.
    groups, replicates
        Numbers of groups and of measurements in each group to consider, at least 2 each.
    assurance
        Share of experiments that should reach the goal.
    simulations
        Experiments for each design. The standard error of an assurance near 0.8 is 0.028 with 200.
    cost_per_group, cost_per_measurement
        The recommended design is the cheapest that reaches the goal; by default the one with
        fewest measurements.
    priors
        Priors of the analysis on `"sigma"`, `"group_sd"` and `"slope_sd"`. Default: half-t with 3
        degrees of freedom and scale the SD of the experiment's data.
    processes
        How many to run side by side; the result does not depend on it.
    seed
        Integer or `numpy.random.Generator`.
    progress
        Show a bar if it takes more than a second.

    Returns
    -------
    Plan

    Raises
    ------
    DataError
        If the goal is unknown (the known ones are listed) or a number means nothing.
    PriorError
        If a prior does.

    Notes
    -----
    Balanced experiments are drawn as their sufficient statistics, group means and the squares
    within, and their posterior is integrated on the engine's marginal density, without draws. Where
    slopes differ between groups, the analysis is that of the slopes within groups: groups' own
    means say nothing of slopes whose covariate is balanced, beyond a little on the residual SD.

    Examples
    --------
    >>> import ranef as rf
    >>> made = rf.plan("icc width < 0.4", group_sd=1, groups=(10, 40), replicates=(2, 4),
    ...                simulations=50, seed=1)
    >>> made.recommended
    (40, 4)
    """
    wanted = parse_goal(goal)
    truths = _truths(wanted, sigma=sigma, group_sd=group_sd, slope=slope, slope_sd=slope_sd)
    sizes = _numbers("groups", groups), _numbers("replicates", replicates)
    designs = [(g, m) for g in sizes[0] for m in sizes[1]]
    _check_settings(assurance, simulations, cost_per_group, cost_per_measurement, processes)
    entropy = int(generator(seed).integers(2**63))
    job = _Job(wanted, truths, _check_priors(priors), entropy)
    parts = [
        (g, m, start, min(start + _PART, simulations))
        for g, m in designs
        for start in range(0, simulations, _PART)
    ]
    measures: dict[tuple[int, int], list[Array]] = {d: [] for d in designs}
    results = _run(job, parts, processes)
    for (g, m, *_), values in zip(track(parts, "Planning", show=progress), results, strict=True):
        measures[g, m].append(values)
    return Plan(
        wanted,
        {d: np.concatenate(values) for d, values in measures.items()},
        float(assurance),
        (float(cost_per_group), float(cost_per_measurement)),
        truths,
    )


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

    def attained(self, groups: int, replicates: int) -> float:
        """The threshold that a design reaches with probability `assurance`."""
        level = self.assurance if self.goal.falls else 1 - self.assurance
        return float(np.quantile(self._measured(groups, replicates), level))

    def _measured(self, groups: int, replicates: int) -> Array:
        """What the goal measured in the experiments of a design."""
        numbers = is_number(groups) and is_number(replicates)
        if not numbers or (groups, replicates) not in self.measures:
            raise DataError(
                f"A design of {brief(groups)} groups with {brief(replicates)} replicates was not "
                f"considered; (groups, replicates) is one of {', '.join(map(str, self.measures))}."
            )
        return self.measures[groups, replicates]

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
                f"(standard error {_error(p, len(self.measures[best])):.2f}); the cheapest "
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
                "se": _error(p, len(self.measures[d])),
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
            error = [_error(p, len(self.measures[g, m])) for g, p in zip(x, y, strict=True)]
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
        told = ", ".join(f"{k} {_text(v)}" for k, v in self.truth.items())
        return "\n".join(
            [
                f"Probability of '{self.goal.text}' at {told}",
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


# -- simulation ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """What all simulations share."""

    goal: Goal
    truths: dict[str, Any]
    priors: dict[str, Any]
    entropy: int


def _run(job: _Job, parts: Sequence[tuple[int, int, int, int]], processes: int) -> Iterator[Array]:
    """Simulate the parts in order, here or in processes of their own."""
    if processes == 1:
        for part in parts:
            yield _simulate(job, part)
        return
    # Processes started afresh: a copy of this one would share the state of its threads.
    pool = ProcessPoolExecutor(min(processes, len(parts)), mp_context=get_context("spawn"))
    try:
        yield from pool.map(_simulate, [job] * len(parts), parts)
    except BrokenProcessPool:
        raise DataError(
            "The other processes ended at once. In a script, put the call below "
            "`if __name__ == '__main__':`, or use processes=1."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _simulate(job: _Job, part: tuple[int, int, int, int]) -> Array:
    """Measure the goal in some of a design's experiments; each has random numbers of its own."""
    groups, replicates, start, stop = part
    out = np.empty(stop - start)
    for i in range(start, stop):
        sequence = np.random.SeedSequence(job.entropy, spawn_key=(groups, replicates, i))
        out[i - start] = _one(job, groups, replicates, np.random.default_rng(sequence))
    return out


def _one(job: _Job, groups: int, replicates: int, rng: np.random.Generator) -> float:
    """Draw an experiment, fit it and measure the goal."""
    truth = {
        name: value if isinstance(value, float) else float(value.rvs(random_state=rng))
        for name, value in job.truths.items()
    }
    priors = {k: v for k, v in job.priors.items() if k in ("sigma", "group_sd")}
    if "slope_sd" in truth:
        data = simulate_slopes(groups, replicates, truth, rng)
        if "slope_sd" in job.priors:
            priors["group_sd"] = job.priors["slope_sd"]
        else:
            priors.pop("group_sd", None)
        model = balanced_model(data, priors)
        return job.goal.measure(balanced_posterior(data, model, replicates, truth["slope"]))
    shared = job.goal.about_slope
    data = simulate_means(groups, replicates, truth, rng, int(shared))
    posterior = balanced_posterior(data, balanced_model(data, priors), replicates, 0.0)
    if shared:
        # Given the residual SD, a slope that all groups share is N(estimate, sigma^2 / (G Sxx)).
        root = np.sqrt(groups * spread_of_x(replicates))
        estimate = truth["slope"] + truth["sigma"] / root * rng.standard_normal()
        sd = np.exp(posterior.log_sigma) / root
        posterior = replace(posterior, best=float(estimate), sd=sd, truth=truth["slope"])
    return job.goal.measure(posterior)


# -- arguments -----------------------------------------------------------------------------------


def _truths(goal: Goal, **given: Any) -> dict[str, Any]:
    """Read the plausible values; say which the goal needs, or has no use for."""
    if goal.about_slope:
        if given["slope"] is None:
            raise DataError(
                f"Goal '{goal.text}' is about a slope; give slope=, its plausible size over the "
                "covariate's whole range."
            )
        if goal.kind == "slope sd" and given["slope_sd"] is None:
            raise DataError(f"Goal '{goal.text}' needs slope_sd=, a plausible value.")
    else:
        for name in ("slope", "slope_sd"):
            if given[name] is not None:
                raise DataError(
                    f"{name} is {brief(given[name])}, but goal '{goal.text}' is not about a slope; "
                    "leave it out."
                )
    # A slope and its SD may be left out; the other two are in every design.
    made = {k: _truth(k, v) for k, v in given.items() if v is not None or not k.startswith("slope")}
    if goal.kind == "slope sign" and made["slope"] == 0.0:
        raise DataError("slope is 0, which has no sign to be found; give its plausible size.")
    if "slope_sd" in made:
        del made["group_sd"]
    return made


def _truth(name: str, value: Any) -> Any:
    """Read one plausible value: a number or a distribution."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                value = parse_prior(value)
            except PriorError as error:
                raise PriorError(f"{name}: {error}") from None
    if is_number(value):
        if name == "sigma":
            return positive(name, value)
        return number(name, value, -np.inf if name == "slope" else 0)
    if not hasattr(value, "rvs") or not hasattr(value, "support"):
        raise DataError(
            f"{name} is {brief(value)}; a number or a frozen scipy.stats distribution is expected."
        )
    if name != "slope" and value.support()[0] < 0:
        raise DataError(
            f"{name} has a distribution that reaches below zero; one on positive numbers is "
            "expected, e.g. scipy.stats.lognorm(0.3, scale=1)."
        )
    return value


def _numbers(name: str, given: Any) -> tuple[int, ...]:
    """Read the numbers of groups or replicates to consider."""
    several = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
    values = list(given) if several else [given]
    if not values:
        raise DataError(f"{name} is empty; whole numbers from 2 are expected, e.g. (5, 10, 20).")
    names = [f"{name}[{i}]" if several else name for i in range(len(values))]
    return tuple(sorted({whole_number(n, v, 2) for n, v in zip(names, values, strict=True)}))


def _check_settings(
    assurance: Any, simulations: Any, per_group: Any, per_measurement: Any, processes: Any
) -> None:
    """Refuse plain arguments that mean nothing."""
    share("assurance", assurance, 0.8)
    whole_number("simulations", simulations)
    whole_number("processes", processes)
    number("cost_per_group", per_group, 0)
    number("cost_per_measurement", per_measurement, 0)


def _check_priors(priors: Any) -> dict[str, Any]:
    """Read the priors of the analysis."""
    if priors is None:
        return {}
    for name in mapping("priors", priors, "{'group_sd': 'half_t(1)'}", error=PriorError):
        if name not in _PRIORS:
            raise PriorError(
                f"A prior was given for {name!r}, which a plan does not have. "
                f"{nearest(name, _PRIORS)}"
            )
    return {name: scale_prior(prior, name) for name, prior in priors.items()}


def _text(value: Any) -> str:
    """Write a plausible value."""
    if isinstance(value, float):
        return f"{value:g}"
    numbers = [f"{a:g}" for a in value.args] + [f"{k}={v:g}" for k, v in value.kwds.items()]
    return f"~ {value.dist.name}({', '.join(numbers)})"


def _error(p: float, n: int) -> float:
    """Standard error of a share of n."""
    return float(np.sqrt(p * (1 - p) / n))

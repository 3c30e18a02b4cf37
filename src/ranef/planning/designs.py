"""plan(): how many groups and replicates reach a goal, by simulation (mathematics.md, 5.8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from ranef.common.processes import in_processes
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
from ranef.planning.result import Plan
from ranef.priors import parse_prior, scale_prior

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ranef.common.array_types import Array, Seed

__all__ = ["plan"]

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
    >>> design = rf.plan("icc width < 0.4", group_sd=1, groups=(10, 40), replicates=(2, 4),
    ...                  simulations=50, seed=1)
    >>> design.recommended
    (40, 4)
    """
    goal = parse_goal(goal)
    truth = _truths(goal, sigma=sigma, group_sd=group_sd, slope=slope, slope_sd=slope_sd)
    sizes = _numbers("groups", groups), _numbers("replicates", replicates)
    assurance = share("assurance", assurance, 0.8)
    simulations = whole_number("simulations", simulations)
    processes = whole_number("processes", processes)
    costs = (
        number("cost_per_group", cost_per_group, 0),
        number("cost_per_measurement", cost_per_measurement, 0),
    )
    entropy = int(generator(seed).integers(2**63))
    job = _Job(goal, truth, _check_priors(priors), entropy)
    measures = {(g, m): np.empty(simulations) for g in sizes[0] for m in sizes[1]}
    parts = [
        (*design, start, min(start + _PART, simulations))
        for design in measures
        for start in range(0, simulations, _PART)
    ]
    results = in_processes(partial(_simulate, job), parts, processes)
    for _ in track(parts, "Planning", show=progress):
        (g, m, start, stop), values = next(results)
        measures[g, m][start:stop] = values
    return Plan(goal, measures, assurance, costs, truth)


# -- simulation ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """What all simulations share."""

    goal: Goal
    truths: dict[str, Any]
    priors: dict[str, Any]
    entropy: int


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
    own = "slope_sd" in truth
    names = {"sigma": "sigma", "group_sd": "slope_sd" if own else "group_sd"}
    priors = {k: job.priors[name] for k, name in names.items() if name in job.priors}
    shared = job.goal.about_slope and not own
    data = (
        simulate_slopes(groups, replicates, truth, rng)
        if own
        else simulate_means(groups, replicates, truth, rng, int(shared))
    )
    slope = truth.get("slope", 0.0)
    posterior = balanced_posterior(data, balanced_model(data, priors), replicates, slope)
    if shared:
        # Given the residual SD, a slope that all groups share is N(estimate, sigma^2 / (G Sxx)).
        root = np.sqrt(groups * spread_of_x(replicates))
        estimate = float(slope + truth["sigma"] / root * rng.standard_normal())
        posterior = replace(posterior, best=estimate, sd=np.exp(posterior.log_sigma) / root)
    return job.goal.measure(posterior)


# -- arguments -----------------------------------------------------------------------------------


def _truths(goal: Goal, **plausible: Any) -> dict[str, Any]:
    """Read the plausible values; say which the goal needs, or has no use for."""
    if goal.about_slope:
        if plausible["slope"] is None:
            raise DataError(
                f"Goal '{goal.text}' is about a slope; give slope=, its plausible size over the "
                "covariate's whole range."
            )
        if goal.kind == "slope sd" and plausible["slope_sd"] is None:
            raise DataError(f"Goal '{goal.text}' needs slope_sd=, a plausible value.")
    else:
        for name, value in plausible.items():
            if name.startswith("slope") and value is not None:
                raise DataError(
                    f"{name} is {brief(value)}, but goal '{goal.text}' is not about a slope; "
                    "leave it out."
                )
    # A slope and its SD may be left out; the other two are in every design.
    truths = {
        name: _truth(name, value)
        for name, value in plausible.items()
        if value is not None or not name.startswith("slope")
    }
    if goal.kind == "slope sign" and truths["slope"] == 0.0:
        raise DataError("slope is 0, which has no sign to be found; give its plausible size.")
    if "slope_sd" in truths:
        del truths["group_sd"]
    return truths


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


def _numbers(name: str, considered: Any) -> tuple[int, ...]:
    """Read the numbers of groups or replicates to consider."""
    if isinstance(considered, np.ndarray):  # of no dimension it says that it can be gone through
        considered = considered.tolist()
    several = isinstance(considered, Iterable) and not isinstance(considered, (str, bytes))
    values = list(considered) if several else [considered]
    if not values:
        raise DataError(f"{name} is empty; whole numbers from 2 are expected, e.g. (5, 10, 20).")
    names = [f"{name}[{i}]" if several else name for i in range(len(values))]
    return tuple(sorted({whole_number(n, v, 2) for n, v in zip(names, values, strict=True)}))


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

"""Level 2: a sweep or a step that only leaves its distribution invariant, before against after.

A kernel K leaves p invariant if s ~ p implies K s ~ p. States from a chain whose conditionals are
already checked stand for p, and each is compared with its own image: differences of indicators
have mean zero, and the spread of batch means gives their error whatever the autocorrelation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.sampler import GibbsSampler, State
from ranef.gibbs_check.simulation.line_cdf import tabulate
from ranef.gibbs_check.simulation.pit import coordinates_of
from ranef.gibbs_check.states import structure

__all__ = ["InvarianceResult", "before_after", "functionals", "line_step"]

_LOOKS = (500, 1500, 4500)
_BATCHES = 25
_QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class InvarianceResult:
    """Outcome of a before-and-after comparison.

    Attributes
    ----------
    p_value
        Smallest p-value over functionals and looks, times their number.
    steps
        States compared.
    where
        Functional that differs most.
    """

    p_value: float
    steps: int
    where: str


def functionals(sampler: GibbsSampler, names: list[str]) -> Callable[[State], dict[str, float]]:
    """Summaries of a state: values, means, mean squares, and the pull of log_joint on each block.

    The pull is the derivative of the log joint density as a block moves, all elements in proportion
    (or by the same step, where some are not positive). It ties the block to all that it depends on;
    a stale value leaves every marginal distribution as it was and shows only there.
    """

    def pull(state: State, name: str, here: float) -> float:
        value = sampler.value(state, name)
        step = 1e-5 * (value if (value > 0).all() else np.ones_like(value))
        return (sampler.joint_at(state, name, value + step) - here) / 1e-5

    def summarise(state: State) -> dict[str, float]:
        here = sampler.joint(state)
        out = {"log joint": here}
        for name in names:
            value = sampler.value(state, name)
            if value.size == 1:
                out[name] = float(value[0])
            else:
                out[f"mean({name})"] = float(value.mean())
                out[f"mean({name}²)"] = float((value**2).mean())
                out[f"{name}[0]"], out[f"{name}[-1]"] = float(value[0]), float(value[-1])
            if name not in sampler.discrete and not structure(value, np.shape(state[name])):
                out[f"{name} given the rest"] = pull(state, name, here)
        return out

    return summarise


def before_after(
    reference: Callable[[State], State],
    step: Callable[[State], State],
    start: State,
    summarise: Callable[[State], dict[str, float]],
    alpha: float,
    looks: tuple[int, ...] = _LOOKS,
) -> InvarianceResult:
    """Compare states of a reference chain with their images under one step.

    Parameters
    ----------
    reference
        One sweep that leaves the target invariant.
    step
        What is tested.
    start
        First state of the chain; the length of the first look is burn-in.
    summarise
        Functionals to compare.
    alpha
        Probability that a right step fails, over all functionals and looks.
    looks
        Numbers of states after which the test looks.

    Returns
    -------
    InvarianceResult
    """
    from scipy.stats import t as student

    state, burn_in = start, []
    for _ in range(looks[0]):
        state = reference(state)
        burn_in.append(list(summarise(state).values()))
    names = list(summarise(state))
    cuts = np.quantile(np.array(burn_in)[len(burn_in) // 2 :], _QUANTILES, axis=0)
    differences: list[Array] = []
    tests = cuts.size * len(looks)
    best, where = 1.0, ""
    for look in looks:
        while len(differences) < look:
            state = reference(state)
            before, after = (np.array(list(summarise(s).values())) for s in (state, step(state)))
            differences.append((after > cuts) * 1.0 - (before > cuts))
        D = np.array(differences)
        D = D[: len(D) // _BATCHES * _BATCHES].reshape(_BATCHES, -1, *cuts.shape).mean(axis=1)
        error = D.std(axis=0, ddof=1) / np.sqrt(_BATCHES)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.where(error > 0, D.mean(axis=0) / error, 0.0)
        p = 2 * tests * student.sf(np.abs(score), _BATCHES - 1)
        i = np.unravel_index(int(np.argmin(p)), p.shape)
        if p[i] < best:
            best, where = float(p[i]), names[i[1]]
        if best < alpha:
            break
    return InvarianceResult(best, len(differences), where)


def line_step(
    sampler: GibbsSampler, name: str, states: list[State], rng: np.random.Generator
) -> Callable[[State], State]:
    """Exact Gibbs sweep over the elements of one block, each drawn by quadrature."""
    coordinates = coordinates_of(sampler, states, name)
    scale = np.ones(sampler.value(states[0], name).size)

    def sweep(state: State) -> State:
        t = np.array(coordinates.inside(sampler.value(state, name)))
        for i in range(t.size):

            def log_density(x: float, i: int = i) -> float:
                moved = t.copy()
                moved[i] = x
                value = sampler.joint_at(state, name, coordinates.outside(moved))
                return value + coordinates.log_jacobian(moved)

            line = tabulate(log_density, float(t[i]), float(scale[i]), 65)
            scale[i] = (line.nodes[-1] - line.nodes[0]) / 16
            t[i] = line.draw(rng)
        return sampler.place(state, name, coordinates.outside(t))

    return sweep

"""What is wrong with an update, in the user's terms: parameters of q against those of the joint."""

from __future__ import annotations

import numpy as np

from ranef.gibbs_check.explain.elements import by_element
from ranef.gibbs_check.explain.matrices import constrained, multivariate
from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.update_map import Map, NotReplayable, read_map
from ranef.gibbs_check.sampler import GibbsSampler, State, UpdateError
from ranef.gibbs_check.states import structure

__all__ = ["diagnose"]

# Blocks beyond this size are diagnosed element by element only: their Hessian takes m² calls.
_DENSE = 12


def diagnose(sampler: GibbsSampler, name: str, states: list[State], recorder: Recorder) -> str:
    """Describe how an update differs from the full conditional.

    Parameters
    ----------
    sampler, name
        What is checked.
    states
        Asymmetric states, some dozens, to recognise formulas from.
    recorder
        Generator to record with.

    Returns
    -------
    str
        One or two sentences; empty if nothing more can be said than that they differ.
    """
    try:
        maps = _maps(sampler, name, states, recorder)
    except (NotReplayable, UpdateError):
        return ""
    states = [s for s, _ in maps]
    told: list[str] = []
    made = maps[0][1]
    shape = structure(sampler.value(states[0], name), np.shape(sampler.state[name]))
    if name not in sampler.discrete:
        if shape:
            told += constrained(sampler, name, maps[0], shape, recorder)
        elif 0 < len(made.point) < len(made.value):
            number_word = "number" if len(made.point) == 1 else "numbers"
            told.append(
                f"draws {len(made.point)} random {number_word} for {len(made.value)} values"
            )
        elif made.diagonal:
            told += by_element(sampler, name, maps)
        elif made.affine and len(made.point) == len(made.value) <= _DENSE:
            told += multivariate(sampler, name, maps)
    told += _dependence(sampler, name, maps)
    return "; it ".join(told)


def _maps(
    sampler: GibbsSampler, name: str, states: list[State], recorder: Recorder
) -> list[tuple[State, Map]]:
    made: list[tuple[State, Map]] = []
    for i, state in enumerate(states):
        other = sampler.value(states[i - 1], name)
        known = made[0][1] if made else None
        made.append((state, read_map(sampler, name, state, other, recorder, known)))
    return made


# -- which variables are used


def _dependence(sampler: GibbsSampler, name: str, maps: list[tuple[State, Map]]) -> list[str]:
    """Variables that the conditional depends on and the update ignores, or the other way round."""
    (state, made), (second, _) = maps[:2]
    told = []
    v1, v2 = made.value, sampler.value(second, name)
    base = sampler.joint_at(state, name, v1) - sampler.joint_at(state, name, v2)
    for other in state:
        if other == name or np.array_equal(state[other], second[other]):
            continue
        moved = {**state, other: second[other]}
        now = sampler.joint_at(moved, name, v1) - sampler.joint_at(moved, name, v2)
        if not np.isfinite(now):
            continue
        implied = abs(now - base) > 1e-8 * (1 + abs(now) + abs(base))
        try:
            used = _reacts(sampler, name, made, moved)
        except (NotReplayable, UpdateError):
            continue
        if implied and not used:
            told.append(f"ignores {other!r}, on which log_joint says it depends")
        if used and not implied:
            told.append(f"uses {other!r}, on which log_joint says it does not depend")
    return told


def _reacts(sampler: GibbsSampler, name: str, made: Map, moved: State) -> bool:
    """Whether the same random numbers give another value, or another density, at a moved state."""
    recorder = Recorder(np.random.default_rng(0))
    recorder.replay(made.point, made.script)
    value = sampler.draw(name, moved, recorder)
    density = recorder.log_density()
    return not np.array_equal(value, made.value) or density != made.log_density(made.point)

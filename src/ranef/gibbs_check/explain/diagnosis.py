"""What is wrong with an update, in the user's terms: parameters of q against those of the joint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ranef.gibbs_check.explain.elements import by_element
from ranef.gibbs_check.explain.matrices import constrained, multivariate
from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.update_map import NotReplayable, UpdateMap, read_map
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
    maps: list[UpdateMap] = []
    try:
        for i, state in enumerate(states):
            other, known = sampler.value(states[i - 1], name), maps[0] if maps else None
            maps.append(read_map(sampler, name, state, other, recorder, known))
    except (NotReplayable, UpdateError):
        return ""
    return "; it ".join(_parameters(maps) + _dependence(maps))


def _parameters(maps: list[UpdateMap]) -> list[str]:
    """Parameters of the density that differ, where its family is known."""
    first = maps[0]
    k, m = len(first.point), len(first.value)
    if first.discrete:
        return []
    if structure(first.own, np.shape(first.state[first.name])):
        return constrained(first)
    if k < m:
        return [f"draws {k} random {'number' if k == 1 else 'numbers'} for {m} values"]
    if first.diagonal:
        return by_element(maps)
    return multivariate(maps) if first.affine and m <= _DENSE else []


def _dependence(maps: list[UpdateMap]) -> list[str]:
    """Variables that the conditional depends on and the update ignores, or the other way round."""
    first, second = maps[:2]
    sampler, name, state = first.sampler, first.name, first.state
    found = []
    v1, v2 = first.value, second.own
    base = first.log_joint(v1) - first.log_joint(v2)
    for other in state:
        if other == name or np.array_equal(state[other], second.state[other]):
            continue
        moved = {**state, other: second.state[other]}
        now = sampler.joint_at(moved, name, v1) - sampler.joint_at(moved, name, v2)
        if not np.isfinite(now):
            continue
        implied = abs(now - base) > 1e-8 * (1 + abs(now) + abs(base))
        try:
            used = _reacts(first, moved)
        except (NotReplayable, UpdateError):
            continue
        if implied and not used:
            found.append(f"ignores {other!r}, on which log_joint says it depends")
        if used and not implied:
            found.append(f"uses {other!r}, on which log_joint says it does not depend")
    return found


def _reacts(update: UpdateMap, moved: State) -> bool:
    """Whether the same random numbers give another value, or another density, at a moved state."""
    here = update.log_density(update.point)
    there = replace(update, state=moved)
    value = there.at(update.point)
    return not np.array_equal(value, update.value) or update.recorder.log_density() != here

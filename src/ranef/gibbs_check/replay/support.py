"""Whether an update draws all that log_joint allows, and nothing else: replay at chosen numbers.

Ratios of densities at random draws say nothing of values that are never drawn, and little of those
that are drawn seldom. Replay can ask for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaincinv, gammaincinv, logit, ndtri, stdtrit

from ranef.gibbs_check.recorder import Diverged
from ranef.gibbs_check.replay.update_map import jacobian
from ranef.gibbs_check.sampler import UpdateError
from ranef.gibbs_check.states import structure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ranef.common.array_types import Array
    from ranef.gibbs_check.recorder import Entry, Recorder
    from ranef.gibbs_check.replay.update_map import Map
    from ranef.gibbs_check.sampler import GibbsSampler, State

__all__ = ["off_surface", "outside", "wrong_outcomes"]

# Tail probability at which each random number is tried, and random numbers tried of a block.
_TAIL = 5e-4
_MOST = 12
# Outcomes of one discrete number that are tried, and values from which on neighbours are looked at.
_OUTCOMES = 64
_WIDE = 5
# Nats below the value drawn from which on nothing counts.
_DEPTH = 20.0


def outside(sampler: GibbsSampler, name: str, state: State, made: Map) -> bool:
    """Whether an update draws where log_joint is not finite, with each number in its tails.

    Parameters
    ----------
    sampler, name, state
        What is checked, and where.
    made
        The update at this state as a function of its random numbers.

    Returns
    -------
    bool
    """
    if name in sampler.discrete:
        return False
    ends = np.array([_tails(e, i) for e in made.script for i in range(e.values.size)])
    points = list(ends.T)
    if not made.diagonal or any(_is_outside(sampler, name, state, made, p) for p in points):
        k = min(len(ends), _MOST)
        moved = [np.where(np.arange(len(ends)) == i, ends.T, made.point) for i in range(k)]
        points = list(np.concatenate(moved))
    else:
        return False
    return any(_is_outside(sampler, name, state, made, point) for point in points)


def _is_outside(sampler: GibbsSampler, name: str, state: State, made: Map, point: Array) -> bool:
    """Whether log_joint is not finite at what given random numbers make."""
    try:
        value = made.at(point)
    except UpdateError:
        return False
    # What underflows to zero is no value outside the support.
    return bool((value != 0).all()) and sampler.joint_at(state, name, value) == -np.inf


def off_surface(sampler: GibbsSampler, name: str, states: list[State], maps: list[Map]) -> str:
    """Say whether fewer random numbers than values tie values that log_joint leaves free.

    A covariance matrix is symmetric, probabilities sum to one, effects may sum to zero and some
    elements stay where they are for good. Else a noise term has been forgotten.

    Parameters
    ----------
    sampler, name
        What is checked.
    states, maps
        Where, the user's own state first, and the update there as a function of its random numbers.

    Returns
    -------
    str
        For people; empty where nothing is wrong.
    """
    last, k = maps[-1], len(maps[-1].point)
    if name in sampler.discrete or k >= len(last.value):
        return ""
    J = jacobian(last.at, last.point, affine=last.affine)
    start, drawn = sampler.value(states[0], name), np.array([m.value for m in maps])
    size = np.abs(drawn).max()
    fixed = (np.abs(J).max(axis=1) <= 1e-12 * np.abs(J).max()) & (
        np.abs(drawn - start).max(axis=0) <= 1e-12 * size
    )
    free, shape = ~fixed, np.shape(states[0][name])
    if all(structure(v, shape) == "symmetric" for v in drawn):
        free &= np.tril(np.ones(shape, dtype=bool)).ravel()
    sums = drawn.sum(axis=1)
    tied = int(np.abs(sums - start.sum()).max() <= 1e-9 * size)
    if free.sum() <= k + tied:
        return ""
    base = np.linalg.qr(J)[0]
    away = np.where(free, np.random.default_rng(1).standard_normal(len(free)), 0.0)
    away -= base @ (base.T @ away)
    for state, made in zip(states, maps, strict=True):
        if sampler.joint_at(state, name, made.value + 1e-4 * size * away) == -np.inf:
            return ""
    return (
        f"draws {k} random number{'s' if k > 1 else ''} for {len(last.value)} values: some of them "
        "are tied to each other or to the rest of the state, in log_joint they are free"
    )


def wrong_outcomes(
    sampler: GibbsSampler, name: str, state: State, made: Map, recorder: Recorder
) -> str:
    """Go through the outcomes of each discrete random number and compare with log_joint.

    Parameters
    ----------
    sampler, name, state
        What is checked, and where.
    made
        The update at this state.
    recorder
        The generator that recorded it.

    Returns
    -------
    str
        For people; empty where nothing is wrong.
    """
    if name not in sampler.discrete:
        return ""
    made.at(made.point)
    base_q, base_p = recorder.log_density(), sampler.joint_at(state, name, made.value)
    tried = 0
    for e, entry in enumerate(made.script):
        for i in range(entry.values.size):
            tried += 1
            if tried > _MOST:
                return ""
            told = _outcomes_of(sampler, name, state, made, recorder, (e, i), (base_q, base_p))
            if told:
                return told
    return ""


def _outcomes_of(
    sampler: GibbsSampler,
    name: str,
    state: State,
    made: Map,
    recorder: Recorder,
    place: tuple[int, int],
    base: tuple[float, float],
) -> str:
    """Compare all outcomes of one discrete random number."""
    e, i = place
    reached: set[int] = set()
    element = -1
    for outcome in _possible(made.script[e], i):
        script = list(made.script)
        values = script[e].values.copy()
        values.reshape(-1)[i] = outcome
        script[e] = script[e]._replace(values=values)
        recorder.replay(made.point, script)
        try:
            value = sampler.draw(name, state, recorder)
            with np.errstate(divide="ignore"):
                log_q = recorder.log_density() - base[0]
        except (UpdateError, Diverged):
            continue
        moved = np.flatnonzero(value != made.value)
        if len(moved) > 1:
            return ""
        if len(moved) == 1:
            element = int(moved[0])
            if log_q > -np.inf:
                reached.add(int(value[element]))
        log_p = sampler.joint_at(state, name, value) - base[1]
        where = f"{value[element]:g}" if len(moved) else ""
        if log_q == -np.inf:
            if len(moved) and log_p > -_DEPTH:
                return f"never draws {where}, which log_joint allows"
            continue
        if max(log_q, log_p) > -_DEPTH and abs(log_q - log_p) > 1e-6 * (1 + abs(log_q)):
            if log_p == -np.inf:
                return f"draws {where}, where log_joint is not finite"
            share = np.exp(np.clip([log_q, log_p], -700, 700))
            return (
                f"draws {where} {share[0]:.3g} times as often as {made.value[element]:g}; "
                f"log_joint implies {share[1]:.3g} times"
            )
    return _beyond(sampler, name, state, made, element, reached, made.script[e].kind)


def _beyond(
    sampler: GibbsSampler,
    name: str,
    state: State,
    made: Map,
    element: int,
    reached: set[int],
    kind: str,
) -> str:
    """Look at the neighbours of a bounded range of values."""
    if kind not in ("categorical", "binomial") or element < 0:
        return ""
    reached = reached | {int(made.value[element])}
    top = sampler.joint_at(state, name, made.value)
    # What the user's own state holds is in the support for certain; what comes next to a few
    # values, beside an indicator of 0 and 1, say, may be none of log_joint's business.
    near = {int(v) for v in sampler.value(sampler.state, name)}
    if len(reached) >= _WIDE:
        near |= {min(reached) - 1, max(reached) + 1} | set(range(min(reached), max(reached)))
    # Below zero an index would count from the end.
    for candidate in sorted(c for c in near - reached if c >= 0 or min(reached) < 0):
        value = made.value.copy()
        value[element] = candidate
        if sampler.joint_at(state, name, value) > top - _DEPTH:
            return f"never draws {candidate}, where log_joint goes on"
    return ""


def _possible(entry: Entry, i: int) -> Iterator[int]:
    """Outcomes of one discrete number, those of probability zero included."""
    here = int(entry.values.ravel()[i])
    parameters = [
        np.broadcast_to(p, entry.values.shape).ravel()[i] if entry.kind != "categorical" else p
        for p in entry.parameters
    ]
    low = 1 if entry.kind == "geometric" else 0
    if entry.kind not in ("categorical", "binomial"):
        yield from range(max(low, here - 3), here + 4)
        return
    last = len(parameters[0]) - 1 if entry.kind == "categorical" else int(parameters[0])
    start = max(low, min(here - _OUTCOMES // 2, last - _OUTCOMES))
    yield from range(start, min(last, start + _OUTCOMES) + 1)


def _tails(entry: Entry, i: int) -> tuple[float, float]:
    """Coordinates of a continuous number that leave so little probability beyond them."""
    low, high = _TAIL, 1 - _TAIL
    p = [float(np.broadcast_to(q, entry.values.shape).ravel()[i]) for q in entry.parameters]
    if entry.kind == "normal":
        return float(ndtri(low)), float(ndtri(high))
    if entry.kind == "log_gamma":
        ends = np.log(np.maximum(gammaincinv(p[0], [low, high]), 1e-300))
    elif entry.kind == "logit_beta":
        ends = logit(np.clip(betaincinv(p[0], p[1], [low, high]), 1e-300, 1 - 1e-16))
    elif entry.kind == "student":
        ends = stdtrit(p[0], [low, high])
    else:
        return (float(entry.values.ravel()[i]),) * 2
    return float(ends[0]), float(ends[1])

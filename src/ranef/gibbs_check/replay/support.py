"""Whether an update draws all that log_joint allows, and nothing else: replay at chosen numbers.

Ratios of densities at random draws say nothing of values that are never drawn, and little of those
that are drawn seldom. Replay can ask for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaincinv, gammaincinv, logit, ndtri, stdtrit

from ranef.gibbs_check.replay.update_map import NotReplayable
from ranef.gibbs_check.sampler import UpdateError
from ranef.gibbs_check.states import structure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ranef.common.array_types import Array
    from ranef.gibbs_check.recorder import Entry
    from ranef.gibbs_check.replay.update_map import UpdateMap

__all__ = ["stops_short", "wrong_support"]

# Tail probability at which each random number is tried, and random numbers tried of a block.
_TAIL = 5e-4
_MOST = 12
# Outcomes of one discrete number that are tried, and values from which on neighbours are looked at.
_OUTCOMES = 64
_WIDE = 5
# Nats below the value drawn from which on nothing counts.
_DEPTH = 20.0


def wrong_support(maps: list[UpdateMap]) -> str:
    """Say whether an update draws what log_joint forbids, or never what it allows.

    Parameters
    ----------
    maps
        The update at several states, the user's own first.

    Returns
    -------
    str
        For people; empty where nothing is wrong.
    """
    found = _off_surface(maps)
    for update in maps[1:]:
        if not found and _outside(update):
            found = "draws values where log_joint is not finite"
        found = found or _wrong_outcomes(update)
    return found


def _outside(update: UpdateMap) -> bool:
    """Whether an update draws where log_joint is not finite, with each number in its tails."""
    if update.discrete:
        return False
    ends = np.array([_tails(e, i) for e in update.script for i in range(e.values.size)])
    if update.diagonal and not any(_is_outside(update, p) for p in ends.T):
        return False
    k = min(len(ends), _MOST)
    moved = [np.where(np.arange(len(ends)) == i, ends.T, update.point) for i in range(k)]
    return any(_is_outside(update, point) for point in np.concatenate(moved))


def _is_outside(update: UpdateMap, point: Array) -> bool:
    """Whether log_joint is not finite at what some random numbers make."""
    try:
        value = update.at(point)
    except UpdateError:
        return False
    # What underflows to zero is no value outside the support.
    return bool((value != 0).all()) and update.log_joint(value) == -np.inf


def _off_surface(maps: list[UpdateMap]) -> str:
    """Say whether fewer random numbers than values tie values that log_joint leaves free.

    A covariance matrix is symmetric, probabilities sum to one, effects may sum to zero and some
    elements stay where they are for good. Else a noise term has been forgotten.
    """
    last, k = maps[-1], len(maps[-1].point)
    if last.discrete or k >= len(last.value):
        return ""
    J = last.jacobian(last.point, affine=last.affine)
    start, drawn = maps[0].own, np.array([m.value for m in maps])
    size = np.abs(drawn).max()
    fixed = (np.abs(J).max(axis=1) <= 1e-12 * np.abs(J).max()) & (
        np.abs(drawn - start).max(axis=0) <= 1e-12 * size
    )
    free, shape = ~fixed, np.shape(last.state[last.name])
    if all(structure(v, shape) == "symmetric" for v in drawn):
        free &= np.tril(np.ones(shape, dtype=bool)).ravel()
    sums = drawn.sum(axis=1)
    tied = int(np.abs(sums - start.sum()).max() <= 1e-9 * size)
    if free.sum() <= k + tied:
        return ""
    base = np.linalg.qr(J)[0]
    away = np.where(free, np.random.default_rng(1).standard_normal(len(free)), 0.0)
    away -= base @ (base.T @ away)
    if any(m.log_joint(m.value + 1e-4 * size * away) == -np.inf for m in maps):
        return ""
    return (
        f"draws {k} random number{'s' if k > 1 else ''} for {len(last.value)} values: some of them "
        "are tied to each other or to the rest of the state, in log_joint they are free"
    )


def _wrong_outcomes(update: UpdateMap) -> str:
    """Go through the outcomes of each discrete random number and compare with log_joint."""
    if not update.discrete:
        return ""
    places = [(e, i) for e, entry in enumerate(update.script) for i in range(entry.values.size)]
    return next(filter(None, (_outcomes_of(update, *place) for place in places[:_MOST])), "")


def _outcomes_of(update: UpdateMap, e: int, i: int) -> str:
    """Compare all outcomes of one discrete random number, that of call e at place i."""
    base_q, base_p = update.log_density(update.point), update.log_joint(update.value)
    reached: set[int] = set()
    element = -1
    for outcome in _possible(update.script[e], i):
        values = update.script[e].values.copy()
        values.reshape(-1)[i] = outcome
        script = list(update.script)
        script[e] = script[e]._replace(values=values)
        other = replace(update, script=script)
        try:
            value = other.at(update.point)
            with np.errstate(divide="ignore"):
                log_q = update.recorder.log_density() - base_q
        except (UpdateError, NotReplayable):
            continue
        moved = np.flatnonzero(value != update.value)
        if len(moved) > 1:
            return ""
        if len(moved) == 1:
            element = int(moved[0])
            if log_q > -np.inf:
                reached.add(int(value[element]))
        log_p = update.log_joint(value) - base_p
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
                f"draws {where} {share[0]:.3g} times as often as {update.value[element]:g}; "
                f"log_joint implies {share[1]:.3g} times"
            )
    bounded = update.script[e].kind in ("categorical", "binomial")
    return _beyond(update, element, reached) if bounded and element >= 0 else ""


def _beyond(update: UpdateMap, element: int, reached: set[int]) -> str:
    """Look at the neighbours of a bounded range of values."""
    reached = reached | {int(update.value[element])}
    top = update.log_joint(update.value)
    # What the user's own state holds is in the support for certain; what comes next to a few
    # values, beside an indicator of 0 and 1, say, may be none of log_joint's business.
    near = {int(v) for v in update.sampler.value(update.sampler.state, update.name)}
    if len(reached) >= _WIDE:
        near |= {min(reached) - 1, max(reached) + 1} | set(range(min(reached), max(reached)))
    # Below zero an index would count from the end.
    for candidate in sorted(c for c in near - reached if c >= 0 or min(reached) < 0):
        value = update.value.copy()
        value[element] = candidate
        if update.log_joint(value) > top - _DEPTH:
            return f"never draws {candidate}, where log_joint goes on"
    return ""


def stops_short(update: UpdateMap) -> str:
    """Look whether an element ends where log_joint goes on: ratios of densities do not show it.

    Only maps that are not affine can end anywhere. At the most extreme random numbers, of tail
    probability near 1e-16, a right density is far below its top.
    """
    if not update.diagonal or update.affine or update.discrete:
        return ""
    top = update.log_joint(update.value)
    axis = np.eye(len(update.point))[0]
    for end in _ends(update.script[0]):
        try:
            near = update.at(update.point + axis)
            value = update.at(update.point + axis * (end - update.point[0]))
        except UpdateError:  # overflow: it goes on for ever
            continue
        step = np.abs(near - update.value)[0] * np.sign(value[0] - update.value[0])
        beyond = value.copy()
        beyond[0] += 1e-3 * step
        if update.log_joint(beyond) > top - 20.0:
            return f"never goes beyond {value[0]:.6g}, where log_joint goes on"
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


def _ends(entry: Entry) -> tuple[float, float]:
    """Coordinates of tail probability near 1e-16 for the first draw of a call."""
    if entry.kind == "student":
        return -1e12, 1e12
    shapes = [float(np.ravel(p)[0]) for p in entry.parameters] if "log" in entry.kind else []
    if entry.kind == "log_gamma":
        return -36.0 / min(shapes[0], 1.0), 36.0
    if entry.kind == "logit_beta":
        return -36.0 / min(shapes[0], 1.0), 36.0 / min(shapes[1], 1.0)
    return -36.0, 36.0

"""Level 0 of a block: its update replayed, whole or element by element, and what is wrong told."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ranef.gibbs_check.explain.diagnosis import diagnose
from ranef.gibbs_check.explain.scan import explain_elements
from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.densities import Comparison, compare
from ranef.gibbs_check.replay.elementwise import compare_elements, read_scan
from ranef.gibbs_check.replay.support import stops_short, wrong_support
from ranef.gibbs_check.replay.update_map import UpdateMap, read_map
from ranef.gibbs_check.report import BlockCheck
from ranef.gibbs_check.sampler import Context, UpdateError
from ranef.gibbs_check.states import asymmetric_states

__all__ = ["check_by_replay", "check_elements"]

# States from which a failed block's formulas are recognised: more than there are candidate terms.
_FORMULA_STATES = 40


def check_by_replay(context: Context, name: str) -> BlockCheck:
    """Check an update that draws its block at once: log q against log_joint, to rounding.

    Parameters
    ----------
    context
        The sampler under check.
    name
        The block.

    Returns
    -------
    ranef.gibbs_check.report.BlockCheck

    Raises
    ------
    NotReplayable
        If the density cannot be had by replay.
    """
    started = time.perf_counter()
    recorder = Recorder(context.rng)
    maps: list[UpdateMap] = []
    for i, state in enumerate(context.states):
        other = context.sampler.value(context.states[i - 1], name)
        known = maps[0] if maps else None
        maps.append(read_map(context.sampler, name, state, other, recorder, known))
    found = [compare(update) for update in maps]
    finding = _memory(context, maps[0]) or wrong_support(maps)
    worst = max(found, key=lambda one: one.excess)
    right = worst.excess <= 1.0
    if right and not finding:
        finding = next(filter(None, map(stops_short, maps)), "")
    seconds = time.perf_counter() - started
    if not right and not finding:
        states = asymmetric_states(context.sampler, _FORMULA_STATES, context.rng)
        finding = diagnose(context.sampler, name, states, recorder) or (
            "draws values where log_joint is not finite"
            if np.isinf(worst.worst)
            else f"differs from the full conditional by {worst.worst:.2g} in log density"
        )
    return replace(_verdict(name, finding, worst, found), seconds=seconds)


def check_elements(context: Context, name: str) -> BlockCheck:
    """Check an update that draws its elements one at a time, each given the newest values.

    Parameters
    ----------
    context
        The sampler under check.
    name
        The block.

    Returns
    -------
    ranef.gibbs_check.report.BlockCheck

    Raises
    ------
    NotReplayable
        If no order of the elements can be seen.
    """
    recorder, states = Recorder(context.rng), context.states[1:]
    other = context.sampler.value(states[1], name)
    scan = read_scan(context.sampler, name, states[0], other, recorder)
    by_state = [compare_elements(scan, s) for s in states]
    found = [max(of, key=lambda one: one.excess) for of in zip(*by_state, strict=True)]
    worst = max(found, key=lambda one: one.excess)
    finding = _memory(context, scan.update)
    if not finding and worst.excess > 1.0:
        finding = explain_elements(scan, found)
    return _verdict(name, finding, worst, [c for of in by_state for c in of])


def _verdict(name: str, finding: str, worst: Comparison, found: list[Comparison]) -> BlockCheck:
    """Put together what was compared; right if there is nothing to say."""
    return BlockCheck(
        name,
        0,
        not finding,
        f"update {name!r} {finding}" if finding else "",
        worst.worst,
        worst.limit,
        log_q=np.concatenate([c.log_q for c in found]),
        log_p=np.concatenate([c.log_p for c in found]),
    )


def _memory(context: Context, first: UpdateMap) -> str:
    """Look whether an update gives something else once it or others ran elsewhere."""
    if not np.array_equal(first.at(first.point), first.value):
        return "gives another value at the same state after it ran at others: it keeps something"
    for other in context.sampler.updates:
        if other != first.name:
            with suppress(UpdateError):  # that one gets its own entry
                context.sampler.draw(other, context.states[-1], context.rng)
            if not np.array_equal(first.at(first.point), first.value):
                return (
                    f"gives another value at the same state after update {other!r} ran "
                    "elsewhere: it uses what that one keeps, not the state"
                )
    return ""

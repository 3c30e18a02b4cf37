"""Level 0 of a block: its update replayed, whole or element by element, and what is wrong told."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ranef.gibbs_check.explain.diagnosis import diagnose
from ranef.gibbs_check.explain.scan import tell_elements, which_elements
from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.elementwise import compare_elements, read_scan
from ranef.gibbs_check.replay.indicators import compare_indicators, scan_orders
from ranef.gibbs_check.replay.support import off_surface, outside, wrong_outcomes
from ranef.gibbs_check.replay.update_map import (
    Comparison,
    Map,
    NotReplayable,
    compare,
    missed,
    read_map,
)
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
    maps: list[Map] = []
    found: list[Comparison] = []
    for i, state in enumerate(context.states):
        other = context.sampler.value(context.states[i - 1], name)
        maps.append(
            read_map(context.sampler, name, state, other, recorder, maps[0] if maps else None)
        )
        found.append(compare(context.sampler, name, state, maps[-1], recorder))
    told = _memory(context, name, maps) or _support(context, name, maps, recorder)
    worst = max(found, key=_excess)
    right = worst.worst <= worst.limit
    if right and not told:
        ends = (
            missed(context.sampler, name, s, m) for s, m in zip(context.states, maps, strict=True)
        )
        told = next(filter(None, ends), "")
    seconds = time.perf_counter() - started
    if not right and not told:
        states = asymmetric_states(context.sampler, _FORMULA_STATES, context.rng)
        formulas = diagnose(context.sampler, name, states, recorder)
        if not formulas:
            formulas = (
                "draws values where log_joint is not finite"
                if np.isinf(worst.worst)
                else f"differs from the full conditional by {worst.worst:.2g} in log density"
            )
        told = formulas
    return replace(_verdict(name, told, worst, found), seconds=seconds)


def _support(context: Context, name: str, maps: list[Map], recorder: Recorder) -> str:
    """Look at values that random draws seldom or never give."""
    sampler, told = context.sampler, off_surface(context.sampler, name, context.states, maps)
    for state, made in zip(context.states[1:], maps[1:], strict=True):
        if not told and outside(sampler, name, state, made):
            told = "draws values where log_joint is not finite"
        told = told or wrong_outcomes(sampler, name, state, made, recorder)
    return told


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
    if name in context.sampler.discrete:
        return _indicators(context, name)
    recorder, states = Recorder(context.rng), context.states[1:]
    scan, made = read_scan(
        context.sampler, name, states[0], context.sampler.value(states[1], name), recorder
    )
    by_state = [compare_elements(context.sampler, name, s, scan, recorder) for s in states]
    found = [max(of, key=_excess) for of in zip(*by_state, strict=True)]
    told = _memory(context, name, [made])
    worst = max(found, key=_excess)
    if not told and worst.worst > worst.limit:
        told = tell_elements(context.sampler, name, states[0], scan, found, recorder)
    return _verdict(name, told, worst, [c for of in by_state for c in of])


def _indicators(context: Context, name: str) -> BlockCheck:
    """Do the same for zeros and ones; right if one of the possible orders is."""
    recorder, states = Recorder(context.rng), context.states[1:]
    number, orders = scan_orders(context.sampler, name, states[0], recorder)
    tried = []
    for order in orders:
        by_state = [
            compare_indicators(context.sampler, name, s, number, order, recorder) for s in states
        ]
        found = [max(of, key=_excess) for of in zip(*by_state, strict=True)]
        tried.append((max(found, key=_excess), order, found))
    worst, order, found = min(tried, key=lambda one: _excess(one[0]))
    right = worst.worst <= worst.limit
    if not right and len(orders) > 1:
        raise NotReplayable("depends on its own current value, in an order that replay cannot see")
    told = "" if right else which_elements(context.sampler, name, order, found)
    return _verdict(name, told, worst, found)


def _verdict(name: str, told: str, worst: Comparison, found: list[Comparison]) -> BlockCheck:
    """Put together what was compared; right if there is nothing to tell."""
    return BlockCheck(
        name,
        0,
        not told,
        f"update {name!r} {told}" if told else "",
        worst.worst,
        worst.limit,
        log_q=np.concatenate([c.log_q for c in found]),
        log_p=np.concatenate([c.log_p for c in found]),
    )


def _memory(context: Context, name: str, maps: list[Map]) -> str:
    """Look whether an update gives something else once it or others ran elsewhere."""
    first = maps[0]
    if not np.array_equal(first.at(first.point), first.value):
        return "gives another value at the same state after it ran at others: it keeps something"
    for other in context.sampler.updates:
        if other != name:
            with suppress(UpdateError):  # that one gets its own entry
                context.sampler.draw(other, context.states[-1], context.rng)
            if not np.array_equal(first.at(first.point), first.value):
                return (
                    f"gives another value at the same state after update {other!r} ran "
                    "elsewhere: it uses what that one keeps, not the state"
                )
    return ""


def _excess(found: Comparison) -> float:
    return found.worst / max(found.limit, 1e-300)

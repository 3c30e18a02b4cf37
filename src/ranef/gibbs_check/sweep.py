"""The sweep: replayed as a composition of the updates, else compared before and after."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.sweep import Composition, SweepError, read_sweep, run_sweep
from ranef.gibbs_check.report import BlockCheck
from ranef.gibbs_check.sampler import Context, State, UpdateError
from ranef.gibbs_check.simulation.before_after import before_after, functionals

__all__ = ["check_sweep"]


def check_sweep(
    context: Context, sweep: Callable[..., Any], blocks: list[BlockCheck]
) -> BlockCheck:
    """Replay the sweep as a composition of updates, else compare before and after.

    Parameters
    ----------
    context
        The sampler under check.
    sweep
        The user's function.
    blocks
        What was found of the updates.

    Returns
    -------
    ranef.gibbs_check.report.BlockCheck
    """
    started = time.perf_counter()
    try:
        verdict = _sweep_replay(context, sweep, blocks)
    except SweepError as error:
        verdict = BlockCheck("sweep", 0, False, f"the sweep {error}")
    except UpdateError as error:
        verdict = BlockCheck("sweep", None, None, f"not checked: an update {error}")
    return replace(verdict, seconds=time.perf_counter() - started)


def _sweep_replay(
    context: Context, sweep: Callable[..., Any], blocks: list[BlockCheck]
) -> BlockCheck:
    recorder = Recorder(context.rng)
    faults: list[str] = []
    for state in context.states[1:]:
        found = read_sweep(context.sampler, sweep, state, recorder)
        if found.unmatched:
            return _sweep_test(context, sweep, blocks, _told(found))
        faults += [
            f"gives update {name!r} the value of {', '.join(map(repr, old))} from before"
            for name, old in found.stale.items()
        ]
        faults += [f"never updates {name!r}" for name in found.unmoved]
    faults = list(dict.fromkeys(faults))
    return BlockCheck("sweep", 0, not faults, f"the sweep {'; it '.join(faults)}" if faults else "")


def _sweep_test(
    context: Context, sweep: Callable[..., Any], blocks: list[BlockCheck], reason: str
) -> BlockCheck:
    if not all(b.passed for b in blocks):
        return BlockCheck(
            "sweep", None, None, f"not checked: it {reason}, and not all updates passed"
        )

    def reference(state: State) -> State:
        for name in context.sampler.updates:
            state = context.sampler.place(
                state, name, context.sampler.draw(name, state, context.rng)
            )
        return state

    outcome = before_after(
        reference,
        lambda s: run_sweep(context.sampler, sweep, s, context.rng),
        context.sampler.state,
        functionals(context.sampler, list(context.sampler.updates)),
        context.alpha,
    )
    right = outcome.p_value >= context.alpha
    finding = f"it {reason}"
    if not right:
        finding = f"the sweep changes the distribution of {outcome.where}; replay: {finding}"
    return BlockCheck("sweep", 2, right, finding, p_value=outcome.p_value)


def _told(found: Composition) -> str:
    """Why a sweep could not be replayed, and where the search stuck."""
    reason = "is no composition of these updates that replay can see"
    if not found.order:
        return reason
    if len(found.unmatched) == 1:
        return f"{reason}: it draws {found.unmatched[0]!r} in another way than its update does"
    return f"{reason}: it is one up to {found.order[-1]!r}, then draws in another way"

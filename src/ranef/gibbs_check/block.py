"""One block at the first level that can see it."""

from __future__ import annotations

import pickle
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.by_replay import check_by_replay, check_elements
from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.update_map import NotReplayable, record
from ranef.gibbs_check.report import BlockCheck
from ranef.gibbs_check.sampler import Context, State, UpdateError, changed, copied
from ranef.gibbs_check.simulation.before_after import before_after, functionals, line_step
from ranef.gibbs_check.simulation.line_cdf import Unbounded
from ranef.gibbs_check.simulation.pit import one_step_pit

__all__ = ["check_block"]

# Largest block of a Metropolis or slice step that is compared before and after.
_LARGEST_STEP = 20


def check_block(context: Context, name: str) -> BlockCheck:
    """Check one update at the first level that can see it.

    Parameters
    ----------
    context
        The sampler under check.
    name
        The block.

    Returns
    -------
    ranef.gibbs_check.report.BlockCheck
    """
    started = time.perf_counter()
    try:
        verdict = _meddling(context, name) or _levels(context, name)
    except UpdateError as error:
        finding = f"update {name!r} {error}, at a state where log_joint is finite"
        verdict = BlockCheck(name, 0, False, finding)
    return replace(verdict, seconds=verdict.seconds or time.perf_counter() - started)


def _levels(context: Context, name: str) -> BlockCheck:
    if name in context.invariant:
        return _step(context, name, "declared to be a step that leaves its conditional invariant")
    try:
        if _own_value_shapes(context, name):
            raise NotReplayable("depends on its own current value", kernel=True)
        return check_by_replay(context, name)
    except NotReplayable as cause:
        reason, kernel = str(cause), cause.kernel
    if not kernel and _own_value_matters(context, name):
        reason, kernel = f"{reason}, and depends on its own current value", True
    several = context.sampler.value(context.sampler.state, name).size > 1
    if kernel and several and name not in context.sampler.discrete:
        try:
            return check_elements(context, name)
        except (NotReplayable, UpdateError) as cause:
            reason = str(cause)
    try:
        return _step(context, name, reason) if kernel else _pit(context, name, reason)
    except Unbounded:
        finding = (
            f"not checked: it {reason}, and log_joint does not fall off as {name!r} grows or "
            "shrinks, or rises again beyond a valley; make it minus infinity outside the "
            "support (of an angle, one turn)"
        )
        return BlockCheck(name, None, None, finding)


def _meddling(context: Context, name: str) -> BlockCheck | None:
    """Look whether an update changes what is not its own."""
    sampler = context.sampler
    scratch = copied(context.states[-1])
    more = () if sampler.data is None else (sampler.data,)
    before = _frozen(sampler.data)
    try:
        with np.errstate(all="ignore"):
            sampler.updates[name](scratch, *more, context.rng)
    except Exception as error:
        raise UpdateError(f"raises {type(error).__name__}: {error}") from error
    others = [k for k in changed(context.states[-1], scratch) if k != name]
    # What the data computed about themselves on first use is no change.
    after = _frozen(sampler.data)
    if any(after.get(key) != value for key, value in before.items()):
        return BlockCheck(name, 0, False, f"update {name!r} changes the data")
    if others:
        shown = ", ".join(repr(k) for k in others)
        finding = f"update {name!r} changes {shown} in the state, not its own"
        return BlockCheck(name, 0, False, finding)
    return None


def _own_value_matters(context: Context, name: str) -> bool:
    """Run with the same seed and another own value; False if the seed fixes nothing."""
    first = int(context.rng.integers(2**32))
    state = context.states[1]
    moved = context.sampler.place(state, name, _other(context, name))

    def run(where: State, seed: int = first) -> Any:
        return context.sampler.draw(name, where, np.random.default_rng(seed))

    if not np.array_equal(run(state), run(state)):
        # A generator of its own: a step that stays where it is gives itself away.
        own = context.sampler.value(state, name)
        return any(np.array_equal(run(state), own) for _ in range(200)) and (
            name not in context.sampler.discrete
        )
    # A whole number comes out the same for most random numbers even where it depends.
    seeds = range(first, first + (100 if name in context.sampler.discrete else 1))
    return any(not np.array_equal(run(state, s), run(moved, s)) for s in seeds)


def _own_value_shapes(context: Context, name: str) -> bool:
    """Whether the own value moves parameters of a draw: values may come out the same."""
    # A generator of its own, so that reports for a seed do not change.
    recorder = Recorder(np.random.default_rng(0))
    try:
        update = record(context.sampler, name, context.states[1], recorder)
        update.at(update.point, _other(context, name))
    except (NotReplayable, UpdateError):
        return False
    return not update.same_parameters


def _other(context: Context, name: str) -> Array:
    """Another value of a block, all zeros and ones turned if it is made of them."""
    own = context.sampler.value(context.states[1], name)
    if name in context.sampler.discrete and set(own) <= {0.0, 1.0}:
        return 1.0 - own
    return context.sampler.value(context.states[2], name)


def _pit(context: Context, name: str, reason: str, *, kernel: bool = False) -> BlockCheck:
    """Test draws against the distribution function; of a kernel, a step from exact draws."""
    result = one_step_pit(
        context.sampler, name, context.states[1:], context.rng, context.alpha, kernel=kernel
    )
    right = result.p_value >= context.alpha
    finding = reason if right else f"update {name!r} {result.note}; replay: it {reason}"
    return BlockCheck(name, 1 + kernel, right, finding, p_value=result.p_value)


def _step(context: Context, name: str, reason: str) -> BlockCheck:
    """Test a step that need only leave the full conditional invariant."""
    size = context.sampler.value(context.sampler.state, name).size
    if size == 1:
        return _pit(context, name, reason, kernel=True)
    if size > _LARGEST_STEP or name in context.sampler.discrete:
        return BlockCheck(name, None, None, f"not checked, a step in {size} values that {reason}")
    count = 3000 // size
    outcome = before_after(
        line_step(context.sampler, name, context.states[1:], context.rng),
        lambda s: context.sampler.place(s, name, context.sampler.draw(name, s, context.rng)),
        context.states[1],
        functionals(context.sampler, [name]),
        context.alpha,
        (count // 4, count),
    )
    right = outcome.p_value >= context.alpha
    wrong = f"update {name!r} does not leave {outcome.where} as it was; replay: it {reason}"
    return BlockCheck(name, 2, right, reason if right else wrong, p_value=outcome.p_value)


def _frozen(data: Any) -> dict[str, bytes]:
    """What the data hold, attribute by attribute where they have some."""
    parts = vars(data) if hasattr(data, "__dict__") else {"": data}
    out = {}
    for key, part in parts.items():
        with suppress(Exception):  # what cannot be pickled cannot be compared
            out[key] = pickle.dumps(part)
    return out

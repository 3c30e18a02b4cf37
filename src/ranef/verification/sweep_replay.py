"""A whole sweep as the composition of its updates, found again from its random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ranef.verification.problem import Problem, State, UpdateError, copied
from ranef.verification.recorder import Diverged, Entry, Recorder, Unseen

__all__ = ["Composition", "SweepError", "read_sweep", "run_sweep"]

_SAME = 1e-8


class SweepError(Exception):
    """The sweep failed or returned something else than a state; the text says how."""


@dataclass(frozen=True)
class Composition:
    """How a sweep is made up of updates.

    Attributes
    ----------
    order
        Blocks in the order that they are updated.
    stale
        Variables of which a block used the value from before the sweep, by block.
    unmoved
        Blocks that the sweep leaves as they were.
    """

    order: tuple[str, ...]
    stale: dict[str, tuple[str, ...]]
    unmoved: tuple[str, ...]


def run_sweep(
    problem: Problem, sweep: Callable[..., Any], state: State, rng: np.random.Generator
) -> State:
    """Run the user's sweep on a copy of the state.

    Raises
    ------
    SweepError
        If it raises or returns no state of the same names and shapes.
    """
    more = () if problem.data is None else (problem.data,)
    try:
        with np.errstate(all="ignore"):
            result = sweep(copied(state), *more, rng)
    except (ValueError, ArithmeticError, TypeError, LookupError) as error:
        raise SweepError(f"raises {type(error).__name__}: {error}") from error
    if not isinstance(result, dict):
        raise SweepError(f"returned a {type(result).__name__}; the new state (a dict) is expected")
    for name, old in state.items():
        if name not in result:
            raise SweepError(f"returned a state without {name!r}")
        if np.shape(result[name]) != np.shape(old):
            raise SweepError(
                f"returned {name!r} of shape {np.shape(result[name])}; it had {np.shape(old)}"
            )
        if not np.isfinite(result[name]).all():
            raise SweepError(f"returned {name!r} that is not finite")
    return {name: result[name] for name in state}


def read_sweep(
    problem: Problem, sweep: Callable[..., Any], state: State, recorder: Recorder
) -> Composition | None:
    """Find the order of updates, and stale values, that give what a sweep gives.

    Returns
    -------
    Composition or None
        None if no order of the updates, with fresh or stale values, gives the sweep's result from
        its random numbers: other formulas, a varying number of draws, a generator of its own.

    Raises
    ------
    SweepError
        See `run_sweep`.
    """
    recorder.record()
    try:
        result = run_sweep(problem, sweep, state, recorder)
    except Unseen:
        return None
    search = _Search(problem, state, result, list(recorder.entries), recorder)
    return search.extend(state, (), {}, 0)


@dataclass(frozen=True)
class _Search:
    """Depth-first search over orders; equality of values prunes all wrong branches at once."""

    problem: Problem
    old: State
    result: State
    entries: list[Entry]
    recorder: Recorder

    def extend(
        self, state: State, order: tuple[str, ...], stale: dict[str, tuple[str, ...]], used: int
    ) -> Composition | None:
        left = [name for name in self.problem.updates if name not in order]
        if used == len(self.entries):
            if all(np.array_equal(self.result[n], self.old[n]) for n in left):
                return Composition(order, stale, tuple(left))
            return None
        for count in range(len(order) + 1):
            for name in left:
                for kept in combinations(order, count):
                    mixed = {**state, **{k: self.old[k] for k in kept}}
                    after = self._match(name, mixed, used)
                    if after is None:
                        continue
                    more = {**stale, name: kept} if kept else stale
                    now = {**state, name: self.result[name]}
                    found = self.extend(now, (*order, name), more, used + after)
                    if found is not None:
                        return found
        return None

    def _match(self, name: str, state: State, used: int) -> int | None:
        """Number of calls that an update takes if it gives the sweep's value of its block."""
        script = self.entries[used:]
        point = [e.values.ravel().astype(float) for e in script if e.values.dtype.kind == "f"]
        self.recorder.replay(np.concatenate(point) if point else np.empty(0), script)
        try:
            value = self.problem.draw(name, state, self.recorder)
        except (Diverged, Unseen, UpdateError):
            return None
        target = self.problem.value(self.result, name)
        if np.allclose(value, target, rtol=_SAME, atol=_SAME * float(np.abs(target).max())):
            return len(self.recorder.entries)
        return None

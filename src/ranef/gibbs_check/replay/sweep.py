"""A whole sweep as the composition of its updates, found again from its random numbers.

At each position in the sweep's random numbers the search asks of each update that is left whether
it gives, from the numbers that come next, what the sweep has made of its block. A value that comes
out to eight digits is no coincidence, so the search does not turn back from it. An update is asked
about stale values only of those blocks that it uses: toggling one of them changes what it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.recorder import Diverged, Entry, Recorder, UnrecordedDraw, coordinates
from ranef.gibbs_check.replay.update_map import NotReplayable, UpdateMap
from ranef.gibbs_check.sampler import GibbsSampler, State, UpdateError, copied

__all__ = ["Composition", "SweepError", "read_sweep", "run_sweep"]

_SAME = 1e-8
# Blocks that an update uses, up to which all sets of stale ones are tried; beyond it those that
# are made in practice.
_ALL_SETS = 8


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
    unmatched
        Blocks that no update gives from the random numbers that are left: other formulas, a
        varying number of draws, a generator of its own.
    """

    order: tuple[str, ...]
    stale: dict[str, tuple[str, ...]]
    unmoved: tuple[str, ...]
    unmatched: tuple[str, ...] = ()


def run_sweep(
    sampler: GibbsSampler, sweep: Callable[..., Any], state: State, rng: np.random.Generator
) -> State:
    """Run the user's sweep on a copy of the state.

    Raises
    ------
    SweepError
        If it raises or returns no state of the same names and shapes.
    """
    more = () if sampler.data is None else (sampler.data,)
    try:
        with np.errstate(all="ignore"):
            result = sweep(copied(state), *more, rng)
    except (UnrecordedDraw, Diverged):
        raise
    except Exception as error:
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
        if np.asarray(result[name]).dtype.kind not in "fiub":
            came = type(result[name]).__name__
            raise SweepError(f"returned {name!r} as a {came}; numbers are expected")
        if not np.isfinite(result[name]).all():
            raise SweepError(f"returned {name!r} that is not finite")
    return {name: result[name] for name in state}


def read_sweep(
    sampler: GibbsSampler, sweep: Callable[..., Any], state: State, recorder: Recorder
) -> Composition:
    """Find the order of updates, and stale values, that give what a sweep gives.

    Returns
    -------
    Composition
        With `unmatched` blocks if no order of the updates, with fresh or stale values, gives the
        sweep's result from its random numbers; then `order` is the longest that does so far.

    Raises
    ------
    SweepError
        See `run_sweep`.
    """
    recorder.record()
    try:
        result = run_sweep(sampler, sweep, state, recorder)
    except UnrecordedDraw:
        return Composition((), {}, (), tuple(sampler.updates))
    search = _Search(sampler, state, result, list(recorder.entries), recorder)
    for stale in (False, True):  # whole numbers match by chance: fresh values have precedence
        found = search.extend((), {}, 0, stale_too=stale)
        if found is not None:
            return found
    return search.furthest[0]


class _Outcome(NamedTuple):
    """What an update gives at one position: a key to compare, calls taken, whether it matches."""

    key: bytes
    calls: int
    matches: bool


@dataclass(frozen=True)
class _Search:
    """Search over orders, position by position; what failed and what was drawn is kept."""

    sampler: GibbsSampler
    old: State
    result: State
    entries: list[Entry]
    recorder: Recorder
    furthest: list[Composition] = field(default_factory=list)
    failed: set[tuple[frozenset[str], int, bool]] = field(default_factory=set)
    known: dict[tuple[str, int, frozenset[str]], _Outcome] = field(default_factory=dict)

    def extend(
        self,
        order: tuple[str, ...],
        stale: dict[str, tuple[str, ...]],
        used: int,
        *,
        stale_too: bool,
    ) -> Composition | None:
        left = [name for name in self.sampler.updates if name not in order]
        if used == len(self.entries) and all(
            np.array_equal(self.result[n], self.old[n]) for n in left
        ):
            return Composition(order, stale, tuple(left))
        if not self.furthest or len(self.furthest[0].order) < len(order):
            self.furthest[:] = [Composition(order, stale, (), tuple(left))]
        # What comes later depends on the blocks that have run, not on what they were given.
        place = (frozenset(order), used, stale_too)
        if place in self.failed:
            return None
        for name, kept, calls in self._candidates(order, left, used, stale_too):
            more = {**stale, name: kept} if kept else stale
            found = self.extend((*order, name), more, used + calls, stale_too=stale_too)
            # Whole numbers, and values without a draw, may come out the same by chance.
            if found is not None or (calls and name not in self.sampler.discrete):
                return found
        self.failed.add(place)
        return None

    def _candidates(
        self, order: tuple[str, ...], left: list[str], used: int, stale_too: bool
    ) -> Iterator[tuple[str, tuple[str, ...], int]]:
        """Updates that give the sweep's value here, those with fewest stale values first."""
        waiting = {}
        for name in left:
            fresh = self._outcome(name, order, (), used)
            if fresh.matches:
                yield name, (), fresh.calls
            elif order and stale_too:
                waiting[name] = _stale_sets(self._used(name, order, used))
        for count in range(1, len(order) + 1):
            for name in list(waiting):
                for kept in waiting[name].get(count, ()):
                    outcome = self._outcome(name, order, kept, used)
                    if outcome.matches:
                        del waiting[name]
                        yield name, kept, outcome.calls
                        break

    def _used(self, name: str, order: tuple[str, ...], used: int) -> tuple[str, ...]:
        """Blocks whose stale value changes what an update gives, among fresh or stale others."""
        fresh, stale = self._outcome(name, order, (), used), self._outcome(name, order, order, used)
        return tuple(
            one
            for one in order
            if self._outcome(name, order, (one,), used).key != fresh.key
            or self._outcome(name, order, tuple(k for k in order if k != one), used).key
            != stale.key
        )

    def _outcome(
        self, name: str, order: tuple[str, ...], kept: tuple[str, ...], used: int
    ) -> _Outcome:
        """Run an update on the sweep's next random numbers, given some values from before."""
        fresh = frozenset(order) - frozenset(kept)
        key = (name, used, fresh)
        if key not in self.known:
            state = {**self.old, **{k: self.result[k] for k in fresh}}
            self.known[key] = self._run(name, state, self.entries[used:])
        return self.known[key]

    def _run(self, name: str, state: State, script: list[Entry]) -> _Outcome:
        target = self.sampler.value(self.result, name)
        update = UpdateMap(
            self.sampler, name, state, self.recorder, script, coordinates(script), target
        )
        try:
            value = update.at(update.point)
        except (NotReplayable, UpdateError):
            return _Outcome(b"", 0, False)
        drawn = self.recorder.entries
        # Values of a beta or a Poisson come from the script: there the parameters tell.
        matches = _close(value, target) and all(
            _close(np.asarray(p), np.asarray(q))
            for now, then in zip(drawn, script, strict=False)
            for p, q in zip(now.parameters, then.parameters, strict=True)
        )
        parts = [value, *(np.asarray(p) for e in drawn for p in e.parameters)]
        return _Outcome(b"".join(p.tobytes() for p in parts), len(drawn), matches)


def _close(one: Array, two: Array) -> bool:
    if one.shape != two.shape:
        return False
    return bool((np.abs(one - two) <= _SAME * float(np.abs(two).max(initial=0.0))).all())


def _stale_sets(used: tuple[str, ...]) -> dict[int, list[tuple[str, ...]]]:
    """Sets of blocks that may be stale, by size; of many, those that are made in practice.

    Those are a few that are stale, a few that are fresh, and runs of neighbours: whatever moved
    since, or until, something was computed.
    """
    n = len(used)
    sets: dict[int, list[tuple[str, ...]]] = {}
    for size in range(1, n + 1):
        if n <= _ALL_SETS or size <= 2 or size >= n - 2:
            sets[size] = list(combinations(used, size))
        else:
            sets[size] = [used[i : i + size] for i in range(n - size + 1)]
    return sets

"""Level 0 for an update that draws zeros and ones one at a time, each given the newest values.

An indicator drawn as `rng.random() < p` is one below a threshold of its random number; log_joint
says where that must be, and a replay on either side of it shows whether it is there. One drawn by
`rng.binomial` or `rng.choice` comes with its probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.recorder import Diverged, Entry, Recorder, UnrecordedDraw, log_densities
from ranef.gibbs_check.replay.update_map import Comparison, NotReplayable, recorded
from ranef.gibbs_check.sampler import GibbsSampler, State, UpdateError

__all__ = ["compare_indicators", "scan_orders"]

# Beyond these coordinates a uniform number is zero or one to rounding.
_END = 36.0
# Relative distance from the threshold at which an indicator has to come out right.
_NEAR = 1e-6
_KERNEL = "depends on its own current value"


@dataclass(frozen=True)
class _Indicators:
    """An update of indicators at one state; `forced` numbers or values decide what comes out."""

    sampler: GibbsSampler
    name: str
    state: State
    recorder: Recorder
    script: list[Entry]
    point: Array

    @property
    def uniform(self) -> bool:
        """Whether thresholds of uniform numbers are drawn, not whole numbers."""
        return bool(len(self.point))

    @property
    def start(self) -> Array:
        """What was recorded: coordinates, or values drawn."""
        return self.point if self.uniform else np.array([float(e.values) for e in self.script])

    def at(self, forced: Array, old: Array) -> Array:
        """Values that come out of given numbers (or given draws) and old values."""
        script, point = self.script, forced
        if not self.uniform:
            point = np.empty(0)
            script = [
                e._replace(values=np.asarray(int(v))) for e, v in zip(script, forced, strict=True)
            ]
        self.recorder.replay(point, script)
        try:
            return self.sampler.draw(
                self.name, self.sampler.place(self.state, self.name, old), self.recorder
            )
        except (Diverged, UnrecordedDraw, UpdateError):
            raise NotReplayable(f"{_KERNEL} and draws a varying number of random numbers") from None

    def log_odds(
        self, forced: Array, old: Array, t: int, j: int, due: float, limit: float
    ) -> float:
        """Log odds of element j, which comes from number t; `due` if they are within `limit`."""

        def bit(u: float) -> float:
            return float(self.at(np.where(np.arange(len(forced)) == t, u, forced), old)[j])

        low, high = self.extremes()
        if not self.uniform:
            sign = bit(high) - bit(low)
            one, zero = log_densities(self.recorder.entries[t], np.array([1, 0]))
            odds = sign * float(one - zero)
            return due if abs(odds - due) <= limit else odds
        sign = bit(low) - bit(high)
        if not sign:
            return np.inf
        top = bit(low)
        if bit(sign * due - limit) == top and bit(sign * due + limit) != top:
            return due
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if bit(middle) == top else (low, middle)
        return sign * low

    def extremes(self) -> tuple[float, float]:
        """Numbers, or draws, of one value and of the other."""
        return (-_END, _END) if self.uniform else (0.0, 1.0)


def _record(sampler: GibbsSampler, name: str, state: State, recorder: Recorder) -> _Indicators:
    value, script, point = recorded(sampler, name, state, recorder, kernel=True)
    old = sampler.value(state, name)
    counts = (len(point), recorder.discrete)
    alike = all(e.kind == "logit_beta" and np.all(np.array(e.parameters) == 1.0) for e in script)
    single = all(e.values.size == 1 for e in script)
    if (
        counts not in ((len(value), 0), (0, len(value)))
        or not set(np.append(value, old)) <= {0.0, 1.0}
        or not (alike if counts[0] else single)
    ):
        raise NotReplayable(
            f"{_KERNEL}, in whole numbers that are no zeros and ones drawn one at a time"
        )
    made = _Indicators(sampler, name, state, recorder, script, point)
    if not np.array_equal(made.at(made.start, old), value):
        raise NotReplayable("gives another value for the same random numbers and the same state")
    return made


def scan_orders(
    sampler: GibbsSampler, name: str, state: State, recorder: Recorder
) -> tuple[Any, list[Any]]:
    """Number of each element, and orders in which an update may draw them.

    The numbers come in the order of the scan, unless one call draws them all before; then the loop
    may run forwards or backwards.

    Raises
    ------
    NotReplayable
        If elements are not drawn one at a time from one number each.
    """
    made = _record(sampler, name, state, recorder)
    old = sampler.value(state, name)
    low, high = made.extremes()
    base = np.full(len(old), low)
    first = made.at(base, old)
    if not np.array_equal(made.at(base, 1.0 - old), first):  # a step that proposes to flip
        raise NotReplayable(_KERNEL)
    number = np.full(len(old), -1)
    for t in range(len(old)):
        moved = np.flatnonzero(
            made.at(np.where(np.arange(len(old)) == t, high, base), old) != first
        )
        if len(moved) != 1 or number[moved[0]] >= 0:
            raise NotReplayable(f"{_KERNEL} and draws elements jointly")
        number[moved[0]] = t
    in_time = np.argsort(number)
    if all(e.values.size == 1 for e in made.script):
        return number, [in_time]
    return number, [in_time, in_time[::-1]]


def compare_indicators(
    sampler: GibbsSampler, name: str, state: State, number: Any, order: Any, recorder: Recorder
) -> list[Comparison]:
    """Compare the log odds of each element with log_joint, given new values before, old after.

    Returns
    -------
    list of Comparison
        One for each element.

    Raises
    ------
    NotReplayable
        If an element depends on its own old value.
    """
    made = _record(sampler, name, state, recorder)
    own = sampler.value(state, name)
    found: list[Comparison | None] = [None] * len(own)
    for old in (own, 1.0 - own):  # what is stale differs from what is new in one of the two
        if not np.isfinite(sampler.joint_at(state, name, old)):
            continue
        mixed, value = old.copy(), made.at(made.start, old)
        # Numbers at their ends: whatever is old, the new values of the other elements stay.
        low, high = made.extremes()
        ends = np.where(value == made.at(np.full(len(old), low), old), low, high)
        held = np.empty(len(old))
        held[number] = ends
        for j in map(int, order):
            log_p = np.empty(2)
            for bit in (0, 1):
                mixed[j] = bit
                log_p[bit] = sampler.joint_at(state, name, mixed)
            mixed[j] = value[j]
            due = float(log_p[1] - log_p[0])
            limit = _NEAR * (1.0 + abs(due)) + 1e-12 * float(np.abs(log_p).max())
            limit += 1e-15 * float(np.exp(min(abs(due), _END)))  # p near one is rounded
            if not abs(due) < _END - 1.0:
                raise NotReplayable(f"{_KERNEL}, and draws values of probability zero to rounding")
            odds = made.log_odds(held, old, int(number[j]), j, due, limit)
            gap = abs(odds - due)
            if gap > limit:
                turned = np.where(np.arange(len(old)) == j, 1.0 - old, old)
                if abs(made.log_odds(held, turned, int(number[j]), j, odds, limit) - odds) > 0:
                    raise NotReplayable(_KERNEL)
            now = Comparison(np.array([odds]), np.array([due]), gap, limit)
            before = found[j]
            if before is None or gap / limit > before.worst / before.limit:
                found[j] = now
    return [f for f in found if f is not None]

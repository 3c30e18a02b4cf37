"""Level 0 for an update that draws its block element by element, each given the newest values.

Such an update is a map x' = F(u; x) of its random numbers and of the block's old value, triangular
in the order of the scan: each element has a number of its own and moves with those of elements
before it. Read backwards, u_j is a function of x'_j, of new values of the elements before j and of
old values of those after. So the order is found from the new and the old values that each number
directly depends on, and then each element's density is compared with log_joint, given new values
before it and old values after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.recorder import Diverged, Entry, Recorder
from ranef.gibbs_check.replay.update_map import (
    Comparison,
    Map,
    NotReplayable,
    compared,
    derivative,
    recorded,
)
from ranef.gibbs_check.sampler import GibbsSampler, State, UpdateError

__all__ = ["Scan", "compare_elements", "label", "normal_element", "read_scan"]

# Change of a random number of scale one, or relative change of a value, beyond rounding.
_MOVED = 1e-7
# Where each element's density is compared: its own random number and two others.
_SHIFTS = (1.0, -1.7)


@dataclass(frozen=True)
class Scan:
    """How an update goes through its elements.

    Attributes
    ----------
    order
        Elements as they are drawn, shape (n,).
    number
        Random number of each element, shape (n,).
    stale
        For each element, those before it whose old value it uses.
    """

    order: Array
    number: Array
    stale: dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class _Replay:
    """An update at one state as a function of its random numbers and the block's old value."""

    sampler: GibbsSampler
    name: str
    state: State
    recorder: Recorder
    script: list[Entry]
    point: Array
    old: Array
    value: Array

    def at(self, u: Array, old: Array | None = None) -> Array:
        """Values that come out."""
        where = self.state
        if old is not None:
            where = self.sampler.place(where, self.name, old)
        self.recorder.replay(u, self.script)
        try:
            return self.sampler.draw(self.name, where, self.recorder)
        except Diverged:
            raise NotReplayable("draws a varying number of random numbers", kernel=True) from None
        except UpdateError as error:  # other numbers may lead out of the support
            raise NotReplayable(
                f"depends on its own current value and {error}", kernel=True
            ) from error

    def log_density(self) -> float:
        """Log density of the numbers of the last replay."""
        drawn = self.recorder.entries
        for now, then in zip(drawn, self.script, strict=False):
            if not all(map(np.array_equal, now.parameters, then.parameters)):
                raise NotReplayable(
                    "draws elements from shapes that depend on other elements", kernel=True
                )
        return self.recorder.log_density()

    def map(self) -> Map:
        """The same as a map of random numbers alone."""

        def log_density(u: Array) -> float:
            self.at(u)
            return self.recorder.log_density()

        return Map(self.at, log_density, self.script, self.point, self.value, False, False)


def _record(sampler: GibbsSampler, name: str, state: State, recorder: Recorder) -> _Replay:
    value, script, point = recorded(sampler, name, state, recorder, kernel=True)
    if recorder.discrete or len(point) != len(value):
        count = len(point) + recorder.discrete
        raise NotReplayable(
            f"depends on its own current value and uses {count} random numbers for a block of "
            f"{len(value)}",
            kernel=True,
        )
    old = sampler.value(state, name)
    made = _Replay(sampler, name, state, recorder, script, point, old, value)
    if not np.array_equal(made.at(point), value):
        raise NotReplayable("gives another value for the same random numbers and the same state")
    return made


def read_scan(
    sampler: GibbsSampler, name: str, state: State, other: Array, recorder: Recorder
) -> tuple[Scan, Map]:
    """Find the order in which an update draws the elements of its block.

    Parameters
    ----------
    sampler, name, state
        What is checked, and where.
    other
        Another value of the block.
    recorder
        Generator to record with.

    Returns
    -------
    Scan, Map
        The order, and the update at this state as a map of its random numbers.

    Raises
    ------
    NotReplayable
        If elements are not drawn one at a time, or one depends on its own old value.
    """
    made = _record(sampler, name, state, recorder)
    bumped = np.array([made.at(made.point + row) for row in np.eye(len(made.point))])
    J = (bumped - made.value).T
    number = _pair(np.abs(J.T) > _MOVED * np.abs(J.T).max(axis=0))
    if not (recorder.normal_only and _linear(made)):
        J = np.array([derivative(made.at, made.point, row) for row in np.eye(len(J))]).T
    # Row j: what the number of element j depends on, in units of what moves each new value by one
    # number of its own.
    own = J[np.arange(len(J)), number]
    if not (np.isfinite(J).all() and (own != 0).all()):
        raise NotReplayable("gives the same value for different random numbers")
    back: Array = np.asarray(np.linalg.inv(J[:, number]), dtype=float)
    new = np.abs(back * own) > _MOVED
    np.fill_diagonal(new, False)
    old = np.array([_moved(made, back, number, i, other[i]) for i in range(len(J))]).T
    if old.diagonal().any():
        shown = label(sampler, name, int(np.argmax(old.diagonal())))
        raise NotReplayable(f"draws {shown} given its own current value", kernel=True)
    # i before j if j uses the new value of i, and j before i if it uses the old one.
    order = _sorted(new | old.T, number)
    if order is None:
        order = _sorted(new, number)
    if order is None:
        raise NotReplayable("draws elements of the block jointly", kernel=True)
    place = np.argsort(order)
    stale = {
        j: tuple(int(i) for i in np.flatnonzero(old[j]) if place[i] < place[j])
        for j in range(len(J))
    }
    return Scan(order, number, {j: before for j, before in stale.items() if before}), made.map()


def compare_elements(
    sampler: GibbsSampler, name: str, state: State, scan: Scan, recorder: Recorder
) -> list[Comparison]:
    """Compare the density of each element with log_joint, given new values before, old after.

    Returns
    -------
    list of Comparison
        One for each element.

    Raises
    ------
    NotReplayable
        If the numbers cannot be followed.
    """
    made = _record(sampler, name, state, recorder)
    mixed = made.old.copy()
    made.at(made.point)
    base = made.log_density()
    found: dict[int, Comparison] = {}
    for j in map(int, scan.order):
        axis = np.zeros(len(made.point))
        axis[scan.number[j]] = 1.0
        points = [made.point + shift * axis for shift in (0.0, *_SHIFTS)]
        values, log_q, log_p = np.empty(3), np.empty(3), np.empty(3)
        for r, u in enumerate(points):
            values[r] = made.at(u)[j] if r else made.value[j]
            log_q[r] = made.log_density() if r else base
            mixed[j] = values[r]
            log_p[r] = sampler.joint_at(state, name, mixed)
        steps = np.diff(values) / np.diff((0.0, *_SHIFTS))
        # Of a straight line the slope cancels.
        bent = abs(steps[0] - steps[1]) > 1e-9 * (np.abs(steps).max() + np.abs(values).max())
        if bent or not recorder.normal_only:
            slopes = np.array([derivative(made.at, u, axis)[j] for u in points])
            if (np.sign(slopes) != np.sign(slopes[0])).any() or not slopes.all():
                raise NotReplayable("folds its random numbers: different ones give the same value")
            log_q -= np.log(np.abs(slopes))
        mixed[j] = made.value[j]
        found[j] = compared(log_q, log_p)
    return [found[j] for j in range(len(mixed))]


def normal_element(
    sampler: GibbsSampler, name: str, state: State, scan: Scan, j: int, recorder: Recorder
) -> tuple[Array, Array] | None:
    """Mean and SD of one element, by the update and by log_joint; None unless both are normal."""
    made = _record(sampler, name, state, recorder)
    if not recorder.normal_only:
        return None
    axis = np.eye(len(made.point))[scan.number[j]]
    base, up, down = (float(made.at(made.point + k * axis)[j]) for k in (0.0, 1.0, -1.0))
    sd = abs(up - base)
    if abs(up + down - 2.0 * base) > 1e-9 * (abs(base) + sd):
        return None
    mean = base - (up - base) * float(made.point @ axis)
    mixed = np.where(np.argsort(scan.order) < np.argsort(scan.order)[j], made.value, made.old)
    grid = mean + sd * np.arange(-2.0, 3.0)
    log_p = []
    for mixed[j] in grid:
        log_p.append(sampler.joint_at(state, name, mixed))
    if not np.isfinite(log_p).all():
        return None
    parabola = np.polyfit(np.arange(-2.0, 3.0), log_p, 2)
    bend, slope, _ = parabola
    miss = np.abs(np.polyval(parabola, np.arange(-2.0, 3.0)) - log_p).max()
    if bend >= 0 or miss > 1e-6 * (1.0 + np.ptp(log_p)):
        return None
    return np.array([mean, sd]), np.array([mean - sd * slope / (2 * bend), sd / np.sqrt(-2 * bend)])


def label(sampler: GibbsSampler, name: str, element: int) -> str:
    """An element as the user would index it."""
    where = np.unravel_index(element, np.shape(sampler.state[name]))
    return f"{name}[{', '.join(str(int(i)) for i in where)}]"


def _linear(made: _Replay) -> bool:
    """Whether values move along straight lines, on a generic one."""
    bent = np.linspace(0.3, 1.3, len(made.point))
    near, far = made.at(made.point + bent), made.at(made.point - 2.0 * bent)
    scale = np.abs(near) + np.abs(far) + np.abs(made.value)
    return bool((np.abs(far - made.value + 2.0 * (near - made.value)) <= 1e-9 * scale).all())


def _pair(moves: Array) -> Array:
    """Give each element the number that moves it and no element before it; moves[number, element].

    Raises
    ------
    NotReplayable
        If no order of the elements makes the map triangular.
    """
    left = moves.copy()
    number = np.full(len(moves), -1)
    for _ in range(len(moves)):
        single = np.flatnonzero((left.sum(axis=0) == 1) & (number < 0))
        if not single.size:
            raise NotReplayable(
                "depends on its own current value and draws elements jointly", kernel=True
            )
        number[single[0]] = int(np.argmax(left[:, single[0]]))
        left[number[single[0]]] = False
    return number


def _moved(made: _Replay, back: Array, number: Array, i: int, to: Any) -> Array:
    """Which numbers change if old element i moves and all new values are to stay, shape (n,)."""
    old = made.old.copy()
    old[i] = to
    u = made.point.copy()
    scale = np.abs(made.value) + np.abs(made.at(u, old))
    rounding = 1e-14 * np.abs(back) @ scale
    for _ in range(12):
        step = back @ (made.value - made.at(u, old))
        if (np.abs(step) <= 1e-9 + rounding).all():
            break
        u[number] += step
    else:
        raise NotReplayable(
            "depends on its own current value in a way that replay cannot undo", kernel=True
        )
    return np.asarray(np.abs(u - made.point)[number] > _MOVED + 100.0 * rounding)


def _sorted(after: Array, number: Array) -> Array | None:
    """Order with i before j wherever after[j, i], ties by random number; None if there is none."""
    waiting = after.sum(axis=1)
    left = set(range(len(after)))
    order: list[int] = []
    while left:
        free = [j for j in left if waiting[j] == 0]
        if not free:
            return None
        first = min(free, key=lambda j: int(number[j]))
        order.append(first)
        left.remove(first)
        waiting = waiting - after[:, first]
    return np.array(order)

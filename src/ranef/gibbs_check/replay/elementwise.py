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
from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.densities import Comparison, compared
from ranef.gibbs_check.replay.update_map import NotReplayable, UpdateMap, record
from ranef.gibbs_check.sampler import GibbsSampler, State

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
    update
        What was recorded.
    order
        Elements as they are drawn, shape (n,).
    number
        Random number of each element, shape (n,).
    stale
        For each element, those before it whose old value it uses.
    """

    update: UpdateMap
    order: Array
    number: Array
    stale: dict[int, tuple[int, ...]]


def read_scan(
    sampler: GibbsSampler, name: str, state: State, other: Array, recorder: Recorder
) -> Scan:
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
    Scan

    Raises
    ------
    NotReplayable
        If elements are not drawn one at a time, or one depends on its own old value.
    """
    update = _record(sampler, name, state, recorder)
    bumped = np.array([update.at(update.point + row) for row in np.eye(len(update.point))])
    J = (bumped - update.value).T
    number = _pair(np.abs(J.T) > _MOVED * np.abs(J.T).max(axis=0))
    if not (recorder.normal_only and _linear(update)):
        J = update.jacobian(update.point)
    # Row j: what the number of element j depends on, in units of what moves each new value by one
    # number of its own.
    own = J[np.arange(len(J)), number]
    if not (np.isfinite(J).all() and (own != 0).all()):
        raise NotReplayable("gives the same value for different random numbers")
    back: Array = np.asarray(np.linalg.inv(J[:, number]), dtype=float)
    new = np.abs(back * own) > _MOVED
    np.fill_diagonal(new, False)
    old = np.array([_moved(update, back, number, i, other[i]) for i in range(len(J))]).T
    if old.diagonal().any():
        shown = label(sampler, name, int(np.argmax(old.diagonal())))
        raise NotReplayable(f"draws {shown} given its own current value")
    # i before j if j uses the new value of i, and j before i if it uses the old one.
    order = _sorted(new | old.T, number)
    if order is None:
        order = _sorted(new, number)
    if order is None:
        raise NotReplayable("draws elements of the block jointly")
    place = np.argsort(order)
    stale = {
        j: tuple(int(i) for i in np.flatnonzero(old[j]) if place[i] < place[j])
        for j in range(len(J))
    }
    return Scan(update, order, number, {j: before for j, before in stale.items() if before})


def compare_elements(scan: Scan, state: State) -> list[Comparison]:
    """Compare the density of each element with log_joint, given new values before, old after.

    Parameters
    ----------
    scan
        Order of the elements.
    state
        Where to compare.

    Returns
    -------
    list of Comparison
        One for each element.

    Raises
    ------
    NotReplayable
        If the numbers cannot be followed.
    """
    update = _record(scan.update.sampler, scan.update.name, state, scan.update.recorder)
    mixed = update.own
    base = _log_density(update, update.point)
    found: dict[int, Comparison] = {}
    for j in map(int, scan.order):
        axis = np.zeros(len(update.point))
        axis[scan.number[j]] = 1.0
        points = [update.point + shift * axis for shift in (0.0, *_SHIFTS)]
        values, log_q, log_p = np.empty(3), np.empty(3), np.empty(3)
        for r, u in enumerate(points):
            values[r] = update.at(u)[j] if r else update.value[j]
            log_q[r] = _log_density(update) if r else base
            mixed[j] = values[r]
            log_p[r] = update.log_joint(mixed)
        steps = np.diff(values) / np.diff((0.0, *_SHIFTS))
        # Of a straight line the slope cancels.
        bent = abs(steps[0] - steps[1]) > 1e-9 * (np.abs(steps).max() + np.abs(values).max())
        if bent or not update.recorder.normal_only:
            slopes = np.array([update.gradient(u, axis)[j] for u in points])
            if (np.sign(slopes) != np.sign(slopes[0])).any() or not slopes.all():
                raise NotReplayable("folds its random numbers: different ones give the same value")
            log_q -= np.log(np.abs(slopes))
        mixed[j] = update.value[j]
        found[j] = compared(log_q, log_p)
    return [found[j] for j in range(len(mixed))]


def normal_element(scan: Scan, j: int) -> tuple[Array, Array] | None:
    """Mean and SD of one element, by the update and by log_joint; None unless both are normal."""
    update = scan.update
    if any(e.kind != "normal" for e in update.script):
        return None
    axis = np.eye(len(update.point))[scan.number[j]]
    base, up, down = (float(update.at(update.point + k * axis)[j]) for k in (0.0, 1.0, -1.0))
    sd = abs(up - base)
    if abs(up + down - 2.0 * base) > 1e-9 * (abs(base) + sd):
        return None
    mean = base - (up - base) * float(update.point @ axis)
    mixed = np.where(np.argsort(scan.order) < np.argsort(scan.order)[j], update.value, update.own)
    grid = mean + sd * np.arange(-2.0, 3.0)
    log_p = []
    for mixed[j] in grid:
        log_p.append(update.log_joint(mixed))
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


def _record(sampler: GibbsSampler, name: str, state: State, recorder: Recorder) -> UpdateMap:
    """Record an update that draws one continuous number for each element."""
    update = record(sampler, name, state, recorder)
    count = len(update.point) + recorder.discrete
    if update.discrete or recorder.discrete or count != len(update.value):
        raise NotReplayable(
            "depends on its own current value and uses "
            f"{count} random numbers for a block of {len(update.value)}"
        )
    return update


def _log_density(update: UpdateMap, point: Array | None = None) -> float:
    """Log density of the numbers of the last replay, or of one made for it."""
    if point is not None:
        update.at(point)
    if not update.same_parameters:
        raise NotReplayable("draws elements from shapes that depend on other elements")
    return update.recorder.log_density()


def _linear(update: UpdateMap) -> bool:
    """Whether values move along straight lines, on a generic one."""
    bent = np.linspace(0.3, 1.3, len(update.point))
    near, far = update.at(update.point + bent), update.at(update.point - 2.0 * bent)
    scale = np.abs(near) + np.abs(far) + np.abs(update.value)
    return bool((np.abs(far - update.value + 2.0 * (near - update.value)) <= 1e-9 * scale).all())


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
            raise NotReplayable("depends on its own current value and draws elements jointly")
        number[single[0]] = int(np.argmax(left[:, single[0]]))
        left[number[single[0]]] = False
    return number


def _moved(update: UpdateMap, back: Array, number: Array, i: int, to: Any) -> Array:
    """Which numbers change if old element i moves and all new values are to stay, shape (n,)."""
    old = update.own
    old[i] = to
    u = update.point.copy()
    scale = np.abs(update.value) + np.abs(update.at(u, old))
    rounding = 1e-14 * np.abs(back) @ scale
    for _ in range(12):
        step = back @ (update.value - update.at(u, old))
        if (np.abs(step) <= 1e-9 + rounding).all():
            break
        u[number] += step
    else:
        raise NotReplayable("depends on its own current value in a way that replay cannot undo")
    return np.asarray(np.abs(u - update.point)[number] > _MOVED + 100.0 * rounding)


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

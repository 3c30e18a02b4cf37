"""Level 0: the density of an update's draw, by change of variables from its random numbers.

At a fixed state an update is a map from base random numbers u to a value v, so its density is
p(u) / |dv/du|. If it is the full conditional, then for any two values
log q(v1) - log q(v2) = log p(v1, rest) - log p(v2, rest), to rounding error (mathematics.md, 7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.recorder import Diverged, Entry, Recorder, UnrecordedDraw
from ranef.gibbs_check.sampler import GibbsSampler, State, UpdateError

__all__ = [
    "Comparison",
    "Map",
    "NotReplayable",
    "compare",
    "compared",
    "derivative",
    "draws_of",
    "jacobian",
    "missed",
    "read_map",
    "recorded",
]

# Step of the five-point derivative in u, where base densities have scales near one: truncation
# is of order 1e-13, rounding of order 1e-13 too.
_STEP = 1e-3
# Draws in place of one that underflowed.
_TRIES = 50
# Relative size below which a change of the value is rounding.
_ROUNDING = 1e-9


class NotReplayable(Exception):  # noqa: N818 - not an error: level 1 takes over
    """Replay cannot give a density; `kernel` if the new value depends on the old one."""

    def __init__(self, reason: str, *, kernel: bool = False) -> None:
        super().__init__(reason)
        self.kernel = kernel


@dataclass(frozen=True)
class Map:
    """An update at one state as a function of its random numbers.

    Attributes
    ----------
    script
        Calls recorded.
    point
        Random numbers recorded, shape (k,).
    value
        What came out, shape (m,).
    affine
        Whether the map is affine in normal deviates.
    diagonal
        Whether number i moves value i alone.
    """

    at: Callable[[Array], Array]
    log_density: Callable[[Array], float]
    script: list[Entry]
    point: Array
    value: Array
    affine: bool
    diagonal: bool


@dataclass(frozen=True)
class Comparison:
    """Log densities of the same draws, by the update and by the log joint density.

    Attributes
    ----------
    log_q, log_p
        Of each draw relative to the first, shape (draws - 1,).
    worst
        Largest absolute difference.
    limit
        What rounding could explain.
    """

    log_q: Array
    log_p: Array
    worst: float
    limit: float


def read_map(
    sampler: GibbsSampler,
    name: str,
    state: State,
    other: Array,
    recorder: Recorder,
    known: Map | None = None,
) -> Map:
    """Record an update at a state and find out what kind of map it is.

    Parameters
    ----------
    sampler, name, state
        What is checked, and where.
    other
        Another value of the block: a draw from the full conditional does not depend on the block's
        own.
    recorder
        Generator to record with.
    known
        The map at another state: whether each value comes from one point is looked at once.

    Raises
    ------
    NotReplayable
        If the density cannot be had.
    """
    value, script, point = recorded(sampler, name, state, recorder)

    def at(u: Array, where: State = state) -> Array:
        recorder.replay(u, script)
        try:
            return sampler.draw(name, where, recorder)
        except Diverged:
            raise NotReplayable("draws a varying number of random numbers") from None

    def log_density(u: Array) -> float:
        at(u)
        return recorder.log_density()

    if not np.array_equal(at(point), value):
        raise NotReplayable("gives another value for the same random numbers and the same state")
    if not np.array_equal(at(point, sampler.place(state, name, other)), value):
        raise NotReplayable("depends on its own current value", kernel=True)
    affine, diagonal = False, False
    if name in sampler.discrete:
        if len(point) or recorder.discrete != len(value):
            raise NotReplayable(
                f"makes {len(value)} whole numbers of {len(point)} continuous draws"
            )
    else:
        if recorder.discrete or len(point) > len(value):
            raise NotReplayable(
                f"uses {len(point) + recorder.discrete} random numbers for a block of {len(value)}"
            )
        if not len(point):
            raise NotReplayable("draws nothing from rng")
        affine = recorder.normal_only and _is_affine(at, point, value)
        # At each state anew: what one element draws may vanish at a symmetric start.
        diagonal = _is_diagonal(at, point, value)
        if known is None:
            _check_onto(at, point, value, affine=affine, diagonal=diagonal)
    return Map(at, log_density, script, point, value, affine, diagonal)


def recorded(
    sampler: GibbsSampler, name: str, state: State, recorder: Recorder, *, kernel: bool = False
) -> tuple[Array, list[Entry], Array]:
    """Run an update once: its value, the calls it made and their coordinates.

    Raises
    ------
    NotReplayable
        If it draws in a way that is not written down; `kernel` goes along.
    """
    recorder.record()
    try:
        value = sampler.draw(name, state, recorder)
    except UnrecordedDraw as draw:
        raise NotReplayable(f"draws by {draw}", kernel=kernel) from None
    return value, list(recorder.entries), recorder.coordinates()


def compare(
    sampler: GibbsSampler, name: str, state: State, made: Map, recorder: Recorder, draws: int = 4
) -> Comparison:
    """Compare log q with the log joint density at several draws of one block, the rest fixed.

    Raises
    ------
    NotReplayable
        If the draws use different random numbers.
    """
    _, log_q, log_p = draws_of(sampler, name, state, made, recorder, draws)
    return compared(log_q, log_p)


def compared(log_q: Array, log_p: Array) -> Comparison:
    """Compare two log densities of the same values, both up to a constant, shape (draws,)."""
    size = float(np.abs(log_p).max())
    with np.errstate(invalid="ignore"):
        delta_q, delta_p = log_q[1:] - log_q[0], log_p[1:] - log_p[0]
    if not np.isfinite(log_p).all():
        return Comparison(delta_q, delta_p, np.inf, 0.0)
    # Rounding of the differences, and of the log joint density itself; far below any wrong formula.
    limit = 1e-6 * (1.0 + float(np.abs(np.append(delta_q, delta_p)).max())) + 1e-12 * size
    return Comparison(delta_q, delta_p, float(np.abs(delta_q - delta_p).max()), limit)


def missed(sampler: GibbsSampler, name: str, state: State, made: Map) -> str:
    """Look whether an element ends where log_joint goes on: ratios of densities do not show it.

    Only maps that are not affine can end anywhere. At the most extreme random numbers, of tail
    probability near 1e-16, a right density is far below its top.
    """
    if not made.diagonal or made.affine or name in sampler.discrete:
        return ""
    top = sampler.joint_at(state, name, made.value)
    axis = np.eye(len(made.point))[0]
    for end in _ends(made.script[0]):
        try:
            near = made.at(made.point + axis)
            value = made.at(made.point + axis * (end - made.point[0]))
        except UpdateError:  # overflow: it goes on for ever
            continue
        step = np.abs(near - made.value)[0] * np.sign(value[0] - made.value[0])
        beyond = value.copy()
        beyond[0] += 1e-3 * step
        if sampler.joint_at(state, name, beyond) > top - 20.0:
            return f"never goes beyond {value[0]:.6g}, where log_joint goes on"
    return ""


def draws_of(
    sampler: GibbsSampler, name: str, state: State, made: Map, recorder: Recorder, count: int
) -> tuple[Array, Array, Array]:
    """Draw one block at a fixed state; values, log q and log joint of each, up to constants.

    Raises
    ------
    NotReplayable
        If the draws use different random numbers.
    """
    pattern = [(e.kind, e.values.size) for e in made.script]
    values = np.empty((count, len(made.value)))
    log_q, log_p = np.empty(count), np.empty(count)
    base = None
    for r in range(count):
        for _ in range(_TRIES):
            recorder.record()
            values[r] = sampler.draw(name, state, recorder)
            if recorder.signature != pattern:
                raise NotReplayable("draws a varying number of random numbers")
            # Gamma variables of small shape underflow to zero, where no density can be compared.
            if name in sampler.discrete or (values[r] != 0).all() or (made.value == 0).any():
                break
        u = recorder.coordinates()
        log_q[r] = recorder.log_density()
        # The Jacobian of an affine map is the same for all draws and cancels.
        if len(u) and not made.affine:
            base, log_volume = _log_volume(made, u, base)
            log_q[r] -= log_volume
        log_p[r] = sampler.joint_at(state, name, values[r])
    return values, log_q, log_p


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


# -- what kind of map


def _is_affine(at: Callable[[Array], Array], point: Array, value: Array) -> bool:
    """Whether the map keeps straight lines straight, on two generic lines."""
    zero = at(np.zeros_like(point))
    for factor in (-1.0, 1.7):
        expected = zero + factor * (value - zero)
        scale = np.abs(expected) + np.abs(value) + np.abs(zero)
        if (np.abs(at(factor * point) - expected) > _ROUNDING * scale).any():
            return False
    bent = point * np.linspace(0.3, 1.3, len(point))
    parts = at(bent) - zero + (at(point - bent) - zero)
    scale = np.abs(value) + np.abs(zero) + np.abs(parts)
    return bool((np.abs(parts - (value - zero)) <= _ROUNDING * scale).all())


def _is_diagonal(at: Callable[[Array], Array], point: Array, value: Array) -> bool:
    """Whether number i moves value i alone: any two indices differ in some binary digit."""
    if len(point) != len(value):
        return False
    index = np.arange(len(point))
    for digit in range(max(int(len(point) - 1).bit_length(), 1)):
        chosen = (index >> digit & 1).astype(bool)
        for mask in (chosen, ~chosen):
            if mask.any() and not np.array_equal(at(point + mask)[~mask], value[~mask]):
                return False
    return True


def _check_onto(
    at: Callable[[Array], Array], point: Array, value: Array, *, affine: bool, diagonal: bool
) -> None:
    """Make sure that each value comes from one point: else the density has several terms."""
    if diagonal and affine:
        if (at(point + 1.0) == value).any():
            raise NotReplayable("gives the same value for different random numbers")
        return
    if diagonal:
        values = np.array([at(point + shift) for shift in np.linspace(-3, 3, 7)])
        steps = np.sign(np.diff(values, axis=0))
        if (steps != steps[0]).any() or (steps == 0).any():
            raise NotReplayable("folds its random numbers: different ones give the same value")
        return
    J = jacobian(at, point, affine=affine)
    if np.linalg.matrix_rank(J) < len(point):
        raise NotReplayable("gives the same value for different random numbers")
    if len(point) == len(value) and not affine:
        sign = np.linalg.slogdet(J)[0]
        for factor in (-1.0, 0.5):
            if np.linalg.slogdet(jacobian(at, factor * point, affine=False))[0] != sign:
                raise NotReplayable("folds its random numbers: different ones give the same value")


def jacobian(at: Callable[[Array], Array], point: Array, *, affine: bool) -> Array:
    """Dense dv/du, shape (m, k)."""
    if affine:
        zero = at(np.zeros_like(point))
        columns = [at(row) - zero for row in np.eye(len(point))]
    else:
        columns = [derivative(at, point, row) for row in np.eye(len(point))]
    return np.array(columns).T


def derivative(at: Callable[[Array], Array], point: Array, direction: Array) -> Array:
    """Five-point derivative along a direction."""
    h = _STEP * direction
    near = at(point + h) - at(point - h)
    far = at(point + 2 * h) - at(point - 2 * h)
    return np.asarray((8.0 * near - far) / (12.0 * _STEP))


def _log_volume(made: Map, u: Array, base: Array | None) -> tuple[Array | None, float]:
    """Log of how much the map stretches volume at u.

    With fewer random numbers than values (covariance matrices, probability vectors) the values lie
    on a flat surface, and volume is that of the surface; `base` spans it.
    """
    if made.diagonal:
        slope = derivative(made.at, u, np.ones_like(u))
        return base, float(np.log(np.abs(slope)).sum())
    J = jacobian(made.at, u, affine=False)
    if J.shape[0] == J.shape[1]:
        return base, float(np.linalg.slogdet(J)[1])
    if base is None:
        base = np.linalg.qr(J)[0]
    elif not np.allclose(base @ (base.T @ J), J, rtol=1e-6, atol=1e-6 * np.abs(J).max()):
        raise NotReplayable(
            f"draws {J.shape[1]} random numbers for {J.shape[0]} values on a curved surface"
        )
    return base, 0.5 * float(np.linalg.slogdet(J.T @ J)[1])

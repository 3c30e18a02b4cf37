"""Level 0: an update as a map of its random numbers, recorded once and replayed at will.

At a fixed state an update is a map from base random numbers u to a value v, so its density is
p(u) / |dv/du| (mathematics.md, 7).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.recorder import Diverged, Entry, Recorder, UnrecordedDraw
from ranef.gibbs_check.sampler import GibbsSampler, State

__all__ = ["NotReplayable", "UpdateMap", "read_map", "record"]

# Step of the five-point derivative in u, where base densities have scales near one: truncation
# is of order 1e-13, rounding of order 1e-13 too.
_STEP = 1e-3
# Relative size below which a change of the value is rounding.
_ROUNDING = 1e-9
_MANY_TO_ONE = "gives the same value for different random numbers"
_FOLDS = "folds its random numbers: different ones give the same value"


class NotReplayable(Exception):  # noqa: N818 - not an error: level 1 takes over
    """Replay cannot give a density; `kernel` if the new value depends on the old one."""

    def __init__(self, reason: str, *, kernel: bool = False) -> None:
        super().__init__(reason)
        self.kernel = kernel


@dataclass(frozen=True)
class UpdateMap:
    """An update at one state as a function of its random numbers and of the block's own value.

    Attributes
    ----------
    sampler, name, state
        What is checked, and where.
    recorder
        Generator that has recorded the update and replays it.
    script
        Calls recorded.
    point
        Coordinates of the continuous random numbers recorded, shape (k,).
    value
        What came out, shape (m,).
    affine
        Whether the map is affine in normal deviates.
    diagonal
        Whether number i moves value i alone.
    """

    sampler: GibbsSampler
    name: str
    state: State
    recorder: Recorder
    script: list[Entry]
    point: Array
    value: Array
    affine: bool = False
    diagonal: bool = False

    @property
    def discrete(self) -> bool:
        """Whether the block holds whole numbers."""
        return self.name in self.sampler.discrete

    @property
    def own(self) -> Array:
        """The block's value in the state, shape (m,)."""
        return self.sampler.value(self.state, self.name)

    def at(self, u: Array, own: Array | None = None) -> Array:
        """Value that comes out of other random numbers, or of another value of the block.

        Raises
        ------
        NotReplayable
            If other calls are made than were recorded.
        UpdateError
            If the update fails, as it may where the numbers lead out of the support.
        """
        state = self.state if own is None else self.sampler.place(self.state, self.name, own)
        self.recorder.replay(u, self.script)
        try:
            return self.sampler.draw(self.name, state, self.recorder)
        except (Diverged, UnrecordedDraw):
            raise NotReplayable("draws a varying number of random numbers") from None

    @property
    def same_parameters(self) -> bool:
        """Whether the last replay drew from the distributions that were recorded."""
        return all(
            np.array_equal(p, q)
            for now, then in zip(self.recorder.entries, self.script, strict=False)
            for p, q in zip(now.parameters, then.parameters, strict=True)
        )

    def log_density(self, u: Array) -> float:
        """Log density of random numbers, given what the update makes of those before them."""
        self.at(u)
        return self.recorder.log_density()

    def log_joint(self, value: Array) -> float:
        """Log joint density with this block moved."""
        return self.sampler.joint_at(self.state, self.name, value)

    def gradient(self, u: Array, direction: Array) -> Array:
        """Five-point derivative of the value along a direction, shape (m,)."""
        h = _STEP * direction
        near = self.at(u + h) - self.at(u - h)
        far = self.at(u + 2 * h) - self.at(u - 2 * h)
        return np.asarray((8.0 * near - far) / (12.0 * _STEP))

    def jacobian(self, u: Array, *, affine: bool = False) -> Array:
        """Dense dv/du, shape (m, k); by differences from zero if the map is affine."""
        if affine:
            zero = self.at(np.zeros_like(u))
            return np.array([self.at(row) - zero for row in np.eye(len(u))]).T
        return np.array([self.gradient(u, row) for row in np.eye(len(u))]).T

    def log_volume(self, u: Array, base: Array | None) -> tuple[Array | None, float]:
        """Log of how much the map stretches volume at u.

        With fewer random numbers than values (covariance matrices, probability vectors) the values
        lie on a flat surface, and volume is that of the surface; `base` spans it.
        """
        if self.diagonal:
            slope = self.gradient(u, np.ones_like(u))
            return base, float(np.log(np.abs(slope)).sum())
        J = self.jacobian(u)
        if J.shape[0] == J.shape[1]:
            return base, float(np.linalg.slogdet(J)[1])
        if base is None:
            base = np.linalg.qr(J)[0]
        elif not np.allclose(base @ (base.T @ J), J, rtol=1e-6, atol=1e-6 * np.abs(J).max()):
            raise NotReplayable(
                f"draws {J.shape[1]} random numbers for {J.shape[0]} values on a curved surface"
            )
        return base, 0.5 * float(np.linalg.slogdet(J.T @ J)[1])


def record(sampler: GibbsSampler, name: str, state: State, recorder: Recorder) -> UpdateMap:
    """Run an update once and write down what it draws.

    Raises
    ------
    NotReplayable
        If it draws in a way that is not written down, or does not repeat itself.
    """
    recorder.record()
    try:
        value = sampler.draw(name, state, recorder)
    except UnrecordedDraw as draw:
        raise NotReplayable(f"draws by {draw}") from None
    script, point = list(recorder.entries), recorder.coordinates()
    update = UpdateMap(sampler, name, state, recorder, script, point, value)
    if not np.array_equal(update.at(point), value):
        raise NotReplayable("gives another value for the same random numbers and the same state")
    return update


def read_map(
    sampler: GibbsSampler,
    name: str,
    state: State,
    other: Array,
    recorder: Recorder,
    known: UpdateMap | None = None,
) -> UpdateMap:
    """Record an update that draws its block at once, and find out what kind of map it is.

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
    update = record(sampler, name, state, recorder)
    point, value = update.point, update.value
    whole = recorder.discrete
    if not np.array_equal(update.at(point, other), value):
        raise NotReplayable("depends on its own current value", kernel=True)
    if update.discrete:
        if len(point) or whole != len(value):
            raise NotReplayable(
                f"makes {len(value)} whole numbers of {len(point)} continuous draws"
            )
        return update
    if whole or len(point) > len(value):
        raise NotReplayable(f"uses {len(point) + whole} random numbers for a block of {len(value)}")
    if not len(point):
        raise NotReplayable("draws nothing from rng")
    # At each state anew: what one element draws may vanish at a symmetric start.
    affine, diagonal = recorder.normal_only and _is_affine(update), _is_diagonal(update)
    update = replace(update, affine=affine, diagonal=diagonal)
    if known is None:
        _check_onto(update)
    return update


def _is_affine(update: UpdateMap) -> bool:
    """Whether the map keeps straight lines straight, on two generic lines."""
    at, point, value = update.at, update.point, update.value
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


def _is_diagonal(update: UpdateMap) -> bool:
    """Whether number i moves value i alone: any two indices differ in some binary digit."""
    point, value = update.point, update.value
    if len(point) != len(value):
        return False
    index = np.arange(len(point))
    for digit in range(max(int(len(point) - 1).bit_length(), 1)):
        chosen = (index >> digit & 1).astype(bool)
        for mask in (chosen, ~chosen):
            if mask.any() and not np.array_equal(update.at(point + mask)[~mask], value[~mask]):
                return False
    return True


def _check_onto(update: UpdateMap) -> None:
    """Make sure that each value comes from one point: else the density has several terms."""
    point, value = update.point, update.value
    if update.diagonal and update.affine:
        if (update.at(point + 1.0) == value).any():
            raise NotReplayable(_MANY_TO_ONE)
        return
    if update.diagonal:
        values = np.array([update.at(point + shift) for shift in np.linspace(-3, 3, 7)])
        steps = np.sign(np.diff(values, axis=0))
        if (steps != steps[0]).any() or (steps == 0).any():
            raise NotReplayable(_FOLDS)
        return
    J = update.jacobian(point, affine=update.affine)
    if np.linalg.matrix_rank(J) < len(point):
        raise NotReplayable(_MANY_TO_ONE)
    if len(point) == len(value) and not update.affine:
        sign = np.linalg.slogdet(J)[0]
        for factor in (-1.0, 0.5):
            if np.linalg.slogdet(update.jacobian(factor * point))[0] != sign:
                raise NotReplayable(_FOLDS)

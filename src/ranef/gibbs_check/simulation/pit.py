"""Level 1: draws of an update against the full conditional, by probability integral transforms.

If v is drawn from the full conditional, then on any line through v the conditional distribution
function at v is uniform. It comes from the log joint density by quadrature. Uniformity is tested at
each state by itself, for too much spread at one and too little at another cancel in a pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit, logit

from ranef.common.array_types import Array
from ranef.gibbs_check.sampler import GibbsSampler, State
from ranef.gibbs_check.simulation.line_cdf import Line, Unbounded, tabulate
from ranef.gibbs_check.states import is_positive

__all__ = ["Coordinates", "PitResult", "coordinates_of", "one_step_pit"]

# Draws at each state after which the test looks; the false-alarm rate is split evenly.
_LOOKS_SCALAR = (500, 2500, 8000)
_LOOKS_VECTOR = (60, 150, 300)
# Directions through vectors: this share along the axes, the rest at random.
_AXES = 0.5


@dataclass(frozen=True)
class PitResult:
    """Outcome of level 1.

    Attributes
    ----------
    p_value
        Smallest p-value over states, looks and both statistics, times their number.
    draws
        Updates run in all.
    note
        What came out where, if the test failed.
    """

    p_value: float
    draws: int
    note: str


@dataclass(frozen=True)
class Coordinates:
    """Unbounded coordinates of a block, with their log Jacobian."""

    inside: Callable[[Array], Array]
    outside: Callable[[Array], Array]
    log_jacobian: Callable[[Array], float]


def coordinates_of(sampler: GibbsSampler, states: list[State], name: str) -> Coordinates:
    """Choose log, logit or plain coordinates by where the log joint density is finite."""
    value = sampler.value(states[0], name)
    if all(is_positive(sampler, s, name) for s in states):
        if (value < 1).all() and sampler.joint_at(states[0], name, value + 1) == -np.inf:
            return Coordinates(logit, expit, lambda t: float((log_expit(t) + log_expit(-t)).sum()))
        return Coordinates(np.log, np.exp, lambda t: float(t.sum()))
    return Coordinates(np.asarray, np.asarray, lambda t: 0.0)  # noqa: ARG005


def one_step_pit(
    sampler: GibbsSampler,
    name: str,
    states: list[State],
    rng: np.random.Generator,
    alpha: float,
    *,
    kernel: bool = False,
) -> PitResult:
    """Test that one update leaves (or draws from) the full conditional.

    Parameters
    ----------
    sampler, name
        What is checked.
    states
        States to fix the rest at.
    rng
        Source of random numbers.
    alpha
        Probability that a right update fails, over all states and looks.
    kernel
        True for an update of a scalar that only leaves the conditional invariant: it then starts
        at an exact draw.

    Returns
    -------
    PitResult
    """
    from scipy.stats import kstest

    size = sampler.value(states[0], name).size
    looks = _LOOKS_SCALAR if size == 1 else _LOOKS_VECTOR
    tests = 2 * len(states) * len(looks)
    transforms = [_Transform(sampler, name, s, states, rng) for s in states]
    uniform: list[Array] = [np.empty(0) for _ in states]
    best, note, used = 1.0, "", 0
    for look in looks:
        for i, transform in enumerate(transforms):
            used += look - len(uniform[i])
            uniform[i] = np.append(uniform[i], transform.many(look - len(uniform[i]), kernel))
            values = uniform[i]
            if not np.isfinite(values).all():
                return PitResult(0.0, used, "draws values where log_joint is not finite")
            for statistic, aspect in ((values, "place"), (np.abs(2 * values - 1), "spread")):
                p = min(1.0, tests * float(kstest(statistic, "uniform").pvalue))
                if p < best:
                    best = p
                    note = _describe(values, aspect, kernel)
        if best < alpha:
            break
    return PitResult(best, used, note if best < alpha else "")


def _describe(u: Array, statistic: str, kernel: bool) -> str:
    """Say in words how transforms differ from uniform ones."""
    prefix = "one step from exact draws gives values" if kernel else "draws values"
    if statistic == "place":
        side = "low" if u.mean() < 0.5 else "high"
        return f"{prefix} that are too {side} (mean probability {u.mean():.3f}, 0.5 expected)"
    spread = float(np.abs(2 * u - 1).mean())
    side = "little" if spread < 0.5 else "much"
    return f"{prefix} that spread too {side} ({spread:.3f}, 0.5 expected)"


class _Transform:
    """Draw from an update at one state and give the distribution function at the draws."""

    def __init__(
        self,
        sampler: GibbsSampler,
        name: str,
        state: State,
        states: list[State],
        rng: np.random.Generator,
    ) -> None:
        self.sampler, self.name, self.state, self.rng = sampler, name, state, rng
        self.discrete, self.broken = name in sampler.discrete, False
        seen = np.array([sampler.draw(name, state, rng) for _ in range(200)])
        self.line: Line | None = None
        self.table: tuple[Array, Array] | None = None
        if self.discrete:
            # With what the user's own state holds: an update may never get there.
            own = np.unique(sampler.value(sampler.state, name))
            self.seen = [np.union1d(column, own) for column in seen.T]
            if seen.shape[1] == 1:
                self.table = self._table(seen[0], 0)
            return
        self.coordinates = coordinates_of(sampler, states, name)
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = np.array([self.coordinates.inside(v) for v in seen])
        if not np.isfinite(inside).all():
            self.broken = True
            return
        spread = inside.std(axis=0)
        center = np.median(inside, axis=0)
        scale = np.maximum(spread, 1e-8 * (1 + np.abs(center)))
        self.scale: Array = scale
        if seen.shape[1] == 1:
            start = float(center[0])
            if not np.isfinite(self._log(np.array([start]))):
                start = float(self.coordinates.inside(sampler.value(state, name))[0])
            self.line = tabulate(lambda t: self._log(np.array([t])), start, float(scale[0]), 513)
            self._refuse_other_bumps(inside[:, 0])

    def _refuse_other_bumps(self, seen: Array) -> None:
        """Raise Unbounded if draws lie beyond the line where the density is as high as on it."""
        assert self.line is not None
        nodes = self.line.nodes
        top = max(self._log(np.array([t])) for t in nodes[:: len(nodes) // 32])
        for t in seen[(seen < nodes[0]) | (seen > nodes[-1])]:
            if self._log(np.array([t])) > top - 3.0:
                raise Unbounded

    def _log(self, t: Array) -> float:
        value = self.coordinates.outside(t)
        more = self.coordinates.log_jacobian(t)
        return self.sampler.joint_at(self.state, self.name, value) + more

    def _table(self, value: Array, i: int) -> tuple[Array, Array]:
        """Probabilities of the values seen of one element, the others fixed."""
        logs = []
        for candidate in self.seen[i]:
            moved = value.copy()
            moved[i] = candidate
            logs.append(self.sampler.joint_at(self.state, self.name, moved))
        weight = np.exp(np.array(logs) - max(logs))
        return self.seen[i], weight / weight.sum()

    def many(self, count: int, kernel: bool) -> Array:
        """Transforms of so many updates, nan where the log joint density is not finite."""
        if self.broken:
            return np.full(count, np.nan)
        values = [self._update(kernel) for _ in range(count)]
        if self.discrete:
            return np.array([self._discrete(v) for v in values])
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.array([self.coordinates.inside(v) for v in values])
        if self.line is None:
            return np.array([self._along_a_line(row) for row in t])
        outside = (t[:, 0] <= self.line.nodes[0]) | (t[:, 0] >= self.line.nodes[-1])
        bad = [not (np.isfinite(row).all() and np.isfinite(self._log(row))) for row in t[outside]]
        if any(bad):
            return np.full(count, np.nan)
        return self.line.cdf(t[:, 0])

    def _update(self, kernel: bool) -> Array:
        state = self.state
        if kernel:
            state = self.sampler.place(state, self.name, self._exact())
        return self.sampler.draw(self.name, state, self.rng)

    def _along_a_line(self, t: Array) -> float:
        """Transform of a vector on a line through it, along an axis or at random."""
        if not (np.isfinite(t).all() and np.isfinite(self._log(t))):
            return np.nan
        if self.rng.random() < _AXES:
            direction = np.zeros_like(t)
            i = self.rng.integers(t.size)
            direction[i] = self.scale[i]
        else:
            direction = self.scale * self.rng.standard_normal(t.size) / np.sqrt(t.size)
        line = tabulate(lambda s: self._log(t + s * direction), 0.0, 1.0, 65)
        return float(line.cdf(np.zeros(1))[0])

    def _exact(self) -> Array:
        """Draw a scalar block from its full conditional by quadrature."""
        if self.table is not None:
            values, share = self.table
            return np.atleast_1d(self.rng.choice(values, p=share)).astype(float)
        if self.line is None:
            raise ValueError("exact draws are for scalar blocks")
        return self.coordinates.outside(np.array([self.line.draw(self.rng)]))

    def _discrete(self, value: Array) -> float:
        """Randomised transform of one element, given that it is among the values seen."""
        if not np.isfinite(self.sampler.joint_at(self.state, self.name, value)):
            return np.nan
        for _ in range(100):
            i = int(self.rng.integers(value.size))
            values, share = self.table if self.table is not None else self._table(value, i)
            here = np.flatnonzero(values == value[i])
            if len(here):
                j = int(here[0])
                return float(share[:j].sum() + self.rng.random() * share[j])
            value = self.sampler.draw(self.name, self.state, self.rng)
        return np.nan

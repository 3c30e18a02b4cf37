"""Integrals over one effect for each group, by the trapezoid rule (mathematics.md, 4.8).

With b = sd u and u standard normal beforehand, a group's integrand in u has a single peak of some
mode and width. Nodes lie evenly about it; for smooth integrands that fall off at both ends the
error of the trapezoid rule falls exponentially with their number (Trefethen and Weideman 2014, SIAM
Review 56, 385). Draws stand last in memory, and one node is done at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.likelihood.integrated.sums import GroupSums

__all__ = ["Fan", "GroupIntegrals", "Peaks", "Rule"]

# Newton's steps: at most so many, so long on the scale of the linear predictor and of u; modes this
# near, in widths, will do, because the rule needs them only to lie about right.
_STEPS, _LONGEST, _NEAR = 60, 2.0, 0.1
# What the integrand falls by, in nats, where nodes end.
_FALL = 24.0


@dataclass(frozen=True)
class Rule:
    """Where nodes lie, in widths of each group's peak.

    Attributes
    ----------
    left, right
        How far they go to both sides, shape (G, 1).
    nodes
        Their number.
    """

    left: Array
    right: Array
    nodes: int


@dataclass(frozen=True)
class Peaks:
    """Peaks of the integrands in u.

    Attributes
    ----------
    mode, width
        Shape (G, S).
    """

    mode: Array
    width: Array


@dataclass(frozen=True)
class Fan:
    """Nodes and log integrands there.

    Attributes
    ----------
    u, log_f
        Shape (nodes, G, S).
    gap
        Distance of neighbours, shape (G, S).
    """

    u: Array
    log_f: Array
    gap: Array

    def log_integrals(self) -> Array:
        """Log of each integral, shape (G, S)."""
        top = self.log_f.max(axis=0)
        with np.errstate(invalid="ignore"):
            total = np.exp(self.log_f - top).sum(axis=0)
        return np.asarray(top + np.log(total * self.gap) - 0.5 * np.log(2 * np.pi))

    def weights(self) -> Array:
        """Probability of each node, shape (nodes, G, S)."""
        weight = np.exp(self.log_f - self.log_f.max(axis=0))
        return np.asarray(weight / weight.sum(axis=0))


@dataclass(frozen=True)
class GroupIntegrals:
    """The integrals of all groups at S draws.

    Attributes
    ----------
    sums
        Log densities of groups given their effects.
    sd
        SD of the effects, shape (S,).
    """

    sums: GroupSums
    sd: Array

    def log_integrand(self, u: Array) -> Array:
        """Log integrand at u (G, S)."""
        return np.asarray(self.sums.log_density(self.sd * u) - 0.5 * u * u)

    def slopes(self, u: Array) -> tuple[Array, Array]:
        """Derivative of the log integrand by u, and minus the second one, shape (G, S)."""
        first, second = self.sums.slopes(self.sd * u)
        return self.sd * first - u, 1 + self.sd**2 * second

    def peaks(self, begin: Array, size: float) -> Peaks:
        """Climb by Newton's method from u = begin (G, S); size is that of the effects' column."""
        u = begin
        longest = np.minimum(_LONGEST / (self.sd * size), _LONGEST)
        for _ in range(_STEPS):
            slope, bend = self.slopes(u)
            step = np.clip(slope / bend, -longest, longest)
            u = u + step
            if np.nanmax(np.abs(step) * np.sqrt(bend), initial=0.0) < _NEAR:
                break
        return Peaks(u, 1 / np.sqrt(bend))

    def fan(self, peaks: Peaks, rule: Rule) -> Fan:
        """Evaluate the integrand at all nodes."""
        gap = (rule.left + rule.right) / (rule.nodes - 1) * peaks.width
        low = peaks.mode - rule.left * peaks.width
        u = low + gap * np.arange(rule.nodes)[:, None, None]
        log_f = np.empty_like(u)
        for k in range(rule.nodes):
            log_f[k] = self.log_integrand(u[k])
        return Fan(u, log_f, gap)

    def reach(self, peaks: Peaks) -> tuple[Array, Array]:
        """How far to the left and right the integrand falls by 24 nats, in widths, (G,) each.

        The farthest of the draws. By secants of the root of the fall, which is nearly a line.
        """
        top = self.log_integrand(peaks.mode)
        out = []
        for side in (-1.0, 1.0):
            away = np.full_like(peaks.mode, np.sqrt(2 * _FALL))
            for _ in range(3):
                u = peaks.mode + side * away * peaks.width
                fall = np.maximum(top - self.log_integrand(u), 1e-3)
                away = away * np.clip(np.sqrt(_FALL / fall), 0.2, 4.0)
            out.append(away.max(axis=1))
        return out[0], out[1]

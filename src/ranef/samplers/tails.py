"""Coordinates in which a posterior of log SDs and correlations has tails like a normal density.

A standard deviation that may be zero leaves an exponential tail towards minus infinity on the log
scale, and so do correlations towards one. With x = c + t + t |t| / 2 such a tail becomes normal in
t, while near the mode c nothing changes. Hard bounds are opened first (mathematics.md, 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.samplers.bounds import Bounds

__all__ = ["TailTransform"]


@dataclass(frozen=True)
class TailTransform:
    """Elementwise map from y on the line to parameters.

    Attributes
    ----------
    bounds
        Hard bounds of the parameters.
    center
        Where the map has slope one, in the coordinates that the bounds open, shape (d,).
    """

    bounds: Bounds
    center: Array

    def inside(self, y: Array) -> Array:
        """Parameters at y, shape (n, d)."""
        return self.bounds.inside(self.open(y))

    def log_jacobian(self, y: Array) -> Array:
        """Logarithm of the map's Jacobian at y (n, d), shape (n,)."""
        own = np.log1p(np.abs(y - self.center)).sum(axis=1)
        return np.asarray(own + self.bounds.log_jacobian(self.open(y))[0].sum(axis=1))

    def outside(self, v: Array, covariance: Array) -> tuple[Array, Array]:
        """A point v (d,) of the opened coordinates and a covariance (d, d) there, both in y."""
        gap = v - self.center
        t = np.sign(gap) * (np.sqrt(1 + 2 * np.abs(gap)) - 1)
        scale = 1 / (1 + np.abs(t))
        return self.center + t, covariance * np.outer(scale, scale)

    def open(self, y: Array) -> Array:
        """The coordinates that bounds open, at y; shape (n, d)."""
        t = y - self.center
        return np.asarray(self.center + t + 0.5 * t * np.abs(t))

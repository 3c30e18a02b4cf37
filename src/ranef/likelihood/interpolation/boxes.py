"""Boxes in which a likelihood is interpolated, as maps to the cube with sides from -1 to 1.

In logarithms an SD that the data fix is nearly normal, but one that may be zero has a tail without
end. There the likelihood changes no more, and as a function of the SD itself, of which it sees the
square, it is smooth down to zero and beyond, so a polynomial on the plain scale holds where one in
logarithms does not (mathematics.md, 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranef.common.array_types import Array

    Mask = NDArray[np.bool_]

__all__ = ["MOST_RATIOS", "Box", "LogBox", "PlainBox"]

# Total degrees of the polynomial tried in turn, by number of ratios: the terms grow fast.
_LOG_DEGREES = {1: (8, 14), 2: (5, 8, 11), 3: (4, 6, 7, 8), 4: (3, 5), 5: (3, 4), 6: (3,)}
_PLAIN_DEGREES = {1: (8, 14), 2: (8, 12, 16), 3: (8, 10, 12, 14), 4: (6, 8), 5: (5, 6), 6: (4, 5)}
MOST_RATIOS = max(_LOG_DEGREES)

# Half width of a box in logarithms, in posterior SDs.
_RADIUS = 4.0


class Box(Protocol):
    """Where a likelihood is interpolated.

    Attributes
    ----------
    degrees
        Degrees of polynomials worth trying, by number of ratios.
    tolerance
        Error in nats at which to stop raising the degree.
    checks
        Fresh points at which the error is measured.
    plain
        Whether it is much wider than the posterior, so that most of it does not matter.
    """

    degrees: ClassVar[dict[int, tuple[int, ...]]]
    tolerance: ClassVar[float]
    checks: ClassVar[int]
    plain: ClassVar[bool]

    def cube(self, relative: Array) -> Array:
        """Places in the cube of variance ratios (n, K): log SDs, unconstrained correlations."""
        ...

    def ratios(self, u: Array) -> Array:
        """The inverse of `cube`."""
        ...


@dataclass(frozen=True)
class LogBox:
    """A box along the axes of the posterior, in logarithms.

    Attributes
    ----------
    center, root
        Its middle, shape (K,), and a root of the covariance there, shape (K, K).
    """

    degrees: ClassVar[dict[int, tuple[int, ...]]] = _LOG_DEGREES
    tolerance: ClassVar[float] = 1e-4
    checks: ClassVar[int] = 12
    plain: ClassVar[bool] = False

    center: Array
    root: Array

    def cube(self, relative: Array) -> Array:
        """Places in the cube of variance ratios (n, K)."""
        return np.asarray((relative - self.center) @ np.linalg.inv(self.root).T / _RADIUS)

    def ratios(self, u: Array) -> Array:
        """The inverse of `cube`."""
        return np.asarray(self.center + _RADIUS * u @ self.root.T)


@dataclass(frozen=True)
class PlainBox:
    """A box in the SDs and partial correlations themselves.

    Attributes
    ----------
    low, high
        Its corners, shape (K,); SDs relative to sigma from zero on, correlations within one.
    scale
        Which of them are SDs, shape (K,).
    """

    degrees: ClassVar[dict[int, tuple[int, ...]]] = _PLAIN_DEGREES
    tolerance: ClassVar[float] = 1e-3
    checks: ClassVar[int] = 20
    plain: ClassVar[bool] = True

    low: Array
    high: Array
    scale: Mask

    def cube(self, relative: Array) -> Array:
        """Places in the cube of variance ratios (n, K)."""
        # What overflows lies outside whatever it is.
        plain = np.where(self.scale, np.exp(np.minimum(relative, 700.0)), np.tanh(relative))
        return np.asarray(2 * (plain - self.low) / (self.high - self.low) - 1)

    def ratios(self, u: Array) -> Array:
        """The inverse of `cube`."""
        plain = self.low + (u + 1) / 2 * (self.high - self.low)
        out = np.empty_like(plain)
        out[:, self.scale] = np.log(plain[:, self.scale])
        out[:, ~self.scale] = np.arctanh(plain[:, ~self.scale])
        return out

"""A density on a line, known up to a constant at any point, as a distribution function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ranef.common.array_types import Array

__all__ = ["Line", "Unbounded", "tabulate"]

# Log density below the top at which the tail is cut: e^-30 is far below what any test sees.
_CUT = 30.0


class Unbounded(Exception):  # noqa: N818 - not an error: it cannot be integrated on a line
    """A density goes on: it never falls off to one side, or rises again beyond a valley."""


@dataclass(frozen=True)
class Line:
    """Distribution function at nodes that are even in asinh((t - center) / width)."""

    nodes: Array
    below: Array
    center: float
    width: float

    def cdf(self, t: Array) -> Array:
        """Probability below t, by monotone cubic interpolation between the nodes."""
        from scipy.interpolate import PchipInterpolator

        inside = np.clip(np.asarray(t, float), self.nodes[0], self.nodes[-1])
        x, nodes = (np.arcsinh((v - self.center) / self.width) for v in (inside, self.nodes))
        return np.asarray(np.clip(PchipInterpolator(nodes, self.below)(x), 0.0, 1.0))

    def draw(self, rng: np.random.Generator) -> float:
        """One value, by inversion of the table between its nodes."""
        return float(np.interp(rng.random(), self.below, self.nodes))


def tabulate(
    log_density: Callable[[float], float], start: float, scale: float, points: int = 257
) -> Line:
    """Tabulate the distribution function of a density around a point where it is positive.

    Parameters
    ----------
    log_density
        Up to a constant; minus infinity outside the support. One bump is expected, or several that
        are no more than 30 nats apart in height and have no deeper valley between them.
    start, scale
        A point of positive density, and a first guess of the spread.
    points
        Number of nodes.

    Returns
    -------
    Line

    Raises
    ------
    Unbounded
        If the density does not fall off to one side.
    """
    top = log_density(start)
    ends = []
    for sign in (-1.0, 1.0):
        inside, step = start, scale
        for _ in range(80):
            outside = inside + sign * step
            value = log_density(outside)
            top = max(top, value)
            if value < top - _CUT:
                break
            inside, step = outside, 2 * step
        else:
            raise Unbounded
        ends.append((inside, outside))
    low, high = (_bisect(log_density, inside, outside, top) for inside, outside in ends)
    # Tails may be a thousand times wider than the bump: nodes are even in asinh of the distance
    # from the top, in units of the bump's width, which a first pass finds.
    grid = _spread(start, scale, low, high, 65)[0]
    values = np.array([log_density(float(t)) for t in grid])
    center = float(grid[np.argmax(values)])
    lower = np.abs(grid - center)[values < values.max() - 2.0]
    width = float(lower.min()) if len(lower) else high - low
    nodes, slope = _spread(center, width, low, high, points)
    values = np.array([log_density(float(t)) for t in nodes])
    density = np.exp(values - values.max()) * slope
    # Integral over each interval of the parabolas through three nodes, left and right.
    third = np.diff(density, 2)
    bend = np.concatenate([third[:1], (third[1:] + third[:-1]) / 2, third[-1:]])
    piece = (density[:-1] + density[1:]) / 2 - bend / 12
    below = np.concatenate([[0.0], np.cumsum(np.maximum(piece, 0.0))])
    return Line(nodes, below / below[-1], center, width)


def _spread(
    center: float, width: float, low: float, high: float, points: int
) -> tuple[Array, Array]:
    """Nodes even in asinh((t - center) / width), and dt per step there."""
    first, last = np.arcsinh((low - center) / width), np.arcsinh((high - center) / width)
    x = np.linspace(first, last, points)
    nodes = center + width * np.sinh(x)
    nodes[0], nodes[-1] = low, high
    return nodes, width * np.cosh(x) * (x[1] - x[0])


def _bisect(
    log_density: Callable[[float], float], inside: float, outside: float, top: float
) -> float:
    """Move the outer end inwards, to within a millionth of where the cut lies."""
    for _ in range(20):
        middle = (inside + outside) / 2
        if log_density(middle) < top - _CUT:
            outside = middle
        else:
            inside = middle
    # A hard end of the support lies between both; the inner one has positive density.
    return outside if np.isfinite(log_density(outside)) else inside

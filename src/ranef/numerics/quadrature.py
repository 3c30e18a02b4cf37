"""Integrate a smooth log density on the line by adaptive Gauss-Legendre panels.

The nodes serve twice: as a quadrature rule for exact moments and the normalising constant, and as
the nodes of a proposal so close to the density that nearly every draw is accepted
(mathematics.md, sections 2 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ranef.errors import ImproperPosteriorError
from ranef.numerics.log_linear import LogLinear, build_log_linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array

__all__ = ["Line", "integrate_line", "panel_rule"]

_ORDER = 10
# Beyond this, exp(log_ratio) leaves the range of double precision.
_EDGE = 690.0
# Panels whose best point lies this far under the mode carry less than 1e-20 of the mass.
_NEGLIGIBLE = 46.0
# Halvings of a panel; a log density with kinks (a prior with a hard bound) uses them up there.
_ROUNDS = 14


@dataclass(frozen=True)
class Line:
    """A log density on the line, integrated.

    Attributes
    ----------
    x
        Quadrature nodes, ascending, shape (k,).
    weight
        Share of the mass that each node stands for, shape (k,), summing to one.
    log_mass
        Logarithm of the integral.
    error
        Estimated relative error of the integral.
    proposal
        Log-linear interpolation through the nodes.
    """

    x: Array
    weight: Array
    log_mass: float
    error: float
    proposal: LogLinear


@cache
def panel_rule(order: int = _ORDER) -> tuple[Array, Array, Array]:
    """Return Gauss-Legendre nodes and weights on [-1, 1] and a map to Legendre coefficients."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    basis = np.polynomial.legendre.legvander(nodes, order - 1)
    norm = np.arange(order) + 0.5
    return nodes, weights, (basis * weights[:, None] * norm).T


def integrate_line(log_f: Callable[[Array], Array], *, tolerance: float = 1e-9) -> Line:
    """Find where the mass of exp(log_f) lies, anywhere on the line, and integrate it.

    Parameters
    ----------
    log_f
        Vectorised log density, up to a constant. Its features may be far apart (a variance ratio
        can have two modes) and narrow, but they vary on a scale no finer than its curvature at
        the local modes of a unit grid tells; log densities of log variance ratios do.
    tolerance
        Relative error of the integral, per panel.

    Returns
    -------
    Line

    Raises
    ------
    ImproperPosteriorError
        If mass runs off the range of double precision.
    """
    edges = _edges(log_f)
    nodes, weights, transform = panel_rule()
    done: list[tuple[Array, Array, Array]] = []
    best, error = -np.inf, 0.0
    for round_ in range(_ROUNDS):
        half = 0.5 * np.diff(edges, axis=1)
        x = edges.mean(axis=1)[:, None] + half * nodes
        f = log_f(x.ravel()).reshape(x.shape)
        best = max(best, float(f.max()))
        values = np.exp(f - best)
        tail = np.abs(values @ transform.T)[:, -2:].sum(axis=1) * half[:, 0]
        scale = _total(done, best) + float((values @ weights * half[:, 0]).sum())
        rough = (tail > tolerance * scale) & (round_ < _ROUNDS - 1)
        error = error + float(tail[~rough].sum()) / scale
        done.append((x[~rough], f[~rough], half[~rough] * weights))
        if not rough.any():
            break
        middle = edges[rough].mean(axis=1)
        edges = np.concatenate(
            [
                np.column_stack([edges[rough, 0], middle]),
                np.column_stack([middle, edges[rough, 1]]),
            ]
        )
    x, f, w = (np.concatenate([part[i].ravel() for part in done]) for i in range(3))
    order = np.argsort(x)
    x, f, w = x[order], f[order], w[order]
    mass = w * np.exp(f - best)
    total = mass.sum()
    return Line(
        x=x,
        weight=mass / total,
        log_mass=float(best + np.log(total)),
        error=error,
        proposal=build_log_linear(x[None], f[None], tails=True),
    )


def _total(done: list[tuple[Array, Array, Array]], best: float) -> float:
    """Mass of the finished panels, relative to exp(best)."""
    return float(sum((w * np.exp(f - best)).sum() for _, f, w in done))


def _edges(log_f: Callable[[Array], Array]) -> Array:
    """Cut the line into first panels: unit steps, finer around every mode, as wide as the mass."""
    grid, f = _scan(log_f)
    inner = np.flatnonzero((f[1:-1] >= f[:-2]) & (f[1:-1] >= f[2:])) + 1
    cuts = [grid]
    best = float(f.max())
    for i in inner:
        mode, value, sd = _zoom(log_f, grid[i - 1], grid[i + 1])
        best = max(best, value)
        steps = sd * np.array([0.0, 0.8, 1.6, 2.5, 3.5, 5.0, 7.0, 10.0])
        while steps[-1] < 1.0:
            steps = np.append(steps, 1.6 * steps[-1])
        near = np.concatenate([mode - steps, mode + steps])
        cuts.append(near[(near > grid[0]) & (near < grid[-1])])
    points = np.unique(np.concatenate(cuts))
    values = log_f(points)
    keep = np.flatnonzero(values > max(best, float(values.max())) - _NEGLIGIBLE)
    low, high = max(keep[0] - 1, 0), min(keep[-1] + 1, len(points) - 1)
    points = points[low : high + 1]
    return np.column_stack([points[:-1], points[1:]])


def _scan(log_f: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Evaluate on a grid that reaches as far as there is mass."""
    reach = 48.0
    grid = np.arange(-reach, reach + 1)
    f = log_f(grid)
    while max(f[0], f[-1]) > float(f.max()) - _NEGLIGIBLE or not np.isfinite(f.max()):
        if reach >= _EDGE:
            raise ImproperPosteriorError(
                "The posterior of the variance ratio has mass beyond what double precision can "
                "hold; a prior with lighter tails is needed, such as half_t."
            )
        outer = np.minimum(np.array([1.2, 1.4, 1.6, 1.8, 2.0]) * reach, _EDGE)
        grid = np.unique(np.concatenate([-outer, grid, outer]))
        f = log_f(grid)
        reach = float(grid[-1])
    return grid, f


def _zoom(log_f: Callable[[Array], Array], low: float, high: float) -> tuple[float, float, float]:
    """Find a local mode in (low, high), its height and its curvature's standard deviation."""
    for _ in range(12):
        x = np.linspace(low, high, 33)
        f = log_f(x)
        i = min(max(int(np.argmax(f)), 1), 31)
        h = x[1] - x[0]
        bend = f[i - 1] - 2 * f[i] + f[i + 1] if np.isfinite(f[i - 1 : i + 2]).all() else -np.inf
        sd = h / np.sqrt(-bend) if -np.inf < bend < 0 else high - low
        if h < 0.5 * sd or not np.isfinite(sd):
            break
        low, high = x[i - 1], x[i + 1]
    return float(x[i]), float(f[i]), float(min(sd, 1.0))

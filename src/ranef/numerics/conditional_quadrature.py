"""Integrate log_sigma = log sigma out of a joint density at many values of log_ratio at once.

Where priors are not inverse gamma, log_sigma given log_ratio has no closed form. It is
one-dimensional and smooth, so a table of a few dozen points per log_ratio both integrates it and
proposes from it (mathematics.md, 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.numerics.log_linear import LogLinear, build_log_linear
from ranef.numerics.quadrature import panel_rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array

__all__ = ["Conditional", "integrate_conditional"]

# Panel edges around the mode, in standard deviations by curvature. The outer ones reach far
# because few residual degrees of freedom leave long tails.
_PANELS = np.array([-40.0, -16.0, -8.0, -5.0, -3.0, -1.5, 0.0, 1.5, 3.0, 5.0, 8.0, 16.0, 40.0])
# A bound where the density is this far under the mode cuts nothing off that matters.
_NEGLIGIBLE = 40.0


@dataclass(frozen=True)
class Conditional:
    """log_sigma given each of n values of log_ratio.

    Attributes
    ----------
    log_mass
        Log of the integral over log_sigma, shape (n,).
    center, scale
        Mode and curvature standard deviation, shape (n,).
    low, high
        Hard bounds that cut into each row's mass, shape (n,); infinite where none does.
    log_sigma, weight
        Quadrature nodes and normalised weights, shape (n, t).
    table
        Proposals in units of (log_sigma - center) / scale, a row per log_ratio, each up to its
        bounds.
    """

    log_mass: Array
    center: Array
    scale: Array
    low: Array
    high: Array
    log_sigma: Array
    weight: Array
    table: LogLinear


def integrate_conditional(
    log_h: Callable[[Array], Array], low: Array, high: Array, guess: Array
) -> Conditional:
    """Integrate rows of log densities of log_sigma.

    Parameters
    ----------
    log_h
        Maps log_sigma of shape (n, t) to log densities of that shape.
    low, high
        Support of log_sigma for each row, shape (n,); may be infinite.
    guess
        Places where the mass may lie, shape (n, g): the likelihood's mode first, then where the
        priors lie.

    Returns
    -------
    Conditional
    """
    center, scale = _modes(log_h, low, high, guess)
    nodes, weights, _ = panel_rule()
    edges = np.clip(center[:, None] + scale[:, None] * _PANELS, low[:, None], high[:, None])
    half = 0.5 * np.diff(edges, axis=1)
    middle = edges[:, :-1] + half
    n = len(center)
    log_sigma = (middle[:, :, None] + half[:, :, None] * nodes).reshape(n, -1)
    w = (half[:, :, None] * weights).reshape(n, -1)
    # The table reaches the panels' ends, where the rule has no node: a hard bound may lie there.
    reach = np.column_stack([edges[:, 0], log_sigma, edges[:, -1]])
    table = log_h(reach)
    f = table[:, 1:-1]
    top = f.max(axis=1)
    empty = ~np.isfinite(top)
    mass = w * np.exp(f - np.where(empty, 0.0, top)[:, None])
    total = mass.sum(axis=1)
    empty |= total <= 0
    total = np.where(empty, 1.0, total)
    cut = ~empty[:, None] & (table[:, [0, -1]] > np.where(empty, 0.0, top)[:, None] - _NEGLIGIBLE)
    return Conditional(
        log_mass=np.where(empty, -np.inf, np.where(empty, 0.0, top) + np.log(total)),
        center=center,
        scale=scale,
        low=np.where(cut[:, 0] & (edges[:, 0] <= low), low, -np.inf),
        high=np.where(cut[:, 1] & (edges[:, -1] >= high), high, np.inf),
        log_sigma=log_sigma,
        weight=mass / total[:, None],
        table=build_log_linear(
            (reach - center[:, None]) / scale[:, None],
            np.where(empty[:, None], 0.0, table),
            tails=False,
        ),
    )


def _modes(
    log_h: Callable[[Array], Array], low: Array, high: Array, guess: Array
) -> tuple[Array, Array]:
    """Find each row's mode by a wide scan and repeated zooming; its curvature gives the scale."""
    offsets = np.concatenate([[0.0], np.geomspace(0.02, 40.0, 20)])
    first = guess[:, :1]
    x = np.concatenate([first - offsets[:0:-1], first + offsets, guess[:, 1:]], axis=1)
    rows = np.arange(len(x))
    span = np.full(len(x), 80.0)
    for zoom in range(6):
        x = np.sort(np.clip(x, low[:, None], high[:, None]), axis=1)
        f = np.where(np.isfinite(x), log_h(x), -np.inf)
        i = np.clip(f.argmax(axis=1), 1, x.shape[1] - 2)
        left, right = x[rows, i - 1], x[rows, i + 1]
        span = right - left
        if zoom < 5:
            x = left[:, None] + span[:, None] * np.linspace(0.0, 1.0, 9)
    mode = x[rows, f.argmax(axis=1)]
    return mode, _half_width(log_h, mode)


def _half_width(log_h: Callable[[Array], Array], mode: Array) -> Array:
    """Find the distance at which each log density has fallen by one half."""
    k = 32
    steps = np.geomspace(1e-5, 20.0, k)
    f = log_h(np.concatenate([mode[:, None] - steps, mode[:, None], mode[:, None] + steps], axis=1))
    rows = np.arange(len(mode))
    reach = []
    for side in (f[:, :k], f[:, k + 1 :]):
        top = f[:, k : k + 1]
        drop = np.where(np.isfinite(top) & np.isfinite(side), top, np.inf) - np.where(
            np.isfinite(side), side, 0.0
        )
        j = np.maximum(np.where((drop > 0.5).any(axis=1), (drop > 0.5).argmax(axis=1), k - 1), 1)
        # Interpolated, so that the scale varies smoothly from row to row: drop grows as step^2.
        a = np.minimum(drop[rows, j - 1], 0.5)
        b = np.minimum(drop[rows, j], 1e9)
        part = np.where(b > a, (0.5 - a) / np.where(b > a, b - a, 1.0), 0.0)
        reach.append(
            np.sqrt(steps[j - 1] ** 2 + np.minimum(part, 1.0) * (steps[j] ** 2 - steps[j - 1] ** 2))
        )
    # At a hard bound one side falls at once; the other side then tells the scale.
    return np.asarray(np.maximum(reach[0], reach[1]))

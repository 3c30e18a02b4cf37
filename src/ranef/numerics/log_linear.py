"""Densities that are exponential between nodes, to propose from (mathematics.md, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray

__all__ = ["LogLinear", "build_log_linear"]

# Depth under a row's highest node at which densities are cut, so that exponentials stay finite.
_DEPTH = 700.0


@dataclass(frozen=True)
class LogLinear:
    """Rows of densities, each log-linear between its nodes and exponential or zero beyond them.

    Attributes
    ----------
    x
        Nodes, ascending, shape (rows, k).
    f
        Log density at the nodes up to a constant per row, shape (rows, k); finite.
    cumulative
        Normalised mass up to the end of each piece, shape (rows, pieces). The pieces are
        left tail, k - 1 intervals, right tail.
    log_mass
        Logarithm of each row's mass, shape (rows,).
    left, right
        Slopes of log f beyond the first and last node, shape (rows,): left > 0 > right, or inf
        and -inf for no tail.
    """

    x: Array
    f: Array
    cumulative: Array
    log_mass: Array
    left: Array
    right: Array

    def draw(self, u: Array, row: IntArray | None = None) -> tuple[Array, Array]:
        """Map uniforms to draws by the inverse distribution function.

        Parameters
        ----------
        u
            Uniform numbers in [0, 1), shape (n,).
        row
            Which density each draw is from, shape (n,); None if there is one.

        Returns
        -------
        x : numpy.ndarray
            Draws, shape (n,).
        log_q : numpy.ndarray
            Their normalised log density, shape (n,).
        """
        if row is None:
            row = np.zeros(len(u), dtype=np.intp)
            piece = np.searchsorted(self.cumulative[0], u, side="right")
        else:
            piece = (self.cumulative[row] <= u[:, None]).sum(axis=1)
        last = self.cumulative.shape[1] - 1
        piece = np.minimum(piece, last)
        before = np.where(piece > 0, self.cumulative[row, np.maximum(piece - 1, 0)], 0.0)
        mass = self.cumulative[row, piece] - before
        t = np.clip((u - before) / np.where(mass > 0, mass, 1.0), 0.0, 1.0)

        i = np.clip(piece - 1, 0, last - 2)
        a, fa = self.x[row, i], self.f[row, i]
        width, rise = self.x[row, i + 1] - a, self.f[row, i + 1] - fa
        gentle = np.abs(rise) < 1e-5
        safe = np.where(gentle, 1.0, rise)
        with np.errstate(divide="ignore"):
            part = np.where(
                gentle,
                t * (1 + 0.5 * rise * (1 - t)),
                np.minimum(np.log1p(t * np.expm1(safe)) / safe, 1.0),
            )
        x = a + width * part
        log_q = fa + rise * part
        if np.any(low := piece == 0):
            step = np.log(np.maximum(t[low], 1e-300)) / self.left[row[low]]
            x[low] = self.x[row[low], 0] + step
            log_q[low] = self.f[row[low], 0] + self.left[row[low]] * step
        if np.any(high := piece == last):
            step = np.log(np.maximum(1 - t[high], 1e-300)) / self.right[row[high]]
            x[high] = self.x[row[high], -1] + step
            log_q[high] = self.f[row[high], -1] + self.right[row[high]] * step
        return x, log_q - self.log_mass[row]


def build_log_linear(x: Array, f: Array, *, tails: bool) -> LogLinear:
    """Normalise log-linear densities.

    Parameters
    ----------
    x
        Nodes, ascending, shape (rows, k).
    f
        Finite or -inf log densities at the nodes, shape (rows, k); what lies more than 700 under
        a row's highest is raised to that.
    tails
        Whether the outer slopes go on beyond the nodes as exponential tails.

    Returns
    -------
    LogLinear

    Examples
    --------
    >>> density = build_log_linear(np.array([[0.0, 1.0]]), np.array([[0.0, 0.0]]), tails=False)
    >>> density.draw(np.array([0.25]))[0]
    array([0.25])
    """
    top = f.max(axis=1)
    g = np.maximum(f - top[:, None], -_DEPTH)
    rise, width = np.diff(g, axis=1), np.diff(x, axis=1)
    gentle = np.abs(rise) < 1e-5
    height = np.exp(g)
    inside = width * np.where(
        gentle,
        height[:, :-1] * (1 + 0.5 * rise),
        np.diff(height, axis=1) / np.where(gentle, 1.0, rise),
    )
    rows = len(x)
    left = np.full(rows, np.inf)
    right = np.full(rows, -np.inf)
    if tails:
        # The floor keeps a tail proper where rounding has flattened the last interval.
        left = np.maximum(rise[:, 0] / width[:, 0], 1e-8)
        right = np.minimum(rise[:, -1] / width[:, -1], -1e-8)
    mass = np.column_stack([height[:, 0] / left, inside, -height[:, -1] / right])
    total = mass.sum(axis=1)
    cumulative = np.cumsum(mass, axis=1) / total[:, None]
    return LogLinear(x, g + top[:, None], cumulative, top + np.log(total), left, right)

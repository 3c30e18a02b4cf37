"""Cells to internal coordinates (mathematics.md, 2 and 3).

The fixed-effect columns are replaced by orthonormal ones and the response by its least-squares
residuals. Both are changes of coordinates, undone when coefficients are reported, and keep the
small matrices well conditioned whatever the units and offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from ranef.cells.response import Response
from ranef.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranef.cells.cells import Cells
    from ranef.common.array_types import Array, IntArray

__all__ = ["OrthonormalCells", "column_sizes", "gram", "orthonormalize"]

# A column that keeps less than this of its length beside the columns before it is aliased (the
# square of R's tolerance in `lm`, because the squares are what is compared).
_ALIASED = 1e-14
# A combination of columns with less than this share of its squares within groups is constant there.
_CONSTANT = 1e-13


@dataclass(frozen=True)
class FactorLayout:
    """One grouping factor: which cells belong to which level, and which columns vary by it.

    Attributes
    ----------
    name
        `g` or `a:b`.
    levels
        Number of levels, G.
    codes
        Level of each cell, shape (C,).
    columns
        The columns of its block: 0 is the constant, k > 0 the k-th slope column.
    """

    name: str
    levels: int
    codes: IntArray
    columns: tuple[int, ...]


@dataclass(frozen=True)
class OrthonormalCells:
    """Cells in internal coordinates, apart from the response.

    `X~ = X T` is orthonormal over all rows. Coefficients map back by `beta = beta_ls + T beta~`,
    where `beta_ls` belongs to the response.

    Attributes
    ----------
    N, p
        Number of rows, number of fixed-effect columns.
    factors
        The grouping factors.
    count
        Sum of weights per cell, shape (C,).
    mean
        Means of X~ per cell, shape (C, p).
    within
        Pooled cross-products of X~ within cells, shape (p, p).
    slopes
        Means of the slope columns per cell, shape (C, k).
    slope_slope, slope_x
        Cross-products within each cell, shapes (C, k, k) and (C, k, p).
    log_weights
        Sum of the rows' log weights.
    T
        Shape (p, p).
    """

    N: int
    p: int
    factors: tuple[FactorLayout, ...]
    count: Array
    mean: Array
    within: Array
    slopes: Array
    slope_slope: Array
    slope_x: Array
    log_weights: float
    T: Array

    @property
    def log_det_T(self) -> float:
        """Logarithm of |det T|, the volume that the change of coordinates costs."""
        return float(np.linalg.slogdet(self.T)[1]) if self.p else 0.0


def orthonormalize(
    cells: Cells, names: tuple[str, ...], factors: tuple[FactorLayout, ...]
) -> tuple[OrthonormalCells, Response]:
    """Change to internal coordinates.

    Parameters
    ----------
    cells
        The data as they were counted.
    names
        Names of the fixed-effect columns, for error messages.
    factors
        The grouping factors.

    Returns
    -------
    design : OrthonormalCells
        The same for every response on the same rows.
    response : Response

    Raises
    ------
    DataError
        If fixed-effect columns are linear combinations of others (they are named), or there are
        as many coefficients as rows.
    """
    p = cells.mean.shape[1] - 1
    if p >= cells.rows:
        raise DataError(
            f"{p} fixed-effect columns came with {cells.rows} rows; fewer columns than rows are "
            "expected."
        )
    if cells.count.min() == cells.count.max():
        total = cells.within + cells.count[0] * gram(cells.mean)
    else:
        total = cells.within + (cells.mean * cells.count[:, None]).T @ cells.mean
    constant = np.diag(cells.within)[:p] == 0
    T = _orthonormal(total[:p, :p], constant, names)
    T, still = _separate(T, cells.within[:p, :p], int(constant.sum()))
    slope = T @ _reference(T, total, cells.within, len(still))
    change = np.eye(p + 1)
    change[:p, :p], change[:p, p] = T, -slope
    within = change.T @ cells.within @ change
    within[still], within[:, still] = 0.0, 0.0
    unshift, beta_shift = _unshift(cells)
    # Design and response in one product each, of which they are views.
    mean, slope_v = cells.mean @ change if p else cells.mean, cells.slope_u @ change
    design = OrthonormalCells(
        N=cells.rows,
        p=p,
        factors=factors,
        count=cells.count,
        mean=mean[:, :p],
        within=within[:p, :p],
        slopes=cells.slopes,
        slope_slope=cells.slope_slope,
        slope_x=slope_v[:, :, :p],
        log_weights=cells.log_weights,
        T=unshift @ T,
    )
    response = Response(
        mean=mean[:, p],
        within=within[:p, p],
        square=float(within[p, p]),
        slopes=slope_v[:, :, p],
        beta_ls=unshift @ (slope + cells.explained) + beta_shift,
    )
    return design, response


def _reference(T: Array, total: Array, within: Array, still: int) -> Array:
    """Choose the internal coefficients that the response is a residual of.

    Least squares over all rows is the simple choice. Where groups differ far more than rows within
    them it moves the covariates' coefficients by what groups differ, and the small squares within
    groups drown; then the covariates take their least-squares coefficients within groups.
    """
    p = len(T)
    inner = T.T @ total[:p, p]
    free = slice(still, None)
    xx, xy = T.T @ within[:p, :p] @ T, T.T @ within[:p, p]
    if still < p:
        own = np.linalg.solve(xx[free, free], xy[free])
        gap = inner[free] - own
        left = float(within[p, p] - own @ xy[free])
        if gap @ xx[free, free] @ gap > 1e4 * max(left, 0.0):
            inner[free] = own
    return np.asarray(inner)


def column_sizes(design: OrthonormalCells) -> Array:
    """Root mean square of the columns that vary by group, the constant first, shape (1 + k,)."""
    total = design.count.sum()
    square = np.einsum("ckk->k", design.slope_slope) + design.count @ design.slopes**2
    return np.append(1.0, np.sqrt(square / total))


def gram(A: Array) -> Array:
    """A'A of a tall matrix, without threads where they would wait longer than they work."""
    if A.shape[1] <= 3:
        return np.asarray(np.einsum("ni,nj->ij", A, A))
    return np.asarray(A.T @ A)


def _separate(T: Array, within: Array, k: int) -> tuple[Array, NDArray[np.intp]]:
    """Turn the internal columns so that those constant within groups stand apart from the others.

    The first k columns are constant as they are. Combinations of the others may be too: the
    indicators of a factor add up to one. Their cross-products are zero but for rounding, which
    at a large variance ratio would stand in for information.

    Returns
    -------
    T : numpy.ndarray
        Shape (p, p), turned where there is such a combination.
    still : numpy.ndarray
        Positions of the columns that are constant within groups.
    """
    inside = T[:, k:].T @ within @ T[:, k:]
    values, vectors = np.linalg.eigh(inside)
    count = int(np.sum(values <= _CONSTANT))
    if count:
        T = np.column_stack([T[:, :k], T[:, k:] @ vectors])
    return T, np.arange(k + count)


def _unshift(cells: Cells) -> tuple[Array, Array]:
    """Return A, c so that coefficients of the user's columns are A b + c, b of the shifted ones."""
    p = len(cells.shift) - 1
    if cells.ones is None:
        return np.eye(p), np.zeros(p)
    return np.eye(p) - np.outer(cells.ones, cells.shift[:p]), cells.ones * cells.shift[p]


def _orthonormal(gram: Array, constant: NDArray[np.bool_], names: tuple[str, ...]) -> Array:
    """Return T with T' gram T = I; name the columns that are combinations of earlier ones.

    Columns that are constant within groups come first in the elimination, so that they mix with
    no others and their within-group cross-products stay exactly zero.
    """
    scale = np.sqrt(np.diag(gram))
    if np.any(scale == 0):
        empty = tuple(names[j] for j in np.flatnonzero(scale == 0))
        raise DataError(
            f"Fixed-effect columns {', '.join(empty)} are zero in every row, or constant beside "
            "an intercept; drop them from the formula, or let aliased='drop' leave them out.",
            aliased=empty,
        )
    order = np.argsort(~constant, kind="stable")
    unit = (gram / np.outer(scale, scale))[np.ix_(order, order)]
    R = np.zeros_like(unit)
    aliased = []
    for j in range(len(unit)):
        R[:j, j] = solve_triangular(R[:j, :j], unit[:j, j], trans="T") if j else 0.0
        rest = unit[j, j] - R[:j, j] @ R[:j, j]
        if rest < _ALIASED * (j + 1):
            aliased.append(names[order[j]])
            rest = 1.0
        R[j, j] = np.sqrt(rest)
    if aliased:
        raise DataError(
            f"Fixed-effect columns {', '.join(aliased)} are linear combinations of the others; "
            "drop them from the formula, or let aliased='drop' leave them out.",
            aliased=tuple(aliased),
        )
    T: Array = np.empty_like(unit)
    T[order] = solve_triangular(R, np.eye(len(R))) if len(R) else R
    T /= scale[:, None]
    return T

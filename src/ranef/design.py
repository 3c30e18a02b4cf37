"""Cells to the blocks that the likelihood of a random-intercept model sees (mathematics.md, 2).

The fixed-effect columns are replaced by orthonormal ones and the response by its least-squares
residuals. Both are changes of coordinates, undone when coefficients are reported, and keep the
small matrices well conditioned whatever the units and offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from ranef.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranef.cells import Cells
    from ranef.types import Array, IntArray

__all__ = ["Design", "build_design"]

# A column that keeps less than this of its length beside the columns before it is aliased (the
# square of R's tolerance in `lm`, because the squares are what is compared).
_ALIASED = 1e-14
# A combination of columns with less than this share of its squares within groups is constant there.
_CONSTANT = 1e-13


@dataclass(frozen=True)
class Design:
    """What a random-intercept likelihood needs, in internal coordinates.

    A row is `v = [x~_1 … x~_p, y~]` with `X~ = X T` orthonormal over all rows and
    `y~ = y - X beta_ls`. Coefficients map back by `beta = beta_ls + T beta~`.

    Attributes
    ----------
    N, p
        Number of rows, number of fixed-effect columns.
    size
        Distinct group sizes m, shape (D,).
    groups
        Number of groups of each size, shape (D,).
    between
        For each size the sum over its groups of (mean of v)(mean of v)', shape (D, p+1, p+1).
    within
        Pooled within-group cross-products of v, shape (p+1, p+1).
    T
        Shape (p, p).
    beta_ls
        Least-squares coefficients in the user's coordinates, shape (p,).
    mean
        Means of v per group, shape (G, p+1).
    size_index
        For each group its position in `size`, shape (G,).
    """

    N: int
    p: int
    size: Array
    groups: Array
    between: Array
    within: Array
    T: Array
    beta_ls: Array
    mean: Array
    size_index: IntArray

    @property
    def log_det_T(self) -> float:
        """Logarithm of |det T|, the volume that the change of coordinates costs."""
        return float(np.linalg.slogdet(self.T)[1]) if self.p else 0.0

    @property
    def G(self) -> int:
        """Number of groups."""
        return len(self.size_index)


def build_design(cells: Cells, names: tuple[str, ...]) -> Design:
    """Change to internal coordinates and contract groups of equal size.

    Parameters
    ----------
    cells
        From `ranef.cells.compress`.
    names
        Names of the fixed-effect columns, for error messages.

    Returns
    -------
    Design

    Raises
    ------
    DataError
        If fixed-effect columns are linear combinations of others (they are named), or there are
        as many coefficients as rows.
    """
    balanced = cells.count.min() == cells.count.max()
    p = cells.mean.shape[1] - 1
    N = cells.rows
    if p >= N:
        raise DataError(
            f"{p} fixed-effect columns came with {N} rows; fewer columns than rows are expected."
        )
    if balanced:
        total = cells.within + float(cells.count[0]) * (cells.mean.T @ cells.mean)
    else:
        total = cells.within + (cells.mean * cells.count[:, None]).T @ cells.mean
    constant = np.diag(cells.within)[:p] == 0
    T = _orthonormal(total[:p, :p], constant, names)
    T, still = _separate(T, cells.within[:p, :p], int(constant.sum()))
    slope = T @ (T.T @ total[:p, p])
    change = np.eye(p + 1)
    change[:p, :p], change[:p, p] = T, -slope
    within = change.T @ cells.within @ change
    within[still], within[:, still] = 0.0, 0.0
    unshift, beta_shift = _unshift(cells)
    mean = cells.mean @ change if p else cells.mean
    if balanced:
        size, size_index = cells.count[:1], np.zeros(len(cells.count), dtype=np.intp)
    else:
        size, size_index = np.unique(cells.count, return_inverse=True)
    between = np.zeros((len(size), p + 1, p + 1))
    if len(size) == 1:
        between[0] = mean.T @ mean
    else:
        for i in range(p + 1):
            for j in range(i + 1):
                between[:, i, j] = between[:, j, i] = np.bincount(
                    size_index, weights=mean[:, i] * mean[:, j], minlength=len(size)
                )
    return Design(
        N=N,
        p=p,
        size=size.astype(float),
        groups=np.bincount(size_index, minlength=len(size)).astype(float),
        between=between,
        within=within,
        T=unshift @ T,
        beta_ls=unshift @ slope + beta_shift,
        mean=mean,
        size_index=size_index,
    )


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
            "an intercept; drop them from the formula.",
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
            "drop them from the formula.",
            aliased=tuple(aliased),
        )
    T: Array = np.empty_like(unit)
    T[order] = solve_triangular(R, np.eye(len(R))) if len(R) else R
    T /= scale[:, None]
    return T

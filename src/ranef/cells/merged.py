"""Rows with equal predictors merged into one, sorted by group: what other families need of data.

A Bernoulli row depends on its predictors alone, so that a designed experiment's many rows cost what
its few cells cost (mathematics.md, section 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.errors import DataError
from ranef.numerics.linear_dependence import aliased_columns

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.formula.rows import Rows

__all__ = ["MergedRows", "merge_rows"]


@dataclass(frozen=True)
class MergedRows:
    """R merged rows of N, sorted by the level of the grouping factor.

    Attributes
    ----------
    N
        Number of rows before.
    y, n
        Response and trials, or the number of rows that were merged, shape (R, 1).
    offset
        Shape (R, 1).
    X
        Fixed-effect columns in internal coordinates, orthogonal with mean square one over the rows
        as they came, shape (R, p).
    T
        From internal to the user's coefficients, beta = T beta~, shape (p, p).
    Z
        The factor's columns, shape (R, q).
    codes
        Level of each merged row, shape (R,), ascending.
    first
        Position of each level's first row, shape (G,). Every level has one.
    """

    N: int
    y: Array
    n: Array
    offset: Array
    X: Array
    T: Array
    Z: Array
    codes: IntArray
    first: IntArray

    def internal(self, beta: Array) -> Array:
        """Coefficients (n, p) of the user's coordinates in internal ones."""
        return np.asarray(np.linalg.solve(self.T, beta.T).T) if len(self.T) else beta

    @property
    def constant_effect(self) -> bool:
        """Whether an effect adds the same to all rows of its group."""
        return bool(np.all(self.Z == 1.0))


def merge_rows(rows: Rows, trials: Array | None, *, sums: bool) -> MergedRows:
    """Merge rows of a model with one grouping factor.

    Parameters
    ----------
    rows
        From `ranef.formula.rows.evaluate`.
    trials
        Trials of each row, shape (N,); None where the family has none.
    sums
        Whether rows with equal predictors merge whatever their response; else equal responses are
        needed.

    Returns
    -------
    MergedRows

    Raises
    ------
    DataError
        If fixed-effect columns are combinations of others.
    """
    N = len(rows.y)
    X, T = _internal(rows)
    block = [c for group in rows.spec.groups for c in group.columns]
    Z = np.column_stack([np.ones(N), rows.slopes])[:, block]
    offset = np.zeros(N) if rows.offset is None else rows.offset
    keys = [rows.codes[0], *rows.X.T, *Z.T, offset, *([] if sums else [rows.y])]
    order = np.lexsort(keys[::-1])
    fresh = np.zeros(N, dtype=bool)
    fresh[0] = True
    for key in keys:
        fresh[1:] |= key[order][1:] != key[order][:-1]
    start = np.flatnonzero(fresh)
    kept = order[start]
    n = np.ones(N) if trials is None else trials
    y = np.add.reduceat(rows.y[order], start) if sums else rows.y[kept]
    codes = rows.codes[0][kept]
    return MergedRows(
        N=N,
        y=y[:, None],
        n=np.add.reduceat(n[order], start)[:, None],
        offset=offset[kept][:, None],
        X=X[kept],
        T=T,
        Z=Z[kept],
        codes=codes,
        first=np.flatnonzero(np.diff(codes, prepend=-1)),
    )


def _internal(rows: Rows) -> tuple[Array, Array]:
    """Columns that are orthogonal over rows, and the way back to the user's coefficients."""
    N, p = rows.X.shape
    if not p:
        return rows.X, np.empty((0, 0))
    if found := aliased_columns(rows.X):
        raise DataError(
            f"Fixed-effect column {rows.spec.fixed.names[found[0]]!r} is a combination of those "
            "before it, so its coefficient is not determined; leave it out, or use aliased='drop'."
        )
    R = np.linalg.qr(rows.X, mode="r")
    T = np.linalg.inv(R) * np.sqrt(N)
    return rows.X @ T, T

"""Linear dependence among columns, from left to right (Gram-Schmidt; mathematics.md, 8.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = ["TOLERANCE", "aliased_columns"]

# A column that keeps less than this share of its length beside the columns before it is aliased,
# as in R's `lm`.
TOLERANCE = 1e-7


def aliased_columns(X: Array) -> tuple[int, ...]:
    """Find the columns that are linear combinations of those before them.

    Parameters
    ----------
    X
        Shape (N, p).

    Returns
    -------
    tuple of int
        Positions, ascending; the other columns are linearly independent and span the same space.

    Notes
    -----
    R's `lm` moves the same columns to the end of its pivoted QR decomposition and reports them as
    NA. Unlike there, once the columns hold a constant, later ones are measured about their means,
    so that an offset as large as 1e8 makes no column look like an intercept.

    Examples
    --------
    >>> one, x = np.ones(4), np.arange(4.0)
    >>> aliased_columns(np.column_stack([one, x, 2 - x, x**2]))
    (2,)
    """
    N, p = X.shape
    # Powers of two, which cost no digits: squares of any units stay within range.
    size = np.abs(X).max(axis=0, initial=0.0)
    X = X / np.exp2(np.round(np.log2(np.where(size > 0, size, 1.0))))
    basis = np.empty((N, 0))
    found = []
    constant = False
    for j in range(p):
        length = float(np.linalg.norm(X[:, j]))
        column = X[:, j] - X[:, j].mean() if constant else X[:, j]
        own = float(np.linalg.norm(column))
        rest = column
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        left = float(np.linalg.norm(rest))
        # Rounding of a large offset is no information.
        if left <= max(TOLERANCE * np.sqrt(j + 1) * own, 8 * np.finfo(float).eps * length):
            found.append(j)
            continue
        basis = np.column_stack([basis, rest / left])
        if not constant:
            ones = np.ones(N) - basis @ basis.sum(axis=0)
            constant = float(np.linalg.norm(ones)) <= TOLERANCE * np.sqrt(N)
    return tuple(found)

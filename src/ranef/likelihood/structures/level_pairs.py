"""Q_R'Q_1 W Q_1'Q_R as one sparse product in the entries of W (mathematics.md, 3.4).

Two remaining effects meet in the Schur complement where a level of the eliminated factor has rows
of both. Which ones do, and with what weight, does not change with the variance parameters, so the
list is made once: a product over it takes a sixth of the time of a product of sparse matrices.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray

__all__ = ["Pairs", "count_pairs"]


def count_pairs(Q1R: sparse.csr_array, q: int) -> int:
    """Number of products that `Pairs` has to list.

    Parameters
    ----------
    Q1R
        Q_1'Q_R, shape (G q, R), the q rows of a level together.
    q
        Columns of the eliminated factor.

    Returns
    -------
    int
    """
    per_level = np.diff(Q1R.indptr).reshape(-1, q).sum(axis=1).astype(np.int64)
    return int((per_level**2).sum())


class Pairs:
    """The list of pairs.

    Parameters
    ----------
    Q1R
        Q_1'Q_R, shape (G q, R), the q rows of a level together.
    q
        Columns of the eliminated factor.
    """

    def __init__(self, Q1R: sparse.csr_array, q: int) -> None:
        G, R = Q1R.shape[0] // q, Q1R.shape[1]
        self._shape = (G, q)
        # Where the numbers stand among those of Q1R: the list holds at any values.
        places = Q1R.copy()
        places.data = np.arange(Q1R.nnz, dtype=np.int32)
        keys, columns, first, second = [], [], [], []
        for c in range(q):
            for d in range(q):
                j, a, b, left, right = _all_pairs(places[c::q], places[d::q])
                lower = a >= b
                keys.append(a[lower].astype(np.int64) * R + b[lower])
                columns.append(j[lower] * (q * q) + c * q + d)
                first.append(left[lower])
                second.append(right[lower])
        self._at, row = np.unique(np.concatenate(keys), return_inverse=True)
        order = sparse.csr_array(
            (np.arange(len(row), dtype=np.int32), (row, np.concatenate(columns))),
            shape=(len(self._at), G * q * q),
        )
        self._sum = order
        self._first, self._second = (np.concatenate(p)[order.data] for p in (first, second))
        i, k = np.divmod(self._at, R)
        self._twice = np.where(i == k, 1.0, 2.0)
        self._fill(Q1R)

    def _fill(self, Q1R: sparse.csr_array) -> None:
        """Multiply the numbers of the pairs."""
        products = Q1R.data[self._first] * Q1R.data[self._second]
        self._sum = sparse.csr_array(
            (products, self._sum.indices, self._sum.indptr), shape=self._sum.shape
        )
        self._back = self._sum.T.tocsr()

    def refilled(self, Q1R: sparse.csr_array) -> Pairs:
        """The list for other numbers in the same places."""
        other = copy(self)
        other._fill(Q1R)
        return other

    def add(self, S: Array, W: Array) -> None:
        """Add Q_R'Q_1 W Q_1'Q_R to the lower triangle of S, in place.

        Parameters
        ----------
        S
            Shape (R, R), contiguous.
        W
            Shape (G, q, q), symmetric.
        """
        S.reshape(-1)[self._at] += self._sum @ W.ravel()

    def quadratic(self, M: Array) -> Array:
        """Q_1'Q_R M Q_R'Q_1 of each level, for symmetric M (R, R), shape (G, q, q)."""
        G, q = self._shape
        out = (self._back @ (self._twice * M.reshape(-1)[self._at])).reshape(G, q, q)
        # Only one of two mirrored products is listed for q > 1; both halves together are right.
        return np.asarray(0.5 * (out + out.transpose(0, 2, 1)))


def _all_pairs(
    A: sparse.csr_array, B: sparse.csr_array
) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
    """All pairs of entries in the same row of A and B: row, both columns, both entries."""
    first, second = np.diff(A.indptr), np.diff(B.indptr)
    # Each entry of A meets all of B's entries of its row.
    row = np.repeat(np.arange(len(first)), first)
    times = second[row]
    left = np.repeat(np.arange(len(row)), times)
    within = np.arange(len(left)) - np.repeat(np.cumsum(times) - times, times)
    right = B.indptr[row][left] + within
    return (
        row[left],
        A.indices[left],
        B.indices[right],
        A.data[left],
        B.data[right],
    )

"""Linear algebra on stacks of small matrices: loops over their size, vectorised over the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = [
    "cholesky",
    "lower_root",
    "root_above_one",
    "solve_lower",
    "solve_upper",
    "solve_upper_columns",
]

# Rows and columns from which on one call of LAPACK a matrix is faster than a loop over columns.
_LARGE = 8


def cholesky(A: Array) -> Array:
    """Factor a stack of positive definite matrices.

    Parameters
    ----------
    A
        Shape (n, p, p).

    Returns
    -------
    numpy.ndarray
        Lower factors F with F F' = A, shape (n, p, p); not a number where there is none.

    Examples
    --------
    >>> float(cholesky(np.array([[[4.0]]]))[0, 0, 0])
    2.0
    """
    if A.shape[-1] >= _LARGE:
        try:
            return np.asarray(np.linalg.cholesky(A))
        except np.linalg.LinAlgError:
            pass  # some of them: the others are factored below
    F = np.zeros_like(A)
    for j in range(A.shape[-1]):
        column = A[:, j:, j]
        if j:
            column = column - np.einsum("nik,nk->ni", F[:, j:, :j], F[:, j, :j])
        F[:, j:, j] = column / np.sqrt(column[:, :1])
    return F


def lower_root(M: Array) -> Array:
    """Lower factors F with F F' = I + M M', without squares that swallow the ones.

    Parameters
    ----------
    M
        Shape (n, q, q).

    Returns
    -------
    numpy.ndarray
        Shape (n, q, q).

    Notes
    -----
    Gram-Schmidt on the rows of [M I].

    Examples
    --------
    >>> float(lower_root(np.array([[[1e9]]]))[0, 0, 0])
    1000000000.0
    """
    n, q = M.shape[:2]
    F = np.zeros((n, q, q))
    if q == 1:
        F[:, 0, 0] = np.hypot(1.0, M[:, 0, 0])
        return F
    rows = [np.concatenate([M[:, i], np.zeros((n, q))], axis=1) for i in range(q)]
    for i in range(q):
        rows[i][:, q + i] = 1.0
    for j in range(q):
        F[:, j, j] = np.sqrt(np.einsum("nk,nk->n", rows[j], rows[j]))
        unit = rows[j] / F[:, j, j, None]
        for i in range(j + 1, q):
            F[:, i, j] = np.einsum("nk,nk->n", rows[i], unit)
            rows[i] -= F[:, i, j, None] * unit
    return F


def root_above_one(A: Array) -> Array:
    """Lower factors F, F F' = A, of I plus what is positive semidefinite but for rounding.

    Parameters
    ----------
    A
        Shape (n, p, p).

    Returns
    -------
    numpy.ndarray
        Shape (n, p, p).

    Examples
    --------
    Rounding has made the smaller eigenvalue -0.1; it is at least one.

    >>> F = root_above_one(np.array([[[4.0, 4.1], [4.1, 4.0]]]))
    >>> np.linalg.eigvalsh(F @ F.swapaxes(1, 2)).round(6)
    array([[1. , 8.1]])
    """
    try:
        return np.asarray(np.linalg.cholesky(A))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(A)
        half = vectors * np.sqrt(np.maximum(values, 1.0))[:, None]
        F = np.linalg.qr(half.swapaxes(1, 2))[1].swapaxes(1, 2)
        return np.asarray(F * np.sign(np.einsum("nii->ni", F))[:, None])


def solve_lower(F: Array, b: Array) -> Array:
    """Solve F x = b for lower factors F (n, p, p) and vectors b (n, p)."""
    x = np.empty_like(b)
    for j in range(b.shape[-1]):
        rest = b[:, j]
        if j:
            rest = rest - np.einsum("nk,nk->n", F[:, j, :j], x[:, :j])
        x[:, j] = rest / F[:, j, j]
    return x


def solve_upper(F: Array, b: Array) -> Array:
    """Solve F' x = b for lower factors F (n, p, p) and vectors b (n, p)."""
    p = b.shape[-1]
    x = np.empty_like(b)
    for j in range(p - 1, -1, -1):
        rest = b[:, j]
        if j < p - 1:
            rest = rest - np.einsum("nk,nk->n", F[:, j + 1 :, j], x[:, j + 1 :])
        x[:, j] = rest / F[:, j, j]
    return x


def solve_upper_columns(F: Array, B: Array) -> Array:
    """Solve F' X = B for lower factors F (n, p, p) and matrices B (n, p, m)."""
    if F.shape[-1] >= _LARGE:
        return np.asarray(np.linalg.solve(F.swapaxes(1, 2), B))
    X = np.empty_like(B)
    for j in range(B.shape[2]):
        X[:, :, j] = solve_upper(F, B[:, :, j])
    return X

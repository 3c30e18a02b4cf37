"""Linear algebra on stacks of small matrices: loops over their size, vectorised over the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = ["cholesky", "solve_lower", "solve_upper"]


def cholesky(A: Array) -> Array:
    """Factor a stack of positive definite matrices.

    Parameters
    ----------
    A
        Shape (n, p, p).

    Returns
    -------
    numpy.ndarray
        Lower factors F with F F' = A, shape (n, p, p).

    Examples
    --------
    >>> float(cholesky(np.array([[[4.0]]]))[0, 0, 0])
    2.0
    """
    F = np.zeros_like(A)
    for j in range(A.shape[-1]):
        column = A[:, j:, j]
        if j:
            column = column - np.einsum("nik,nk->ni", F[:, j:, :j], F[:, j, :j])
        F[:, j:, j] = column / np.sqrt(column[:, :1])
    return F


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

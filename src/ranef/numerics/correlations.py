"""Correlation matrices and their unconstrained partial correlations.

Canonical partial correlations on the inverse-tanh scale are free of constraints, and the LKJ
density factors over them (Lewandowski, Kurowicka and Joe 2009, Journal of Multivariate Analysis
100, 1989) (mathematics.md, 3.1 and 3.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaln

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ranef.common.array_types import Array

__all__ = [
    "correlation_root",
    "draw_lkj",
    "log_lkj",
    "log_volume",
    "partial_correlations",
]


def correlation_root(z: Array, q: int) -> Array:
    """Cholesky factors of correlation matrices from unconstrained partial correlations.

    Parameters
    ----------
    z
        Shape (n, q (q - 1) / 2), row by row below the diagonal; none for independent columns.
    q
        Number of columns.

    Returns
    -------
    numpy.ndarray
        Shape (n, q, q).

    Examples
    --------
    >>> correlation_root(np.array([[np.arctanh(0.6)]]), 2)[0].round(6)
    array([[1. , 0. ],
           [0.6, 0.8]])
    """
    n = len(z)
    L = np.zeros((n, q, q))
    if z.shape[1] == 0:
        L[:, np.arange(q), np.arange(q)] = 1.0
        return L
    partial = np.tanh(z)
    at = 0
    L[:, 0, 0] = 1.0
    for i in range(1, q):
        left = np.ones(n)
        for j in range(i):
            L[:, i, j] = partial[:, at] * np.sqrt(left)
            left = left * (1 - partial[:, at] ** 2)
            at += 1
        L[:, i, i] = np.sqrt(left)
    return L


def partial_correlations(R: Array) -> Array:
    """Unconstrained partial correlations of correlation matrices: the inverse of the above.

    Parameters
    ----------
    R
        Shape (n, q, q).

    Returns
    -------
    numpy.ndarray
        Shape (n, q (q - 1) / 2), row by row below the diagonal.

    Examples
    --------
    >>> partial_correlations(np.array([[[1.0, 0.6], [0.6, 1.0]]])).round(6)
    array([[0.693147]])
    """
    L = np.linalg.cholesky(R)
    out = []
    for i in range(1, R.shape[1]):
        left = np.ones(len(R))
        for j in range(i):
            out.append(L[:, i, j] / np.sqrt(left))
            left = left - L[:, i, j] ** 2
    # A correlation that rounds to one has no finite place on this scale.
    edge = 1 - np.finfo(float).eps
    return np.arctanh(np.clip(np.column_stack(out), -edge, edge)) if out else np.empty((len(R), 0))


def _columns(q: int) -> Iterator[tuple[int, int]]:
    """Number the partial correlations: position, and column of the matrix it belongs to."""
    yield from enumerate(j for i in range(1, q) for j in range(i))


def _log_gap(z: Array) -> Array:
    """log(1 - tanh(z)^2) without cancellation at large |z|."""
    return np.asarray(2 * (np.log(2) - np.logaddexp(z, -z)))


def log_lkj(z: Array, q: int, eta: float) -> Array:
    """Log density of unconstrained partial correlations (n, c) under LKJ(eta), shape (n,).

    Under it (partial + 1) / 2 of column j (from 0) is Beta(b, b), b = eta + (q - 2 - j) / 2.

    Examples
    --------
    >>> float(log_lkj(np.zeros((1, 1)), 2, 1.0)[0].round(6))  # uniform on (-1, 1), slope 1 at zero
    -0.693147
    """
    out = np.zeros(len(z))
    for at, j in _columns(q):
        b = eta + (q - 2 - j) / 2
        out += b * _log_gap(z[:, at]) - (2 * b - 1) * np.log(2) - betaln(b, b)
    return out


def log_volume(z: Array, q: int) -> Array:
    """Log of the volume that dz takes up among correlation matrices, |dR / dz|, shape (n,)."""
    out = np.zeros(len(z))
    for at, j in _columns(q):
        out += (1 + (q - 2 - j) / 2) * _log_gap(z[:, at])
    return out


def draw_lkj(q: int, eta: float, rng: np.random.Generator, n: int) -> Array:
    """Draw unconstrained partial correlations under LKJ(eta), shape (n, q (q - 1) / 2)."""
    z = np.empty((n, q * (q - 1) // 2))
    for at, j in _columns(q):
        b = eta + (q - 2 - j) / 2
        z[:, at] = np.arctanh(2 * rng.beta(b, b, n) - 1)
    return z

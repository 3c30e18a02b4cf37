"""Eliminate one factor from any cross-products, groups with the same Z'Z together.

With `K_j = L (L' Z_j'Z_j L + I)^-1 L'` a group's share in `A'V^-1A` is `A_j'Z_j K_j Z_j'A_j`.
Groups with equal Z'Z share K, so their products are contracted once and an evaluation costs
classes, not groups (mathematics.md, section 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget
from ranef.numerics.batched_linalg import cholesky, solve_lower

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray

__all__ = ["ClassSums", "find_classes", "root_of_k"]


class ClassSums:
    """A'V^-1A and log|V| for one factor and any columns A.

    Parameters
    ----------
    ZZ
        Z_j'Z_j of each group, shape (G, q, q).
    ZA
        Z_j'A_j, shape (G, q, M).
    total
        A'A, shape (M, M).

    Attributes
    ----------
    kind
        Class of each group, shape (G,).
    ZZ
        Z'Z of each class, shape (D, q, q).
    """

    def __init__(self, ZZ: Array, ZA: Array, total: Array) -> None:
        q, M = ZA.shape[1:]
        first, self.kind = find_classes(ZZ)
        self.ZZ = ZZ[first]
        self.ZA = ZA
        self.total = total
        self.groups = np.bincount(self.kind).astype(float)
        self._products = np.zeros((len(first), q, q, M, M))
        if len(first) == 1:
            self._products[0] = np.einsum("gai,gbj->abij", ZA, ZA, optimize=True)
        else:
            order = np.argsort(self.kind, kind="stable")
            begins = np.concatenate([[0], np.cumsum(self.groups).astype(int)[:-1]])
            for a in range(q):
                for b in range(q):
                    for i in range(M):
                        rows = ZA[order, a, i, None] * ZA[order, b]
                        self._products[:, a, b, i] = np.add.reduceat(rows, begins)

    @property
    def cost(self) -> float:
        """Rough seconds for one evaluation."""
        classes, q = len(self.ZZ), int(self.ZZ.shape[1])
        return 1e-6 + 5e-8 * classes * q * q + 1e-9 * self._products.size

    def sums(self, L: Array) -> tuple[Array, Array]:
        """Evaluate at n relative Cholesky factors (n, q, q).

        Returns
        -------
        log_det : numpy.ndarray
            log|V| - N log sigma^2, shape (n,).
        U : numpy.ndarray
            A'V^-1A sigma^2, shape (n, M, M).
        """
        n, M = len(L), len(self.total)
        log_det, U = np.empty(n), np.empty((n, M, M))
        flat = self._products.reshape(-1, M * M)
        for part in budget.CLASSES.blocks(n, len(self.ZZ)):
            half, logs = root_of_k(L[part], self.ZZ)
            K = np.einsum("ndka,ndkb->ndab", half, half)
            log_det[part] = logs @ self.groups
            U[part] = self.total - (K.reshape(len(K), -1) @ flat).reshape(-1, M, M)
        return log_det, U

    def root_of_levels(self, L: Array, level: IntArray) -> tuple[Array, Array]:
        """A root of K and log|L'Z'Z L + I| of single levels, shapes (n, k, q, q) and (n, k)."""
        classes, place = np.unique(self.kind[level], return_inverse=True)
        half, logs = root_of_k(L, self.ZZ[classes])
        return half[:, place], logs[:, place]

    def shares(self, L: Array, level: IntArray) -> tuple[Array, Array]:
        """Shares of single levels in log|V|, (n, k), and what effects take from A'A, (n, k, M, M).

        A level's rows add their own A'A, less the latter, to A'V^-1A.
        """
        half, logs = self.root_of_levels(L, level)
        through = half @ self.ZA[level]
        return logs, through.swapaxes(2, 3) @ through

    def second_moments(self, L: Array, W: Array) -> Array:
        """Sum of E[b b'] over the groups, where the effects b have mean K Z'A a and covariance K.

        Parameters
        ----------
        L
            Relative Cholesky factors, shape (n, q, q).
        W
            Second moments of a, shape (n, M, M); everything relative to sigma^2.

        Returns
        -------
        numpy.ndarray
            Shape (n, q, q).
        """
        n, M = len(L), len(self.total)
        D, q = self.ZZ.shape[:2]
        out = np.empty((n, q, q))
        flat = self._products.reshape(-1, M * M).T
        for part in budget.CLASSES.blocks(n, D):
            half, _ = root_of_k(L[part], self.ZZ)
            K = half.swapaxes(2, 3) @ half
            score = (W[part].reshape(-1, M * M) @ flat).reshape(-1, D, q, q)
            out[part] = (K @ score @ K + self.groups[:, None, None] * K).sum(axis=1)
        return out

    def draw(self, L: Array, a: Array, sigma: Array, rng: np.random.Generator) -> Array:
        """Draw the effects, of mean K Z'A a and covariance sigma^2 K, shape (n, G, q)."""
        half = root_of_k(L, self.ZZ)[0][:, self.kind]
        score = np.einsum("gbk,nk->ngb", self.ZA, a)
        inner = np.einsum("ngkb,ngb->ngk", half, score)
        inner += rng.standard_normal(inner.shape) * sigma[:, None, None]
        return np.asarray(np.einsum("ngka,ngk->nga", half, inner))


def find_classes(ZZ: Array) -> tuple[IntArray, IntArray]:
    """Number the groups by equal Z'Z.

    Parameters
    ----------
    ZZ
        Z_j'Z_j of each group, shape (G, q, q).

    Returns
    -------
    first : numpy.ndarray
        One group of each class, shape (D,).
    kind : numpy.ndarray
        Class of each group, shape (G,).
    """
    # Equal up to rounding: sums of the same numbers in another order differ in the last digits.
    scale = float(np.abs(ZZ).max()) or 1.0
    keys = np.round(ZZ.reshape(len(ZZ), -1) / scale, 11)
    _, first, kind = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, kind.ravel()


def root_of_k(L: Array, ZZ: Array) -> tuple[Array, Array]:
    """A root H of K, H'H = K, and log|L'Z'Z L + I|, for every draw and class.

    Parameters
    ----------
    L
        Relative Cholesky factors, shape (n, q, q).
    ZZ
        Shape (D, q, q).

    Returns
    -------
    H : numpy.ndarray
        Shape (n, D, q, q).
    log_det : numpy.ndarray
        Shape (n, D).
    """
    n, q = L.shape[:2]
    D = len(ZZ)
    if q == 1:
        inner = L[:, 0, 0, None] ** 2 * ZZ[:, 0, 0] + 1
        return (L[:, 0, 0, None] / np.sqrt(inner))[:, :, None, None], np.log(inner)
    A = np.matmul(L.transpose(0, 2, 1)[:, None], np.matmul(ZZ, L[:, None]))
    A[:, :, np.arange(q), np.arange(q)] += 1
    F = cholesky(A.reshape(n * D, q, q))
    half = np.stack([solve_lower(F, np.repeat(L[:, a], D, axis=0)) for a in range(q)], axis=2)
    logs = 2 * np.log(np.einsum("mii->mi", F)).sum(axis=1)
    return half.reshape(n, D, q, q), logs.reshape(n, D)

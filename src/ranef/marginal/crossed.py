"""Several grouping factors: eliminate the largest, factor the Schur complement of the rest.

The largest factor's block of the mixed-model matrix is block-diagonal, so eliminating it costs a
small matrix per level. What is left is dense where factors are crossed (LAPACK), and sparse where
they are nested or hardly crossed (sparse LU in symmetric mode). mathematics.md, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import splu
from threadpoolctl import threadpool_limits

from ranef.marginal.blocks import cross_block, factor_block, total_products
from ranef.marginal.classes import root_of_k

if TYPE_CHECKING:
    from ranef.design import Design
    from ranef.marginal.blocks import FactorBlock
    from ranef.types import Array

__all__ = ["Crossed"]

# A remainder of more columns than this, or one this empty, is factored as a sparse matrix.
_DENSE = 8_000
_FILLED = 0.05


class Crossed:
    """[X y]'V^-1[X y] sigma^2 and log|V| for several factors.

    Parameters
    ----------
    design
        The data.
    """

    def __init__(self, design: Design) -> None:
        blocks = [factor_block(design, f) for f in range(len(design.factors))]
        sizes = [b.ZZ.shape[0] * b.ZZ.shape[1] for b in blocks]
        self.order = [int(i) for i in np.argsort(sizes, kind="stable")[::-1]]
        self.blocks = [blocks[f] for f in self.order]
        self.total = total_products(design)
        first, rest = self.blocks[0], self.blocks[1:]
        self.starts = np.concatenate(
            [[0], np.cumsum([b.ZZ.shape[0] * b.ZZ.shape[1] for b in rest])]
        )
        R, d1 = int(self.starts[-1]), first.ZZ.shape[0] * first.ZZ.shape[1]
        P = self.total.shape[0]
        self.ZV1 = first.ZV.reshape(d1, P)
        self.ZVR = np.concatenate([b.ZV.reshape(-1, P) for b in rest])
        self.ZR1 = sparse.vstack(
            [
                _matrix(design, f, self.order[0], (b.ZZ.shape[0] * b.ZZ.shape[1], d1))
                for f, b in zip(self.order[1:], rest, strict=True)
            ]
        ).tocsr()
        self.Z1R = self.ZR1.T.tocsr()
        self.ZRR = _rest(design, self.order[1:], rest)
        pattern = abs(self.ZRR) + abs(self.ZR1) @ abs(self.ZR1).T
        self.dense = R <= _DENSE and (pattern.nnz > _FILLED * R * R or R <= 500)
        if self.dense:
            self.ZRR = np.asarray(self.ZRR.todense())
        self.name = (
            f"{len(blocks)} factors, largest eliminated, "
            f"{'dense' if self.dense else 'sparse'} Schur complement of {R} columns"
        )

    def sums(self, roots: list[Array]) -> tuple[Array, Array]:
        """Evaluate at n relative Cholesky factors of every factor.

        Parameters
        ----------
        roots
            For each factor, in the design's order, shape (n, q, q).

        Returns
        -------
        log_det : numpy.ndarray
            log|V| - N log sigma^2, shape (n,).
        U : numpy.ndarray
            Shape (n, p + 1, p + 1).
        """
        n, P = len(roots[0]), self.total.shape[0]
        log_det, U = np.empty(n), np.empty((n, P, P))
        # On a busy machine the threads of a factorisation this small wait for each other for
        # longer than they work.
        with threadpool_limits(1, "blas"):
            for i in range(n):
                log_det[i], U[i] = self._one([roots[f][i] for f in self.order])
        return log_det, U

    @property
    def cost(self) -> float:
        """Rough seconds for one evaluation."""
        R = float(self.starts[-1])
        return 5e-4 + 1e-7 * float(self.ZR1.nnz) + 2e-11 * R * R * R

    def solve(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """Posterior of the effects given variance parameters, per factor; see `OneFactor.solve`."""
        n = len(roots[0])
        with threadpool_limits(1, "blas"):
            parts = [self._solve_one([roots[f][i] for f in self.order]) for i in range(n)]
        response: list[Array] = [np.empty(0)] * len(self.order)
        covariance: list[Array] = [np.empty(0)] * len(self.order)
        for k, f in enumerate(self.order):
            response[f] = np.stack([b[k] for b, _ in parts])
            covariance[f] = np.stack([c[k] for _, c in parts])
        return response, covariance

    def _solve_one(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """Solve once, in elimination order."""
        K, _ = self._eliminate(roots[0])
        left = self._through(K)
        r = self.ZVR - left @ self.ZV1
        L = self._root(roots[1:])
        A = _scale(L, self._remainder(left))
        A[np.diag_indices_from(A)] += 1
        inverse = linalg.inv(A, check_finite=False)
        M = np.asarray(L @ (L @ inverse).T)  # L A^-1 L', symmetric
        B_rest = M @ r
        # b_1 = K (Z_1'V - Z_1'Z_R b_R), so its covariance gains left' M left.
        B_first = K @ (self.ZV1 - self.Z1R @ B_rest)
        responses, covariances = [], []
        first = self.blocks[0]
        G, q = first.ZZ.shape[:2]
        P = len(self.total)
        half = np.asarray(left.T @ M)
        own = np.empty((G, q, q))
        T = left.T.tocsr()
        for a in range(q):
            for b in range(q):
                rows_a, rows_b = np.arange(G) * q + a, np.arange(G) * q + b
                own[:, a, b] = np.asarray(T[rows_b].multiply(half[rows_a]).sum(axis=1)).ravel()
                own[:, a, b] += np.asarray(K[rows_a][:, rows_b].diagonal())
        responses.append(B_first.reshape(G, q, P))
        covariances.append(own)
        for block, start in zip(self.blocks[1:], self.starts[:-1], strict=True):
            G, q = block.ZZ.shape[:2]
            at = start + np.arange(G * q).reshape(G, q)
            responses.append(B_rest[at])
            covariances.append(M[at[:, :, None], at[:, None, :]])
        return responses, covariances

    def second_moments(self, roots: list[Array], W: Array) -> list[Array]:
        """Sum over levels of E[b b'] / sigma^2, per factor; see `OneFactor.second_moments`."""
        out = [np.empty((len(W), r.shape[1], r.shape[1])) for r in roots]
        for i in range(len(W)):  # one point at a time: all its levels are in memory at once
            response, covariance = self.solve([r[i : i + 1] for r in roots])
            for f, (B, C) in enumerate(zip(response, covariance, strict=True)):
                out[f][i] = np.einsum("gap,gbp->ab", B[0] @ W[i], B[0]) + C[0].sum(axis=0)
        return out

    def draw(
        self, roots: list[Array], c: Array, tau: Array, rng: np.random.Generator
    ) -> list[Array]:
        """Draw the effects given variance parameters and coefficients; see `OneFactor.draw`."""
        out = [np.empty((len(c), *b.ZZ.shape[:2])) for b in self.blocks]
        for i in range(len(c)):
            some = [roots[f][i] for f in self.order]
            K, _ = self._eliminate(some[0])
            left = self._through(K)
            L = self._root(some[1:])
            A = _scale(L, self._remainder(left))
            A[np.diag_indices_from(A)] += 1
            F = linalg.cholesky(A, lower=True, overwrite_a=True, check_finite=False)
            sigma = np.exp(tau[i])
            z = sigma * rng.standard_normal(len(A))
            inner = linalg.solve_triangular(
                F, L.T @ ((self.ZVR - left @ self.ZV1) @ c[i]), lower=True
            )
            rest = L @ linalg.solve_triangular(F, inner + z, lower=True, trans="T")
            score = self.ZV1 @ c[i] - self.Z1R @ rest
            G, q = self.blocks[0].ZZ.shape[:2]
            noise = sigma * rng.standard_normal((G, q))
            out[0][i] = (K @ score).reshape(G, q) + self._spread(some[0], noise)
            for k, start in enumerate(self.starts[:-1], start=1):
                out[k][i] = rest[start : start + out[k][i].size].reshape(out[k][i].shape)
        ordered = [np.empty(0)] * len(out)
        for k, f in enumerate(self.order):
            ordered[f] = out[k]
        return ordered

    def _remainder(self, left: sparse.csr_array) -> Array:
        """Z'Z of the rest less what the eliminated factor explains, as a dense matrix."""
        gone = left @ self.Z1R
        return np.asarray(self.ZRR - gone.todense() if self.dense else (self.ZRR - gone).todense())

    def _spread(self, L: Array, z: Array) -> Array:
        """Give noise (G, q) the covariance K of each level of the largest factor."""
        half = root_of_k(L[None], self.blocks[0].ZZ)[0][0]
        return np.asarray(np.einsum("gka,gk->ga", half, z))

    def _one(self, roots: list[Array]) -> tuple[float, Array]:
        """Evaluate once; roots in elimination order."""
        K, log_det = self._eliminate(roots[0])
        left = self._through(K)
        r = self.ZVR - left @ self.ZV1
        U = self.total - self.ZV1.T @ (K @ self.ZV1)
        L = self._root(roots[1:])
        if self.dense:
            S = _scale(L, self._remainder(left))
            S[np.diag_indices_from(S)] += 1
            F = linalg.cholesky(S, lower=True, overwrite_a=True, check_finite=False)
            half = linalg.solve_triangular(F, L.T @ r, lower=True, check_finite=False)
            log_det += 2 * float(np.log(np.diag(F)).sum())
            return log_det, U - half.T @ half
        S = L.T @ (self.ZRR - left @ self.Z1R) @ L + sparse.eye_array(L.shape[0])
        factor = splu(
            S.tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        log_det += float(np.log(np.abs(factor.U.diagonal())).sum())
        right = L.T @ r
        return log_det, U - right.T @ factor.solve(right)

    def _through(self, K: sparse.csr_array) -> sparse.csr_array:
        """Z_R'Z_1 K; a scaling of columns where K is diagonal."""
        if K.nnz > K.shape[0]:
            return self.ZR1 @ K
        left = self.ZR1.copy()
        left.data *= K.diagonal()[left.indices]
        return left

    def _eliminate(self, L: Array) -> tuple[sparse.csr_array, float]:
        """K = L (L'Z'Z L + I)^-1 L' of the largest factor, and log|L'Z'Z L + I|."""
        ZZ = self.blocks[0].ZZ
        G, q = ZZ.shape[:2]
        if q == 1:
            inner = L[0, 0] ** 2 * ZZ[:, 0, 0] + 1
            return sparse.diags_array(L[0, 0] ** 2 / inner).tocsr(), float(np.log(inner).sum())
        roots, logs = root_of_k(L[None], ZZ)
        K = np.einsum("gka,gkb->gab", roots[0], roots[0])
        at = np.arange(G)
        blocks = sparse.bsr_array((K, at, np.arange(G + 1)), shape=(G * q, G * q))
        return blocks.tocsr(), float(logs.sum())

    def _root(self, roots: list[Array]) -> sparse.csr_array:
        """Block-diagonal relative Cholesky factor of all remaining effects."""
        parts = [
            sparse.kron(sparse.eye_array(b.ZZ.shape[0]), root)
            for b, root in zip(self.blocks[1:], roots, strict=True)
        ]
        return sparse.block_diag(parts, format="csr")


def _matrix(design: Design, f: int, g: int, shape: tuple[int, int]) -> sparse.csr_array:
    """Z_f'Z_g as a sparse matrix."""
    block = cross_block(design, f, g)
    _, a, b = block.values.shape
    rows = (block.row[:, None, None] * a + np.arange(a)[:, None] + np.zeros((1, b), int)).ravel()
    columns = (block.column[:, None, None] * b + np.arange(b) + np.zeros((a, 1), int)).ravel()
    return sparse.csr_array((block.values.ravel(), (rows, columns)), shape=shape)


def _rest(design: Design, order: list[int], blocks: list[FactorBlock]) -> sparse.csr_array:
    """Z'Z of all factors but the eliminated one."""
    grid: list[list[Any]] = []
    for i, (f, b) in enumerate(zip(order, blocks, strict=True)):
        row: list[Any] = []
        G, q = b.ZZ.shape[:2]
        for j, (g, c) in enumerate(zip(order, blocks, strict=True)):
            if i == j:
                part = sparse.bsr_array(
                    (b.ZZ, np.arange(G), np.arange(G + 1)), shape=(G * q, G * q)
                )
            else:
                part = _matrix(design, f, g, (G * q, c.ZZ.shape[0] * c.ZZ.shape[1]))
            row.append(part)
        grid.append(row)
    return sparse.block_array(grid, format="csr")


def _scale(L: sparse.csr_array, S: Array) -> Array:
    """L' S L; a vector operation where L is diagonal."""
    if L.nnz == L.shape[0]:
        d = L.diagonal()
        return np.asarray(d[:, None] * S * d)
    return np.asarray(L.T @ S @ L)

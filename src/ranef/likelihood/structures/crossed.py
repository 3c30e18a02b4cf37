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

from ranef.common import budget
from ranef.likelihood.structures.factor_blocks import (
    cross_block,
    factor_block,
    reweighted,
    total_products,
)
from ranef.likelihood.structures.level_classes import root_of_k
from ranef.likelihood.structures.level_pairs import Pairs, count_pairs
from ranef.likelihood.structures.row_effects import add_effects

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.cells.response import Response
    from ranef.common.array_types import Array, IntArray
    from ranef.likelihood.structures.factor_blocks import CrossBlock

__all__ = ["Crossed"]

# A remainder this empty is factored as a sparse matrix.
_FILLED = 0.05


class Crossed:
    """[X y]'V^-1[X y] sigma^2 and log|V| for several factors.

    Parameters
    ----------
    design, response
        The data.
    like
        The structure of the same cells at other weights, to take from it which effects meet.
    """

    by_level = None

    def __init__(
        self, design: OrthonormalCells, response: Response, like: Crossed | None = None
    ) -> None:
        self.design, self.response = design, response
        factors = range(len(design.factors))
        self.crosses: dict[tuple[int, int], CrossBlock] = {
            (f, g): cross_block(design, f, g, None if like is None else like.crosses[f, g])
            for f in factors
            for g in factors
            if f != g
        }
        blocks = [factor_block(design, response, f) for f in factors]
        sizes = [b.ZZ.shape[0] * b.ZZ.shape[1] for b in blocks]
        self.order = [int(i) for i in np.argsort(sizes, kind="stable")[::-1]]
        self.place = np.argsort(self.order).tolist()
        self.blocks = [blocks[f] for f in self.order]
        self.total = total_products(design, response)
        largest, *rest = self.order
        self.starts = np.cumsum([0, *(sizes[f] for f in rest)])
        R, P = int(self.starts[-1]), len(self.total)

        def matrix(f: int, g: int) -> sparse.csr_array:
            """Z_f'Z_g."""
            if f == g:
                return _block_diagonal(blocks[f].ZZ)
            return _matrix(self.crosses[f, g], (sizes[f], sizes[g]))

        self.ZV1 = blocks[largest].ZV.reshape(-1, P)
        self.ZVR = np.concatenate([blocks[f].ZV.reshape(-1, P) for f in rest])
        self.ZR1 = sparse.vstack([matrix(f, largest) for f in rest]).tocsr()
        self.Z1R = self.ZR1.T.tocsr()
        self.ZRR: Any = sparse.block_array(
            [[matrix(f, g) for g in rest] for f in rest], format="csr"
        )
        self.dense: bool
        self.pairs: Pairs | None
        if like is not None:
            self.dense = like.dense
            self.pairs = None if like.pairs is None else like.pairs.refilled(self.Z1R)
        else:
            pattern = abs(self.ZRR) + abs(self.ZR1) @ abs(self.ZR1).T
            filled = pattern.nnz > _FILLED * R * R or R <= 500
            self.dense = R <= budget.DENSE_COLUMNS and filled
            q = self.blocks[0].ZZ.shape[1]
            listed = self.dense and count_pairs(self.Z1R, q) <= budget.LISTED_PRODUCTS
            self.pairs = Pairs(self.Z1R, q) if listed else None
        if self.dense:
            self.ZRR = np.ascontiguousarray(self.ZRR.todense())
        self.name = (
            f"{len(blocks)} factors, largest eliminated, "
            f"{'dense' if self.dense else 'sparse'} Schur complement of {R} columns"
        )

    @classmethod
    def suits(cls, design: OrthonormalCells) -> bool:
        """Designs with several factors."""
        return len(design.factors) > 1

    def reweighted(self, weights: Array) -> Crossed:
        """See `Structure.reweighted`."""
        return Crossed(*reweighted(self.design, self.response, weights), like=self)

    def sums(self, roots: list[Array]) -> tuple[Array, Array]:
        """See `Structure.sums`."""
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
        return 3e-4 + 5e-8 * float(self.ZR1.nnz) + 1e-11 * R * R * R

    def solve(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """See `Structure.solve`."""
        n = len(roots[0])
        with threadpool_limits(1, "blas"):
            parts = [self._solve_one([roots[f][i] for f in self.order]) for i in range(n)]
        response = [np.stack([b[k] for b, _ in parts]) for k in self.place]
        return response, [np.stack([c[k] for _, c in parts]) for k in self.place]

    def at_rows(
        self, roots: list[Array], codes: list[IntArray], Z: list[Array]
    ) -> tuple[Array, Array]:
        """See `Structure.at_rows`."""
        G, q = self.blocks[0].ZZ.shape[:2]
        responses, variances = [], []
        with threadpool_limits(1, "blas"):
            for i in range(len(roots[0])):
                B, K, M = self._posterior([roots[f][i] for f in self.order])
                response = [B[k][None] for k in self.place]
                across = K @ (self.Z1R @ M).reshape(G, q, -1)
                own = K + K @ self._quadratic(M) @ K
                parts = (own[None], across[None], M[None])
                total, variance = add_effects(
                    self.order, self.starts[:-1], response, parts, codes, Z
                )
                responses.append(total)
                variances.append(variance)
        return np.concatenate(responses), np.concatenate(variances)

    def _solve_one(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """Solve once, in elimination order."""
        responses, K, M = self._posterior(roots)
        # b_1 = K (Z_1'V - Z_1'Z_R b_R), so its covariance gains K Z_1'Z_R M Z_R'Z_1 K.
        covariances = [K + K @ self._quadratic(M) @ K]
        for at in self._places():
            covariances.append(M[at[:, :, None], at[:, None, :]])
        return responses, covariances

    def _places(self) -> list[IntArray]:
        """Positions of each remaining factor's effects among all remaining, shape (G, q) each."""
        shapes = [b.ZZ.shape[:2] for b in self.blocks[1:]]
        return [
            start + np.arange(G * q).reshape(G, q)
            for (G, q), start in zip(shapes, self.starts[:-1], strict=True)
        ]

    def _posterior(self, roots: list[Array]) -> tuple[list[Array], Array, Array]:
        """Responses, and K and the remaining effects' covariance M, in elimination order."""
        K, _ = self._eliminate(roots[0])
        r = self.ZVR - self.ZR1 @ _apply(K, self.ZV1)
        L = self._root(roots[1:])
        F = self._factor(K, L)
        inverse, _ = linalg.lapack.dpotri(F, lower=True, overwrite_c=True)
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        M = np.ascontiguousarray(_scale(L.T, inverse))  # L A^-1 L', symmetric
        B_rest = M @ r
        B_first = _apply(K, self.ZV1 - self.Z1R @ B_rest)
        first = self.blocks[0]
        responses = [B_first.reshape(*first.ZZ.shape[:2], len(self.total))]
        responses += [B_rest[at] for at in self._places()]
        return responses, K, M

    def _quadratic(self, M: Array) -> Array:
        """Z_1'Z_R M Z_R'Z_1 of each level of the largest factor, shape (G, q, q)."""
        if self.pairs is not None:
            return self.pairs.quadratic(M)
        G, q = self.blocks[0].ZZ.shape[:2]
        half = self.Z1R @ M
        out = np.empty((G, q, q))
        for a in range(q):
            for b in range(q):
                out[:, a, b] = np.asarray(self.Z1R[b::q].multiply(half[a::q]).sum(axis=1)).ravel()
        return out

    def second_moments(self, roots: list[Array], W: Array) -> list[Array]:
        """See `Structure.second_moments`."""
        out = [np.empty((len(W), r.shape[1], r.shape[1])) for r in roots]
        for i in range(len(W)):  # one point at a time: all its levels are in memory at once
            response, covariance = self.solve([r[i : i + 1] for r in roots])
            for f, (B, C) in enumerate(zip(response, covariance, strict=True)):
                out[f][i] = np.einsum("gap,gbp->ab", B[0] @ W[i], B[0]) + C[0].sum(axis=0)
        return out

    def draw(
        self, roots: list[Array], c: Array, log_sigma: Array, rng: np.random.Generator
    ) -> list[Array]:
        """See `Structure.draw`."""
        out = [np.empty((len(c), *b.ZZ.shape[:2])) for b in self.blocks]
        for i in range(len(c)):
            some = [roots[f][i] for f in self.order]
            K, _ = self._eliminate(some[0])
            L = self._root(some[1:])
            F = self._factor(K, L)
            r = self.ZVR - self.ZR1 @ _apply(K, self.ZV1)
            sigma = np.exp(log_sigma[i])
            z = sigma * rng.standard_normal(len(F))
            inner = linalg.solve_triangular(F, L.T @ (r @ c[i]), lower=True)
            rest = L @ linalg.solve_triangular(F, inner + z, lower=True, trans="T")
            score = self.ZV1 @ c[i] - self.Z1R @ rest
            G, q = self.blocks[0].ZZ.shape[:2]
            noise = sigma * rng.standard_normal((G, q))
            out[0][i] = _apply(K, score[:, None]).reshape(G, q) + self._spread(some[0], noise)
            for k, start in enumerate(self.starts[:-1], start=1):
                out[k][i] = rest[start : start + out[k][i].size].reshape(out[k][i].shape)
        return [out[k] for k in self.place]

    def _factor(self, K: Array, L: sparse.csr_array) -> Array:
        """Cholesky factor of L' (Z_R'Z_R - Z_R'Z_1 K Z_1'Z_R) L + I, dense and lower."""
        if self.pairs is not None:
            S = self.ZRR.copy()
            self.pairs.subtract(S, K)
            if L.nnz > L.shape[0]:
                S = np.tril(S) + np.tril(S, -1).T
        else:
            S = self.ZRR - self.ZR1 @ _block_diagonal(K) @ self.Z1R
            S = np.asarray(S if self.dense else S.todense())
        A = _scale(L, S)
        A[np.diag_indices_from(A)] += 1
        # LAPACK reads columns first: the lower triangle of rows is its upper one of columns.
        F, failed = linalg.lapack.dpotrf(A.T, lower=False, overwrite_a=True, clean=True)
        if failed:
            raise np.linalg.LinAlgError("the Schur complement is not positive definite")
        return np.asarray(F.T)

    def _spread(self, L: Array, z: Array) -> Array:
        """Give noise (G, q) the covariance K of each level of the largest factor."""
        half = root_of_k(L[None], self.blocks[0].ZZ)[0][0]
        return np.asarray(np.einsum("gka,gk->ga", half, z))

    def _one(self, roots: list[Array]) -> tuple[float, Array]:
        """Evaluate once; roots in elimination order."""
        K, log_det = self._eliminate(roots[0])
        through = _apply(K, self.ZV1)
        r = self.ZVR - self.ZR1 @ through
        U = self.total - self.ZV1.T @ through
        L = self._root(roots[1:])
        right = L.T @ r
        if self.dense:
            F = self._factor(K, L)
            half = linalg.solve_triangular(F, right, lower=True, check_finite=False)
            log_det += 2 * float(np.log(np.diag(F)).sum())
            return log_det, U - half.T @ half
        S = self.ZRR - self.ZR1 @ _block_diagonal(K) @ self.Z1R
        factor = splu(
            (L.T @ S @ L + sparse.eye_array(L.shape[0])).tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        log_det += float(np.log(np.abs(factor.U.diagonal())).sum())
        return log_det, U - right.T @ factor.solve(right)

    def _eliminate(self, L: Array) -> tuple[Array, float]:
        """K = L (L'Z'Z L + I)^-1 L' of each level of the largest factor, and log|L'Z'Z L + I|."""
        roots, logs = root_of_k(L[None], self.blocks[0].ZZ)
        return np.einsum("gka,gkb->gab", roots[0], roots[0]), float(logs.sum())

    def _root(self, roots: list[Array]) -> sparse.csr_array:
        """Block-diagonal relative Cholesky factor of all remaining effects."""
        parts = [
            sparse.kron(sparse.eye_array(b.ZZ.shape[0]), root)
            for b, root in zip(self.blocks[1:], roots, strict=True)
        ]
        return sparse.block_diag(parts, format="csr")


def _matrix(block: CrossBlock, shape: tuple[int, int]) -> sparse.csr_array:
    """Z_f'Z_g as a sparse matrix."""
    _, a, b = block.values.shape
    rows = (block.row[:, None, None] * a + np.arange(a)[:, None] + np.zeros((1, b), int)).ravel()
    columns = (block.column[:, None, None] * b + np.arange(b) + np.zeros((a, 1), int)).ravel()
    return sparse.csr_array((block.values.ravel(), (rows, columns)), shape=shape)


def _apply(K: Array, V: Array) -> Array:
    """Block-diagonal K (G, q, q) times V (G q, m)."""
    G, q = K.shape[:2]
    return np.asarray(np.matmul(K, V.reshape(G, q, -1))).reshape(V.shape)


def _block_diagonal(K: Array) -> sparse.csr_array:
    """K (G, q, q) as one sparse matrix."""
    G, q = K.shape[:2]
    return sparse.bsr_array((K, np.arange(G), np.arange(G + 1)), shape=(G * q, G * q)).tocsr()


def _scale(L: sparse.csr_array, S: Array) -> Array:
    """L' S L; a vector operation where L is diagonal."""
    if L.nnz == L.shape[0]:
        d = L.diagonal()
        S = S * d
        S *= d[:, None]
        return np.asarray(S)
    return np.asarray(L.T @ S @ L)

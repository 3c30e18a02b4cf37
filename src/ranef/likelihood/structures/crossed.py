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

from ranef.common import budget
from ranef.common.threads import one_thread
from ranef.likelihood.structures.factor_blocks import reweighted
from ranef.likelihood.structures.level_bases import (
    cross_coordinates,
    level_basis,
    response_coordinates,
    without_rounding,
)
from ranef.likelihood.structures.level_classes import effects_given, square, weights_left
from ranef.likelihood.structures.level_pairs import Pairs, count_pairs
from ranef.likelihood.structures.row_effects import add_effects
from ranef.numerics.batched_linalg import root_above_one

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
        bases = [level_basis(design, f) for f in factors]
        self.crosses: dict[tuple[int, int], CrossBlock] = {
            (f, g): cross_coordinates(
                design, f, g, bases, None if like is None else like.crosses[f, g]
            )
            for f in factors
            for g in factors
            if f != g
        }
        coordinates = [response_coordinates(design, response, f, bases[f]) for f in factors]
        sizes = [f.levels * len(f.columns) for f in design.factors]
        self.order = [int(i) for i in np.argsort(sizes, kind="stable")[::-1]]
        self.place = np.argsort(self.order).tolist()
        self.bases = [bases[f].R for f in self.order]
        largest, *rest = self.order
        self.starts = np.cumsum([0, *(sizes[f] for f in rest)])
        R, P = int(self.starts[-1]), design.p + 1

        def matrix(f: int, g: int) -> sparse.csr_array:
            """Q_f'Q_g."""
            if f == g:
                # Q_j is orthonormal, but for columns that the level does not have.
                return sparse.dia_array(
                    ((np.einsum("gaa->ga", bases[f].inner) > 0).astype(float).reshape(1, -1), 0),
                    shape=(sizes[f], sizes[f]),
                ).tocsr()
            return _matrix(self.crosses[f, g], (sizes[f], sizes[g]))

        own, outside = coordinates[largest]
        self.V1, self.outside = own.reshape(-1, P), without_rounding(outside, own)
        self.R1 = sparse.vstack([matrix(f, largest) for f in rest]).tocsr()
        self.Q1R = self.R1.T.tocsr()
        RV = np.concatenate([coordinates[f][0].reshape(-1, P) for f in rest])
        self.outside_RV = RV - self.R1 @ self.V1
        RR: Any = sparse.block_array([[matrix(f, g) for g in rest] for f in rest], format="csr")
        self.dense: bool
        self.pairs: Pairs | None
        if like is not None:
            self.dense = like.dense
            self.pairs = None if like.pairs is None else like.pairs.refilled(self.Q1R)
        else:
            pattern = abs(RR) + abs(self.R1) @ abs(self.R1).T
            filled = pattern.nnz > _FILLED * R * R or R <= 500
            self.dense = R <= budget.DENSE_COLUMNS and filled
            q = self.bases[0].shape[1]
            listed = self.dense and count_pairs(self.Q1R, q) <= budget.LISTED_PRODUCTS
            self.pairs = Pairs(self.Q1R, q) if listed else None
        self.outside_RR: Any = RR - self.R1 @ self.Q1R
        if self.dense:
            self.outside_RR = np.ascontiguousarray(self.outside_RR.todense())
        self.name = (
            f"{len(bases)} factors, largest eliminated, "
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
        n, P = len(roots[0]), len(self.outside)
        log_det, U = np.empty(n), np.empty((n, P, P))
        with one_thread():
            for i in range(n):
                log_det[i], U[i] = self._one([roots[f][i] for f in self.order])
        return log_det, U

    @property
    def cost(self) -> float:
        """Rough seconds for one evaluation."""
        R = float(self.starts[-1])
        return 3e-4 + 5e-8 * float(self.R1.nnz) + 1e-11 * R * R * R

    def solve(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """See `Structure.solve`."""
        n = len(roots[0])
        with one_thread():
            parts = [self._solve_one([roots[f][i] for f in self.order]) for i in range(n)]
        response = [np.stack([b[k] for b, _ in parts]) for k in self.place]
        return response, [np.stack([c[k] for _, c in parts]) for k in self.place]

    def at_rows(
        self, roots: list[Array], codes: list[IntArray], Z: list[Array]
    ) -> tuple[Array, Array]:
        """See `Structure.at_rows`."""
        responses, variances = [], []
        with one_thread():
            for i in range(len(roots[0])):
                B, own, across, M = self._posterior([roots[f][i] for f in self.order])
                response = [B[k][None] for k in self.place]
                parts = (own[None], across[None], M[None])
                total, variance = add_effects(
                    self.order, self.starts[:-1], response, parts, codes, Z
                )
                responses.append(total)
                variances.append(variance)
        return np.concatenate(responses), np.concatenate(variances)

    def _solve_one(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """Solve once, in elimination order."""
        responses, own, _, M = self._posterior(roots, across=False)
        covariances = [own]
        for at in self._places():
            covariances.append(M[at[:, :, None], at[:, None, :]])
        return responses, covariances

    def _places(self) -> list[IntArray]:
        """Positions of each remaining factor's effects among all remaining, shape (G, q) each."""
        shapes = [R.shape[:2] for R in self.bases[1:]]
        return [
            start + np.arange(G * q).reshape(G, q)
            for (G, q), start in zip(shapes, self.starts[:-1], strict=True)
        ]

    def _posterior(
        self, roots: list[Array], *, across: bool = True
    ) -> tuple[list[Array], Array, Array, Array]:
        """Responses and covariances in elimination order.

        The latter are those of the largest factor's effects by level (G, q, q), what they share
        with the others, `K Z_1'Z_R M` (G, q, R), unless it is not asked for, and M (R, R).
        """
        W, _ = self._eliminate(roots[0])
        maps, half = (m[0] for m in effects_given(roots[0][None], self.bases[0]))
        r = self.outside_RV + self.R1 @ _apply(W, self.V1)
        L, turned = self._root(roots[1:]), self._turned(roots[1:])
        F = self._factor(W, turned)
        inverse, _ = linalg.lapack.dpotri(F, lower=True, overwrite_c=True)
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        right = inverse @ (turned.T @ r)
        B_first = _apply(maps, self.V1 - self.Q1R @ (turned @ right))
        G, q = self.bases[0].shape[:2]
        responses = [B_first.reshape(G, q, -1)]
        responses += [(L @ right)[at] for at in self._places()]
        # b_1 = B (Q_1'V - Q_1'Z_R b_R) with B of `effects_given`, so its covariance gains
        # B Q_1'Z_R M Z_R'Q_1 B'.
        spread = np.ascontiguousarray(_scale(turned.T, inverse))
        own = half.swapaxes(1, 2) @ half + maps @ self._quadratic(spread) @ maps.swapaxes(1, 2)
        shared = np.empty(0)
        if across:
            mixed = (L @ (turned @ inverse).T).T
            shared = maps @ (self.Q1R @ mixed).reshape(G, q, -1)
        return responses, own, shared, np.ascontiguousarray(_scale(L.T, inverse))

    def _quadratic(self, M: Array) -> Array:
        """Q_1'Q_R M Q_R'Q_1 of each level of the largest factor, shape (G, q, q)."""
        if self.pairs is not None:
            return self.pairs.quadratic(M)
        G, q = self.bases[0].shape[:2]
        half = self.Q1R @ M
        out = np.empty((G, q, q))
        for a in range(q):
            for b in range(q):
                out[:, a, b] = np.asarray(self.Q1R[b::q].multiply(half[a::q]).sum(axis=1)).ravel()
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
        out = [np.empty((len(c), *R.shape[:2])) for R in self.bases]
        for i in range(len(c)):
            some = [roots[f][i] for f in self.order]
            W, _ = self._eliminate(some[0])
            maps, half = (m[0] for m in effects_given(some[0][None], self.bases[0]))
            L, turned = self._root(some[1:]), self._turned(some[1:])
            F = self._factor(W, turned)
            r = self.outside_RV + self.R1 @ _apply(W, self.V1)
            sigma = np.exp(log_sigma[i])
            z = sigma * rng.standard_normal(len(F))
            inner = linalg.solve_triangular(F, turned.T @ (r @ c[i]), lower=True)
            effects = linalg.solve_triangular(F, inner + z, lower=True, trans="T")
            rest = L @ effects
            score = self.V1 @ c[i] - self.Q1R @ (turned @ effects)
            G, q = self.bases[0].shape[:2]
            noise = sigma * rng.standard_normal((G, q))
            out[0][i] = _apply(maps, score[:, None]).reshape(G, q)
            out[0][i] += np.einsum("gka,gk->ga", half, noise)
            for k, start in enumerate(self.starts[:-1], start=1):
                out[k][i] = rest[start : start + out[k][i].size].reshape(out[k][i].shape)
        return [out[k] for k in self.place]

    def _factor(self, W: Array, L: sparse.csr_array) -> Array:
        """Cholesky factor of L' (Q_R'(I - Q_1Q_1')Q_R + Q_R'Q_1 W Q_1'Q_R) L + I, dense, lower."""
        if self.pairs is not None:
            S = self.outside_RR.copy()
            self.pairs.add(S, W)
            if L.nnz > L.shape[0]:
                S = np.tril(S) + np.tril(S, -1).T
        else:
            S = self.outside_RR + self.R1 @ _block_diagonal(W) @ self.Q1R
            S = np.asarray(S if self.dense else S.todense())
        A = _scale(L, S)
        A[np.diag_indices_from(A)] += 1
        # LAPACK reads columns first: the lower triangle of rows is its upper one of columns.
        F, failed = linalg.lapack.dpotrf(A.T, lower=False, overwrite_a=True, clean=True)
        if failed:  # rounding at an enormous variance ratio
            A = _scale(L, S)
            A[np.diag_indices_from(A)] += 1
            return np.asarray(root_above_one((np.tril(A) + np.tril(A, -1).T)[None])[0])
        return np.asarray(F.T)

    def _one(self, roots: list[Array]) -> tuple[float, Array]:
        """Evaluate once; roots in elimination order."""
        W, log_det = self._eliminate(roots[0])
        through = _apply(W, self.V1)
        r = self.outside_RV + self.R1 @ through
        U = self.outside + self.V1.T @ through
        L = self._turned(roots[1:])
        right = L.T @ r
        if self.dense:
            F = self._factor(W, L)
            half = linalg.solve_triangular(F, right, lower=True, check_finite=False)
            log_det += 2 * float(np.log(np.diag(F)).sum())
            return log_det, U - half.T @ half
        S = self.outside_RR + self.R1 @ _block_diagonal(W) @ self.Q1R
        factor = splu(
            (L.T @ S @ L + sparse.eye_array(L.shape[0])).tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        log_det += float(np.log(np.abs(factor.U.diagonal())).sum())
        return log_det, U - right.T @ factor.solve(right)

    def _eliminate(self, L: Array) -> tuple[Array, float]:
        """W = (I + R L L'R')^-1 of each level of the largest factor, and the sum of -log|W|."""
        W, logs = weights_left(L[None], self.bases[0])
        return square(W)[0], float(logs.sum())

    def _root(self, roots: list[Array]) -> sparse.csr_array:
        """Block-diagonal relative Cholesky factor of all remaining effects."""
        parts = [
            sparse.kron(sparse.eye_array(len(R)), root)
            for R, root in zip(self.bases[1:], roots, strict=True)
        ]
        return sparse.block_diag(parts, format="csr")

    def _turned(self, roots: list[Array]) -> sparse.csr_array:
        """The same with each level's root times its R_j: what stands beside orthonormal columns."""
        parts = [_block_diagonal(R @ root) for R, root in zip(self.bases[1:], roots, strict=True)]
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

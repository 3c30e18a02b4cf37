"""Several factors, all but the largest small: draws in one batch (mathematics.md, 3.4).

The largest factor is eliminated class by class with the other effects standing beside X and y, and
what is left is one small dense matrix per draw. The Cholesky factor of
`[[L'A'A L + I, L'A'V], [V'A L, V'V]]`, A the columns of the remaining effects and V = [X y], holds
log|.| of the first block and a root of its Schur complement U, so one factorisation does it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget
from ranef.common.random_streams import split_stream
from ranef.likelihood.structures.factor_blocks import (
    cross_block,
    factor_block,
    level_products,
    reweighted,
    total_products,
)
from ranef.likelihood.structures.level_classes import ClassSums, find_classes, root_of_k
from ranef.likelihood.structures.row_effects import add_effects

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.cells.response import Response
    from ranef.common.array_types import Array, IntArray
    from ranef.likelihood.structures.factor_blocks import CrossBlock

__all__ = ["SmallRemainder"]


class SmallRemainder:
    """[X y]'V^-1[X y] sigma^2 and log|V| for factors of which only one is large.

    Parameters
    ----------
    design, response
        The data.
    like
        The structure of the same cells at other weights, to take pairs of levels from.
    """

    by_level = None

    def __init__(
        self, design: OrthonormalCells, response: Response, like: SmallRemainder | None = None
    ) -> None:
        self.design, self.response = design, response
        self._crosses: dict[tuple[int, int], CrossBlock] = {}
        known = {} if like is None else like._crosses

        def cross_of(f: int, g: int) -> CrossBlock:
            self._crosses[f, g] = cross_block(design, f, g, known.get((f, g)))
            return self._crosses[f, g]

        blocks = [factor_block(design, response, f) for f in range(len(design.factors))]
        sizes = [b.ZZ.shape[0] * b.ZZ.shape[1] for b in blocks]
        self.first = int(np.argmax(sizes))
        self.rest = [f for f in range(len(blocks)) if f != self.first]
        self.shapes = [blocks[f].ZZ.shape[:2] for f in self.rest]
        self.starts = np.concatenate([[0], np.cumsum([sizes[f] for f in self.rest])])
        R, P = int(self.starts[-1]), design.p + 1
        big = blocks[self.first]
        G, q = big.ZZ.shape[:2]
        ZA, total = np.zeros((G, q, R + P)), np.zeros((R + P, R + P))
        ZA[:, :, R:], total[R:, R:] = big.ZV, total_products(design, response)
        for i, f in enumerate(self.rest):
            own = blocks[f]
            at = self._at(i)
            total[at[:, :, None], at[:, None, :]] = own.ZZ
            total[at, R:] = own.ZV
            total[R:, at.ravel()] = own.ZV.reshape(-1, P).T
            cross = cross_of(self.first, f)
            for a in range(q):
                ZA[cross.row[:, None], a, at[cross.column]] = cross.values[:, a]
            for j in range(i):
                pair = cross_of(f, self.rest[j])
                row, column = at[pair.row], self._at(j)[pair.column]
                total[row[:, :, None], column[:, None, :]] = pair.values
                total[column[:, :, None], row[:, None, :]] = pair.values.transpose(0, 2, 1)
        self._sums = ClassSums(big.ZZ, ZA, total)
        self.name = (
            f"{len(blocks)} factors, largest eliminated in {len(self._sums.ZZ):,} classes, "
            f"the other {R} effects dense and in batches"
        )

    @classmethod
    def suits(cls, design: OrthonormalCells) -> bool:
        """Designs with few effects beside the largest factor's, or some and few classes."""
        sizes = [f.levels * len(f.columns) for f in design.factors]
        rest = sum(sizes) - max(sizes)
        if len(sizes) == 1 or rest > budget.MOST_BATCHED_EFFECTS:
            return False
        if rest <= budget.BATCHED_EFFECTS:
            return True
        ZZ = level_products(design, int(np.argmax(sizes)))
        products = len(find_classes(ZZ)[0]) * ZZ.shape[1] ** 2 * rest**2
        return bool(products <= budget.CLASS_PRODUCTS)

    def reweighted(self, weights: Array) -> SmallRemainder:
        """See `Structure.reweighted`."""
        return SmallRemainder(*reweighted(self.design, self.response, weights), like=self)

    @property
    def cost(self) -> float:
        """Rough seconds for one evaluation."""
        columns = float(len(self._sums.total))
        return self._sums.cost + 1e-6 + 6e-10 * columns**2 * float(np.sqrt(columns))

    def _at(self, i: int) -> Array:
        """Positions of the i-th remaining factor's effects, shape (G, q)."""
        G, q = self.shapes[i]
        return np.asarray(self.starts[i] + np.arange(G * q).reshape(G, q))

    def _root(self, roots: list[Array]) -> Array:
        """Block-diagonal relative Cholesky factor of the remaining effects, shape (n, R, R)."""
        n, R = len(roots[0]), int(self.starts[-1])
        L = np.zeros((n, R, R))
        for i, f in enumerate(self.rest):
            at = self._at(i)
            L[:, at[:, :, None], at[:, None, :]] = roots[f][:, None]
        return L

    def _scaled(self, roots: list[Array], U: Array) -> tuple[Array, Array]:
        """L'A'A L + I and L'A'V, shapes (n, R, R) and (n, R, P)."""
        n, R = len(U), int(self.starts[-1])
        if all(q == 1 for _, q in self.shapes):
            sizes = zip(self.rest, self.shapes, strict=True)
            d = np.concatenate([np.broadcast_to(roots[f][:, 0], (n, G)) for f, (G, _) in sizes], 1)
            A, right = d[:, :, None] * U[:, :R, :R] * d[:, None, :], d[:, :, None] * U[:, :R, R:]
        else:
            LT = self._root(roots).transpose(0, 2, 1)
            A, right = LT @ U[:, :R, :R] @ LT.transpose(0, 2, 1), LT @ U[:, :R, R:]
        A[:, np.arange(R), np.arange(R)] += 1
        return A, right

    def sums(self, roots: list[Array]) -> tuple[Array, Array]:
        """See `Structure.sums`."""
        n, R, M = len(roots[0]), int(self.starts[-1]), len(self._sums.total)
        log_det, U = np.empty(n), np.empty((n, M - R, M - R))
        for part in budget.DENSE_BATCH.blocks(n, M**2):
            some = [r[part] for r in roots]
            logs, whole = self._sums.sums(some[self.first])
            A, right = self._scaled(some, whole)
            whole[:, :R, :R], whole[:, R:, :R] = A, right.transpose(0, 2, 1)
            F = np.linalg.cholesky(whole)
            inside = np.einsum("nii->ni", F[:, :R, :R])
            log_det[part] = logs + 2 * np.log(inside).sum(axis=1)
            U[part] = F[:, R:, R:] @ F[:, R:, R:].transpose(0, 2, 1)
        return log_det, U

    def solve(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """See `Structure.solve`."""
        response, K, left, M = self._posterior(roots)
        covariance = [np.empty(0)] * (len(self.rest) + 1)
        n, G, q, R = left.shape
        spread = (left.reshape(n, G * q, R) @ M).reshape(n, G, q, R)
        covariance[self.first] = K + spread @ left.transpose(0, 1, 3, 2)
        for i, f in enumerate(self.rest):
            at = self._at(i)
            covariance[f] = M[:, at[:, :, None], at[:, None, :]]
        return response, covariance

    def at_rows(
        self, roots: list[Array], codes: list[IntArray], Z: list[Array]
    ) -> tuple[Array, Array]:
        """See `Structure.at_rows`."""
        response, K, left, M = self._posterior(roots)
        across = left @ M[:, None]
        own = K + across @ left.swapaxes(2, 3)
        order = [self.first, *self.rest]
        return add_effects(order, self.starts[:-1], response, (own, across, M), codes, Z)

    def _posterior(self, roots: list[Array]) -> tuple[list[Array], Array, Array, Array]:
        """Responses per factor, and K, K Z_1'Z_R (n, G, q, R) and the rest's covariance M."""
        R = int(self.starts[-1])
        A, right = self._scaled(roots, self._sums.sums(roots[self.first])[1])
        L = self._root(roots)
        inverse = np.linalg.inv(A)
        M = L @ inverse @ L.transpose(0, 2, 1)
        B_rest = L @ (inverse @ right)
        half, _ = root_of_k(roots[self.first], self._sums.ZZ)
        K = np.einsum("ndka,ndkb->ndab", half, half)[:, self._sums.kind]
        ZA = self._sums.ZA
        left = np.matmul(K, ZA[:, :, :R])
        response = [np.empty(0)] * (len(self.rest) + 1)
        response[self.first] = np.matmul(K, ZA[:, :, R:]) - np.matmul(left, B_rest[:, None])
        for i, f in enumerate(self.rest):
            response[f] = B_rest[:, self._at(i)]
        return response, K, left, M

    def second_moments(self, roots: list[Array], W: Array) -> list[Array]:
        """See `Structure.second_moments`."""
        n, R, M = len(W), int(self.starts[-1]), len(self._sums.total)
        out = [np.empty((n, r.shape[1], r.shape[1])) for r in roots]
        for part in budget.DENSE_BATCH.blocks(n, M**2):
            some = [r[part] for r in roots]
            A, right = self._scaled(some, self._sums.sums(some[self.first])[1])
            L = self._root(some)
            inverse = np.linalg.inv(A)
            B = L @ (inverse @ right)
            # What the largest factor sees beside X and y: the other effects, with a minus sign.
            whole = np.empty((len(B), M, M))
            whole[:, R:, R:] = W[part]
            cross = B @ W[part]
            whole[:, :R, R:], whole[:, R:, :R] = -cross, -cross.transpose(0, 2, 1)
            whole[:, :R, :R] = L @ inverse @ L.transpose(0, 2, 1) + cross @ B.transpose(0, 2, 1)
            out[self.first][part] = self._sums.second_moments(some[self.first], whole)
            for i, f in enumerate(self.rest):
                at = self._at(i)
                own = whole[:, at[:, :, None], at[:, None, :]]
                out[f][part] = own.sum(axis=1)
        return out

    def draw(
        self, roots: list[Array], c: Array, log_sigma: Array, rng: np.random.Generator
    ) -> list[Array]:
        """See `Structure.draw`."""
        R = int(self.starts[-1])
        G, q = self._sums.ZA.shape[:2]
        # One stream for each kind of effect, so that block sizes change nothing.
        small, large = split_stream(rng, 2)
        rest, first = np.empty((len(c), R)), np.empty((len(c), G, q))
        each = max(len(self._sums.total) ** 2, G * q * q)
        for part in budget.DENSE_BATCH.blocks(len(c), each):
            some = [r[part] for r in roots]
            sigma = np.exp(log_sigma[part])
            A, right = self._scaled(some, self._sums.sums(some[self.first])[1])
            F = np.linalg.cholesky(A)
            score = np.einsum("ndk,nk->nd", right, c[part])
            z = small.standard_normal(score.shape) * sigma[:, None]
            inner = np.linalg.solve(F, score[:, :, None]) + z[:, :, None]
            b = (self._root(some) @ np.linalg.solve(F.transpose(0, 2, 1), inner))[:, :, 0]
            rest[part] = b
            both = np.concatenate([-b, c[part]], axis=1)
            first[part] = self._sums.draw(some[self.first], both, sigma, large)
        out = [first] * (len(self.rest) + 1)
        for i, f in enumerate(self.rest):
            out[f] = rest[:, self._at(i)]
        return out

"""Several factors, all but the largest small: draws in one batch (mathematics.md, 3.4).

The largest factor is eliminated class by class with the other effects standing beside X and y, and
what is left is one small dense matrix per draw. The Cholesky factor of
`[[L'A'A L + I, L'A'V], [V'A L, V'V]]`, A the columns of the remaining effects and V = [X y], holds
log|.| of the first block and a root of its Schur complement U, so one factorisation does it all.
The columns A are orthonormal within each level, so L holds `R_j` times a level's root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget
from ranef.common.random_streams import split_stream
from ranef.likelihood.structures.factor_blocks import reweighted
from ranef.likelihood.structures.level_bases import (
    cross_coordinates,
    level_basis,
    response_coordinates,
    without_rounding,
)
from ranef.likelihood.structures.level_classes import ClassSums, effects_given, find_classes
from ranef.likelihood.structures.row_effects import add_effects
from ranef.numerics.batched_linalg import root_above_one

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.cells.response import Response
    from ranef.common.array_types import Array, IntArray
    from ranef.likelihood.structures.factor_blocks import CrossBlock

__all__ = ["SmallRemainder"]

# Squares of scaled columns beyond which the rounding of products is more than 1e-7 nats.
_LARGE = 1e9


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

        factors = range(len(design.factors))
        bases = [level_basis(design, f) for f in factors]

        def cross_of(f: int, g: int) -> CrossBlock:
            self._crosses[f, g] = cross_coordinates(design, f, g, bases, known.get((f, g)))
            return self._crosses[f, g]

        coordinates = [response_coordinates(design, response, f, bases[f]) for f in factors]
        sizes = [f.levels * len(f.columns) for f in design.factors]
        self.first = int(np.argmax(sizes))
        self.rest = [f for f in factors if f != self.first]
        self.shapes = [bases[f].R.shape[:2] for f in self.rest]
        self.bases = [bases[f].R for f in self.rest]
        self.starts = np.concatenate([[0], np.cumsum([sizes[f] for f in self.rest])])
        R, P = int(self.starts[-1]), design.p + 1
        own, outside_V = coordinates[self.first]
        G, q = own.shape[:2]
        whole, outside = np.zeros((G, q, R + P)), np.zeros((R + P, R + P))
        whole[:, :, R:], outside[R:, R:] = own, outside_V
        for i, f in enumerate(self.rest):
            at = self._at(i)
            # Q_j is orthonormal, but for columns that the level does not have.
            length = np.einsum("gaa->ga", bases[f].inner) > 0
            outside[at, at] = length
            outside[at, R:] = coordinates[f][0]
            cross = cross_of(self.first, f)
            for a in range(q):
                whole[cross.row[:, None], a, at[cross.column]] = cross.values[:, a]
            for j in range(i):
                pair = cross_of(f, self.rest[j])
                row, column = at[pair.row], self._at(j)[pair.column]
                outside[row[:, :, None], column[:, None, :]] = pair.values
                outside[column[:, None, :], row[:, :, None]] = pair.values
        spanned = whole.reshape(G * q, -1)
        outside[:R, :R] -= spanned[:, :R].T @ spanned[:, :R]
        outside[:R, R:] -= spanned[:, :R].T @ spanned[:, R:]
        outside[R:, :R] = outside[:R, R:].T
        outside = without_rounding(outside, whole)
        self._sums = ClassSums(bases[self.first].R, whole, outside)
        self.name = (
            f"{len(bases)} factors, largest eliminated in {len(self._sums.R):,} classes, "
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
        R = level_basis(design, int(np.argmax(sizes))).R
        products = len(find_classes(R)[0]) * R.shape[1] ** 2 * rest**2
        return bool(products <= budget.CLASS_PRODUCTS)

    def reweighted(self, weights: Array) -> SmallRemainder:
        """See `Structure.reweighted`."""
        return SmallRemainder(*reweighted(self.design, self.response, weights), like=self)

    @property
    def cost(self) -> float:
        """Rough seconds for one evaluation."""
        columns = float(len(self._sums.outside))
        return self._sums.cost + 1e-6 + 2e-9 * columns**2 * float(np.sqrt(columns))

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

    def _turned(self, roots: list[Array]) -> Array:
        """The same with each level's root times its R_j: what stands beside orthonormal columns."""
        n, R = len(roots[0]), int(self.starts[-1])
        L = np.zeros((n, R, R))
        for i, f in enumerate(self.rest):
            at = self._at(i)
            L[:, at[:, :, None], at[:, None, :]] = self.bases[i] @ roots[f][:, None]
        return L

    def _scale(self, roots: list[Array], U: Array) -> None:
        """Make L'A'A L + I and L'A'V of A'A and A'V in U (n, M, M), where they stand."""
        R, n = int(self.starts[-1]), len(U)
        if all(q == 1 for _, q in self.shapes):
            d = np.ones((n, U.shape[1]))
            for i, f in enumerate(self.rest):
                at = slice(self.starts[i], self.starts[i + 1])
                np.multiply(self.bases[i][:, 0, 0], roots[f][:, 0], out=d[:, at])
            U *= d[:, :, None]
            U *= d[:, None]
        else:
            turned = [self.bases[i] @ roots[f][:, None] for i, f in enumerate(self.rest)]
            # Rows of the blocks, then, the other way round, columns.
            for _ in range(2):
                for i, (T, (G, q)) in enumerate(zip(turned, self.shapes, strict=True)):
                    own = U[:, self.starts[i] : self.starts[i + 1]]
                    own[:] = (T.swapaxes(2, 3) @ own.reshape(n, G, q, -1)).reshape(own.shape)
                U = U.transpose(0, 2, 1)
        U[:, np.arange(R), np.arange(R)] += 1

    def _scaled(self, roots: list[Array]) -> tuple[Array, Array]:
        """L'A'A L + I and L'A'V, shapes (n, R, R) and (n, R, P)."""
        R = int(self.starts[-1])
        whole = self._sums.sums(roots[self.first])[1]
        self._scale(roots, whole)
        return whole[:, :R, :R], whole[:, :R, R:]

    def sums(self, roots: list[Array]) -> tuple[Array, Array]:
        """See `Structure.sums`."""
        n, R, M = len(roots[0]), int(self.starts[-1]), len(self._sums.outside)
        log_det, U = np.empty(n), np.empty((n, M - R, M - R))
        for part in budget.DENSE_BATCH.blocks(n, M**2):
            some = [r[part] for r in roots]
            logs, whole = self._sums.sums(some[self.first])
            self._scale(some, whole)
            try:
                F = np.linalg.cholesky(whole)
                F, U[part] = F[:, :R, :R], F[:, R:, R:] @ F[:, R:, R:].transpose(0, 2, 1)
            except np.linalg.LinAlgError:  # X or y lie in the columns Z, and the ratio is enormous
                F = root_above_one(whole[:, :R, :R])
                half = np.linalg.solve(F, whole[:, :R, R:])
                U[part] = whole[:, R:, R:] - half.transpose(0, 2, 1) @ half
            log_det[part] = logs + 2 * np.log(np.einsum("nii->ni", F)).sum(axis=1)
            large = np.flatnonzero(np.einsum("nii->ni", whole[:, :R, :R]).max(axis=1) > _LARGE)
            if len(large):
                more, U[part][large] = self._by_rows([r[part][large] for r in roots])
                log_det[part][large] = logs[large] + more
        return log_det, U

    def _by_rows(self, roots: list[Array]) -> tuple[Array, Array]:
        """log|L'A'A L + I| and U from the columns themselves.

        Effects of two factors may all but cancel, as a shift of all levels of one against all of
        the other does: that direction's products are 1 beside squares of the variance ratio.
        """
        R, P = int(self.starts[-1]), self.design.p + 1
        log_det, U = np.empty(len(roots[0])), np.empty((len(roots[0]), P, P))
        for i in range(len(roots[0])):  # one point at a time: all rows are in memory at once
            some = [r[i : i + 1] for r in roots]
            rows = self._sums.root(some[self.first])[0]
            rows[:, :R] = rows[:, :R] @ self._turned(some)[0]
            T = np.linalg.qr(np.concatenate([np.eye(R, rows.shape[1]), rows]))[1]
            log_det[i] = 2 * np.log(np.abs(np.diag(T)[:R])).sum()
            U[i] = T[R:, R:].T @ T[R:, R:]
        return log_det, U

    def solve(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """See `Structure.solve`."""
        response, K, left, half = self._posterior(roots)
        covariance = [np.empty(0)] * (len(self.rest) + 1)
        covariance[self.first] = K + _own_products(left)
        for i, f in enumerate(self.rest):
            own = half[:, :, self._at(i)]
            covariance[f] = _own_products(own.transpose(0, 2, 3, 1))
        return response, covariance

    def at_rows(
        self, roots: list[Array], codes: list[IntArray], Z: list[Array]
    ) -> tuple[Array, Array]:
        """See `Structure.at_rows`."""
        response, K, left, half = self._posterior(roots)
        own = K + _own_products(left)
        across = left @ half[:, None]
        M = half.transpose(0, 2, 1) @ half
        order = [self.first, *self.rest]
        return add_effects(order, self.starts[:-1], response, (own, across, M), codes, Z)

    def _posterior(self, roots: list[Array]) -> tuple[list[Array], Array, Array, Array]:
        """Responses per factor, and what covariances are made of.

        They are K, B Q_1'Z_R H' (n, G, q, R) with B of `effects_given`, and a root H of the
        remaining effects' covariance, H'H (n, R, R).
        """
        R = int(self.starts[-1])
        A, right = self._scaled(roots)
        inverse = np.linalg.inv(root_above_one(A))
        score = inverse @ right
        half = inverse @ self._root(roots).transpose(0, 2, 1)
        turned = inverse @ self._turned(roots).transpose(0, 2, 1)
        maps, own = effects_given(roots[self.first], self._sums.R)
        K = (own.swapaxes(2, 3) @ own)[:, self._sums.kind]
        maps, coordinates = maps[:, self._sums.kind], self._sums.coordinates
        beside = _mapped(maps, coordinates)
        n, G, q, M = beside.shape
        # One product a draw, by BLAS: levels are many and their blocks tiny.
        flat = beside[..., :R].reshape(n, G * q, R) @ turned.transpose(0, 2, 1)
        response = [np.empty(0)] * (len(self.rest) + 1)
        left = flat.reshape(n, G, q, R)
        response[self.first] = beside[..., R:] - (flat @ score).reshape(n, G, q, M - R)
        rest = half.transpose(0, 2, 1) @ score
        for i, f in enumerate(self.rest):
            response[f] = rest[:, self._at(i)]
        return response, K, left, half

    def second_moments(self, roots: list[Array], W: Array) -> list[Array]:
        """See `Structure.second_moments`."""
        n, R, M = len(W), int(self.starts[-1]), len(self._sums.outside)
        out = [np.empty((n, r.shape[1], r.shape[1])) for r in roots]
        for part in budget.DENSE_BATCH.blocks(n, M**2):
            some = [r[part] for r in roots]
            A, right = self._scaled(some)
            inverse = np.linalg.inv(root_above_one(A))
            turned = inverse @ self._turned(some).transpose(0, 2, 1)
            score = inverse @ right
            inner = score @ W[part]
            # What the largest factor sees beside X and y: the other effects, with a minus sign.
            whole = np.empty((len(A), M, M))
            whole[:, R:, R:] = W[part]
            cross = turned.transpose(0, 2, 1) @ inner
            whole[:, :R, R:], whole[:, R:, :R] = -cross, -cross.transpose(0, 2, 1)
            own = inner @ score.transpose(0, 2, 1)
            own[:, np.arange(R), np.arange(R)] += 1
            whole[:, :R, :R] = turned.transpose(0, 2, 1) @ own @ turned
            out[self.first][part] = self._sums.second_moments(some[self.first], whole)
            half = inverse @ self._root(some).transpose(0, 2, 1)
            effects = half.transpose(0, 2, 1) @ own @ half
            for i, f in enumerate(self.rest):
                at = self._at(i)
                out[f][part] = effects[:, at[:, :, None], at[:, None, :]].sum(axis=1)
        return out

    def draw(
        self, roots: list[Array], c: Array, log_sigma: Array, rng: np.random.Generator
    ) -> list[Array]:
        """See `Structure.draw`."""
        R = int(self.starts[-1])
        G, q = self._sums.coordinates.shape[:2]
        # One stream for each kind of effect, so that block sizes change nothing.
        small, large = split_stream(rng, 2)
        rest, first = np.empty((len(c), R)), np.empty((len(c), G, q))
        each = max(len(self._sums.outside) ** 2, G * q * q)
        for part in budget.DENSE_BATCH.blocks(len(c), each):
            some = [r[part] for r in roots]
            sigma = np.exp(log_sigma[part])
            A, right = self._scaled(some)
            F = root_above_one(A)
            score = np.einsum("ndk,nk->nd", right, c[part])
            z = small.standard_normal(score.shape) * sigma[:, None]
            inner = np.linalg.solve(F, score[:, :, None]) + z[:, :, None]
            effects = np.linalg.solve(F.transpose(0, 2, 1), inner)
            rest[part] = (self._root(some) @ effects)[:, :, 0]
            both = np.concatenate([-(self._turned(some) @ effects)[:, :, 0], c[part]], axis=1)
            first[part] = self._sums.draw(some[self.first], both, sigma, large)
        out = [first] * (len(self.rest) + 1)
        for i, f in enumerate(self.rest):
            out[f] = rest[:, self._at(i)]
        return out


def _mapped(maps: Array, coordinates: Array) -> Array:
    """Maps (n, G, q, q) of coordinates (G, q, M), shape (n, G, q, M)."""
    if maps.shape[2] == 1:
        return np.asarray(maps * coordinates)
    return np.asarray(maps @ coordinates)


def _own_products(A: Array) -> Array:
    """A A' of every level, shapes (n, G, q, R) and (n, G, q, q)."""
    if A.shape[2] == 1:
        return np.asarray(np.einsum("ngqr,ngqr->ngq", A, A)[..., None])
    return np.asarray(A @ A.swapaxes(2, 3))

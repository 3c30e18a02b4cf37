"""One grouping factor of q columns, eliminated; nothing is left (mathematics.md, 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.likelihood.structures.factor_blocks import factor_block, total_products
from ranef.likelihood.structures.level_classes import ClassSums, root_of_k

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.common.array_types import Array, IntArray

__all__ = ["OneFactor"]

_BLOCK = 200_000


class OneFactor:
    """[X y]'V^-1[X y] sigma^2 and log|V| for one factor.

    Parameters
    ----------
    design
        The data, with one factor.
    """

    def __init__(self, design: OrthonormalCells) -> None:
        block = factor_block(design, 0)
        self._sums = ClassSums(block.ZZ, block.ZV, total_products(design))
        self.name = f"one factor, {len(self._sums.ZZ):,} classes of groups with equal Z'Z"

    @property
    def cost(self) -> float:
        """Rough seconds for one evaluation."""
        return self._sums.cost

    def sums(self, roots: list[Array]) -> tuple[Array, Array]:
        """Evaluate at n relative Cholesky factors.

        Parameters
        ----------
        roots
            One array, shape (n, q, q): L with sigma^2 L L' the covariance of a level's effects.

        Returns
        -------
        log_det : numpy.ndarray
            log|V| - N log sigma^2, shape (n,).
        U : numpy.ndarray
            Shape (n, p + 1, p + 1).
        """
        return self._sums.sums(roots[0])

    def solve(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """Posterior of the effects given variance parameters, per factor.

        Returns
        -------
        response : list of numpy.ndarray
            B with mean effects B [-beta~; 1], shape (n, G, q, P).
        covariance : list of numpy.ndarray
            Their conditional covariance given coefficients / sigma^2, by level, (n, G, q, q).
        """
        half, _ = root_of_k(roots[0], self._sums.ZZ)
        K = np.einsum("ndka,ndkb->ndab", half, half)
        ZA, kind = self._sums.ZA, self._sums.kind
        n, D, q = K.shape[:3]
        G, _, M = ZA.shape
        if 2 * D > G:
            K = K[:, kind]
            return [np.matmul(K, ZA)], [K]
        # Few classes: one large product for each instead of one small product for each group.
        B = np.empty((n, G, q, M))
        for d in range(D):
            own = np.flatnonzero(kind == d)
            flat = ZA[own].transpose(1, 0, 2).reshape(q, -1)
            product = (K[:, d].reshape(n * q, q) @ flat).reshape(n, q, len(own), M)
            B[:, own] = product.transpose(0, 2, 1, 3)
        return [B], [K[:, kind]]

    def at_rows(self, root: Array, codes: IntArray, Z: Array) -> tuple[Array, Array]:
        """Posterior of z'b for rows with columns z, given variance parameters.

        Parameters
        ----------
        root
            Relative Cholesky factors, shape (n, q, q).
        codes
            Level of each row, shape (r,).
        Z
            Shape (r, q).

        Returns
        -------
        response : numpy.ndarray
            B with mean B [-beta~; 1] of z'b, shape (n, r, P).
        variance : numpy.ndarray
            Its conditional variance given coefficients / sigma^2, shape (n, r).
        """
        kinds, place = np.unique(self._sums.kind[codes], return_inverse=True)
        half = root_of_k(root, self._sums.ZZ[kinds])[0][:, place]
        through = np.einsum("nrka,ra->nrk", half, Z)
        weight = np.einsum("nrka,nrk->nra", half, through)
        response = np.einsum("nra,rap->nrp", weight, self._sums.ZA[codes])
        return response, np.einsum("nrk,nrk->nr", through, through)

    def joint_at_combinations(
        self, roots: list[Array], level: IntArray
    ) -> tuple[list[Array], Array]:
        """Posterior of the effects that meet in a row, given variance parameters.

        Parameters
        ----------
        roots
            As in `sums`.
        level
            Combinations of levels, one level of each factor, shape (factors, k).

        Returns
        -------
        response : list of numpy.ndarray
            As in `solve`.
        covariance : numpy.ndarray
            Joint conditional covariance given coefficients / sigma^2 of the effects of each
            combination, in the factors' order, shape (n, k, Q, Q).
        """
        response, covariance = self.solve(roots)
        return response, covariance[0][:, level[0]]

    def second_moments(self, roots: list[Array], W: Array) -> list[Array]:
        """Sum over levels of the effects' posterior second moments, per factor.

        Parameters
        ----------
        roots
            As in `sums`.
        W
            Second moments of [-beta~; 1] / sigma, shape (n, P, P).

        Returns
        -------
        list of numpy.ndarray
            Sum over levels of E[b b'] / sigma^2, shape (n, q, q) each.
        """
        return [self._sums.second_moments(roots[0], W)]

    def draw(
        self, roots: list[Array], c: Array, log_sigma: Array, rng: np.random.Generator
    ) -> list[Array]:
        """Draw the effects given variance parameters and coefficients.

        Parameters
        ----------
        roots
            As in `sums`.
        c
            [-beta~; 1], shape (n, P).
        log_sigma
            log sigma, shape (n,).
        rng
            Source of random numbers.

        Returns
        -------
        list of numpy.ndarray
            Shape (n, G, q) per factor.
        """
        G, q = self._sums.ZA.shape[:2]
        out = np.empty((len(c), G, q))
        step = max(1, _BLOCK // G)
        for start in range(0, len(c), step):
            part = slice(start, start + step)
            half = root_of_k(roots[0][part], self._sums.ZZ)[0][:, self._sums.kind]
            score = np.einsum("gbk,nk->ngb", self._sums.ZA, c[part])
            inner = np.einsum("ngkb,ngb->ngk", half, score)
            inner += rng.standard_normal(inner.shape) * np.exp(log_sigma[part])[:, None, None]
            out[part] = np.einsum("ngka,ngk->nga", half, inner)
        return [out]

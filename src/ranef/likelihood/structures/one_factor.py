"""One grouping factor of q columns, eliminated; nothing is left (mathematics.md, 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget
from ranef.likelihood.structures.factor_blocks import reweighted
from ranef.likelihood.structures.level_bases import (
    level_basis,
    response_coordinates,
    without_rounding,
)
from ranef.likelihood.structures.level_classes import ClassSums, effects_given

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.cells.response import Response
    from ranef.common.array_types import Array, IntArray

__all__ = ["OneFactor"]


class OneFactor:
    """[X y]'V^-1[X y] sigma^2 and log|V| for one factor.

    Parameters
    ----------
    design, response
        The data, with one factor.
    """

    def __init__(self, design: OrthonormalCells, response: Response) -> None:
        basis = level_basis(design, 0)
        coordinates, outside = response_coordinates(design, response, 0, basis)
        self.design, self.response = design, response
        self.by_level = ClassSums(basis.R, coordinates, without_rounding(outside, coordinates))
        self.name = f"one factor, {len(self.by_level.R):,} classes of groups with equal Z'Z"

    @classmethod
    def suits(cls, design: OrthonormalCells) -> bool:
        """Designs with one factor."""
        return len(design.factors) == 1

    @property
    def cost(self) -> float:
        """Rough seconds for one evaluation."""
        return self.by_level.cost

    def reweighted(self, weights: Array) -> OneFactor:
        """See `Structure.reweighted`."""
        return OneFactor(*reweighted(self.design, self.response, weights))

    def sums(self, roots: list[Array]) -> tuple[Array, Array]:
        """See `Structure.sums`."""
        return self.by_level.sums(roots[0])

    def solve(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """See `Structure.solve`."""
        maps, half = effects_given(roots[0], self.by_level.R)
        K = half.swapaxes(2, 3) @ half
        coordinates, kind = self.by_level.coordinates, self.by_level.kind
        n, D, q = K.shape[:3]
        G, _, M = coordinates.shape
        if 2 * D > G:
            return [maps[:, kind] @ coordinates], [K[:, kind]]
        # Few classes: one large product for each instead of one small product for each group.
        B = np.empty((n, G, q, M))
        for d in range(D):
            own = np.flatnonzero(kind == d)
            flat = coordinates[own].transpose(1, 0, 2).reshape(q, -1)
            product = (maps[:, d].reshape(n * q, q) @ flat).reshape(n, q, len(own), M)
            B[:, own] = product.transpose(0, 2, 1, 3)
        return [B], [K[:, kind]]

    def at_rows(
        self, roots: list[Array], codes: list[IntArray], Z: list[Array]
    ) -> tuple[Array, Array]:
        """See `Structure.at_rows`."""
        maps, half = self.by_level.of_levels(roots[0], codes[0])
        through = np.einsum("nrka,ra->nrk", half, Z[0])
        weight = np.einsum("nrab,ra->nrb", maps, Z[0])
        response = np.einsum("nrb,rbp->nrp", weight, self.by_level.coordinates[codes[0]])
        return response, np.einsum("nrk,nrk->nr", through, through)

    def second_moments(self, roots: list[Array], W: Array) -> list[Array]:
        """See `Structure.second_moments`."""
        return [self.by_level.second_moments(roots[0], W)]

    def draw(
        self, roots: list[Array], c: Array, log_sigma: Array, rng: np.random.Generator
    ) -> list[Array]:
        """See `Structure.draw`."""
        G, q = self.by_level.coordinates.shape[:2]
        out = np.empty((len(c), G, q))
        for part in budget.CLASSES.blocks(len(c), G):
            out[part] = self.by_level.draw(roots[0][part], c[part], np.exp(log_sigma[part]), rng)
        return [out]

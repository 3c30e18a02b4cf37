"""The response in internal coordinates, apart from the design: simulations exchange it alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.common.array_types import Array

__all__ = ["Response"]


@dataclass(frozen=True)
class Response:
    """What the likelihood sees of `y~ = y - X beta_ls`, beside the columns X~ of a design.

    Attributes
    ----------
    mean
        Means of y~ per cell, shape (C,).
    within
        Pooled cross-products of X~ and y~ within cells, shape (p,).
    square
        Sum of squares of y~ within cells.
    slopes
        Cross-products of the slope columns and y~ within each cell, shape (C, k).
    beta_ls
        Coefficients about which the internal ones are counted, in the user's coordinates, shape
        (p,): least squares, or, where that would cost digits, least squares within groups.
    """

    mean: Array
    within: Array
    square: float
    slopes: Array
    beta_ls: Array

    def beside(self, design: OrthonormalCells) -> tuple[Array, Array]:
        """Means of [X~ y~] per cell, (C, p + 1), and their products within, (p + 1, p + 1)."""
        p = design.p
        within = np.empty((p + 1, p + 1))
        within[:p, :p], within[p, p] = design.within, self.square
        within[:p, p] = within[p, :p] = self.within
        return np.column_stack([design.mean, self.mean]), within

    def spread(self, count: Array) -> float:
        """Root mean square of y~ over rows, given the weights (C,) of the cells."""
        return float(np.sqrt((self.square + count @ self.mean**2) / count.sum()))

"""Cross-products by grouping factor: Z'Z, Z'[X y] and [X y]'[X y] from cells.

Every term of one factor is merged into one block of q columns per level. Columns are numbered:
0 is the constant, k > 0 the k-th slope column of the cells (mathematics.md, 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ranef.errors import DataError

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.cells.response import Response
    from ranef.common.array_types import Array, IntArray

__all__ = [
    "CrossBlock",
    "FactorBlock",
    "cross_block",
    "factor_block",
    "level_products",
    "pairs_of_levels",
    "reweighted",
    "total_products",
]


@dataclass(frozen=True)
class FactorBlock:
    """One grouping factor.

    Attributes
    ----------
    ZZ
        Z_j'Z_j for each of G levels, shape (G, q, q).
    ZV
        Z_j'[X~ y~], shape (G, q, p + 1).
    """

    ZZ: Array
    ZV: Array


@dataclass(frozen=True)
class CrossBlock:
    """Z_f'Z_g of two factors, for the pairs of levels that occur together.

    Attributes
    ----------
    row, column
        Levels of f and of g, shape (k,).
    values
        Shape (k, q_f, q_g).
    pair
        Which of the pairs each cell is of, shape (C,).
    """

    row: IntArray
    column: IntArray
    values: Array
    pair: IntArray


def factor_block(design: OrthonormalCells, response: Response, factor: int) -> FactorBlock:
    """Sum the cells' cross-products by level of one factor.

    Parameters
    ----------
    design, response
        The data.
    factor
        Its position in `design.factors`.

    Returns
    -------
    FactorBlock
    """
    at = design.factors[factor]
    columns = [
        *zip(design.mean.T, design.slope_x.transpose(2, 0, 1), strict=True),
        (response.mean, response.slopes),
    ]
    ZV = np.empty((at.levels, len(at.columns), len(columns)))
    for a, i in enumerate(at.columns):
        z = _zz(design, 0, i)
        for k, (mean, within) in enumerate(columns):
            product = z * mean
            if i > 0:
                product += within[:, i - 1]
            ZV[:, a, k] = np.bincount(at.codes, product, minlength=at.levels)
    return FactorBlock(level_products(design, factor), ZV)


def level_products(design: OrthonormalCells, factor: int) -> Array:
    """Z_j'Z_j for each of G levels of one factor, shape (G, q, q)."""
    at = design.factors[factor]
    ZZ = np.empty((at.levels, len(at.columns), len(at.columns)))
    for a, i in enumerate(at.columns):
        for b, j in enumerate(at.columns[: a + 1]):
            ZZ[:, a, b] = ZZ[:, b, a] = np.bincount(
                at.codes, _zz(design, i, j), minlength=at.levels
            )
    return ZZ


def cross_block(
    design: OrthonormalCells, f: int, g: int, like: CrossBlock | None = None
) -> CrossBlock:
    """Sum the cells' cross-products by pair of levels of two factors.

    Parameters
    ----------
    design
        The data.
    f, g
        Positions in `design.factors`.
    like
        The same of the same cells at other weights, to take the pairs from.

    Returns
    -------
    CrossBlock
    """
    first, second = design.factors[f], design.factors[g]
    row, column, pair = pairs_of_levels(design, f, g, like)
    values = np.empty((len(row), len(first.columns), len(second.columns)))
    for a, i in enumerate(first.columns):
        for b, j in enumerate(second.columns):
            values[:, a, b] = np.bincount(pair, _zz(design, i, j), minlength=len(row))
    return CrossBlock(row, column, values, pair)


def pairs_of_levels(
    design: OrthonormalCells, f: int, g: int, like: CrossBlock | None = None
) -> tuple[IntArray, IntArray, IntArray]:
    """Levels of f and g that occur together, (k,) each, and which pair each cell is of, (C,)."""
    if like is not None:
        return like.row, like.column, like.pair
    first, second = design.factors[f], design.factors[g]
    key = first.codes.astype(np.int64) * second.levels + second.codes
    key, pair = np.unique(key, return_inverse=True)
    return key // second.levels, key % second.levels, pair


def total_products(design: OrthonormalCells, response: Response) -> Array:
    """[X~ y~]'[X~ y~], shape (p + 1, p + 1)."""
    mean, within = response.beside(design)
    return within + (mean * design.count[:, None]).T @ mean


def _zz(design: OrthonormalCells, i: int, j: int) -> Array:
    """Cross-product of two group columns in each cell."""
    if i == 0 and j == 0:
        return design.count
    if i == 0 or j == 0:
        return design.count * design.slopes[:, max(i, j) - 1]
    product = design.count * design.slopes[:, i - 1] * design.slopes[:, j - 1]
    return np.asarray(product + design.slope_slope[:, i - 1, j - 1])


def reweighted(
    design: OrthonormalCells, response: Response, weights: Array
) -> tuple[OrthonormalCells, Response]:
    """The same cells, each cell's cross-products times a weight (C,); see `Structure.reweighted`.

    Of the result only cross-products have a meaning: its columns are no longer orthonormal.
    """
    if design.within.any() or response.square:
        raise DataError(
            "Cells that hold several different rows came with a weight for each cell, but their "
            "cross-products are pooled; cells of equal rows are expected."
        )
    by_cell = weights[:, None, None]
    return replace(
        design,
        count=weights * design.count,
        slope_slope=by_cell * design.slope_slope,
        slope_x=by_cell * design.slope_x,
    ), replace(response, slopes=weights[:, None] * response.slopes)

"""Cross-products by grouping factor: Z'Z, Z'[X y] and [X y]'[X y] from cells.

Every term of one factor is merged into one block of q columns per level. Columns are numbered:
0 is the constant, k > 0 the k-th slope column of the cells (mathematics.md, 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.common.array_types import Array, IntArray

__all__ = [
    "CrossBlock",
    "FactorBlock",
    "cross_block",
    "factor_block",
    "in_order",
    "join_blocks",
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
    """

    row: IntArray
    column: IntArray
    values: Array


def factor_block(design: OrthonormalCells, factor: int) -> FactorBlock:
    """Sum the cells' cross-products by level of one factor.

    Parameters
    ----------
    design
        The data.
    factor
        Its position in `design.factors`.

    Returns
    -------
    FactorBlock
    """
    at = design.factors[factor]
    G, q, P = at.levels, len(at.columns), design.p + 1
    codes = at.codes
    ZZ, ZV = np.empty((G, q, q)), np.empty((G, q, P))
    for a, i in enumerate(at.columns):
        for b, j in enumerate(at.columns[: a + 1]):
            ZZ[:, a, b] = ZZ[:, b, a] = np.bincount(codes, _zz(design, i, j), minlength=G)
        for k in range(P):
            ZV[:, a, k] = np.bincount(codes, _zv(design, i, k), minlength=G)
    return FactorBlock(ZZ, ZV)


def cross_block(design: OrthonormalCells, f: int, g: int) -> CrossBlock:
    """Sum the cells' cross-products by pair of levels of two factors.

    Parameters
    ----------
    design
        The data.
    f, g
        Positions in `design.factors`.

    Returns
    -------
    CrossBlock
    """
    first, second = design.factors[f], design.factors[g]
    pair, inverse = np.unique(
        first.codes.astype(np.int64) * second.levels + second.codes, return_inverse=True
    )
    values = np.empty((len(pair), len(first.columns), len(second.columns)))
    for a, i in enumerate(first.columns):
        for b, j in enumerate(second.columns):
            values[:, a, b] = np.bincount(inverse, _zz(design, i, j), minlength=len(pair))
    return CrossBlock(pair // second.levels, pair % second.levels, values)


def total_products(design: OrthonormalCells) -> Array:
    """[X~ y~]'[X~ y~], shape (p + 1, p + 1)."""
    return design.within + (design.mean * design.count[:, None]).T @ design.mean


def join_blocks(own: Array, across: Array, rest: Array) -> Array:
    """Symmetric matrices [[own, across], [across', rest]], stacked, shape (…, q + r, q + r)."""
    above = np.concatenate([own, across], axis=-1)
    below = np.concatenate([across.swapaxes(-1, -2), rest], axis=-1)
    return np.concatenate([above, below], axis=-2)


def in_order(order: list[int], widths: list[int]) -> IntArray:
    """Where the columns of factors 0, 1, … stand when blocks are laid out in another order.

    Parameters
    ----------
    order
        The factors as they are laid out.
    widths
        Number of columns of each, in that order.

    Returns
    -------
    numpy.ndarray
        Shape (sum of widths,).

    Examples
    --------
    >>> in_order([1, 0], [2, 1])
    array([2, 0, 1])
    """
    starts = np.cumsum([0, *widths])
    where = {f: np.arange(starts[k], starts[k + 1]) for k, f in enumerate(order)}
    return np.concatenate([where[f] for f in sorted(where)])


def _zz(design: OrthonormalCells, i: int, j: int) -> Array:
    """Cross-product of two group columns in each cell."""
    if i == 0 and j == 0:
        return design.count
    if i == 0 or j == 0:
        return design.count * design.slopes[:, max(i, j) - 1]
    product = design.count * design.slopes[:, i - 1] * design.slopes[:, j - 1]
    return np.asarray(product + design.slope_slope[:, i - 1, j - 1])


def _zv(design: OrthonormalCells, i: int, k: int) -> Array:
    """Cross-product of a group column with a column of [X~ y~] in each cell."""
    if i == 0:
        return np.asarray(design.count * design.mean[:, k])
    product = design.count * design.slopes[:, i - 1] * design.mean[:, k]
    return np.asarray(product + design.slope_v[:, i - 1, k])

"""Orthonormal columns for the rows of each level: `Z_j = Q_j R_j`.

In terms of Q_j, what effects leave of cross-products is a sum of squares, `A'(I - Q_jQ_j')A` and a
part that shrinks as the effects' variances grow. Nothing cancels there, and units of the columns
drop out (mathematics.md, 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.likelihood.structures.factor_blocks import CrossBlock, pairs_of_levels

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.cells.response import Response
    from ranef.common.array_types import Array, IntArray

__all__ = [
    "LevelBasis",
    "cross_coordinates",
    "level_basis",
    "response_coordinates",
    "root_outside",
    "without_rounding",
]

_EPS = float(np.finfo(float).eps)
# What a slope column keeps of its squares where it is a combination of the columns before it in a
# level; the latter number is the rounding of its cells' means.
_DEPENDENT, _ROUNDING = 16 * _EPS, 64 * _EPS**2
# A direction of X~ with less than this share of its squares outside the span of a factor's columns
# lies in it.
_INSIDE = 1e-13


@dataclass(frozen=True)
class LevelBasis:
    """One factor's columns by level.

    Attributes
    ----------
    R
        Shape (G, q, q). A row is zero where the level's column is a combination of those before.
    inner
        The same for slopes about the level's means, shape (G, q, q): upper triangular, with nothing
        but its length in the row and column of the constant.
    columns
        Means per cell of the columns about the level's means, shape (C, q).
    """

    R: Array
    inner: Array
    columns: Array

    def solve(self, products: Array) -> Array:
        """Q_j'A of each level from Z_j'A, Z_j about the level's means; shape (G, q, M)."""
        out = np.zeros_like(products)
        q = self.inner.shape[1]
        for a in range(q):
            rest = products[:, a]
            for b in range(a):
                rest = rest - self.inner[:, b, a, None] * out[:, b]
            pivot = self.inner[:, a, a, None]
            np.divide(rest, pivot, out=out[:, a], where=pivot > 0)
        return out


def level_basis(design: OrthonormalCells, factor: int) -> LevelBasis:
    """Orthonormalise one factor's columns within each level.

    Parameters
    ----------
    design
        The data.
    factor
        Its position in `design.factors`.

    Returns
    -------
    LevelBasis
    """
    at = design.factors[factor]
    G, q, codes = at.levels, len(at.columns), at.codes

    def by_level(values: Array) -> Array:
        return np.asarray(np.bincount(codes, values, minlength=G), dtype=float)

    columns = np.ones((len(codes), q))
    means, raw = np.zeros((G, q)), np.zeros((G, q))
    weight = by_level(design.count)
    for a, i in enumerate(at.columns):
        if i == 0:
            continue
        z = design.slopes[:, i - 1]
        raw[:, a] = by_level(design.count * z**2 + design.slope_slope[:, i - 1, i - 1])
        if 0 in at.columns:
            np.divide(by_level(design.count * z), weight, out=means[:, a], where=weight > 0)
            # Twice, because the rounding of a large mean is no information.
            z = z - means[codes, a]
            more = np.zeros(G)
            np.divide(by_level(design.count * z), weight, out=more, where=weight > 0)
            means[:, a] += more
            z = z - more[codes]
        columns[:, a] = z
    inner = np.zeros((G, q, q))
    for a, i in enumerate(at.columns):
        if i == 0:
            inner[:, a, a] = np.sqrt(weight)
            continue
        for b, j in list(enumerate(at.columns))[a:]:
            if j == 0:
                continue
            product = design.count * columns[:, a] * columns[:, b]
            square = by_level(product + design.slope_slope[:, i - 1, j - 1])
            rest = square - np.einsum("gk,gk->g", inner[:, :a, a], inner[:, :a, b])
            if b == a:
                least = np.maximum(_ROUNDING * raw[:, a], _DEPENDENT * square)
                inner[:, a, a] = np.sqrt(np.where(rest > least, rest, 0.0))
            else:
                pivot = inner[:, a, a]
                np.divide(rest, pivot, out=inner[:, a, b], where=pivot > 0)
    R = inner.copy()
    if 0 in at.columns:
        place = at.columns.index(0)
        R[:, place] += inner[:, place, place, None] * means
    return LevelBasis(R, inner, columns)


def response_coordinates(
    design: OrthonormalCells, response: Response, factor: int, basis: LevelBasis
) -> tuple[Array, Array]:
    """Q_j'[X~ y~] of each level, and [X~ y~]'(I - QQ')[X~ y~].

    Parameters
    ----------
    design, response
        The data.
    factor
        Position in `design.factors`.
    basis
        Its columns.

    Returns
    -------
    coordinates : numpy.ndarray
        Shape (G, q, p + 1).
    outside : numpy.ndarray
        Shape (p + 1, p + 1).
    """
    at = design.factors[factor]
    mean, within = response.beside(design)
    P = mean.shape[1]
    products = np.empty((at.levels, len(at.columns), P))
    constant = at.columns.index(0) if 0 in at.columns else None
    average = np.zeros((at.levels, P))
    weight = np.bincount(at.codes, design.count, minlength=at.levels)
    if constant is not None:
        for k in range(P):
            own = np.bincount(at.codes, design.count * mean[:, k], minlength=at.levels)
            np.divide(own, weight, out=average[:, k], where=weight > 0)
        products[:, constant] = weight[:, None] * average
        mean = mean - average[at.codes]
    for a, i in enumerate(at.columns):
        if i == 0:
            continue
        slope = np.column_stack([design.slope_x[:, i - 1], response.slopes[:, i - 1]])
        for k in range(P):
            product = design.count * basis.columns[:, a] * mean[:, k] + slope[:, k]
            products[:, a, k] = np.bincount(at.codes, product, minlength=at.levels)
    coordinates = basis.solve(products)
    slopes = [a for a, i in enumerate(at.columns) if i > 0]
    explained = coordinates[:, slopes].reshape(-1, P)
    outside = within + (mean * design.count[:, None]).T @ mean - explained.T @ explained
    return coordinates, outside


def cross_coordinates(
    design: OrthonormalCells,
    f: int,
    g: int,
    bases: list[LevelBasis],
    like: CrossBlock | None = None,
) -> CrossBlock:
    """Q_f'Q_g by pair of levels of two factors; arguments as of `cross_block`."""
    first, second = design.factors[f], design.factors[g]
    row, column, pair = pairs_of_levels(design, f, g, like)
    values = np.empty((len(row), len(first.columns), len(second.columns)))
    for a, i in enumerate(first.columns):
        for b, j in enumerate(second.columns):
            product = design.count * bases[f].columns[:, a] * bases[g].columns[:, b]
            if i > 0 and j > 0:
                product = product + design.slope_slope[:, i - 1, j - 1]
            values[:, a, b] = np.bincount(pair, product, minlength=len(row))
    values = _solve_pairs(bases[f], row, values)
    values = _solve_pairs(bases[g], column, values.transpose(0, 2, 1)).transpose(0, 2, 1)
    return CrossBlock(row, column, values, pair)


def _solve_pairs(basis: LevelBasis, level: IntArray, products: Array) -> Array:
    """`LevelBasis.solve` for products (k, q, M) of the levels (k,)."""
    return LevelBasis(basis.R, basis.inner[level], basis.columns).solve(products)


def without_rounding(outside: Array, coordinates: Array) -> Array:
    """Products outside a span, exactly zero in the directions that lie in it but for rounding.

    At a large variance ratio the rounding would otherwise stand in for information.

    Parameters
    ----------
    outside
        A'(I - QQ')A, the response last, which is left as it is; shape (M, M).
    coordinates
        Q'A, shape (..., M).

    Returns
    -------
    numpy.ndarray
        Shape (M, M).
    """
    M = outside.shape[1]
    length, values, vectors = _directions(outside, coordinates)
    lost = vectors[:, values <= _INSIDE]
    if not lost.shape[1]:
        return outside
    scale = np.append(length, 1.0)
    project = np.eye(M)
    project[:-1, :-1] -= lost @ lost.T
    out = project @ (outside / np.outer(scale, scale)) @ project
    # Columns that lie inside by themselves are exactly zero.
    alone = np.flatnonzero(np.diag(out)[:-1] <= _INSIDE)
    out[alone], out[:, alone] = 0.0, 0.0
    return np.asarray(out * np.outer(scale, scale))


def root_outside(outside: Array, coordinates: Array) -> Array:
    """Rows H with H'H the products outside a span, exactly none in the directions that lie in it.

    Parameters
    ----------
    outside, coordinates
        As of `without_rounding`.

    Returns
    -------
    numpy.ndarray
        Shape (k, M).
    """
    length, values, vectors = _directions(outside, coordinates)
    kept = values > _INSIDE
    half = np.sqrt(values[kept])
    H = (vectors[:, kept] * half).T * length
    response = vectors[:, kept].T @ (outside[:-1, -1] / length) / half
    rest = np.sqrt(max(float(outside[-1, -1] - response @ response), 0.0))
    return np.block([[H, response[:, None]], [np.zeros((1, len(length))), np.array([[rest]])]])


def _directions(outside: Array, coordinates: Array) -> tuple[Array, Array, Array]:
    """Lengths of all columns but the response, and the axes of their products relative to them."""
    inside = np.square(coordinates.reshape(-1, len(outside))[:, :-1]).sum(axis=0)
    length = np.sqrt(np.maximum(np.diag(outside)[:-1], 0.0) + inside)
    length[length == 0] = 1.0
    values, vectors = np.linalg.eigh(outside[:-1, :-1] / np.outer(length, length))
    return length, values, vectors

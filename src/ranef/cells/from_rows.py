"""Rows to cells: read once, centred before anything is squared (mathematics.md, 8.1).

This is the last place that touches the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.cells.cells import Cells

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.formula.fixed_effects import FixedTerm
    from ranef.formula.rows import Rows

__all__ = ["compress"]

# Share of the response's squares within cells that covariates leave, below which they are taken out
# of the rows before anything is squared.
_NEARLY_ALL = 1e-4


def compress(rows: Rows) -> Cells:
    """Read the rows once and keep what the likelihood needs.

    Parameters
    ----------
    rows
        From `ranef.formula.rows.evaluate`.

    Returns
    -------
    Cells
    """
    y, X, S, w = rows.response, rows.X, rows.slopes, rows.weights
    p, k = X.shape[1], S.shape[1]
    codes, level = _combine(rows.codes, [len(f.levels) for f in rows.spec.factors])
    C = level.shape[1]
    ones = _ones(X, rows.spec.fixed.terms)
    shift = _shift(X, y, ones)
    count = np.bincount(codes, w, minlength=C).astype(float)
    mean, slopes = np.empty((C, p + 1)), np.empty((C, k))
    residuals, sizes = np.empty((p + 1 + k, len(y))), np.empty(p + 1 + k)
    for j in range(p + 1 + k):
        if j <= p:
            column, out = (X[:, j] if j < p else y) - shift[j], mean[:, j]
            sizes[j] = float(np.abs(column).max()) + abs(shift[j])
        else:
            column, out = S[:, j - p - 1], slopes[:, j - p - 1]
            sizes[j] = float(np.abs(column).max())
        residuals[j], out[:] = _center(column, codes, w, count, sizes[j])
    explained = _explain(residuals[: p + 1], mean, w, sizes)
    rest = residuals if w is None else residuals * w
    spread = residuals[p + 1 :]
    slope_slope, slope_u = np.empty((C, k, k)), np.empty((C, k, p + 1))
    for a in range(k):
        for b in range(a + 1):
            slope_slope[:, a, b] = slope_slope[:, b, a] = np.bincount(
                codes, rest[p + 1 + a] * spread[b], minlength=C
            )
        for b in range(p + 1):
            slope_u[:, a, b] = np.bincount(codes, rest[p + 1 + a] * residuals[b], minlength=C)
    median = float(np.median(y))
    return Cells(
        rows=len(y),
        count=count,
        size=np.bincount(codes, minlength=C),
        level=level,
        shift=shift,
        explained=explained,
        ones=ones,
        mean=mean,
        within=rest[: p + 1] @ residuals[: p + 1].T,
        slopes=slopes,
        slope_slope=slope_slope,
        slope_u=slope_u,
        log_weights=0.0 if w is None else float(np.log(w).sum()),
        median=median,
        mad=1.4826 * float(np.median(np.abs(y - median))),
        sd=float(y.std()),
    )


def _combine(codes: tuple[IntArray, ...], sizes: list[int]) -> tuple[IntArray, IntArray]:
    """Number the combinations of levels that occur: code by row, and the levels of each cell."""
    if len(codes) == 1:
        return codes[0], np.arange(sizes[0])[None]
    key = codes[0].astype(np.int64)
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        # Renumbered at each step, so that the product of many sizes cannot overflow.
        key = np.unique(key, return_inverse=True)[1] * size + code
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return inverse, np.array([c[first] for c in codes])


def _center(
    column: Array, codes: IntArray, w: Array | None, count: Array, size: float
) -> tuple[Array, Array]:
    """Subtract cell means in two passes; the second takes out the rounding of the first.

    Chan, Golub and LeVeque (1983), The American Statistician 37, 242. What is constant within
    cells up to rounding is constant: at a large variance ratio the rounding would otherwise stand
    in for information.
    """

    def average(values: Array) -> Array:
        return np.bincount(codes, values if w is None else values * w, minlength=len(count)) / count

    mean = average(column)
    rest = column - mean[codes]
    correction = average(rest)
    rest -= correction[codes]
    if np.abs(rest).max() <= 8 * np.finfo(float).eps * size:
        rest = np.zeros_like(rest)
    return rest, mean + correction


def _explain(residuals: Array, mean: Array, w: Array | None, sizes: Array) -> Array:
    """Take from the response, in place, what covariates explain of it within cells.

    Only where that is nearly all: the likelihood then rests on the small remainder of large
    squares, and loses digits unless the large part is taken out of the rows themselves.

    Parameters
    ----------
    residuals
        Columns and response about their cell means, shape (p + 1, N).
    mean
        Their cell means, shape (C, p + 1).
    w
        Weights, shape (N,).
    sizes
        Largest numbers that each column was made from: what is left at their rounding is nothing.

    Returns
    -------
    numpy.ndarray
        Coefficients, shape (p,); zero where nothing was taken.
    """
    p = len(residuals) - 1
    taken = np.zeros(p)
    whole = _square(residuals[p], w)
    size = np.sqrt([_square(row, w) for row in residuals[:p]])
    varies = np.flatnonzero(size > 0)
    if whole == 0 or not len(varies):
        return taken
    # Twice: the second pass works on numbers the size of the remainder.
    for _ in range(2):
        unit = residuals[varies] / size[varies, None]
        weighted = unit if w is None else unit * w
        b = np.linalg.lstsq(weighted @ unit.T, weighted @ residuals[p], rcond=1e-12)[0]
        rest = residuals[p] - b @ unit
        if not taken.any() and _square(rest, w) > _NEARLY_ALL * whole:
            return taken
        b /= size[varies]
        residuals[p] = rest
        mean[:, p] -= mean[:, varies] @ b
        taken[varies] += b
    noise = np.finfo(float).eps * (sizes[p] + np.abs(taken) @ sizes[:p])
    if np.abs(residuals[p]).max() <= 8 * noise:
        residuals[p] = 0.0
    return taken


def _square(values: Array, w: Array | None) -> float:
    """Weighted sum of squares."""
    return float(values @ (values if w is None else w * values))


def _ones(X: Array, terms: tuple[FixedTerm, ...]) -> Array | None:
    """Find coefficients that give a column of ones, if an intercept or full dummies are there."""
    everything = tuple(range(X.shape[1]))
    for owned in [*(t.columns for t in terms), everything]:
        if owned and np.all(X[:, owned].sum(axis=1) == 1.0):
            ones = np.zeros(X.shape[1])
            ones[list(owned)] = 1.0
            return ones
    return None


def _shift(X: Array, y: Array, ones: Array | None) -> Array:
    """Choose what to subtract from each column; the columns that give ones stay as they are."""
    shift = np.zeros(X.shape[1] + 1)
    if ones is not None:
        shift[:-1] = np.where(ones == 1.0, 0.0, X.mean(axis=0))
        shift[-1] = y.mean()
    return shift

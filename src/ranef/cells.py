"""Rows to cells: counts, means and centred cross-products per level (mathematics.md, 3 and 8.1).

For a random-intercept model the likelihood sees the rows only through these, so this is the last
place that touches them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.columns import Columns, FixedTerm
    from ranef.types import Array, IntArray

__all__ = ["Cells", "compress"]


@dataclass(frozen=True)
class Cells:
    """The data of one grouping factor, compressed.

    `u = [x_1 … x_p, y]` is a row of fixed-effect columns and response.

    Attributes
    ----------
    count
        Rows per level, shape (G,).
    shift
        A constant near the mean that is subtracted from each column of u before anything is
        summed, shape (p + 1,), so that an offset of 1e12 costs no digits. Zero where the fixed
        part has no constant to take it up.
    ones
        Coefficients a with X a = 1 in every row (an intercept, or the indicators of a factor),
        shape (p,); None if the fixed part holds no constant.
    mean
        Means of u - shift per level, shape (G, p + 1).
    within
        Sum over rows of (u - level mean)(u - level mean)', shape (p + 1, p + 1).
    median, mad
        Median of y and median absolute deviation times 1.4826, for default priors.
    """

    count: IntArray
    shift: Array
    ones: Array | None
    mean: Array
    within: Array
    median: float
    mad: float

    @property
    def rows(self) -> int:
        """Number of rows, N."""
        return int(self.count.sum())


def compress(columns: Columns) -> Cells:
    """Read the rows once and keep what the likelihood needs.

    Parameters
    ----------
    columns
        From `ranef.columns.evaluate`.

    Returns
    -------
    Cells

    Examples
    --------
    >>> import pandas as pd
    >>> from ranef.columns import evaluate
    >>> from ranef.formula import parse_formula
    >>> frame = pd.DataFrame({"y": [1e12, 1e12 + 2, 1e12 + 4], "g": ["a", "a", "b"]})
    >>> cells = compress(evaluate(parse_formula("y ~ 1 + (1|g)"), frame))
    >>> cells.count, cells.within[1, 1]
    (array([2, 1]), np.float64(2.0))
    """
    y, X, codes = columns.y, columns.X, columns.codes
    p, levels = X.shape[1], len(columns.levels)
    ones = _ones(X, columns.terms)
    shift = _shift(X, y, ones)
    count = np.bincount(codes, minlength=levels)
    mean = np.empty((levels, p + 1))
    residuals = np.empty((p + 1, len(y)))
    for j in range(p + 1):
        column = (X[:, j] if j < p else y) - shift[j]
        mean[:, j] = np.bincount(codes, weights=column, minlength=levels) / count
        # A second pass over the residuals takes out the rounding of the first (Chan et al. 1983).
        rest = column - mean[codes, j]
        correction = np.bincount(codes, weights=rest, minlength=levels) / count
        mean[:, j] += correction
        rest -= correction[codes]
        # What is constant within groups up to rounding is constant: at a large variance ratio
        # the rounding would otherwise stand in for information.
        scale = float(np.abs(column).max()) + abs(shift[j])
        residuals[j] = 0.0 if np.abs(rest).max() <= 8 * np.finfo(float).eps * scale else rest
    median = float(np.median(y))
    return Cells(
        count=count,
        shift=shift,
        ones=ones,
        mean=mean,
        within=residuals @ residuals.T,
        median=median,
        mad=1.4826 * float(np.median(np.abs(y - median))),
    )


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

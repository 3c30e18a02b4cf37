"""The data by combination of levels: counts, means, centred cross-products (mathematics.md, 3).

The likelihood sees the data only through these, wherever they were counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray

__all__ = ["Cells", "balanced_cells"]


@dataclass(frozen=True)
class Cells:
    """The data, compressed by combination of levels of all grouping factors.

    `u = [x_1 … x_p, y]` is a row of fixed-effect columns and response, `s` a row of the columns
    that vary by group (random slopes).

    Attributes
    ----------
    rows
        Number of rows, N.
    count
        Sum of the rows' weights in each of C cells, shape (C,); without weights their number.
    size
        Number of rows in each cell, shape (C,).
    level
        Level of each factor in each cell, shape (factors, C).
    shift
        A constant near the mean that is subtracted from each column of u before anything is
        summed, shape (p + 1,), so that an offset of 1e12 costs no digits. Zero where the fixed
        part has no constant to take it up.
    explained
        Coefficients b so that X b was taken from the response before anything was squared,
        shape (p,); zero unless covariates explain nearly all that happens within cells.
    ones
        Coefficients a with X a = 1 in every row (an intercept, or the indicators of a factor),
        shape (p,); None if the fixed part holds no constant.
    mean
        Weighted means of u - shift, shape (C, p + 1).
    within
        Weighted sum over rows of (u - cell mean)(u - cell mean)', shape (p + 1, p + 1).
    slopes
        Weighted means of s, shape (C, k).
    slope_slope, slope_u
        Weighted sums within each cell of (s - mean)(s - mean)' and of (s - mean)(u - mean)', shapes
        (C, k, k) and (C, k, p + 1).
    log_weights
        Sum of the rows' log weights.
    median, mad
        Median of y and median absolute deviation times 1.4826, for default priors.
    sd
        Standard deviation of y, for default priors where more than half of y is one number.
    """

    rows: int
    count: Array
    size: IntArray
    level: IntArray
    shift: Array
    explained: Array
    ones: Array | None
    mean: Array
    within: Array
    slopes: Array
    slope_slope: Array
    slope_u: Array
    log_weights: float
    median: float
    mad: float
    sd: float = 0.0


def balanced_cells(
    mean: Array, within: float, *, rows: int, weight: float, size: int, constant: bool
) -> Cells:
    """Give the cells of one factor's intercept when all its levels have as many rows.

    Parameters
    ----------
    mean
        Mean response of each level, shape (G,).
    within
        Sum of squares about them.
    rows
        Number of rows, N.
    weight, size
        Sum of weights, and number of rows, of each level.
    constant
        Whether the fixed part is an intercept; otherwise it is empty.

    Returns
    -------
    Cells
        Without median and mad: priors have to be stated.
    """
    G, p = len(mean), int(constant)
    shift = float(mean.mean()) if constant else 0.0
    # Not mean[:, None]: its stride of zero keeps products from reaching BLAS.
    means = mean.reshape(G, 1)
    if constant:
        means = np.ones((G, 2))
        np.subtract(mean, shift, out=means[:, 1])
    spread = np.zeros((p + 1, p + 1))
    spread[p, p] = within
    return Cells(
        rows=rows,
        count=np.broadcast_to(float(weight), G),
        size=np.broadcast_to(np.intp(size), G),
        level=np.arange(G)[None],
        shift=np.append(np.zeros(p), shift),
        explained=np.zeros(p),
        ones=np.ones(1) if constant else None,
        mean=means,
        within=spread,
        slopes=np.empty((G, 0)),
        slope_slope=np.empty((G, 0, 0)),
        slope_u=np.empty((G, 0, p + 1)),
        log_weights=0.0,
        median=0.0,
        mad=0.0,
    )

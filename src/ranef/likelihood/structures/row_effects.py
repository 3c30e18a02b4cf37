"""What effects of several factors add to rows, where the largest factor was eliminated.

Its effects are `b_1 = K (Z_1'V - Z_1'Z_R b_R)`: with M the covariance of the remaining effects they
gain the covariance `K Z_1'Z_R M Z_R'Z_1 K` and move with b_R against `K Z_1'Z_R M`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray

__all__ = ["add_effects"]


def add_effects(
    order: list[int],
    starts: IntArray,
    response: list[Array],
    covariances: tuple[Array, Array, Array],
    codes: list[IntArray],
    Z: list[Array],
) -> tuple[Array, Array]:
    """Response (n, r, P) and variance (n, r) of the sum of z'b; see `Structure.at_rows`.

    Parameters
    ----------
    order
        The factors, the eliminated one first.
    starts
        Where each of the others begins among the R remaining effects.
    response
        Of all effects, by factor, shape (n, G, q, P).
    covariances
        Of the eliminated factor's effects by level, shape (n, G, q, q); `K Z_1'Z_R M`, shape
        (n, G, q, R); and M, shape (n, R, R).
    codes, Z
        For each factor the level (r,) and the columns (r, q) of each row.
    """
    own, across, rest = covariances
    level, z = codes[order[0]], Z[order[0]]
    others = np.concatenate([Z[f] for f in order[1:]], axis=1)
    at = np.concatenate(
        [
            start + codes[f][:, None] * Z[f].shape[1] + np.arange(Z[f].shape[1])
            for f, start in zip(order[1:], starts, strict=True)
        ],
        axis=1,
    )
    total = np.zeros((len(own), len(z), response[0].shape[3]))
    for B, code, columns in zip(response, codes, Z, strict=True):
        for j in range(columns.shape[1]):
            total += B[:, code, j] * columns[:, j, None]
    variance = np.zeros(total.shape[:2])
    for a in range(z.shape[1]):
        for b in range(z.shape[1]):
            variance += own[:, level, a, b] * (z[:, a] * z[:, b])
        for c in range(others.shape[1]):
            variance -= across[:, level, a, at[:, c]] * (2 * z[:, a] * others[:, c])
    for c in range(others.shape[1]):
        for d in range(others.shape[1]):
            variance += rest[:, at[:, c], at[:, d]] * (others[:, c] * others[:, d])
    return total, variance

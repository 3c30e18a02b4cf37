"""Local modes of a log density and the curvature there, by differences (mathematics.md, 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ranef.common.array_types import Array

__all__ = ["find_modes", "hessian"]

_STEP = 1e-5


def find_modes(
    log_f: Callable[[Array], Array], starts: Sequence[Array]
) -> list[tuple[Array, Array]]:
    """Climb from each start; keep the distinct modes that matter.

    Parameters
    ----------
    log_f
        Vectorised log density of points (n, d).
    starts
        Starting points, shape (d,) each.

    Returns
    -------
    list of (mode, covariance)
        Best first; covariance is the inverse of the negative Hessian, with flat directions cut at
        a standard deviation of 4 (log units). Modes more than 12 nats below the best are left out.
    """
    found: list[tuple[float, Array]] = []
    for start in starts:
        d = len(start)

        def both(x: Array, d: int = d) -> tuple[float, Array]:
            around = np.vstack([x, x + _STEP * np.eye(d), x - _STEP * np.eye(d)])
            f = log_f(around)
            f = np.where(np.isfinite(f), f, -1e10)
            return -float(f[0]), (f[1 + d :] - f[1 : 1 + d]) / (2 * _STEP)

        optimum = optimize.minimize(both, start, jac=True, method="BFGS", options={"gtol": 1e-2})
        if all(np.abs(optimum.x - x).max() > 1e-2 for _, x in found):
            found.append((-float(optimum.fun), optimum.x))
    found.sort(key=lambda pair: -pair[0])
    return [(x, _covariance(hessian(log_f, x))) for f, x in found if f > found[0][0] - 12]


def hessian(log_f: Callable[[Array], Array], x: Array, step: float = 1e-3) -> Array:
    """Hessian by central differences, all points in one batch.

    Parameters
    ----------
    log_f
        Vectorised log density of points (n, d).
    x
        Shape (d,).
    step
        Spacing.

    Returns
    -------
    numpy.ndarray
        Shape (d, d).
    """
    d = len(x)
    i, j = np.triu_indices(d)
    e = step * np.eye(d)
    points = np.concatenate(
        [x + a * e[i] + b * e[j] for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
    )
    f = log_f(points).reshape(4, -1)
    H = np.empty((d, d))
    with np.errstate(invalid="ignore"):  # beside an edge of the support
        H[i, j] = H[j, i] = (f[0] - f[1] - f[2] + f[3]) / (4 * step**2)
    return H


def _covariance(H: Array) -> Array:
    """Invert the negative Hessian, with curvature bounded below."""
    values, vectors = np.linalg.eigh(-np.where(np.isfinite(H), H, 0.0))
    return np.asarray(vectors / np.maximum(values, 1 / 16) @ vectors.T)

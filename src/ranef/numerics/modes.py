"""Local modes of a log density and the curvature there (mathematics.md, 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ranef.common.array_types import Array

    Evaluate = Callable[[Array], tuple[Array, Array]]

__all__ = ["climb", "find_modes", "hessian"]

# Slopes below which a climb has arrived, the longest step in one coordinate, and most steps.
_FLAT, _LONGEST, _MOST = 1e-2, 1.0, 300
# Of the rise that a slope promises, the part that a step must bring; halvings until it gives up.
_RISE, _HALVINGS = 1e-4, 40
# Modes so far below the best, in nats, do not matter; ends of climbs so near are one mode.
_BELOW, _NEAR = 12.0, 1e-2


def find_modes(evaluate: Evaluate, starts: Array) -> list[tuple[Array, Array]]:
    """Climb from each start; keep the distinct modes that matter.

    Parameters
    ----------
    evaluate
        Log density (n,) and slope (n, d) of points (n, d); minus infinity outside the support.
    starts
        Shape (k, d).

    Returns
    -------
    list of (mode, covariance)
        Best first; covariance is the inverse of the negative Hessian, with flat directions cut at
        a standard deviation of 4 (log units). Modes more than 12 nats below the best are left out.

    Examples
    --------
    >>> modes = find_modes(lambda x: (-2 * (x[:, 0] - 3) ** 2, -4 * (x - 3)), np.zeros((1, 1)))
    >>> modes[0][0].round(6), modes[0][1].round(6)
    (array([3.]), array([[0.25]]))
    """
    points, values = climb(evaluate, starts)
    found: list[int] = []
    for i in np.argsort(-values, kind="stable"):
        if values[i] > values.max() - _BELOW and all(
            np.abs(points[i] - points[j]).max() > _NEAR for j in found
        ):
            found.append(int(i))
    return [(points[i], _covariance(_hessian_of_slopes(evaluate, points[i]))) for i in found]


def climb(evaluate: Evaluate, starts: Array) -> tuple[Array, Array]:
    """Climb from all starts at once, by the method of Broyden, Fletcher, Goldfarb and Shanno.

    Parameters
    ----------
    evaluate, starts
        As for `find_modes`.

    Returns
    -------
    points : numpy.ndarray
        Where each climb ended, shape (k, d).
    values : numpy.ndarray
        Log density there, shape (k,).
    """
    x = np.array(starts, dtype=float)
    k, d = x.shape
    f, g = evaluate(x)
    H = np.tile(np.eye(d), (k, 1, 1))
    fresh = np.ones(k, dtype=bool)
    active = np.flatnonzero(_open(f, g))
    for _ in range(_MOST):
        active = active[np.abs(g[active]).max(axis=1) > _FLAT]
        if not len(active):
            break
        step = (H[active] @ g[active][:, :, None])[:, :, 0]
        uphill = (step * g[active]).sum(axis=1) > 0
        step[~uphill], fresh[active[~uphill]] = g[active[~uphill]], True
        H[active[~uphill]] = np.eye(d)
        step *= np.minimum(1.0, _LONGEST / np.abs(step).max(axis=1))[:, None]
        point, value, slope = _search(evaluate, x[active], f[active], g[active], step)
        moved = np.any(point != x[active], axis=1)
        there = active[moved]
        change, bend = point[moved] - x[there], g[there] - slope[moved]
        curved = (change * bend).sum(axis=1)
        x[there], f[there], g[there] = point[moved], value[moved], slope[moved]
        good = curved > 1e-12
        _update(H, fresh, there[good], change[good], bend[good], curved[good])
        active = there
    return x, np.where(np.isfinite(f), f, -np.inf)


def _search(
    evaluate: Evaluate, x: Array, f: Array, g: Array, step: Array
) -> tuple[Array, Array, Array]:
    """Halve steps until they rise: points, values and slopes, those of before where none does."""
    n = len(x)
    point, value, slope = x.copy(), f.copy(), g.copy()
    promise, waiting, length = (step * g).sum(axis=1), np.arange(n), 1.0
    for _ in range(_HALVINGS):
        tried = x[waiting] + length * step[waiting]
        values, slopes = evaluate(tried)
        rise = _open(values, slopes)
        rise &= values >= f[waiting] + _RISE * length * promise[waiting]
        done = waiting[rise]
        point[done], value[done], slope[done] = tried[rise], values[rise], slopes[rise]
        waiting = waiting[~rise]
        # What is left of a promise may be less than the density's rounding.
        waiting = waiting[length * promise[waiting] > 1e-9 * np.maximum(1.0, np.abs(f[waiting]))]
        if not len(waiting):
            break
        length /= 2
    return point, value, slope


def _update(
    H: Array, fresh: NDArray[np.bool_], at: Array, change: Array, bend: Array, curved: Array
) -> None:
    """Correct the inverse Hessians at positions `at` by what a step has shown."""
    first = fresh[at]
    scale = curved[first] / (bend[first] ** 2).sum(axis=1)
    H[at[first]] *= scale[:, None, None]
    fresh[at] = False
    rho = 1 / curved
    left = np.eye(change.shape[1]) - rho[:, None, None] * change[:, :, None] * bend[:, None]
    outer = rho[:, None, None] * change[:, :, None] * change[:, None]
    H[at] = left @ H[at] @ left.transpose(0, 2, 1) + outer


def _open(f: Array, g: Array) -> NDArray[np.bool_]:
    return np.isfinite(f) & np.isfinite(g).all(axis=1)


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


def _hessian_of_slopes(evaluate: Evaluate, x: Array, step: float = 1e-3) -> Array:
    d = len(x)
    slopes = evaluate(np.vstack([x + step * np.eye(d), x - step * np.eye(d)]))[1]
    H = (slopes[:d] - slopes[d:]) / (2 * step)
    return np.asarray((H + H.T) / 2)


def _covariance(H: Array) -> Array:
    """Invert the negative Hessian, with curvature bounded below."""
    values, vectors = np.linalg.eigh(-np.where(np.isfinite(H), H, 0.0))
    return np.asarray(vectors / np.maximum(values, 1 / 16) @ vectors.T)

"""A checked polynomial in place of an expensive likelihood.

What is interpolated is `log|V|` and the entries of `[X~ y~]'V^-1[X~ y~]` as functions of the
variance ratios, not the posterior: the residual SD, coefficients and priors stay exact
(mathematics.md, section 4.3). It is used inside a box around the mode only, and its error is
measured at fresh points.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from scipy.stats import qmc

    from ranef.common.array_types import Array
    from ranef.likelihood.interpolation.boxes import Box

    Sums = Callable[[Array], tuple[Array, Array]]

__all__ = ["LARGEST_ERROR", "Surrogate", "fit_surrogate"]

# Of an interpolated log likelihood, in nats: draws are weighted wrongly by as much, relatively.
LARGEST_ERROR = 0.01

# Nats below the best point down to which errors in a plain box count, and points that are tried.
_DEPTH = 15.0
_CANDIDATES = 4000


class Surrogate:
    """Chebyshev polynomials of total degree at most k, fitted by least squares.

    Parameters
    ----------
    box
        Where it holds.
    center
        A point inside, shape (K,).
    degree
        Total degree.
    u
        Points of the fit in the cube, shape (m, K).
    log_det, U
        The likelihood's parts there, shapes (m,) and (m, P, P).
    weight
        How much each point counts, shape (m,).
    """

    def __init__(
        self,
        box: Box,
        center: Array,
        degree: int,
        u: Array,
        log_det: Array,
        U: Array,
        weight: Array,
    ) -> None:
        self.box, self.center = box, center
        K, P = len(center), U.shape[1]
        self._powers = np.array(
            [k for k in product(range(degree + 1), repeat=K) if sum(k) <= degree]
        )
        self._lower = np.tril_indices(P)
        self._P = P
        targets = np.column_stack([log_det, U[:, self._lower[0], self._lower[1]]])
        self._middle = targets.mean(axis=0)
        basis = self._basis(u) * weight[:, None]
        right = (targets - self._middle) * weight[:, None]
        self._weights = np.linalg.lstsq(basis, right, rcond=None)[0]

    def _basis(self, u: Array) -> Array:
        """Products of Chebyshev polynomials at u (n, K), shape (n, terms)."""
        angle = np.arccos(np.clip(u, -1.0, 1.0))
        out = np.ones((len(u), len(self._powers)))
        for j in range(u.shape[1]):
            out *= np.cos(angle[:, j : j + 1] * self._powers[:, j])
        return out

    def inside(self, relative: Array) -> NDArray[np.bool_]:
        """Whether each point (n, K) lies in the box."""
        return np.asarray(np.abs(self.box.cube(relative)).max(axis=1) <= 1.0)

    def sums(self, relative: Array) -> tuple[Array, Array]:
        """Evaluate the polynomial at points (n, K) inside the box."""
        values = self._basis(self.box.cube(relative)) @ self._weights + self._middle
        U = np.empty((len(relative), self._P, self._P))
        i, j = self._lower
        U[:, i, j] = U[:, j, i] = values[:, 1:]
        return values[:, 0], U


def fit_surrogate(
    sums: Sums,
    box: Box,
    center: Array,
    score: Callable[[Array, Array], Array],
) -> tuple[Surrogate, float]:
    """Fit polynomials of rising degree until the error at fresh points is small.

    Parameters
    ----------
    sums
        The likelihood's parts at points (n, K).
    box
        Where to interpolate.
    center
        Mode of the ratios, shape (K,).
    score
        Log likelihood from the parts, in nats, to measure the error in.

    Returns
    -------
    surrogate : Surrogate
    error : float
        Largest error at fresh points, in nats.
    """
    from scipy.stats import qmc

    K = len(center)
    points = qmc.Halton(K, scramble=True, rng=np.random.default_rng(K))
    u, log_det, U = np.empty((0, K)), np.empty(0), np.empty((0, 0, 0))

    def more(count: int) -> tuple[Array, Array, Array]:
        # More points near the walls, where polynomials are hardest to hold.
        new = np.cos(np.pi * points.random(count))
        return (new, *sums(box.ratios(new)))

    check = more(box.checks)
    for degree in box.degrees[K]:
        terms = sum(1 for k in product(range(degree + 1), repeat=K) if sum(k) <= degree)
        fresh = more(int(1.4 * terms) + 4 - len(u))
        if len(u):
            u = np.concatenate([u, fresh[0]])
            log_det = np.concatenate([log_det, fresh[1]])
            U = np.concatenate([U, fresh[2]])
        else:
            u, log_det, U = fresh
        weight = _importance(score(log_det, U)) if box.plain else np.ones(len(u))
        surrogate = Surrogate(box, center, degree, u, log_det, U, weight)
        near = _near(surrogate, score, box.checks, points) if box.plain else np.empty((0, K))
        error = _error(surrogate, sums, score, check, near)
        if error < box.tolerance:
            break
    return surrogate, error


def _importance(value: Array) -> Array:
    """Weights of least squares: points where the posterior has next to no mass count for little."""
    return np.asarray(np.maximum(np.exp((value - value.max()) / _DEPTH), 0.01))


def _near(
    surrogate: Surrogate, score: Callable[[Array, Array], Array], count: int, points: qmc.Halton
) -> Array:
    """Fresh points of the cube where by the polynomial the posterior has its mass."""
    u = 2 * points.random(_CANDIDATES) - 1
    value = score(*surrogate.sums(surrogate.box.ratios(u)))
    value = np.where(np.isnan(value), -np.inf, value)
    return np.asarray(u[value > value.max() - _DEPTH][:count])


def _error(
    surrogate: Surrogate,
    sums: Sums,
    score: Callable[[Array, Array], Array],
    check: tuple[Array, Array, Array],
    near: Array,
) -> float:
    """Largest error of the log likelihood; of a plain box not where it is next to nothing.

    Its corners can lie hundreds of nats below the mode, where an error changes no draw.
    """
    u, truth = check[0], score(check[1], check[2])
    if len(near):
        u = np.concatenate([u, near])
        truth = np.concatenate([truth, score(*sums(surrogate.box.ratios(near)))])
    gap = np.abs(score(*surrogate.sums(surrogate.box.ratios(u))) - truth)
    if surrogate.box.plain:
        gap = gap[truth > truth.max() - _DEPTH]
    return float(gap.max())

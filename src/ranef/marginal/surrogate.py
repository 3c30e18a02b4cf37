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
from scipy.stats import qmc

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ranef.types import Array

    Sums = Callable[[Array], tuple[Array, Array]]

__all__ = ["MOST_RATIOS", "Surrogate", "fit_surrogate"]

# Half width of the box in posterior SDs; beyond it the likelihood itself is evaluated.
_RADIUS = 4.0
_CHECKS = 12
# Total degrees tried in turn, by number of ratios: the number of terms grows fast.
_DEGREES = {1: (8, 14), 2: (5, 8, 11), 3: (4, 6, 7, 8), 4: (3, 5), 5: (3, 4), 6: (3,)}
MOST_RATIOS = max(_DEGREES)


class Surrogate:
    """Chebyshev polynomials of total degree at most k, fitted by least squares.

    Parameters
    ----------
    center, root
        The box: ratios are `center + root u` with every |u| at most the radius.
    degree
        Total degree.
    u
        Points of the fit, shape (m, K).
    log_det, U
        The likelihood's parts there, shapes (m,) and (m, P, P).
    """

    def __init__(
        self, center: Array, root: Array, degree: int, u: Array, log_det: Array, U: Array
    ) -> None:
        self.center, self.inverse = center, np.linalg.inv(root)
        K, P = len(center), U.shape[1]
        self._powers = np.array(
            [k for k in product(range(degree + 1), repeat=K) if sum(k) <= degree]
        )
        self._lower = np.tril_indices(P)
        self._P = P
        targets = np.column_stack([log_det, U[:, self._lower[0], self._lower[1]]])
        self._middle = targets.mean(axis=0)
        basis = self._basis(u)
        self._weights = np.linalg.lstsq(basis, targets - self._middle, rcond=None)[0]

    def _basis(self, u: Array) -> Array:
        """Products of Chebyshev polynomials at u (n, K), shape (n, terms)."""
        angle = np.arccos(np.clip(u / _RADIUS, -1.0, 1.0))
        out = np.ones((len(u), len(self._powers)))
        for j in range(u.shape[1]):
            out *= np.cos(angle[:, j : j + 1] * self._powers[:, j])
        return out

    def inside(self, phi: Array) -> NDArray[np.bool_]:
        """Whether each point (n, K) lies in the box."""
        return np.asarray(np.abs((phi - self.center) @ self.inverse.T).max(axis=1) <= _RADIUS)

    def sums(self, phi: Array) -> tuple[Array, Array]:
        """Evaluate the polynomial at points (n, K) inside the box."""
        values = self._basis((phi - self.center) @ self.inverse.T) @ self._weights + self._middle
        U = np.empty((len(phi), self._P, self._P))
        i, j = self._lower
        U[:, i, j] = U[:, j, i] = values[:, 1:]
        return values[:, 0], U


def fit_surrogate(
    sums: Sums,
    center: Array,
    root: Array,
    score: Callable[[Array, Array], Array],
    tolerance: float = 1e-4,
) -> tuple[Surrogate, float]:
    """Fit polynomials of rising degree until the error at fresh points is small.

    Parameters
    ----------
    sums
        The likelihood's parts at points (n, K).
    center, root
        Mode of the ratios and a root of their covariance there.
    score
        Log likelihood from the parts, in nats, to measure the error in.
    tolerance
        Error in nats at which to stop raising the degree.

    Returns
    -------
    surrogate : Surrogate
    error : float
        Largest error at fresh points, in nats.
    """
    K = len(center)
    points = qmc.Halton(K, scramble=True, rng=np.random.default_rng(K))
    u, log_det, U = np.empty((0, K)), np.empty(0), np.empty((0, 0, 0))

    def more(count: int) -> tuple[Array, Array, Array]:
        # More points near the walls, where polynomials are hardest to hold.
        new = _RADIUS * np.cos(np.pi * points.random(count))
        return (new, *sums(center + new @ root.T))

    check = more(_CHECKS)
    truth = score(check[1], check[2])
    for degree in _DEGREES[K]:
        terms = sum(1 for k in product(range(degree + 1), repeat=K) if sum(k) <= degree)
        fresh = more(int(1.4 * terms) + 4 - len(u))
        if len(u):
            u = np.concatenate([u, fresh[0]])
            log_det = np.concatenate([log_det, fresh[1]])
            U = np.concatenate([U, fresh[2]])
        else:
            u, log_det, U = fresh
        made = Surrogate(center, root, degree, u, log_det, U)
        error = float(np.abs(score(*made.sums(center + check[0] @ root.T)) - truth).max())
        if error < tolerance:
            break
    return made, error

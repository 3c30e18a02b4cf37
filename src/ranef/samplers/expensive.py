"""Mode and surrogate of a likelihood that costs too much to evaluate thousands of times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

from ranef.marginal.mixed import Mixed
from ranef.marginal.surrogate import MOST_RATIOS, fit_surrogate
from ranef.samplers.mode import hessian

if TYPE_CHECKING:
    from ranef.types import Array

__all__ = ["interpolate", "is_expensive"]

# Seconds that evaluating the likelihood itself may take in all before it is interpolated.
_PATIENCE = 4.0
_EVALUATIONS = 8000


def is_expensive(target: Mixed) -> bool:
    """Say whether thousands of evaluations would take too long.

    By a count of operations, not by the clock: the same data and seed give the same draws on a busy
    machine and on an idle one.

    Parameters
    ----------
    target
        The marginal posterior.

    Returns
    -------
    bool
    """
    affordable = target.structure.cost * _EVALUATIONS <= _PATIENCE
    return not affordable and target.layout.ratios <= MOST_RATIOS


def interpolate(target: Mixed, start: Array) -> tuple[Mixed, Array, float]:
    """Find the mode with few evaluations and interpolate the likelihood around it.

    Parameters
    ----------
    target
        The marginal posterior.
    start
        Where to climb from, shape (d,).

    Returns
    -------
    target : Mixed
        The same posterior over the interpolated likelihood.
    mode : numpy.ndarray
        Shape (d,).
    error : float
        Largest error of the log likelihood at fresh points, in nats.
    """
    layout, step = target.layout, 1e-4
    best = {"tau": float(layout.tau(start[None])[0])}

    def over_tau(phi: Array) -> tuple[Array, Array]:
        """Maximum over log sigma at each point (n, K), and where it lies; no new likelihoods."""
        parts = target.ratio_sums(phi)
        profile = target.coefficients.profile(*parts)
        tau = np.full(len(phi), best["tau"])
        if layout.sigma is None:
            return target.log_density(layout.absolute(phi, tau), profile), tau
        width = 3.0
        for _ in range(9):
            grid = tau[:, None] + np.linspace(-width, width, 13)
            values = np.column_stack(
                [target.log_density(layout.absolute(phi, t), profile) for t in grid.T]
            )
            tau = grid[np.arange(len(phi)), values.argmax(axis=1)]
            width /= 4
        return values.max(axis=1), tau

    def climb(phi: Array) -> tuple[float, Array]:
        around = np.vstack([phi, phi + step * np.eye(len(phi))])
        values, tau = over_tau(around)
        best["tau"] = float(tau[0])
        return -float(values[0]), -(values[1:] - values[0]) / step

    phi0 = layout.relative(start[None])[0]
    made = optimize.minimize(climb, phi0, jac=True, method="BFGS", options={"gtol": 0.05})
    center = made.x
    curved = -hessian(lambda p: over_tau(p)[0], center, step=0.02)
    values, vectors = np.linalg.eigh(curved)
    root = vectors / np.sqrt(np.maximum(values, 0.2))
    tau = np.array([over_tau(center[None])[1][0]])

    def score(log_det: Array, U: Array) -> Array:
        profile = target.coefficients.profile(log_det, U)
        return target.coefficients.core(profile, np.repeat(tau, len(log_det)))

    surrogate, error = fit_surrogate(target.ratio_sums, center, root, score)
    mode = layout.absolute(center[None], tau)[0]
    return Mixed(target.model, target.structure, surrogate), mode, error

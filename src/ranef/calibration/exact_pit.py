"""Posterior distribution functions of a random-intercept model, by quadrature.

The sampler's nodes of (log_ratio, log_sigma) give more than draws: given a node everything else is
normal, t or inverse gamma, and the average over nodes is the posterior distribution function
without Monte Carlo error. At the true value it is uniform over simulations, as a rank is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaincc, ndtr, stdtr

from ranef.likelihood.random_intercept import RandomIntercept

if TYPE_CHECKING:
    from ranef.calibration.quantities import Parameters
    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import Points

__all__ = ["exact_pit", "weighted_cdf"]


def exact_pit(model: ModelSpec, points: Points, truth: Parameters) -> dict[str, float]:
    """Posterior probability of lying below the true value, for each parameter.

    Parameters
    ----------
    model
        A random-intercept model with the data that were fitted.
    points
        The sampler's quadrature nodes.
    truth
        One value of the parameters.

    Returns
    -------
    dict of float
        By name: coefficients, the first level's effect, `1|g_sigma` and, unless it is known,
        `sigma`.

    Notes
    -----
    With inverse-gamma priors and flat coefficients log_sigma is integrated out: the SDs are
    mixtures of inverse gammas, coefficients and effects of t distributions. With other priors
    coefficients and effects are mixtures of normals, and the two SDs are read off the weighted
    nodes.
    """
    target = RandomIntercept(model)
    log_ratio, weight = points.log_ratio, points.weight
    profile = target.profile(log_ratio)
    sigma, group = float(truth.sigma[0]), float(next(iter(truth.scales.values()))[0])
    name = model.parameters.terms[0].names[0]
    out: dict[str, float] = {}
    if target.conjugate:
        shape, rate = target.residual_variance(log_ratio, profile)
        log_sigma = 0.5 * np.log(rate / shape)
        scales = {
            f"{name}_sigma": weight @ gammaincc(shape, rate * np.exp(log_ratio) / group**2),
            "sigma": weight @ gammaincc(shape, rate / sigma**2),
        }
    else:
        shape, log_sigma = np.inf, points.log_sigma
        scales = {
            f"{name}_sigma": weighted_cdf(log_sigma + 0.5 * log_ratio, weight, np.log(group)),
            "sigma": weighted_cdf(log_sigma, weight, np.log(sigma)),
        }

    def mixture(at: float, mean: Array, sd: Array) -> float:
        z = (at - mean) / sd
        return float(weight @ (stdtr(2 * shape, z) if np.isfinite(shape) else ndtr(z)))

    mean, root = target.coefficient_moments(profile, log_sigma)
    T = model.design.T
    centers = model.response.beta_ls + mean @ T.T
    spreads = np.sqrt(((T @ root) ** 2).sum(axis=2))
    for j, coefficient in enumerate(model.names):
        out[coefficient] = mixture(float(truth.beta[0, j]), centers[:, j], spreads[:, j])
    if not model.parameters.family.dispersions:  # known, not drawn
        del scales["sigma"]
    # The first level's effect: shrunk deviation of its mean, coefficients integrated out.
    u, size = target.mean[0], target.size_index[0]
    s = target.shrinkage(log_ratio)[:, size]
    center = s * (u[-1] - mean @ u[:-1])
    noise = s * np.exp(2 * log_sigma) / target.size[size]
    spread = np.sqrt(noise + ((s[:, None] * (u[:-1] @ root)) ** 2).sum(axis=1))
    effect = f"{name}[{model.spec.factors[0].levels[0]}]"
    out[effect] = mixture(float(truth.effects[name][0, 0]), center, spread)
    return {**out, **{k: float(v) for k, v in scales.items()}}


def weighted_cdf(values: Array, weight: Array, at: float) -> float:
    """Distribution function of weighted points, linear between them.

    Parameters
    ----------
    values, weight
        Shape (k,); weights sum to one. Each point's mass lies half to its left, half to its right.
    at
        Where to evaluate.

    Returns
    -------
    float

    Examples
    --------
    >>> weighted_cdf(np.array([3.0, 1.0]), np.array([0.5, 0.5]), 2.0)
    0.5
    """
    order = np.argsort(values)
    w = weight[order]
    return float(np.interp(at, values[order], np.cumsum(w) - 0.5 * w, left=0.0, right=1.0))

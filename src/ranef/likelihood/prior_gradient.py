"""Derivatives of the log prior: closed forms for the usual priors, differences for any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.mixed_model.parameters import ParameterVector, TermPrior
    from ranef.priors import ScalePrior

__all__ = ["correlation_slope", "log_prior_gradient", "log_scale_gradient"]

# Step of the differences in log units, and its share of the distance to a hard bound.
_STEP, _SHARE = 1e-3, 0.01


def log_prior_gradient(parameters: ParameterVector, theta: Array) -> Array:
    """Gradient of `ParameterVector.log_prior`.

    Parameters
    ----------
    parameters
        The parameters and their priors.
    theta
        Parameter vectors, shape (n, d).

    Returns
    -------
    numpy.ndarray
        Shape (n, d). Priors that join several standard deviations are differenced.
    """
    out = np.zeros_like(theta)
    if parameters.shares is not None or any(t.wishart is not None for t in parameters.terms):
        for j, h in enumerate(_STEP * np.eye(theta.shape[1])):
            f = {k: parameters.log_prior(theta + k * h) for k in (-2, -1, 1, 2)}
            out[:, j] = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * _STEP)
        return np.where(np.isfinite(out), out, 0.0)
    for j, prior in enumerate(parameters.family.scales.values(), parameters.ratios):
        out[:, j] = log_scale_gradient(prior, theta[:, j])
    for term, here, (log_sd, z) in zip(
        parameters.terms, parameters.split(out), parameters.split(theta), strict=True
    ):
        for j, prior in enumerate(term.scales):
            here[0][:, j] = log_scale_gradient(prior, log_sd[:, j])
        here[1][:] = correlation_slope(term, z)
    return out


def log_scale_gradient(prior: ScalePrior, log_sigma: Array) -> Array:
    """Derivative of `ScalePrior.log_density`.

    Parameters
    ----------
    prior
        Prior on a standard deviation.
    log_sigma
        Log standard deviations, shape (n,).

    Returns
    -------
    numpy.ndarray
        Shape (n,). In closed form for powers of sigma, inverse-gamma variances and half-t; for any
        other distribution by central differences of fourth order, whose steps shrink towards a
        hard bound. Zero where the density vanishes.

    Examples
    --------
    >>> from ranef.priors import half_t, scale_prior
    >>> prior = scale_prior(half_t(2.0, df=1), "sigma")
    >>> float(log_scale_gradient(prior, np.array([np.log(2.0)]))[0])
    0.0
    """
    if prior.power is not None:
        return np.full(len(log_sigma), 1 - prior.power)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if prior.inverse_gamma is not None:
            a, b = prior.inverse_gamma
            return np.asarray(2 * b * np.exp(-2 * log_sigma) - 2 * a)
        if not prior.on_variance and prior.given.dist.name == "half_t":
            df, scale = prior.given.args[0], prior.given.kwds["scale"]
            # x^2 / (df + x^2) without overflow, x = sigma / scale.
            return np.asarray(1 - (df + 1) / (1 + df * np.exp(2 * (np.log(scale) - log_sigma))))
        low, high = np.log(prior.support[0]), np.log(prior.support[1])
        room = np.minimum(log_sigma - low, high - log_sigma)
        h = np.minimum(_STEP, _SHARE * room)
        f = {k: prior.log_density(log_sigma + k * h) for k in (-2, -1, 1, 2)}
        out = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
    return np.where(np.isfinite(out), out, 0.0)


def correlation_slope(term: TermPrior, z: Array) -> Array:
    """Derivative of `TermPrior.log_correlation_prior`, shape (n, c) as z."""
    if term.lkj_eta is None or z.shape[1] == 0:
        return np.zeros_like(z)
    q = len(term.place)
    column = np.tril_indices(q, -1)[1]
    return np.asarray(-2 * (term.lkj_eta + (q - 2 - column) / 2) * np.tanh(z))

"""Steps of a sweep that draw standard deviations and correlations, given the effects.

A variance whose prior is no inverse gamma is proposed from the inverse gamma that the data give
alone and accepted by the ratio of priors; the SDs and correlations of correlated columns take
random-walk steps. Both are Metropolis steps with the full conditional as stationary distribution
(Tierney 1994, Annals of Statistics 22, 1701) (mathematics.md, section 6).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ranef.numerics.correlations import correlation_root
from ranef.samplers.gibbs.linear_steps import residual_squares

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array
    from ranef.priors import ScalePrior
    from ranef.samplers.gibbs.products import Products
    from ranef.samplers.gibbs.state import State

__all__ = ["draw_residual", "draw_scale", "draw_term"]

# Metropolis steps on a term's SDs and correlations in each sweep; their proposal's size follows
# from the SDs of log SDs, about 1 / sqrt(2 G).
_STEPS = 3


def draw_term(products: Products, term: int, state: State, rng: np.random.Generator) -> State:
    """Update all SDs of a term, and its correlations if it has any."""
    parameters, theta = products.model.parameters, state.theta.copy()
    prior = parameters.terms[term]
    log_sd, z = parameters.split(theta)[term]
    squares, G = _squares(products, term, state)
    if prior.wishart is not None:
        for c, square in enumerate(squares):
            log_sd[c : c + 1], z[c : c + 1] = prior.wishart.conditional(G, square).draw(rng, 1)
    elif prior.correlations:

        def log_prior(sds: Array, zs: Array) -> Array:
            if parameters.shares is None:
                return prior.log_prior(sds, zs)
            moved = theta.copy()
            part = parameters.split(moved)[term]
            part[0][:], part[1][:] = sds, zs
            return parameters.log_prior(moved)

        log_sd[:], z[:] = _walk(log_prior, log_sd, z, squares, G, rng)
    else:
        for j, scale in enumerate(prior.scales):
            log_sd[:, j] = _draw_log_sd(scale, log_sd[:, j], G, squares[:, j, j], rng)
    return replace(state, theta=theta, roots=None)


def draw_scale(
    products: Products, term: int, column: int, state: State, rng: np.random.Generator
) -> State:
    """Update one SD of an uncorrelated term under a prior that joins all SDs."""
    parameters = products.model.parameters
    squares, G = _squares(products, term, state)
    at = sum(len(t.place) + t.correlations for t in parameters.terms[:term]) + column
    theta = _move(parameters.log_prior, state.theta, at, G, squares[:, column, column], rng)
    return replace(state, theta=theta, roots=None)


def draw_residual(products: Products, state: State, rng: np.random.Generator) -> State:
    """Update the residual SD given coefficients and effects."""
    parameters, N = products.model.parameters, products.model.design.N
    rest = residual_squares(products, state)
    if parameters.shares is not None:
        theta = _move(parameters.log_prior, state.theta, parameters.size - 1, N, rest, rng)
        return replace(state, theta=theta, roots=None)
    theta, sigma = state.theta.copy(), parameters.family.scales["sigma"]
    theta[:, -1] = _draw_log_sd(sigma, theta[:, -1], N, rest, rng)
    return replace(state, theta=theta, roots=None)


def _squares(products: Products, term: int, state: State) -> tuple[Array, int]:
    """Cross-products (chains, q, q) of a term's effects, and the number of levels."""
    prior = products.model.parameters.terms[term]
    own = state.effects[prior.factor][:, :, list(prior.place)]
    return np.einsum("cgi,cgj->cij", own, own), own.shape[1]


def _walk(
    log_prior: Callable[[Array, Array], Array],
    log_sd: Array,
    z: Array,
    squares: Array,
    G: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Random-walk Metropolis on correlated effects' log SDs and correlations."""
    q = log_sd.shape[1]

    def log_target(sds: Array, zs: Array) -> Array:
        root = np.exp(sds)[:, :, None] * correlation_root(zs, q)
        half = np.linalg.solve(root, np.linalg.cholesky(squares + 1e-300 * np.eye(q)))
        out = -0.5 * (half**2).sum(axis=(1, 2))
        out = out - G * np.log(np.einsum("cii->ci", root)).sum(axis=1)
        return np.asarray(out + log_prior(sds, zs))

    value = log_target(log_sd, z)
    for _ in range(_STEPS):
        size = rng.choice([0.5, 1.0, 2.0]) / np.sqrt(G)
        new_sd = log_sd + size * rng.standard_normal(log_sd.shape)
        new_z = z + size * rng.standard_normal(z.shape)
        new = log_target(new_sd, new_z)
        accepted = np.log(rng.random(len(value))) < new - value
        log_sd = np.where(accepted[:, None], new_sd, log_sd)
        z = np.where(accepted[:, None], new_z, z)
        value = np.where(accepted, new, value)
    return log_sd, z


def _move(
    log_prior: Callable[[Array], Array],
    theta: Array,
    at: int,
    n: int,
    squares: Array,
    rng: np.random.Generator,
) -> Array:
    """Update one log SD, a column of theta (chains, d), under any joint prior.

    Proposals follow the n deviations' own likelihood, so the prior alone decides.
    """
    moved = theta.copy()
    moved[:, at] = 0.5 * np.log(squares / 2 / rng.standard_gamma(n / 2, len(squares)))
    accepted = np.log(rng.random(len(squares))) < log_prior(moved) - log_prior(theta)
    return np.where(accepted[:, None], moved, theta)


def _draw_log_sd(
    prior: ScalePrior, current: Array, n: int, squares: Array, rng: np.random.Generator
) -> Array:
    """Update a log SD given n deviations with this sum of squares, one for each chain."""
    if prior.inverse_gamma is not None:
        a, b = prior.inverse_gamma
        return 0.5 * np.log((b + squares / 2) / rng.standard_gamma(a + n / 2, len(squares)))
    proposal = 0.5 * np.log(squares / 2 / rng.standard_gamma(n / 2, len(squares)))
    ratio = prior.log_density(proposal) - prior.log_density(current)
    accepted = np.log(rng.random(len(squares))) < ratio
    return np.where(accepted, proposal, current)

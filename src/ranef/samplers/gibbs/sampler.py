"""Sweeps of full conditionals, and the draws they leave (mathematics.md, section 6)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ranef.common.progress import track
from ranef.likelihood.posterior import MarginalPosterior
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.samplers.gibbs.linear_steps import draw_coefficients, draw_effects, translate
from ranef.samplers.gibbs.products import products_of
from ranef.samplers.gibbs.state import at_start, dispersed
from ranef.samplers.gibbs.variance_steps import draw_residual, draw_scale, draw_term
from ranef.samplers.sample import PosteriorSample

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.gibbs.products import Products
    from ranef.samplers.gibbs.state import State
    from ranef.samplers.sample import SamplerSettings

    Step = Callable[[State, np.random.Generator], State]

__all__ = ["sample_gibbs", "steps_of"]


def sample_gibbs(
    model: ModelSpec, settings: SamplerSettings, rng: np.random.Generator
) -> PosteriorSample:
    """Run the full conditionals in turn: coefficients, each factor's effects, the variances.

    Parameters
    ----------
    model
        Data and priors.
    settings
        How many draws, chains and warm-up sweeps, and where to start.
    rng
        Source of random numbers.

    Returns
    -------
    PosteriorSample

    Notes
    -----
    A random intercept's conditional is `b_i ~ N(V m (ybar_i - …) / sigma^2, V)` with
    `V = 1 / (1/sigma_b^2 + m/sigma^2)`; with several columns the same holds with matrices.
    """
    design, parameters, chains = model.design, model.parameters, settings.chains
    kept = settings.draws // chains
    products = products_of(model)
    steps = steps_of(products)
    if settings.start is None:
        state = dispersed(products, chains, rng)
    else:
        state = at_start(products, chains, settings.start)
        steps = steps[::-1] if settings.start.backward else steps
    out_theta = np.empty((chains, kept, parameters.size))
    out_beta = np.empty((chains, kept, products.p))
    names = [name for term in parameters.terms for name in term.names]
    moments: dict[str, list[Array]] = {name: [np.zeros(1), np.zeros(1)] for name in names}
    stored = {
        name: np.empty((chains, kept, design.factors[t.factor].levels))
        for t in parameters.terms
        for name in t.names
        if name in settings.effects
    }
    for sweep in track(range(settings.warmup + kept), "Gibbs", show=settings.progress):
        for step in steps:
            state = step(state, rng)
        at = sweep - settings.warmup
        if at < 0:
            continue
        out_theta[:, at], out_beta[:, at] = state.theta, state.beta
        for term in parameters.terms:
            for j, name in zip(term.place, term.names, strict=True):
                effect = state.effects[term.factor][:, :, j]
                moments[name][0] = moments[name][0] + effect.sum(axis=0)
                moments[name][1] = moments[name][1] + (effect**2).sum(axis=0)
                if name in stored:
                    stored[name][:, at] = effect
    return _collect(model, out_theta, out_beta @ products.turn.T, moments, stored)


def steps_of(products: Products) -> list[Step]:
    """The steps of a sweep in order, each reversible, so that backwards they undo the sweep.

    Parameters
    ----------
    products
        Data and priors.

    Returns
    -------
    list of callable
        Functions of a state and a source of random numbers that give the next state.
    """
    parameters = products.model.parameters
    factors = range(len(products.blocks))
    steps: list[Step] = [partial(draw_coefficients, products)] if products.p else []
    steps += [partial(draw_effects, products, f) for f in factors]
    steps += [partial(translate, products, f) for f in products.moves]
    for i, term in enumerate(parameters.terms):
        if parameters.shares is None or term.correlations:
            steps.append(partial(draw_term, products, i))
        else:
            # Their prior ties them together, so their order matters and each is a step.
            steps += [partial(draw_scale, products, i, j) for j in range(len(term.place))]
    if parameters.family.dispersions:
        steps.append(partial(draw_residual, products))
    return steps


def _log_density(model: ModelSpec, theta: Array) -> Array:
    """Log joint density of the variance parameters and the data, as exact draws record it."""
    if model.random_intercept:
        log_sigma = model.parameters.log_sigma(theta)
        return RandomIntercept(model).log_density(2 * (theta[:, 0] - log_sigma), log_sigma)
    return MarginalPosterior(model).log_density(theta)


def _collect(
    model: ModelSpec,
    theta: Array,
    beta: Array,
    moments: dict[str, list[Array]],
    stored: dict[str, Array],
) -> PosteriorSample:
    """Label the draws."""
    chains, kept, d = theta.shape
    n = chains * kept
    means = {k: v[0] / n for k, v in moments.items()}
    return PosteriorSample(
        parameters=model.parameters,
        theta=theta,
        beta=model.response.beta_ls + beta,
        log_density=_log_density(model, theta.reshape(-1, d)).reshape(chains, kept),
        accepted=None,
        log_weight=None,
        moments={
            k: (means[k], np.sqrt(np.maximum(v[1] / n - means[k] ** 2, 0.0)))
            for k, v in moments.items()
        },
        effects=stored,
        structure="full conditionals, a block for each factor",
    )

"""Coefficients and effects given the variance parameters, drawn exactly (mathematics.md, 4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.samplers.conditional_moments import mixed_moments
from ranef.samplers.sample import PosteriorSample

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.likelihood.coefficients import Profile
    from ranef.likelihood.posterior import MarginalPosterior
    from ranef.samplers.sample import SamplerSettings

__all__ = ["complete_draws", "sample_effects"]


def sample_effects(
    target: MarginalPosterior, theta: Array, internal: Array, rng: np.random.Generator
) -> list[Array]:
    """Draw all group effects jointly, given everything else.

    Parameters
    ----------
    target
        The marginal posterior.
    theta
        Parameter vectors, shape (n, d).
    internal
        Internal coefficients, shape (n, p).
    rng
        Source of random numbers.

    Returns
    -------
    list of numpy.ndarray
        Shape (n, G, q) per factor.
    """
    c = np.column_stack([-internal, np.ones(len(internal))])
    roots, log_sigma = target.parameters.roots(theta), target.parameters.log_sigma(theta)
    return target.structure.draw(roots, c, log_sigma, rng)


def complete_draws(
    target: MarginalPosterior,
    settings: SamplerSettings,
    theta: Array,
    log_density: Array,
    streams: list[np.random.Generator],
) -> PosteriorSample:
    """Complete draws of the variance parameters to draws of the whole posterior.

    Parameters
    ----------
    target
        The marginal posterior.
    settings
        Chains, and which effects to draw.
    theta
        Draws of the parameter vector, chain after chain, shape (n, d).
    log_density
        At theta, shape (n,).
    streams
        Random numbers for the coefficients and for the effects.

    Returns
    -------
    PosteriorSample
        Without what tells of the sampler that drew theta: weights, acceptance, memory.
    """
    model, n = target.model, len(theta)
    shape = (settings.chains, n // settings.chains)
    profile = target.profile(theta)
    internal = _coefficients(target, profile, theta, streams[0])
    wanted = [t for t in model.parameters.terms if set(t.names) & set(settings.effects)]
    drawn: dict[str, Array] = {}
    if wanted:
        blocks = sample_effects(target, theta, internal, streams[1])
        for term in wanted:
            for j, name in zip(term.place, term.names, strict=True):
                if name in settings.effects:
                    drawn[name] = blocks[term.factor][:, :, j].reshape(*shape, -1)
    return PosteriorSample(
        parameters=model.parameters,
        theta=theta.reshape(*shape, -1),
        beta=(model.response.beta_ls + internal @ model.design.T.T).reshape(*shape, -1),
        log_density=log_density.reshape(shape),
        accepted=None,
        log_weight=None,
        moments=mixed_moments(target, theta, profile) if settings.moments else {},
        effects=drawn,
        structure=target.structure.name,
    )


def _coefficients(
    target: MarginalPosterior, profile: Profile, theta: Array, rng: np.random.Generator
) -> Array:
    """Draw the internal coefficients, shape (n, p)."""
    mean, root = target.coefficients.moments(profile, target.parameters.log_sigma(theta))
    return np.asarray(mean + np.einsum("nij,nj->ni", root, rng.standard_normal(mean.shape)))

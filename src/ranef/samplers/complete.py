"""Coefficients and effects given draws of the variance parameters: Gaussian, drawn exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.samplers.conditional_moments import mixed_moments
from ranef.samplers.sample import Sample

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.likelihood.coefficients import Profile
    from ranef.likelihood.posterior import Mixed
    from ranef.samplers.sample import Request

__all__ = ["draw_given"]


def draw_given(
    target: Mixed,
    request: Request,
    eta: Array,
    log_density: Array,
    streams: list[np.random.Generator],
) -> Sample:
    """Complete draws of the variance parameters to draws of the whole posterior.

    Parameters
    ----------
    target
        The marginal posterior.
    request
        Chains, and which effects to draw.
    eta
        Draws of the parameter vector, chain after chain, shape (n, d).
    log_density
        At eta, shape (n,).
    streams
        Random numbers for the coefficients and for the effects.

    Returns
    -------
    Sample
        Without what tells of the sampler that drew eta: weights, acceptance, divergences.
    """
    model, n = target.model, len(eta)
    layout = (request.chains, n // request.chains)
    profile = target.profile(eta)
    internal = _coefficients(target, profile, eta, streams[0])
    wanted = [t for t in model.layout.terms if set(t.names) & set(request.effects)]
    drawn: dict[str, Array] = {}
    if wanted:
        c = np.column_stack([-internal, np.ones(n)])
        tau = model.layout.tau(eta)
        blocks = target.structure.draw(model.layout.roots(eta), c, tau, streams[1])
        for term in wanted:
            for j, name in zip(term.place, term.names, strict=True):
                if name in request.effects:
                    drawn[name] = blocks[term.factor][:, :, j].reshape(*layout, -1)
    return Sample(
        sigma=None if model.layout.sigma is None else np.exp(eta[:, -1]).reshape(layout),
        scales={k: v.reshape(layout) for k, v in model.layout.scales(eta).items()},
        correlations={k: v.reshape(*layout, -1) for k, v in model.layout.correlations(eta).items()},
        beta=(model.design.beta_ls + internal @ model.design.T.T).reshape(*layout, -1),
        log_density=log_density.reshape(layout),
        accepted=None,
        log_weight=None,
        moments=mixed_moments(target, eta, profile) if request.moments else {},
        effects=drawn,
        structure=target.structure.name,
    )


def _coefficients(target: Mixed, profile: Profile, eta: Array, rng: np.random.Generator) -> Array:
    """Draw the internal coefficients, shape (n, p)."""
    mean, root = target.coefficients.moments(profile, target.layout.tau(eta))
    return np.asarray(mean + np.einsum("nij,nj->ni", root, rng.standard_normal(mean.shape)))

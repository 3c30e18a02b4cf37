"""Labelled draws back to the arrays that the engine works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.common.stored_names import stored_name
from ranef.likelihood.posterior import MarginalPosterior
from ranef.mixed_model.parameters import correlation_label
from ranef.posterior.tree import UNCONSTRAINED

if TYPE_CHECKING:
    import xarray as xr

    from ranef.common.array_types import Array, IntArray
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.mixed_model.model import ModelSpec

__all__ = ["PosteriorDraws", "posterior_draws", "read_coefficients", "read_vectors"]


@dataclass(frozen=True)
class PosteriorDraws:
    """n draws of everything but the group effects, chain after chain.

    Attributes
    ----------
    target
        Likelihood, and the effects given what follows.
    theta
        Parameter vectors of `ranef.mixed_model.parameters.ParameterVector`, shape (n, d).
    log_sigma
        Log residual SD, known or drawn, shape (n,).
    beta, internal
        Coefficients in the user's and in internal coordinates, shape (n, p).
    chains
        Number of chains.
    """

    target: MarginalPosterior
    theta: Array
    log_sigma: Array
    beta: Array
    internal: Array
    chains: int

    def take(self, index: IntArray) -> PosteriorDraws:
        """Keep the draws of `index`, as one chain."""
        return PosteriorDraws(
            self.target,
            self.theta[index],
            self.log_sigma[index],
            self.beta[index],
            self.internal[index],
            1,
        )


def posterior_draws(tree: xr.DataTree, model: ModelSpec) -> PosteriorDraws:
    """Put the arrays behind a labelled tree together.

    Parameters
    ----------
    tree
        From `ranef.posterior.tree.to_tree`.
    model
        The model that was fitted.

    Returns
    -------
    PosteriorDraws
    """
    theta = read_vectors(tree, model)
    beta = read_coefficients(tree, model)
    internal = np.asarray(
        np.linalg.solve(model.design.T, (beta - model.response.beta_ls).T).T, float
    )
    return PosteriorDraws(
        target=MarginalPosterior(model),
        theta=theta,
        log_sigma=model.parameters.log_sigma(theta),
        beta=beta,
        internal=internal,
        chains=tree["posterior"].sizes["chain"],
    )


def read_coefficients(tree: xr.DataTree, model: ModelSpec | GeneralizedModel) -> Array:
    """Read coefficients in the user's coordinates out of a labelled tree, shape (n, p)."""
    sizes = tree["posterior"].sizes
    beta = np.empty((sizes["chain"] * sizes["draw"], len(model.names)))
    for fixed in model.spec.fixed.terms:
        beta[:, list(fixed.columns)] = _read(tree, fixed.name)
    return beta


def read_vectors(tree: xr.DataTree, model: ModelSpec | GeneralizedModel) -> Array:
    """Read parameter vectors out of a labelled tree, shape (n, d)."""
    parameters = model.parameters
    if UNCONSTRAINED in tree.children:  # bit for bit, as the sampler gave them
        values = tree[UNCONSTRAINED]["theta"].transpose("chain", "draw", ...).to_numpy()
        return np.asarray(values.reshape(-1, values.shape[-1]))
    return parameters.vectors(
        {n: _read(tree, f"{n}_sigma")[:, 0] for term in parameters.terms for n in term.names},
        {
            t.label: _read(tree, correlation_label(t.label))
            for t in parameters.terms
            if t.correlations
        },
        [_read(tree, name)[:, 0] for name in parameters.family.dispersions],
    )


def _read(tree: xr.DataTree, name: str) -> Array:
    """One variable's draws, chain after chain, shape (n, values)."""
    values = tree["posterior"][stored_name(name)].transpose("chain", "draw", ...).to_numpy()
    return np.asarray(values.reshape(values.shape[0] * values.shape[1], -1))

"""Labelled draws back to the arrays that the engine works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.common.stored_names import stored_name
from ranef.likelihood.posterior import MarginalPosterior

if TYPE_CHECKING:
    import xarray as xr

    from ranef.common.array_types import Array, IntArray
    from ranef.mixed_model.model import ModelSpec

__all__ = ["PosteriorDraws", "posterior_draws"]


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
    """Read draws out of a labelled tree.

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
    posterior = tree["posterior"].to_dataset()
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]

    def flat(name: str) -> Array:
        values = posterior[stored_name(name)].transpose("chain", "draw", ...).to_numpy()
        return np.asarray(values.reshape(chains * draws, -1))

    parameters = model.parameters
    theta = parameters.vectors(
        {n: flat(f"{n}_sigma")[:, 0] for term in parameters.terms for n in term.names},
        {t.label: flat(f"{t.label}_corr") for t in parameters.terms if t.correlations},
        None if not parameters.family.dispersions else flat("sigma")[:, 0],
    )
    beta = np.empty((len(theta), len(model.names)))
    for fixed in model.terms:
        beta[:, list(fixed.columns)] = flat(fixed.name)
    internal = np.asarray(np.linalg.solve(model.design.T, (beta - model.design.beta_ls).T).T, float)
    return PosteriorDraws(
        MarginalPosterior(model), theta, parameters.log_sigma(theta), beta, internal, chains
    )

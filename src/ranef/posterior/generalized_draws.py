"""Draws of models of other families as arrays, with the effects of groups drawn when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget
from ranef.likelihood.integrated.posterior import first_guess
from ranef.posterior.draws import read_coefficients, read_vectors
from ranef.posterior.tree import UNCONSTRAINED
from ranef.samplers.generalized.group_effects import sample_group_effects

if TYPE_CHECKING:
    import xarray as xr

    from ranef.common.array_types import Array, IntArray
    from ranef.families.response import Own
    from ranef.likelihood.integrated.posterior import IntegratedPosterior
    from ranef.mixed_model.generalized import GeneralizedModel

__all__ = ["GeneralizedDraws", "generalized_draws"]

# Nats that the quadrature may be off at a dozen draws, and how many tell.
_TOLERANCE, _POINTS = 1e-4, 12


@dataclass(frozen=True)
class GeneralizedDraws:
    """n draws of coefficients and variance parameters, chain after chain.

    Attributes
    ----------
    model
        Data, family and priors.
    beta
        Coefficients in the user's coordinates, shape (n, p).
    theta
        Parameter vectors, shape (n, d).
    z
        Kept effects in units of their SD, shape (n, k).
    chains
        Number of chains.
    """

    model: GeneralizedModel
    beta: Array
    theta: Array
    z: Array
    chains: int

    def take(self, index: IntArray) -> GeneralizedDraws:
        """Keep the draws of `index`, as one chain."""
        return GeneralizedDraws(self.model, self.beta[index], self.theta[index], self.z[index], 1)

    @property
    def sds(self) -> Array:
        """SD of the effects of each column, shape (n, columns)."""
        return np.asarray(np.exp(self.theta[:, : self.model.parameters.ratios]))

    @property
    def own(self) -> Own:
        """The family's own parameters, shape (n,) each."""
        return tuple(np.exp(self.theta[:, self.model.parameters.ratios :]).T)

    @property
    def vectors(self) -> Array:
        """Internal coefficients and parameter vectors, shape (n, p + d)."""
        return np.column_stack([self.model.rows.internal(self.beta), self.z, self.theta])

    @cached_property
    def target(self) -> IntegratedPosterior:
        """The posterior with a quadrature rule that holds at the draws."""
        v = self.vectors
        some = v[budget.evenly(len(v), min(len(v), _POINTS))]
        return first_guess(self.model).refined(some, _TOLERANCE)

    def effects(self, rng: np.random.Generator) -> list[Array]:
        """Every group's effect beside each draw, kept or drawn now, (n, levels) for each column."""
        rows, sds, at = self.model.rows, self.sds, 0
        out = [np.empty(0)] * len(self.model.spec.effect_columns)
        for kept in rows.kept:
            out[kept.place] = self.z[:, at : at + kept.levels] * sds[:, kept.place, None]
            at += kept.levels
        out[rows.place] = sample_group_effects(self.target, self.vectors, rng)
        return out


def generalized_draws(tree: xr.DataTree, model: GeneralizedModel) -> GeneralizedDraws:
    """Put the arrays behind a labelled tree together.

    Parameters
    ----------
    tree
        From `ranef.posterior.tree.to_tree`.
    model
        The model that was fitted.

    Returns
    -------
    GeneralizedDraws
    """
    z = tree[UNCONSTRAINED]["z"].transpose("chain", "draw", ...).to_numpy()
    return GeneralizedDraws(
        model,
        read_coefficients(tree, model),
        read_vectors(tree, model),
        z.reshape(z.shape[0] * z.shape[1], z.shape[2]),
        tree["posterior"].sizes["chain"],
    )

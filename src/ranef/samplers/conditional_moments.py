"""Exact means and SDs of group effects by averaging conditional moments (Rao-Blackwell).

Given the variance parameters the effects are Gaussian with the coefficients integrated out, so no
draws of them are needed (mathematics.md, 4.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ranef.common.array_types import Array, IntArray
    from ranef.likelihood.coefficients import Profile
    from ranef.likelihood.posterior import MarginalPosterior

__all__ = ["ConditionalEffects", "conditional_effects", "mixed_moments", "thinned"]


@dataclass(frozen=True)
class ConditionalEffects:
    """Group effects given n values of the variance parameters, coefficients integrated out.

    Attributes
    ----------
    at
        Positions of the n values among all, shape (n,).
    c
        Mean of [-beta~; 1], shape (n, p + 1).
    root
        A square root of the internal coefficients' covariance, shape (n, p, p).
    variance
        Residual variance, shape (n,).
    response, covariance
        As `Structure.solve` gives them, by factor.
    """

    at: IntArray
    c: Array
    root: Array
    variance: Array
    response: list[Array]
    covariance: list[Array]

    def moments(self, factor: int) -> tuple[Array, Array]:
        """Mean and variance of every effect of one factor, shape (n, G, q)."""
        B, C = self.response[factor], self.covariance[factor]
        own = np.einsum("n,ngqq->ngq", self.variance, C)
        flat = B.reshape(len(B), -1, B.shape[3])  # one product a draw, by BLAS
        return (flat @ self.c[:, :, None]).reshape(B.shape[:3]), own + self.carried(B)

    def carried(self, B: Array) -> Array:
        """Variance that the coefficients' uncertainty brings to responses (n, g, q, p + 1)."""
        spread = B.reshape(len(B), -1, B.shape[3])[:, :, :-1] @ self.root
        return np.asarray(np.einsum("nkj,nkj->nk", spread, spread).reshape(B.shape[:3]))


# Moments given the variance parameters vary by a part of what the effects themselves vary by, so
# that one in four of them knows the means as well as as many draws of effects as there are draws.
_SHARE, _FEWEST = 4, 1000


def thinned(target: MarginalPosterior, n: int) -> IntArray:
    """Choose which of n draws to average over: one in four, fewer where the design is large."""
    P = target.model.design.p + 1
    width = sum(f.levels * len(f.columns) for f in target.model.design.factors)
    cost = 6 * target.structure.cost
    affordable = len(budget.EFFECT_MOMENTS.draws(n, seconds=cost, numbers=width * P))
    return budget.evenly(n, min(affordable, max(n // _SHARE, _FEWEST)))


def conditional_effects(
    target: MarginalPosterior, theta: Array, profile: Profile, use: IntArray
) -> Iterator[ConditionalEffects]:
    """Go through draws of the variance parameters a block at a time.

    Parameters
    ----------
    target
        The marginal posterior.
    theta
        Draws of the parameter vector, shape (n, d).
    profile
        At theta.
    use
        Positions of the draws to go through.

    Yields
    ------
    ConditionalEffects
    """
    design = target.model.design
    width = sum(f.levels * len(f.columns) for f in design.factors)
    size = width * (design.p + 1) * max(len(f.columns) for f in design.factors)
    for block in budget.EFFECT_MOMENTS.blocks(len(use), size):
        at = use[block]
        log_sigma = target.parameters.log_sigma(theta[at])
        mean, root = target.coefficients.moments(profile.take(at), log_sigma)
        c = np.column_stack([-mean, np.ones(len(at))])
        response, covariance = target.structure.solve(target.parameters.roots(theta[at]))
        yield ConditionalEffects(at, c, root, np.exp(2 * log_sigma), response, covariance)


def mixed_moments(
    target: MarginalPosterior, theta: Array, profile: Profile
) -> dict[str, tuple[Array, Array]]:
    """Average the effects' conditional moments over draws of the variance parameters.

    Parameters
    ----------
    target
        The marginal posterior.
    theta
        Draws of the parameter vector, shape (n, d).
    profile
        At theta.

    Returns
    -------
    dict
        Mean and SD of each level's effect by effect name, shape (G,) each. Large designs use every
        k-th draw; the moments vary little with the variance parameters there.
    """
    model = target.model
    factors = model.design.factors
    use = thinned(target, len(theta))
    first = [np.zeros((f.levels, len(f.columns))) for f in factors]
    second = [np.zeros_like(a) for a in first]
    for conditional in conditional_effects(target, theta, profile, use):
        for f in range(len(factors)):
            b, variance = conditional.moments(f)
            first[f] += b.sum(axis=0)
            second[f] += (b**2).sum(axis=0) + variance.sum(axis=0)
    out = {}
    for term in model.parameters.terms:
        middle = first[term.factor] / len(use)
        sd = np.sqrt(np.maximum(second[term.factor] / len(use) - middle**2, 0.0))
        for j, name in zip(term.place, term.names, strict=True):
            out[name] = (middle[:, j], sd[:, j])
    return out

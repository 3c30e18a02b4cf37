"""What every sampler gives back: variance parameters, coefficients, and how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ranef.types import Array

__all__ = ["Points", "Request", "Sample"]


@dataclass(frozen=True)
class Request:
    """What a sampler is asked for.

    Attributes
    ----------
    draws
        Number of draws to keep, in all chains together.
    chains
        Number of chains; for independent draws only a layout.
    warmup
        Sweeps of each chain to leave out at the start; samplers without warm-up ignore it.
    effects
        Whether to draw the group effects too.
    progress
        Whether to show a bar on anything longer than a second.
    """

    draws: int
    chains: int
    warmup: int
    effects: bool
    progress: bool


@dataclass(frozen=True)
class Points:
    """The posterior of (rho, tau) as weighted points: quadrature nodes, or draws.

    Attributes
    ----------
    rho, tau
        Log variance ratio and log residual SD, shape (k,).
    weight
        Shape (k,), summing to one.
    variance
        Mean of sigma^2 at each point, shape (k,): exp(2 tau) where tau is a node, the closed-form
        mean where tau has been integrated out.
    """

    rho: Array
    tau: Array
    weight: Array
    variance: Array


@dataclass(frozen=True)
class Sample:
    """Draws from the posterior, in internal coordinates.

    Attributes
    ----------
    rho
        log(sigma_b^2 / sigma^2), shape (chains, draws).
    tau
        log(sigma), shape (chains, draws).
    beta
        Coefficients in the user's coordinates, shape (chains, draws, p).
    log_density
        Log joint density of the variance parameters and the data, shape (chains, draws).
    accepted
        Whether each draw is a fresh proposal, shape (chains, draws); None for Gibbs.
    log_weight
        Log target minus log proposal density of every proposal made, shape (chains, draws); None
        for Gibbs.
    points
        Weighted points for exact moments.
    log_marginal_likelihood
        By quadrature, nats; None for Gibbs or improper priors.
    effects
        Draws of the group effects, shape (chains, draws, G), if they were asked for.
    """

    rho: Array
    tau: Array
    beta: Array
    log_density: Array
    accepted: Array | None
    log_weight: Array | None
    points: Points
    log_marginal_likelihood: float | None
    effects: Array | None = None

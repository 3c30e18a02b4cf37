"""What every sampler takes and gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.mixed_model.parameters import ParameterVector

__all__ = ["InitialState", "Points", "PosteriorSample", "SamplerSettings"]


@dataclass(frozen=True)
class InitialState:
    """Where Markov chains begin, instead of a place of their own choice.

    Chains that are told where to begin do not adapt either: each of their sweeps follows the same
    law, so that a chain begun at a draw from the posterior stays in it.

    Attributes
    ----------
    theta
        Vector of `ParameterVector`, shape (chains, d), or (1, d) for all chains.
    beta
        Coefficients in the user's coordinates, shape (chains, p).
    effects
        Effects of each factor, shape (chains, G, q).
    backward
        Whether to run the reversed chain, whose steps come in the opposite order.
    """

    theta: Array
    beta: Array
    effects: tuple[Array, ...]
    backward: bool = False


@dataclass(frozen=True)
class SamplerSettings:
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
        Names of the effects to draw too, such as `1|g`.
    progress
        Whether to show a bar on anything longer than a second.
    moments
        Whether to compute the effects' means and SDs, at the cost of a pass over all levels.
    start
        Where chains begin; None where the sampler finds a place. Independent draws ignore it.
    """

    draws: int
    chains: int
    warmup: int
    effects: tuple[str, ...]
    progress: bool
    moments: bool = True
    start: InitialState | None = None


@dataclass(frozen=True)
class Points:
    """The posterior of a random-intercept model's (log_ratio, log_sigma) as weighted points.

    Attributes
    ----------
    log_ratio, log_sigma
        Log variance ratio and log residual SD, shape (k,).
    weight
        Shape (k,), summing to one.
    variance
        Mean of sigma^2 at each point, shape (k,): exp(2 log_sigma) where that is a node, the
        closed-form mean where log_sigma has been integrated out.
    """

    log_ratio: Array
    log_sigma: Array
    weight: Array
    variance: Array


@dataclass(frozen=True)
class PosteriorSample:
    """Draws from the posterior.

    Attributes
    ----------
    parameters
        What the vector holds.
    theta
        Parameter vectors, shape (chains, draws, d).
    beta
        Coefficients in the user's coordinates, shape (chains, draws, p).
    log_density
        Log joint density of the variance parameters and the data, shape (chains, draws): of log
        variance ratio and log sigma (unless known) for random-intercept models, of the vector of
        `ranef.mixed_model.parameters.ParameterVector` for others.
    accepted
        Whether each draw is a fresh proposal, shape (chains, draws); None for Gibbs and particles.
    log_weight
        Log target minus log proposal density of every proposal made, shape (chains, draws); None
        for Gibbs and particles.
    moments
        Posterior mean and SD of each group effect by name, shape (G,) each.
    effects
        Draws of the effects that were asked for, by name, shape (chains, draws, G).
    structure
        How the likelihood was evaluated, for the certificate.
    points
        Weighted points behind the moments, for random-intercept models.
    log_mass, log_mass_error
        Logarithm of the integral of likelihood and priors over all parameters, with improper
        densities as they stand (one for a flat coefficient), and its error (quadrature), or
        standard error (Monte Carlo), in nats; None for Gibbs.
    log_mass_k
        Tail index of the weights behind `log_mass`, the largest of several proposals'; None for
        quadrature and Gibbs.
    log_marginal_likelihood
        In nats: `log_mass` where all priors are proper; else, and for Gibbs, None.
    surrogate_error
        Largest error of an interpolated log likelihood at fresh points, in nats; None where the
        likelihood itself was evaluated.
    kept
        Group effects that were drawn with the coefficients, in units of their SD, shape (chains,
        draws, k); None where effects are integrated out.
    quadrature_error
        Largest error of log likelihoods that are integrated numerically, at draws, in nats; None
        where effects integrate out in closed form.
    memory
        Largest correlation of annealed draws with where they began, or of draws that began as one
        particle; None for other samplers.
    """

    parameters: ParameterVector
    theta: Array
    beta: Array
    log_density: Array
    accepted: Array | None
    log_weight: Array | None
    moments: dict[str, tuple[Array, Array]]
    effects: dict[str, Array]
    structure: str
    points: Points | None = None
    log_mass: float | None = None
    log_mass_error: float | None = None
    log_mass_k: float | None = None
    log_marginal_likelihood: float | None = None
    surrogate_error: float | None = None
    kept: Array | None = None
    quadrature_error: float | None = None
    memory: float | None = None

    @cached_property
    def sigma(self) -> Array:
        """Residual SD, drawn or known, shape (chains, draws)."""
        return np.exp(self.parameters.log_sigma(self.theta))

    @cached_property
    def scales(self) -> dict[str, Array]:
        """SD of each group effect by name (`1|g`), shape (chains, draws)."""
        return self.parameters.scales(self.theta)

    @cached_property
    def correlations(self) -> dict[str, Array]:
        """Correlations as `ParameterVector.correlations`, shape (chains, draws, pairs)."""
        return self.parameters.correlations(self.theta)

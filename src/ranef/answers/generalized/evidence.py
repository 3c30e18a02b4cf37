"""The marginal likelihood of models of other families, from the weights of their proposals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranef.answers.evidence.marginal_likelihood import LogMarginalLikelihood, Mass
from ranef.errors import RanefError
from ranef.samplers.proposal_quality import LARGEST_K

if TYPE_CHECKING:
    from ranef.posterior.generalized_posterior import GeneralizedPosterior

__all__ = ["log_marginal_likelihood", "recorded_mass"]


def log_marginal_likelihood(fit: GeneralizedPosterior) -> LogMarginalLikelihood:
    """Log density of the data with all parameters integrated over their priors.

    Returns
    -------
    LogMarginalLikelihood
        `float()` of it is the value in nats. Default priors are proper, but wide: a Bayes factor
        depends on them, so state your own.

    Raises
    ------
    RanefError
        If the proposals do not cover the posterior well enough for their weights to be averaged.
    """
    mass = recorded_mass(fit)
    formula = fit.source.model.spec.formula.text
    return LogMarginalLikelihood(mass.value, mass.error, mass.pareto_k, formula)


def recorded_mass(fit: GeneralizedPosterior) -> Mass:
    """What the sampler recorded, if its proposals' weights may be averaged."""
    attrs = fit.draws.attrs
    k = float(attrs["log_mass_k"])
    if not k <= LARGEST_K:
        raise RanefError(
            "The proposals of this fit do not cover its posterior well enough for a marginal "
            "likelihood; fit with more draws, or state tighter priors."
        )
    return Mass(float(attrs["log_mass"]), float(attrs["log_mass_error"]), k)

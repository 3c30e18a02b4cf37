"""The marginal likelihood: the integral of likelihood times priors over all parameters.

Effects and coefficients integrate out in closed form, so what remains has as many dimensions as
there are variance parameters. One or two are integrated by quadrature, more by importance sampling
from the proposals of the exact sampler (mathematics.md, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.errors import ImproperPosteriorError, PriorError, RanefError
from ranef.likelihood.posterior import MarginalPosterior
from ranef.numerics.quadrature import integrate_line
from ranef.samplers.annealed.sampler import sample_by_proposals
from ranef.samplers.bounds import bounds_of
from ranef.samplers.independent.random_intercept import sample_ratio
from ranef.samplers.proposal_quality import LARGEST_K, pareto_k
from ranef.samplers.sample import SamplerSettings
from ranef.samplers.search import explore

if TYPE_CHECKING:
    import pandas as pd

    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec
    from ranef.posterior.posterior import Posterior

__all__ = [
    "LogMarginalLikelihood",
    "Mass",
    "log_marginal_likelihood",
    "log_mass",
    "recorded_mass",
]

# Proposals behind an estimate by importance sampling.
_PROPOSALS = 20_000


@dataclass(frozen=True)
class Mass:
    """Logarithm of the integral of likelihood and priors, improper densities as they stand.

    Attributes
    ----------
    value
        In nats.
    error
        Estimated error of the quadrature, or standard error of the Monte Carlo mean, in nats.
    pareto_k
        Tail index of the importance weights; None for quadrature.
    """

    value: float
    error: float
    pareto_k: float | None = None


@dataclass(frozen=True)
class LogMarginalLikelihood:
    """The log marginal likelihood of the data under a model.

    Attributes
    ----------
    value
        In nats.
    error
        Estimated error of the quadrature, or standard error of the Monte Carlo mean, in nats.
    pareto_k
        Tail index of the importance weights; None for quadrature.
    formula
        The model.
    """

    value: float
    error: float
    pareto_k: float | None
    formula: str

    def __float__(self) -> float:
        return self.value

    def table(self) -> pd.DataFrame:
        """One row: value, error and Pareto k-hat."""
        import pandas as pd

        row = {
            "log_marginal_likelihood": self.value,
            "error": self.error,
            "pareto_k": self.pareto_k,
        }
        return pd.DataFrame([row], index=[self.formula])

    def __str__(self) -> str:
        how = (
            "quadrature"
            if self.pareto_k is None
            else f"importance sampling, Pareto k\u0302 {self.pareto_k:.2f}"
        )
        return (
            f"{self.formula}\nLog marginal likelihood {_rounded(self.value, self.error)} "
            f"(error {self.error:.1g}; {how})"
        )

    __repr__ = __str__


def _rounded(value: float, error: float) -> str:
    """As many decimals as the error leaves, six at most."""
    digits = 6 if error <= 0 else int(np.clip(1 - np.floor(np.log10(error)), 1, 6))
    return f"{value:.{digits}f}"


def log_marginal_likelihood(fit: Posterior) -> LogMarginalLikelihood:
    """Log density of the data with all parameters integrated over their priors.

    Returns
    -------
    LogMarginalLikelihood
        `float()` of it is the value in nats; `.error` its error: of the quadrature for one
        grouping factor with random intercepts, of importance sampling else. For draws by Gibbs
        or particles it is computed anew, as it does not come from their draws.

    Raises
    ------
    PriorError
        If a prior is improper, as the default flat ones on coefficients are.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1,
    ...              priors={"Intercept": "norm(1500, 100)"})
    >>> round(float(fit.log_marginal_likelihood()), 3)
    -168.558
    """
    model = fit.source.model
    improper = model.improper()
    if improper:
        raise PriorError(
            "A marginal likelihood needs proper priors, and these are improper: "
            f"{', '.join(f'{n} ~ {t}' for n, t in improper.items())}. State proper ones, e.g. "
            f"priors={{{next(iter(improper))!r}: {_example(next(iter(improper)), model)!r}}}.",
            parameters=tuple(improper),
        )
    mass = recorded_mass(fit)
    return LogMarginalLikelihood(mass.value, mass.error, mass.pareto_k, model.spec.formula.text)


def _example(name: str, model: ModelSpec) -> str:
    """A proper prior that the error may suggest."""
    return "norm(0, 100)" if name in model.names else "half_t(50)"


def recorded_mass(fit: Posterior) -> Mass:
    """What the exact sampler recorded; computed anew where draws did not come with weights."""
    attrs, model, stats = fit.draws.attrs, fit.source.model, fit.draws["sample_stats"]
    if "log_mass" not in attrs or "log_weight" not in stats:
        return log_mass(model)
    weights = stats["log_weight"].to_numpy().ravel()
    k = None if model.random_intercept else pareto_k(weights)
    return _trusted(Mass(float(attrs["log_mass"]), float(attrs["log_mass_error"]), k))


def log_mass(model: ModelSpec) -> Mass:
    """Integrate likelihood and priors over all parameters.

    Parameters
    ----------
    model
        Data and priors. It may have no group term left: then one dimension remains, the residual
        SD, or none where that is known.

    Returns
    -------
    Mass

    Raises
    ------
    ImproperPosteriorError
        If the integral is not finite.
    RanefError
        If importance sampling does not cover the posterior.
    """
    rng = np.random.default_rng(0)
    if model.parameters.size <= 1:
        return _by_line(MarginalPosterior(model))
    if model.random_intercept:
        sample = sample_ratio(model, SamplerSettings(4, 1, 0, (), False, moments=False), rng)
        return _mass(sample.log_mass, sample.log_mass_error, None)
    request = SamplerSettings(_PROPOSALS, 1, 0, (), False, moments=False)
    sample = sample_by_proposals(explore(model, request), request, rng, moving=False)
    assert sample.log_weight is not None
    k = pareto_k(sample.log_weight.ravel())
    return _trusted(_mass(sample.log_mass, sample.log_mass_error, k))


def _by_line(target: MarginalPosterior) -> Mass:
    """One parameter at most: quadrature, or the likelihood itself."""
    if target.parameters.size == 0:
        return Mass(float(target.log_density(np.empty((1, 0)))[0]), 0.0)
    bounds = bounds_of(target.parameters)

    def log_density(v: Array) -> Array:
        v = v[:, None]
        value = target.log_density(bounds.inside(v)) + bounds.log_jacobian(v)[0].sum(axis=1)
        return np.asarray(value)

    line = integrate_line(log_density)
    return _mass(line.log_mass, line.error, None)


def _mass(value: float | None, error: float | None, k: float | None) -> Mass:
    """Check that there is a finite integral."""
    if value is None or error is None or not np.isfinite(value):
        raise ImproperPosteriorError(
            "The integral of likelihood and priors is not finite; state proper priors."
        )
    return Mass(value, error, k)


def _trusted(mass: Mass) -> Mass:
    """Raise where the importance weights have no finite variance to speak of."""
    if mass.pareto_k is not None and mass.pareto_k > LARGEST_K:
        raise RanefError(
            f"The marginal likelihood by importance sampling is not to be trusted: Pareto k-hat "
            f"{mass.pareto_k:.2f} exceeds {LARGEST_K}. State tighter priors on the standard "
            "deviations.",
            pareto_k=mass.pareto_k,
        )
    return mass

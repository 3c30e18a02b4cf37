"""Families: what the response is, given its linear predictor (mathematics.md, section 3).

A family says which dispersion parameters stand at the end of the parameter vector and under which
priors, and whether effects integrate out in closed form. Nobody else asks whether the residual SD
is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from ranef.errors import DataError, ImproperPosteriorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ranef.common.array_types import Array
    from ranef.errors import RanefError
    from ranef.families.response import ResponseFamily
    from ranef.priors import ScalePrior

__all__ = ["FAMILIES", "Family", "Gaussian", "KnownGaussian"]


class Family(Protocol):
    """One distribution of the response.

    Attributes
    ----------
    closed_form
        Whether effects and coefficients integrate out in closed form given the vector.
    log_sd
        Log residual SD at which variance ratios are evaluated that fix no other.
    """

    closed_form: ClassVar[bool]

    @property
    def name(self) -> str:
        """As users write it."""
        ...

    @property
    def link(self) -> str:
        """As users write it."""
        ...

    @property
    def dispersions(self) -> tuple[str, ...]:
        """Names of the parameters beside those of the group terms, last in the vector."""
        ...

    @property
    def log_sd(self) -> float:
        """Log residual SD where only the ratios to it matter: the known one, or zero."""
        ...

    @property
    def scales(self) -> Mapping[str, ScalePrior]:
        """Prior of each of `dispersions`."""
        ...

    def log_sigma(self, theta: Array) -> Array:
        """Log residual SD at parameter vectors (..., d), shape (...)."""
        ...

    def log_prior(self, log_sigma: Array) -> Array:
        """Log prior density of log sigma, of its shape; zero where sigma is no parameter."""
        ...

    def perfect_fit(self) -> RanefError:
        """Make the error for data that a residual SD of zero, or nearly so, fits perfectly."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Normal residuals; their SD `sigma` is the last parameter.

    Attributes
    ----------
    sigma
        Its prior, or, where variances are shares of a total, that of the total.
    """

    name: ClassVar[str] = "gaussian"
    link: ClassVar[str] = "identity"
    closed_form: ClassVar[bool] = True
    dispersions: ClassVar[tuple[str, ...]] = ("sigma",)
    log_sd: ClassVar[float] = 0.0

    sigma: ScalePrior

    @property
    def scales(self) -> Mapping[str, ScalePrior]:
        """The prior of sigma by its name."""
        return {"sigma": self.sigma}

    def log_sigma(self, theta: Array) -> Array:
        """Log sigma, the last number of each vector."""
        return np.asarray(theta[..., -1])

    def log_prior(self, log_sigma: Array) -> Array:
        """Log prior density of log sigma."""
        return self.sigma.log_density(log_sigma)

    def perfect_fit(self) -> RanefError:
        """The posterior has infinite mass at sigma = 0."""
        return ImproperPosteriorError(
            "The posterior is improper: the response does not vary within groups, so sigma = 0 "
            f"fits perfectly and the prior {self.sigma.text} has mass there. Use a prior that "
            "vanishes at zero, such as variance(invgamma(a, scale=b)), or check the data."
        )


@dataclass(frozen=True)
class KnownGaussian:
    """Normal residuals whose SDs are known, as in a meta-analysis.

    Attributes
    ----------
    log_sd
        Logarithm of the residual SD of a row of weight one.
    """

    name: ClassVar[str] = "gaussian, known standard errors"
    link: ClassVar[str] = "identity"
    closed_form: ClassVar[bool] = True
    dispersions: ClassVar[tuple[str, ...]] = ()

    log_sd: float

    @property
    def scales(self) -> Mapping[str, ScalePrior]:
        """None."""
        return {}

    def log_sigma(self, theta: Array) -> Array:
        """The known logarithm at every vector."""
        return np.full(theta.shape[:-1], self.log_sd)

    def log_prior(self, log_sigma: Array) -> Array:
        """Zero: nothing to have a prior."""
        return np.zeros_like(log_sigma)

    def perfect_fit(self) -> RanefError:
        """Group effects so large that the known standard errors drown."""
        return DataError(
            "The group effects are more than 100,000 times as large as the known standard errors, "
            "beyond what double precision can weigh; check the units of both, or leave se= out."
        )


@dataclass(frozen=True)
class Generalized:
    """Any other family: its effects do not integrate out in closed form.

    Attributes
    ----------
    response
        The family as `ranef.families` has it.
    scales
        Prior of each of its own parameters.
    """

    closed_form: ClassVar[bool] = False
    log_sd: ClassVar[float] = 0.0

    response: ResponseFamily
    scales: Mapping[str, ScalePrior]

    @property
    def name(self) -> str:
        """As users write it."""
        return self.response.name

    @property
    def link(self) -> str:
        """Its link."""
        return self.response.link

    @property
    def dispersions(self) -> tuple[str, ...]:
        """Names of its own parameters."""
        return self.response.dispersions

    def log_sigma(self, theta: Array) -> Array:
        """Zero: group effects stand on the scale of the linear predictor, relative to nothing."""
        return np.zeros(theta.shape[:-1])

    def log_prior(self, log_sigma: Array) -> Array:
        """Zero: there is no residual SD to have a prior."""
        return np.zeros_like(log_sigma)

    def perfect_fit(self) -> RanefError:
        """Nothing fits perfectly under proper priors; kept for the protocol."""
        return ImproperPosteriorError("The posterior is improper.")


FAMILIES: tuple[type[Gaussian] | type[KnownGaussian], ...] = (Gaussian, KnownGaussian)

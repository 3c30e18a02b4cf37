"""Priors as the engine reads them: densities, conjugacy, defaults (mathematics.md, 3.5)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import is_number
from ranef.errors import PriorError
from ranef.priors.stated import LKJ, Power, Variance, flat, is_frozen, lkj
from ranef.priors.text import frozen_parameters, parse_prior, prior_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array

__all__ = [
    "CoefficientPrior",
    "ScalePrior",
    "coefficient_prior",
    "default_scale",
    "derivative",
    "lkj_shape",
    "scale_prior",
]

# Step of the differences in log units, and its share of the distance to a hard bound.
_STEP, _SHARE = 1e-3, 0.01


def derivative(f: Callable[[Array | float], Array], h: Array | float = _STEP) -> Array:
    """Derivative at 0 of a log density f of a shift, by central differences of fourth order.

    Zero where the density vanishes. Each element may have a step h of its own.
    """
    rise = 8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))
    out = rise / (12 * h)
    return np.where(np.isfinite(out), out, 0.0)


@dataclass(frozen=True)
class ScalePrior:
    """A prior on a standard deviation, ready for the engine.

    Attributes
    ----------
    stated
        What the user stated.
    text
        The prior as `parse_prior` reads it back.
    on_variance
        Whether the distribution is on the variance.
    support
        Bounds of the standard deviation.
    inverse_gamma
        Shape a and scale b where the variance is IG(a, b); the fast conjugate path.
    power
        Exponent c where the density is sigma^(-c), improper; None for proper priors.
    """

    stated: Any
    text: str
    on_variance: bool
    support: tuple[float, float]
    inverse_gamma: tuple[float, float] | None
    power: float | None

    def log_density(self, log_sigma: Array) -> Array:
        """Log density of log(sigma), at any array of log standard deviations."""
        if self.power is not None:
            return np.asarray((1 - self.power) * log_sigma)
        if self.inverse_gamma is not None:
            from scipy.special import gammaln

            a, b = self.inverse_gamma
            constant = a * np.log(b) - gammaln(a) + np.log(2)
            with np.errstate(over="ignore"):
                return np.asarray(constant - 2 * a * log_sigma - b * np.exp(-2 * log_sigma))
        if not self.on_variance and self.stated.dist.name == "half_t":
            # The default prior; its closed form is five times faster than scipy's general path.
            from scipy.special import gammaln

            (df,), _, scale = frozen_parameters(self.stated)
            constant = (
                np.log(2 / scale)
                + gammaln((df + 1) / 2)
                - gammaln(df / 2)
                - 0.5 * np.log(df * np.pi)
            )
            with np.errstate(over="ignore"):
                ratio = np.exp(2 * (log_sigma - np.log(scale))) / df
            return np.asarray(constant + log_sigma - 0.5 * (df + 1) * np.log1p(ratio))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            power = 2.0 if self.on_variance else 1.0
            value = np.exp(power * log_sigma)
            out = self._distribution.logpdf(value) + power * log_sigma + np.log(power)
        # A scale that overflows or underflows lies outside of what any data can mean.
        return np.where(out < np.inf, out, -np.inf)

    def log_density_gradient(self, log_sigma: Array) -> Array:
        """Derivative of `log_density`, shape (n,) as log_sigma.

        In closed form for powers of sigma, inverse-gamma variances and half-t; for any other
        distribution by differences whose steps shrink towards a hard bound. Zero where the density
        vanishes.

        Examples
        --------
        >>> from ranef.priors import half_t
        >>> prior = scale_prior(half_t(2.0, df=1), "sigma")
        >>> float(prior.log_density_gradient(np.array([np.log(2.0)]))[0])
        0.0
        """
        if self.power is not None:
            return np.full(len(log_sigma), 1 - self.power)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if self.inverse_gamma is not None:
                a, b = self.inverse_gamma
                return np.asarray(2 * b * np.exp(-2 * log_sigma) - 2 * a)
            if not self.on_variance and self.stated.dist.name == "half_t":
                (df,), _, scale = frozen_parameters(self.stated)
                # x^2 / (df + x^2) without overflow, x = sigma / scale.
                away = df * np.exp(2 * (np.log(scale) - log_sigma))
                return np.asarray(1 - (df + 1) / (1 + away))
            low, high = np.log(self.support[0]), np.log(self.support[1])
            h = np.minimum(_STEP, _SHARE * np.minimum(log_sigma - low, high - log_sigma))
            return derivative(lambda shift: self.log_density(log_sigma + shift), h)

    @property
    def _distribution(self) -> Any:
        return self.stated.distribution if self.on_variance else self.stated

    @cached_property
    def median(self) -> float | None:
        """Median of the standard deviation; None for improper priors, or where it overflows."""
        if self.power is not None:
            return None
        with np.errstate(all="ignore"):
            middle = float(self._distribution.median())
        if not 0 < middle < np.inf:
            return None
        return float(np.sqrt(middle)) if self.on_variance else middle

    def draw(self, rng: np.random.Generator, size: int) -> Array:
        """Draw standard deviations; only proper priors have draws."""
        if self.power is not None:
            raise PriorError(f"The prior {self.text} is improper, so nothing can be drawn from it.")
        values = np.asarray(self._distribution.rvs(size=size, random_state=rng), dtype=float)
        return np.sqrt(values) if self.on_variance else values


@dataclass(frozen=True)
class CoefficientPrior:
    """Normal(mean, sd) on a fixed effect; a flat prior has sd = inf."""

    mean: float
    sd: float
    text: str

    @property
    def precision(self) -> float:
        """1 / sd^2; 0 for a flat prior."""
        return 0.0 if np.isinf(self.sd) else self.sd**-2


def scale_prior(prior: Any, name: str) -> ScalePrior:
    """Read a user's prior on a standard deviation or variance.

    Parameters
    ----------
    prior
        Frozen `scipy.stats` distribution on the SD, `variance(...)`, `flat()`, `jeffreys()`, or
        text such as `"half_t(50)"`.
    name
        The parameter, for error messages.

    Returns
    -------
    ScalePrior

    Raises
    ------
    PriorError
        If it is no continuous distribution on positive numbers, or its scale is not positive.

    Examples
    --------
    >>> from ranef import half_t
    >>> scale_prior(half_t(50), "sigma").text
    'half_t(50, df=3)'
    """
    if isinstance(prior, str):
        prior = parse_prior(prior)
    if isinstance(prior, ScalePrior):
        return prior
    on_variance = isinstance(prior, Variance)
    inner = prior.distribution if isinstance(prior, Variance) else prior
    if isinstance(inner, Power):
        # A density f on v = sigma^2 is 2 sigma f(sigma^2) on sigma.
        exponent = 2 * inner.exponent - 1 if on_variance else inner.exponent
        text = f"variance({inner.name})" if on_variance else inner.name
        return ScalePrior(prior, text, on_variance, (0.0, np.inf), None, exponent)
    _require_frozen(inner, name)
    text = prior_text(inner)
    shape, location, scale = frozen_parameters(inner)
    with np.errstate(all="ignore"):  # scipy warns on the way to its nan
        low, high = (float(v) for v in inner.support())
        middle = float(inner.median())
    # An infinite median alone is none: that of variance(invgamma(1e-4, scale=1e-4)) overflows.
    if np.isnan(middle) or not np.isfinite([*shape, location, scale]).all():
        raise PriorError(
            f"Prior {text} for {name!r}: its scale or shape is not a positive number.",
            parameter=name,
        )
    if low < 0:
        raise PriorError(
            f"Prior {text} for {name!r} has support ({low:g}, {high:g}); "
            f"a {'variance' if on_variance else 'standard deviation'} needs one on positive "
            "numbers, e.g. half_t or halfnorm.",
            parameter=name,
        )
    conjugate = None
    if on_variance:
        low, high = float(np.sqrt(low)), float(np.sqrt(high))
        if inner.dist.name == "invgamma" and location == 0:
            conjugate = (shape[0], scale)
    text = f"variance({text})" if on_variance else text
    return ScalePrior(prior, text, on_variance, (low, high), conjugate, None)


def coefficient_prior(prior: Any, name: str) -> CoefficientPrior:
    """Read a user's prior on a fixed effect: `stats.norm(mean, sd)` or `flat()`.

    Parameters
    ----------
    prior
        Frozen normal distribution, `flat()`, or text.
    name
        The coefficient, for error messages.

    Returns
    -------
    CoefficientPrior

    Raises
    ------
    PriorError
        For any other distribution: only these two integrate out exactly.

    Examples
    --------
    >>> coefficient_prior("norm(0, 10)", "x").sd
    10.0
    """
    if isinstance(prior, str):
        prior = parse_prior(prior)
    if isinstance(prior, CoefficientPrior):
        return prior
    if isinstance(prior, Power) and prior == flat():
        return CoefficientPrior(0.0, np.inf, "flat")
    if isinstance(prior, (Power, Variance)):
        raise PriorError(f"Prior for coefficient {name!r} must be normal or flat.", parameter=name)
    _require_frozen(prior, name)
    if prior.dist.name != "norm":
        raise PriorError(
            f"Prior {prior_text(prior)} for coefficient {name!r}: only norm(mean, sd) and flat "
            "integrate out exactly; choose one of them.",
            parameter=name,
        )
    with np.errstate(all="ignore"):
        mean, sd = float(prior.mean()), float(prior.std())
    if not (np.isfinite(mean) and np.isfinite(sd) and sd > 0):
        raise PriorError(
            f"Prior {prior_text(prior)} for {name!r}: its scale is not a positive number.",
            parameter=name,
        )
    return CoefficientPrior(mean, sd, prior_text(prior))


def lkj_shape(prior: Any, name: str) -> float:
    """Read a user's prior on correlations: `lkj(eta)`, text, or the number eta itself."""
    if isinstance(prior, str):
        prior = parse_prior(prior)
    if isinstance(prior, LKJ):
        return float(prior.eta)
    if is_number(prior):
        return float(lkj(prior).eta)
    raise PriorError(f"Prior for {name!r}: correlations take lkj(eta).", parameter=name)


def default_scale(mad: float) -> float:
    """Scale of the default half-t prior on every SD, as in brms: max(2.5, mad(y)), one decimal.

    Parameters
    ----------
    mad
        Median absolute deviation of the response times 1.4826; its SD where that is zero.

    Returns
    -------
    float
        In the units of the response.

    Examples
    --------
    >>> default_scale(56.31), default_scale(0.2)
    (56.3, 2.5)
    """
    return max(2.5, round(mad, 1))


def _require_frozen(prior: Any, name: str) -> None:
    """Raise unless `prior` is a frozen continuous scipy.stats distribution."""
    if not is_frozen(prior):
        raise PriorError(
            f"Prior for {name!r} is a {type(prior).__name__}; expected a frozen continuous "
            "scipy.stats distribution such as scipy.stats.halfnorm(scale=10).",
            parameter=name,
        )
    if any(np.ndim(value) for value in (*prior.args, *prior.kwds.values())):
        raise PriorError(
            f"Prior for {name!r}: {prior.dist.name} has arrays as arguments; one number for each "
            "is expected.",
            parameter=name,
        )

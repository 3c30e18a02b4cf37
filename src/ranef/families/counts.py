"""Counts: Poisson, and negative binomial where they vary more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import gammaln

from ranef.families.whole_numbers import refuse_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ranef.common.array_types import Array
    from ranef.families.response import Own

__all__ = ["NegativeBinomial", "Poisson"]

# Alphas so many times the count, above which gamma functions cancel and a series takes over.
_FAR = 1e5


class _Counts:
    """What counts with a log link share."""

    links: ClassVar[tuple[str, ...]] = ("log",)
    takes_trials: ClassVar[bool] = False
    two_levels: ClassVar[bool] = False

    def check(self, name: str, y: Array, trials: Array | None) -> None:
        """Whole numbers, none negative."""
        del trials
        refuse_parts(f"Response {name!r}", y, "whole numbers, zero or more,")

    def location(self, y: Array, n: Array, offset: Array) -> float:
        """Log of the mean rate, half a count added."""
        exposure = float(np.sum(n * np.exp(offset - offset.max())))
        return float(np.log(y.sum() + 0.5) - np.log(exposure) - offset.max())

    def constants(self, y: Array, n: Array) -> Array:
        """Log factorials."""
        del n
        return np.asarray(-gammaln(y + 1))

    def mean(self, eta: Array) -> Array:
        """Expected count."""
        return np.asarray(np.exp(eta))


@dataclass(frozen=True)
class Poisson(_Counts):
    """Counts whose variance is their mean."""

    name: ClassVar[str] = "poisson"
    dispersions: ClassVar[tuple[str, ...]] = ()
    default_priors: ClassVar[Mapping[str, str]] = {}
    exponential: ClassVar[bool] = True
    merges: ClassVar[bool] = True

    link: str = "log"

    def log_density(self, eta: Array, y: Array, n: Array, own: Own) -> Array:
        """Of n merged rows whose counts sum to y."""
        del own
        with np.errstate(over="ignore"):
            return np.asarray(y * eta - n * np.exp(eta))

    def slopes(self, eta: Array, y: Array, n: Array, own: Own) -> tuple[Array, Array]:
        """Score and information."""
        del own
        mu = n * np.exp(np.minimum(eta, 700.0))
        return y - mu, mu

    def softplus(self, y: Array, n: Array, own: Own) -> tuple[Array, Array, Array | float] | None:
        """Not of this family."""
        del y, n, own
        return None

    def log_rest(self, y: Array, n: Array, own: Own) -> Array | float:
        """Nothing that parameters change."""
        del y, n, own
        return 0.0

    def log_rests(self, y: Array, own: Own) -> Array | float:
        """Nothing that parameters change."""
        del y, own
        return 0.0

    def latent_variance(self, eta: Array, own: Own) -> Array:
        """Of the logarithm of a count (Nakagawa, Johnson and Schielzeth 2017)."""
        del own
        return np.asarray(np.log1p(np.exp(-eta)))

    def variance(self, eta: Array, n: Array, own: Own) -> Array:
        """The mean."""
        del own
        return n * self.mean(eta)

    def draw(self, eta: Array, n: Array, own: Own, rng: np.random.Generator) -> Array:
        """Counts."""
        del own
        # numpy draws up to means of 9e18; where a mean is larger, nobody counts.
        return np.asarray(rng.poisson(np.minimum(n * self.mean(eta), 1e18)), dtype=float)


@dataclass(frozen=True)
class NegativeBinomial(_Counts):
    """Counts with variance mu + mu^2 / alpha; alpha towards infinity is Poisson.

    The density is written as mu^y (1 + mu / alpha)^-(y + alpha) / y! times the product of
    1 + j / alpha over j below y, which keeps its digits for any alpha.
    """

    name: ClassVar[str] = "negativebinomial"
    dispersions: ClassVar[tuple[str, ...]] = ("alpha",)
    default_priors: ClassVar[Mapping[str, str]] = {"alpha": "invgamma(0.4, scale=0.3)"}
    exponential: ClassVar[bool] = False
    merges: ClassVar[bool] = False

    link: str = "log"

    def log_density(self, eta: Array, y: Array, n: Array, own: Own) -> Array:
        """What depends on the mean, of n rows with the same count."""
        (alpha,) = own
        with np.errstate(over="ignore"):
            return np.asarray(n * (y * eta - (y + alpha) * np.log1p(np.exp(eta) / alpha)))

    def slopes(self, eta: Array, y: Array, n: Array, own: Own) -> tuple[Array, Array]:
        """Score and observed information."""
        (alpha,) = own
        mu = np.exp(np.minimum(eta, 700.0))
        rest = alpha / (alpha + mu)
        return n * (y - mu) * rest, n * (y + alpha) * (mu / (alpha + mu)) * rest

    def softplus(self, y: Array, n: Array, own: Own) -> tuple[Array, Array, Array | float] | None:
        """With alpha for both weight and shift."""
        (alpha,) = own
        return n * y, n * (y + alpha), np.log(alpha)

    def log_rest(self, y: Array, n: Array, own: Own) -> Array | float:
        """Sum over rows of log(1 + j / alpha), j below the count."""
        counts, place = np.unique(y, return_inverse=True)
        weight = np.bincount(place.ravel(), n.ravel())
        return np.asarray(weight @ self.log_rests(counts[:, None], own))

    def log_rests(self, y: Array, own: Own) -> Array | float:
        """The same of each row, by gamma functions, or a series where these would cancel."""
        (alpha,) = own
        rise = gammaln(y + alpha) - gammaln(alpha) - y * np.log(alpha)
        first = y * (y - 1) / (2 * alpha)
        series = first * (1 - (2 * y - 1) / (6 * alpha))
        return np.where(alpha > _FAR * np.maximum(y, 1.0), series, rise)

    def latent_variance(self, eta: Array, own: Own) -> Array:
        """Of the logarithm of a count (Nakagawa, Johnson and Schielzeth 2017)."""
        return np.asarray(np.log1p(np.exp(-eta) + 1 / own[0]))

    def variance(self, eta: Array, n: Array, own: Own) -> Array:
        """Mean plus squared mean over alpha."""
        mu = self.mean(eta)
        return n * (mu + mu**2 / own[0])

    def draw(self, eta: Array, n: Array, own: Own, rng: np.random.Generator) -> Array:
        """Counts, as Poisson with a gamma mean."""
        (alpha,) = own
        rate = rng.standard_gamma(np.broadcast_to(alpha, eta.shape)) / alpha
        mean = np.minimum(n * self.mean(eta) * rate, 1e18)
        return np.asarray(rng.poisson(mean), dtype=float)

"""Bernoulli and binomial responses: yes and no, and successes out of trials."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import gammaln

from ranef.errors import DataError
from ranef.families.links import PROPORTIONS, ProportionLink
from ranef.families.whole_numbers import first_row, refuse_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ranef.common.array_types import Array
    from ranef.families.response import Own

__all__ = ["Bernoulli", "Binomial"]


@dataclass(frozen=True)
class Binomial:
    """Successes out of known numbers of trials.

    Attributes
    ----------
    link
        Of the probability.
    """

    name: ClassVar[str] = "binomial"
    links: ClassVar[tuple[str, ...]] = tuple(PROPORTIONS)
    dispersions: ClassVar[tuple[str, ...]] = ()
    default_priors: ClassVar[Mapping[str, str]] = {}
    exponential: ClassVar[bool] = False
    merges: ClassVar[bool] = True
    takes_trials: ClassVar[bool] = True
    two_levels: ClassVar[bool] = False

    link: str = "logit"

    @cached_property
    def _link(self) -> ProportionLink:
        return PROPORTIONS[self.link]

    def check(self, name: str, y: Array, trials: Array | None) -> None:
        """Whole numbers of successes, from none to the number of trials."""
        refuse_parts(f"Response {name!r}", y, "whole numbers of successes")
        if trials is None:
            return
        refuse_parts("Trials", trials, "whole numbers of trials")
        if (more := y > trials).any():
            row = first_row(more)
            raise DataError(
                f"Response {name!r} is {y[row - 1]:g} of {trials[row - 1]:g} trials in row {row} "
                "of the complete rows; at most as many successes as trials are expected.",
                row=row,
            )

    def location(self, y: Array, n: Array, offset: Array) -> float:
        """The link of the share of successes, half a success and half a failure added."""
        share = (y.sum() + 0.5) / (n.sum() + 1)
        return self._link.inverse(float(share)) - float(np.average(offset))

    def log_density(self, eta: Array, y: Array, n: Array, own: Own) -> Array:
        """Successes and failures by their log probabilities; one softplus where that will do."""
        del own
        if self.link == "logit":
            # Neither overflows before eta is 700, where one failure in 1e300 is expected.
            with np.errstate(over="ignore"):
                return np.asarray(y * eta - n * np.log(1 + np.exp(eta)))
        link = self._link
        with np.errstate(invalid="ignore"):
            success = np.where(y > 0, y * link.log_success(eta), 0.0)
            failure = np.where(n > y, (n - y) * link.log_failure(eta), 0.0)
        return success + failure

    def slopes(self, eta: Array, y: Array, n: Array, own: Own) -> tuple[Array, Array]:
        """Score, and expected information (observed for the logit, where they are the same)."""
        del own
        if self.link == "logit":
            p = self._link.mean(eta)
            return y - n * p, n * p * (1 - p)
        up, down = self._link.slopes(eta)
        return y * up + (n - y) * down, -n * up * down

    def softplus(self, y: Array, n: Array, own: Own) -> tuple[Array, Array, Array | float] | None:
        """Of the logit."""
        del own
        return (y, n, 0.0) if self.link == "logit" else None

    def log_rest(self, y: Array, n: Array, own: Own) -> Array | float:
        """Nothing that parameters change; `constants` has the rest."""
        del y, n, own
        return 0.0

    def log_rests(self, y: Array, own: Own) -> Array | float:
        """Nothing that parameters change."""
        del y, own
        return 0.0

    def constants(self, y: Array, n: Array) -> Array:
        """Log binomial coefficients."""
        return np.asarray(gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1))

    def latent_variance(self, eta: Array, own: Own) -> Array:
        """Of the latent variable whose sign is the response."""
        del own
        return np.full_like(eta, self._link.variance)

    def mean(self, eta: Array) -> Array:
        """Probability of a success."""
        return self._link.mean(eta)

    def variance(self, eta: Array, n: Array, own: Own) -> Array:
        """Of the number of successes."""
        del own
        p = self.mean(eta)
        return n * p * (1 - p)

    def draw(self, eta: Array, n: Array, own: Own, rng: np.random.Generator) -> Array:
        """Numbers of successes."""
        del own
        trials = np.broadcast_to(np.asarray(n, dtype=np.int64), eta.shape)
        return np.asarray(rng.binomial(trials, np.clip(self.mean(eta), 0, 1)), dtype=float)


@dataclass(frozen=True)
class Bernoulli(Binomial):
    """Yes and no: one trial in each row."""

    name: ClassVar[str] = "bernoulli"
    takes_trials: ClassVar[bool] = False
    two_levels: ClassVar[bool] = True

    def check(self, name: str, y: Array, trials: Array | None) -> None:
        """Zeros and ones."""
        del trials
        if (wrong := (y != 0) & (y != 1)).any():
            row = first_row(wrong)
            raise DataError(
                f"Response {name!r} is {y[row - 1]:g} in row {row} of the complete rows; 0 and 1 "
                "are expected, truth values, or two levels of text. For successes out of several "
                "trials take family='binomial' and trials='column'.",
                row=row,
            )

"""What every family of responses can do: its density, derivatives, mean and simulation.

Arrays of linear predictors stand as (rows, draws). `y` is what was counted or measured in a row,
`n` how much the row counts: trials of a binomial, and the number of rows that were merged into it
for all others. Both have shape (rows, 1). `own` holds the family's own parameters, shape (draws,)
each, as in `dispersions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ranef.common.array_types import Array

__all__ = ["Own", "ResponseFamily"]

Own = tuple["Array", ...]


class ResponseFamily(Protocol):
    """One distribution of the response given its linear predictor eta.

    Attributes
    ----------
    name, link
        As users write them.
    links
        The links that the family knows, its default first.
    dispersions
        Names of parameters of its own, positive, as Bambi has them.
    default_priors
        The prior of each of these, as text.
    exponential
        Whether the log density of a row is `y eta - n exp(eta)`.
    merges
        Whether rows with equal predictors may be summed, y and n apart.
    takes_trials
        Whether a row has a number of trials.
    two_levels
        Whether the response may be truth values, or text of two levels.
    """

    name: ClassVar[str]
    links: ClassVar[tuple[str, ...]]
    dispersions: ClassVar[tuple[str, ...]]
    default_priors: ClassVar[Mapping[str, str]]
    exponential: ClassVar[bool]
    merges: ClassVar[bool]
    takes_trials: ClassVar[bool]
    two_levels: ClassVar[bool]

    @property
    def link(self) -> str:
        """Name of the link."""
        ...

    def check(self, name: str, y: Array, trials: Array | None) -> None:
        """Raise DataError unless y, called `name`, may come from the family."""
        ...

    def location(self, y: Array, n: Array, offset: Array) -> float:
        """Where the linear predictor lies, offset apart, from all rows together."""
        ...

    def log_density(self, eta: Array, y: Array, n: Array, own: Own) -> Array:
        """What of the log density depends on eta, (rows, draws)."""
        ...

    def slopes(self, eta: Array, y: Array, n: Array, own: Own) -> tuple[Array, Array]:
        """First derivative by eta, and what stands for minus the second: its expected value.

        The latter may be the observed one where that is as simple.
        """
        ...

    def softplus(self, y: Array, n: Array, own: Own) -> tuple[Array, Array, Array | float] | None:
        """a, w and s where the log density is `a eta - w log(1 + exp(eta - s))`; None where not.

        Shape (rows, 1) or (rows, draws), and (draws,) for s.
        """
        ...

    def log_rest(self, y: Array, n: Array, own: Own) -> Array | float:
        """What of the log density of all rows depends on `own` alone, shape (draws,)."""
        ...

    def log_rests(self, y: Array, own: Own) -> Array | float:
        """The same of each row, (rows, draws)."""
        ...

    def constants(self, y: Array, n: Array) -> Array:
        """What of each row's log density depends on no parameter; shape of y."""
        ...

    def latent_variance(self, eta: Array, own: Own) -> Array:
        """Variance of the response's distribution on the scale of the linear predictor."""
        ...

    def mean(self, eta: Array) -> Array:
        """Expected response of one trial or row; shape of eta."""
        ...

    def variance(self, eta: Array, n: Array, own: Own) -> Array:
        """Variance of the response at n trials; shape of eta."""
        ...

    def draw(self, eta: Array, n: Array, own: Own, rng: np.random.Generator) -> Array:  # type: ignore[name-defined]  # noqa: F821
        """Responses at n trials; shape of eta."""
        ...

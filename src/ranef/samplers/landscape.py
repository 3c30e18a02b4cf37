"""What the engine asks of a posterior, whatever its family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from ranef.common.array_types import Array
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["Landscape"]


class Landscape(Protocol):
    """A posterior, in coordinates y whose tails are like a normal density's."""

    @property
    def modes(self) -> list[tuple[Array, Array]]:
        """Modes in y and the inverse Hessians there, the best first."""
        ...

    @property
    def free(self) -> int:
        """How many coordinates, the last ones, are nearly standard normal beside all others."""
        ...

    @property
    def error(self) -> float | None:
        """Largest error of an interpolated log likelihood, in nats; None where it is none."""
        ...

    @property
    def narrow(self) -> bool:
        """Whether proposals need not go far beyond what they were fitted to.

        Because what lies there is dear, or because coordinates leave little there.
        """
        ...

    @property
    def proper(self) -> bool:
        """Whether all priors are proper, so that there is a marginal likelihood."""
        ...

    def log_density(self, y: Array) -> Array:
        """Log posterior density of y, shape (n, d), with every constant; shape (n,)."""
        ...

    def log_density_inside(self, y: Array) -> Array:
        """The same, -inf where it is not cheap: to fit proposals with."""
        ...

    def log_exact(self, y: Array) -> Array | None:
        """Log density by the likelihood itself, where draws are to be weighted by it; else None."""
        ...

    def features(self, y: Array) -> Array:
        """What draws are to forget: parameters, on several scales; shape (n, features)."""
        ...

    def complete(
        self,
        settings: SamplerSettings,
        y: Array,
        log_density: Array,
        streams: list[np.random.Generator],
    ) -> PosteriorSample:
        """Complete draws y (n, d) to draws of the whole posterior.

        Parameters
        ----------
        settings
            Chains, and which effects to draw.
        y
            Draws, chain after chain, shape (n, d).
        log_density
            Of y, shape (n,).
        streams
            Random numbers for the coefficients and for the effects.
        """
        ...

"""Log standard deviations with hard bounds as smooth functions of unbounded numbers.

A prior such as uniform(0, 5) ends at a wall, and a beta prior may have a pole there. With the SD a
logistic function of v both become smooth (the wall a tail, the pole integrable at infinity), so
that gradients lead somewhere (mathematics.md, 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, log_expit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranef.common.array_types import Array
    from ranef.mixed_model.parameters import ParameterVector

    Mask = NDArray[np.bool_]

__all__ = ["Bounds", "bounds_of"]


@dataclass(frozen=True)
class Bounds:
    """Elementwise maps between parameters x in (low, high) and v on the line.

    Attributes
    ----------
    low, high
        Shape (d,); infinite where there is no bound.
    """

    low: Array
    high: Array

    @cached_property
    def _kinds(self) -> tuple[Mask, Mask, Mask]:
        """Which parameters have a lower bound alone, an upper one alone, and both; (d,) each."""
        low, high = np.isfinite(self.low), np.isfinite(self.high)
        return low & ~high, high & ~low, low & high

    @cached_property
    def _free(self) -> bool:
        """Whether no parameter has a bound, as under most priors: then there is nothing to do."""
        return not any(kind.any() for kind in self._kinds)

    def inside(self, v: Array) -> Array:
        """Parameters x at v, shape (n, d)."""
        above, below, both = self._kinds
        x = v.copy()
        if self._free:
            return x
        # exp(x) - exp(low) is exp(low + v), exp(x) is exp(high) logistic(v).
        x[:, above] = self.low[above] - log_expit(-v[:, above])
        x[:, below] = self.high[below] + log_expit(v[:, below])
        width = self.high[both] - self.low[both]
        x[:, both] = self.low[both] + width * expit(v[:, both])
        return x

    def outside(self, x: Array, margin: float = 1e-3) -> Array:
        """The inverse of `inside`; parameters nearer to a bound than `margin` are moved inward."""
        above, below, both = self._kinds
        v = x.copy()
        gap = np.maximum(x[:, above] - self.low[above], margin)
        v[:, above] = np.log(np.expm1(gap))
        gap = np.maximum(self.high[below] - x[:, below], margin)
        v[:, below] = -np.log(np.expm1(gap))
        share = (x[:, both] - self.low[both]) / (self.high[both] - self.low[both])
        share = np.clip(share, margin, 1 - margin)
        v[:, both] = np.log(share / (1 - share))
        return v

    def log_jacobian(self, v: Array) -> tuple[Array, Array]:
        """Logarithm of dx/dv at v (n, d), and its derivative by v."""
        above, below, both = self._kinds
        value, slope = np.zeros_like(v), np.zeros_like(v)
        if self._free:
            return value, slope
        value[:, above], slope[:, above] = log_expit(v[:, above]), expit(-v[:, above])
        value[:, below], slope[:, below] = log_expit(-v[:, below]), -expit(v[:, below])
        some = v[:, both]
        width = np.log(self.high[both] - self.low[both])
        value[:, both] = width + log_expit(some) + log_expit(-some)
        slope[:, both] = expit(-some) - expit(some)
        return value, slope


def bounds_of(parameters: ParameterVector) -> Bounds:
    """Bounds that the priors set to the vector of parameters.

    Parameters
    ----------
    parameters
        The parameters and their priors.

    Returns
    -------
    Bounds
    """
    support: list[tuple[float, float]] = []
    for term in parameters.terms:
        # A joint prior sets no bounds to its standard deviations one by one.
        free = len(term.place) - len(term.scales) + term.correlations
        support += [prior.support for prior in term.scales] + [(0.0, np.inf)] * free
    for prior in parameters.family.scales.values():
        support.append(prior.support if parameters.shares is None else (0.0, np.inf))
    with np.errstate(divide="ignore"):
        low, high = np.log(np.array(support)).T
    return Bounds(low, high)

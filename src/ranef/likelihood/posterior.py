"""Marginal posterior of any Gaussian mixed model's variance parameters.

The structure of the grouping factors is chosen from the design; everything else, coefficients,
residual SD, priors, is the same for all of them (mathematics.md, section 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from ranef.cells.orthonormal import column_sizes
from ranef.likelihood.coefficients import Coefficients, Profile
from ranef.likelihood.structures.structure import choose_structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranef.common.array_types import Array
    from ranef.likelihood.structures.structure import Structure
    from ranef.mixed_model.model import ModelSpec

__all__ = ["LARGEST_RATIO", "Interpolation", "MarginalPosterior", "largest_ratio"]

# Log parameters beyond this leave the range of double precision when squared.
_FAR = 300.0
# Log ratio of what effects add to rows to what residuals do, beyond which rounding swamps the
# likelihood: cross-products hold some 15 digits, so that a variance ratio of 1e14 leaves one. The
# density goes on a little, so that whoever climbs towards a perfect fit sees where it leads.
LARGEST_RATIO, _END = 16.1, 20.7


class Interpolation(Protocol):
    """What stands in for an expensive likelihood, in a box around `center`, shape (ratios,)."""

    center: Array

    def inside(self, relative: Array) -> NDArray[np.bool_]:
        """Whether each point (n, ratios) lies in the box."""
        ...

    def sums(self, relative: Array) -> tuple[Array, Array]:
        """As `MarginalPosterior.ratio_sums`, at points in the box."""
        ...


def largest_ratio(model: ModelSpec, theta: Array) -> Array:
    """Log of the largest SD that an effect adds to rows, relative to their residual SD.

    Parameters
    ----------
    model
        Data and priors.
    theta
        Parameter vectors, shape (n, d).

    Returns
    -------
    numpy.ndarray
        Shape (n,); units of columns, weights and the response don't matter.
    """
    return _largest_ratio(model, _log_sizes(model), theta)


def _log_sizes(model: ModelSpec) -> Array:
    """Log of what each column adds to rows per SD of its effects, relative to their residuals."""
    design = model.design
    with np.errstate(divide="ignore"):
        size = np.log(column_sizes(design)) + 0.5 * np.log(design.count.sum() / design.N)
    return np.asarray(size)


def _largest_ratio(model: ModelSpec, size: Array, theta: Array) -> Array:
    design, parameters = model.design, model.parameters
    ratios = [
        log_sd + size[[design.factors[term.factor].columns[j] for j in term.place]]
        for term, (log_sd, _) in zip(
            parameters.terms, parameters.split(parameters.relative(theta)), strict=True
        )
    ]
    none = np.full((len(theta), 1), -np.inf)  # of a model without effects
    return np.asarray(np.concatenate([none, *ratios], axis=1).max(axis=1))


class MarginalPosterior:
    """Log densities of a mixed model's parameter vector (`ParameterVector`).

    Parameters
    ----------
    model
        Data and priors.
    structure
        How to evaluate the design; chosen from it by default.
    surrogate
        A checked interpolation to use instead, inside its box.
    """

    def __init__(
        self,
        model: ModelSpec,
        structure: Structure | None = None,
        surrogate: Interpolation | None = None,
    ) -> None:
        self.model = model
        self.parameters = model.parameters
        self.structure = structure or choose_structure(model.design, model.response)
        self.surrogate = surrogate
        self.coefficients = Coefficients(model)
        self._log_sizes = _log_sizes(model)

    def ratio_sums(self, relative: Array) -> tuple[Array, Array]:
        """log|V| and U at log SDs relative to sigma, and correlations; shape (n, ratios)."""
        theta = self.parameters.absolute(
            relative, np.full(len(relative), self.parameters.family.log_sd)
        )
        return self.structure.sums(self.parameters.roots(theta))

    def profile(self, theta: Array) -> Profile:
        """Integrate effects and coefficients out at parameter vectors (n, d)."""
        relative = self.parameters.relative(theta)
        if self.surrogate is None:
            return self.coefficients.profile(*self.ratio_sums(relative))
        inside = self.surrogate.inside(relative)
        log_det, U = self.surrogate.sums(np.where(inside[:, None], relative, self.surrogate.center))
        if not inside.all():
            log_det[~inside], U[~inside] = self.ratio_sums(relative[~inside])
        return self.coefficients.profile(log_det, U)

    def log_density(self, theta: Array, profile: Profile | None = None) -> Array:
        """Log joint density of the parameter vector and the data, every constant included.

        Parameters
        ----------
        theta
            Shape (n, d).
        profile
            `self.profile(theta)`, if it is at hand.

        Returns
        -------
        numpy.ndarray
            Shape (n,); -inf where a parameter leaves the range of double precision or a variance
            ratio exceeds 1e18.
        """
        out = np.full(len(theta), -np.inf)
        inside = np.all(np.abs(theta) < _FAR, axis=1)
        inside &= _largest_ratio(self.model, self._log_sizes, theta) < _END
        if profile is None and not inside.all():
            if inside.any():
                out[inside] = self.log_density(theta[inside])
            return out
        profile = self.profile(theta) if profile is None else profile
        # With a profile at hand points too far out cost nothing, and what they give is not used.
        with np.errstate(all=None if inside.all() else "ignore"):
            value = (
                self.coefficients.constant
                + self.coefficients.core(profile, self.parameters.log_sigma(theta))
                + self.parameters.log_prior(theta)
            )
        return np.where(inside & ~np.isnan(value), value, -np.inf)

    def log_density_inside(self, theta: Array) -> Array:
        """Log density, -inf outside a surrogate's box: cheap everywhere, to fit proposals with."""
        if self.surrogate is None:
            return self.log_density(theta)
        inside = self.surrogate.inside(self.parameters.relative(theta))
        out = np.full(len(theta), -np.inf)
        if inside.any():
            out[inside] = self.log_density(theta[inside])
        return out

    def log_likelihood(self, roots: list[Array], log_sigma: Array, *, reml: bool) -> Array:
        """Log marginal likelihood at relative covariance roots and log sigma, shape (n,)."""
        profile = self.coefficients.profile(*self.structure.sums(roots))
        return self.coefficients.log_likelihood(profile, log_sigma, reml=reml)

"""Whether a posterior exists at all under improper priors (mathematics.md, section 8.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import ImproperPosteriorError
from ranef.mixed_model.identifiability import free_basis

if TYPE_CHECKING:
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.mixed_model.model import ModelSpec
    from ranef.priors import ScalePrior

__all__ = ["check_proper", "power_at_zero"]


def check_proper(model: ModelSpec) -> None:
    """Refuse improper posteriors (Hobert and Casella 1996; Gelman 2006; mathematics.md, 8.4)."""
    design, parameters = model.design, model.parameters
    free = model.prior_precision == 0
    k = design.N - int(free.sum())
    powers = 0.0
    for term in parameters.terms:
        factor = design.factors[term.factor]
        # A joint prior on the term's SDs is proper; it has no scales of its own.
        for name, scale in zip(term.names, term.scales, strict=False):
            if scale.power is None:
                continue
            if scale.power >= 1:
                raise ImproperPosteriorError(
                    f"The posterior is improper: prior {scale.text} on {name} has infinite mass "
                    "near zero, where the likelihood does not vanish. Use a proper prior such as "
                    "half_t, or flat on the SD."
                )
            if term.correlations:
                raise ImproperPosteriorError(
                    f"Prior {scale.text} on {name}: an improper prior on the SDs of correlated "
                    "effects is not supported; use a proper one such as half_t."
                )
            # Directions between groups that the flat coefficients leave to the group effects;
            # with several terms the others may take as many more.
            others = sum(
                design.factors[t.factor].levels * len(t.place)
                for t in parameters.terms
                if t is not term and design.factors[t.factor].levels < factor.levels
            )
            t = factor.levels - others
            t -= _between_rank(design, free) if model.random_intercept else int(free.sum())
            if scale.power + t <= 1:
                raise ImproperPosteriorError(
                    f"The posterior is improper: prior {scale.text} on {name} needs more than "
                    f"{1 - scale.power:g} free directions between groups, the data have "
                    f"{max(t, 0)}. Use a proper prior such as half_t."
                )
            powers += scale.power - 1
    for name, prior in parameters.family.scales.items():
        if prior.power is not None and k + prior.power + powers <= 1:
            raise ImproperPosteriorError(
                f"The posterior is improper: prior {prior.text} on {name} with {k} residual "
                "degrees of freedom. Use a proper prior such as half_t."
            )
        if not model.random_intercept:
            continue
        within, degrees = _within_residual(model)
        if within == 0 and degrees + power_at_zero(prior) >= 1:
            raise parameters.family.perfect_fit()


def _between_rank(design: OrthonormalCells, free: Any) -> int:
    """Rank that the flat coefficients take from the space between groups."""
    if not free.any():
        return 0
    # The group space loses the directions that they span exactly, those without spread within.
    basis = free_basis(design, free)
    spread = basis.T @ design.within @ basis
    means = design.mean @ basis
    null = np.linalg.eigh(spread)
    constant = null.eigenvectors[:, null.eigenvalues <= 1e-12]
    return int(np.linalg.matrix_rank(means @ constant)) if constant.size else 0


def _within_residual(model: ModelSpec) -> tuple[float, int]:
    """Sum of squares within groups that X does not explain, and its degrees of freedom."""
    design, response = model.design, model.response
    xx, xy, yy = design.within, response.within, response.square
    rank = int(np.linalg.matrix_rank(xx, tol=1e-12, hermitian=True)) if design.p else 0
    rest = yy - float(xy @ np.linalg.pinv(xx, rcond=1e-12, hermitian=True) @ xy) if rank else yy
    degrees = design.N - len(design.count) - rank
    return (0.0 if rest <= 1e-13 * yy else rest), degrees


def power_at_zero(prior: ScalePrior) -> float:
    """Exponent c of the density's behaviour sigma^(-c) as sigma goes to zero."""
    if prior.power is not None:
        return prior.power
    if prior.support[0] > 0:
        return -np.inf
    start = np.log(prior.median or 1.0) - 20.0
    near = prior.log_density(np.array([start, start - 1.0]))
    if not np.isfinite(near).all():
        return -np.inf
    return 1.0 - float(near[0] - near[1])

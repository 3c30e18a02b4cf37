"""Where the search for a posterior's modes begins, and a mode at which there is no posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.cells.orthonormal import column_sizes
from ranef.likelihood.posterior import LARGEST_RATIO, largest_ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec

__all__ = ["refuse_perfect_fit", "starts"]


def starts(model: ModelSpec) -> list[Array]:
    """Two places to climb from: moderate group effects, and nearly none.

    Parameters
    ----------
    model
        Data and priors.

    Returns
    -------
    list of numpy.ndarray
        Parameter vectors, shape (d,).
    """
    design, parameters = model.design, model.parameters
    spread = model.response.spread(model.design.count)
    weight = np.sqrt(design.count.sum() / design.N)
    size = np.maximum(column_sizes(design), 1e-300)
    out = []
    for share in (0.5, 0.02):
        theta: list[float] = []
        for term in parameters.terms:
            block = design.factors[term.factor].columns
            theta += [np.log(share * spread / size[block[j]]) for j in term.place]
            theta += [0.0] * term.correlations
        theta += [np.log(0.7 * spread * weight)] * len(parameters.family.dispersions)
        out.append(np.array(theta))
    return out


def refuse_perfect_fit(
    model: ModelSpec, log_density: Callable[[Array], Array], mode: Array
) -> None:
    """Raise ImproperPosteriorError where the density rises towards a residual SD of nothing.

    Parameters
    ----------
    model
        Data and priors.
    log_density
        Of parameter vectors (n, d).
    mode
        The best mode found, shape (d,). A climb towards a perfect fit may stop early, so a residual
        SD as small as the likelihood can weigh is tried too.
    """
    gap = LARGEST_RATIO - 1 - largest_ratio(model, mode[None])[0]
    perfect = gap < 0
    if not perfect and model.parameters.family.dispersions:
        nothing = mode.copy()
        nothing[-1] -= gap
        there, here = log_density(np.stack([nothing, mode]))
        perfect = there > here
    if perfect:
        raise model.parameters.family.perfect_fit()

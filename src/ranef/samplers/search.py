"""Where the search for a posterior's modes begins, and a mode at which there is no posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.cells.orthonormal import column_sizes
from ranef.likelihood.posterior import LARGEST_RATIO, largest_ratio

if TYPE_CHECKING:
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


def refuse_perfect_fit(model: ModelSpec, mode: Array) -> None:
    """Raise ImproperPosteriorError if the mode (d,) lies at a residual SD of next to nothing."""
    if largest_ratio(model, mode[None])[0] > LARGEST_RATIO - 1:
        raise model.parameters.family.perfect_fit()

"""Priors on standard deviations, variances and coefficients, as frozen scipy.stats distributions.

What the user writes is kept as it is (`kinds`, `text`); `ScalePrior` and `CoefficientPrior` are
what the engine reads from it (`engine`).
"""

from __future__ import annotations

from ranef.priors.scale import (
    CoefficientPrior,
    ScalePrior,
    coefficient_prior,
    default_scale,
    lkj_shape,
    scale_prior,
)
from ranef.priors.stated import (
    LKJ,
    Dirichlet,
    Power,
    Variance,
    dirichlet,
    flat,
    half_t,
    jeffreys,
    lkj,
    variance,
)
from ranef.priors.text import parse_prior

__all__ = [
    "LKJ",
    "CoefficientPrior",
    "Dirichlet",
    "Power",
    "ScalePrior",
    "Variance",
    "coefficient_prior",
    "default_scale",
    "dirichlet",
    "flat",
    "half_t",
    "jeffreys",
    "lkj",
    "lkj_shape",
    "parse_prior",
    "scale_prior",
    "variance",
]

"""Power-scaling: prior or likelihood raised to a power (mathematics.md, 5.3).

`p_alpha(theta | y)` is proportional to `p(theta)^alpha p(y | theta)`, or to `p(theta) p(y |
theta)^alpha`; its derivative by log alpha at 1 says which of the two holds the answer (Kallioinen,
Paananen, Bürkner and Vehtari 2024, Statistics and Computing 34, 57). theta are the SDs,
correlations and coefficients; group effects are integrated out of `p(y | theta)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget
from ranef.numerics.correlations import log_volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec
    from ranef.posterior.draws import PosteriorDraws

__all__ = ["log_likelihood_draws", "log_prior_density", "power_scaling_sensitivity"]


def log_prior_density(model: ModelSpec, drawn: PosteriorDraws) -> Array:
    """Log prior density of SDs, correlation matrices and coefficients at each draw.

    Parameters
    ----------
    model
        The priors.
    drawn
        n draws.

    Returns
    -------
    numpy.ndarray
        Shape (n,), up to a constant. Densities of the SDs themselves, not of their logarithms,
        because a power of a density depends on what it is a density of; flat ones count as
        constant.
    """
    parameters, theta = model.parameters, drawn.theta
    # The engine's density is that of log SDs and unconstrained correlations.
    out = parameters.log_prior(theta)
    for term, (log_sd, z) in zip(parameters.terms, parameters.split(theta), strict=True):
        out = out - log_sd.sum(axis=1)
        if term.correlations:
            out = out - log_volume(z, len(term.place))
    out = out - theta[:, parameters.ratios :].sum(axis=1)  # log sigma, where it is a parameter
    gap = drawn.beta - model.prior_mean
    return np.asarray(out - 0.5 * (gap**2 @ model.prior_precision))


def log_likelihood_draws(drawn: PosteriorDraws) -> Array:
    """Log likelihood of SDs, correlations and coefficients, effects integrated out.

    `y ~ N(X beta, V)`, so with `F F' = sigma^2 X'V^-1X` the weighted squares are those at the best
    coefficients plus `|F'(b - best)|^2` in internal coordinates.

    Parameters
    ----------
    drawn
        n draws.

    Returns
    -------
    numpy.ndarray
        Shape (n,), in nats.
    """
    coefficients = drawn.target.coefficients
    parts = []
    for block in budget.POWER_SCALING.blocks(len(drawn.theta)):
        profile = drawn.target.profile(drawn.theta[block])
        log_sigma = drawn.log_sigma[block]
        b = np.einsum("nij,ni->nj", profile.F, drawn.internal[block])
        if profile.V is not None:
            b = np.einsum("nij,ni->nj", profile.V, b)
        away = ((b - profile.best) ** 2).sum(axis=1)
        best = coefficients.log_likelihood(profile, log_sigma, reml=False)
        parts.append(best - 0.5 * np.exp(-2 * log_sigma) * away)
    return np.concatenate(parts)


def power_scaling_sensitivity(
    quantities: Mapping[str, Array], log_prior: Array, log_likelihood: Array
) -> pd.DataFrame:
    """Sensitivity of each quantity to powers of prior and likelihood, by arviz-stats' `psense`.

    Parameters
    ----------
    quantities
        Draws by name, shape (n,) each.
    log_prior, log_likelihood
        At the same draws, shape (n,).

    Returns
    -------
    pandas.DataFrame
        Index: quantity; columns `prior` and `likelihood`, distances between distributions per unit
        of log2 alpha. Above 0.05 counts as sensitive.
    """
    import pandas as pd
    import xarray as xr
    from arviz_stats import psense

    def group(values: Mapping[str, Array]) -> xr.Dataset:
        return xr.Dataset({k: (("chain", "draw"), v[None]) for k, v in values.items()})

    # Names with a slash would be read as paths.
    keys = {f"q{j}": name for j, name in enumerate(quantities)}
    tree = xr.DataTree.from_dict(
        {
            "posterior": group({k: quantities[name] for k, name in keys.items()}),
            "log_prior": group({"value": log_prior}),
            "log_likelihood": group({"value": log_likelihood}),
        }
    )
    columns = {}
    for part, values in (("prior", log_prior), ("likelihood", log_likelihood)):
        if np.ptp(values) == 0:  # flat: powers of it change nothing
            columns[part] = dict.fromkeys(quantities, 0.0)
            continue
        diagnostics = psense(tree, group=part)
        columns[part] = {name: float(diagnostics[k]) for k, name in keys.items()}
    table = pd.DataFrame(columns)
    table.index.name = "quantity"
    return table

"""Shares of variance with other families: on the latent scale, as repeatability and R squared.

Nakagawa, Johnson and Schielzeth (2017), Journal of the Royal Society Interface 14, 20170213. The
distribution's own variance is that of the link's latent variable for proportions, and
`log(1 + 1/mean + 1/alpha)` for counts with a log link, at the mean over groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.posterior.summary import check_prob, describe

if TYPE_CHECKING:
    import pandas as pd

    from ranef.common.array_types import Array
    from ranef.posterior.generalized_posterior import GeneralizedPosterior

__all__ = ["variance_shares"]


def variance_shares(fit: GeneralizedPosterior, prob: float = 0.95) -> pd.DataFrame:
    """Share of the latent variance that groups and fixed effects have.

    Parameters
    ----------
    prob
        Probability of the equal-tailed interval.

    Returns
    -------
    pandas.DataFrame
        `1|g`: each group term's share of what fixed effects leave (repeatability, intraclass
        correlation); `R2 marginal`: the fixed effects' share of all; `R2 conditional`: theirs and
        the groups'.

    Raises
    ------
    DataError
        If prob is not between 0 and 1.
    """
    import pandas as pd

    check_prob(prob)
    drawn, rows = fit.posterior_draws, fit.source.rows
    response = drawn.model.response
    columns = np.column_stack([np.ones(len(rows.y)), rows.slopes])
    size = [float(np.mean(columns[:, e.column] ** 2)) for e in rows.spec.effect_columns]
    each = drawn.sds**2 * size
    groups = each.sum(axis=1)
    fixed = _variance_of_fixed(drawn.beta, rows.X)
    offset = 0.0 if rows.offset is None else rows.offset
    middle = _mean_of_rows(drawn.beta, rows.X, offset) + groups / 2
    own = response.latent_variance(middle, drawn.own)
    whole = fixed + groups + own
    names = [column.name for column in rows.spec.effect_columns]
    parts = {
        **{n: v / (groups + own) for n, v in zip(names, each.T, strict=True)},
        "R2 marginal": fixed / whole,
        "R2 conditional": (fixed + groups) / whole,
    }
    table = pd.DataFrame.from_dict({k: describe(v, prob) for k, v in parts.items()}, orient="index")
    table.index.name = "share"
    return table


def _variance_of_fixed(beta: Array, X: Array) -> Array:
    """Variance over rows of X beta, shape (n,)."""
    centred = X - X.mean(axis=0)
    return np.asarray(np.einsum("ni,ij,nj->n", beta, centred.T @ centred / len(X), beta))


def _mean_of_rows(beta: Array, X: Array, offset: Array | float) -> Array:
    """Mean over rows of the linear predictor without effects, shape (n,)."""
    return np.asarray(beta @ X.mean(axis=0) + np.mean(offset))

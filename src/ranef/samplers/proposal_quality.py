"""Whether proposals cover the posterior: acceptance and tail of weights (mathematics.md, 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.samplers.sample import PosteriorSample

__all__ = ["LARGEST_K", "LEAST_ACCEPTANCE", "pareto_k", "shortfall"]

# Vehtari et al. (2024), Journal of Machine Learning Research 25, 72: above it, importance
# weights are no good in practice.
LARGEST_K = 0.7
LEAST_ACCEPTANCE = 0.5
# Fewer weights than this tell too little of their tail to act on.
_ENOUGH = 400
# Log weights that span less than this have no tail to speak of: all proposals count the same within
# ten percent. The index does not see their size: interpolation errors of a thousandth, with a tail
# of their own, would read as heavy.
_EVEN = 0.1


def pareto_k(log_weight: Array) -> float | None:
    """Tail index of importance weights.

    Parameters
    ----------
    log_weight
        Log target minus log proposal density, shape (n,).

    Returns
    -------
    float or None
        Minus infinity where the weights hardly vary, infinity where no tail fits them; None for
        fewer than 25, which have no tail to fit.
    """
    from arviz_stats.base import array_stats

    if len(log_weight) < 25:
        return None
    if np.ptp(log_weight) < _EVEN:
        return -np.inf
    # psislw takes log likelihoods, whose inverses are the weights of leave-one-out.
    with np.errstate(all="ignore"):
        k = float(array_stats.psislw(-log_weight)[1])
    return np.inf if np.isnan(k) else k


def shortfall(sample: PosteriorSample) -> str | None:
    """Say in what the proposals fall short of the posterior.

    Parameters
    ----------
    sample
        Draws by independence Metropolis.

    Returns
    -------
    str or None
        For people; None where nothing is wrong, or too few draws were made to tell.
    """
    if sample.accepted is None or sample.log_weight is None or sample.accepted.size < _ENOUGH:
        return None
    acceptance, k = float(sample.accepted.mean()), pareto_k(sample.log_weight.ravel())
    if acceptance >= LEAST_ACCEPTANCE and (k is None or k <= LARGEST_K):
        return None
    return f"acceptance {acceptance:.0%}" + ("" if k is None else f", Pareto k-hat {k:.2f}")

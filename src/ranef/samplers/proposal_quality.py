"""Whether proposals cover the posterior: acceptance, weights and repeats (mathematics.md, 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.samplers.sample import PosteriorSample

__all__ = [
    "LARGEST_K",
    "ProposalQuality",
    "pareto_k",
    "proposal_quality",
    "shortfall",
]

# Vehtari et al. (2024), Journal of Machine Learning Research 25, 72: above it, importance
# weights are no good in practice.
LARGEST_K = 0.7
LEAST_ACCEPTANCE = 0.5
# Share of the draws that one value may make up, and repeats that chance alone brings about.
LARGEST_SHARE, CHANCE_REPEATS = 0.005, 10
# Where fewer proposals are accepted, draws are moved on.
GOOD_ACCEPTANCE = 0.8
# Draws count as independent where nearly all are fresh.
INDEPENDENT = 0.95
# Fewer weights than this tell too little of their tail to act on.
_ENOUGH = 400
# Squared coefficient of variation of the weights below which they have no tail to speak of. The
# index does not see their size: interpolation errors of a thousandth, or a slight excess of the
# target at a hard bound, with a tail of their own, would read as heavy.
_EVEN = 0.01


@dataclass(frozen=True)
class ProposalQuality:
    """How well independent proposals cover the posterior.

    Attributes
    ----------
    acceptance
        Share of proposals accepted.
    longest_repeat
        How many times the most stubborn draw stands in a row.
    pareto_k
        See `pareto_k`.
    draws
        Number of draws.
    """

    acceptance: float
    longest_repeat: int
    pareto_k: float | None
    draws: int

    @property
    def problems(self) -> tuple[str, ...]:
        """What speaks against draws from them; empty if nothing does."""
        found = []
        if self.pareto_k is not None and self.pareto_k > LARGEST_K:
            found.append(f"Pareto k-hat {self.pareto_k:.2f} exceeds {LARGEST_K}")
        if self.acceptance < LEAST_ACCEPTANCE:
            found.append(f"acceptance {self.acceptance:.0%} is below {LEAST_ACCEPTANCE:.0%}")
        if self.longest_repeat > max(CHANCE_REPEATS, LARGEST_SHARE * self.draws):
            found.append(f"one draw is repeated {self.longest_repeat} times in a row")
        return tuple(found)

    @property
    def independent(self) -> bool:
        """Whether the draws may be called so: nearly all are fresh, and nothing speaks against."""
        return self.acceptance >= INDEPENDENT and not self.problems


def proposal_quality(accepted: Array, log_weight: Array) -> ProposalQuality:
    """Judge proposals by what became of them.

    Parameters
    ----------
    accepted
        Whether each draw is a fresh proposal, in the order of drawing, any shape.
    log_weight
        Log target minus log proposal density of every proposal, of the same shape.

    Returns
    -------
    ProposalQuality

    Examples
    --------
    >>> fresh = np.array([True, True, False, False, True])
    >>> proposal_quality(fresh, np.zeros(5)).longest_repeat
    3
    """
    fresh = np.append(np.flatnonzero(accepted), np.size(accepted))
    longest = int(np.diff(fresh, prepend=0).max(initial=1))
    k = pareto_k(log_weight.ravel())
    return ProposalQuality(float(np.mean(accepted)), longest, k, int(np.size(accepted)))


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
    weight = np.exp(log_weight - log_weight.max())
    if weight.var() <= _EVEN * weight.mean() ** 2:
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
    return "; ".join(proposal_quality(sample.accepted, sample.log_weight).problems) or None

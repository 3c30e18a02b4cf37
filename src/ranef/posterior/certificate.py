"""How far draws can be trusted: acceptance, weights, repeats, effective sample sizes, R-hat."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.likelihood.interpolation.surrogate import LARGEST_ERROR
from ranef.samplers.proposal_quality import proposal_quality

if TYPE_CHECKING:
    import xarray as xr

    from ranef.samplers.proposal_quality import ProposalQuality

__all__ = ["Certificate", "certify"]

# Four chains' worth of what Vehtari et al. (2021) ask for; of tails half, at which the share of
# draws beyond a 5% quantile is known to 1.5 percentage points.
LEAST_ESS, LEAST_TAIL_ESS = 400, 200
# At which four draws of one particle are worth three and a half.
LARGEST_MEMORY = 0.05


@dataclass(frozen=True)
class Certificate:
    """What stands behind the draws.

    Attributes
    ----------
    method
        The sampler that drew: `exact` or `gibbs`.
    draws
        Number of draws.
    ess, ess_tail
        Smallest effective sample size among coefficients and SDs, of the bulk and of the tails
        (Vehtari et al. 2021).
    proposals
        How well independent proposals cover the posterior; None for Gibbs and particles.
    r_hat
        Largest R-hat; None for independent proposals, which have no chains to compare.
    structure
        How the likelihood was evaluated.
    surrogate_error
        Largest error of an interpolated log likelihood at fresh points, in nats; None where the
        likelihood itself was evaluated.
    memory
        Largest correlation of annealed draws with where they began, or of draws that began as one
        particle; None for other samplers.
    quadrature_error
        Largest error of log likelihoods that are integrated numerically, at draws, in nats; None
        where effects integrate out in closed form.
    """

    method: str
    draws: int
    ess: float
    ess_tail: float
    proposals: ProposalQuality | None
    r_hat: float | None
    structure: str = ""
    surrogate_error: float | None = None
    memory: float | None = None
    quadrature_error: float | None = None

    @property
    def acceptance(self) -> float | None:
        """Share of proposals accepted; None for Gibbs and particles."""
        return None if self.proposals is None else self.proposals.acceptance

    @property
    def pareto_k(self) -> float | None:
        """Tail index of the proposals' importance weights (Vehtari et al. 2024).

        Under 0.7 the proposals cover the posterior. None for Gibbs and particles, and for fewer
        than 25 draws; minus infinity where the weights hardly vary.
        """
        return None if self.proposals is None else self.proposals.pareto_k

    @property
    def kind(self) -> str:
        """What the draws may be called: `independent draws`, or draws worth so many."""
        if self.proposals is not None and self.proposals.independent:
            return "independent draws"
        name = "Gibbs " if self.method == "gibbs" else ""
        return f"{name}draws, effective {self.ess:,.0f},"

    @property
    def problems(self) -> tuple[str, ...]:
        """What speaks against the draws; empty if nothing does."""
        found = [] if self.proposals is None else list(self.proposals.problems)
        if self.r_hat is not None and self.r_hat > 1.01:
            found.append(f"R-hat {self.r_hat:.3f} exceeds 1.01")
        if self.memory is not None and self.memory > LARGEST_MEMORY:
            found.append(f"draws remember where they began (correlation {self.memory:.2f})")
        if self.surrogate_error is not None and self.surrogate_error > LARGEST_ERROR:
            found.append(f"the interpolation is off by {self.surrogate_error:.2g} nats")
        if self.quadrature_error is not None and not self.quadrature_error < LARGEST_ERROR:
            found.append(f"the quadrature is off by {self.quadrature_error:.2g} nats")
        if self.ess < LEAST_ESS:
            found.append(f"the smallest ESS is {self.ess:.0f}, below {LEAST_ESS}")
        elif self.ess_tail < LEAST_TAIL_ESS:
            found.append(
                f"the smallest ESS of a tail is {self.ess_tail:.0f}, below {LEAST_TAIL_ESS}"
            )
        return tuple(found)

    @property
    def trusted(self) -> bool:
        """True if nothing speaks against the draws."""
        return not self.problems

    def __str__(self) -> str:
        """One line for people."""
        parts = []
        if self.proposals is not None:
            parts.append(f"acceptance {100 * self.proposals.acceptance:.1f}%")
        if self.pareto_k is not None:
            even = np.isneginf(self.pareto_k)
            parts.append("weights even" if even else f"Pareto k\u0302 {self.pareto_k:.2f}")
        parts.append(f"ESS {self.ess:,.0f} of {self.draws:,} draws")
        if self.r_hat is not None:
            parts.append(f"R\u0302 {self.r_hat:.3f}")
        if self.surrogate_error is not None:
            parts.append(f"interpolation error {self.surrogate_error:.1g}")
        if self.quadrature_error is not None:
            parts.append(f"quadrature error {self.quadrature_error:.1g}")
        sentence = ", ".join(parts)
        if self.memory is not None:
            sentence += f"; draws moved on, correlation with where they began {self.memory:.2f}"
        return sentence if self.trusted else f"{sentence}. {self.warning}"

    @property
    def warning(self) -> str:
        """What stands first where draws are not to be trusted; empty where they are."""
        return "" if self.trusted else f"DO NOT TRUST: {'; '.join(self.problems)}"


def certify(tree: xr.DataTree) -> Certificate:
    """Compute the certificate of labelled draws.

    Parameters
    ----------
    tree
        From `ranef.posterior.tree.to_tree`.

    Returns
    -------
    Certificate
    """
    from arviz_stats.base import array_stats

    posterior = tree["posterior"].to_dataset()
    effects = json.loads(tree.attrs["effects"])
    arrays = []
    for name, values in posterior.data_vars.items():
        if name not in effects:
            array = values.transpose("chain", "draw", ...).to_numpy()
            arrays.append(array.reshape(*array.shape[:2], -1))
    stacked = np.concatenate(arrays, axis=2)
    chains, draws = stacked.shape[:2]
    ess, ess_tail = (
        min(
            float(array_stats.ess(stacked[:, :, j], chain_axis=0, draw_axis=1, **method))
            for j in range(stacked.shape[2])
        )
        for method in ({"method": "bulk"}, {"method": "tail", "prob": (0.05, 0.95)})
    )
    stats = tree["sample_stats"]
    proposals = r_hat = None
    if "accepted" in stats:
        proposals = proposal_quality(stats["accepted"].to_numpy(), stats["log_weight"].to_numpy())
    else:
        r_hat = max(
            float(array_stats.rhat(stacked[:, :, j], chain_axis=0, draw_axis=1))
            for j in range(stacked.shape[2])
        )
    # Rank-normalised ESS of independent draws scatters around their number; it cannot exceed it.
    return Certificate(
        method=str(tree.attrs["method"]),
        draws=chains * draws,
        ess=min(ess, float(chains * draws)) if "accepted" in stats else ess,
        ess_tail=ess_tail,
        proposals=proposals,
        r_hat=r_hat,
        structure=str(tree.attrs["structure"]),
        surrogate_error=tree.attrs.get("surrogate_error"),
        memory=tree.attrs.get("memory"),
        quadrature_error=tree.attrs.get("quadrature_error"),
    )

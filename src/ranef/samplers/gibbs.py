"""The textbook Gibbs sampler of a random-intercept model, several chains side by side.

It shares no step with the exact sampler beyond the compressed data, so the two answer every
question twice. It moves slowly where effects and intercept trade places and where a variance is
near zero; R-hat and ESS tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.marginal.random_intercept import RandomIntercept
from ranef.progress import track
from ranef.samplers.posterior import Points, Sample

if TYPE_CHECKING:
    from ranef.model import Model
    from ranef.priors import ScalePrior
    from ranef.samplers.posterior import Request
    from ranef.types import Array

__all__ = ["sample_gibbs"]


def sample_gibbs(model: Model, request: Request, rng: np.random.Generator) -> Sample:
    """Run the full conditionals in turn: coefficients, effects, the two variances.

    Parameters
    ----------
    model
        Data and priors.
    request
        How many draws, chains and warm-up sweeps.
    rng
        Source of random numbers.

    Returns
    -------
    Sample

    Notes
    -----
    The effects' conditional is `b_i ~ N(V m (ybar_i - xbar_i' beta) / sigma^2, V)` with
    `V = 1 / (1/sigma_b^2 + m/sigma^2)`. A variance whose prior is no inverse gamma is proposed
    from the inverse gamma that the data give alone and accepted by the ratio of priors, a
    Metropolis step with stationary distribution the full conditional (Tierney 1994).
    """
    design, chains, p = model.design, request.chains, model.design.p
    kept = request.draws // chains
    count = design.size[design.size_index]
    # X~ is orthonormal, so a rotation that makes the prior precision diagonal leaves both so.
    proper = model.prior_precision > 0
    root = np.sqrt(model.prior_precision[proper])[:, None] * design.T[proper]
    _, values, Qh = np.linalg.svd(root)
    Q, precision = Qh.T, np.zeros(p)
    precision[: len(values)] = values**2
    offset = np.where(proper, model.prior_mean - design.beta_ls, 0.0)
    prior_best = Q.T @ np.linalg.solve(design.T, offset) if p else offset
    xbar, ybar = design.mean[:, :p] @ Q, design.mean[:, p]
    within = np.zeros((p + 1, p + 1))
    within[:p, :p] = Q.T @ design.within[:p, :p] @ Q
    within[:p, p] = within[p, :p] = Q.T @ design.within[:p, p]
    within[p, p] = design.within[p, p]

    total = within[p, p] + float(count @ ybar**2)
    sigma2 = _inside(model.sigma, total / design.N * np.exp(rng.normal(0, 1, chains)))
    group2 = _inside(model.group, total / design.N * np.exp(rng.normal(0, 1, chains)))
    b = np.zeros((chains, design.G))
    beta = np.zeros((chains, p))
    out_rho, out_tau = np.empty((chains, kept)), np.empty((chains, kept))
    out_beta = np.empty((chains, kept, p))
    out_b = np.empty((chains, kept, design.G)) if request.effects else None
    for sweep in track(range(request.warmup + kept), "Gibbs", show=request.progress):
        if p:
            spread = 1 / (1 / sigma2[:, None] + precision)
            pull = -(b * count) @ xbar / sigma2[:, None] + precision * prior_best
            beta = spread * pull + np.sqrt(spread) * rng.standard_normal((chains, p))
        gap = ybar - beta @ xbar.T
        V = 1 / (1 / group2[:, None] + count / sigma2[:, None])
        b = V * count * gap / sigma2[:, None] + np.sqrt(V) * rng.standard_normal(b.shape)
        group2 = _variance(model.group, group2, design.G, (b**2).sum(axis=1), rng)
        c = np.concatenate([-beta, np.ones((chains, 1))], axis=1)
        rest = np.einsum("ci,ij,cj->c", c, within, c) + ((gap - b) ** 2) @ count
        sigma2 = _variance(model.sigma, sigma2, design.N, rest, rng)
        at = sweep - request.warmup
        if at >= 0:
            out_rho[:, at] = np.log(group2 / sigma2)
            out_tau[:, at] = 0.5 * np.log(sigma2)
            out_beta[:, at] = beta
            if out_b is not None:
                out_b[:, at] = b
    rho, tau = out_rho.ravel(), out_tau.ravel()
    return Sample(
        rho=out_rho,
        tau=out_tau,
        beta=model.design.beta_ls + out_beta @ (design.T @ Q).T,
        log_density=RandomIntercept(model).log_density(rho, tau).reshape(out_rho.shape),
        accepted=None,
        log_weight=None,
        points=Points(rho, tau, np.full(len(rho), 1 / len(rho)), np.exp(2 * tau)),
        log_marginal_likelihood=None,
        effects=out_b,
    )


def _inside(prior: ScalePrior, variance: Array) -> Array:
    """Move starting values into the prior's support, which Metropolis steps never leave."""
    low, high = prior.support
    margin = 1e-3 * (high - low if np.isfinite(high) else low)
    return np.asarray(np.clip(np.sqrt(variance), low + margin, high - margin) ** 2)


def _variance(
    prior: ScalePrior, current: Array, n: int, squares: Array, rng: np.random.Generator
) -> Array:
    """Update a variance given n deviations with this sum of squares, one for each chain."""
    if prior.inverse_gamma is not None:
        a, b = prior.inverse_gamma
        return np.asarray((b + squares / 2) / rng.standard_gamma(a + n / 2, len(squares)))
    proposal = squares / 2 / rng.standard_gamma(n / 2, len(squares))
    ratio = prior.log_density(0.5 * np.log(proposal)) - prior.log_density(0.5 * np.log(current))
    accepted = np.log(rng.random(len(squares))) < ratio
    return np.where(accepted, proposal, current)

"""The textbook Gibbs sampler of a Gaussian mixed model, several chains side by side.

It shares no step with the exact sampler beyond the compressed data, so the two answer every
question twice. Each factor's effects are a block, and what effects and coefficients can trade is
redrawn in each sweep. It moves slowly where a variance is near zero; R-hat and ESS tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.correlations import correlation_root
from ranef.marginal.blocks import cross_block, factor_block, total_products
from ranef.marginal.mixed import Mixed
from ranef.marginal.random_intercept import RandomIntercept
from ranef.progress import track
from ranef.samplers.posterior import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.marginal.blocks import CrossBlock, FactorBlock
    from ranef.mixed_model import Model
    from ranef.parameters import Layout, TermPrior
    from ranef.priors import ScalePrior
    from ranef.samplers.posterior import Request
    from ranef.types import Array

__all__ = ["sample_gibbs"]

# Metropolis steps on a term's SDs and correlations in each sweep, and their proposal's size: SDs
# of log SDs are about 1 / sqrt(2 G).
_STEPS = 3


def sample_gibbs(model: Model, request: Request, rng: np.random.Generator) -> Sample:
    """Run the full conditionals in turn: coefficients, each factor's effects, the variances.

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
    A random intercept's conditional is `b_i ~ N(V m (ybar_i - …) / sigma^2, V)` with
    `V = 1 / (1/sigma_b^2 + m/sigma^2)`; with several columns the same holds with matrices. A
    variance whose prior is no inverse gamma is proposed from the inverse gamma that the data give
    alone and accepted by the ratio of priors; the SDs and correlations of correlated columns take
    random-walk steps. Both are Metropolis steps with the full conditional as stationary
    distribution (Tierney 1994).
    """
    design, layout, chains, p = model.design, model.layout, request.chains, model.design.p
    kept = request.draws // chains
    blocks = [factor_block(design, f) for f in range(len(design.factors))]
    crosses = {
        (f, g): cross_block(design, f, g)
        for f in range(len(blocks))
        for g in range(len(blocks))
        if f != g
    }
    total = total_products(design)
    # X~ is orthonormal, so a rotation that makes the prior precision diagonal leaves both so.
    proper = model.prior_precision > 0
    root = np.sqrt(model.prior_precision[proper])[:, None] * design.T[proper]
    _, values, Qh = np.linalg.svd(root)
    Q, precision = Qh.T, np.zeros(p)
    precision[: len(values)] = values**2
    offset = np.where(proper, model.prior_mean - design.beta_ls, 0.0)
    prior_best = Q.T @ np.linalg.solve(design.T, offset) if p else offset
    gram = total.copy()
    gram[:p, :p] = Q.T @ total[:p, :p] @ Q
    gram[:p, p] = gram[p, :p] = Q.T @ total[:p, p]
    ZX = [b.ZV[:, :, :p] @ Q for b in blocks]
    Zy = [b.ZV[:, :, p] for b in blocks]

    moves = {
        f: move
        for f, block in enumerate(blocks)
        if (move := _translation(block.ZZ, ZX[f])) is not None
    }

    spread = total[p, p] / design.count.sum()
    if layout.sigma is None:
        sigma2 = np.full(chains, np.exp(2 * layout.known))
    else:
        begin = 0.5 * np.log(spread) + rng.normal(0, 0.25, chains)
        sigma2 = np.exp(2 * _inside(layout.sigma, begin))
    eta = np.zeros((chains, layout.size))
    for term, (log_sd, _) in zip(layout.terms, layout.split(eta), strict=True):
        sizes = np.array([_column_size(blocks[term.factor].ZZ, j) for j in term.place])
        begin = 0.5 * np.log(spread) - np.log(sizes) + rng.normal(-0.7, 0.7, log_sd.shape)
        log_sd[:] = begin
        for j, prior in enumerate(term.scales):
            log_sd[:, j] = _inside(prior, begin[:, j])
    b = [np.zeros((chains, *block.ZZ.shape[:2])) for block in blocks]
    beta = np.zeros((chains, p))
    out_eta = np.empty((chains, kept, layout.size))
    out_beta = np.empty((chains, kept, p))
    names = [name for term in layout.terms for name in term.names]
    moments: dict[str, list[Array]] = {name: [np.zeros(1), np.zeros(1)] for name in names}
    stored = {
        name: np.empty((chains, kept, len(b[t.factor][0])))
        for t in layout.terms
        for name in t.names
        if name in request.effects
    }
    for sweep in track(range(request.warmup + kept), "Gibbs", show=request.progress):
        if p:
            pull = sum(np.einsum("cgq,gqk->ck", e, zx) for e, zx in zip(b, ZX, strict=True))
            narrow = 1 / (1 / sigma2[:, None] + precision)
            mean = narrow * ((gram[:p, p] - pull) / sigma2[:, None] + precision * prior_best)
            beta = mean + np.sqrt(narrow) * rng.standard_normal((chains, p))
        if layout.sigma is not None:
            eta[:, -1] = 0.5 * np.log(sigma2)
        roots = layout.roots(eta)
        for f, block in enumerate(blocks):
            score = Zy[f] - np.einsum("gqk,ck->cgq", ZX[f], beta)
            for g in range(len(blocks)):
                if g != f:
                    cross = crosses[f, g]
                    part = np.einsum("kab,ckb->cka", cross.values, b[g][:, cross.column])
                    for c in range(chains):
                        for a in range(score.shape[2]):
                            score[c, :, a] -= np.bincount(
                                cross.row, part[c, :, a], minlength=score.shape[1]
                            )
            b[f] = _draw_block(block.ZZ, roots[f], score, sigma2, rng)
        for f, move in moves.items():
            _translate(b[f], beta, move, roots[f], sigma2, precision, prior_best, rng)
        for term, part in zip(layout.terms, layout.split(eta), strict=True):
            own = b[term.factor][:, :, list(term.place)]
            if layout.shares is None:
                _update_term(term, part, own, rng)
            else:
                _update_shares(layout, eta, term, part, own, rng)
        if layout.sigma is not None:
            rest = _residual(gram, ZX, Zy, blocks, crosses, b, beta)
            if layout.shares is None:
                sigma2 = _variance(layout.sigma, sigma2, design.N, rest, rng)
                eta[:, -1] = 0.5 * np.log(sigma2)
            else:
                _move(layout.log_prior, eta, eta[:, -1], design.N, rest, rng)
                sigma2 = np.exp(2 * eta[:, -1])
        at = sweep - request.warmup
        if at >= 0:
            out_eta[:, at], out_beta[:, at] = eta, beta
            for term in layout.terms:
                for j, name in zip(term.place, term.names, strict=True):
                    effect = b[term.factor][:, :, j]
                    moments[name][0] = moments[name][0] + effect.sum(axis=0)
                    moments[name][1] = moments[name][1] + (effect**2).sum(axis=0)
                    if name in stored:
                        stored[name][:, at] = effect
    return _collect(model, out_eta, out_beta @ (design.T @ Q).T, moments, stored)


def _column_size(ZZ: Array, j: int) -> float:
    """Root mean square of a group column, to start its SD in the right units."""
    return float(np.sqrt(ZZ[:, j, j].sum() / max(ZZ[:, 0, 0].sum(), 1e-300))) or 1.0


def _draw_block(
    ZZ: Array, L: Array, score: Array, sigma2: Array, rng: np.random.Generator
) -> Array:
    """Draw one factor's effects, shape (chains, G, q), L its relative Cholesky factor."""
    q = L.shape[1]
    A = L.transpose(0, 2, 1)[:, None] @ ZZ @ L[:, None] + np.eye(q)
    F = np.linalg.cholesky(A)
    inner = np.linalg.solve(F, (L.transpose(0, 2, 1)[:, None] @ score[..., None]))
    inner += np.sqrt(sigma2)[:, None, None, None] * rng.standard_normal(inner.shape)
    return np.asarray((L[:, None] @ np.linalg.solve(F.swapaxes(2, 3), inner))[..., 0])


def _translation(ZZ: Array, ZX: Array) -> Array | None:
    """Coefficients V with X~ V = the factor's columns without their levels, if X holds them all.

    Moving all levels' effects by -d and the coefficients by V d then leaves the mean as it is.
    """
    V = ZX.sum(axis=0).T  # X~ is orthonormal, so X~'z gives the coefficients
    gap = np.diag(ZZ.sum(axis=0)) - (V**2).sum(axis=0)
    scale = np.maximum(np.diag(ZZ.sum(axis=0)), 1e-300)
    return V if V.size and np.all(np.abs(gap) <= 1e-9 * scale) else None


def _translate(
    b: Array,
    beta: Array,
    V: Array,
    L: Array,
    sigma2: Array,
    precision: Array,
    prior_best: Array,
    rng: np.random.Generator,
) -> None:
    """Redraw what effects and coefficients trade: b - d, beta + V d, in place.

    The likelihood does not change along d, so d given the rest is Gaussian by the priors alone
    (Liu and Sabatti 2000, Biometrika 87, 353). Without it intercept and effects mix slowly.
    """
    G, q = b.shape[1:]
    inverse = np.linalg.inv(sigma2[:, None, None] * (L @ L.transpose(0, 2, 1)))
    A = G * inverse + V.T @ (precision[:, None] * V)
    right = np.einsum("cqr,cr->cq", inverse, b.sum(axis=1))
    right -= (precision * (beta - prior_best)) @ V
    F = np.linalg.cholesky(A)
    inner = np.linalg.solve(F, right[..., None]) + rng.standard_normal((len(b), q, 1))
    d = np.linalg.solve(F.transpose(0, 2, 1), inner)[..., 0]
    b -= d[:, None]
    beta += d @ V.T


def _residual(
    gram: Array,
    ZX: list[Array],
    Zy: list[Array],
    blocks: list[FactorBlock],
    crosses: dict[tuple[int, int], CrossBlock],
    b: list[Array],
    beta: Array,
) -> Array:
    """Residual sum of squares of each chain, from cross-products alone."""
    p = beta.shape[1]
    c = np.concatenate([-beta, np.ones((len(beta), 1))], axis=1)
    rest = np.einsum("ci,ij,cj->c", c, gram, c)
    for f, block in enumerate(blocks):
        score = Zy[f] - np.einsum("gqk,ck->cgq", ZX[f], beta) if p else Zy[f][None]
        rest = rest - 2 * np.einsum("cgq,cgq->c", b[f], np.broadcast_to(score, b[f].shape))
        rest = rest + np.einsum("cga,gab,cgb->c", b[f], block.ZZ, b[f], optimize=True)
        for g in range(f):
            cross = crosses[f, g]
            rest = rest + 2 * np.einsum(
                "cka,kab,ckb->c", b[f][:, cross.row], cross.values, b[g][:, cross.column],
                optimize=True,
            )  # fmt: skip
    return np.asarray(np.maximum(rest, 0.0))


def _update_term(
    term: TermPrior, part: tuple[Array, Array], effects: Array, rng: np.random.Generator
) -> None:
    """Update a term's log SDs and correlations in place, given effects (chains, G, q)."""
    log_sd, z = part
    squares = np.einsum("cgi,cgj->cij", effects, effects)
    G = effects.shape[1]
    if term.wishart is not None:
        for c, square in enumerate(squares):
            log_sd[c : c + 1], z[c : c + 1] = term.wishart.given(G, square).draw(rng, 1)
    elif term.correlations:
        _walk(term.log_prior, log_sd, z, squares, G, rng)
    else:
        for j, prior in enumerate(term.scales):
            current = np.exp(2 * log_sd[:, j])
            log_sd[:, j] = 0.5 * np.log(_variance(prior, current, G, squares[:, j, j], rng))


def _update_shares(
    layout: Layout,
    eta: Array,
    term: TermPrior,
    part: tuple[Array, Array],
    effects: Array,
    rng: np.random.Generator,
) -> None:
    """Update a term in place where the prior joins all standard deviations."""
    log_sd, z = part
    squares = np.einsum("cgi,cgj->cij", effects, effects)
    G = effects.shape[1]
    if not term.correlations:
        for j in range(log_sd.shape[1]):
            _move(layout.log_prior, eta, log_sd[:, j], G, squares[:, j, j], rng)
        return

    def log_prior(sds: Array, zs: Array) -> Array:
        kept = log_sd.copy(), z.copy()
        log_sd[:], z[:] = sds, zs  # parts of eta
        out = layout.log_prior(eta)
        log_sd[:], z[:] = kept
        return out

    _walk(log_prior, log_sd, z, squares, G, rng)


def _walk(
    log_prior: Callable[[Array, Array], Array],
    log_sd: Array,
    z: Array,
    squares: Array,
    G: int,
    rng: np.random.Generator,
) -> None:
    """Random-walk Metropolis on correlated effects' log SDs and correlations, in place."""
    q = log_sd.shape[1]

    def log_target(sds: Array, zs: Array) -> Array:
        root = np.exp(sds)[:, :, None] * correlation_root(zs, q)
        half = np.linalg.solve(root, np.linalg.cholesky(squares + 1e-300 * np.eye(q)))
        out = -0.5 * (half**2).sum(axis=(1, 2))
        out = out - G * np.log(np.einsum("cii->ci", root)).sum(axis=1)
        return np.asarray(out + log_prior(sds, zs))

    value = log_target(log_sd, z)
    for _ in range(_STEPS):
        size = rng.choice([0.5, 1.0, 2.0]) / np.sqrt(G)
        new_sd = log_sd + size * rng.standard_normal(log_sd.shape)
        new_z = z + size * rng.standard_normal(z.shape)
        new = log_target(new_sd, new_z)
        accepted = np.log(rng.random(len(value))) < new - value
        log_sd[accepted], z[accepted] = new_sd[accepted], new_z[accepted]
        value = np.where(accepted, new, value)


def _move(
    log_prior: Callable[[Array], Array],
    eta: Array,
    log_sd: Array,
    n: int,
    squares: Array,
    rng: np.random.Generator,
) -> None:
    """Update one column of log SDs, a part of eta, in place under any joint prior.

    Proposals follow the n deviations' own likelihood, so the prior alone decides.
    """
    current, before = log_sd.copy(), log_prior(eta)
    log_sd[:] = 0.5 * np.log(squares / 2 / rng.standard_gamma(n / 2, len(squares)))
    accepted = np.log(rng.random(len(squares))) < log_prior(eta) - before
    log_sd[~accepted] = current[~accepted]


def _inside(prior: ScalePrior, log_sd: Array) -> Array:
    """Move starting values into the prior's support, which Metropolis steps never leave."""
    low, high = prior.support
    margin = 1e-3 * (high - low if np.isfinite(high) else low)
    return np.asarray(np.log(np.clip(np.exp(log_sd), low + margin, high - margin)))


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


def _log_density(model: Model, eta: Array) -> Array:
    """Log joint density of the variance parameters and the data, as exact draws record it."""
    if model.random_intercept:
        tau = model.layout.tau(eta)
        return RandomIntercept(model).log_density(2 * (eta[:, 0] - tau), tau)
    return Mixed(model).log_density(eta)


def _collect(
    model: Model,
    eta: Array,
    beta: Array,
    moments: dict[str, list[Array]],
    stored: dict[str, Array],
) -> Sample:
    """Label the draws."""
    chains, kept, d = eta.shape
    flat = eta.reshape(-1, d)
    n = chains * kept
    means = {k: v[0] / n for k, v in moments.items()}
    return Sample(
        sigma=None if model.layout.sigma is None else np.exp(eta[:, :, -1]),
        scales={k: v.reshape(chains, kept) for k, v in model.layout.scales(flat).items()},
        correlations={
            k: v.reshape(chains, kept, -1) for k, v in model.layout.correlations(flat).items()
        },
        beta=model.design.beta_ls + beta,
        log_density=_log_density(model, flat).reshape(chains, kept),
        accepted=None,
        log_weight=None,
        moments={
            k: (means[k], np.sqrt(np.maximum(v[1] / n - means[k] ** 2, 0.0)))
            for k, v in moments.items()
        },
        effects=stored,
        structure="full conditionals, a block for each factor",
    )

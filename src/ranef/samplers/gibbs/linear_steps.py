"""Normal steps of a sweep: coefficients, effects, and their trade (mathematics.md, section 6)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.samplers.gibbs.products import Products
    from ranef.samplers.gibbs.state import State

__all__ = ["draw_coefficients", "draw_effects", "residual_squares", "translate"]


def draw_coefficients(products: Products, state: State, rng: np.random.Generator) -> State:
    """Draw the coefficients given effects and variances."""
    p, precision = products.p, products.precision
    sigma2 = _sigma2(products, state)
    pairs = zip(state.effects, products.ZX, strict=True)
    pull = sum(np.einsum("cgq,gqk->ck", b, zx) for b, zx in pairs)
    narrow = 1 / (1 / sigma2[:, None] + precision)
    data = (products.gram[:p, p] - pull) / sigma2[:, None]
    mean = narrow * (data + precision * products.prior_best)
    return replace(state, beta=mean + np.sqrt(narrow) * rng.standard_normal(mean.shape))


def draw_effects(products: Products, factor: int, state: State, rng: np.random.Generator) -> State:
    """Draw one factor's effects, all levels at once, given everything else."""
    ZZ, b = products.blocks[factor].ZZ, list(state.effects)
    sigma2 = _sigma2(products, state)
    roots = _roots(products, state)
    L = roots[factor]
    score = products.Zy[factor] - np.einsum("gqk,ck->cgq", products.ZX[factor], state.beta)
    for other in range(len(b)):
        if other == factor:
            continue
        cross = products.crosses[factor, other]
        part = np.einsum("kab,ckb->cka", cross.values, b[other][:, cross.column])
        for c in range(len(score)):
            for a in range(score.shape[2]):
                score[c, :, a] -= np.bincount(cross.row, part[c, :, a], minlength=score.shape[1])
    q = L.shape[1]
    A = L.transpose(0, 2, 1)[:, None] @ ZZ @ L[:, None] + np.eye(q)
    F = np.linalg.cholesky(A)
    inner = np.linalg.solve(F, (L.transpose(0, 2, 1)[:, None] @ score[..., None]))
    inner += np.sqrt(sigma2)[:, None, None, None] * rng.standard_normal(inner.shape)
    b[factor] = (L[:, None] @ np.linalg.solve(F.swapaxes(2, 3), inner))[..., 0]
    return replace(state, effects=tuple(b), roots=roots)


def translate(products: Products, factor: int, state: State, rng: np.random.Generator) -> State:
    """Redraw what effects and coefficients trade: b - d, beta + V d.

    The likelihood does not change along d, so d given the rest is Gaussian by the priors alone
    (Liu and Sabatti 2000, Biometrika 87, 353). Without it intercept and effects mix slowly.
    """
    b, V, precision = state.effects[factor], products.moves[factor], products.precision
    roots = _roots(products, state)
    L = roots[factor]
    G, q = b.shape[1:]
    covariance = _sigma2(products, state)[:, None, None] * (L @ L.transpose(0, 2, 1))
    inverse = np.linalg.inv(covariance)
    A = G * inverse + V.T @ (precision[:, None] * V)
    right = np.einsum("cqr,cr->cq", inverse, b.sum(axis=1))
    right -= (precision * (state.beta - products.prior_best)) @ V
    F = np.linalg.cholesky(A)
    inner = np.linalg.solve(F, right[..., None]) + rng.standard_normal((len(b), q, 1))
    d = np.linalg.solve(F.transpose(0, 2, 1), inner)[..., 0]
    effects = list(state.effects)
    effects[factor] = b - d[:, None]
    return replace(state, beta=state.beta + d @ V.T, effects=tuple(effects), roots=roots)


def residual_squares(products: Products, state: State) -> Array:
    """Residual sum of squares of each chain, from cross-products alone."""
    b, beta, blocks = state.effects, state.beta, products.blocks
    c = np.concatenate([-beta, np.ones((len(beta), 1))], axis=1)
    rest = np.einsum("ci,ij,cj->c", c, products.gram, c)
    for f, block in enumerate(blocks):
        score = products.Zy[f][None]
        if products.p:
            score = score - np.einsum("gqk,ck->cgq", products.ZX[f], beta)
        rest = rest - 2 * np.einsum("cgq,cgq->c", b[f], np.broadcast_to(score, b[f].shape))
        rest = rest + np.einsum("cga,gab,cgb->c", b[f], block.ZZ, b[f], optimize=True)
        for g in range(f):
            cross = products.crosses[f, g]
            rest = rest + 2 * np.einsum(
                "cka,kab,ckb->c", b[f][:, cross.row], cross.values, b[g][:, cross.column],
                optimize=True,
            )  # fmt: skip
    return np.asarray(np.maximum(rest, 0.0))


def _roots(products: Products, state: State) -> list[Array]:
    """Relative Cholesky factors of the effects' covariances at the state."""
    return products.model.parameters.roots(state.theta) if state.roots is None else state.roots


def _sigma2(products: Products, state: State) -> Array:
    """Residual variance of each chain, known or drawn."""
    return np.asarray(np.exp(2 * products.model.parameters.log_sigma(state.theta)))

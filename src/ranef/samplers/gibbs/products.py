"""Cross-products, in coordinates that suit data and priors (mathematics.md, section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.likelihood.structures.factor_blocks import cross_block, factor_block, total_products

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.likelihood.structures.factor_blocks import CrossBlock, FactorBlock
    from ranef.mixed_model.model import ModelSpec

__all__ = ["Products", "products_of"]


@dataclass(frozen=True)
class Products:
    """Cross-products in coordinates where design and prior precision are both diagonal.

    Attributes
    ----------
    model
        Data and priors.
    turn
        Coefficients about least squares, in the user's coordinates, are `turn` times these, (p, p).
    precision, prior_best
        Prior precision and mean of each coefficient, shape (p,); a flat prior has precision zero.
    gram
        [X y]'[X y], shape (p + 1, p + 1).
    blocks
        Z'Z of each factor's levels.
    crosses
        Z_f'Z_g of each ordered pair of factors.
    ZX, Zy
        Z'X (G, q, p) and Z'y (G, q) of each factor.
    moves
        By factor, the coefficients (p, q) that stand for the same column of effects in every
        level; only factors whose columns are all among the fixed effects.
    """

    model: ModelSpec
    turn: Array
    precision: Array
    prior_best: Array
    gram: Array
    blocks: tuple[FactorBlock, ...]
    crosses: dict[tuple[int, int], CrossBlock]
    ZX: tuple[Array, ...]
    Zy: tuple[Array, ...]
    moves: dict[int, Array]

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return len(self.precision)


def products_of(model: ModelSpec) -> Products:
    """Compute the cross-products once for all sweeps.

    Parameters
    ----------
    model
        Data and priors.

    Returns
    -------
    Products
    """
    design, p = model.design, model.design.p
    factors = range(len(design.factors))
    blocks = tuple(factor_block(design, model.response, f) for f in factors)
    # X~ is orthonormal, so a rotation that makes the prior precision diagonal leaves both so.
    proper = model.prior_precision > 0
    root = np.sqrt(model.prior_precision[proper])[:, None] * design.T[proper]
    _, values, Qh = np.linalg.svd(root)
    Q, precision = Qh.T, np.zeros(p)
    precision[: len(values)] = values**2
    offset = np.where(proper, model.prior_mean - model.response.beta_ls, 0.0)
    total = total_products(design, model.response)
    gram = total.copy()
    gram[:p, :p] = Q.T @ total[:p, :p] @ Q
    gram[:p, p] = gram[p, :p] = Q.T @ total[:p, p]
    ZX = tuple(b.ZV[:, :, :p] @ Q for b in blocks)
    moves = {f: _translation(block.ZZ, ZX[f]) for f, block in enumerate(blocks)}
    return Products(
        model=model,
        turn=design.T @ Q,
        precision=precision,
        prior_best=Q.T @ np.linalg.solve(design.T, offset) if p else offset,
        gram=gram,
        blocks=blocks,
        crosses={(f, g): cross_block(design, f, g) for f in factors for g in factors if f != g},
        ZX=ZX,
        Zy=tuple(b.ZV[:, :, p] for b in blocks),
        moves={f: move for f, move in moves.items() if move is not None},
    )


def _translation(ZZ: Array, ZX: Array) -> Array | None:
    """Coefficients V with X~ V = the factor's columns without their levels, if X holds them all.

    Moving all levels' effects by -d and the coefficients by V d then leaves the mean as it is.
    """
    V = ZX.sum(axis=0).T  # X~ is orthonormal, so X~'z gives the coefficients
    gap = np.diag(ZZ.sum(axis=0)) - (V**2).sum(axis=0)
    scale = np.maximum(np.diag(ZZ.sum(axis=0)), 1e-300)
    return V if V.size and np.all(np.abs(gap) <= 1e-9 * scale) else None

"""Predictive distributions of rows: mixtures of normals over draws of the variance parameters.

Given the variance parameters, coefficients and effects are jointly normal, so with one grouping
factor the mean of a row, `x'beta + z'b`, is normal with moments in closed form: nothing but the
variance parameters is simulated (mathematics.md, sections 3 and 4.6). With several factors the
covariance between effects of different factors is not at hand, and effects of known groups are
drawn; those of new groups stay in closed form.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.level_posterior import joint_draws
from ranef.common import budget
from ranef.common.progress import status, track
from ranef.common.random_streams import split_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ranef.common.array_types import Array, IntArray
    from ranef.formula.new_rows import DesignRows
    from ranef.posterior.draws import PosteriorDraws

__all__ = ["Predictive", "components", "draw_rows", "prepare", "row_blocks"]


@dataclass(frozen=True)
class Predictive:
    """What predictions are made from, once for all rows.

    Attributes
    ----------
    drawn
        The posterior draws.
    use
        Which of them are used, shape (n,).
    sigma2
        Residual variance of a row of weight one, shape (n,).
    roots
        Relative Cholesky factors by factor, shape (n, q, q) each.
    mean
        Internal coefficients: their mean given the variance parameters, or the posterior draws of
        them, shape (n, p).
    root
        A root of their covariance, shape (n, p, p); None where `mean` holds draws.
    levels
        For each factor the levels whose effects were drawn, sorted.
    effects
        Draws of them, shape (n, len(levels), q) each; None where they are integrated out.
    """

    drawn: PosteriorDraws
    use: IntArray
    sigma2: Array
    roots: list[Array]
    mean: Array
    root: Array | None
    levels: list[IntArray]
    effects: list[Array] | None


def prepare(
    drawn: PosteriorDraws,
    rows: DesignRows,
    rng: np.random.Generator,
    *,
    draw: bool = False,
    show: bool = True,
) -> Predictive:
    """Collect what the predictions of rows need.

    Parameters
    ----------
    drawn
        The posterior draws.
    rows
        What will be predicted: effects of other levels are not kept.
    rng
        For the effects where they are drawn.
    draw
        Draw coefficients and effects even where they can be integrated out.
    show
        Show progress; False inside a loop that has a bar of its own.

    Returns
    -------
    Predictive
        Very large designs with several factors use every k-th draw.
    """
    target = drawn.target
    design, parameters = target.model.design, target.parameters
    n = len(drawn.theta)
    if target.structure.by_level is not None and not draw:
        mean, root = drawn.internal, None
        if n * target.structure.cost < budget.PREDICTED_ROWS.seconds:
            with status("Integrating the coefficients out") if show else nullcontext():
                mean, root = target.coefficients.moments(
                    target.profile(drawn.theta), drawn.log_sigma
                )
        every = np.arange(n)
        none = [np.empty(0, dtype=np.intp)] * len(design.factors)
        roots = parameters.roots(drawn.theta)
        return Predictive(drawn, every, np.exp(2 * drawn.log_sigma), roots, mean, root, none, None)
    levels = [
        np.unique(codes[(codes >= 0) & (codes < f.levels)])
        for codes, f in zip(rows.codes, design.factors, strict=True)
    ]
    kept = sum(len(k) * len(f.columns) for k, f in zip(levels, design.factors, strict=True))
    cost = target.structure.cost if kept else 0.0
    use = budget.PREDICTED_EFFECTS.draws(n, seconds=cost, numbers=kept)
    return Predictive(
        drawn=drawn,
        use=use,
        sigma2=np.exp(2 * drawn.log_sigma[use]),
        roots=parameters.roots(drawn.theta[use]),
        mean=drawn.internal[use],
        root=None,
        levels=levels,
        effects=_draw_effects(drawn, use, levels, rng, show),
    )


def _draw_effects(
    drawn: PosteriorDraws,
    use: IntArray,
    levels: list[IntArray],
    rng: np.random.Generator,
    show: bool,
) -> list[Array]:
    """Draw all effects jointly, keep those of some levels."""
    factors = drawn.target.model.design.factors
    out = [
        np.empty((len(use), len(k), len(f.columns))) for k, f in zip(levels, factors, strict=True)
    ]
    if not any(len(k) for k in levels):
        return out
    for part, blocks in joint_draws(drawn, use, rng, limits=budget.PREDICTED_EFFECTS, show=show):
        for f, kept in enumerate(levels):
            out[f][part] = blocks[f][:, kept]
    return out


def row_blocks(predictive: Predictive, rows: DesignRows, description: str) -> Iterator[slice]:
    """Yield blocks of rows that fit into memory beside all draws, with a bar where it takes long.

    Parameters
    ----------
    given
        From `prepare`.
    rows
        All rows.
    description
        Shown beside the bar.

    Yields
    ------
    slice
    """
    width = 4 + 2 * rows.X.shape[1] + sum(3 * z.shape[1] for z in rows.Z)
    blocks = budget.PREDICTED_ROWS.blocks(len(rows), len(predictive.use) * width)
    yield from track(blocks, description)


def components(predictive: Predictive, rows: DesignRows, part: slice) -> tuple[Array, Array]:
    """Normal components of the mean of each row, `offset + x'beta + z'b`.

    Parameters
    ----------
    given
        From `prepare`.
    rows, part
        Which rows.

    Returns
    -------
    mean, variance : numpy.ndarray
        Shape (n, r): given the i-th draw of the variance parameters (and, with several factors, of
        coefficients and known effects) the row's mean is normal with these. A level that is new
        adds its variance `z'Sigma z`.
    """
    target = predictive.drawn.target
    design = target.model.design
    fixed, inner = _fixed(predictive, rows, part)
    mean = fixed + predictive.mean @ inner.T
    variance = np.zeros_like(mean)
    slope = np.repeat(inner[None], len(mean), axis=0)
    for f, root in enumerate(predictive.roots):
        codes, Z = rows.codes[f][part], rows.Z[f][part]
        known = (codes >= 0) & (codes < design.factors[f].levels)
        if known.any() and predictive.effects is None:
            B, C = target.structure.at_rows([root], [codes[known]], [Z[known]])
            mean[:, known] += B[..., -1] - np.einsum("nrp,np->nr", B[..., :-1], predictive.mean)
            slope[:, known] -= B[..., :-1]
            variance[:, known] += predictive.sigma2[:, None] * C
        elif known.any():
            assert predictive.effects is not None
            place = np.searchsorted(predictive.levels[f], codes[known])
            mean[:, known] += np.einsum("nrq,rq->nr", predictive.effects[f][:, place], Z[known])
        if not known.all():
            spread = np.einsum("rq,nqk->nrk", Z[~known], root)
            variance[:, ~known] += predictive.sigma2[:, None] * np.einsum(
                "nrk,nrk->nr", spread, spread
            )
    if predictive.root is not None:
        spread = slope @ predictive.root
        variance += np.einsum("nrk,nrk->nr", spread, spread)
    return mean, variance


def _fixed(predictive: Predictive, rows: DesignRows, part: slice) -> tuple[Array, Array]:
    """What of the mean no draw changes, shape (r,), and the internal columns, shape (r, p)."""
    model, X = predictive.drawn.target.model, rows.X[part]
    return rows.offset[part] + X @ model.response.beta_ls, X @ model.design.T


def draw_rows(predictive: Predictive, rows: DesignRows, rng: np.random.Generator) -> Array:
    """Draw the rows jointly: rows of one level, known or new, share its effects.

    Parameters
    ----------
    given
        From `prepare` with `draw=True`.
    rows
        What to predict. Where effects are averaged over, every row is a group of its own; residuals
        are added where the rows hold weights.
    rng
        Source of random numbers.

    Returns
    -------
    numpy.ndarray
        Shape (n, m).
    """
    assert predictive.effects is not None
    fresh, noise = split_stream(rng, 2)
    fixed, inner = _fixed(predictive, rows, slice(None))
    out = fixed + predictive.mean @ inner.T
    n = len(out)
    for f, root in enumerate(predictive.roots):
        codes, Z = rows.codes[f], rows.Z[f]
        G, q = predictive.drawn.target.model.design.factors[f].levels, Z.shape[1]
        known, alone = np.flatnonzero((codes >= 0) & (codes < G)), np.flatnonzero(codes == -1)
        unseen = np.flatnonzero(codes >= G)
        place = np.searchsorted(predictive.levels[f], codes[known])
        out[:, known] += _times(predictive.effects[f], place, Z[known])
        for at, place, count in (
            (unseen, codes[unseen] - G, len(rows.new_levels[f])),
            (alone, np.arange(len(alone)), len(alone) if Z.any() else 0),
        ):
            if count:
                z = fresh.standard_normal((n, count, q))
                b = np.einsum("n,nqk,nck->ncq", np.sqrt(predictive.sigma2), root, z, optimize=True)
                out[:, at] += _times(b, place, Z[at])
    if rows.weights is not None:
        scale = np.sqrt(predictive.sigma2)[:, None] / np.sqrt(rows.weights)
        out += scale * noise.standard_normal(out.shape)
    return out


def _times(b: Array, place: IntArray, Z: Array) -> Array:
    """Z b of each row for effects (n, levels, q), shape (n, m)."""
    out = np.zeros((len(b), len(place)))
    for k in range(Z.shape[1]):
        out += b[:, place, k] * Z[:, k]
    return out

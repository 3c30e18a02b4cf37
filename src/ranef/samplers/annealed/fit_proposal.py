"""Proposals at modes, and fitted to weighted points (mathematics.md, 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from ranef.samplers.annealed.proposal import Part, Proposal, Reach

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = ["MOVING", "NARROW", "WIDE", "fit_proposal", "proposal_at"]

WIDE = Reach(df=30.0, share=0.1, width=1.6)
# Of moves: they pay little for what lies wide, and free the draws that are held far out.
MOVING = Reach(df=30.0, share=0.3, width=1.8)
# Where what lies far out costs a likelihood each.
NARROW = Reach(df=30.0, share=0.05, width=1.3)
# Around modes: the wide share finds tails and shoulders that curvature misses.
_FIRST = Reach(df=12.0, share=0.3, width=2.3)
# Quantiles that tell place, spread, skewness and tails of a coordinate.
_LEVELS = np.array([0.03, 0.25, 0.5, 0.75, 0.97])
_SKEW = np.linspace(-1.2, 1.2, 49)
_TAIL = np.linspace(0.6, 1.6, 41)
# A part with less of the weight, or fewer points for each coordinate, keeps the shape that it had.
_LEAST_WEIGHT, _LEAST_POINTS = 0.01, 3


def proposal_at(modes: list[tuple[Array, Array]], free: int = 0) -> Proposal:
    """A part at each mode, a little wider than its curvature says.

    Parameters
    ----------
    modes
        Local modes and the inverse Hessians there.
    free
        How many coordinates, the last ones, are nearly standard normal beside all others.

    Returns
    -------
    Proposal
    """
    bound = len(modes[0][0]) - free
    parts = tuple(
        Part.straight(y[:bound], np.asarray(1.1 * np.linalg.cholesky(cover[:bound, :bound])))
        for y, cover in modes
    )
    return Proposal(_FIRST, np.full(len(parts), 1 / len(parts)), parts, free)


def fit_proposal(y: Array, weight: Array | None, like: Proposal, reach: Reach = WIDE) -> Proposal:
    """Fit a proposal to weighted points.

    Parameters
    ----------
    y
        Shape (n, d).
    weight
        Shape (n,), summing to one; None where all count the same.
    like
        A proposal whose parts divide the points among them.
    reach
        How far the proposal goes beyond them.

    Returns
    -------
    Proposal
    """
    weight = np.full(len(y), 1 / len(y)) if weight is None else weight
    bound = y[:, : y.shape[1] - like.free]
    if len(like.parts) == 1:
        return Proposal(reach, np.ones(1), (_fit_part(bound, weight),), like.free)
    share = like.belonging(y) * weight
    total = share.sum(axis=1)
    points = total**2 / np.maximum((share**2).sum(axis=1), 1e-300)
    parts = [
        _fit_part(bound, own / mass)
        if mass > _LEAST_WEIGHT and k > _LEAST_POINTS * bound.shape[1]
        else old
        for own, mass, k, old in zip(share, total, points, like.parts, strict=True)
    ]
    total = np.maximum(total, _LEAST_WEIGHT)
    return Proposal(reach, total / total.sum(), tuple(parts), like.free)


def _fit_part(y: Array, weight: Array) -> Part:
    d = y.shape[1]
    quantiles = np.array([_quantiles(column, weight) for column in y.T])
    # Of each shape the quantiles in its own units, so that place and spread drop out.
    skew, tail = (a.ravel() for a in np.meshgrid(_SKEW, _TAIL))
    shapes = np.sinh((np.arcsinh(ndtri(_LEVELS))[:, None] + skew) / tail).T
    units, own = _in_units(shapes), _in_units(quantiles)
    best = ((units - own[:, None]) ** 2).sum(axis=2).argmin(axis=1)
    shape = shapes[best]
    scale = (quantiles[:, 3] - quantiles[:, 1]) / (shape[:, 3] - shape[:, 1])
    # A coordinate that all points share is left a width that nothing notices.
    scale = np.maximum(scale, 1e-9 * np.maximum(np.abs(quantiles[:, 2]), 1.0))
    place = quantiles[:, 2] - scale * shape[:, 2]
    bent = Part(place, scale, skew[best], tail[best], np.zeros(d), np.eye(d))
    z = bent.straighten(y)
    center = weight @ z
    gap = z - center
    cover = (weight[:, None] * gap).T @ gap
    cover[range(d), range(d)] = cover[range(d), range(d)] * (1 + 1e-6) + 1e-12
    root = np.asarray(np.linalg.cholesky(cover), dtype=float)
    return Part(place, scale, skew[best], tail[best], center, root)


def _quantiles(values: Array, weight: Array) -> Array:
    order = np.argsort(values)
    total = np.cumsum(weight[order]) - weight[order] / 2
    return np.asarray(np.interp(_LEVELS, total, values[order]))


def _in_units(quantiles: Array) -> Array:
    """The outer quantiles less the median, in units of the inner ones' distance; shape (n, 2)."""
    spread = np.maximum(quantiles[:, 3] - quantiles[:, 1], 1e-300)
    return np.asarray(
        np.log(np.maximum(np.abs(quantiles[:, [0, 4]] - quantiles[:, 2:3]) / spread[:, None], 1e-9))
    )

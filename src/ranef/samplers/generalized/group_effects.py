"""Effects of groups given all else, where they are not normal: moments, and exact draws.

Log-concave integrands lie below their tangents at the nodes, so that the tangents make an envelope
to draw from and to reject with (Gilks and Wild 1992, Applied Statistics 41, 337).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.likelihood.integrated.group_integrals import GroupIntegrals
    from ranef.likelihood.integrated.posterior import Block, IntegratedPosterior

__all__ = ["effect_moments", "sample_group_effects"]

# Rounds of rejection: each leaves a tenth or so of what the one before left.
_ROUNDS = 100


def effect_moments(target: IntegratedPosterior, v: Array) -> tuple[Array, Array]:
    """Posterior mean and SD of each group's effect, averaged over draws.

    Parameters
    ----------
    target
        The posterior.
    v
        Draws, shape (n, p + d).

    Returns
    -------
    mean, sd : numpy.ndarray
        Shape (G,) each.
    """
    groups = len(target.model.rows.first)
    first, second = np.zeros(groups), np.zeros(groups)
    for block in target.blocks(v):
        fan = target.fan(block)
        weight = fan.weights()
        mean = (weight * fan.u).sum(axis=0)
        square = (weight * fan.u**2).sum(axis=0)
        sd = block.integrals.sd
        first += (sd * mean).sum(axis=1)
        second += (sd**2 * square).sum(axis=1)
    first, second = first / len(v), second / len(v)
    return first, np.sqrt(np.maximum(second - first**2, 0.0))


def sample_group_effects(target: IntegratedPosterior, v: Array, rng: np.random.Generator) -> Array:
    """Draw every group's effect given each draw of all else.

    Parameters
    ----------
    target
        The posterior.
    v
        Draws, shape (n, p + d).
    rng
        Source of random numbers.

    Returns
    -------
    numpy.ndarray
        Shape (n, G).
    """
    out = np.empty((len(v), len(target.model.rows.first)))
    for block in target.blocks(v):
        out[block.part] = (block.integrals.sd * _draw(target, block, rng)).T
    return out


def _draw(target: IntegratedPosterior, block: Block, rng: np.random.Generator) -> Array:
    """Draw u, shape (G, S)."""
    fan = target.fan(block)
    slope = np.stack([block.integrals.slopes(u)[0] for u in fan.u])
    # Slopes fall; where rounding lets them rise, tangents meet nowhere.
    slope = np.minimum.accumulate(slope, axis=0)
    return _reject(block.integrals, fan.u, fan.log_f, slope, rng)


def _reject(
    integrals: GroupIntegrals,
    node: Array,
    height: Array,
    slope: Array,
    rng: np.random.Generator,
) -> Array:
    """Draw from the tangents' envelope until the integrand accepts.

    Parameters
    ----------
    integrals
        The integrand.
    node, height, slope
        Nodes, log integrand and its derivative there, shape (nodes, G, S).
    rng
        Source of random numbers.
    """
    top = height.max(axis=0)
    fall = slope[:-1] - slope[1:]
    step = node[1:] - node[:-1]
    # Where neighbouring tangents meet, from the left node; in the middle where they are parallel.
    with np.errstate(divide="ignore", invalid="ignore"):
        meet = (height[1:] - height[:-1] - slope[1:] * step) / fall
    meet = node[:-1] + np.clip(np.where(fall > 1e-12, meet, 0.5 * step), 0.0, step)
    infinite = np.full_like(meet[:1], np.inf)
    low, high = np.concatenate([-infinite, meet]), np.concatenate([meet, infinite])
    mass = _segment_mass(node, height - top, slope, low, high)
    share = np.cumsum(mass, axis=0)
    out = np.empty(top.shape)
    open_ = np.ones(top.shape, dtype=bool)
    for _ in range(_ROUNDS):
        pick = rng.random(top.shape) * share[-1]
        k = np.minimum((pick > share).sum(axis=0), len(node) - 1)[None]
        at = [np.take_along_axis(a, k, axis=0)[0] for a in (node, height, slope, low, high)]
        u = _within_segment(at[0], at[2], at[3], at[4], rng.random(top.shape))
        envelope = at[1] + at[2] * (u - at[0])
        log_f = integrals.log_integrand(u)
        taken = open_ & (np.log(rng.random(top.shape)) < log_f - envelope)
        out[taken] = u[taken]
        open_ &= ~taken
        if not open_.any():
            break
    out[open_] = u[open_]
    return out


def _segment_mass(node: Array, height: Array, slope: Array, low: Array, high: Array) -> Array:
    """Integrals of exp(height + slope (u - node)) from low to high."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        left = np.where(np.isfinite(low), slope * (low - node), -np.inf)
        right = np.where(np.isfinite(high), slope * (high - node), -np.inf)
        steep = np.exp(height) * (np.exp(right) - np.exp(left)) / slope
        level = np.exp(height) * (high - low)
    flat = np.abs(slope) * (high - low) < 1e-8
    mass = np.where(flat, level, steep)
    # An end whose tangent does not fall outwards holds nothing: it lies beyond 24 nats.
    return np.where(np.isfinite(mass) & (mass > 0), mass, 0.0)


def _within_segment(node: Array, slope: Array, low: Array, high: Array, share: Array) -> Array:
    """The point of a segment below which `share` of an exponential of a slope lies."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        upward = slope > 0
        # From the end where it is highest, so that nothing overflows.
        width = high - low
        part = np.where(upward, 1 - share, share)
        steep = np.abs(slope)
        away = -np.log1p(-part * -np.expm1(-steep * width)) / steep
        away = np.where(steep * width < 1e-8, part * width, away)
        u = np.where(upward, high - away, low + away)
    return np.where(np.isfinite(u), u, node)

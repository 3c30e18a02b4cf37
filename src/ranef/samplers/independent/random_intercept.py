"""Exact draws of a random-intercept posterior: one line, or one line and a table beside it.

The variance ratio is proposed from an interpolated quadrature rule, the residual SD from its
conditional given the ratio, and independence Metropolis removes what little the proposal gets
wrong. Coefficients and effects are then Gaussian (mathematics.md, sections 2 and 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, log_expit

from ranef.common.random_streams import split_stream
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.numerics.conditional_quadrature import integrate_conditional
from ranef.numerics.metropolis import START, run_chain
from ranef.numerics.quadrature import integrate_line
from ranef.samplers.independent.random_intercept_effects import draw_effects, effect_moments
from ranef.samplers.sample import Points, PosteriorSample

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.likelihood.coefficients import Profile
    from ranef.mixed_model.model import ModelSpec
    from ranef.numerics.conditional_quadrature import Conditional
    from ranef.numerics.quadrature import Line
    from ranef.priors import ScalePrior
    from ranef.samplers.sample import SamplerSettings

    Streams = list[np.random.Generator]
    Proposals = tuple[Array, Array, Profile, Array, Points, Line]

__all__ = ["sample_ratio"]


def sample_ratio(
    model: ModelSpec, settings: SamplerSettings, rng: np.random.Generator
) -> PosteriorSample:
    """Draw independently from the posterior.

    Parameters
    ----------
    model
        Data and priors.
    settings
        How many draws. They are independent; chains are only their shape.
    rng
        Source of random numbers.

    Returns
    -------
    PosteriorSample
    """
    target = RandomIntercept(model)
    shape = (settings.chains, settings.draws // settings.chains)
    n = shape[0] * shape[1]
    # A stream for each purpose, so that more draws only go on where fewer stopped.
    streams = split_stream(rng, 6)
    propose = _conjugate if target.conjugate else _general
    if not target.family.dispersions:
        propose = _known
    log_ratio, log_sigma, profile, log_w, points, line = propose(target, n + START, streams[:2])
    kept = run_chain(log_w, streams[2], streams[3])
    log_ratio, log_sigma = log_ratio[kept], log_sigma[kept]
    profile = profile.take(kept)
    mean, root = target.coefficient_moments(profile, log_sigma)
    z = streams[4].standard_normal(mean.shape)
    internal = mean + np.einsum("nij,nj->ni", root, z)
    name = model.parameters.terms[0].names[0]
    drawn = {}
    if name in settings.effects:
        drawn[name] = draw_effects(target, log_ratio, log_sigma, internal, streams[5]).reshape(
            *shape, -1
        )
    return PosteriorSample(
        parameters=model.parameters,
        theta=model.parameters.absolute(0.5 * log_ratio[:, None], log_sigma).reshape(*shape, -1),
        beta=(model.response.beta_ls + internal @ model.design.T.T).reshape(*shape, -1),
        log_density=target.log_density(log_ratio, log_sigma, profile).reshape(shape),
        accepted=(np.diff(kept, prepend=-1) != 0).reshape(shape),
        log_weight=log_w[START:].reshape(shape),
        moments={name: effect_moments(target, points)} if settings.moments else {},
        effects=drawn,
        structure="one factor, groups of equal size together",
        points=points,
        log_mass=line.log_mass,
        log_mass_error=line.error,
        log_marginal_likelihood=None if model.improper() else line.log_mass,
    )


def _conjugate(target: RandomIntercept, n: int, rng: Streams) -> Proposals:
    """Propose where log_ratio alone needs sampling and sigma^2 given log_ratio is inverse gamma."""
    line = integrate_line(target.log_density_ratio)
    log_ratio, log_q = line.proposal.draw(rng[0].random(n))
    profile = target.profile(log_ratio)
    log_f = target.log_density_ratio(log_ratio, profile)
    shape, rate = target.residual_variance(log_ratio, profile)
    log_sigma = 0.5 * np.log(rate / rng[1].standard_gamma(shape, n))
    node = target.profile(line.x)
    shape, rate = target.residual_variance(line.x, node)
    # Where the shape is at most one the mean is infinite; so is the effects' variance.
    variance = rate / (shape - 1) if shape > 1 else np.full_like(rate, np.inf)
    points = Points(line.x, 0.5 * np.log(variance), line.weight, variance)
    return log_ratio, log_sigma, profile, log_f - log_q, points, line


def _known(target: RandomIntercept, n: int, rng: Streams) -> Proposals:
    """Propose log_ratio where sigma is known and log_ratio is the only variance parameter."""
    known = target.family.log_sd

    def log_density(s: Array) -> Array:
        log_ratio, log_jacobian = _stretch(target.group, known, s)
        return target.log_density(log_ratio, np.full(len(log_ratio), known)) + log_jacobian

    line = integrate_line(log_density)
    s, log_q = line.proposal.draw(rng[0].random(n))
    log_ratio, log_jacobian = _stretch(target.group, known, s)
    profile, log_sigma = target.profile(log_ratio), np.full(n, known)
    log_w = target.log_density(log_ratio, log_sigma, profile) + log_jacobian - log_q
    node = np.full(len(line.x), known)
    points = Points(_stretch(target.group, known, line.x)[0], node, line.weight, np.exp(2 * node))
    return log_ratio, log_sigma, profile, log_w, points, line


def _stretch(prior: ScalePrior, log_sigma: float, s: Array) -> tuple[Array, Array]:
    """Map the line onto the log_ratio that the prior's support leaves; log of d log_ratio / ds.

    A hard bound (a uniform prior) would put a kink into the density, which panels cannot follow.
    """
    with np.errstate(divide="ignore"):
        low, high = 2 * (np.log(prior.support) - log_sigma)
    if np.isinf(low) and np.isinf(high):
        return s, np.zeros_like(s)
    if np.isinf(low):
        return high - np.logaddexp(0.0, high - s), log_expit(high - s)
    if np.isinf(high):
        return low + np.logaddexp(0.0, s - low), log_expit(s - low)
    width = high - low
    return low + width * expit(s), np.log(width) + log_expit(s) + log_expit(-s)


def _general(target: RandomIntercept, n: int, rng: Streams) -> Proposals:
    """Propose log_ratio by nested quadrature, log_sigma from a table at the nearest log_ratio."""
    line = integrate_line(
        lambda log_ratio: _conditional(target, log_ratio).log_mass, tolerance=1e-8
    )
    log_ratio, log_q = line.proposal.draw(rng[0].random(n))
    near = line.weight > 1e-14
    at, weight = line.x[near], line.weight[near]
    conditional = _conditional(target, at)
    right = np.clip(np.searchsorted(at, log_ratio), 1, len(at) - 1)
    row = right - (log_ratio - at[right - 1] < at[right] - log_ratio)
    center, below, above = _place(target, conditional, at, log_ratio, row)
    t, log_t = conditional.table.draw(rng[1].random(n), row)
    scale = np.where(t < 0, below, above)
    log_sigma = center + scale * t
    profile = target.profile(log_ratio)
    log_f = target.log_density(log_ratio, log_sigma, profile)
    log_w = log_f - log_q - log_t + np.log(scale)
    points = _tensor(at, weight, conditional)
    return log_ratio, log_sigma, profile, log_w, points, line


def _place(
    target: RandomIntercept, conditional: Conditional, at: Array, log_ratio: Array, row: IntArray
) -> tuple[Array, Array, Array]:
    """Center, and scales below and above it, that carry table rows over to log_ratio between them.

    They are interpolated. Where a hard bound cuts the density of log_sigma the side towards it is
    stretched, or a row with its mode at the bound moved, so that the proposal reaches exactly as
    far as the posterior.
    """
    center = np.interp(log_ratio, at, conditional.center)
    below = np.exp(np.interp(log_ratio, at, np.log(conditional.scale)))
    above = below.copy()
    cut = np.isfinite(conditional.low[row]) | np.isfinite(conditional.high[row])
    if not cut.any():
        return center, below, above
    j = row[cut]
    low, high = _bounds(target, log_ratio[cut])
    row_low, row_high, row_center, row_scale = (
        a[j] for a in (conditional.low, conditional.high, conditional.center, conditional.scale)
    )
    by_high = np.isfinite(row_high)
    side = np.where(by_high, 1.0, -1.0)
    bound, row_bound = np.where(by_high, high, low), np.where(by_high, row_high, row_low)
    room = side * (row_bound - row_center) / row_scale
    near = room < 1
    middle = np.where(near, bound - (row_bound - row_center), center[cut])
    towards = np.where(near, row_scale, side * (bound - middle) / np.maximum(room, 1.0))
    away = np.where(near, row_scale, below[cut])
    down, up = np.where(by_high, away, towards), np.where(by_high, towards, away)
    both = by_high & np.isfinite(row_low)
    stretch = (high - low)[both] / (row_high - row_low)[both]
    middle[both] = low[both] + stretch * (row_center - row_low)[both]
    down[both] = up[both] = stretch * row_scale[both]
    center[cut], below[cut], above[cut] = middle, down, up
    return center, below, above


def _bounds(target: RandomIntercept, log_ratio: Array) -> tuple[Array, Array]:
    """Support of log_sigma at each log_ratio that the two priors leave."""
    sigma, group = target.family.scales["sigma"], target.group
    with np.errstate(divide="ignore"):
        low = np.maximum(np.log(sigma.support[0]), np.log(group.support[0]) - 0.5 * log_ratio)
        high = np.minimum(np.log(sigma.support[1]), np.log(group.support[1]) - 0.5 * log_ratio)
    # A hair inside, so that rounding puts no node beyond a hard bound.
    return low + 1e-12, np.maximum(high - 1e-12, low + 2e-12)


def _conditional(target: RandomIntercept, log_ratio: Array) -> Conditional:
    """Integrate log_sigma at each log_ratio, where the likelihood or the priors put it."""
    profile = target.profile(log_ratio)
    sigma, group = target.family.scales["sigma"], target.group
    low, high = _bounds(target, log_ratio)
    guess = [0.5 * np.log(profile.rest / target.k)]
    if sigma.median is not None:
        guess.append(np.full(len(log_ratio), np.log(sigma.median)))
    if group.median is not None:
        guess.append(np.log(group.median) - 0.5 * log_ratio)
    return integrate_conditional(
        lambda log_sigma: target.log_density(log_ratio, log_sigma, profile),
        low,
        high,
        np.column_stack(guess),
    )


def _tensor(log_ratio: Array, weight: Array, conditional: Conditional) -> Points:
    """List the product rule's nodes that carry weight."""
    joint = weight[:, None] * conditional.weight
    i, j = np.nonzero(joint > 1e-13)
    log_sigma, w = conditional.log_sigma[i, j], joint[i, j]
    return Points(log_ratio[i], log_sigma, w / w.sum(), np.exp(2 * log_sigma))

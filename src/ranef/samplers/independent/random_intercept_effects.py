"""Group effects given the variance parameters: draws and exact moments (mathematics.md, 4.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from ranef.common import budget

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.likelihood.random_intercept import RandomIntercept
    from ranef.samplers.sample import Points

__all__ = ["draw_effects", "effect_moments"]


def draw_effects(
    target: RandomIntercept,
    log_ratio: Array,
    log_sigma: Array,
    beta: Array,
    rng: np.random.Generator,
) -> Array:
    """Draw every group effect given variances and coefficients.

    Parameters
    ----------
    target
        The marginal posterior.
    log_ratio, log_sigma
        Shape (n,).
    beta
        Internal coefficients, shape (n, p).
    rng
        Source of random numbers, consumed draw by draw in order of groups, so that block sizes
        do not change the stream.

    Returns
    -------
    numpy.ndarray
        Shape (n, G): `b_i ~ N(s (ybar_i - xbar_i' beta), s sigma^2 / m)` with the shrinkage
        `s = r m / (1 + r m)` (mathematics.md, section 2).
    """
    n, G, p = len(log_ratio), len(target.mean), target.design.p
    out = np.empty((n, G))
    shrink = expit(log_ratio[:, None] + np.log(target.size))
    sd = np.exp(log_sigma)[:, None] * np.sqrt(shrink / target.size)
    balanced = len(target.size) == 1
    ybar = np.ascontiguousarray(target.mean[:, p])
    xbar = np.ascontiguousarray(target.mean[:, :p].T)
    constant = bool(p) and bool(np.all(xbar == xbar[:, :1]))
    blocks = budget.INTERCEPTS.blocks(n, G)
    work = np.empty((blocks[0].stop, G))
    for block in blocks:
        z, gap = out[block], work[: block.stop - block.start]
        rng.standard_normal(out=z)
        if constant:
            np.subtract(ybar, (beta[block] @ xbar[:, :1]), out=gap)
        elif p:
            np.matmul(beta[block], xbar, out=gap)
            np.subtract(ybar, gap, out=gap)
        else:
            gap[:] = ybar
        if balanced:
            z *= sd[block]
            gap *= shrink[block]
        else:
            z *= sd[block][:, target.size_index]
            gap *= shrink[block][:, target.size_index]
        z += gap
    return out


def effect_moments(target: RandomIntercept, points: Points) -> tuple[Array, Array]:
    """Mean and standard deviation of every group effect, from conditional moments.

    Given the variance parameters an effect is Gaussian with the coefficients integrated out, so
    averaging its moments over the posterior's points needs no draws of it (mathematics.md, 4.6).

    Parameters
    ----------
    target
        The marginal posterior.
    points
        Weighted values of the variance parameters.

    Returns
    -------
    mean, sd : numpy.ndarray
        Shape (G,), in units of the response. sd is infinite where the posterior variance is.
    """
    p = target.design.p
    sizes = len(target.size)
    # For each group size: moments of s, s beta and s^2 [1, beta]' [1, beta], and mean variances.
    first = np.zeros((sizes, p + 1))
    second = np.zeros((sizes, p + 1, p + 1))
    noise = np.zeros(sizes)
    spread = np.zeros((sizes, p, p))
    for part in budget.INTERCEPT_MOMENTS.blocks(len(points.log_ratio), max(1, sizes // 8)):
        log_ratio, w, v = points.log_ratio[part], points.weight[part], points.variance[part]
        mean, root = target.coefficient_moments(target.profile(log_ratio), points.log_sigma[part])
        s = target.shrinkage(log_ratio)
        c = np.column_stack([-mean, np.ones(len(log_ratio))])
        first += (s * w[:, None]).T @ c
        second += np.einsum("nd,ni,nj->dij", s**2 * w[:, None], c, c, optimize=True)
        noise += w * v @ s / target.size
        spread += np.einsum("nd,nik,njk->dij", s**2 * w[:, None], root, root, optimize=True)
    second[:, :p, :p] += spread
    d, u = target.size_index, target.mean
    mean = np.einsum("gi,gi->g", first[d], u)
    square = np.einsum("gi,gij,gj->g", u, second[d], u, optimize=True)
    with np.errstate(invalid="ignore"):
        variance = noise[d] + np.maximum(square - mean**2, 0.0)
    return mean, np.sqrt(np.where(np.isnan(variance), np.inf, variance))

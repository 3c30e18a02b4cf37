"""A mixture of multivariate t distributions, fitted to a log density by importance-weighted EM.

Variance parameters have a handful of dimensions, skewed tails and at times a second mode near zero.
A few t components, fitted to weighted draws from the previous fit, cover that well enough for most
independent proposals to be accepted (mathematics.md, section 4; Cappe et al. 2008, Statistics and
Computing 18, 447).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from ranef.common.random_streams import split_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array

__all__ = ["NARROW", "WIDE", "Mixture", "Tails", "fit_mixture", "starting_mixture"]

_COMPONENTS = 4
_EM_STEPS = 8
# Adaptation stops once a round's draws are worth this share of independent ones.
_GOOD = 0.9
_MOST_ROUNDS = 6


@dataclass(frozen=True)
class Tails:
    """How far a proposal reaches beyond what was fitted.

    Attributes
    ----------
    df
        Degrees of freedom of every component: tails heavier than the posterior's, which are
        exponential in log SDs.
    share, width
        Share and width of a component over everything: independence Metropolis stays long where
        the proposal is thin, so a little waste everywhere buys independence.
    """

    df: float
    share: float
    width: float


WIDE = Tails(df=12.0, share=0.1, width=1.6)
# Where what lies far out costs a likelihood each.
NARROW = Tails(df=15.0, share=0.05, width=1.3)


@dataclass(frozen=True)
class Mixture:
    """A mixture of multivariate t distributions.

    Attributes
    ----------
    df
        Degrees of freedom of every component.
    weight
        Shape (k,), summing to one.
    center
        Shape (k, d).
    root
        Lower Cholesky factors of the scale matrices, shape (k, d, d).
    """

    df: float
    weight: Array
    center: Array
    root: Array

    def log_parts(self, x: Array) -> tuple[Array, Array]:
        """Log weighted density of each component at x (n, d), and squared distances; (k, n)."""
        d, df = x.shape[1], self.df
        constant = gammaln((df + d) / 2) - gammaln(df / 2) - d / 2 * np.log(df * np.pi)
        # Matrices of a few rows: their inverses are as good as solves, and products are faster.
        inverse = np.linalg.inv(self.root)
        z = inverse @ x.T - (inverse @ self.center[:, :, None])
        squares = np.einsum("kdn,kdn->kn", z, z)
        height = np.log(self.weight) + constant
        height -= np.log(np.einsum("kdd->kd", self.root)).sum(axis=1)
        return height[:, None] - (df + d) / 2 * np.log1p(squares / df), squares

    def log_density(self, x: Array) -> Array:
        """Log density at x, shape (n, d)."""
        return _log_sum(self.log_parts(x)[0])

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """Draw n points, shape (n, d); more points go on where fewer stopped."""
        first, second, third = split_stream(rng, 3)
        which = first.choice(len(self.weight), size=n, p=self.weight)
        z = second.standard_normal((n, self.center.shape[1]))
        z /= np.sqrt(third.chisquare(self.df, n) / self.df)[:, None]
        return np.asarray(self.center[which] + np.einsum("nij,nj->ni", self.root[which], z))


def fit_mixture(
    log_f: Callable[[Array], Array],
    modes: list[tuple[Array, Array]],
    rng: np.random.Generator,
    *,
    tails: Tails = WIDE,
    size: int = 2000,
) -> Mixture:
    """Fit a mixture to a log density.

    Parameters
    ----------
    log_f
        Vectorised log density of points (n, d).
    modes
        Local modes and the inverse Hessians there: where to begin.
    rng
        Source of random numbers.
    tails
        How far the proposal reaches beyond what was fitted.
    size
        Draws in each round of adaptation.

    Returns
    -------
    Mixture
    """
    mixture = starting_mixture(modes, tails.df)
    components = max(_COMPONENTS, len(modes))
    best_efficiency = -1.0
    for round_ in range(_MOST_ROUNDS):
        x = mixture.draw(rng, size)
        log_w = log_f(x) - mixture.log_density(x)
        w = np.exp(log_w - log_w.max())
        w /= w.sum()
        efficiency = float(1 / (w @ w * size))
        middle = w @ x
        spread = _spread((x - middle)[None], w[None])[0]
        if efficiency > best_efficiency:
            best, best_efficiency, wide = mixture, efficiency, (middle, spread)
        if (round_ > 0 and best_efficiency > _GOOD) or round_ == _MOST_ROUNDS - 1:
            break
        start = rng.choice(size, size=components, p=w)
        mixture = _em(
            x,
            w,
            Mixture(
                tails.df,
                np.full(components, 1 / components),
                x[start],
                np.repeat(0.7 * spread[None], components, axis=0),
            ),
        )
        if round_ >= 3:
            components, size = components + 2, min(2 * size, 8000)
    return Mixture(
        tails.df,
        np.append((1 - tails.share) * best.weight, tails.share),
        np.vstack([best.center, wide[0]]),
        np.concatenate([best.root, tails.width * wide[1][None]]),
    )


def starting_mixture(modes: list[tuple[Array, Array]], df: float = WIDE.df) -> Mixture:
    """Two components at each mode, as its curvature says and wider.

    Parameters
    ----------
    modes
        Local modes and the inverse Hessians there.
    df
        Degrees of freedom.

    Returns
    -------
    Mixture
    """
    centers, roots = [], []
    for mode, covariance in modes:
        root = np.linalg.cholesky(covariance)
        # The wide component finds tails and shoulders that curvature misses.
        centers += [mode, mode]
        roots += [1.1 * root, 2.5 * root]
    weight = np.tile([0.7, 0.3], len(modes)) / len(modes)
    return Mixture(df, weight, np.array(centers), np.array(roots))


def _spread(gap: Array, w: Array) -> Array:
    """Cholesky factors of weighted covariances, kept positive definite.

    Parameters
    ----------
    gap
        Deviations, shape (k, n, d).
    w
        Weights, shape (k, n).

    Returns
    -------
    numpy.ndarray
        Shape (k, d, d).
    """
    cover = (w[:, :, None] * gap).transpose(0, 2, 1) @ gap
    diagonal = np.arange(gap.shape[2])
    cover[:, diagonal, diagonal] *= 1 + 1e-6
    cover[:, diagonal, diagonal] += 1e-12
    return np.asarray(np.linalg.cholesky(cover))


def _em(x: Array, w: Array, mixture: Mixture) -> Mixture:
    """Fit a t mixture to weighted points."""
    d, df = x.shape[1], mixture.df
    for _ in range(_EM_STEPS):
        parts, squares = mixture.log_parts(x)
        share = np.exp(parts - _log_sum(parts)) * w
        total = share.sum(axis=1)
        # A component with next to no mass has no spread to estimate.
        keep = total > 0.02
        share, squares, total = share[keep], squares[keep], total[keep]
        u = share * ((df + d) / (df + squares))
        centers = (u @ x) / u.sum(axis=1, keepdims=True)
        u /= total[:, None]
        mixture = Mixture(df, total / total.sum(), centers, _spread(x - centers[:, None], u))
    return mixture


def _log_sum(parts: Array) -> Array:
    """Log of the sum over components; scipy's general version takes three times as long."""
    top = parts.max(axis=0)
    return np.asarray(top + np.log(np.exp(parts - top).sum(axis=0)))

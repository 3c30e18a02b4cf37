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
from scipy.special import gammaln, logsumexp

from ranef.streams import split_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.types import Array

__all__ = ["NARROW", "WIDE", "Mixture", "Tails", "fit_mixture"]

_COMPONENTS = 4
_EM_STEPS = 12
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


WIDE = Tails(df=5.0, share=0.1, width=1.7)
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
        parts, squares = [], []
        for w, m, L in zip(self.weight, self.center, self.root, strict=True):
            # A matrix of a few rows: its inverse is as good as a solve, and a product is faster.
            z = (x - m) @ np.linalg.inv(L).T
            square = np.einsum("nd,nd->n", z, z)
            squares.append(square)
            parts.append(
                np.log(w)
                + constant
                - np.log(np.diag(L)).sum()
                - (df + d) / 2 * np.log1p(square / df)
            )
        return np.array(parts), np.array(squares)

    def log_density(self, x: Array) -> Array:
        """Log density at x, shape (n, d)."""
        return np.asarray(logsumexp(self.log_parts(x)[0], axis=0))

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
) -> tuple[Mixture, float]:
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
    mixture : Mixture
    efficiency : float
        Effective share of the draws of the best round.
    """
    centers, roots = [], []
    for mode, covariance in modes:
        root = np.linalg.cholesky(covariance)
        # A wide component beside the fitted one finds tails and shoulders that curvature misses.
        centers += [mode, mode]
        roots += [1.1 * root, 2.5 * root]
    weight = np.tile([0.7, 0.3], len(modes)) / len(modes)
    mixture = Mixture(tails.df, weight, np.array(centers), np.array(roots))
    efficiency, components = 0.0, max(_COMPONENTS, len(modes))
    best, best_efficiency = mixture, 0.0
    for round_ in range(_MOST_ROUNDS):
        x = mixture.draw(rng, size)
        log_w = log_f(x) - mixture.log_density(x)
        log_w -= logsumexp(log_w)
        efficiency = float(1 / (np.exp(2 * log_w).sum() * size))
        if efficiency > best_efficiency:
            best, best_efficiency = mixture, efficiency
        if (round_ > 1 and efficiency > _GOOD) or round_ == _MOST_ROUNDS - 1:
            break
        w = np.exp(log_w)
        middle = w @ x
        start = rng.choice(size, size=components, p=w / w.sum())
        mixture = _em(
            x,
            w,
            Mixture(
                tails.df,
                np.full(components, 1 / components),
                x[start],
                np.repeat(0.7 * _spread(x - middle, w)[None], components, axis=0),
            ),
        )
        if round_ >= 3:
            components, size = components + 2, min(2 * size, 8000)
    return _with_wide(log_f, best, rng, size, tails), best_efficiency


def _with_wide(
    log_f: Callable[[Array], Array],
    mixture: Mixture,
    rng: np.random.Generator,
    size: int,
    tails: Tails,
) -> Mixture:
    """Add one wide component around the mean of the whole density."""
    x = mixture.draw(rng, size)
    log_w = log_f(x) - mixture.log_density(x)
    w = np.exp(log_w - logsumexp(log_w))
    middle = w @ x
    return Mixture(
        tails.df,
        np.append((1 - tails.share) * mixture.weight, tails.share),
        np.vstack([mixture.center, middle]),
        np.concatenate([mixture.root, tails.width * _spread(x - middle, w)[None]]),
    )


def _spread(gap: Array, w: Array) -> Array:
    """Cholesky factor of a weighted covariance, kept positive definite."""
    cover = (w[:, None] * gap).T @ gap
    cover[np.diag_indices_from(cover)] *= 1 + 1e-6
    cover[np.diag_indices_from(cover)] += 1e-12
    return np.asarray(np.linalg.cholesky(cover))


def _em(x: Array, w: Array, mixture: Mixture) -> Mixture:
    """Fit a t mixture to weighted points."""
    d, df = x.shape[1], mixture.df
    for _ in range(_EM_STEPS):
        parts, squares = mixture.log_parts(x)
        share = np.exp(parts - logsumexp(parts, axis=0)) * w
        total = share.sum(axis=1)
        # A component with next to no mass has no spread to estimate.
        keep = total > 0.02
        centers, roots = [], []
        for r, square, mass in zip(share[keep], squares[keep], total[keep], strict=True):
            u = r * (df + d) / (df + square)
            m = u @ x / u.sum()
            centers.append(m)
            roots.append(_spread(x - m, u / mass))
        mixture = Mixture(df, total[keep] / total[keep].sum(), np.array(centers), np.array(roots))
    return mixture

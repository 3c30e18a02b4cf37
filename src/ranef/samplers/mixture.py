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

__all__ = ["Mixture", "fit_mixture"]

# Degrees of freedom: tails heavier than the posterior's, which are exponential in log SDs.
_DF = 5.0
_COMPONENTS = 4
_EM_STEPS = 12
# Adaptation stops once a round's draws are worth this share of independent ones.
_GOOD = 0.9
_MOST_ROUNDS = 6
# Share and width of a component over everything, for the tails: independence Metropolis stays long
# where the proposal is thin, so a little waste everywhere buys independence.
_WIDE_SHARE = 0.1
_WIDE = 1.7


@dataclass(frozen=True)
class Mixture:
    """A mixture of multivariate t distributions.

    Attributes
    ----------
    weight
        Shape (k,), summing to one.
    center
        Shape (k, d).
    root
        Lower Cholesky factors of the scale matrices, shape (k, d, d).
    """

    weight: Array
    center: Array
    root: Array

    def log_parts(self, x: Array) -> tuple[Array, Array]:
        """Log weighted density of each component at x (n, d), and squared distances; (k, n)."""
        d = x.shape[1]
        constant = gammaln((_DF + d) / 2) - gammaln(_DF / 2) - d / 2 * np.log(_DF * np.pi)
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
                - (_DF + d) / 2 * np.log1p(square / _DF)
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
        z /= np.sqrt(third.chisquare(_DF, n) / _DF)[:, None]
        return np.asarray(self.center[which] + np.einsum("nij,nj->ni", self.root[which], z))


def fit_mixture(
    log_f: Callable[[Array], Array],
    modes: list[tuple[Array, Array]],
    rng: np.random.Generator,
    *,
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
    mixture = Mixture(weight, np.array(centers), np.array(roots))
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
                np.full(components, 1 / components),
                x[start],
                np.repeat(0.7 * _spread(x - middle, w)[None], components, axis=0),
            ),
        )
        if round_ >= 3:
            components, size = components + 2, min(2 * size, 8000)
    return _with_wide(log_f, best, rng, size), best_efficiency


def _with_wide(
    log_f: Callable[[Array], Array], mixture: Mixture, rng: np.random.Generator, size: int
) -> Mixture:
    """Add one wide component around the mean of the whole density."""
    x = mixture.draw(rng, size)
    log_w = log_f(x) - mixture.log_density(x)
    w = np.exp(log_w - logsumexp(log_w))
    middle = w @ x
    return Mixture(
        np.append((1 - _WIDE_SHARE) * mixture.weight, _WIDE_SHARE),
        np.vstack([mixture.center, middle]),
        np.concatenate([mixture.root, _WIDE * _spread(x - middle, w)[None]]),
    )


def _spread(gap: Array, w: Array) -> Array:
    """Cholesky factor of a weighted covariance, kept positive definite."""
    cover = (w[:, None] * gap).T @ gap
    cover[np.diag_indices_from(cover)] *= 1 + 1e-6
    cover[np.diag_indices_from(cover)] += 1e-12
    return np.asarray(np.linalg.cholesky(cover))


def _em(x: Array, w: Array, mixture: Mixture) -> Mixture:
    """Fit a t mixture to weighted points."""
    d = x.shape[1]
    for _ in range(_EM_STEPS):
        parts, squares = mixture.log_parts(x)
        share = np.exp(parts - logsumexp(parts, axis=0)) * w
        total = share.sum(axis=1)
        # A component with next to no mass has no spread to estimate.
        keep = total > 0.02
        centers, roots = [], []
        for r, square, mass in zip(share[keep], squares[keep], total[keep], strict=True):
            u = r * (_DF + d) / (_DF + square)
            m = u @ x / u.sum()
            centers.append(m)
            roots.append(_spread(x - m, u / mass))
        mixture = Mixture(total[keep] / total[keep].sum(), np.array(centers), np.array(roots))
    return mixture

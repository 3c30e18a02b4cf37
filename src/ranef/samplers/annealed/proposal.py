"""A t distribution in coordinates that bend with the posterior, and moves that leave it as it is.

Each coordinate is y = m + c sinh((asinh z + a) / b), which gives z skewness by a and tails by b
(Jones and Pewsey 2009, Biometrika 96, 761); z has a multivariate t distribution, a share of it
wider than the rest. Every mode has such a part of its own (mathematics.md, 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from ranef.common.random_streams import split_stream

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = ["Part", "Proposal", "Reach"]


@dataclass(frozen=True)
class Reach:
    """How far a proposal goes beyond what it was fitted to.

    Attributes
    ----------
    df
        Degrees of freedom.
    share, width
        Share and width of what lies wider than the rest: where a proposal is thin draws stay long,
        so a little waste everywhere buys independence.
    """

    df: float
    share: float
    width: float


@dataclass(frozen=True)
class Part:
    """Where one mode's points lie.

    Attributes
    ----------
    place, scale, skew, tail
        m, c, a and b of each coordinate, shape (d,).
    center, root
        Mean of z, shape (d,), and a lower root of its scale matrix, shape (d, d).
    """

    place: Array
    scale: Array
    skew: Array
    tail: Array
    center: Array
    root: Array

    @classmethod
    def straight(cls, center: Array, root: Array) -> Part:
        """Without bends, about a center (d,) and with a root (d, d) of the scale matrix."""
        d = len(center)
        return cls(center, np.ones(d), np.zeros(d), np.ones(d), np.zeros(d), root)

    def bend(self, z: Array) -> Array:
        """Points y (n, d) of z."""
        bent = np.sinh((np.arcsinh(z) + self.skew) / self.tail)
        return np.asarray(self.place + self.scale * bent)

    def straighten(self, y: Array) -> Array:
        """Points z (n, d) of y."""
        bent = np.arcsinh((y - self.place) / self.scale)
        return np.asarray(np.sinh(self.tail * bent - self.skew))

    def white(self, z: Array) -> Array:
        """Points z in coordinates where their distribution is round."""
        return np.asarray((z - self.center) @ np.linalg.inv(self.root).T)

    def from_white(self, u: Array) -> Array:
        """Points y of the coordinates that `white` gives."""
        return self.bend(self.center + u @ self.root.T)

    def log_slope(self, z: Array) -> Array:
        """Logarithm of dy/dz and of the root's determinant, shape (n,)."""
        bent = (np.arcsinh(z) + self.skew) / self.tail
        each = np.log(self.scale * np.cosh(bent) / self.tail) - 0.5 * np.log1p(z * z)
        return np.asarray(each.sum(axis=1) + np.log(np.diag(self.root)).sum())


@dataclass(frozen=True)
class Proposal:
    """Where draws may go next.

    Attributes
    ----------
    reach
        The same for all parts.
    weight
        Of each part, shape (k,), summing to one.
    parts
        One for each mode.
    free
        How many coordinates, the last ones, are standard normal beside all others.
    """

    reach: Reach
    weight: Array
    parts: tuple[Part, ...]
    free: int = 0

    def _bound(self, y: Array) -> Array:
        return y[:, : y.shape[1] - self.free]

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points, shape (n, d); more points go on where fewer stopped."""
        choice, wide, square, normal = split_stream(rng, 4)
        which = self._choose(np.asarray(choice.random(n)), np.tile(self.weight[:, None], n))
        stretch = np.where(wide.random(n) < self.reach.share, self.reach.width, 1.0)
        stretch /= np.sqrt(square.chisquare(self.reach.df, n) / self.reach.df)
        u = stretch[:, None] * normal.standard_normal((n, len(self.parts[0].place)))
        return self._beside(self._from_white(which, u), normal.standard_normal((n, self.free)))

    def log_density(self, y: Array) -> Array:
        """Log density at y (n, d), shape (n,)."""
        value = _log_sum(_log_sum(self._log_parts(self._bound(y))[0]))
        if not self.free:
            return value
        z = y[:, -self.free :]
        return np.asarray(value - 0.5 * (z * z + np.log(2 * np.pi)).sum(axis=1))

    def belonging(self, y: Array) -> Array:
        """Which part points y (n, d) belong to, one for it and zero for the others, shape (k, n).

        The wide share of one part reaches into others, and would take them over bit by bit.
        """
        narrow = self._log_parts(self._bound(y))[0][0]
        return np.asarray(narrow.argmax(axis=0) == np.arange(len(narrow))[:, None], dtype=float)

    def step(self, y: Array, rho: float, rng: np.random.Generator) -> Array:
        """Move points so that the distribution stays as it is, and each step could be undone.

        Given its part and its stretch a point is normal, and a Crank-Nicolson step with correlation
        rho keeps a normal point normal (Neal 1999, Bayesian Statistics 6, 475).
        """
        bound = self._bound(y)
        n, d = bound.shape
        logs, white = self._log_parts(bound)
        chances = np.exp(logs - _log_sum(_log_sum(logs))).reshape(-1, n)
        chosen = self._choose(np.asarray(rng.random(n)), chances)
        wide, which = np.divmod(chosen, len(self.parts))
        own = white[which, np.arange(n)]
        width = np.where(wide == 1, self.reach.width, 1.0)
        # The stretch given the point: its square's inverse is a gamma variable.
        rate = (self.reach.df + (own**2).sum(axis=1) / width**2) / 2
        stretch = width / np.sqrt(rng.standard_gamma((self.reach.df + d) / 2, n) / rate)
        noise = stretch[:, None] * rng.standard_normal((n, d))
        moved = self._from_white(which, rho * own + np.sqrt(1 - rho**2) * noise)
        if not self.free:
            return moved
        fresh = rng.standard_normal((n, self.free))
        return self._beside(moved, rho * y[:, -self.free :] + np.sqrt(1 - rho**2) * fresh)

    def _beside(self, bound: Array, free: Array) -> Array:
        return np.column_stack([bound, free]) if self.free else bound

    def _from_white(self, which: Array, u: Array) -> Array:
        if len(self.parts) == 1:
            return self.parts[0].from_white(u)
        y = np.empty_like(u)
        for k, part in enumerate(self.parts):
            y[which == k] = part.from_white(u[which == k])
        return y

    def _log_parts(self, y: Array) -> tuple[Array, Array]:
        """Log densities, narrow and wide, with weights, (2, k, n); whitened points (k, n, d)."""
        (n, d), k = y.shape, len(self.parts)
        df = self.reach.df
        constant = gammaln((df + d) / 2) - gammaln(df / 2) - d / 2 * np.log(df * np.pi)
        logs, white = np.empty((2, k, n)), np.empty((k, n, d))
        for j, part in enumerate(self.parts):
            z = part.straighten(y)
            white[j] = part.white(z)
            squares = np.einsum("nd,nd->n", white[j], white[j])
            height = np.log(self.weight[j]) + constant - part.log_slope(z)
            for i, (share, width) in enumerate(
                ((1 - self.reach.share, 1.0), (self.reach.share, self.reach.width))
            ):
                spread = np.log1p(squares / (df * width**2))
                logs[i, j] = np.log(share) - d * np.log(width) + height - (df + d) / 2 * spread
        return logs, white

    @staticmethod
    def _choose(uniform: Array, chances: Array) -> Array:
        """One of k for each of n points, by chances (k, n)."""
        if len(chances) == 1:
            return np.zeros(len(uniform), dtype=int)
        return np.asarray((uniform > np.cumsum(chances[:-1], axis=0)).sum(axis=0))


def _log_sum(logs: Array) -> Array:
    """Log of the sum over the first axis; scipy's general version takes three times as long."""
    if len(logs) == 1:
        return np.asarray(logs[0])
    top = logs.max(axis=0)
    return np.asarray(top + np.log(np.exp(logs - top).sum(axis=0)))

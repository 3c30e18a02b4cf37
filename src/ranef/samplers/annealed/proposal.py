"""A t distribution in coordinates that bend with the particles, and moves that leave it as it is.

Each coordinate is y = m + c sinh((asinh z + a) / b), which gives z skewness by a and tails by b
(Jones and Pewsey 2009, Biometrika 96, 761); z has a multivariate t distribution with many degrees
of freedom, a share of it wider than the rest (mathematics.md, 4.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln, ndtri

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = ["Proposal", "fit_proposal"]

_DF = 30.0
# Share of the wide part, and its width: where a proposal is thin, particles stay long.
_SHARE, _WIDTH = 0.3, 1.8
# Quantiles that tell place, spread, skewness and tails of a coordinate.
_LEVELS = np.array([0.03, 0.25, 0.5, 0.75, 0.97])
_SKEW = np.linspace(-1.2, 1.2, 49)
_TAIL = np.linspace(0.6, 1.6, 41)


@dataclass(frozen=True)
class Proposal:
    """Where particles may go next.

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

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points, shape (n, d)."""
        stretch = np.where(rng.random(n) < _SHARE, _WIDTH, 1.0)
        stretch /= np.sqrt(rng.chisquare(_DF, n) / _DF)
        u = rng.standard_normal((n, len(self.place)))
        return self._bend(self.center + stretch[:, None] * (u @ self.root.T))

    def log_density(self, y: Array) -> Array:
        """Log density at y (n, d), shape (n,)."""
        z = self._straighten(y)
        parts, _ = self._parts(self._white(z))
        return np.asarray(np.logaddexp(*parts) - self._log_slope(z).sum(axis=1))

    def step(self, y: Array, rho: float, rng: np.random.Generator) -> Array:
        """Move points so that the distribution stays as it is, and each step could be undone.

        Given its stretch a point is normal, and a Crank-Nicolson step with correlation rho keeps a
        normal point normal (Neal 1999, Bayesian Statistics 6, 475).
        """
        n, d = y.shape
        white = self._white(self._straighten(y))
        parts, squares = self._parts(white)
        wide = np.log(rng.random(n)) < parts[1] - np.logaddexp(*parts)
        width = np.where(wide, _WIDTH, 1.0)
        # The stretch given the point: its square's inverse is a gamma variable.
        rate = (_DF + squares / width**2) / 2
        stretch = width / np.sqrt(rng.standard_gamma((_DF + d) / 2, n) / rate)
        u = rho * white / stretch[:, None] + np.sqrt(1 - rho**2) * rng.standard_normal((n, d))
        return self._bend(self.center + stretch[:, None] * (u @ self.root.T))

    def _parts(self, white: Array) -> tuple[Array, Array]:
        """Log density of the narrow and of the wide part at whitened points, and their squares."""
        d = white.shape[1]
        squares = np.einsum("nd,nd->n", white, white)
        constant = gammaln((_DF + d) / 2) - gammaln(_DF / 2) - d / 2 * np.log(_DF * np.pi)
        constant -= np.log(np.diag(self.root)).sum()
        parts = [
            np.log(share) + constant - d * np.log(width)
            - (_DF + d) / 2 * np.log1p(squares / (_DF * width**2))
            for share, width in ((1 - _SHARE, 1.0), (_SHARE, _WIDTH))
        ]  # fmt: skip
        return np.array(parts), squares

    def _white(self, z: Array) -> Array:
        return np.asarray((z - self.center) @ np.linalg.inv(self.root).T)

    def _bend(self, z: Array) -> Array:
        bent = np.sinh((np.arcsinh(z) + self.skew) / self.tail)
        return np.asarray(self.place + self.scale * bent)

    def _straighten(self, y: Array) -> Array:
        bent = np.arcsinh((y - self.place) / self.scale)
        return np.asarray(np.sinh(self.tail * bent - self.skew))

    def _log_slope(self, z: Array) -> Array:
        """Logarithm of dy/dz."""
        bent = (np.arcsinh(z) + self.skew) / self.tail
        return np.asarray(np.log(self.scale * np.cosh(bent) / self.tail) - 0.5 * np.log1p(z * z))


def fit_proposal(y: Array, weight: Array | None = None) -> Proposal:
    """Fit a proposal to particles.

    Parameters
    ----------
    y
        Shape (n, d).
    weight
        Shape (n,), summing to one; even by default.

    Returns
    -------
    Proposal
    """
    n, d = y.shape
    weight = np.full(n, 1 / n) if weight is None else weight
    quantiles = np.array([_quantiles(column, weight) for column in y.T])
    # Of each shape the quantiles in its own units, so that place and spread drop out.
    skew, tail = (a.ravel() for a in np.meshgrid(_SKEW, _TAIL))
    shapes = np.sinh((np.arcsinh(ndtri(_LEVELS))[:, None] + skew) / tail).T
    units, own = _in_units(shapes), _in_units(quantiles)
    best = ((units - own[:, None]) ** 2).sum(axis=2).argmin(axis=1)
    shape = shapes[best]
    scale = (quantiles[:, 3] - quantiles[:, 1]) / (shape[:, 3] - shape[:, 1])
    place = quantiles[:, 2] - scale * shape[:, 2]
    straight = Proposal(place, scale, skew[best], tail[best], np.zeros(d), np.eye(d))
    z = straight._straighten(y)
    center = weight @ z
    gap = z - center
    cover = (weight[:, None] * gap).T @ gap
    cover[range(d), range(d)] = cover[range(d), range(d)] * (1 + 1e-6) + 1e-12
    root = np.asarray(np.linalg.cholesky(cover), dtype=float)
    return Proposal(place, scale, skew[best], tail[best], center, root)


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

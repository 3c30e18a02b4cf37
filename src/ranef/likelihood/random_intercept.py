"""Marginal posterior of one grouping factor's variance ratio and the residual SD.

The model is `y_ij = x_ij' beta + b_i + e_ij`, with `b_i ~ N(0, sigma_b^2)`,
`e_ij ~ N(0, sigma^2)`. With effects and coefficients integrated out two numbers remain,
`rho = log(sigma_b^2 / sigma^2)` and `tau = log sigma`, and the likelihood sees the data through
sums over groups of equal size (mathematics.md, section 2). With inverse-gamma priors on both
variances and flat coefficients tau integrates out too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, gammaln

from ranef.cells.orthonormal import gram
from ranef.likelihood.coefficients import Coefficients, Profile

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.mixed_model.model import Model

__all__ = ["RandomIntercept"]

# Largest number of (ratio, group size) pairs held in memory at once.
_BLOCK = 2_000_000


class RandomIntercept:
    """Log densities and conditional moments of a random-intercept model.

    Parameters
    ----------
    model
        Data and priors; one grouping factor, the constant as its only column.

    Attributes
    ----------
    conjugate
        True if rho alone has to be sampled: inverse-gamma variances, flat coefficients.
    k
        Residual degrees of freedom N - p.
    size
        Distinct group sizes m (sums of weights), shape (D,).
    groups
        Number of groups of each size, shape (D,).
    size_index
        For each group its position in `size`, shape (G,).
    mean
        Means of [X~ y~] per group, shape (G, p + 1).
    between
        Sums of mean mean' over groups of each size, shape (D, p + 1, p + 1).
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.design = design = model.design
        self.coefficients = Coefficients(design, model.prior_precision, model.prior_mean)
        self.k = self.coefficients.k
        self.sigma, self.group = model.layout.sigma, model.layout.terms[0].scales[0]
        self.conjugate = (
            self.coefficients.flat
            and self.sigma is not None
            and self.sigma.inverse_gamma is not None
            and self.group.inverse_gamma is not None
        )
        self.mean, p1 = design.mean, design.p + 1
        if design.count.min() == design.count.max():
            self.size = design.count[:1].astype(float)
            self.size_index = np.zeros(len(design.count), dtype=np.intp)
            between = gram(self.mean)[None]
        else:
            self.size, self.size_index = np.unique(design.count, return_inverse=True)
            between = np.empty((len(self.size), p1, p1))
            for i in range(p1):
                for j in range(i + 1):
                    between[:, i, j] = between[:, j, i] = np.bincount(
                        self.size_index, self.mean[:, i] * self.mean[:, j], len(self.size)
                    )
        self.groups = np.array([float(len(design.count))])
        if len(self.size) > 1:
            self.groups = np.bincount(self.size_index, minlength=len(self.size)).astype(float)
        self._log_size = np.log(self.size)
        self.between = between

    # -- the coefficients given rho ------------------------------------------------------------

    def profile(self, rho: Array) -> Profile:
        """Integrate the coefficients out at each value of rho.

        Parameters
        ----------
        rho
            Log variance ratios, shape (n,).

        Returns
        -------
        Profile
        """
        step = max(1, _BLOCK // max(len(self.size), (self.design.p + 1) ** 2))
        parts = [self._sums(rho[i : i + step]) for i in range(0, max(len(rho), 1), step)]
        return self.coefficients.profile(
            np.concatenate([a for a, _ in parts]), np.concatenate([u for _, u in parts])
        )

    def _sums(self, rho: Array) -> tuple[Array, Array]:
        """Sum log(1 + m r) over groups and form [X~ y~]' V^-1 [X~ y~] sigma^2."""
        odds = rho[:, None] + self._log_size
        log_det = np.logaddexp(0.0, odds) @ self.groups
        U = (self.size * expit(-odds)) @ self.between.reshape(len(self.size), -1)
        p1 = self.design.p + 1
        return log_det, U.reshape(-1, p1, p1) + self.design.within

    # -- log densities -------------------------------------------------------------------------

    def log_likelihood(self, rho: Array, tau: Array, *, reml: bool = True) -> Array:
        """Log marginal likelihood of (rho, tau), with every constant.

        Parameters
        ----------
        rho, tau
            Shape (n,).
        reml
            As in `Coefficients.log_likelihood`.

        Returns
        -------
        numpy.ndarray
            Shape (n,), in nats.
        """
        return self.coefficients.log_likelihood(self.profile(rho), tau, reml=reml)

    def log_density(self, rho: Array, tau: Array, profile: Profile | None = None) -> Array:
        """Log joint density of (rho, tau) and the data: likelihood, priors and Jacobian.

        Where sigma is known it is the density of rho alone, at tau = log sigma.

        Parameters
        ----------
        rho
            Shape (n,).
        tau
            Shape (n,) or (n, t), t values of tau for each rho.
        profile
            `self.profile(rho)`, if it is at hand.

        Returns
        -------
        numpy.ndarray
            The shape of tau. Integrates to the marginal likelihood.
        """
        profile = self.profile(rho) if profile is None else profile
        group = tau + 0.5 * rho.reshape(rho.shape + (1,) * (tau.ndim - 1))
        out = (
            self.coefficients.constant
            + self.coefficients.core(profile, tau)
            + (0.0 if self.sigma is None else self.sigma.log_density(tau))
            + self.group.log_density(group)
            - np.log(2.0)  # d log(sigma_b) = d rho / 2
        )
        return np.where(np.isnan(out), -np.inf, out)

    def log_density_ratio(self, rho: Array, profile: Profile | None = None) -> Array:
        """Log density of rho and the data with tau integrated out; conjugate models only.

        Parameters
        ----------
        rho
            Shape (n,).
        profile
            `self.profile(rho)`, if it is at hand.

        Returns
        -------
        numpy.ndarray
            Shape (n,). Integrates to the marginal likelihood.
        """
        (ae, be), (ax, bx) = self._inverse_gammas()
        profile = self.profile(rho) if profile is None else profile
        shape, rate = self.residual_variance(rho, profile)
        constant = (
            self.coefficients.constant
            + ae * np.log(be)
            - gammaln(ae)
            + ax * np.log(bx)
            - gammaln(ax)
            + gammaln(shape)
        )
        return np.asarray(constant - ax * rho - 0.5 * profile.log_det - shape * np.log(rate))

    def residual_variance(self, rho: Array, profile: Profile) -> tuple[float, Array]:
        """Shape and rates of sigma^2 | rho, y ~ inverse gamma; conjugate models only."""
        (ae, be), (ax, bx) = self._inverse_gammas()
        with np.errstate(over="ignore"):
            rate = be + bx * np.exp(-rho) + 0.5 * profile.rest
        return ae + ax + 0.5 * self.k, rate

    def _inverse_gammas(self) -> tuple[tuple[float, float], tuple[float, float]]:
        sigma = None if self.sigma is None else self.sigma.inverse_gamma
        group = self.group.inverse_gamma
        if sigma is None or group is None:
            raise TypeError("not a conjugate model")
        return sigma, group

    # -- coefficients and effects given (rho, tau) -----------------------------------------------

    def coefficient_moments(self, profile: Profile, tau: Array) -> tuple[Array, Array]:
        """Mean and a square root of the covariance of the internal coefficients; see `moments`."""
        return self.coefficients.moments(profile, tau)

    def shrinkage(self, rho: Array) -> Array:
        """Share of a group's own mean in its effect, r m / (1 + r m), shape (n, sizes)."""
        return np.asarray(expit(rho[:, None] + self._log_size))

"""Marginal posterior of one grouping factor's variance ratio and the residual SD.

The model is `y_ij = x_ij' beta + b_i + e_ij`, with `b_i ~ N(0, sigma_b^2)`,
`e_ij ~ N(0, sigma^2)`. With effects and coefficients integrated out two numbers remain,
`log_ratio = log(sigma_b^2 / sigma^2)` and `log_sigma`, and the likelihood sees the data through
sums over groups of equal size (mathematics.md, section 2). With inverse-gamma priors on both
variances and flat coefficients log_sigma integrates out too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, gammaln

from ranef.cells.orthonormal import gram
from ranef.common import budget
from ranef.likelihood.coefficients import Coefficients, Profile

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec

__all__ = ["RandomIntercept"]


class RandomIntercept:
    """Log densities and conditional moments of a random-intercept model.

    Parameters
    ----------
    model
        Data and priors; one grouping factor, the constant as its only column.

    Attributes
    ----------
    conjugate
        True if log_ratio alone has to be sampled: inverse-gamma variances, flat coefficients.
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

    def __init__(self, model: ModelSpec) -> None:
        self.model = model
        self.design = design = model.design
        self.coefficients = Coefficients(model)
        self.k = self.coefficients.k
        self.family, self.group = model.parameters.family, model.parameters.terms[0].scales[0]
        priors = [*self.family.scales.values(), self.group]
        self._gammas = [p.inverse_gamma for p in priors if p.inverse_gamma is not None]
        self.conjugate = self.coefficients.flat and len(self._gammas) == 2
        self.mean, self._within = model.response.beside(design)
        p1 = design.p + 1
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

    # -- the coefficients given log_ratio

    def profile(self, log_ratio: Array) -> Profile:
        """Integrate the coefficients out at each value of log_ratio.

        Parameters
        ----------
        log_ratio
            Log variance ratios, shape (n,).

        Returns
        -------
        Profile
        """
        each = max(len(self.size), (self.design.p + 1) ** 2)
        blocks = budget.GROUP_SIZES.blocks(max(len(log_ratio), 1), each)
        parts = [self._sums(log_ratio[block]) for block in blocks]
        return self.coefficients.profile(
            np.concatenate([a for a, _ in parts]), np.concatenate([u for _, u in parts])
        )

    def _sums(self, log_ratio: Array) -> tuple[Array, Array]:
        """Sum log(1 + m r) over groups and form [X~ y~]' V^-1 [X~ y~] sigma^2."""
        odds = log_ratio[:, None] + self._log_size
        log_det = np.logaddexp(0.0, odds) @ self.groups
        U = (self.size * expit(-odds)) @ self.between.reshape(len(self.size), -1)
        p1 = self.design.p + 1
        return log_det, U.reshape(-1, p1, p1) + self._within

    # -- log densities -------------------------------------------------------------------------

    def log_likelihood(self, log_ratio: Array, log_sigma: Array, *, reml: bool = True) -> Array:
        """Log marginal likelihood of (log_ratio, log_sigma), with every constant.

        Parameters
        ----------
        log_ratio, log_sigma
            Shape (n,).
        reml
            As in `Coefficients.log_likelihood`.

        Returns
        -------
        numpy.ndarray
            Shape (n,), in nats.
        """
        return self.coefficients.log_likelihood(self.profile(log_ratio), log_sigma, reml=reml)

    def log_density(
        self, log_ratio: Array, log_sigma: Array, profile: Profile | None = None
    ) -> Array:
        """Log joint density of log_ratio, log_sigma and the data: likelihood, priors, Jacobian.

        Where sigma is known it is the density of log_ratio alone, at log_sigma = log sigma.

        Parameters
        ----------
        log_ratio
            Shape (n,).
        log_sigma
            Shape (n,) or (n, t), t values of log_sigma for each log_ratio.
        profile
            `self.profile(log_ratio)`, if it is at hand.

        Returns
        -------
        numpy.ndarray
            The shape of log_sigma. Integrates to the marginal likelihood.
        """
        profile = self.profile(log_ratio) if profile is None else profile
        group = log_sigma + 0.5 * log_ratio.reshape(log_ratio.shape + (1,) * (log_sigma.ndim - 1))
        out = (
            self.coefficients.constant
            + self.coefficients.core(profile, log_sigma)
            + self.family.log_prior(log_sigma)
            + self.group.log_density(group)
            - np.log(2.0)  # d log(sigma_b) = d log_ratio / 2
        )
        return np.where(np.isnan(out), -np.inf, out)

    def log_density_ratio(self, log_ratio: Array, profile: Profile | None = None) -> Array:
        """Log density of log_ratio and the data, log_sigma integrated out; conjugate models only.

        Parameters
        ----------
        log_ratio
            Shape (n,).
        profile
            `self.profile(log_ratio)`, if it is at hand.

        Returns
        -------
        numpy.ndarray
            Shape (n,). Integrates to the marginal likelihood.
        """
        (ae, be), (ax, bx) = self._inverse_gammas()
        profile = self.profile(log_ratio) if profile is None else profile
        shape, rate = self.residual_variance(log_ratio, profile)
        constant = (
            self.coefficients.constant
            + ae * np.log(be)
            - gammaln(ae)
            + ax * np.log(bx)
            - gammaln(ax)
            + gammaln(shape)
        )
        return np.asarray(constant - ax * log_ratio - 0.5 * profile.log_det - shape * np.log(rate))

    def residual_variance(self, log_ratio: Array, profile: Profile) -> tuple[float, Array]:
        """Shape and rates of sigma^2 | log_ratio, y ~ inverse gamma; conjugate models only."""
        (ae, be), (ax, bx) = self._inverse_gammas()
        with np.errstate(over="ignore"):
            rate = be + bx * np.exp(-log_ratio) + 0.5 * profile.rest
        return ae + ax + 0.5 * self.k, rate

    def _inverse_gammas(self) -> list[tuple[float, float]]:
        if len(self._gammas) != 2:
            raise TypeError("not a conjugate model")
        return self._gammas

    # -- coefficients and effects given (log_ratio, log_sigma)

    def coefficient_moments(self, profile: Profile, log_sigma: Array) -> tuple[Array, Array]:
        """Mean and a square root of the covariance of the internal coefficients; see `moments`."""
        return self.coefficients.moments(profile, log_sigma)

    def shrinkage(self, log_ratio: Array) -> Array:
        """Share of a group's own mean in its effect, r m / (1 + r m), shape (n, sizes)."""
        return np.asarray(expit(log_ratio[:, None] + self._log_size))

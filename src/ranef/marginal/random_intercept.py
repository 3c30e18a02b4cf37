"""Marginal posterior of one grouping factor's variance ratio and the residual SD.

The model is `y_ij = x_ij' beta + b_i + e_ij`, with `b_i ~ N(0, sigma_b^2)`,
`e_ij ~ N(0, sigma^2)`. With effects and coefficients integrated out two numbers remain,
`rho = log(sigma_b^2 / sigma^2)` and `tau = log sigma`, and the likelihood sees the data through
sums over groups of equal size (mathematics.md, section 2). With inverse-gamma priors on both
variances and flat coefficients tau integrates out too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, gammaln

from ranef.marginal.stack import cholesky, solve_lower, solve_upper

if TYPE_CHECKING:
    from ranef.model import Model
    from ranef.types import Array

__all__ = ["Profile", "RandomIntercept"]

# Largest number of (ratio, group size) pairs held in memory at once.
_BLOCK = 2_000_000


@dataclass(frozen=True)
class Profile:
    """The Gaussian of the coefficients given n values of rho, in internal coordinates.

    With `F F' = X~' V^-1 X~ sigma^2` and the prior precision diagonal in the basis `F'^-1 V`:

    Attributes
    ----------
    log_det
        Sum over groups of log(1 + m r), plus log|F F'|, shape (n,).
    rest
        Generalised residual sum of squares at the best coefficients, shape (n,).
    F
        Shape (n, p, p).
    best
        Best coefficients in the rotated basis, shape (n, p).
    V, d, prior_best
        Rotation (n, p, p), prior precisions (n, p) relative to the data's at sigma = 1, and prior
        means (n, p) in that basis; None where all coefficients are flat.
    """

    log_det: Array
    rest: Array
    F: Array
    best: Array
    V: Array | None
    d: Array | None
    prior_best: Array | None


class RandomIntercept:
    """Log densities and conditional moments of a random-intercept model.

    Parameters
    ----------
    model
        Data and priors.

    Attributes
    ----------
    conjugate
        True if rho alone has to be sampled: inverse-gamma variances, flat coefficients.
    k
        Residual degrees of freedom N - p.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.design = design = model.design
        self.k = design.N - design.p
        precision = model.prior_precision
        self._flat = not np.any(precision)
        self.conjugate = (
            self._flat
            and model.sigma.inverse_gamma is not None
            and model.group.inverse_gamma is not None
        )
        self._log_size = np.log(design.size)
        self._between = design.between.reshape(len(design.size), -1)
        self._root = np.sqrt(precision[precision > 0])[:, None] * design.T[precision > 0]
        offset = np.where(precision > 0, model.prior_mean - design.beta_ls, 0.0)
        self._prior_offset = np.linalg.solve(design.T, offset) if design.p else offset
        normal = precision[precision > 0]
        # log of (2 pi)^(-(N - p)/2), the change of coordinates, and the normal priors' constants.
        self._constant = (
            -0.5 * self.k * np.log(2 * np.pi)
            + design.log_det_T
            + 0.5 * float(np.sum(np.log(normal / (2 * np.pi))))
        )

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
        p = self.design.p
        step = max(1, _BLOCK // max(len(self.design.size), (p + 1) ** 2))
        parts = [self._sums(rho[i : i + step]) for i in range(0, max(len(rho), 1), step)]
        log_det = np.concatenate([a for a, _ in parts])
        U = np.concatenate([u for _, u in parts])
        rest = U[:, p, p]
        F = cholesky(U[:, :p, :p])
        best = solve_lower(F, U[:, :p, p])
        if p:
            log_det = log_det + 2 * np.log(np.einsum("nii->ni", F)).sum(axis=1)
            # Where X explains all there is, rounding must not make less than nothing of the rest.
            floor = 4 * np.finfo(float).eps * rest
            rest = np.maximum(rest - np.einsum("ni,ni->n", best, best), floor)
        if self._flat:
            return Profile(log_det, rest, F, best, None, None, None)
        inverse = np.stack(
            [solve_lower(F, np.broadcast_to(e, best.shape)) for e in np.eye(p)], axis=2
        )
        # Singular values, not eigenvalues of the squares: those lose wide priors beside tight ones
        # and leave rounding in the directions of flat coefficients.
        _, root, Vh = np.linalg.svd(self._root @ inverse.transpose(0, 2, 1))
        V = Vh.transpose(0, 2, 1)
        d = np.zeros_like(best)
        d[:, : root.shape[1]] = root**2
        best = np.einsum("nij,ni->nj", V, best)
        prior_best = np.einsum("nij,nki,k->nj", V, F, self._prior_offset)
        return Profile(log_det, rest, F, best, V, d, prior_best)

    def _sums(self, rho: Array) -> tuple[Array, Array]:
        """Sum log(1 + m r) over groups and form [X~ y~]' V^-1 [X~ y~] sigma^2."""
        odds = rho[:, None] + self._log_size
        log_det = np.logaddexp(0.0, odds) @ self.design.groups
        U = (self.design.size * expit(-odds)) @ self._between
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
            True: coefficients integrated over their priors (flat ones over the whole line, as in
            REML). False: coefficients at their maximum (ML); their priors are left out.

        Returns
        -------
        numpy.ndarray
            Shape (n,), in nats.
        """
        profile = self.profile(rho)
        if reml:
            return np.asarray(self._constant + self._core(profile, tau))
        N, p = self.design.N, self.design.p
        groups = profile.log_det
        if p:
            groups = groups - 2 * np.log(np.einsum("nii->ni", profile.F)).sum(axis=1)
        return np.asarray(
            -0.5 * N * np.log(2 * np.pi)
            - N * tau
            - 0.5 * groups
            - 0.5 * np.exp(-2 * tau) * profile.rest
        )

    def _core(self, profile: Profile, tau: Array) -> Array:
        """The likelihood's dependence on rho (rows) and tau (same shape, or rows by columns)."""

        def rows(a: Array) -> Array:
            return a.reshape(a.shape + (1,) * (tau.ndim - 1))

        with np.errstate(over="ignore"):
            out = (
                -self.k * tau
                - 0.5 * rows(profile.log_det)
                - 0.5 * np.exp(-2 * tau) * rows(profile.rest)
            )
            if profile.d is not None and profile.prior_best is not None:
                for j in range(self.design.p):
                    d, gap = profile.d[:, j], profile.best[:, j] - profile.prior_best[:, j]
                    spread = np.exp(2 * tau) * rows(d)
                    out = out - 0.5 * np.log1p(spread) - 0.5 * rows(d * gap**2) / (1 + spread)
        return np.asarray(out)

    def log_density(self, rho: Array, tau: Array, profile: Profile | None = None) -> Array:
        """Log joint density of (rho, tau) and the data: likelihood, priors and Jacobian.

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
            self._constant
            + self._core(profile, tau)
            + self.model.sigma.log_density(tau)
            + self.model.group.log_density(group)
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
            self._constant
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
        sigma, group = self.model.sigma.inverse_gamma, self.model.group.inverse_gamma
        if sigma is None or group is None:
            raise TypeError("not a conjugate model")
        return sigma, group

    # -- coefficients and effects given (rho, tau) -----------------------------------------------

    def coefficient_moments(self, profile: Profile, tau: Array) -> tuple[Array, Array]:
        """Mean and a square root of the covariance of the internal coefficients.

        Parameters
        ----------
        profile
            At n values of rho.
        tau
            Shape (n,).

        Returns
        -------
        mean : numpy.ndarray
            Shape (n, p).
        root : numpy.ndarray
            Shape (n, p, p), with root root' = covariance.
        """
        p, n = self.design.p, len(tau)
        sd = np.exp(tau)[:, None] * np.ones((n, p))
        middle = profile.best
        if profile.d is not None and profile.prior_best is not None:
            spread = np.exp(2 * tau)[:, None] * profile.d
            middle = (profile.best + spread * profile.prior_best) / (1 + spread)
            sd = sd / np.sqrt(1 + spread)
        basis = np.broadcast_to(np.eye(p), (n, p, p)) if profile.V is None else profile.V
        mean = solve_upper(profile.F, np.einsum("nij,nj->ni", basis, middle))
        root = np.empty((n, p, p))
        for j in range(p):
            root[:, :, j] = solve_upper(profile.F, basis[:, :, j] * sd[:, j : j + 1])
        return mean, root

    def shrinkage(self, rho: Array) -> Array:
        """Share of a group's own mean in its effect, r m / (1 + r m), shape (n, sizes)."""
        return np.asarray(expit(rho[:, None] + self._log_size))

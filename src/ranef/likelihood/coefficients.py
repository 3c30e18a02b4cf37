"""The Gaussian of the coefficients given variance parameters, shared by all structures.

A structure gives, at each value of the variance ratios, `log|V|` and `U = [X~ y~]'V^-1[X~ y~]`,
both relative to sigma^2. The coefficients integrate out of U, under flat or normal priors
(mathematics.md, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.numerics.batched_linalg import (
    cholesky,
    solve_lower,
    solve_upper,
    solve_upper_columns,
)

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.mixed_model.model import ModelSpec

__all__ = ["Coefficients", "Profile"]


@dataclass(frozen=True)
class Profile:
    """The coefficients' Gaussian given n values of the variance ratios, in internal coordinates.

    With `F F' = X~' V^-1 X~ sigma^2` and the prior precision diagonal in the basis `F'^-1 V`:

    Attributes
    ----------
    log_det
        log|V| relative to sigma^2, plus log|F F'|, shape (n,).
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

    def take(self, index: IntArray) -> Profile:
        """Keep the rows of `index`, in that order."""
        parts: dict[str, Any] = {k: v[index] for k, v in self.__dict__.items() if v is not None}
        return replace(self, **parts)


class Coefficients:
    """Integrate the fixed effects out.

    Parameters
    ----------
    model
        Data and priors.

    Attributes
    ----------
    k
        Residual degrees of freedom N - p.
    flat
        Whether all priors are flat.
    constant
        What the log likelihood holds beside its dependence on the variance parameters.
    """

    def __init__(self, model: ModelSpec) -> None:
        self.design = design = model.design
        precision = model.prior_precision
        self.k = design.N - design.p
        self.flat = not np.any(precision)
        self._root = np.sqrt(precision[precision > 0])[:, None] * design.T[precision > 0]
        offset = np.where(precision > 0, model.prior_mean - model.response.beta_ls, 0.0)
        self._prior_offset = np.linalg.solve(design.T, offset) if design.p else offset
        normal = precision[precision > 0]
        # log of (2 pi)^(-(N - p)/2), the change of coordinates, the normal priors' constants.
        self.constant = (
            -0.5 * self.k * np.log(2 * np.pi)
            + design.log_det_T
            + 0.5 * design.log_weights
            + 0.5 * float(np.sum(np.log(normal / (2 * np.pi))))
        )

    def profile(self, log_det: Array, U: Array) -> Profile:
        """Integrate the coefficients out of n cross-product matrices.

        Parameters
        ----------
        log_det
            Shape (n,).
        U
            Shape (n, p + 1, p + 1).

        Returns
        -------
        Profile
        """
        p = self.design.p
        rest = U[:, p, p]
        with np.errstate(invalid="ignore", divide="ignore"):
            F = cholesky(U[:, :p, :p])
        lost = ~np.isfinite(F).all(axis=(1, 2))
        if lost.any():
            # Rounding has eaten X'V^-1X, far out: nothing can be said there, so no density.
            F[lost], log_det = np.eye(p), np.where(lost, np.inf, log_det)
        best = solve_lower(F, U[:, :p, p])
        if p:
            log_det = log_det + 2 * np.log(np.einsum("nii->ni", F)).sum(axis=1)
            # Where X explains all there is, rounding must not make less than nothing of the rest.
            floor = 4 * np.finfo(float).eps * rest
            rest = np.maximum(rest - np.einsum("ni,ni->n", best, best), floor)
        if self.flat:
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

    def core(self, profile: Profile, log_sigma: Array) -> Array:
        """The likelihood's dependence on ratios (rows) and log_sigma (rows, or rows by columns)."""

        def rows(a: Array) -> Array:
            return a.reshape(a.shape + (1,) * (log_sigma.ndim - 1))

        with np.errstate(over="ignore"):
            out = (
                -self.k * log_sigma
                - 0.5 * rows(profile.log_det)
                - 0.5 * np.exp(-2 * log_sigma) * rows(profile.rest)
            )
            if profile.d is not None and profile.prior_best is not None:
                for j in range(self.design.p):
                    d, gap = profile.d[:, j], profile.best[:, j] - profile.prior_best[:, j]
                    spread = np.exp(2 * log_sigma) * rows(d)
                    out = out - 0.5 * np.log1p(spread) - 0.5 * rows(d * gap**2) / (1 + spread)
        return np.asarray(out)

    def core_slope(self, profile: Profile, log_sigma: Array) -> Array:
        """Derivative of `core` by log_sigma at fixed ratios, shape (n,) as log_sigma."""
        with np.errstate(over="ignore"):
            out = np.exp(-2 * log_sigma) * profile.rest - self.k
            if profile.d is not None and profile.prior_best is not None:
                spread = np.exp(2 * log_sigma)[:, None] * profile.d
                gap = profile.d * (profile.best - profile.prior_best) ** 2
                pull = gap / (1 + spread) - 1
                out = out + (spread / (1 + spread) * pull).sum(axis=1)
        return np.asarray(out)

    def log_likelihood(self, profile: Profile, log_sigma: Array, *, reml: bool) -> Array:
        """Log marginal likelihood with every constant.

        Parameters
        ----------
        profile
            At n values of the variance ratios.
        log_sigma
            log sigma, shape (n,).
        reml
            True: coefficients integrated over their priors (flat ones over the whole line, as in
            REML). False: coefficients at their maximum (ML); their priors are left out.

        Returns
        -------
        numpy.ndarray
            Shape (n,), in nats.
        """
        if reml:
            return np.asarray(self.constant + self.core(profile, log_sigma))
        N, p = self.design.N, self.design.p
        groups = profile.log_det
        if p:
            groups = groups - 2 * np.log(np.einsum("nii->ni", profile.F)).sum(axis=1)
        return np.asarray(
            -0.5 * N * np.log(2 * np.pi)
            + 0.5 * self.design.log_weights
            - N * log_sigma
            - 0.5 * groups
            - 0.5 * np.exp(-2 * log_sigma) * profile.rest
        )

    def moments(self, profile: Profile, log_sigma: Array) -> tuple[Array, Array]:
        """Mean and a square root of the covariance of the internal coefficients.

        Parameters
        ----------
        profile
            At n values of the variance ratios.
        log_sigma
            Shape (n,).

        Returns
        -------
        mean : numpy.ndarray
            Shape (n, p).
        root : numpy.ndarray
            Shape (n, p, p), with root root' = covariance.
        """
        p, n = self.design.p, len(log_sigma)
        sd = np.exp(log_sigma)[:, None] * np.ones((n, p))
        middle = profile.best
        if profile.d is not None and profile.prior_best is not None:
            spread = np.exp(2 * log_sigma)[:, None] * profile.d
            middle = (profile.best + spread * profile.prior_best) / (1 + spread)
            sd = sd / np.sqrt(1 + spread)
        basis = np.broadcast_to(np.eye(p), (n, p, p)) if profile.V is None else profile.V
        mean = solve_upper(profile.F, np.einsum("nij,nj->ni", basis, middle))
        return mean, solve_upper_columns(profile.F, basis * sd[:, None])

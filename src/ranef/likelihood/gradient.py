"""Gradient of the marginal log density, by Fisher's identity (mathematics.md, 3.6).

With effects b and coefficients integrated out, the derivative of the log likelihood is the
posterior mean of the derivative of log p(y, b, beta | parameters) (Louis 1982, Journal of the Royal
Statistical Society B 44, 226). At fixed log sigma the variance ratios enter through p(b) alone, so
with G levels and S = sum over levels of E[b b' | y] / sigma^2 a move dL of a term's relative root L
changes the log likelihood by

    tr(L^-1 dL (A - G I)),   A = L^-1 S L^-T.

L is diag(SD) R with R the root of the correlation matrix. The SDs cancel in L^-1 dL, and S is made
of products with L on both sides, so nothing is singular where an SD goes to zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.likelihood.coefficients import Profile
    from ranef.likelihood.posterior import MarginalPosterior

__all__ = ["log_density_gradient", "log_likelihood_gradient"]

# The likelihood no longer moves below a variance ratio of 1e-80. Towards correlations of one the
# rounding grows as exp(2 |z|); beyond this sum of a row's unconstrained correlations (within 1e-10
# of one, where there is but one) the likelihood's slope is taken at the edge. With three and more
# columns all at that edge at once it is finite, not accurate: no posterior has its mass there.
_FAR_CORRELATION, _SMALL_RATIO = 12.0, -92.0


def log_density_gradient(
    target: MarginalPosterior, theta: Array, profile: Profile | None = None
) -> Array:
    """Gradient of `MarginalPosterior.log_density`, where that is finite.

    Parameters
    ----------
    target
        The marginal posterior. The gradient is that of its likelihood, not of a surrogate.
    theta
        Parameter vectors, shape (n, d).
    profile
        `target.profile(theta)`, if it is at hand.

    Returns
    -------
    numpy.ndarray
        Shape (n, d). Priors without a closed form are differenced.

    Examples
    --------
    >>> import ranef as rf
    >>> from ranef.likelihood.posterior import MarginalPosterior
    >>> model = rf.model("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"))
    >>> target = MarginalPosterior(model.inner)
    >>> log_density_gradient(target, np.log([[40.0, 50.0]])).round(3)
    array([[1.006, 0.208]])
    """
    prior = target.parameters.log_prior_gradient(theta)
    return log_likelihood_gradient(target, theta, profile) + prior


def log_likelihood_gradient(
    target: MarginalPosterior, theta: Array, profile: Profile | None = None
) -> Array:
    """Gradient of the log likelihood with coefficients integrated over their priors.

    Parameters
    ----------
    target
        The marginal posterior.
    theta
        Parameter vectors, shape (n, d).
    profile
        `target.profile(theta)`, if it is at hand.

    Returns
    -------
    numpy.ndarray
        Shape (n, d).
    """
    parameters, design = target.parameters, target.model.design
    profile = target.profile(theta) if profile is None else profile
    log_sigma = parameters.log_sigma(theta)
    relative = parameters.relative(theta)
    for log_sd, z in parameters.split(relative):
        np.maximum(log_sd, _SMALL_RATIO, out=log_sd)
        at = 0
        for i in range(1, log_sd.shape[1] if z.shape[1] else 0):
            row = z[:, at : at + i]
            row *= _FAR_CORRELATION / np.maximum(np.abs(row).sum(axis=1), _FAR_CORRELATION)[:, None]
            at += i
    mean, root = target.coefficients.moments(profile, log_sigma)
    c = np.column_stack([-mean, np.ones(len(log_sigma))]) * np.exp(-log_sigma)[:, None]
    W = c[:, :, None] * c[:, None]
    root = root * np.exp(-log_sigma)[:, None, None]
    W[:, :-1, :-1] += root @ root.transpose(0, 2, 1)
    roots = parameters.roots(parameters.absolute(relative, log_sigma))
    S = target.structure.second_moments(roots, W)
    out = np.empty_like(theta)
    # The family's own columns: that of log sigma, or none.
    own = out[:, parameters.ratios :]
    own[:] = target.coefficients.core_slope(profile, log_sigma)[:, None]
    for term, here, (log_sd, z) in zip(
        parameters.terms, parameters.split(out), parameters.split(relative), strict=True
    ):
        place = np.array(term.place)
        scaled = S[term.factor][:, place[:, None], place] * np.exp(
            -log_sd[:, :, None] - log_sd[:, None, :]
        )
        R, moves = _correlation_moves(z, len(place))
        inverse = np.linalg.inv(R)
        gap = inverse @ scaled @ inverse.transpose(0, 2, 1)
        gap[:, range(len(place)), range(len(place))] -= design.factors[term.factor].levels
        pull = gap @ inverse
        here[0][:] = np.einsum("nij,nji->ni", R, pull)
        here[1][:] = np.einsum("nji,ncij->nc", pull, moves)
        own -= here[0].sum(axis=1)[:, None]  # a larger sigma at fixed SDs is a smaller ratio
    return out


def _correlation_moves(z: Array, q: int) -> tuple[Array, Array]:
    """Root of a correlation matrix and its derivatives by each unconstrained partial correlation.

    Returns
    -------
    root : numpy.ndarray
        As `correlation_root` of `mixed_model.parameters`, without cancellation near one; (n, q, q).
    moves : numpy.ndarray
        Shape (n, c, q, q).
    """
    n, c = z.shape
    root, moves = np.zeros((n, q, q)), np.zeros((n, c, q, q))
    root[:, range(q), range(q)] = 1.0
    if c == 0:
        return root, moves
    partial, rest = np.tanh(z), 1 / np.cosh(z)
    at = 0
    for i in range(1, q):
        left = np.ones(n)
        for j in range(i):
            k = at + j
            # R_ij = tanh z_j prod_{l < j} sech z_l, and (sech z)' = -tanh z sech z.
            root[:, i, j] = partial[:, k] * left
            moves[:, k, i, j] = rest[:, k] ** 2 * left
            for m in range(at, k):
                moves[:, m, i, j] = -partial[:, m] * root[:, i, j]
            left = left * rest[:, k]
        root[:, i, i] = left
        for m in range(at, at + i):
            moves[:, m, i, i] = -partial[:, m] * left
        at += i
    return root, moves

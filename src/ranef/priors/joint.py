"""Priors on several variance parameters at once: an inverse-Wishart covariance, shares of a total.

Both are written as densities of what the samplers move: log standard deviations, and correlations
as inverse-tanh partial correlations (mathematics.md, 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln, logsumexp, multigammaln

from ranef.errors import PriorError
from ranef.numerics.correlations import correlation_root, log_volume, partial_correlations

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.priors import ScalePrior

__all__ = ["SHARES", "TOTAL", "InverseWishart", "Shares", "inverse_wishart", "is_inverse_wishart"]

# Names in `priors=` for the total standard deviation and for the shares of the total variance.
TOTAL, SHARES = "total_sigma", "shares"


@dataclass(frozen=True)
class InverseWishart:
    """Covariance of a group term ~ inverse Wishart.

    Attributes
    ----------
    df
        Degrees of freedom, more than q - 1.
    scale
        Scale matrix, shape (q, q), rows as tuples; the mean is scale / (df - q - 1).
    """

    df: float
    scale: tuple[tuple[float, ...], ...]

    @property
    def text(self) -> str:
        """The prior as `parse_prior` reads it back."""
        rows = ", ".join(f"[{', '.join(f'{v:.12g}' for v in row)}]" for row in self.scale)
        return f"invwishart({self.df:.12g}, scale=[{rows}])"

    def log_density(self, log_sd: Array, z: Array) -> Array:
        """Log density of log SDs (n, q) and unconstrained correlations (n, c), shape (n,).

        With the covariance S = D R D: dS = 2^q prod sd^q d(sd) dR, so a log SD brings sd^(q + 1).
        """
        S = np.array(self.scale)
        q = len(S)
        constant = (
            0.5 * self.df * (np.linalg.slogdet(S)[1] - q * np.log(2.0))
            - multigammaln(0.5 * self.df, q)
            + q * np.log(2.0)
        )
        R, half = correlation_root(z, q), np.empty((len(z), q, q))
        # Far out SDs overflow and correlations round to one: no density there, and no errors.
        with np.errstate(all="ignore"):
            right = np.exp(-log_sd)[:, :, None] * np.linalg.cholesky(S)
            for i in range(q):
                done = np.einsum("nk,nkj->nj", R[:, i, :i], half[:, :i])
                half[:, i] = (right[:, i] - done) / R[:, i, i, None]
            log_det = 2 * (log_sd + np.log(np.einsum("nii->ni", R))).sum(axis=1)
            density = -0.5 * (self.df + q + 1) * log_det - 0.5 * (half**2).sum(axis=(1, 2))
            out = constant + density + (q + 1) * log_sd.sum(axis=1) + log_volume(z, q)
        return np.where(np.isfinite(out), out, -np.inf)

    def conditional(self, levels: int, squares: Array) -> InverseWishart:
        """The covariance given effects with sum of b b' = squares over this many levels."""
        S = np.array(self.scale) + squares
        return InverseWishart(self.df + levels, tuple(map(tuple, S.tolist())))

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        """Draw log SDs (n, q) and unconstrained correlations (n, c)."""
        from scipy import stats

        S = np.array(self.scale)
        q = len(S)
        # A frozen distribution would rewrite its documentation, which takes longer than to draw.
        V = stats.invwishart.rvs(self.df, S, n, random_state=rng).reshape(n, q, q)
        sd = np.sqrt(np.einsum("nii->ni", V))
        return np.log(sd), partial_correlations(V / (sd[:, :, None] * sd[:, None, :]))


@dataclass(frozen=True)
class Shares:
    """The total variance has a prior, and its shares a Dirichlet distribution.

    The total is `sum_k size_k^2 sd_k^2 + sigma^2`, size_k the root mean square of the column that
    varies by group, so that a slope counts with the variance it brings.

    Attributes
    ----------
    total
        Prior on the square root of the total.
    alpha
        Dirichlet parameters in the order of the group columns, the residual last, shape (K,).
    size
        Root mean square of each column, one for the residual, shape (K,).
    text
        The Dirichlet as the user wrote it.
    """

    total: ScalePrior
    alpha: Array
    size: Array
    text: str

    def log_density(self, log_sd: Array) -> Array:
        """Log density of all log SDs (n, K), the residual's last, shape (n,).

        With V the total and w the shares, dv_1 … dv_K = V^(K - 1) dV dw, and the shares' powers and
        the Jacobians of the logarithms come together as prod w_k^alpha_k.
        """
        log_v = 2 * (log_sd + np.log(self.size))
        log_total = logsumexp(log_v, axis=1)
        constant = gammaln(self.alpha.sum()) - gammaln(self.alpha).sum()
        constant += (len(self.alpha) - 1) * np.log(2.0)
        shares = (log_v - log_total[:, None]) @ self.alpha
        return np.asarray(constant + self.total.log_density(0.5 * log_total) + shares)

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """Draw all log SDs, shape (n, K)."""
        total = np.log(self.total.draw(rng, n))
        log_share = np.log(np.maximum(rng.dirichlet(self.alpha, n), 1e-300))
        return np.asarray(total[:, None] + 0.5 * log_share - np.log(self.size))


def is_inverse_wishart(prior: Any) -> bool:
    """Whether a user's prior is a frozen `scipy.stats.invwishart`."""
    return type(prior).__name__ == "invwishart_frozen"


def inverse_wishart(prior: Any, name: str, q: int) -> InverseWishart:
    """Read a user's `scipy.stats.invwishart(df, scale)` for a term with q correlated columns.

    Parameters
    ----------
    prior
        Frozen distribution.
    name
        The term, for error messages.
    q
        Number of its columns.

    Returns
    -------
    InverseWishart

    Raises
    ------
    PriorError
        If its dimension is not q.

    Examples
    --------
    >>> from scipy import stats
    >>> inverse_wishart(stats.invwishart(4, [[2, 0], [0, 1]]), "x|g", 2).text
    'invwishart(4, scale=[[2, 0], [0, 1]])'
    """
    S = np.atleast_2d(np.asarray(prior.scale, dtype=float))
    if len(S) != q:
        raise PriorError(
            f"Prior for {name!r}: invwishart has a {len(S)} x {len(S)} scale, the term has {q} "
            f"columns; a {q} x {q} scale is expected.",
            parameter=name,
        )
    return InverseWishart(float(prior.df), tuple(tuple(float(v) for v in row) for row in S))

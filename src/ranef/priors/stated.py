"""Priors beside scipy.stats: half-t, improper powers, LKJ, Dirichlet (mathematics.md, 3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import brief, positive
from ranef.errors import PriorError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ranef.common.array_types import Array

__all__ = [
    "LKJ",
    "Dirichlet",
    "Power",
    "Variance",
    "dirichlet",
    "flat",
    "half_t",
    "is_frozen",
    "jeffreys",
    "lkj",
    "variance",
]


@dataclass(frozen=True)
class Variance:
    """A distribution that is meant for the variance, not the standard deviation."""

    distribution: Any


@dataclass(frozen=True)
class Power:
    """The improper density proportional to sigma^(-exponent) on a standard deviation."""

    exponent: float
    name: str


def variance(distribution: Any) -> Variance:
    """Say that a prior is on a variance instead of a standard deviation.

    Parameters
    ----------
    distribution
        A frozen `scipy.stats` distribution on (0, inf), or `flat()`.

    Returns
    -------
    Variance
        To be given in `priors`.

    Raises
    ------
    PriorError
        If it is given anything else.

    Examples
    --------
    >>> from scipy import stats
    >>> from ranef.priors import scale_prior
    >>> scale_prior(variance(stats.invgamma(0.1, scale=1)), "sigma").text
    'variance(invgamma(0.1, scale=1))'
    """
    if not isinstance(distribution, Power) and not is_frozen(distribution):
        raise PriorError(
            f"variance is given a {type(distribution).__name__}; expected a frozen continuous "
            "scipy.stats distribution such as scipy.stats.invgamma(1, scale=1), or flat()."
        )
    return Variance(distribution)


def flat() -> Power:
    """Return the improper uniform prior, for a coefficient or a standard deviation.

    On a group's standard deviation it gives a proper posterior only with enough groups
    (Gelman 2006, Bayesian Analysis 1, 515); where it does not, `fit` refuses.

    Returns
    -------
    Power

    Examples
    --------
    >>> flat().exponent
    0.0
    """
    return Power(0.0, "flat")


def jeffreys() -> Power:
    """Return the improper prior 1/sigma, uniform on the logarithm.

    Right for the residual standard deviation; on a group's it makes the posterior improper, which
    `fit` refuses (Hobert and Casella 1996, JASA 91, 1461).

    Returns
    -------
    Power

    Examples
    --------
    >>> jeffreys().exponent
    1.0
    """
    return Power(1.0, "jeffreys")


@cache
def _half_t_family() -> Any:
    """Make the half-t family; inside a function because scipy.stats is slow to import."""
    from scipy import stats

    class HalfT(stats.rv_continuous):  # type: ignore[misc]
        """Absolute value of a t variable."""

        def _pdf(self, x: Array, df: Array) -> Any:
            return 2 * stats.t.pdf(x, df)

        def _logpdf(self, x: Array, df: Array) -> Any:
            return np.log(2) + stats.t.logpdf(x, df)

        def _cdf(self, x: Array, df: Array) -> Any:
            return 2 * stats.t.cdf(x, df) - 1

        def _sf(self, x: Array, df: Array) -> Any:
            return 2 * stats.t.sf(x, df)

        def _ppf(self, q: Array, df: Array) -> Any:
            return stats.t.isf((1 - q) / 2, df)

        def _rvs(self, df: Array, size: Any = None, random_state: Any = None) -> Any:
            return np.abs(stats.t.rvs(df, size=size, random_state=random_state))

        def __reduce__(self) -> Any:
            # A class inside a function cannot be found by its name, so pickle asks the function.
            return _half_t_family, ()

    return HalfT(a=0.0, name="half_t", shapes="df")


def half_t(scale: float, df: float = 3) -> Any:
    """Return the half-t distribution, the usual weakly informative prior on a standard deviation.

    Parameters
    ----------
    scale
        In the units of the response; the median is 0.76 times this for df = 3.
    df
        Degrees of freedom; 3 as in brms, 1 is the half-Cauchy.

    Returns
    -------
    frozen scipy.stats distribution

    Raises
    ------
    PriorError
        If scale or df is not positive and finite.

    Examples
    --------
    >>> round(float(half_t(2.5).median()), 3)
    1.912
    """
    for name, value in (("scale", scale), ("df", df)):
        positive(f"half_t: {name}", value, error=PriorError)
    return _half_t_family()(df, scale=scale)


@dataclass(frozen=True)
class LKJ:
    """The LKJ prior on a correlation matrix."""

    eta: float


def lkj(eta: float) -> LKJ:
    """Return the LKJ prior on the correlations of a group term.

    Parameters
    ----------
    eta
        Density proportional to det(R)^(eta - 1); 1 is uniform over correlation matrices, larger
        values favour weak correlations (Lewandowski, Kurowicka and Joe 2009).

    Returns
    -------
    LKJ

    Raises
    ------
    PriorError
        If eta is not positive.

    Examples
    --------
    >>> lkj(2).eta
    2
    """
    positive("lkj: eta", eta, error=PriorError)
    return LKJ(eta)


@dataclass(frozen=True)
class Dirichlet:
    """Dirichlet on the shares of a total variance: one number for all, by name, or in order."""

    alpha: float | tuple[tuple[str, float], ...] | tuple[float, ...]

    @property
    def text(self) -> str:
        """The prior as `parse_prior` reads it back."""
        if isinstance(self.alpha, float):
            return f"dirichlet({self.alpha:.12g})"
        named = [a for a in self.alpha if isinstance(a, tuple)]
        if named:
            return f"dirichlet({{{', '.join(f'{n!r}: {v:.12g}' for n, v in named)}}})"
        return f"dirichlet([{', '.join(f'{a:.12g}' for a in self.alpha)}])"

    def parameters(self, names: Sequence[str]) -> Array:
        """One parameter for each name, shape (len(names),).

        Raises
        ------
        PriorError
            If a name is unknown, or the numbers are not as many as the names.
        """
        if isinstance(self.alpha, float):
            return np.full(len(names), self.alpha)
        named = dict(a for a in self.alpha if isinstance(a, tuple))
        if named:
            for name in named:
                if name not in names:
                    raise PriorError(
                        f"dirichlet names {name!r}, which is no share of the total variance. "
                        f"{nearest(name, names)}",
                        parameter=name,
                    )
            return np.array([named.get(n, 1.0) for n in names])
        if len(self.alpha) != len(names):
            raise PriorError(
                f"dirichlet has {len(self.alpha)} numbers for {len(names)} shares: "
                f"{', '.join(names)}."
            )
        return np.array(self.alpha, dtype=float)


def dirichlet(alpha: Any) -> Dirichlet:
    """Return the Dirichlet prior on the shares of a total variance.

    Stated as `priors={"shares": dirichlet(1), "total_sigma": half_t(50)}`: the total variance, and
    how it divides among group effects and residual, in place of a prior for each standard
    deviation. A slope's share counts what it brings at the root mean square of its column.

    Parameters
    ----------
    alpha
        One number for all shares (1 is uniform on the simplex), a mapping such as
        `{"1|g": 2, "sigma": 1}` (1 for what it leaves out), a list in the order of the group
        effects with the residual last, or a frozen `scipy.stats.dirichlet`.

    Returns
    -------
    Dirichlet

    Raises
    ------
    PriorError
        If a number is not positive.

    Examples
    --------
    >>> dirichlet({"1|g": 2}).parameters(["1|g", "sigma"])
    array([2., 1.])
    """
    if isinstance(alpha, Dirichlet):
        return alpha
    alpha = getattr(alpha, "alpha", alpha)  # of a frozen scipy.stats.dirichlet
    try:
        if isinstance(alpha, Mapping):
            prior = Dirichlet(tuple((str(k), float(v)) for k, v in alpha.items()))
            values = [v for _, v in prior.alpha]  # type: ignore[union-attr, misc]
        elif np.ndim(alpha):
            prior = Dirichlet(tuple(float(v) for v in alpha))
            values = list(prior.alpha)  # type: ignore[arg-type]
        else:
            prior = Dirichlet(float(alpha))
            values = [float(alpha)]
    except (TypeError, ValueError):
        raise PriorError(
            f"dirichlet takes a positive number, a mapping or a list of them; {brief(alpha)} came."
        ) from None
    if not values or not all(np.isfinite(v) and v > 0 for v in values):
        raise PriorError(f"dirichlet: {brief(alpha)} came; positive numbers are expected.")
    return prior


def is_frozen(prior: Any) -> bool:
    """Whether `prior` is a frozen continuous scipy.stats distribution."""
    from scipy.stats.distributions import rv_frozen

    return isinstance(prior, rv_frozen) and hasattr(prior, "pdf")

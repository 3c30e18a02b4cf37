"""Priors of coefficients that are not integrated out: normal, or t at the columns' means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from ranef.errors import PriorError
from ranef.priors import coefficient_prior

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ranef.common.array_types import Array

__all__ = ["CoefficientPriors", "assign_coefficient_priors"]

# Scale of the defaults, on the scale of the linear predictor, and the intercept's tails: those of
# rstanarm and brms.
_SCALE, _DF = 2.5, 3.0


@dataclass(frozen=True)
class CoefficientPriors:
    """Independent priors on p combinations of p coefficients.

    Attributes
    ----------
    rows
        The combinations, shape (p, p): the identity, but for an intercept at the columns' means.
    mean, sd, df
        Location, scale and degrees of freedom, infinite where normal; shape (p,) each.
    texts
        As tables show them, by coefficient.
    stated
        Those that the user stated, as `parse_prior` reads them back.
    """

    rows: Array
    mean: Array
    sd: Array
    df: Array
    texts: Mapping[str, str]
    stated: Mapping[str, str]

    def log_density(self, beta: Array) -> Array:
        """Log density of coefficients (n, p) in the user's coordinates, shape (n,)."""
        z = (beta @ self.rows.T - self.mean) / self.sd
        heavy = np.isfinite(self.df)
        df = np.where(heavy, self.df, 1.0)
        t = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi)
        t = t - (df + 1) / 2 * np.log1p(z * z / df)
        normal = -0.5 * z * z - 0.5 * np.log(2 * np.pi)
        # The combinations have determinant one.
        return np.asarray((np.where(heavy, t, normal) - np.log(self.sd)).sum(axis=1))

    def gradient(self, beta: Array) -> Array:
        """Derivative of `log_density`, shape (n, p)."""
        z = (beta @ self.rows.T - self.mean) / self.sd
        heavy = np.isfinite(self.df)
        df = np.where(heavy, self.df, 1.0)
        pull = np.where(heavy, (df + 1) * z / (df + z * z), z)
        return np.asarray(-(pull / self.sd) @ self.rows)

    def precision(self, beta: Array) -> Array:
        """What stands for the negative Hessian at one beta (p,), positive definite, (p, p)."""
        z = (self.rows @ beta - self.mean) / self.sd
        heavy = np.isfinite(self.df)
        df = np.where(heavy, self.df, 1.0)
        bend = np.where(heavy, (df + 1) / (df + z * z), 1.0) / self.sd**2
        return np.asarray((self.rows.T * bend) @ self.rows)


def assign_coefficient_priors(
    by_name: Mapping[str, Any], names: Sequence[str], X: Array, location: float
) -> CoefficientPriors:
    """Give each coefficient the prior that was stated, or its default.

    Parameters
    ----------
    by_name
        Stated priors by coefficient.
    names
        Names of the p columns.
    X
        The columns, shape (N, p).
    location
        Linear predictor that all rows have together.

    Returns
    -------
    CoefficientPriors
        By default normal about zero with SD 2.5 / sd(x); an intercept t with three degrees of
        freedom and scale 2.5 about `location`, at the means of the other columns; indicators
        of groups that take an intercept's place normal about `location`, SD 2.5.

    Raises
    ------
    PriorError
        For priors that are neither normal nor t, and flat ones.
    """
    p = len(names)
    rows, mean, sd, df = np.eye(p), np.zeros(p), np.ones(p), np.full(p, np.inf)
    texts, stated = {}, {}
    spread, middle = X.std(axis=0), X.mean(axis=0)
    constant = np.flatnonzero((spread == 0) & (middle != 0))
    # Without a constant, indicators whose sum is one are means of groups.
    means = not len(constant) and bool(p) and np.allclose(X[:, _indicators(X)].sum(axis=1), 1.0)
    for j, name in enumerate(names):
        if name in by_name:
            prior = coefficient_prior(by_name[name], name)
            if prior.precision == 0:
                raise PriorError(
                    f"Prior flat for coefficient {name!r}: where a column separates yes from no, "
                    "or has no events, there is no posterior under it; state a wide normal one "
                    "instead, such as norm(0, 100).",
                    parameter=name,
                )
            mean[j], sd[j] = prior.mean, prior.sd
            texts[name] = stated[name] = prior.text
        elif j in constant[:1]:
            rows[j] = middle / middle[j]
            mean[j], sd[j], df[j] = location / middle[j], _SCALE / abs(middle[j]), _DF
            where = " at the means of the columns" if p > 1 else ""
            texts[name] = f"t({_DF:g}, {mean[j]:.3g}, {sd[j]:.3g}){where}"
        elif means and _indicators(X)[j]:
            mean[j], sd[j] = location, _SCALE
            texts[name] = f"norm({location:.3g}, {_SCALE:g})"
        else:
            sd[j] = _SCALE / (spread[j] if spread[j] > 0 else 1.0)
            texts[name] = f"norm(0, {sd[j]:.3g})"
    return CoefficientPriors(rows, mean, sd, df, texts, stated)


def _indicators(X: Array) -> Any:
    """Which columns hold zeros and ones alone, shape (p,)."""
    return np.all((X == 0) | (X == 1), axis=0)

"""Variance of a row by component (Nakagawa and Schielzeth 2013; mathematics.md, 5.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ranef.common.array_types import Array
    from ranef.formula.rows import Rows
    from ranef.mixed_model.model import ModelSpec
    from ranef.mixed_model.parameters import TermPrior

__all__ = [
    "DistinctRows",
    "VarianceParts",
    "fitted_variance",
    "mean_square",
    "observed_rows",
    "term_columns",
    "variance_parts",
]


@dataclass(frozen=True)
class DistinctRows:
    """The rows over which variances are averaged.

    Attributes
    ----------
    X
        Fixed-effect columns, shape (N, p).
    squares
        Mean over rows of z z', z a row of a term's columns, shape (q, q) for each group term.
    inverse
        Mean over rows of 1 / weight.
    """

    X: Array
    squares: tuple[Array, ...]
    inverse: float


@dataclass(frozen=True)
class VarianceParts:
    """Variance of a row by component, n draws each, in squared units of the response.

    Attributes
    ----------
    fixed
        Variance over rows of the fixed part X beta, divisor N - 1, shape (n,).
    groups
        Variance that each component of the group effects brings, averaged over rows, shape (n,)
        by name. Correlated columns, `x|g`, are one component.
    factors
        Grouping factor of each component, by name.
    residual
        Residual variance averaged over rows, shape (n,).
    """

    fixed: Array
    groups: dict[str, Array]
    factors: dict[str, str]
    residual: Array

    @property
    def between(self) -> Array:
        """Sum over the components of the group effects, shape (n,)."""
        return np.asarray(sum(self.groups.values()), float)


def term_columns(model: ModelSpec, rows: Rows, term: TermPrior) -> Iterator[Array | None]:
    """Yield the columns by which a term's effects enter the rows, shape (N,); None for ones."""
    block = model.design.factors[term.factor].columns
    for place in term.place:
        k = block[place]
        yield None if k == 0 else rows.slopes[:, k - 1]


def mean_square(model: ModelSpec, rows: Rows, term: TermPrior) -> Array:
    """Mean over rows of z z', z a row of the term's columns, shape (q, q)."""
    ones = np.ones(len(rows.y))
    Z = np.array([ones if c is None else c for c in term_columns(model, rows, term)])
    return np.asarray(Z @ Z.T / len(ones))


def observed_rows(model: ModelSpec, rows: Rows) -> DistinctRows:
    """Take the rows of the data as they are."""
    squares = tuple(mean_square(model, rows, term) for term in model.parameters.terms)
    return DistinctRows(rows.X, squares, mean_inverse(rows))


def mean_inverse(rows: Rows) -> float:
    """Mean over rows of 1 / weight."""
    return 1.0 if rows.weights is None else float(np.mean(1 / rows.weights))


def variance_parts(
    model: ModelSpec, rows: DistinctRows, theta: Array, beta: Array
) -> VarianceParts:
    """Split the variance of a row.

    Parameters
    ----------
    model
        Names and terms.
    rows
        What to average over.
    theta
        Parameter vectors, shape (n, d).
    beta
        Coefficients in the user's coordinates, shape (n, p).

    Returns
    -------
    VarianceParts
    """
    parameters = model.parameters
    groups: dict[str, Array] = {}
    factors: dict[str, str] = {}
    for term, (log_sd, z), square in zip(
        parameters.terms, parameters.split(theta), rows.squares, strict=True
    ):
        factor = model.design.factors[term.factor].name
        if term.correlations:
            groups[term.label] = _correlated(term, log_sd, z, square)
            factors[term.label] = factor
            continue
        for j, name in enumerate(term.names):
            groups[name] = np.exp(2 * log_sd[:, j]) * square[j, j]
            factors[name] = factor
    centred = rows.X - rows.X.mean(axis=0)
    spread = centred.T @ centred / (len(centred) - 1)
    fixed = np.maximum(np.einsum("ni,ij,nj->n", beta, spread, beta, optimize=True), 0.0)
    residual = np.exp(2 * parameters.log_sigma(theta)) * rows.inverse
    return VarianceParts(fixed, groups, factors, residual)


def fitted_variance(model: ModelSpec, rows: Rows, beta: Array, effects: list[Array]) -> Array:
    """Variance over rows of X beta + Z b, divisor N - 1, at n draws.

    Parameters
    ----------
    model, rows
        The model and its rows.
    beta
        Shape (n, p).
    effects
        Per factor, shape (n, G, q), jointly drawn with beta.

    Returns
    -------
    numpy.ndarray
        Shape (n,).
    """
    # Columns about their means: an offset of X carries no variance but would cost digits.
    X = rows.X - rows.X.mean(axis=0)
    out = np.empty(len(beta))
    for part in budget.FITTED_VALUES.blocks(len(beta), len(X)):
        fitted = beta[part] @ X.T
        for term in model.parameters.terms:
            codes = rows.codes[term.factor]
            b = effects[term.factor][part]
            for place, column in zip(term.place, term_columns(model, rows, term), strict=True):
                own = b[:, codes, place]
                fitted += own if column is None else own * column
        out[part] = fitted.var(axis=1, ddof=1)
    return out


def _correlated(term: TermPrior, log_sd: Array, z: Array, square: Array) -> Array:
    """Trace of Sigma times the mean of z z', the mean of z' Sigma z over rows (Johnson 2014)."""
    sd, R = np.exp(log_sd), term.correlation_matrices(z)
    return np.asarray(np.einsum("nij,ni,nj,ij->n", R, sd, sd, square))

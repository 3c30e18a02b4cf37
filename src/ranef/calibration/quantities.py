"""Test quantities of a mixed model: what is compared between truth and posterior draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.variance_components import mean_square, term_columns
from ranef.common import budget

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.formula.rows import Rows
    from ranef.mixed_model.model import ModelSpec
    from ranef.mixed_model.parameters import TermPrior
    from ranef.samplers.sample import PosteriorSample

__all__ = ["Parameters", "covariance", "of_sample", "predictor", "quantities"]


@dataclass(frozen=True)
class Parameters:
    """n values of all parameters of a model, true or drawn.

    Attributes
    ----------
    sigma
        Residual SD, shape (n,).
    scales
        SD of each group effect by name, shape (n,).
    correlations
        Correlations by term label, shape (n, pairs), pairs in the order (2,1), (3,1), (3,2), ….
    beta
        Coefficients in the user's coordinates, shape (n, p).
    effects
        Group effects by name, shape (n, G).
    """

    sigma: Array
    scales: dict[str, Array]
    correlations: dict[str, Array]
    beta: Array
    effects: dict[str, Array]


def of_sample(sample: PosteriorSample) -> Parameters:
    """Take the last draw of each chain.

    Parameters
    ----------
    sample
        From a sampler, with draws of all effects.

    Returns
    -------
    ranef.calibration.quantities.Parameters
        n is the number of chains.
    """
    return Parameters(
        sigma=sample.sigma[:, -1],
        scales={k: v[:, -1] for k, v in sample.scales.items()},
        correlations={k: v[:, -1] for k, v in sample.correlations.items()},
        beta=sample.beta[:, -1],
        effects={k: v[:, -1] for k, v in sample.effects.items()},
    )


def quantities(model: ModelSpec, rows: Rows, y: Array, at: Parameters) -> dict[str, Array]:
    """Evaluate every test quantity.

    Parameters
    ----------
    model
        Names and design.
    rows
        The rows behind it.
    y
        Response, shape (N,).
    at
        Where to evaluate, n parameter values.

    Returns
    -------
    dict of numpy.ndarray
        Shape (n,) each, by name: coefficients, SDs, correlations, `sigma`, each effect's first
        level, and three functions of them: `log_likelihood` (of the data given coefficients,
        effects and SDs), `total_variance` (of a row, averaged over rows) and `group_share` (the
        part of it that is not residual; the intraclass correlation of a random intercept).

    Notes
    -----
    The log likelihood depends on the data as well as the parameters. Without such a quantity a
    sampler that ignores part of the data can pass (Modrák et al. 2023, Bayesian Analysis).
    """
    out = {name: at.beta[:, j] for j, name in enumerate(model.names)}
    between = np.zeros(len(at.sigma))
    for term in model.parameters.terms:
        first = model.spec.factors[term.factor].levels[0]
        out |= {f"{name}_sigma": at.scales[name] for name in term.names}
        if term.correlations:
            pairs = at.correlations[term.label]
            out |= {name: pairs[:, i] for i, name in enumerate(term.correlation_names)}
        out |= {f"{name}[{first}]": at.effects[name][:, 0] for name in term.names}
        square = mean_square(model, rows, term)
        between += np.einsum("nij,ij->n", covariance(term, at), square)
    if model.parameters.family.dispersions:
        out["sigma"] = at.sigma
    out["log_likelihood"] = log_likelihood(model, rows, y, at)
    inverse = 1.0 if rows.weights is None else float(np.mean(1 / rows.weights))
    total = between + at.sigma**2 * inverse
    return {**out, "total_variance": total, "group_share": between / total}


def log_likelihood(model: ModelSpec, rows: Rows, y: Array, at: Parameters) -> Array:
    """Log density of the data given coefficients, effects and residual SD, shape (n,)."""
    N, n = len(y), len(at.sigma)
    squares = np.empty(n)
    for part in budget.FITTED_VALUES.blocks(n, N):
        rest = y - predictor(model, rows, at, part)
        rest *= rest
        squares[part] = rest.sum(axis=1) if rows.weights is None else rest @ rows.weights
    log_weights = model.design.log_weights
    constant = 0.5 * (log_weights - N * np.log(2 * np.pi))
    return np.asarray(constant - N * np.log(at.sigma) - 0.5 * squares / at.sigma**2)


def predictor(model: ModelSpec, rows: Rows, at: Parameters, part: slice) -> Array:
    """Fixed and group part of every row at some of the parameter values, shape (n, N)."""
    out = at.beta[part] @ rows.X.T
    for term in model.parameters.terms:
        codes = rows.codes[term.factor]
        for name, column in zip(term.names, term_columns(model, rows, term), strict=True):
            effect = at.effects[name][part][:, codes]
            out += effect if column is None else effect * column
    return np.asarray(out)


def covariance(term: TermPrior, at: Parameters) -> Array:
    """Covariance matrices of a term's effects, shape (n, q, q)."""
    q = len(term.names)
    R = np.tile(np.eye(q), (len(at.sigma), 1, 1))
    if term.correlations:
        i, j = np.tril_indices(q, -1)
        R[:, i, j] = R[:, j, i] = at.correlations[term.label]
    sd = np.column_stack([at.scales[name] for name in term.names])
    return np.asarray(R * sd[:, :, None] * sd[:, None, :])

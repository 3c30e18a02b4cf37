"""Least-squares estimates of group effects, to set beside posteriors (mathematics.md, 5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.variance_components import term_columns
from ranef.posterior.draws import read_coefficients
from ranef.posterior.summary import effects_table

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.posterior.posterior import Posterior

__all__ = ["raw_effects"]


def raw_effects(fit: Posterior) -> dict[str, Array]:
    """Estimate every effect from its own level's rows.

    Parameters
    ----------
    fit
        Posterior means, model and rows.

    Returns
    -------
    dict
        Shape (G,) by effect name: weighted least squares of the response, less fixed part and other
        factors' effects at their posterior means, on the columns of one factor's terms. NaN where
        a level's rows do not determine them.
    """
    model, rows = fit.source.model, fit.source.rows
    beta = read_coefficients(fit.draws, model).mean(axis=0)
    weights = np.ones(len(rows.y)) if rows.weights is None else rows.weights
    parts: dict[int, Array] = {}
    stacked: dict[int, tuple[list[str], list[Array]]] = {}
    for term in model.parameters.terms:
        codes = rows.codes[term.factor]
        names, values = stacked.setdefault(term.factor, ([], []))
        for name, column in zip(term.names, term_columns(model, rows, term), strict=True):
            z = np.ones(len(codes)) if column is None else column
            effect = effects_table(fit.draws, name)["mean"].to_numpy()
            parts[term.factor] = parts.get(term.factor, np.zeros(len(codes))) + effect[codes] * z
            names.append(name)
            values.append(z)
    rest = rows.response - rows.X @ beta - np.sum(list(parts.values()), axis=0)
    out: dict[str, Array] = {}
    for factor, (names, values) in stacked.items():
        codes, own = rows.codes[factor], rest + parts[factor]
        G, q = model.design.factors[factor].levels, len(names)
        ZZ, Zy = np.empty((G, q, q)), np.empty((G, q))
        for i, z in enumerate(values):
            Zy[:, i] = np.bincount(codes, weights * z * own, G)
            for j, other in enumerate(values):
                ZZ[:, i, j] = np.bincount(codes, weights * z * other, G)
        size = np.sqrt(np.einsum("gii->gi", ZZ))
        size[size == 0] = 1.0
        unit = ZZ / (size[:, :, None] * size[:, None, :])
        known = np.linalg.eigvalsh(unit)[:, 0] > 1e-10
        estimate = np.full((G, q), np.nan)
        estimate[known] = np.linalg.solve(unit[known], (Zy / size)[known, :, None])[:, :, 0]
        estimate /= size
        out |= {name: estimate[:, i] for i, name in enumerate(names)}
    return out

"""Log density of all rows of a group given all other rows, at given variance parameters.

It is the ratio of two marginal likelihoods, with the group and without. Where levels are
independent given the coefficients log|V| and `U = [X~ y~]'V^-1[X~ y~]` are sums over groups, so one
group's share is taken off again; elsewhere the likelihood of the other rows is evaluated anew
(mathematics.md, section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.leave_one_out.units import (
    internal_rows,
    products_by_unit,
    with_copy,
    without_rows,
)
from ranef.common import budget
from ranef.common.progress import track
from ranef.likelihood.posterior import MarginalPosterior

if TYPE_CHECKING:
    from ranef.answers.leave_one_out.units import Units
    from ranef.common.array_types import Array, IntArray
    from ranef.formula.rows import Rows
    from ranef.likelihood.coefficients import Coefficients
    from ranef.likelihood.structures.level_classes import ClassSums

__all__ = ["group_densities"]


def group_densities(
    target: MarginalPosterior, rows: Rows, units: Units, which: IntArray, theta: Array
) -> tuple[Array, Array]:
    """Log densities of groups, each given all others and given all.

    Parameters
    ----------
    target
        The model.
    rows
        Its rows.
    units
        Levels of one of its grouping factors.
    which
        Positions of the levels asked for, shape (k,).
    theta
        Parameter vectors, shape (n, d).

    Returns
    -------
    left_out : numpy.ndarray
        Log density of the group's responses together given those of all other groups and theta,
        shape (n, k).
    seen : numpy.ndarray
        Log density of a further group with the same rows and responses, given all of y and theta,
        shape (n, k).
    """
    by_level = target.structure.by_level
    if by_level is None:
        return _anew(target, rows, units, which, theta)
    return _closed(target, by_level, rows, units, which, theta)


def _closed(
    target: MarginalPosterior,
    by_level: ClassSums,
    rows: Rows,
    units: Units,
    which: IntArray,
    theta: Array,
) -> tuple[Array, Array]:
    """Independent levels: take each group's share of log|V| and U off, and put it on once more."""
    model, coefficients = target.model, target.coefficients
    V, w = internal_rows(rows, model)
    G, P = len(which), V.shape[1]
    outside = products_by_unit(V, w, units)[which] - by_level.spanned(which)
    size = np.bincount(units.codes)[which]
    scale = 0.5 * (np.bincount(units.codes, np.log(w))[which] - size * np.log(2 * np.pi))
    left_out, seen = np.empty((len(theta), G)), np.empty((len(theta), G))
    q = by_level.R.shape[1]
    blocks = budget.LEAVE_ONE_OUT.blocks(len(theta), G * (3 * P * P + q * (P + 1)))
    for at in track(blocks, "Leaving out groups"):
        part = theta[at]
        log_sigma, roots = model.parameters.log_sigma(part), model.parameters.roots(part)
        log_det, U = target.structure.sums(roots)
        logs, inside = by_level.shares(roots[0], which)
        share = outside + inside
        own_scale = scale - size * log_sigma[:, None]
        whole = coefficients.core(coefficients.profile(log_det, U), log_sigma)[:, None]
        without = _changed(coefficients, log_sigma, log_det[:, None] - logs, U[:, None] - share)
        doubled = _changed(coefficients, log_sigma, log_det[:, None] + logs, U[:, None] + share)
        left_out[at] = whole - without + own_scale
        seen[at] = doubled - whole + own_scale
    return left_out, seen


def _changed(coefficients: Coefficients, log_sigma: Array, log_det: Array, U: Array) -> Array:
    """`Coefficients.core` where each draw has a log_det and a U for every group, shape (n, k)."""
    n, G = log_det.shape
    profile = coefficients.profile(log_det.ravel(), U.reshape(n * G, *U.shape[2:]))
    return coefficients.core(profile, np.repeat(log_sigma, G)).reshape(n, G)


def _anew(
    target: MarginalPosterior, rows: Rows, units: Units, which: IntArray, theta: Array
) -> tuple[Array, Array]:
    """Dependent levels: the likelihood with each group's rows left out, and with them twice."""
    model = target.model
    roots, log_sigma = model.parameters.roots(theta), model.parameters.log_sigma(theta)
    whole = target.log_likelihood(roots, log_sigma, reml=True)
    left_out, seen = np.empty((len(theta), len(which))), np.empty((len(theta), len(which)))
    for i, j in enumerate(track(which.tolist(), "Leaving out groups")):
        rest = MarginalPosterior(without_rows(model, rows, units.codes == j))
        left_out[:, i] = whole - rest.log_likelihood(roots, log_sigma, reml=True)
        more = MarginalPosterior(with_copy(model, rows, units, j))
        seen[:, i] = more.log_likelihood(roots, log_sigma, reml=True) - whole
    return left_out, seen

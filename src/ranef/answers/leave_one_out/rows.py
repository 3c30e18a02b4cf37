"""Log density of each row given all others, in closed form at given variance parameters.

With `P = V^-1 - V^-1 X (X'V^-1 X + prior)^-1 X'V^-1` the row's density given the others is normal
with mean `y_i - (Py)_i / P_ii` and variance `1 / P_ii`. Both come from the row's residual
`e_i = y_i - x_i'beta - z_i'b` given all data: `(Py)_i = E[e_i] / s_i^2` and
`P_ii = (s_i^2 - Var[e_i]) / s_i^4`, s_i the row's residual SD (mathematics.md, section 5; Searle,
Casella and McCulloch 1992, Variance Components, ch. 7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.leave_one_out.units import internal_rows
from ranef.common import budget
from ranef.common.progress import track

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.formula.rows import Rows
    from ranef.likelihood.posterior import MarginalPosterior

__all__ = ["row_densities"]

_LOG_2PI = float(np.log(2 * np.pi))


def row_densities(
    target: MarginalPosterior, rows: Rows, which: IntArray, theta: Array
) -> tuple[Array, Array]:
    """Log densities of rows, each given all others and given all.

    Parameters
    ----------
    target
        The model.
    rows
        Its rows.
    which
        Positions of the rows asked for, shape (k,).
    theta
        Parameter vectors, shape (n, d).

    Returns
    -------
    left_out : numpy.ndarray
        log p(y_i | y_-i, theta), shape (n, k).
    seen : numpy.ndarray
        log p of a second observation equal to y_i with the same effects, given all of y and theta,
        shape (n, k).
    """
    model, design = target.model, target.model.design
    V, w = (a[which] for a in internal_rows(rows, model))
    Z = [
        np.column_stack([np.ones(len(V)), rows.slopes[which]])[:, list(f.columns)]
        for f in design.factors
    ]
    codes = [code[which] for code in rows.codes]
    N, P, Q = len(V), V.shape[1], sum(z.shape[1] for z in Z)
    effects = sum(f.levels * len(f.columns) for f in design.factors) * P
    left_out, seen = np.empty((len(theta), N)), np.empty((len(theta), N))
    blocks = budget.LEAVE_ONE_OUT.blocks(len(theta), N * (P + Q + 4) + effects)
    for at in track(blocks, "Leaving out rows"):
        part = theta[at]
        log_sigma, roots = model.parameters.log_sigma(part), model.parameters.roots(part)
        mean, root = target.coefficients.moments(target.profile(part), log_sigma)
        response, spread = target.structure.at_rows(roots, codes, Z)
        # e = r [-beta~; 1] and what the effects leave open, with r = [x~ y~] - z'B.
        r = V - response
        middle = np.einsum("nrk,nk->nr", r, np.column_stack([-mean, np.ones(len(part))]))
        square = np.exp(2 * log_sigma)[:, None]
        spread *= square
        if P > 1:
            spread += np.square(r[:, :, :-1] @ root).sum(axis=2)
        noise = square / w
        # A residual's variance given all data is below the row's own; rounding must not undo it.
        gap = np.maximum(noise - spread, 1e-14 * noise)
        left_out[at] = 0.5 * (np.log(gap) - 2 * np.log(noise) - _LOG_2PI - middle**2 / gap)
        both = noise + spread
        seen[at] = -0.5 * (np.log(both) + _LOG_2PI + middle**2 / both)
    return left_out, seen

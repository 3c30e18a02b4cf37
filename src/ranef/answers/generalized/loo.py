"""Leave-one-out densities with other families: effects integrated out without the row itself.

Given coefficients and variance parameters a row's density without itself is an average over the
nodes of its group's integral, `1 / E[1 / f_j(b)]` over the effect given all rows; what remains for
importance weights is the few parameters (mathematics.md, 5.2 and 4.8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.answers.leave_one_out.loo import elpd_of
from ranef.answers.leave_one_out.units import units_of
from ranef.common import budget
from ranef.common.arguments import whole_number
from ranef.common.stored_names import stored_name
from ranef.errors import DataError, ReliabilityWarning, warn

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.formula.rows import Rows
    from ranef.posterior.generalized_draws import GeneralizedDraws
    from ranef.posterior.generalized_posterior import GeneralizedPosterior

__all__ = ["loo"]

_FEWEST = 100


def loo(fit: GeneralizedPosterior, unit: str = "row", *, draws: int | None = None) -> Any:
    """Predict each row, or each group, from all others: leave-one-out cross-validation.

    Parameters
    ----------
    unit
        What is left out at a time: `"row"`, `"group"`, or the factor with most levels.
    draws
        How many draws to use, evenly spaced; by default as many as 320 MB allow.

    Returns
    -------
    arviz_stats.ELPDData
        `elpd`, the sum of log predictive densities in nats, with `se`; `elpd_i` by case; `p`,
        the effective number of parameters; `pareto_k`.

    Raises
    ------
    DataError
        If there is no such unit, or the fit has too few draws.

    Warns
    -----
    ReliabilityWarning
        Where Pareto k-hat is too large.
    """
    source, drawn = fit.source, fit.posterior_draws
    units, n = units_of(source.rows, unit), len(drawn.beta)
    if n < _FEWEST or (draws is not None and whole_number("draws", draws, _FEWEST) > n):
        raise DataError(
            f"Leaving out takes {_FEWEST} draws at least and {n}, those of the fit, at most."
        )
    main = source.rows.spec.effect_columns[drawn.model.rows.place].factor
    if units.factor not in (None, main):
        raise DataError(
            f"Levels of {units.name!r} are not left out with family={drawn.model.response.name!r}; "
            f"leave out rows, or levels of {source.rows.spec.factors[main].name!r}."
        )
    limits = budget.LEAVE_ONE_OUT
    use = budget.evenly(n, draws) if draws else limits.draws(n, numbers=len(units.labels))
    some = drawn.take(use)
    left_out, seen = (
        _rows(some, source.rows) if units.factor is None else _groups(some, source.rows)
    )
    name = stored_name(source.model.spec.formula.response_name)
    elpd = elpd_of(left_out, units, name, min(1.0, fit.certificate.ess / n))
    bad = np.flatnonzero(~(elpd.pareto_k.to_numpy() <= elpd.good_k))
    if len(bad):
        warn(
            f"Pareto k-hat exceeds {elpd.good_k:.2f} for {len(bad)} of {len(units.labels)} "
            f"{units.plural} ({', '.join(map(str, units.labels[bad[:5]]))}"
            f"{', …' if len(bad) > 5 else ''}): the parameters without them are too far from those "
            "with them. Use more draws, or fit again without these cases.",
            ReliabilityWarning,
        )
    top = seen.max(axis=0)
    average = top + np.log(np.exp(seen - top).mean(axis=0))
    elpd.p = float(np.sum(average - elpd.elpd_i.to_numpy()))
    return elpd


def _rows(drawn: GeneralizedDraws, rows: Rows) -> tuple[Array, Array]:
    """Log density of each row given the others, and given all, shape (n, N) each."""
    model, vectors = drawn.model, drawn.vectors
    main = rows.spec.effect_columns[model.rows.place]
    columns = np.column_stack([np.ones(len(rows.y)), rows.slopes])
    code, z = rows.codes[main.factor], columns[:, main.column, None]
    y = rows.y[:, None]
    n = np.ones_like(y) if rows.trials is None else rows.trials[:, None]
    constant = model.response.constants(y, n)[:, 0]
    fixed = _without_main(drawn, rows, columns)
    left_out, seen = (np.empty((len(vectors), len(y))) for _ in range(2))
    for block in drawn.target.blocks(vectors, len(y)):
        fan = drawn.target.fan(block)
        eta, sd = fixed[block.part].T, block.integrals.sd
        rest = model.response.log_rests(y, block.own)
        log_f = np.stack(
            [model.response.log_density(eta + z * (sd * u)[code], y, n, block.own) for u in fan.u]
        )
        weight = fan.weights()[:, code]
        low, high = log_f.min(axis=0), log_f.max(axis=0)
        # The mean of 1/f, from the smallest f, so that nothing overflows.
        inverse = np.log((weight * np.exp(low - log_f)).sum(axis=0)) - low
        given = np.log((weight * np.exp(log_f - high)).sum(axis=0)) + high
        left_out[block.part] = (rest - inverse).T + constant
        seen[block.part] = (rest + given).T + constant
    return left_out, seen


def _without_main(drawn: GeneralizedDraws, rows: Rows, columns: Array) -> Array:
    """Linear predictors of rows but for the effects that are integrated out, shape (n, N)."""
    out = drawn.beta @ rows.X.T + (0.0 if rows.offset is None else rows.offset)
    at = 0
    for kept in drawn.model.rows.kept:
        own = rows.spec.effect_columns[kept.place]
        b = drawn.z[:, at : at + kept.levels] * drawn.sds[:, kept.place, None]
        out += b[:, rows.codes[own.factor]] * columns[:, own.column]
        at += kept.levels
    return np.asarray(out)


def _groups(drawn: GeneralizedDraws, rows: Rows) -> tuple[Array, Array]:
    """Log density of each group given the others, which is that given all: (n, G), twice."""
    model, vectors = drawn.model, drawn.vectors
    y, code = rows.y, rows.codes[rows.spec.effect_columns[model.rows.place].factor]
    n = np.ones_like(y) if rows.trials is None else rows.trials
    constant = np.bincount(code, model.response.constants(y, n))
    order = np.argsort(code, kind="stable")
    first = np.flatnonzero(np.diff(code[order], prepend=-1))
    out = np.empty((len(vectors), len(model.rows.first)))
    for block in drawn.target.blocks(vectors):
        rest = np.broadcast_to(
            model.response.log_rests(y[order, None], block.own), (len(y), len(block.integrals.sd))
        )
        group = np.add.reduceat(rest, first, axis=0)
        out[block.part] = (drawn.target.fan(block).log_integrals() + group).T + constant
    return out, out

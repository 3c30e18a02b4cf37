"""Linear predictors of rows, draw by draw, with effects of groups known, new or averaged over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common import budget
from ranef.common.arguments import brief
from ranef.common.random_streams import split_stream
from ranef.data.tables import read_table, require_column, require_numbers
from ranef.errors import DataError
from ranef.formula.new_rows import fitted_rows, new_rows

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.formula.new_rows import DesignRows, Groups
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.posterior.generalized_draws import GeneralizedDraws
    from ranef.posterior.source import Source

__all__ = ["RowDraws", "design_of", "draw_rows"]


@dataclass(frozen=True)
class RowDraws:
    """Linear predictors of m rows at n draws.

    Attributes
    ----------
    drawn
        The draws behind them.
    fixed
        Offset + X beta, shape (n, m).
    effects
        What the groups' effects add, shape (n, m); zero where they are averaged over.
    spread
        SD of what is averaged over, shape (n, m); None where nothing is.
    """

    drawn: GeneralizedDraws
    fixed: Array
    effects: Array
    spread: Array | None

    @property
    def eta(self) -> Array:
        """The linear predictor, shape (n, m)."""
        return self.fixed + self.effects


def design_of(
    source: Source[GeneralizedModel], new: Any, groups: Groups, *, trials: bool
) -> tuple[DesignRows, Array]:
    """The rows to predict, and their trials, shape (m,).

    Parameters
    ----------
    source
        The model and its data.
    new
        A table; None for the data.
    groups
        As in `predict`.
    trials
        Whether trials are needed: new rows then need their column.
    """
    name = source.model.spec.trials
    if new is None:
        rows = fitted_rows(source.rows, "response", groups)
        n = np.ones(len(rows)) if source.rows.trials is None else source.rows.trials
        return rows, n
    table = read_table(new)
    rows = new_rows(source.model.spec, table, "response", groups)
    if name is None or not trials:
        return rows, np.ones(len(rows))
    require_column(
        table,
        name,
        f"The new rows lack column {name!r}, the number of trials of a new response; for "
        "probabilities ask kind='mean'.",
    )
    require_numbers(table, name)
    n = table[name].to_numpy(dtype=float)
    if not np.all((n >= 0) & (n == np.round(n))):
        raise DataError(f"Trials {brief(name)} of the new rows are not all whole numbers.")
    return rows, n


def draw_rows(
    drawn: GeneralizedDraws, rows: DesignRows, groups: Groups, rng: np.random.Generator
) -> RowDraws:
    """Linear predictors at as many draws as memory allows.

    Parameters
    ----------
    drawn
        All draws.
    rows
        From `design_of`.
    groups
        Whether effects are those of known groups, drawn anew for new ones, or averaged over.
    rng
        For effects of known groups and of new ones.
    """
    known, fresh = split_stream(rng, 2)
    model = drawn.model
    levels = [len(model.spec.factors[t.factor].levels) for t in model.spec.effect_columns]
    use = budget.PREDICTED_EFFECTS.draws(len(drawn.beta), numbers=max(len(rows), sum(levels)))
    drawn = drawn.take(use)
    fixed = rows.offset + drawn.beta @ rows.X.T
    sds, effects = drawn.sds, np.zeros_like(fixed)
    columns = [rows.Z[e.factor][:, e.place] for e in model.spec.effect_columns]
    if groups == "marginal":
        square = np.column_stack([c**2 for c in columns])
        return RowDraws(drawn, fixed, effects, np.sqrt(sds**2 @ square.T))
    codes = [rows.codes[e.factor] for e in model.spec.effect_columns]
    seen = any(np.any(code < count) for code, count in zip(codes, levels, strict=True))
    own = drawn.effects(known) if seen else [np.zeros((len(fixed), n)) for n in levels]
    for j, column in enumerate(model.spec.effect_columns):
        new = fresh.standard_normal((len(fixed), len(rows.new_levels[column.factor])))
        b = np.hstack([own[j], sds[:, j, None] * new])
        effects += b[:, codes[j]] * columns[j]
    return RowDraws(drawn, fixed, effects, None)

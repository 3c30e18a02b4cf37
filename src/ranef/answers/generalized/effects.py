"""Group effects of other families as a table, from exact draws of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.effects import level_pair
from ranef.common import budget
from ranef.common.arguments import flag, number
from ranef.errors import DataError, nearest
from ranef.posterior.summary import check_prob, describe, effects_table, percent

if TYPE_CHECKING:
    import pandas as pd

    from ranef.common.array_types import Array, Seed
    from ranef.posterior.generalized_posterior import GeneralizedPosterior

__all__ = ["effects"]


def effects(
    fit: GeneralizedPosterior,
    name: str | None = None,
    prob: float | None = 0.95,
    threshold: float | None = None,
    compare: tuple[str, str] | None = None,
    *,
    highest: bool = False,
    seed: Seed = None,
) -> pd.DataFrame:
    """Posterior of the group effects on the scale of the linear predictor.

    Parameters
    ----------
    name
        One effect, such as `"1|herd"`; None for all.
    prob
        Probability of the equal-tailed interval; None for mean and sd alone.
    threshold
        Adds `P(> threshold)`.
    compare
        Two levels: the table is then of their difference.
    highest
        Adds `P(highest)`, the probability that a level has the highest effect of all.
    seed
        For the draws of the effects; by default the fit's own.

    Returns
    -------
    pandas.DataFrame
        One row per level. Mean and sd come from quadrature, intervals and probabilities from
        exact draws of the effects given each draw of all else.

    Raises
    ------
    DataError
        If there is no such effect or level, or prob is not between 0 and 1.
    """
    table = effects_table(fit.draws, name)
    if prob is None:
        return table
    (low, high), rng = check_prob(prob), fit.stream(seed)
    above = 0.0 if threshold is None else number("threshold", threshold)
    drawn, columns = fit.posterior_draws, fit.source.model.spec.effect_columns
    use = budget.JOINT_EFFECTS.draws(len(drawn.beta), numbers=len(table))
    every = drawn.take(use).effects(rng)
    named = {column.name: b for column, b in zip(columns, every, strict=True)}
    wanted = {n: b for n, b in named.items() if name in (None, n)}
    if compare is not None:
        return _compared(fit, wanted, compare, above, prob)
    b = np.hstack(list(wanted.values()))
    table[percent(low)], table[percent(high)] = np.quantile(b, [low, high], axis=0)
    if threshold is not None:
        table[f"P(> {above:g})"] = (b > above).mean(axis=0)
    if flag("highest", highest):
        best = [
            np.bincount(b.argmax(axis=1), minlength=b.shape[1]) / len(b) for b in wanted.values()
        ]
        table["P(highest)"] = np.concatenate(best)
    return table


def _compared(
    fit: GeneralizedPosterior, named: dict[str, Array], pair: object, above: float, prob: float
) -> pd.DataFrame:
    """Tabulate the difference of two levels, one row for each effect that has both."""
    import pandas as pd

    model, rows, wanted = fit.source.model, {}, level_pair(pair)
    known: list[str] = []
    for column in model.spec.effect_columns:
        name, levels = column.name, model.spec.factors[column.factor].levels
        known += levels if name in named else []
        if name not in named or any(level not in levels for level in wanted):
            continue
        first, second = (named[name][:, levels.index(level)] for level in wanted)
        gap = first - second
        rows[f"{name}[{wanted[0]}] - {name}[{wanted[1]}]"] = describe(gap, prob) | {
            f"P(> {above:g})": float(np.mean(gap > above))
        }
    if not rows:
        missing = next((level for level in wanted if level not in known), wanted[0])
        raise DataError(
            f"compare names {missing!r}, and no grouping factor has both levels. "
            f"{nearest(missing, known)}"
        )
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "difference"
    return table

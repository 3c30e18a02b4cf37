"""Group effects as a table: moments, intervals, probabilities (mathematics.md, 5.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.level_posterior import differences, highest, levels_given, places
from ranef.common.arguments import brief, is_number
from ranef.errors import DataError, nearest
from ranef.numerics import mixtures
from ranef.posterior.summary import check_prob, effects_table, percent

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from ranef.posterior.draws import PosteriorDraws

__all__ = ["Question", "answer_effects"]


@dataclass(frozen=True)
class Question:
    """What is asked of the group effects; see `ranef.Fit.effects`."""

    name: str | None
    prob: float
    threshold: float | None
    compare: tuple[str, str] | None
    highest: bool
    rng: np.random.Generator


def answer_effects(tree: xr.DataTree, posterior: PosteriorDraws, asked: Question) -> pd.DataFrame:
    """Tabulate effects with what was asked of them.

    Parameters
    ----------
    tree
        Labelled draws.
    posterior
        The same draws as arrays.
    asked
        Which columns to add.

    Returns
    -------
    pandas.DataFrame
        As `ranef.Fit.effects` describes.

    Raises
    ------
    DataError
        If there is no such effect or level, a threshold is no number, or prob is not between 0 and
        1.
    """
    low, high = check_prob(asked.prob)
    table = effects_table(tree, asked.name)
    threshold = asked.threshold
    if threshold is not None and not (is_number(threshold) and np.isfinite(threshold)):
        raise DataError(
            f"threshold is {brief(threshold)}; a number in units of the effect is expected."
        )
    names = [n for n in places(posterior) if asked.name in (None, n)]
    if asked.compare is not None:
        return _compared(posterior, names, asked)
    given = levels_given(posterior, names)
    ends = [mixtures.quantiles(*given[n], (low, high)) for n in names]
    table[percent(low)] = np.concatenate([e[0] for e in ends])
    table[percent(high)] = np.concatenate([e[1] for e in ends])
    if threshold is not None:
        over = [mixtures.above(*given[n], float(threshold)) for n in names]
        table[f"P(> {threshold:g})"] = np.concatenate(over)
    if asked.highest:
        counted = [highest(posterior, n, asked.rng) for n in names]
        table["P(highest)"] = np.concatenate(counted)
    return table


def _compared(posterior: PosteriorDraws, names: list[str], asked: Question) -> pd.DataFrame:
    """Tabulate the difference of two levels, one row for each effect that has both."""
    import pandas as pd

    pair, model = asked.compare, posterior.target.model
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise DataError(
            f"compare is {brief(pair)}; two levels are expected, e.g. compare=('308', '309')."
        )
    low, high = check_prob(asked.prob)
    above = 0.0 if asked.threshold is None else float(asked.threshold)
    where = places(posterior)
    rows = {}
    wanted = [str(level) for level in pair]
    if wanted[0] == wanted[1]:
        raise DataError(f"compare names {wanted[0]!r} twice; two different levels are expected.")
    for name in names:
        levels = model.spec.factors[where[name][0]].levels
        missing = [level for level in wanted if level not in levels]
        if missing and (len(names) == 1 or len(model.spec.factors) == 1):
            factor = model.design.factors[where[name][0]].name
            raise DataError(
                f"compare names {missing[0]!r}, no level of {factor!r}. "
                f"{nearest(missing[0], levels)}"
            )
        if missing:
            continue
        first, second = (levels.index(level) for level in wanted)
        parts = differences(posterior, name, first, second, asked.rng)
        mean, sd = (a[:, None] for a in parts)
        middle, spread = mixtures.moments(mean, sd)
        ends = mixtures.quantiles(mean, sd, (low, high))
        rows[f"{name}[{wanted[0]}] - {name}[{wanted[1]}]"] = {
            "mean": middle[0],
            "sd": spread[0],
            percent(low): ends[0, 0],
            percent(high): ends[1, 0],
            f"P(> {above:g})": mixtures.above(mean, sd, above)[0],
        }
    if not rows:
        raise DataError(
            f"compare names {wanted[0]!r} and {wanted[1]!r}, which no grouping factor has both of. "
            f"{nearest(wanted[0], [v for f in model.spec.factors for v in f.levels])}"
        )
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "difference"
    return table

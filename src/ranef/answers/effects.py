"""Group effects as a table: moments, intervals, probabilities (mathematics.md, 5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.level_posterior import chance_highest, differences, level_mixtures, places
from ranef.common.arguments import brief, flag, number
from ranef.errors import DataError, nearest
from ranef.formula.labels import level_names
from ranef.numerics import mixtures
from ranef.posterior.summary import check_prob, effects_table, percent

if TYPE_CHECKING:
    import pandas as pd

    from ranef.common.array_types import Seed
    from ranef.posterior.draws import PosteriorDraws
    from ranef.posterior.posterior import Posterior

__all__ = ["effects", "level_pair"]


def effects(
    fit: Posterior,
    name: str | None = None,
    prob: float | None = 0.95,
    threshold: float | None = None,
    compare: tuple[str, str] | None = None,
    *,
    highest: bool = False,
    seed: Seed = None,
) -> pd.DataFrame:
    """Posterior of the group effects: mean, sd, interval, and probabilities on request.

    Parameters
    ----------
    name
        One effect, such as `"Days|Subject"`; None for all.
    prob
        Probability of the equal-tailed interval; None for mean and sd alone, as the fit keeps
        them.
    threshold
        Adds `P(> threshold)`, the probability that a level's effect is above it.
    compare
        Two levels. The table is then of their difference, one row for each effect: mean, sd,
        interval, and the probability that it is above zero (or above threshold).
    highest
        Adds `P(highest)`, the probability that a level has the highest effect of all. It is
        counted over joint draws, so its Monte Carlo error is `sqrt(p (1 - p) / ESS)`.
    seed
        For `highest`, and for `compare` with several grouping factors, which need joint draws;
        by default the fit's own, so that the same question gets the same answer.

    Returns
    -------
    pandas.DataFrame
        One row per level, in units of the response (per unit of x for a slope).

    Raises
    ------
    DataError
        If there is no such effect or level, or prob is not between 0 and 1.

    Notes
    -----
    Given the variance parameters an effect is normal, coefficients integrated out, so its
    posterior is the average of one normal for each draw of the variance parameters. Interval
    and probability are those of that mixture, found without draws of effects; what Monte Carlo
    error remains is that of the few variance parameters. Large designs use every k-th draw.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> list(fit.effects(threshold=0).columns)
    ['mean', 'sd', '2.5%', '97.5%', 'P(> 0)']
    """
    table = effects_table(fit.draws, name)
    if prob is None:
        return table
    rng, (low, high) = fit.stream(seed), check_prob(prob)
    if threshold is not None:
        threshold = number("threshold", threshold)
    posterior = fit.posterior_draws
    names = [n for n in places(posterior) if name in (None, n)]
    if compare is not None:
        above = 0.0 if threshold is None else float(threshold)
        return _compared(posterior, names, compare, above, prob, rng)
    mixture = level_mixtures(posterior, names)
    ends = [mixtures.quantiles(*mixture[n], (low, high)) for n in names]
    table[percent(low)] = np.concatenate([e[0] for e in ends])
    table[percent(high)] = np.concatenate([e[1] for e in ends])
    if threshold is not None:
        over = [mixtures.above(*mixture[n], float(threshold)) for n in names]
        table[f"P(> {threshold:g})"] = np.concatenate(over)
    if flag("highest", highest):
        counted = [chance_highest(posterior, n, rng) for n in names]
        table["P(highest)"] = np.concatenate(counted)
    return table


def level_pair(pair: object) -> list[str]:
    """Names of the two levels that are to be compared.

    Raises
    ------
    DataError
        If there are not two, or they are the same.
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise DataError(
            f"compare is {brief(pair)}; two levels are expected, e.g. compare=('308', '309')."
        )
    names = list(level_names(pair))
    if names[0] == names[1]:
        raise DataError(f"compare names {names[0]!r} twice; two different levels are expected.")
    return names


def _compared(
    posterior: PosteriorDraws,
    names: list[str],
    pair: object,
    above: float,
    prob: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Tabulate the difference of two levels, one row for each effect that has both."""
    import pandas as pd

    model = posterior.target.model
    wanted = level_pair(pair)
    low, high = check_prob(prob)
    where = places(posterior)
    rows = {}
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
        parts = differences(posterior, name, first, second, rng)
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

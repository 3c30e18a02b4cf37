"""Posterior predictive checks with other families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranef.answers.generalized.linear_predictor import design_of, draw_rows
from ranef.answers.prediction.check import PredictiveCheck, apply_statistics, statistics_of
from ranef.common import budget
from ranef.common.arguments import choice, share, whole_number
from ranef.common.random_streams import split_stream
from ranef.formula.new_rows import in_new_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ranef.common.array_types import Seed
    from ranef.posterior.generalized_posterior import GeneralizedPosterior

__all__ = ["check"]

_KEPT = 50
_DEFAULT = ("mean", "sd", "zeros", "max", "between_sd")


def check(
    fit: GeneralizedPosterior,
    statistics: Sequence[str] | Mapping[str, Callable[[Any], Any]] | None = None,
    *,
    groups: str = "conditional",
    replications: int = 1000,
    interval: float = 0.95,
    seed: Seed = None,
) -> PredictiveCheck:
    """Posterior predictive check, whether the model would give data like these.

    Parameters
    ----------
    statistics
        Names out of `"mean"`, `"sd"`, `"min"`, `"max"`, `"zeros"` (share of zeros),
        `"between_sd"` (SD of the group means), `"within_sd"`, `"icc"`, with several factors
        `"between_sd[g]"` and so on; or functions by name, each
        from the response, shape (N,), to a number. Default: mean, sd, zeros, max, and
        between_sd with one factor.
    groups
        `"conditional"`: the same groups measured again. `"new"`: other groups.
    replications
        Number of replicated data sets, at most one for each draw.
    interval
        Probability of the table's intervals.
    seed
        For other replicated data; by default the fit's own.

    Returns
    -------
    ranef.answers.prediction.check.PredictiveCheck

    Raises
    ------
    DataError
        If a statistic is unknown or gives no number.
    """
    choice("groups", groups, ("conditional", "new"))
    interval, rng = share("interval", interval), fit.stream(seed)
    source, drawn = fit.source, fit.posterior_draws
    rows, trials = design_of(source, None, "conditional", trials=True)
    if groups == "new":
        rows = in_new_groups(rows, source.model.spec)
    count = min(whole_number("replications", replications), len(drawn.beta))
    effects, rest = split_stream(rng, 2)
    some = drawn.take(budget.evenly(len(drawn.beta), count))
    row_draws = draw_rows(some, rows, groups, effects)  # type: ignore[arg-type]
    own = tuple(values[:, None] for values in row_draws.drawn.own)
    replicated = source.model.response.draw(row_draws.eta, trials, own, rest)
    chosen = statistics_of(
        _DEFAULT if statistics is None else statistics, source.rows, skip=statistics is None
    )
    y = source.rows.y
    return PredictiveCheck(
        names=tuple(chosen),
        observed=apply_statistics(chosen, y[None])[0],
        replicated=apply_statistics(chosen, replicated),
        y=y,
        examples=replicated[:_KEPT],
        formula=source.model.spec.formula.text,
        groups=groups,
        interval=interval,
    )

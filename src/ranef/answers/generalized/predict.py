"""Predictions with other families: means of the response, linear predictors, new responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.answers.generalized.linear_predictor import design_of, draw_rows
from ranef.answers.prediction.predict import Prediction
from ranef.common.arguments import choice, flag, share
from ranef.common.random_streams import split_stream

if TYPE_CHECKING:
    from ranef.answers.generalized.linear_predictor import RowDraws
    from ranef.common.array_types import Array, Seed
    from ranef.posterior.generalized_posterior import GeneralizedPosterior

__all__ = ["predict"]

_KINDS, _GROUPS = ("mean", "linear", "response"), ("conditional", "new", "marginal")
# Nodes of the average over new groups, and their reach in SDs.
_NODES, _REACH = 61, 7.0


def predict(
    fit: GeneralizedPosterior,
    new: Any = None,
    kind: str = "mean",
    groups: str = "conditional",
    interval: float = 0.95,
    *,
    seed: Seed = None,
    draws: bool = False,
) -> Prediction:
    """Predict rows, of the data or new ones.

    Parameters
    ----------
    new
        A table as in `fit`; None predicts the complete rows of the data.
    kind
        `"mean"`: the expected response, a probability (of one trial) or a mean count.
        `"linear"`: the linear predictor, on the scale of the link. `"response"`: a new response;
        of a binomial new rows need their column of trials.
    groups
        `"conditional"`: every group has its own effect. `"new"`: groups that the data had not get
        new effects, the same for all rows of one. `"marginal"`: the average over groups not yet
        seen; the mean is the integral of the response's mean over their effects, not its value at
        an effect of zero.
    interval
        Probability of the equal-tailed interval.
    seed
        For the effects of groups and new responses; by default the fit's own.
    draws
        Keep the draws too, `Prediction.draws`, shape (draws, rows).

    Returns
    -------
    ranef.answers.prediction.predict.Prediction

    Raises
    ------
    DataError
        If the rows cannot be read as the data were, or an argument is unknown.

    Notes
    -----
    The interval of a mean is that of the mean, over the posterior; that of a response holds a new
    response. Where draws times rows exceed 1e8 numbers, every k-th draw is used.
    """
    choice("kind", kind, _KINDS)
    choice("groups", groups, _GROUPS)
    interval, rng = share("interval", interval), fit.stream(seed)
    source = fit.source
    rows, trials = design_of(source, new, groups, trials=kind == "response")  # type: ignore[arg-type]
    effects, rest = split_stream(rng, 2)
    row_draws = draw_rows(fit.posterior_draws, rows, groups, effects)  # type: ignore[arg-type]
    values = _values(row_draws, kind, trials, rest)
    lower, upper = np.quantile(values, [(1 - interval) / 2, (1 + interval) / 2], axis=0)
    return Prediction(
        values.mean(axis=0),
        values.std(axis=0),
        lower,
        upper,
        interval=interval,
        kind=kind,  # type: ignore[arg-type]
        groups=groups,  # type: ignore[arg-type]
        formula=source.model.spec.formula.text,
        rows=rows.frame,
        observed=_observed(rows.y, kind, trials, fit),
        draws=values if flag("draws", draws) else None,
    )


def _observed(y: Array | None, kind: str, trials: Array, fit: GeneralizedPosterior) -> Array | None:
    """What was observed, on the scale of what is predicted; None where there is no such."""
    if y is None or kind == "linear":
        return None
    if kind == "mean" and fit.source.model.response.takes_trials:
        return np.divide(y, trials, out=np.full_like(y, np.nan), where=trials > 0)
    return y


def _values(row_draws: RowDraws, kind: str, trials: Array, rng: np.random.Generator) -> Array:
    """What is predicted, shape (n, m)."""
    response, eta = row_draws.drawn.model.response, row_draws.eta
    if kind == "linear":
        return eta
    if kind == "mean":
        return response.mean(eta) if row_draws.spread is None else _averaged(row_draws)
    if row_draws.spread is not None:
        effects, rng = split_stream(rng, 2)
        eta = eta + row_draws.spread * effects.standard_normal(eta.shape)
    own = tuple(values[:, None] for values in row_draws.drawn.own)
    return response.draw(eta, trials, own, rng)


def _averaged(row_draws: RowDraws) -> Array:
    """Means averaged over new groups, by the trapezoid rule over seven SDs to both sides."""
    assert row_draws.spread is not None
    response, total = row_draws.drawn.model.response, np.zeros_like(row_draws.fixed)
    nodes = np.linspace(-_REACH, _REACH, _NODES)
    weights = np.exp(-0.5 * nodes**2)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        total += weight * response.mean(row_draws.fixed + node * row_draws.spread)
    return total

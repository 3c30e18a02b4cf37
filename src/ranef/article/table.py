"""The study's table: truth against every way, each cell a mean and a 95% interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.article.study import WAYS

if TYPE_CHECKING:
    from ranef.article.study import Study
    from ranef.common.array_types import Array

__all__ = ["Cell", "Row", "study_rows"]


@dataclass(frozen=True)
class Cell:
    """One way's answer: text, and whether its interval holds the true value.

    An interval's ends are estimated from draws; a true value that lies outside by less than four
    Monte Carlo errors is given the benefit of the doubt.
    """

    text: str
    holds_truth: bool


@dataclass(frozen=True)
class Row:
    """One variance of one scenario: its true value, and a cell for each of `WAYS`."""

    scenario: int
    parameter: str
    truth: str
    cells: tuple[Cell, ...]


def study_rows(study: Study) -> list[Row]:
    """Lay the study out by scenario and parameter.

    Parameters
    ----------
    study
        From `ranef.article.study`.

    Returns
    -------
    list of Row
    """
    rows = []
    for result in study.results:
        for parameter in ("sigma2_e", "sigma2_x"):
            truth = float(getattr(result.scenario, parameter))
            cells = tuple(_cell(result.draws(way)[parameter].to_numpy(), truth) for way in WAYS)
            rows.append(Row(result.scenario.number, parameter, f"{truth:g}", cells))
    return rows


def _cell(values: Array, truth: float) -> Cell:
    """Summarise draws of shape (chains, draws) against the true value."""
    from arviz_stats.base import array_stats

    ends = []
    for prob, sign in ((0.025, -1), (0.975, 1)):
        error = array_stats.mcse(values, chain_axis=0, draw_axis=1, method="quantile", prob=prob)
        end = float(np.quantile(values, prob))
        ends.append((end, end + sign * 4 * float(error)))
    (low, lowest), (high, highest) = ends
    text = f"{_digits(float(values.mean()))} [{_digits(low)}, {_digits(high)}]"
    return Cell(text, lowest <= truth <= highest)


def _digits(value: float) -> str:
    """Three significant digits; thousands as k where they would fill the line."""
    if value >= 100_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")

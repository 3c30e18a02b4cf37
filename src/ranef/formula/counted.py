"""Responses that are counted: trials, exposure, two levels of text, as others write them.

Each becomes a plain column before the formula is read: Bambi's `p(y, n) ~` and `y['yes'] ~`,
brms's `y | trials(n) ~` and R's `cbind(y, n - y) ~`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.data.tables import check_column, require_column, require_numbers
from ranef.errors import DataError, FormulaError, nearest
from ranef.formula.labels import level_names

if TYPE_CHECKING:
    import pandas as pd

    from ranef.families.response import ResponseFamily

__all__ = ["CountedResponse", "counted_response"]

_NAME = r"(`[^`]+`|[\w.]+)"
_PROPORTION = re.compile(rf"(?:p|prop|proportion)\(\s*{_NAME}\s*,\s*{_NAME}\s*\)")
_TRIALS = re.compile(rf"{_NAME}\s*\|\s*trials\(\s*{_NAME}\s*\)")
_CBIND = re.compile(rf"cbind\(\s*{_NAME}\s*,\s*{_NAME}\s*(?:-\s*{_NAME}\s*)?\)")
_LEVEL = re.compile(rf"{_NAME}\[\s*(?:'([^']*)'|\"([^\"]*)\"|([^\]'\"]+))\s*\]")


@dataclass(frozen=True)
class CountedResponse:
    """What stands beside the response.

    Attributes
    ----------
    trials
        Column of trials; None where the family has none.
    success
        What counts as one, where the column held two levels of text or truth values; else None.
    """

    trials: str | None
    success: str | None


def counted_response(
    formula: Any, frame: pd.DataFrame, family: ResponseFamily, trials: Any, exposure: Any
) -> tuple[Any, pd.DataFrame, CountedResponse]:
    """Bring a response of another family to a plain column.

    Parameters
    ----------
    formula
        As the user wrote it.
    frame
        From `read_table`.
    family
        Whether it has trials, and whether its response may be text.
    trials, exposure
        As in `ranef.fit`.

    Returns
    -------
    formula
        With a plain response, and the offset that an exposure is.
    frame : pandas.DataFrame
        With zeros and ones in place of two levels, and with trials that had to be added up.
    counted : CountedResponse

    Raises
    ------
    RanefError
        If trials come twice or not at all, a column is missing, or text has other than two levels.
    """
    if not isinstance(formula, str) or "~" not in formula:
        return formula, frame, CountedResponse(None, None)  # for the parser to say what is wrong
    left, _, right = formula.partition("~")
    left, level = left.strip(), None
    found: str | None = None
    if match := _PROPORTION.fullmatch(left) or _TRIALS.fullmatch(left):
        left, found = match[1], match[2].strip("`")
    elif match := _CBIND.fullmatch(left):
        frame, found = _cbind(formula, frame, *(n and n.strip("`") for n in match.groups()))
        left = match[1]
    elif match := _LEVEL.fullmatch(left):
        left, level = match[1], next(v.strip() for v in match.groups()[1:] if v is not None)
    trials = _trials(formula, family, found, trials)
    if trials is not None:
        if trials.isdigit() and trials not in frame.columns:
            frame = frame.assign(**{trials: int(trials)})
        check_column("trials", trials, frame)
    text = f"{left} ~{right}"
    if exposure is not None:
        check_column("exposure", exposure, frame)
        require_numbers(frame, exposure)
        if (frame[exposure] <= 0).any():
            row = int(np.flatnonzero((frame[exposure] <= 0).to_numpy())[0]) + 1
            raise DataError(
                f"Exposure {exposure!r} is {frame[exposure].iloc[row - 1]:g} in row {row}; "
                "positive numbers are expected.",
                row=row,
            )
        text = f"{text.rstrip()} + offset(log(`{exposure}`))"
    frame, success = _zeros_and_ones(left.strip("`"), frame, family, level)
    return text, frame, CountedResponse(trials, success)


def _trials(formula: str, family: ResponseFamily, found: str | None, given: Any) -> str | None:
    """Name of the column of trials, from the formula or the argument."""
    if not family.takes_trials:
        if found is not None or given is not None:
            raise FormulaError(
                f"Trials came with family={family.name!r}, which has none; take family='binomial'.",
                text=formula,
            )
        return None
    if found is not None and given is not None:
        raise FormulaError(
            f"Formula {formula!r} names trials and trials={given!r} came too; leave one out.",
            text=formula,
        )
    trials = found if given is None else given
    if trials is None:
        raise DataError(
            "family='binomial' needs the number of trials of each row: trials='column', or "
            "'p(y, n) ~ …' in the formula. For zeros and ones take family='bernoulli'."
        )
    if not isinstance(trials, str):
        raise DataError(f"trials is {trials!r}; the name of a column is expected.")
    return trials


def _cbind(
    formula: str, frame: pd.DataFrame, y: str, second: str, minus: str | None
) -> tuple[pd.DataFrame, str]:
    """Trials of R's two columns: `n - y`, or failures to be added to successes."""
    if minus is not None:
        if minus != y:
            raise FormulaError(
                f"Formula {formula!r}: cbind({y}, {second} - {minus}) came; successes and "
                f"failures are expected, cbind({y}, {second} - {y}).",
                text=formula,
            )
        return frame, second
    for name in (y, second):
        require_column(frame, name, f"Formula {formula!r}: {name!r} is no column.")
        require_numbers(frame, name)
    total = f"{y} + {second}"
    return frame.assign(**{total: frame[y] + frame[second]}), total


def _zeros_and_ones(
    name: str, frame: pd.DataFrame, family: ResponseFamily, level: str | None
) -> tuple[pd.DataFrame, str | None]:
    """Replace two levels of text, or truth values, by zeros and ones."""
    import pandas as pd

    if level is not None and not family.two_levels:
        raise DataError(
            f"{name}[{level!r}] ~ … came with family={family.name!r}; only family='bernoulli' "
            "asks for one level of a column."
        )
    if not family.two_levels or name not in frame.columns:
        return frame, None
    values = frame[name]
    if level is None and values.dtype.kind in "iuf":
        return frame, None
    if isinstance(values.dtype, pd.CategoricalDtype):
        levels = [v for v in values.cat.categories if (values == v).any()]
    else:
        levels = sorted(values.dropna().unique(), key=str)
    names = list(level_names(levels))
    if level is None and len(names) > 2:
        raise DataError(
            f"Response {name!r} has {len(names)} levels; two are expected, or one of them in the "
            f"formula, such as {name}[{names[0]!r}] ~ ….",
            column=name,
        )
    if level is None and len(names) < 2:
        raise DataError(
            f"Response {name!r} has the one level {', '.join(map(repr, names))}; as zeros and ones "
            "it would tell which of both that is.",
            column=name,
        )
    if level is not None and level not in names:
        raise DataError(f"Response {name!r} has no level {level!r}. {nearest(level, names)}")
    # The second is the success, as in R.
    success = names[1] if level is None else level
    wanted = levels[names.index(success)]
    number = pd.Series((values == wanted).astype(float), index=values.index)
    return frame.assign(**{name: number.where(values.notna())}), success

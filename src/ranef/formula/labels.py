"""What a level is called: the same value has the same name, whatever its type and its neighbours.

A name must not depend on the other values of the column: 1.0 beside 0.5 and 1.0 beside 3.0 are one
level. And two names that a person would take for one are a question, never a silent new group.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import DataError, SimilarLabelsWarning, warn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["level_name", "level_names", "refuse_similar", "warn_similar"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?")
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([ t]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)?")


def level_names(levels: Iterable[Any]) -> tuple[str, ...]:
    """Write level names, each by itself."""
    if isinstance(levels, np.ndarray) and levels.dtype.kind in "iu":
        return tuple(map(str, levels.tolist()))
    return tuple(level_name(v) for v in levels)


def level_name(value: Any) -> str:
    """Write a level: whole numbers without '.0', midnights as dates.

    Examples
    --------
    >>> level_name(1.0), level_name(0.5), level_name(datetime.datetime(2020, 1, 31))
    ('1', '0.5', '2020-01-31')
    """
    if isinstance(value, (float, np.floating)) and value == np.floor(value) and np.isfinite(value):
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        midnight = value.time() == datetime.time() and not getattr(value, "nanosecond", 0)
        return str(value.date() if midnight else value)
    return str(value)


def warn_similar(column: str, labels: Iterable[str]) -> None:
    """Warn of levels that a reader would take for one: `x` and `X`, `1` and `01`.

    Parameters
    ----------
    column
        The column they stand in.
    labels
        Its different levels.

    Warns
    -----
    SimilarLabelsWarning
        Naming the first pair.
    """
    found: dict[tuple[str, Any], str] = {}
    pairs = []
    for label in labels:
        first = found.setdefault(_key(label), label)
        if first != label:
            pairs.append((first, label))
    if pairs:
        more = f" (and {len(pairs) - 1} more such pairs)" if len(pairs) > 1 else ""
        warn(
            f"Column {column!r} has the levels {pairs[0][0]!r} and {pairs[0][1]!r}{more}, which "
            "differ by case, spaces, zeros or the way to write a number only and are taken for "
            "different; write them one way if they are the same.",
            SimilarLabelsWarning,
        )


def refuse_similar(column: str, unknown: Iterable[str], known: Collection[str]) -> None:
    """Refuse labels that the data did not have but a reader would take for one of theirs.

    Raises
    ------
    DataError
        Naming both labels.
    """
    unknown = list(unknown)
    if not unknown:
        return
    by_key = {_key(label): label for label in sorted(known, reverse=True)}
    for label in unknown:
        same = by_key.get(_key(label))
        if same is not None:
            raise DataError(
                f"Column {column!r} of the new rows holds {label!r}, which the data did not, but "
                f"they held {same!r}; write it the same way if it is the same group, or give the "
                "new group a name of its own.",
                column=column,
                levels=(label, same),
            )


def _key(label: str) -> tuple[str, Any]:
    """What is left of a label without case, spaces, leading zeros and the way of writing numbers.

    A space between two digits stays: it parts two numbers.

    Examples
    --------
    >>> _key("00002709") == _key(" 2709.0"), _key("Site 01") == _key("site1")
    (True, True)
    >>> _key("1 11") == _key("11 1")
    False
    """
    text = " ".join(label.split()).casefold()
    if _NUMBER.fullmatch(text):
        return ("number", Decimal(text))
    if _DATE.fullmatch(text):
        import pandas as pd

        try:
            return ("date", pd.Timestamp(text))
        except ValueError:  # a 31st of February is text
            return ("text", text)
    return ("text", re.sub(r"(?<!\d)0+(?=\d)|(?<!\d) | (?!\d)", "", text))

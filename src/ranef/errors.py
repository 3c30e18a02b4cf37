"""Exceptions and warnings: each says what came, what was expected and what to do next."""

from __future__ import annotations

import re
import sys
import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AliasedWarning",
    "CalibrationError",
    "DataError",
    "FormulaError",
    "FormulaWarning",
    "IdentifiabilityError",
    "IdentifiabilityWarning",
    "ImproperPosteriorError",
    "MissingRowsWarning",
    "NestingWarning",
    "PriorError",
    "RanefError",
    "ReliabilityWarning",
    "SimilarLabelsWarning",
    "SingleRowWarning",
    "nearest",
    "plain_text",
    "warn",
]


# NumPy's way to write its scalars: np.str_('a'), np.float64(2.5).
_NUMPY = re.compile(
    r"""np\.(?:str_|u?int\d+|float\d+|longdouble)\(('[^']*'|"[^"]*"|[-+]?[\d.]+(?:e[-+]?\d+)?)\)"""
)


class RanefError(ValueError):
    """Base of every error that ranef raises on purpose.

    Parameters
    ----------
    message
        One line: what came, what was expected, what to do next.
    **details
        The numbers and names behind the message, kept as attributes so that programs need not
        parse the text.

    Examples
    --------
    >>> RanefError("3 rows came, 4 were expected.", rows=3).rows
    3
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(plain_text(message))
        for name, value in details.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        """Tell type checkers that details are attributes; unknown names fail as usual."""
        raise AttributeError(f"{type(self).__name__} carries no detail named {name!r}.")


class FormulaError(RanefError):
    """The formula cannot be read; `position` (1-based) is where, when known."""


class DataError(RanefError):
    """The table cannot be used: a missing file or column, text for numbers, infinity, no rows."""


class PriorError(RanefError):
    """A prior cannot be read or does not fit its parameter."""


class IdentifiabilityError(RanefError):
    """The data say nothing of a parameter that was left to a default prior."""


class ImproperPosteriorError(RanefError):
    """The posterior has no finite integral, so no draws from it exist."""


class CalibrationError(RanefError):
    """A sampler's draws do not follow the posterior that they claim; raised on request."""


class IdentifiabilityWarning(UserWarning):
    """The data say nothing, or hardly anything, of some parameter, so its prior decides."""


class AliasedWarning(UserWarning):
    """Fixed-effect columns that are combinations of others were left out, as was asked for."""


class FormulaWarning(UserWarning):
    """A formula can be read, but hardly means what is written."""


class MissingRowsWarning(UserWarning):
    """Rows with missing values were left out."""


class NestingWarning(UserWarning):
    """A grouping factor's labels start anew in each level of another, as if it were nested."""


class SimilarLabelsWarning(UserWarning):
    """Two levels of a factor look like one: they differ by case, spaces or leading zeros."""


class SingleRowWarning(UserWarning):
    """A level of a factor among the fixed effects is seen in a single row."""


class ReliabilityWarning(UserWarning):
    """The certificate says that the draws should not be trusted as they are."""


def plain_text(text: str) -> str:
    """Take NumPy's names of types off the values in a text, which a reader has no use for.

    Examples
    --------
    >>> import numpy as np
    >>> plain_text(f"level {np.str_('c001')!r} at {np.float64(2.5)!r}")
    "level 'c001' at 2.5"
    """
    return _NUMPY.sub(r"\1", text)


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the first line outside ranef, where the user's call stands."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("ranef"):
        level, frame = level + 1, frame.f_back
    warnings.warn(plain_text(message), category, stacklevel=level)


def nearest(name: object, known: Iterable[str]) -> str:
    """Return a hint naming the known name closest to `name`, or listing the known ones.

    Examples
    --------
    >>> nearest("scholl", ["school", "pupil"])
    "Did you mean 'school'?"
    """
    names = [str(k) for k in known]
    lower = {k.lower(): k for k in reversed(names)}
    close = get_close_matches(str(name).lower(), lower, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {lower[close[0]]!r}?"
    shown = ", ".join(repr(k) for k in names[:8])
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"Known names: {shown}{more}." if names else "There are none."

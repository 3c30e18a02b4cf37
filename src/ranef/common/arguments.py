"""Plain arguments, checked alike everywhere: numbers, shares, names, functions, paths, seeds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ranef.errors import DataError, RanefError, nearest, plain_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Seed

__all__ = [
    "brief",
    "choice",
    "file_path",
    "flag",
    "function",
    "generator",
    "is_name",
    "is_number",
    "mapping",
    "names_list",
    "number",
    "one_number",
    "positive",
    "share",
    "whole_number",
]

# Characters of a value that a message repeats; of longer ones it names the type.
_LONGEST = 60

# Draws, sweeps and simulations beyond it fit into no memory; R's seeds lie within.
_MOST = 2**32


def brief(value: Any) -> str:
    """Write what came for a message: the value where it is short, else its type.

    Examples
    --------
    >>> brief("95%"), brief(None), brief(print), brief(list(range(100)))
    ("'95%'", 'None', 'a builtin_function_or_method', 'a list')
    """
    if isinstance(value, str):
        # NumPy's text is text: np.str_('a') would stand in the message.
        return repr(str(value) if len(value) <= _LONGEST else f"{value[:_LONGEST]}…")
    text = plain_text(repr(_plain(value)))
    # Reprs such as <function f at 0x7f…> tell nothing.
    fits = len(text) <= _LONGEST and "\n" not in text and not text.startswith("<")
    return text if fits else f"a {type(value).__name__}"


def _plain(value: Any) -> Any:
    """Take a number out of an array without dimensions, NumPy's or xarray's."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is one real number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_name(value: Any, known: Iterable[str]) -> TypeGuard[str]:
    """Whether a value is text and among the known names; a list or a table is none."""
    return isinstance(value, str) and value in known


def number(name: str, value: Any, least: float = -np.inf) -> float:
    """Return a finite number that is not below `least`, or raise.

    Examples
    --------
    >>> number("cost", 2, 0)
    2.0
    """
    value = _plain(value)
    if not (is_number(value) and least <= value and abs(value) < np.inf):
        expected = "a finite number" if least == -np.inf else f"a number from {least:g}"
        raise DataError(f"{name} is {brief(value)}; {expected} is expected.")
    return float(value)


def one_number(giver: str, value: Any) -> float:
    """Return the number that a user's function gave, or raise; nan is left to the caller.

    Examples
    --------
    >>> one_number("Statistic 'max'", np.float64(2.5))
    2.5
    """
    try:
        if isinstance(value, str) or np.ndim(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        came = f"an array of shape {np.shape(value)}" if np.ndim(value) else brief(value)
        raise DataError(f"{giver} gave {came}; one number is expected.") from None


def positive(
    name: str, value: Any, *, error: type[RanefError] = DataError, **details: Any
) -> float:
    """Return a positive finite number, or raise an error that carries the details.

    Examples
    --------
    >>> positive("scale", 2.5)
    2.5
    """
    value = _plain(value)
    if not (is_number(value) and 0 < value < np.inf):
        raise error(f"{name} is {brief(value)}; a positive number is expected.", **details)
    return float(value)


def share(name: str, value: Any, example: float = 0.95) -> float:
    """Return a number between 0 and 1, both excluded, or raise.

    Examples
    --------
    >>> share("prob", 0.9)
    0.9
    """
    value = _plain(value)
    if not (is_number(value) and 0 < value < 1):
        hint = f"e.g. {example:g}"
        if is_number(value) and 2 <= value < 100:  # a percentage, by its size
            hint = f"{value / 100:g} for {value:g}%"
        raise DataError(f"{name} is {brief(value)}; a number between 0 and 1 is expected, {hint}.")
    return float(value)


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number that is not below `least`, or raise.

    Examples
    --------
    >>> whole_number("draws", 4000)
    4000
    """
    value = _plain(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise DataError(f"{name} is {brief(value)}; a whole number from {least} is expected.")
    if value > _MOST:
        raise DataError(f"{name} is {brief(value)}; at most {_MOST:,} are possible.")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """Return True or False, or raise.

    Examples
    --------
    >>> flag("reml", True)
    True
    """
    value = _plain(value)
    if not isinstance(value, bool):
        raise DataError(f"{name} is {brief(value)}; True or False is expected.")
    return value


def choice(name: str, value: Any, known: Iterable[str]) -> str:
    """Return one of the known words, or raise with the nearest.

    Examples
    --------
    >>> choice("kind", "mean", ("mean", "response"))
    'mean'
    """
    known = tuple(known)
    if not is_name(value, known):
        raise DataError(f"{name} is {brief(value)}. {nearest(value, known)}")
    return value


def names_list(name: str, value: Any, example: str) -> list[str]:
    """Return a list of names, or raise; text is no list, its letters are no names.

    Examples
    --------
    >>> names_list("statistics", ("max", "icc"), "['max']")
    ['max', 'icc']
    """
    value = _plain(value)
    plain = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    names = list(value) if plain else []
    if not plain or not all(isinstance(n, str) for n in names):
        raise DataError(f"{name} is {brief(value)}; a list of names is expected, e.g. {example}.")
    return names


def mapping(
    name: str, value: Any, example: str, *, error: type[RanefError] = DataError
) -> Mapping[Any, Any]:
    """Return a mapping, or raise.

    Examples
    --------
    >>> mapping("at", {"Days": 5}, "{'Days': 5}")
    {'Days': 5}
    """
    if not isinstance(value, Mapping):
        raise error(f"{name} is {brief(value)}; a mapping is expected, e.g. {example}.")
    return value


def function(name: str, value: Any, form: str) -> Callable[..., Any]:
    """Return a function, or raise with the form in which it is called.

    Examples
    --------
    >>> function("update", max, "update(parameters, data, rng)") is max
    True
    """
    if not callable(value):
        raise DataError(f"{name} is {brief(value)}; a function {form} is expected.")
    return value  # type: ignore[no-any-return]


def file_path(name: str, value: Any, example: str) -> Path:
    """Return the path of a file, or raise.

    Examples
    --------
    >>> file_path("path", "fit.nc", "fit.nc").name
    'fit.nc'
    """
    if not isinstance(value, (str, os.PathLike)):
        raise DataError(
            f"{name} is {brief(value)}; the path of a file is expected, e.g. '{example}'."
        )
    return Path(value)


def generator(seed: Seed, name: str = "seed") -> np.random.Generator:
    """Make the source of random numbers, or raise.

    Examples
    --------
    >>> generator(1).integers(10)
    np.int64(4)
    """
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise DataError(
            f"{name} is {brief(seed)}; a whole number from 0, a numpy.random.Generator or None is "
            "expected."
        ) from None

"""Checks that responses which are counted are whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranef.common.array_types import Array

__all__ = ["first_row", "refuse_parts"]


def first_row(wrong: NDArray[np.bool_]) -> int:
    """Number of the first row that is wrong, counted from one."""
    return int(np.flatnonzero(wrong)[0]) + 1


def refuse_parts(what: str, values: Array, expected: str) -> None:
    """Raise DataError unless all values are whole and not negative."""
    if (wrong := (values < 0) | (values != np.round(values))).any():
        row = first_row(wrong)
        raise DataError(
            f"{what} is {values[row - 1]:g} in row {row} of the complete rows; {expected} are "
            "expected.",
            row=row,
        )

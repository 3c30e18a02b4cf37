"""Rows that were not observed: columns of the formula at values that are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import brief, is_number
from ranef.errors import DataError, nearest
from ranef.formula.expressions import parse_side, variables
from ranef.formula.fixed_effects import tidy
from ranef.formula.labels import level_name
from ranef.formula.new_rows import encode, undetermined

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from ranef.common.array_types import Array
    from ranef.posterior.source import Source

__all__ = ["FixedPart", "group_squares", "hold"]


def hold(frame: pd.DataFrame, at: Mapping[str, Any], used: set[str]) -> pd.DataFrame:
    """Set columns of a table to one value each.

    Parameters
    ----------
    frame
        The rows.
    at
        Value by column.
    used
        Columns that may be set.

    Returns
    -------
    pandas.DataFrame
        A copy.

    Raises
    ------
    DataError
        If a column is not among those used, a level was not seen, or a value is no number.
    """
    import pandas as pd

    out = frame.copy()
    for name, value in at.items():
        if name not in used:
            raise DataError(f"at names {name!r}. {nearest(str(name), sorted(used))}")
        known = frame[name]
        if known.dtype.kind in "iuf":
            if not (is_number(value) and np.isfinite(value)):
                raise DataError(f"at={{{name!r}: {brief(value)}}}; a finite number is expected.")
            out[name] = float(value)
            continue
        seen = {level_name(v): v for v in known.unique()}
        if level_name(value) not in seen:
            raise DataError(
                f"at={{{name!r}: {brief(value)}}} names no level that was seen. "
                f"{nearest(level_name(value), seen)}"
            )
        filled = [seen[level_name(value)]] * len(out)
        out[name] = pd.Series(filled, index=out.index, dtype=known.dtype)
    return out


class FixedPart:
    """The fixed part of a formula, ready for new rows.

    Parameters
    ----------
    source
        Model and rows; contrasts, and what `poly` or `scale` remember, come from these.

    Attributes
    ----------
    rows
        The observed rows, tidied.
    used
        Columns that the fixed part reads.
    categorical
        Those that stand in it as factors.
    """

    def __init__(self, source: Source[Any]) -> None:
        self._spec = spec = source.model.spec
        self.used = set(spec.fixed_names)
        frame = source.rows.frame
        self.rows = tidy(frame, self.used)
        self.categorical = {n for n in self.used if not spec.columns[n].number}
        for expression in (str(f.expr) for f in spec.fixed.spec.factor_contrasts):
            # C(x) makes a factor of the numbers in x.
            if expression not in frame.columns:  # odd names stand without their backticks here
                inner = parse_side(expression, spec.formula, intercept=False)
                self.categorical |= variables(inner, spec.formula, frame)

    def encode(self, frame: pd.DataFrame) -> tuple[Array, NDArray[np.bool_]]:
        """Fixed-effect columns of new rows, and in which of them the data do not tell the mean.

        Parameters
        ----------
        frame
            The columns in `used`, with the types of `rows`.

        Returns
        -------
        X : numpy.ndarray
            Shape (m, p).
        lost : numpy.ndarray
            Where columns that were left out as aliased are no combination of the others, shape
            (m,).
        """
        fixed = self._spec.fixed
        whole = encode(fixed.spec, self._spec, frame)
        lost = undetermined(self._spec, whole).any(axis=1)
        return np.ascontiguousarray(whole[:, list(fixed.kept)]), np.asarray(lost)


def group_squares(source: Source[Any], at: Mapping[str, Any]) -> tuple[Array, ...]:
    """Mean over rows of z z' of each group term with some columns held, shape (q, q) each.

    Parameters
    ----------
    source
        Model and rows.
    at
        Value by column.

    Returns
    -------
    tuple of numpy.ndarray

    Raises
    ------
    DataError
        If no effect varies by group with a column that is held, or a value does not fit it.
    """
    spec = source.model.spec
    varying = set(spec.group_names)
    for name in at:
        if name not in varying:
            raise DataError(
                f"at names {name!r}, with which no effect varies by group. "
                f"{nearest(str(name), sorted(varying))}"
            )
    rows = hold(tidy(source.rows.frame, varying), at, varying)
    parts = (encode(group.spec, spec, rows) for group in spec.groups)
    return tuple(Z.T @ Z / len(Z) for Z in parts)

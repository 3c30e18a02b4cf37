"""Rows that were not observed: columns of the formula at values that are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import brief, is_number
from ranef.errors import DataError, nearest
from ranef.formula.expressions import model_matrix, parse_side, variables
from ranef.formula.fixed_effects import tidy
from ranef.posterior.source import rows_at_hand

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

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
        seen = {str(v): v for v in known.unique()}
        if str(value) not in seen:
            raise DataError(
                f"at={{{name!r}: {brief(value)}}} names no level that was seen. "
                f"{nearest(value, seen)}"
            )
        filled = [seen[str(value)]] * len(out)
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

    def __init__(self, source: Source) -> None:
        self._formula, self._model = source.model.formula, source.model
        frame = rows_at_hand(source.columns)
        recipe = source.columns.recipe
        if recipe is None:
            raise DataError("These columns were not made from a table, so no grid can be made.")
        self.used = set(recipe.fixed_names)
        self.rows = tidy(frame, self.used)
        self._spec = recipe.fixed
        factors = {str(f.expr): f for f in self._spec.factor_contrasts}
        self.categorical = {n for n in self.used if self.rows[n].dtype.kind not in "iuf"}
        for expression in factors:
            # C(x) makes a factor of the numbers in x.
            if expression not in frame.columns:  # odd names stand without their backticks here
                inner = parse_side(expression, self._formula, intercept=False)
                self.categorical |= variables(inner, self._formula, frame)

    def encode(self, frame: pd.DataFrame) -> Array:
        """Fixed-effect columns of new rows, shape (m, p).

        Parameters
        ----------
        frame
            The columns in `used`, with the types of `rows`.

        Raises
        ------
        DataError
            If columns were left out as aliased and the data do not tell the new rows' means.
        """
        made = self._columns(model_matrix(self._spec, self._formula, frame))
        if self._model.aliased:
            self._check_estimable(made)
        return np.column_stack([made[n] for n in self._model.names])

    def _columns(self, matrix: Any) -> dict[str, Array]:
        """Columns of a model matrix by the model's names."""
        values = matrix.to_numpy(dtype=float)
        names = [str(c).replace("[T.", "[") for c in matrix.columns]
        return {n: values[:, j] for j, n in enumerate(names)}

    def _check_estimable(self, new: dict[str, Array]) -> None:
        """Refuse rows outside the space that the observed rows span (Searle 1971, ch. 5)."""
        observed = self._columns(model_matrix(self._spec, self._formula, self.rows))
        X = np.column_stack([observed[n] for n in new])
        scale = np.linalg.norm(X, axis=0)
        scale[scale == 0] = 1.0
        rows = np.column_stack(list(new.values())) / scale
        _, root, Vh = np.linalg.svd(X / scale, full_matrices=True)
        null = Vh[int(np.sum(root > 1e-9 * root[0])) :]
        lost = np.abs(rows @ null.T).max(axis=1) > 1e-7 * np.linalg.norm(rows, axis=1)
        if lost.any():
            raise DataError(
                f"{int(lost.sum())} of {len(rows)} combinations of levels cannot be told from the "
                f"data, because {', '.join(self._model.aliased)} had to be left out; leave the "
                "interaction out, or ask for a contrast of coefficients instead."
            )


def group_squares(source: Source, at: Mapping[str, Any]) -> tuple[Array, ...]:
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
    formula = source.model.formula
    frame = rows_at_hand(source.columns)
    sides = [parse_side(t.expression, formula, intercept=True) for t in formula.groups]
    reads = [variables(parsed, formula, frame) for parsed in sides]
    varying = set().union(*reads)
    for name in at:
        if name not in varying:
            raise DataError(
                f"at names {name!r}, with which no effect varies by group. "
                f"{nearest(str(name), sorted(varying))}"
            )
    out = []
    for parsed, used in zip(sides, reads, strict=True):
        rows = tidy(frame, used)
        spec = model_matrix(parsed, formula, rows).model_spec
        own = {n: v for n, v in at.items() if n in used}
        Z = model_matrix(spec, formula, hold(rows, own, used)).to_numpy(dtype=float)
        out.append(Z.T @ Z / len(Z))
    return tuple(out)

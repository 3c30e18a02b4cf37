"""Each row by itself: a term that needs the other rows cannot be computed for a new one.

`I(x - np.mean(x))` takes the mean of whatever rows it sees, so a row that is predicted alone would
get another value than it had in the fit. `center(x)` remembers the mean of the data.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import FormulaError
from ranef.formula.expressions import model_matrix

if TYPE_CHECKING:
    import pandas as pd

    from ranef.common.array_types import Array
    from ranef.formula.parse import Formula

__all__ = ["check_row_by_row"]

# Relative difference that rounding in polynomials and splines explains.
_SAME = 1e-6
# Columns whose extreme rows are tried; a term that needs other rows shows in nearly any row.
_TRIED = 3


def check_row_by_row(matrix: Any, formula: Formula, rows: pd.DataFrame) -> None:
    """Refuse terms that give a few rows of the data other values when these stand alone.

    Parameters
    ----------
    matrix
        What formulaic made of all rows, with its record of how.
    formula
        Its text, for the error.
    rows
        The rows it was made of.

    Raises
    ------
    FormulaError
        Naming the term, and what remembers the data instead.
    """
    from formulaic.parser.types import Factor

    spec = matrix.model_spec
    computed = {
        str(term): part
        for term, part in spec.term_slices.items()
        if any(f.eval_method is Factor.EvalMethod.PYTHON for f in term.factors)
    }
    values = np.asarray(matrix.to_numpy(dtype=float))
    columns = [j for part in computed.values() for j in range(*part.indices(values.shape[1]))]
    if not columns:
        return
    size = np.abs(values).max(axis=0)
    for row in _telling_rows(values[:, columns[:_TRIED]]):
        alone = _alone(spec, formula, rows.iloc[[row]])
        if alone is None:
            raise _refusal(next(iter(computed)), formula)
        for name, part in computed.items():
            gap = np.abs(alone[part] - values[row, part])
            if not np.all(gap <= _SAME * size[part]):
                raise _refusal(name, formula)


def _telling_rows(values: Array) -> list[int]:
    """The first row, and those with a column's smallest and largest values, which differ most."""
    ends = [*values.argmin(axis=0), *values.argmax(axis=0)]
    return list(dict.fromkeys(int(i) for i in (0, *ends)))


def _alone(spec: Any, formula: Formula, row: pd.DataFrame) -> Array | None:
    """Columns of one row by itself, as a new row is read; None where they cannot be computed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            matrix = model_matrix(spec, formula, row)
        except FormulaError:
            return None
    values = np.asarray(matrix.to_numpy(dtype=float))
    return values[0] if len(values) == 1 else None


def _refusal(term: str, formula: Formula) -> FormulaError:
    """Make the error that names the term."""
    return FormulaError(
        f"Formula {formula.text!r}: {term!r} takes a row's value from the other rows, so a new row "
        "would get another value than in the fit; write center(x), scale(x) or poly(x, 2), which "
        "remember the data, or compute the column in your table.",
        text=formula.text,
    )

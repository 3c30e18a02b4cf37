"""Formula and table to arrays by row: response, fixed-effect columns, group codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import brief, is_name
from ranef.data.tables import check_column, check_columns, drop_missing, require_numbers
from ranef.errors import DataError, FormulaError, MissingRowsWarning, warn
from ranef.formula.expressions import model_matrix, parse_side, variables
from ranef.formula.fixed_effects import drop_aliased, fixed_effects, tidy
from ranef.formula.grouping import group_columns, grouping_factors
from ranef.formula.nesting import check_nesting

if TYPE_CHECKING:
    import pandas as pd

    from ranef.common.array_types import Array
    from ranef.formula.fixed_effects import FixedTerm
    from ranef.formula.grouping import Factor, GroupColumns
    from ranef.formula.parse import Formula

__all__ = ["DesignSpec", "Rows", "evaluate"]


@dataclass(frozen=True)
class DesignSpec:
    """How the formula's columns are made, for rows other than those of the data.

    Attributes
    ----------
    formula
        The parsed formula.
    fixed
        formulaic's specification of the fixed part, with what its transforms and contrasts learnt.
    kept
        Which of its columns are those of `Rows.X`.
    offsets
        Specifications of the offset terms.
    fixed_names, group_names, offset_names
        Columns of the table that the fixed part, the left sides of group terms and the offsets
        read.
    weights, se
        Names of the columns of weights and of standard errors.
    """

    formula: Formula
    fixed: Any
    kept: tuple[int, ...]
    offsets: tuple[Any, ...]
    fixed_names: tuple[str, ...]
    group_names: tuple[str, ...]
    offset_names: tuple[str, ...]
    weights: str | None
    se: str | None


@dataclass(frozen=True)
class Rows:
    """What the formula picks from the table, row by row.

    Attributes
    ----------
    y
        Response, shape (N,), in the user's units.
    offset
        What `offset(…)` terms add to the mean, shape (N,); None without.
    weights
        Precision weights, shape (N,); None where all are one.
    X
        Fixed-effect columns, shape (N, p).
    names
        One name per column of X, for priors: `Intercept`, `x`, `f[b]`.
    terms
        The same columns by term, for draws.
    factors
        The grouping factors.
    slopes
        Distinct columns that vary by group, other than the constant, shape (N, k).
    groups
        The group terms.
    dropped
        Rows left out because a used column was missing.
    aliased
        Names of fixed-effect columns that were left out as combinations of others.
    sigma
        The residual SD of a row of weight one, in the units of the response, where standard errors
        are known: that of row i is sigma / sqrt(weights[i]). None where it is a parameter.
    rows
        The used columns of the complete rows, as they came, with the table's index.
    recipe
        How the columns are made, for other rows.
    """

    y: Array
    offset: Array | None
    weights: Array | None
    X: Array
    names: tuple[str, ...]
    terms: tuple[FixedTerm, ...]
    factors: tuple[Factor, ...]
    slopes: Array
    groups: tuple[GroupColumns, ...]
    dropped: int
    aliased: tuple[str, ...] = ()
    sigma: float | None = None
    rows: pd.DataFrame | None = None
    recipe: DesignSpec | None = None

    @property
    def response(self) -> Array:
        """What the model explains: y less the offset."""
        return self.y if self.offset is None else self.y - self.offset


def evaluate(
    formula: Formula,
    frame: pd.DataFrame,
    weights: str | None = None,
    *,
    se: str | None = None,
    aliased: str = "refuse",
) -> Rows:
    """Evaluate a formula on a table.

    Parameters
    ----------
    formula
        From `parse_formula`.
    frame
        From `read_table`.
    weights
        Column of precision weights.
    se
        Column of known standard errors, instead of weights.
    aliased
        `"drop"` leaves out fixed-effect columns that are combinations of those before them;
        `"refuse"` leaves them in, for `orthonormalize` to refuse.

    Returns
    -------
    Rows

    Raises
    ------
    FormulaError, DataError
        If the formula names unknown columns or functions, the response is text or constant,
        there is no group term, a grouping factor holds decimal numbers, a group term's own columns
        are aliased, or weights or standard errors are not positive.

    Warns
    -----
    MissingRowsWarning
        With the number of rows that were left out.
    AliasedWarning
        With the columns that were left out.
    SingleRowWarning, NestingWarning
        See `ranef.formula.nesting`.

    Examples
    --------
    >>> import pandas as pd
    >>> from ranef.formula.parse import parse_formula
    >>> frame = pd.DataFrame({"y": [1.0, 2.0, 4.0], "g": ["a", "a", "b"]})
    >>> evaluate(parse_formula("y ~ 1 + (1|g)"), frame).factors[0].levels
    ('a', 'b')
    """
    if not is_name(aliased, ("refuse", "drop")):
        raise DataError(f"aliased is {brief(aliased)}; 'refuse' or 'drop' is expected.")
    if weights is not None and se is not None:
        raise DataError(
            f"weights={brief(weights)} and se={brief(se)} came; give one of them. Known standard "
            "errors leave no residual SD for weights to scale."
        )
    left = parse_side(formula.response, formula, intercept=False)
    right = parse_side(formula.fixed, formula, intercept=True)
    # Inside I() signs are arithmetic; formulaic would read `x - z` as x without z.
    added = [parse_side(f"I({text})", formula, intercept=False) for text in formula.offsets]
    varying = [parse_side(term.expression, formula, intercept=True) for term in formula.groups]
    _check_response_once(formula, [right, *varying])
    if not formula.groups:
        raise FormulaError(
            f"Formula {formula.text!r} has no group term; add one, e.g. '+ (1|g)'.",
            text=formula.text,
        )
    plain = set().union(*(variables(part, formula, frame) for part in added))
    numeric = variables(left, formula, frame) | plain
    columns = variables(right, formula, frame)
    inside = set().union(*(variables(part, formula, frame) for part in varying))
    given = columns | inside
    factors = list(dict.fromkeys(name for term in formula.groups for name in term.factors))
    given_rows = weights if se is None else se
    if given_rows is not None:
        check_column("weights" if se is None else "se", given_rows, frame)
        numeric |= {given_rows}
    used = list(dict.fromkeys([*sorted(numeric | given), *factors]))
    check_columns(frame, used, formula.text)
    for name in sorted(numeric):
        require_numbers(frame, name)
    rows, dropped = drop_missing(frame, used)
    index = frame.index
    if dropped:
        index = index[frame[used].notna().all(axis=1).to_numpy()]
        warn(
            f"{dropped} of {len(frame)} rows have missing values and are left out.",
            MissingRowsWarning,
        )
    y = _response(left, formula, rows)
    tidied = tidy(rows, given)
    fixed = fixed_effects(right, formula, tidied)
    if aliased == "drop":
        fixed = drop_aliased(fixed)
    made = grouping_factors(formula, rows)
    slopes, groups = group_columns(varying, formula, tidied, made)
    check_nesting(formula, made)
    row_weights, sigma = None, None
    if given_rows is not None:
        row_weights = _positive(rows[given_rows], "Weight" if se is None else "Standard error")
        if se is not None:
            row_weights, sigma = _precisions(row_weights)
    offset, made_offsets = _offset(added, formula, rows)
    return Rows(
        y=y,
        offset=offset,
        weights=row_weights,
        X=fixed.X,
        names=fixed.names,
        terms=fixed.terms,
        factors=made,
        slopes=slopes,
        groups=groups,
        dropped=dropped,
        aliased=fixed.aliased,
        sigma=sigma,
        rows=rows[used].set_axis(index),
        recipe=DesignSpec(
            formula=formula,
            fixed=fixed.spec,
            kept=fixed.kept,
            offsets=made_offsets,
            fixed_names=tuple(sorted(columns)),
            group_names=tuple(sorted(inside)),
            offset_names=tuple(sorted(plain)),
            weights=weights,
            se=se,
        ),
    )


def _check_response_once(formula: Formula, right: list[Any]) -> None:
    """Refuse a response that is its own covariate; a transform of it, as `lag(y)`, may be meant."""
    from formulaic.parser.types import Factor

    factors = [factor for part in right for term in part for factor in term.factors]
    # A literal 1, the intercept, is not the column that is called so.
    written = {str(f.expr) for f in factors if f.eval_method is not Factor.EvalMethod.LITERAL}
    written |= {text.strip("`") for text in formula.offsets}
    if (name := formula.response.strip("`")) in written:
        raise FormulaError(
            f"Formula {formula.text!r}: the response {name!r} stands on the right-hand side too; "
            "leave it out there.",
            text=formula.text,
        )


def _response(parsed: Any, formula: Formula, rows: pd.DataFrame) -> Array:
    """Evaluate the left-hand side to one finite numeric column."""
    matrix = model_matrix(parsed, formula, rows)
    if matrix.shape[1] != 1:
        raise FormulaError(
            f"Formula {formula.text!r}: the left-hand side gives {matrix.shape[1]} columns; "
            "one response is expected.",
            text=formula.text,
        )
    y = np.ascontiguousarray(matrix.to_numpy(dtype=float)[:, 0])
    if not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0]) + 1
        raise DataError(
            f"Response {formula.response!r} is not finite in row {row} of the complete rows "
            "(the logarithm of a number not positive?); correct the values or leave them empty.",
            row=row,
        )
    spread = float(y.max() - y.min())
    if spread <= 4 * np.finfo(float).eps * float(np.abs(y).max()):
        raise DataError(
            f"Response {formula.response!r} is constant ({y[0]:g} in all {len(y)} rows); "
            "there is no variation to model.",
            value=float(y[0]),
        )
    return y


def _offset(
    parsed: list[Any], formula: Formula, rows: pd.DataFrame
) -> tuple[Array | None, tuple[Any, ...]]:
    """Add up the offset terms; give how they are made too."""
    if not parsed:
        return None, ()
    total = np.zeros(len(rows))
    specs = []
    for part, text in zip(parsed, formula.offsets, strict=True):
        matrix = model_matrix(part, formula, rows)
        if matrix.shape[1] != 1:
            raise FormulaError(
                f"Formula {formula.text!r}: offset({text}) gives {matrix.shape[1]} columns; one "
                "is expected.",
                text=formula.text,
            )
        total += matrix.to_numpy(dtype=float)[:, 0]
        specs.append(matrix.model_spec)
    if not np.isfinite(total).all():
        raise DataError(f"The offset of {formula.text!r} is not finite in some row.")
    return total, tuple(specs)


def _positive(values: pd.Series[Any], what: str) -> Array:
    """Check precision weights or standard errors: positive."""
    w = values.to_numpy(dtype=float)
    if not np.all(w > 0):
        row = int(np.flatnonzero(~(w > 0))[0]) + 1
        without = "weight" if what == "Weight" else "a standard error"
        raise DataError(
            f"{what} {values.name!r} is {w[row - 1]:g} in row {row} of the complete rows; positive "
            f"numbers are expected. Leave out rows without {without}.",
            row=row,
        )
    return np.asarray(w)


def _precisions(se: Array) -> tuple[Array, float]:
    """Weights and residual SD that together say what standard errors say, weights near one.

    Relative to a residual SD of one the group SDs would depend on the response's units.
    """
    sigma = float(np.exp(np.log(se).mean()))
    return (sigma / se) ** 2, sigma

"""Formula and table to arrays by row: response, fixed-effect columns, group codes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import brief, is_name
from ranef.data.tables import check_column, drop_missing, require_column, require_numbers
from ranef.errors import DataError, FormulaError, MissingRowsWarning, warn
from ranef.formula.expressions import model_matrix, parse_side, refuse_foreign, variables
from ranef.formula.fixed_effects import drop_aliased, fixed_effects, tidy
from ranef.formula.grouping import group_columns, grouping_factors
from ranef.formula.labels import level_names, warn_similar
from ranef.formula.nesting import check_nesting
from ranef.formula.row_by_row import check_row_by_row
from ranef.formula.spec import DesignSpec, column_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from ranef.common.array_types import Array, IntArray
    from ranef.formula.parse import Formula

__all__ = ["Rows", "evaluate"]

# Numbers whose squares, and sums of these, double precision holds.
_FAR = 1e140


@dataclass(frozen=True)
class Rows:
    """What the formula picks from the table, row by row.

    Attributes
    ----------
    spec
        What is known without the rows.
    y
        Response, shape (N,), in the user's units.
    offset
        What `offset(…)` terms add to the mean, shape (N,); None without.
    weights
        Precision weights, shape (N,); None where all are one.
    X
        Fixed-effect columns, shape (N, p).
    slopes
        Distinct columns that vary by group, other than the constant, shape (N, k).
    codes
        Level of each row for each grouping factor, shape (N,), values 0..G-1.
    dropped
        Rows left out because a used column was missing.
    frame
        The used columns of the complete rows, as they came, with the table's index.
    trials
        Trials of each row, shape (N,); None without.
    """

    spec: DesignSpec
    y: Array
    offset: Array | None
    weights: Array | None
    X: Array
    slopes: Array
    codes: tuple[IntArray, ...]
    dropped: int
    frame: pd.DataFrame
    trials: Array | None = None

    @property
    def response(self) -> Array:
        """What the model explains: y less the offset."""
        return self.y if self.offset is None else self.y - self.offset

    def take(self, index: IntArray) -> Rows:
        """Keep the rows of `index`, in that order; the levels stay numbered as they are."""
        return replace(
            self,
            y=self.y[index],
            offset=None if self.offset is None else self.offset[index],
            weights=None if self.weights is None else self.weights[index],
            X=self.X[index],
            slopes=self.slopes[index],
            codes=tuple(code[index] for code in self.codes),
            frame=self.frame.iloc[index],
            trials=None if self.trials is None else self.trials[index],
        )


def evaluate(
    formula: Formula,
    frame: pd.DataFrame,
    weights: str | None = None,
    *,
    se: str | None = None,
    aliased: str = "refuse",
    trials: str | None = None,
    counted: bool = False,
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
    trials
        Column of numbers of trials.
    counted
        Whether the response is counted, not measured: then it may be constant.

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
    SimilarLabelsWarning
        With levels that look like one, by case, spaces or leading zeros.
    SingleRowWarning, NestingWarning
        See `ranef.formula.nesting`.

    Examples
    --------
    >>> import pandas as pd
    >>> from ranef.formula.parse import parse_formula
    >>> frame = pd.DataFrame({"y": [1.0, 2.0, 4.0], "g": ["a", "a", "b"]})
    >>> evaluate(parse_formula("y ~ 1 + (1|g)"), frame).spec.factors[0].levels
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
    in_offsets = set().union(*(variables(part, formula, frame) for part in added))
    in_fixed = variables(right, formula, frame)
    in_groups = set().union(*(variables(part, formula, frame) for part in varying))
    numeric = variables(left, formula, frame) | in_offsets
    precision = weights if se is None else se
    if precision is not None:
        check_column("weights" if se is None else "se", precision, frame)
        numeric |= {precision}
    if trials is not None:
        numeric |= {trials}
    factor_names = [name for term in formula.groups for name in term.factors]
    used = list(dict.fromkeys([*sorted(numeric | in_fixed | in_groups), *factor_names]))
    for part in (left, right, *added, *varying):
        refuse_foreign(part, formula, frame)
    for name in used:
        missing = f"Formula {formula.text!r}: {name!r} is neither a column nor a known function."
        require_column(frame, name, missing)
    for name in sorted(numeric):
        require_numbers(frame, name)
    kept, dropped = drop_missing(frame, used)
    # formulaic joins columns by index, and a table's may name several rows alike.
    complete = kept.reset_index(drop=True)
    if dropped:
        warn(
            f"{dropped} of {len(frame)} rows have missing values and are left out.",
            MissingRowsWarning,
        )
    for name in dict.fromkeys([*sorted(in_fixed | in_groups), *factor_names]):
        if complete[name].dtype.kind not in "iufbmM":
            warn_similar(name, level_names(complete[name].unique()))
    _refuse_truth(left, complete)
    y = _response(left, formula, complete, constant=counted)
    tidied = tidy(complete, in_fixed | in_groups)
    X, fixed = fixed_effects(right, formula, tidied)
    if aliased == "drop":
        X, fixed = drop_aliased(X, fixed)
    factors, codes = grouping_factors(formula, complete)
    slopes, groups = group_columns(varying, formula, tidied, factors)
    check_nesting(formula, factors, codes)
    _refuse_far(X, fixed.names)
    _refuse_far(slopes, [n for group in groups for n in group.names])
    _refuse_far(y[:, None], [formula.response])
    row_weights, sigma = None, None
    if precision is not None:
        row_weights = _positive(complete[precision], "Weight" if se is None else "Standard error")
        if se is not None:
            row_weights, sigma = _precisions(row_weights)
    offset, offset_specs = _offset(added, formula, complete)
    spec = DesignSpec(
        formula=formula,
        fixed=fixed,
        groups=groups,
        factors=factors,
        sigma=sigma,
        weights=weights,
        se=se,
        trials=trials,
        offsets=offset_specs,
        columns={n: column_type(complete[n]) for n in sorted(in_fixed | in_groups | in_offsets)},
        fixed_names=tuple(sorted(in_fixed)),
        group_names=tuple(sorted(in_groups)),
        offset_names=tuple(sorted(in_offsets)),
    )
    return Rows(
        spec=spec,
        y=y,
        offset=offset,
        weights=row_weights,
        X=X,
        slopes=slopes,
        codes=codes,
        dropped=dropped,
        frame=kept,
        trials=None if trials is None else np.asarray(complete[trials].to_numpy(dtype=float)),
    )


def _refuse_far(columns: Array, names: Sequence[str]) -> None:
    """Refuse columns of numbers whose squares leave the range of double precision."""
    for j, column in enumerate(columns.T):
        largest = float(np.abs(column).max()) if len(column) else 0.0
        if largest > _FAR or 0 < largest < 1 / _FAR:
            what = f"column {names[j]!r}" if len(names) == columns.shape[1] else "a column"
            raise DataError(
                f"The largest number of {what} is {largest:.3g} in size; numbers between "
                f"{1 / _FAR:g} and {_FAR:g} are expected. Use other units.",
                value=largest,
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


def _refuse_truth(parsed: Any, frame: pd.DataFrame) -> None:
    """Refuse a response of truth values: a normal distribution is hardly meant for a yes and no."""
    for name in {str(factor.expr) for term in parsed for factor in term.factors}:
        if name in frame.columns and frame[name].dtype.kind == "b":
            raise DataError(
                f"Response {name!r} holds truth values, but responses are modelled as normal here; "
                f"if 0 and 1 are to be taken as numbers all the same, write 'I(1 * {name}) ~ …'.",
                column=name,
            )


def _response(parsed: Any, formula: Formula, frame: pd.DataFrame, *, constant: bool) -> Array:
    """Evaluate the left-hand side to one finite numeric column, one that varies where it must."""
    matrix = _one_column(parsed, formula, frame, "the left-hand side", "one response")
    y = _values(matrix)
    if not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0]) + 1
        raise DataError(
            f"Response {formula.response!r} is not finite in row {row} of the complete rows "
            "(the logarithm of a number not positive?); correct the values or leave them empty.",
            row=row,
        )
    spread = float(y.max() - y.min())
    if not constant and spread <= 4 * np.finfo(float).eps * float(np.abs(y).max()):
        raise DataError(
            f"Response {formula.response!r} is constant ({y[0]:g} in all {len(y)} rows); "
            "there is no variation to model.",
            value=float(y[0]),
        )
    return y


def _offset(
    parsed: list[Any], formula: Formula, frame: pd.DataFrame
) -> tuple[Array | None, tuple[Any, ...]]:
    """Add up the offset terms; give how they are made too."""
    if not parsed:
        return None, ()
    total = np.zeros(len(frame))
    matrices = []
    for part, text in zip(parsed, formula.offsets, strict=True):
        matrices.append(_one_column(part, formula, frame, f"offset({text})", "one"))
        total += _values(matrices[-1])
    if not np.isfinite(total).all():
        raise DataError(f"The offset of {formula.text!r} is not finite in some row.")
    for matrix in matrices:
        check_row_by_row(matrix, formula, frame)
    return total, tuple(matrix.model_spec for matrix in matrices)


def _one_column(
    parsed: Any, formula: Formula, frame: pd.DataFrame, what: str, expected: str
) -> Any:
    """Evaluate what should give one column, with the record of how."""
    matrix = model_matrix(parsed, formula, frame)
    if matrix.shape[1] != 1:
        raise FormulaError(
            f"Formula {formula.text!r}: {what} gives {matrix.shape[1]} columns; {expected} is "
            "expected.",
            text=formula.text,
        )
    return matrix


def _values(matrix: Any) -> Array:
    """The numbers of a matrix with one column."""
    return np.ascontiguousarray(matrix.to_numpy(dtype=float)[:, 0])


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

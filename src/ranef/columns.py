"""Formula and table to arrays by row: response, fixed-effect columns, group codes."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import DataError, FormulaError, MissingRowsWarning, warn
from ranef.table import check_columns, drop_missing, require_numbers

if TYPE_CHECKING:
    import pandas as pd

    from ranef.formula import Formula
    from ranef.types import Array, IntArray

__all__ = ["Columns", "Factor", "FixedTerm", "GroupColumns", "evaluate"]


@dataclass(frozen=True)
class FixedTerm:
    """One term of the fixed part and the columns of X it owns.

    Attributes
    ----------
    name
        As in the formula; the intercept is `Intercept`.
    columns
        Positions in X.
    levels
        For a term with several columns (a factor, a polynomial), a name for each column; empty
        for a single numeric column.
    """

    name: str
    columns: tuple[int, ...]
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Factor:
    """One grouping factor.

    Attributes
    ----------
    name
        `g`, or `a:b` for the combinations of two columns that occur.
    codes
        Level of each row, shape (N,), values 0..G-1.
    levels
        The G observed level names, in category or sorted order; `x:y` for combinations.
    """

    name: str
    codes: IntArray
    levels: tuple[str, ...]


@dataclass(frozen=True)
class GroupColumns:
    """The columns of one group term.

    Attributes
    ----------
    label
        As written: `Days|Subject`.
    factor
        Position of its grouping factor.
    columns
        0 is the constant, k > 0 the k-th column of `Columns.slopes`.
    names
        The effects' names in draws: `1|Subject`, `Days|Subject`.
    correlated
        Whether they are correlated.
    """

    label: str
    factor: int
    columns: tuple[int, ...]
    names: tuple[str, ...]
    correlated: bool


@dataclass(frozen=True)
class Columns:
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

    @property
    def response(self) -> Array:
        """What the model explains: y less the offset."""
        return self.y if self.offset is None else self.y - self.offset


def evaluate(formula: Formula, frame: pd.DataFrame, weights: str | None = None) -> Columns:
    """Evaluate a formula on a table.

    Parameters
    ----------
    formula
        From `parse_formula`.
    frame
        From `read_table`.
    weights
        Column of precision weights.

    Returns
    -------
    Columns

    Raises
    ------
    FormulaError, DataError
        If the formula names unknown columns or functions, the response is text or constant, or
        there is no group term.

    Warns
    -----
    MissingRowsWarning
        With the number of rows that were left out.

    Examples
    --------
    >>> import pandas as pd
    >>> from ranef.formula import parse_formula
    >>> frame = pd.DataFrame({"y": [1.0, 2.0, 4.0], "g": ["a", "a", "b"]})
    >>> evaluate(parse_formula("y ~ 1 + (1|g)"), frame).factors[0].levels
    ('a', 'b')
    """
    if not formula.groups:
        raise FormulaError(
            f"Formula {formula.text!r} has no group term; add one, e.g. '+ (1|g)'.",
            text=formula.text,
        )
    left = _parse(formula.response, formula, intercept=False)
    right = _parse(formula.fixed, formula, intercept=True)
    # Inside I() signs are arithmetic; formulaic would read `x - z` as x without z.
    added = [_parse(f"I({text})", formula, intercept=False) for text in formula.offsets]
    varying = [_parse(term.expression, formula, intercept=True) for term in formula.groups]
    numeric = set().union(*(_variables(part, formula, frame) for part in (left, *added)))
    given = set().union(*(_variables(part, formula, frame) for part in (right, *varying)))
    factors = list(dict.fromkeys(name for term in formula.groups for name in term.factors))
    if weights is not None:
        numeric |= {weights}
    used = list(dict.fromkeys([*sorted(numeric | given), *factors]))
    check_columns(frame, used, formula.text)
    for name in sorted(numeric):
        require_numbers(frame, name)
    rows, dropped = drop_missing(frame, used)
    if dropped:
        warn(
            f"{dropped} of {len(frame)} rows have missing values and are left out.",
            MissingRowsWarning,
        )
    y = _response(left, formula, rows)
    tidy = _tidy(rows, given)
    X, names, terms = _fixed(right, formula, tidy)
    made = _factors(formula, rows)
    slopes, groups = _groups(varying, formula, tidy, made)
    return Columns(
        y=y,
        offset=_offset(added, formula, rows),
        weights=None if weights is None else _weights(rows[weights], weights),
        X=X,
        names=names,
        terms=terms,
        factors=made,
        slopes=slopes,
        groups=groups,
        dropped=dropped,
    )


def _weights(values: pd.Series[Any], name: str) -> Array:
    """Check precision weights: positive."""
    w = values.to_numpy(dtype=float)
    if not np.all(w > 0):
        row = int(np.flatnonzero(~(w > 0))[0]) + 1
        raise DataError(
            f"Weight {name!r} is {w[row - 1]:g} in row {row} of the complete rows; positive "
            "numbers are expected. Leave out rows without weight.",
            row=row,
        )
    return np.asarray(w)


def _offset(parsed: list[Any], formula: Formula, rows: pd.DataFrame) -> Array | None:
    """Add up the offset terms."""
    if not parsed:
        return None
    total = np.zeros(len(rows))
    for part, text in zip(parsed, formula.offsets, strict=True):
        matrix = _model_matrix(part, formula, rows)
        if matrix.shape[1] != 1:
            raise FormulaError(
                f"Formula {formula.text!r}: offset({text}) gives {matrix.shape[1]} columns; one "
                "is expected.",
                text=formula.text,
            )
        total += matrix.to_numpy(dtype=float)[:, 0]
    if not np.isfinite(total).all():
        raise DataError(f"The offset of {formula.text!r} is not finite in some row.")
    return total


def _factors(formula: Formula, rows: pd.DataFrame) -> tuple[Factor, ...]:
    """Number the levels of each distinct grouping factor."""
    made: dict[str, Factor] = {}
    for term in formula.groups:
        if term.factor in made:
            continue
        codes, levels = group_codes(rows[term.factors[0]])
        for name in term.factors[1:]:
            inner, inner_levels = group_codes(rows[name])
            pairs, codes = np.unique(
                codes.astype(np.int64) * len(inner_levels) + inner, return_inverse=True
            )
            outer = levels
            levels = tuple(
                f"{outer[k // len(inner_levels)]}:{inner_levels[k % len(inner_levels)]}"
                for k in pairs
            )
        made[term.factor] = Factor(term.factor, codes.astype(np.intp), levels)
    return tuple(made.values())


def _groups(
    parsed: list[Any], formula: Formula, rows: pd.DataFrame, factors: tuple[Factor, ...]
) -> tuple[Array, tuple[GroupColumns, ...]]:
    """Evaluate what varies by group; equal columns of different terms are kept once."""
    where = {factor.name: i for i, factor in enumerate(factors)}
    slopes: list[Array] = []
    groups: list[GroupColumns] = []
    for part, term in zip(parsed, formula.groups, strict=True):
        matrix = _model_matrix(part, formula, rows)
        values = matrix.to_numpy(dtype=float)
        if values.shape[1] == 0:
            raise FormulaError(
                f"Formula {formula.text!r}: ({term.label}) has no column; write '1' or a variable "
                "before '|'.",
                text=formula.text,
            )
        if not np.isfinite(values).all():
            raise DataError(f"Group term ({term.label}) is not finite in some row.")
        columns, names = [], []
        for j, raw in enumerate(map(str, matrix.columns)):
            column = np.ascontiguousarray(values[:, j])
            name = "1" if raw == "Intercept" else raw.replace("[T.", "[")
            if name == "1":
                columns.append(0)
            else:
                same = [k for k, other in enumerate(slopes) if np.array_equal(other, column)]
                if not same:
                    slopes.append(column)
                columns.append((same[0] if same else len(slopes) - 1) + 1)
            names.append(f"{name}|{term.factor}")
        taken = {n for g in groups for n in g.names}
        for name in names:
            if name in taken:
                raise FormulaError(
                    f"Formula {formula.text!r} lets {name!r} vary twice; leave it out of one term, "
                    "e.g. '(0 + x|g)' beside '(1|g)'.",
                    text=formula.text,
                )
        groups.append(
            GroupColumns(
                term.label, where[term.factor], tuple(columns), tuple(names), term.correlated
            )
        )
    stacked = np.column_stack(slopes) if slopes else np.empty((len(rows), 0))
    return stacked, tuple(groups)


def _parse(side: str, formula: Formula, *, intercept: bool) -> Any:
    """Parse one side with formulaic, telling its syntax errors in one plain line."""
    from formulaic import Formula as FormulaicFormula
    from formulaic.errors import FormulaicError
    from formulaic.parser import DefaultFormulaParser

    parser = DefaultFormulaParser(include_intercept=intercept)
    try:
        return FormulaicFormula(side, _parser=parser)
    except FormulaicError as error:
        raise _plain(error, side, formula) from None
    except Exception:  # what its parser does not foresee: Python syntax, stray brackets and points
        raise FormulaError(
            f"Formula {formula.text!r}: {side!r} cannot be read; expected columns and function "
            "calls joined by '+'.",
            text=formula.text,
        ) from None


def _variables(parsed: Any, formula: Formula, frame: pd.DataFrame) -> set[str]:
    """List the columns that the terms of one side read.

    formulaic's own list leaves out what stands inside `poly()`, `scale()` and the like, columns
    that share a name with one of its functions, and all of a name after a point.
    """
    from formulaic.parser.types import Factor
    from formulaic.transforms import TRANSFORMS

    names: set[str] = set()
    for factor in {f for term in parsed for f in term.factors}:
        if factor.eval_method is Factor.EvalMethod.LOOKUP:
            names.add(str(factor.expr))
        elif factor.eval_method is Factor.EvalMethod.PYTHON:
            values, functions = _names_in(str(factor.expr), formula)
            names |= {n for n in values if n not in TRANSFORMS or n in frame.columns}
            names |= functions - set(TRANSFORMS)
    return names


def _names_in(expression: str, formula: Formula) -> tuple[set[str], set[str]]:
    """Names that a Python expression uses as values, and as functions or modules."""
    quoted: list[str] = []

    def alias(match: re.Match[str]) -> str:
        quoted.append(match[1])
        return f" _quoted_{len(quoted) - 1}_ "

    try:
        tree = ast.parse(re.sub("`([^`]*)`", alias, expression).strip(), mode="eval")
    except SyntaxError:
        raise FormulaError(
            f"Formula {formula.text!r}: {expression!r} is no Python expression; a function call "
            "such as 'log(x)' is expected.",
            text=formula.text,
        ) from None
    unquoted = {f"_quoted_{i}_": name for i, name in enumerate(quoted)}
    nodes = list(ast.walk(tree))
    heads = {id(n.func) for n in nodes if isinstance(n, ast.Call)}
    heads |= {id(n.value) for n in nodes if isinstance(n, ast.Attribute)}
    values: set[str] = set()
    functions: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            name = unquoted.get(node.id, node.id)
            (functions if id(node) in heads else values).add(name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Q":
            values |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    return values, functions


def _tidy(rows: pd.DataFrame, names: set[str]) -> pd.DataFrame:
    """Bring fixed-effect columns to types that formulaic reads: numbers, text, held categories."""
    import pandas as pd

    rows = rows.copy(deep=False)
    for name in names:
        values = rows[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            rows[name] = values.cat.remove_unused_categories()
        elif pd.api.types.is_string_dtype(values.dtype):
            _refuse_broken_numbers(values, name)
            rows[name] = values.astype(object)
    return rows


def _refuse_broken_numbers(values: pd.Series[Any], name: str) -> None:
    """Refuse a column of numbers that a few other words have turned into text.

    As a factor it would give a coefficient for each number. Where all values are numbers written as
    text, or few are, a factor is meant.
    """
    import pandas as pd

    numbers = pd.to_numeric(values.astype(object), errors="coerce").notna().to_numpy()
    if 0.5 <= numbers.mean() < 1.0:
        row = int(np.flatnonzero(~numbers)[0])
        raise DataError(
            f"Column {name!r} holds numbers, but {str(values.iloc[row])!r} in row {row + 1} of the "
            "complete rows and so is text; correct it, leave it empty, or make the column a "
            "category if a factor is meant.",
            column=name,
            row=row + 1,
        )


def _plain(error: Exception, side: str, formula: Formula) -> FormulaError:
    """Turn formulaic's message with colour marks into one line with a position."""
    message = str(error)
    marked = re.search(r"⧛\[1;31m(.*?)⧛?\[0m⧚", message, re.DOTALL) or re.search(
        r"\x1b\[1;31m(.*?)\x1b\[0m", message, re.DOTALL
    )
    told = message.splitlines()[0].replace("insuffient", "insufficient")
    position = -1
    if marked is not None:
        token = marked.group(1).replace("⧚", "").replace("⧛", "")
        position = formula.text.find(token, max(formula.text.find(side), 0))
    where = f", character {position + 1}" if position >= 0 else ""
    return FormulaError(
        f"Formula {formula.text!r}{where}: {told}",
        text=formula.text,
        position=position + 1 if position >= 0 else None,
    )


def _model_matrix(parsed: Any, formula: Formula, rows: pd.DataFrame) -> Any:
    """Evaluate formulaic terms; failures in the user's expressions become one line."""
    from formulaic.errors import FormulaicError

    try:
        # What a transform makes of a bad value (log of zero) is told by the finiteness checks.
        with np.errstate(all="ignore"):
            return parsed.get_model_matrix(rows, context={}, na_action="ignore")
    except (FormulaicError, TypeError, ValueError) as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FormulaError(f"Formula {formula.text!r}: {told}", text=formula.text) from None


def _response(parsed: Any, formula: Formula, rows: pd.DataFrame) -> Array:
    """Evaluate the left-hand side to one finite numeric column."""
    matrix = _model_matrix(parsed, formula, rows)
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


def _fixed(
    parsed: Any, formula: Formula, rows: pd.DataFrame
) -> tuple[Array, tuple[str, ...], tuple[FixedTerm, ...]]:
    """Evaluate the fixed part; name its columns and terms as Bambi does."""
    if {"1", "Intercept"} <= {str(term) for term in parsed}:
        raise DataError(
            "A fixed effect cannot be called 'Intercept' beside an intercept; rename the column, "
            "or leave the intercept out with '0 +'.",
            column="Intercept",
        )
    for name in sorted({str(f.expr) for term in parsed for f in term.factors} & set(rows.columns)):
        if rows[name].dtype.kind in "mMc":
            raise DataError(
                f"Fixed effect {name!r} holds {rows[name].dtype} values; numbers, text or "
                "categories are expected. Turn it into numbers first, e.g. days since a date.",
                column=name,
            )
    matrix = _model_matrix(parsed, formula, rows)
    X = np.ascontiguousarray(matrix.to_numpy(dtype=float))
    if not np.isfinite(X).all():
        column = int(np.flatnonzero(~np.isfinite(X).all(axis=0))[0])
        raise DataError(
            f"Fixed-effect column {matrix.columns[column]!r} is not finite in some row; correct "
            "the values or leave them empty."
        )
    names = [re.sub(r"\[T\.", "[", str(c)) for c in matrix.columns]
    terms: list[FixedTerm] = []
    for term, part in matrix.model_spec.term_slices.items():
        positions = tuple(range(*part.indices(X.shape[1])))
        if not positions:
            raise DataError(
                f"Fixed effect {str(term)!r} has a single level in the {len(rows)} complete rows, "
                "so nothing can be compared; drop it from the formula."
            )
        name = "Intercept" if str(term) == "1" else str(term)
        factors = [str(f.expr) for f in term.factors]
        levels = tuple(_level(names[i], factors) for i in positions)
        if len(positions) == 1 and levels == ("",):
            levels = ()
        terms.append(FixedTerm(name, positions, levels))
    return X, tuple(names), tuple(terms)


def _level(column: str, factors: list[str]) -> str:
    """Name what a column's name adds to its factors: `f[b]` gives `b`, `f[b]:h[c]` gives `b, c`."""
    found = []
    for i, factor in enumerate(factors):
        if not column.startswith(factor):
            continue
        column = column[len(factor) :]
        end = -1
        if column.startswith("["):
            if i + 1 < len(factors):
                end = column.find(f"]:{factors[i + 1]}")
            found.append(column[1:end])
        column = column[end + 2 :] if end >= 0 else column.removeprefix(":")
    return ", ".join(found)


def group_codes(values: pd.Series[Any]) -> tuple[IntArray, tuple[str, ...]]:
    """Number the observed levels of a grouping column.

    Parameters
    ----------
    values
        Column without missing values, of any type.

    Returns
    -------
    codes : numpy.ndarray
        Shape (N,), 0..G-1.
    levels : tuple of str
        Names in category order for categoricals, sorted where the values can be sorted, else in
        order of appearance. Categories that no row holds are left out.

    Raises
    ------
    DataError
        If two levels look the same as text, such as 1 and "1".
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.cat.remove_unused_categories()
        codes, uniques = values.cat.codes.to_numpy(), values.cat.categories
    else:
        try:
            codes, uniques = pd.factorize(values, sort=True)
        except TypeError:
            codes, uniques = pd.factorize(values)
    names = _names(uniques)
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(
            f"Grouping column {values.name!r} holds {twice!r} both as text and as a number; write "
            "it one way.",
            column=str(values.name),
        )
    return np.asarray(codes, dtype=np.intp), names


def _names(levels: Any) -> tuple[str, ...]:
    """Write level names; whole numbers stored as floats lose their '.0'."""
    values = np.asarray(levels)
    if values.dtype.kind == "f" and np.all(values == np.floor(values)):
        return tuple(str(int(v)) for v in values)
    return tuple(str(v) for v in levels)

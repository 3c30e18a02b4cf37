"""The fixed part X beta: its columns and terms, named as Bambi does."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import AliasedWarning, DataError, SingleRowWarning, warn
from ranef.formula.expressions import model_matrix, refuse_dates
from ranef.formula.row_by_row import check_row_by_row
from ranef.numerics.linear_dependence import aliased_columns

if TYPE_CHECKING:
    import pandas as pd

    from ranef.common.array_types import Array
    from ranef.formula.parse import Formula

__all__ = ["FixedEffects", "FixedTerm", "drop_aliased", "fixed_effects", "tidy"]

# Numbers written as text are taken for codes of a factor up to so many different ones.
_MOST_CODES = 10


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
class FixedEffects:
    """The fixed part, and how its columns are made.

    Attributes
    ----------
    names
        One name per column, for priors: `Intercept`, `x`, `f[b]`.
    terms
        The same columns by term, for draws.
    spec
        formulaic's record of what transforms and contrasts learnt from the rows, for other rows.
    kept
        Positions of the columns among those that `spec` gives.
    aliased
        Names of columns that were left out as combinations of others.
    dependence
        Combinations of all columns that are zero in the data, one for each that was left out, in
        which a column's largest value counts as one; shape (columns, left out).
    """

    names: tuple[str, ...]
    terms: tuple[FixedTerm, ...]
    spec: Any = None
    kept: tuple[int, ...] = ()
    aliased: tuple[str, ...] = ()
    dependence: Array | None = None


def fixed_effects(parsed: Any, formula: Formula, rows: pd.DataFrame) -> tuple[Array, FixedEffects]:
    """Evaluate the fixed part.

    Parameters
    ----------
    parsed
        From `parse_side`.
    formula
        Its text, for error messages.
    rows
        From `tidy`.

    Returns
    -------
    X : numpy.ndarray
        Shape (N, p).
    fixed : FixedEffects

    Raises
    ------
    FormulaError, DataError
        If a term takes a row's value from other rows; if a column is not finite, holds dates, has
        a single level or a name already taken.

    Warns
    -----
    SingleRowWarning
        With the levels of a factor, or the combinations of several, that only one row has.
    """
    if {"1", "Intercept"} <= {str(term) for term in parsed}:
        raise DataError(
            "A fixed effect cannot be called 'Intercept' beside an intercept; rename the column, "
            "or leave the intercept out with '0 +'.",
            column="Intercept",
        )
    refuse_dates("Fixed effect", parsed, formula, rows)
    matrix = model_matrix(parsed, formula, rows)
    X = np.ascontiguousarray(matrix.to_numpy(dtype=float))
    if not np.isfinite(X).all():
        column = int(np.flatnonzero(~np.isfinite(X).all(axis=0))[0])
        raise DataError(
            f"Fixed-effect column {matrix.columns[column]!r} is not finite in some row; correct "
            "the values or leave them empty."
        )
    check_row_by_row(matrix, formula, rows)
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
    _warn_single_rows(X, terms, matrix.model_spec)
    kept = tuple(range(X.shape[1]))
    return X, FixedEffects(tuple(names), tuple(terms), matrix.model_spec, kept)


def drop_aliased(X: Array, fixed: FixedEffects) -> tuple[Array, FixedEffects]:
    """Leave out the columns that are combinations of those before them, as R's `lm` does.

    Parameters
    ----------
    X, fixed
        From `fixed_effects`.

    Returns
    -------
    X : numpy.ndarray
        Shape (N, p).
    fixed : FixedEffects
        With the names of what was left out in `aliased`, and what they are combinations of.

    Warns
    -----
    AliasedWarning
        With those names.
    """
    out = aliased_columns(X)
    if not out:
        return X, fixed
    kept = [j for j in range(len(fixed.names)) if j not in out]
    place = {j: i for i, j in enumerate(kept)}
    terms = []
    for term in fixed.terms:
        own = [i for i, j in enumerate(term.columns) if j in place]
        if own:
            columns = tuple(place[term.columns[i]] for i in own)
            levels = tuple(term.levels[i] for i in own) if term.levels else ()
            terms.append(replace(term, columns=columns, levels=levels))
    names = tuple(fixed.names[j] for j in out)
    warn(
        f"Fixed-effect column{'s' * (len(names) > 1)} {', '.join(names)} "
        f"{'are combinations' if len(names) > 1 else 'is a combination'} of earlier ones and left "
        "out; the coefficients of the others are those of the model without.",
        AliasedWarning,
    )
    scale = np.abs(X).max(axis=0)
    scale[scale == 0] = 1.0
    unit = X / scale
    dependence = np.eye(len(scale))[:, list(out)]
    dependence[kept] = -np.linalg.lstsq(unit[:, kept], unit[:, list(out)])[0]
    return np.ascontiguousarray(X[:, kept]), FixedEffects(
        tuple(fixed.names[j] for j in kept),
        tuple(terms),
        fixed.spec,
        tuple(kept),
        names,
        dependence / scale[:, None],
    )


def _warn_single_rows(X: Array, terms: list[FixedTerm], spec: Any) -> None:
    """Name the levels of factors, coded as 0 and 1, that a single row has."""
    contrasts = {str(factor.expr): state for factor, state in spec.factor_contrasts.items()}
    found = []
    for term, parsed in zip(terms, spec.term_slices, strict=True):
        factors = [str(f.expr) for f in parsed.factors]
        if not factors or not set(factors) <= set(contrasts):
            continue
        own = X[:, term.columns]
        if not np.all((own == 0) | (own == 1)):
            continue
        rows = own.sum(axis=0)
        found += [(level, term.name) for level, n in zip(term.levels, rows, strict=True) if n == 1]
        rest = [str(v) for v in contrasts[factors[0]].levels if str(v) not in term.levels]
        if len(factors) == 1 and len(rest) == 1 and len(X) - rows.sum() == 1:
            found.append((rest[0], term.name))
    if found:
        shown = ", ".join(f"{level!r} of {name!r}" for level, name in found[:4])
        shown += f" and {len(found) - 4} more" if len(found) > 4 else ""
        seen = f"Level {shown} is seen in a single row, and its coefficient rests on that row"
        if len(found) > 1:
            seen = (
                f"Levels {shown} are seen in a single row each, and their coefficients rest on it"
            )
        warn(
            f"{seen}; put rare levels together, or bring more rows.",
            SingleRowWarning,
        )


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


def tidy(rows: pd.DataFrame, names: set[str]) -> pd.DataFrame:
    """Bring fixed-effect columns to types that formulaic reads: numbers, text, held categories."""
    import pandas as pd

    rows = rows.copy(deep=False)
    for name in names:
        values = rows[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            rows[name] = values.cat.remove_unused_categories()
        elif pd.api.types.is_string_dtype(values.dtype):
            _refuse_numbers_as_text(values, name)
            rows[name] = values.astype(object)
    return rows


def _refuse_numbers_as_text(values: pd.Series[Any], name: str) -> None:
    """Refuse a column of measurements that has become text, by a few other words or as a whole.

    As a factor it would give a coefficient for each number. Where few values are numbers, or all
    are and come again and again, a factor is meant: doses, codes.
    """
    import pandas as pd

    read = pd.to_numeric(values.astype(object), errors="coerce").to_numpy(dtype=float)
    numbers = ~np.isnan(read)
    if numbers.all():
        distinct = len(np.unique(read))
        whole = bool((read == np.round(read)).all())
        if distinct > _MOST_CODES and (not whole or distinct > len(read) / 2):
            raise DataError(
                f"Column {name!r} holds {distinct} different numbers written as text, "
                f"{str(values.iloc[0])!r} in the first row; make them numbers "
                "(pandas.to_numeric), or make the column a category if a factor is meant.",
                column=name,
            )
        return
    if 0.5 <= numbers.mean() < 1.0:
        row = int(np.flatnonzero(~numbers)[0])
        raise DataError(
            f"Column {name!r} holds numbers, but {str(values.iloc[row])!r} in row {row + 1} of the "
            "complete rows and so is text; correct it, leave it empty, or make the column a "
            "category if a factor is meant.",
            column=name,
            row=row + 1,
        )

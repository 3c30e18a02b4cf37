"""Grouping factors and the columns that vary by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import DataError, FormulaError
from ranef.formula.expressions import model_matrix, refuse_dates
from ranef.formula.labels import level_names
from ranef.formula.row_by_row import check_row_by_row
from ranef.numerics.linear_dependence import aliased_columns

if TYPE_CHECKING:
    import pandas as pd

    from ranef.common.array_types import Array, IntArray
    from ranef.formula.parse import Formula

__all__ = [
    "Factor",
    "GroupColumns",
    "group_codes",
    "group_columns",
    "grouping_factors",
    "refuse_decimals",
]


@dataclass(frozen=True)
class Factor:
    """One grouping factor.

    Attributes
    ----------
    name
        `g`, or `a:b` for the combinations of two columns that occur.
    columns
        The table's columns behind it, one or several.
    labels
        The label of each level in each of them.
    levels
        The G observed level names, in category or sorted order; `x:y` for combinations. Empty where
        nobody asks.
    """

    name: str
    columns: tuple[str, ...] = ()
    labels: tuple[tuple[str, ...], ...] = ()
    levels: tuple[str, ...] = ()


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
        0 is the constant, k > 0 the k-th column of `Rows.slopes`.
    names
        The effects' names in draws: `1|Subject`, `Days|Subject`.
    correlated
        Whether they are correlated.
    spec
        formulaic's record of how the columns are made, for other rows.
    """

    label: str
    factor: int
    columns: tuple[int, ...]
    names: tuple[str, ...]
    correlated: bool
    spec: Any = None


def grouping_factors(
    formula: Formula, frame: pd.DataFrame
) -> tuple[tuple[Factor, ...], tuple[IntArray, ...]]:
    """Number the levels of each distinct grouping factor.

    Parameters
    ----------
    formula
        Its group terms say which columns, alone or combined.
    frame
        The complete rows.

    Returns
    -------
    factors : tuple of Factor
        In the order of their first terms.
    codes : tuple of numpy.ndarray
        Level of each row for each of them, shape (N,), values 0..G-1.

    Raises
    ------
    DataError
        If a column holds decimal numbers, or two levels look the same as text.
    """
    factors: dict[str, Factor] = {}
    codes: list[IntArray] = []
    for term in formula.groups:
        if term.factor in factors:
            continue
        code, levels = group_codes(frame[term.factors[0]])
        labels = [levels]
        for name in term.factors[1:]:
            inner, added = group_codes(frame[name])
            pairs, code = np.unique(code.astype(np.int64) * len(added) + inner, return_inverse=True)
            outer, place = np.divmod(pairs, len(added))
            labels = [tuple(known[k] for k in outer) for known in labels]
            labels.append(tuple(added[k] for k in place))
        if len(labels) > 1:
            levels = tuple(map(":".join, zip(*labels, strict=True)))
        factors[term.factor] = Factor(term.factor, term.factors, tuple(labels), levels)
        codes.append(code.astype(np.intp))
    return tuple(factors.values()), tuple(codes)


def group_columns(
    parsed: list[Any], formula: Formula, frame: pd.DataFrame, factors: tuple[Factor, ...]
) -> tuple[Array, tuple[GroupColumns, ...]]:
    """Evaluate what varies by group; equal columns of different terms are kept once.

    Parameters
    ----------
    parsed
        What each group term lets vary, from `parse_side`.
    formula
        The terms themselves.
    frame
        From `ranef.formula.fixed_effects.tidy`.
    factors
        From `grouping_factors`.

    Returns
    -------
    slopes : numpy.ndarray
        Distinct columns other than the constant, shape (N, k).
    groups : tuple of GroupColumns

    Raises
    ------
    FormulaError, DataError
        If a term has no column, lets an effect vary twice, takes a row's value from other rows, is
        not finite, or holds columns whose effects only a sum of is seen in the data.
    """
    where = {factor.name: i for i, factor in enumerate(factors)}
    slopes: list[Array] = []
    groups: list[GroupColumns] = []
    for part, term in zip(parsed, formula.groups, strict=True):
        refuse_dates("Group slope", part, formula, frame)
        matrix = model_matrix(part, formula, frame)
        values = matrix.to_numpy(dtype=float)
        if values.shape[1] == 0:
            raise FormulaError(
                f"Formula {formula.text!r}: ({term.label}) has no column; write '1' or a variable "
                "before '|'.",
                text=formula.text,
            )
        if not np.isfinite(values).all():
            raise DataError(f"Group term ({term.label}) is not finite in some row.")
        check_row_by_row(matrix, formula, frame)
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
                term.label,
                where[term.factor],
                tuple(columns),
                tuple(names),
                term.correlated,
                matrix.model_spec,
            )
        )
    stacked = np.column_stack(slopes) if slopes else np.empty((len(frame), 0))
    _refuse_aliased(stacked, groups)
    return stacked, tuple(groups)


def _refuse_aliased(slopes: Array, groups: list[GroupColumns]) -> None:
    """Refuse columns whose effects the data only see the sum of, whatever the groups.

    Those are combinations of others within a correlated term, and multiples of one another
    anywhere in a factor's terms. Independent columns may be combinations of several others: the
    indicators of a factor beside the constant are compound symmetry.
    """
    for factor in dict.fromkeys(g.factor for g in groups):
        own = [g for g in groups if g.factor == factor]
        columns = [c for g in own for c in g.columns]
        names = [n for g in own for n in g.names]
        sets = [(list(g.columns), list(g.names)) for g in own if g.correlated]
        sets += [
            ([columns[i], columns[j]], [names[i], names[j]])
            for j in range(len(columns))
            for i in range(j)
        ]
        for positions, called in sets:
            if len(positions) == 1 and positions[0] == 0:
                continue
            values = np.column_stack(
                [np.ones(len(slopes)) if k == 0 else slopes[:, k - 1] for k in positions]
            )
            for j in aliased_columns(values):
                others = [n for n in called if n != called[j]]
                raise DataError(
                    f"Group effect {called[j]!r} is zero in every row; leave it out."
                    if not values[:, j].any()
                    else f"Group effect {called[j]!r} is a multiple or combination of "
                    f"{', '.join(map(repr, others))} in every row, so the data only tell their "
                    "sum; leave one of them out.",
                    aliased=(called[j],),
                )


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
        If the values are decimal numbers, or two levels look the same as text, such as 1 and "1".
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.cat.remove_unused_categories()
        codes, uniques = values.cat.codes.to_numpy(), values.cat.categories
    else:
        refuse_decimals(values)
        try:
            codes, uniques = pd.factorize(values, sort=True)
        except TypeError:
            codes, uniques = pd.factorize(values)
    names = level_names(uniques)
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(
            f"Grouping column {values.name!r} holds {twice!r} both as text and as a number; write "
            "it one way.",
            column=str(values.name),
        )
    return np.asarray(codes, dtype=np.intp), names


def refuse_decimals(values: pd.Series[Any]) -> None:
    """Refuse numbers with decimals as labels: they are measurements, or labels read as numbers."""
    if values.dtype.kind != "f":
        return
    numbers = values.to_numpy(dtype=float)
    broken = numbers != np.floor(numbers)
    if broken.any():
        name = str(values.name)
        raise DataError(
            f"Grouping column {name!r} holds {len(np.unique(numbers)):,} different decimal numbers "
            f"in {len(numbers):,} rows, such as {numbers[broken][0]:g}; labels of groups are "
            f"expected after '|'. Did you mean a slope, '({name}|g)', or a fixed effect, '+ {name}'"
            "? If they are labels all the same, turn the column into text or a category.",
            column=name,
            levels=len(np.unique(numbers)),
        )

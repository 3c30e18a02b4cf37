"""Rows that were not fitted, in the columns X, Z and group codes that the fitted model has."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ranef.data.tables import drop_missing, read_table, require_numbers
from ranef.errors import DataError, nearest
from ranef.formula.expressions import model_matrix
from ranef.formula.grouping import group_codes, level_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from ranef.common.array_types import Array, IntArray
    from ranef.formula.grouping import Factor
    from ranef.formula.rows import DesignSpec, Rows

__all__ = ["DesignRows", "Groups", "Kind", "fitted_rows", "new_rows"]

Kind = Literal["mean", "response"]
Groups = Literal["conditional", "marginal", "new"]

# Unseen levels that an error names.
_SHOWN = 4
# Relative error up to which a column is a combination of others, as in the fit.
_SAME = 1e-6


@dataclass(frozen=True)
class DesignRows:
    """m rows to predict.

    Attributes
    ----------
    X
        Fixed-effect columns, shape (m, p).
    offset
        What `offset(…)` terms add, shape (m,).
    Z
        For each factor the columns that vary by it, shape (m, q); zero where effects are left out.
    codes
        For each factor the level of each row, shape (m,): 0..G-1 for levels of the data, G and
        above for new ones, -1 where effects are averaged over instead.
    new_levels
        For each factor the names of its new levels, sorted.
    weights
        Residual variance is sigma^2 / weights, shape (m,); None where nobody asked for it.
    frame
        The columns that were read, with the user's index.
    y
        The observed response, shape (m,); None for rows that are not the data.
    """

    X: Array
    offset: Array
    Z: tuple[Array, ...]
    codes: tuple[IntArray, ...]
    new_levels: tuple[tuple[str, ...], ...]
    weights: Array | None
    frame: pd.DataFrame
    y: Array | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.X)


def fitted_rows(columns: Rows, kind: Kind, groups: Groups) -> DesignRows:
    """Take the rows that were fitted.

    Parameters
    ----------
    columns
        From `ranef.formula.rows.evaluate`.
    kind, groups
        What will be predicted. `"marginal"` takes no notice of which group a row belongs to.

    Returns
    -------
    DesignRows
    """
    old, _ = _recipe(columns)
    n = len(columns.y)
    slopes = np.column_stack([np.ones(n), columns.slopes])
    Z: list[list[Array]] = [[] for _ in columns.factors]
    for group in columns.groups:
        Z[group.factor].append(slopes[:, list(group.columns)])
    if kind == "mean" and groups == "marginal":
        Z = [[np.zeros_like(z) for z in blocks] for blocks in Z]
    none = np.full(n, -1)
    return DesignRows(
        X=columns.X,
        offset=np.zeros(n) if columns.offset is None else columns.offset,
        Z=tuple(np.hstack(z) for z in Z),
        codes=tuple(none if groups == "marginal" else f.codes for f in columns.factors),
        new_levels=((),) * len(columns.factors),
        weights=np.ones(n) if columns.weights is None else columns.weights,
        frame=old[_used(columns, kind, groups)],
        y=columns.y,
    )


def new_rows(columns: Rows, data: Any, kind: Kind, groups: Groups) -> DesignRows:
    """Read new rows as the formula read the data.

    Transforms keep what they learnt from the data (the centre of `scale(x)`, the knots of
    `bs(x, 4)`), and factors their coding.

    Parameters
    ----------
    columns
        The rows that were fitted.
    data
        Any table that `ranef.data.tables.read_table` takes. It needs the columns of the fixed part
        and the offsets; those of group terms unless a marginal mean is asked for; the grouping
        factors unless groups is `"marginal"`; the column of weights or standard errors where kind
        is `"response"` and the fit had one.
    kind, groups
        What will be predicted.

    Returns
    -------
    DesignRows

    Raises
    ------
    DataError
        If a column or a value is missing, a factor among the fixed effects has a level that the
        data had not, a column that was left out of the fit as a combination of others is none in
        the new rows, or a group is new and groups is `"conditional"`.
    """
    import pandas as pd

    old, recipe = _recipe(columns)
    given = read_table(data)
    index = data.index if isinstance(data, pd.DataFrame) else given.index
    varies = not (kind == "mean" and groups == "marginal")
    used = _used(columns, kind, groups)
    _check_frame(given, used, recipe.formula.text, recipe.weights or recipe.se)
    rows, _ = drop_missing(given, used)
    tidied = rows.copy(deep=False)
    for name in {*recipe.fixed_names, *recipe.offset_names, *recipe.group_names} & set(used):
        tidied[name] = _as_fitted(rows[name], old[name])
    X = _evaluate(recipe.fixed, recipe, tidied, old)
    if columns.aliased:
        _check_aliased(X, columns, recipe)
    X = X[:, list(recipe.kept)]
    offset = np.zeros(len(rows))
    for spec in recipe.offsets:
        offset += _evaluate(spec, recipe, tidied, old)[:, 0]
    Z: list[list[Array]] = [[] for _ in columns.factors]
    for group in columns.groups:
        block = (
            _evaluate(group.spec, recipe, tidied, old)
            if varies
            else np.zeros((len(rows), len(group.columns)))
        )
        Z[group.factor].append(block)
    codes: list[IntArray] = []
    new_levels: list[tuple[str, ...]] = []
    parts = {term.factor: term.factors for term in recipe.formula.groups}
    for factor in columns.factors:
        if groups == "marginal":
            codes.append(np.full(len(rows), -1))
            new_levels.append(())
            continue
        code, names = _codes(factor, parts[factor.name], old, rows)
        if names and groups == "conditional":
            raise DataError(
                f"Grouping factor {factor.name!r} of the new rows holds {_some(names)}, which the "
                "data did not; ask groups='new' for the prediction of new levels, or "
                "groups='marginal' for that of the population.",
                column=factor.name,
                levels=names,
            )
        codes.append(code)
        new_levels.append(names)
    return DesignRows(
        X=X,
        offset=offset,
        Z=tuple(np.hstack(z) for z in Z),
        codes=tuple(codes),
        new_levels=tuple(new_levels),
        weights=_weights(columns, recipe, rows) if kind == "response" else None,
        frame=rows.set_index(index),
    )


def _recipe(columns: Rows) -> tuple[pd.DataFrame, DesignSpec]:
    """The used columns of the data, and how they were read."""
    if columns.rows is None or columns.recipe is None:
        raise DataError("This model was not made from a table, so no rows can be predicted.")
    return columns.rows, columns.recipe


def _used(columns: Rows, kind: Kind, groups: Groups) -> list[str]:
    """Names of the columns that a prediction reads."""
    _, recipe = _recipe(columns)
    names = [*recipe.fixed_names, *recipe.offset_names]
    if groups != "marginal" or kind == "response":
        names += recipe.group_names
    if groups != "marginal":
        names += [name for term in recipe.formula.groups for name in term.factors]
    if kind == "response":
        names += [name for name in (recipe.weights, recipe.se) if name is not None]
    return list(dict.fromkeys(names))


def _check_frame(given: pd.DataFrame, used: Sequence[str], text: str, residual: str | None) -> None:
    """Refuse rows that lack columns or values."""
    known = [str(c) for c in given.columns]
    for name in used:
        if name not in known:
            why = f"which the formula {text!r} uses"
            if name == residual:
                why = "from which the residual SD of a row comes (kind='mean' needs none)"
            raise DataError(f"The new rows lack column {name!r}, {why}. {nearest(name, known)}")
        if known.count(name) > 1:
            raise DataError(f"The table has {known.count(name)} columns named {name!r}; rename.")
        empty = given[name].isna().to_numpy()
        if empty.any():
            row = int(np.flatnonzero(empty)[0]) + 1
            raise DataError(
                f"Column {name!r} of the new rows has no value in row {row} ({empty.sum()} in "
                "all), and nothing can be predicted there; fill it in or leave the row out.",
                column=name,
                row=row,
            )
    if not len(given):
        raise DataError("The table of new rows has no rows; at least one is expected.")


def _as_fitted(new: pd.Series[Any], old: pd.Series[Any]) -> pd.Series[Any]:
    """Bring a column to the type it had: formulaic would take a number for a factor's dummy."""
    import pandas as pd

    name = str(old.name)
    if old.dtype.kind in "iuf" and not isinstance(old.dtype, pd.CategoricalDtype):
        require_numbers(new.to_frame(name), name)
        return pd.Series(new.to_numpy(dtype=float), index=new.index, name=name)
    known = dict(zip(level_names(uniques := old.unique()), uniques, strict=True))
    codes, found = pd.factorize(new)
    written = level_names(found)
    unseen = [label for label in written if label not in known]
    if old.dtype.kind == "b" and unseen:
        raise DataError(
            f"Column {name!r} of the new rows holds {_some(unseen)}; the data held "
            f"{_some(tuple(known))}.",
            column=name,
        )
    values = np.empty(len(written), dtype=object)
    values[:] = [known.get(label, label) for label in written]
    made = pd.Series(values[codes], index=new.index, name=name)
    return made.astype(bool) if old.dtype.kind == "b" else made


def _evaluate(spec: Any, recipe: DesignSpec, rows: pd.DataFrame, old: pd.DataFrame) -> Array:
    """Columns of one part of the formula; levels that the data had not are an error."""
    from formulaic.errors import DataMismatchWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        matrix = model_matrix(spec, recipe.formula, rows)
    for warning in caught:
        if issubclass(warning.category, DataMismatchWarning):
            raise _unseen(spec, rows, old)
    values = np.asarray(matrix.to_numpy(dtype=float))
    if not np.isfinite(values).all():
        column = int(np.flatnonzero(~np.isfinite(values).all(axis=0))[0])
        row = int(np.flatnonzero(~np.isfinite(values[:, column]))[0]) + 1
        raise DataError(
            f"Column {str(matrix.columns[column])!r} is not finite in row {row} of the new rows; "
            "correct the values.",
            row=row,
        )
    return values


def _check_aliased(X: Array, columns: Rows, recipe: DesignSpec) -> None:
    """Refuse rows in which a column that the fit left out is no combination of the others."""
    old, _ = _recipe(columns)
    rows = old.copy(deep=False)
    for name in recipe.fixed_names:
        rows[name] = _as_fitted(old[name], old[name])
    whole = _evaluate(recipe.fixed, recipe, rows, old)
    kept = list(recipe.kept)
    out = [j for j in range(whole.shape[1]) if j not in recipe.kept]
    scale = np.abs(whole).max(axis=0)
    scale[scale == 0] = 1.0
    weights = np.linalg.lstsq(whole[:, kept] / scale[kept], whole[:, out] / scale[out])[0]
    gap = X[:, out] / scale[out] - X[:, kept] / scale[kept] @ weights
    size = np.abs(X[:, out] / scale[out]) + np.abs(X[:, kept] / scale[kept]) @ np.abs(weights)
    wrong = np.abs(gap) > _SAME * (1 + size)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"Fixed-effect column {columns.aliased[column]!r} was left out because others "
            f"determine it in the data, but not in row {row + 1} of the new rows, so there is no "
            "coefficient for what differs.",
            row=int(row) + 1,
        )


def _unseen(spec: Any, rows: pd.DataFrame, old: pd.DataFrame) -> DataError:
    """Make the error that names the levels which no coefficient speaks of."""
    for factor in map(str, (f.expr for f in spec.factor_contrasts)):
        for name in rows.columns:
            if not re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", factor):
                continue
            known = set(level_names(old[name].unique()))
            found = [v for v in level_names(rows[name].unique()) if v not in known]
            if found:
                return DataError(
                    f"Factor {factor!r} has {_some(found)} in the new rows, which the data "
                    f"did not have, so there is no coefficient for it; its levels are "
                    f"{_some(sorted(known))}.",
                    column=name,
                    levels=tuple(found),
                )
    return DataError("A factor among the fixed effects has a level that the data did not have.")


def _codes(
    factor: Factor, names: Sequence[str], old: pd.DataFrame, rows: pd.DataFrame
) -> tuple[IntArray, tuple[str, ...]]:
    """Level of each new row, by the labels of the columns behind the factor; new levels' names."""
    _, first = np.unique(factor.codes, return_index=True)
    seen = zip(*(_labels(old[n])[first] for n in names), strict=True)
    number = {label: k for k, label in enumerate(seen)}
    wanted = list(zip(*(_labels(rows[n]) for n in names), strict=True))
    unseen = sorted(set(wanted) - set(number))
    number |= {label: len(first) + k for k, label in enumerate(unseen)}
    codes = np.array([number[label] for label in wanted], dtype=np.intp)
    return codes, tuple(":".join(label) for label in unseen)


def _labels(values: pd.Series[Any]) -> Any:
    """Write every value as the text that names its level."""
    codes, names = group_codes(values)
    return np.array(names, dtype=object)[codes]


def _weights(columns: Rows, recipe: DesignSpec, rows: pd.DataFrame) -> Array:
    """Weights that scale the residual SD of each row."""
    name = recipe.weights or recipe.se
    if name is None:
        return np.ones(len(rows))
    require_numbers(rows, name)
    values = np.asarray(rows[name].to_numpy(dtype=float))
    if not np.all(values > 0):
        row = int(np.flatnonzero(~(values > 0))[0]) + 1
        raise DataError(
            f"Column {name!r} is {values[row - 1]:g} in row {row} of the new rows; positive "
            f"{'weights' if recipe.weights else 'standard errors'} are expected.",
            row=row,
        )
    if columns.sigma is None:
        return values
    return np.asarray((columns.sigma / values) ** 2)


def _some(levels: Sequence[str]) -> str:
    """Write the first few levels."""
    more = f" and {len(levels) - _SHOWN} more" if len(levels) > _SHOWN else ""
    return ", ".join(map(repr, levels[:_SHOWN])) + more

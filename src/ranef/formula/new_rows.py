"""Rows that were not fitted, in the columns X, Z and group codes that the fitted model has."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ranef.data.tables import drop_missing, read_table, require_column, require_numbers
from ranef.errors import DataError
from ranef.formula.expressions import model_matrix
from ranef.formula.grouping import refuse_decimals
from ranef.formula.labels import level_names, refuse_similar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from ranef.common.array_types import Array, IntArray
    from ranef.formula.grouping import Factor
    from ranef.formula.rows import Rows
    from ranef.formula.spec import ColumnType, DesignSpec

__all__ = [
    "DesignRows",
    "Groups",
    "Kind",
    "encode",
    "fitted_rows",
    "in_new_groups",
    "new_rows",
    "undetermined",
]

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


def fitted_rows(rows: Rows, kind: Kind, groups: Groups) -> DesignRows:
    """Take the rows that were fitted.

    Parameters
    ----------
    rows
        From `ranef.formula.rows.evaluate`.
    kind, groups
        What will be predicted. `"marginal"` takes no notice of which group a row belongs to.

    Returns
    -------
    DesignRows
    """
    n, spec = len(rows.y), rows.spec
    slopes = np.column_stack([np.ones(n), rows.slopes])
    Z: list[list[Array]] = [[] for _ in spec.factors]
    for group in spec.groups:
        Z[group.factor].append(slopes[:, list(group.columns)])
    if kind == "mean" and groups == "marginal":
        Z = [[np.zeros_like(z) for z in blocks] for blocks in Z]
    none = np.full(n, -1)
    return DesignRows(
        X=rows.X,
        offset=np.zeros(n) if rows.offset is None else rows.offset,
        Z=tuple(np.hstack(z) for z in Z),
        codes=tuple(none if groups == "marginal" else code for code in rows.codes),
        new_levels=((),) * len(spec.factors),
        weights=np.ones(n) if rows.weights is None else rows.weights,
        frame=rows.frame[_used(spec, kind, groups)],
        y=rows.y,
    )


def new_rows(spec: DesignSpec, data: Any, kind: Kind, groups: Groups) -> DesignRows:
    """Read new rows as the formula read the data.

    Transforms keep what they learnt from the data (the centre of `scale(x)`, the knots of
    `bs(x, 4)`), and factors their coding.

    Parameters
    ----------
    spec
        What is known of the data.
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
    table = read_table(data)
    varies = not (kind == "mean" and groups == "marginal")
    used = _used(spec, kind, groups)
    _check_frame(table, used, spec.formula.text, spec.weights or spec.se)
    kept, _ = drop_missing(table, used)
    frame = kept.reset_index(drop=True)
    typed = frame.copy(deep=False)
    for name in set(spec.columns) & set(used):
        typed[name] = _as_fitted(frame[name], spec.columns[name])
    whole = encode(spec.fixed.spec, spec, typed)
    wrong = undetermined(spec, whole)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"Fixed-effect column {spec.fixed.aliased[column]!r} was left out because others "
            f"determine it in the data, but not in row {row + 1} of the new rows, so there is no "
            "coefficient for what differs.",
            row=int(row) + 1,
        )
    offset = np.zeros(len(frame))
    for part in spec.offsets:
        offset += encode(part, spec, typed)[:, 0]
    Z: list[list[Array]] = [[] for _ in spec.factors]
    for group in spec.groups:
        block = (
            encode(group.spec, spec, typed)
            if varies
            else np.zeros((len(frame), len(group.columns)))
        )
        Z[group.factor].append(block)
    codes: list[IntArray] = []
    new_levels: list[tuple[str, ...]] = []
    for factor in spec.factors:
        if groups == "marginal":
            codes.append(np.full(len(frame), -1))
            new_levels.append(())
            continue
        code, names = _codes(factor, frame)
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
        X=whole[:, list(spec.fixed.kept)],
        offset=offset,
        Z=tuple(np.hstack(z) for z in Z),
        codes=tuple(codes),
        new_levels=tuple(new_levels),
        weights=_weights(spec, frame) if kind == "response" else None,
        frame=kept,
    )


def in_new_groups(rows: DesignRows, spec: DesignSpec) -> DesignRows:
    """The same rows in other groups, as many of each factor as the data had."""
    levels = tuple(f.levels for f in spec.factors)
    codes = tuple(c + len(names) for c, names in zip(rows.codes, levels, strict=True))
    return replace(rows, codes=codes, new_levels=levels)


def encode(part: Any, spec: DesignSpec, frame: pd.DataFrame) -> Array:
    """Columns of one part of the formula at new rows, those that were left out of it included.

    `part` is formulaic's record of it, out of `spec`; the frame's columns have the types that they
    had in the data. Raises `DataError` if a level is new or a column not finite.
    """
    from formulaic.errors import DataMismatchWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        matrix = model_matrix(part, spec.formula, frame)
    for warning in caught:
        if issubclass(warning.category, DataMismatchWarning):
            raise _unseen(part, frame)
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


def undetermined(spec: DesignSpec, whole: Array) -> NDArray[np.bool_]:
    """In which of m encoded rows a column that was left out is no combination, (m, left out)."""
    dependence = spec.fixed.dependence
    if dependence is None:
        return np.zeros((len(whole), 0), bool)
    size = np.abs(whole) @ np.abs(dependence)
    return np.asarray(np.abs(whole @ dependence) > _SAME * size)


def _used(spec: DesignSpec, kind: Kind, groups: Groups) -> list[str]:
    """Names of the columns that a prediction reads."""
    names = [*spec.fixed_names, *spec.offset_names]
    if groups != "marginal" or kind == "response":
        names += spec.group_names
    if groups != "marginal":
        names += [name for factor in spec.factors for name in factor.columns]
    if kind == "response":
        names += [name for name in (spec.weights, spec.se) if name is not None]
    return list(dict.fromkeys(names))


def _check_frame(table: pd.DataFrame, used: Sequence[str], text: str, residual: str | None) -> None:
    """Refuse rows that lack columns or values."""
    for name in used:
        why = f"which the formula {text!r} uses"
        if name == residual:
            why = "from which the residual SD of a row comes (kind='mean' needs none)"
        require_column(table, name, f"The new rows lack column {name!r}, {why}.")
        empty = table[name].isna().to_numpy()
        if empty.any():
            row = int(np.flatnonzero(empty)[0]) + 1
            raise DataError(
                f"Column {name!r} of the new rows has no value in row {row} ({empty.sum()} in "
                "all), and nothing can be predicted there; fill it in or leave the row out.",
                column=name,
                row=row,
            )
    if not len(table):
        raise DataError("The table of new rows has no rows; at least one is expected.")


def _as_fitted(new: pd.Series[Any], fitted: ColumnType) -> pd.Series[Any]:
    """Bring a column to the type it had: formulaic would take a number for a factor's dummy."""
    import pandas as pd

    name, known = str(new.name), fitted.values
    if fitted.number:
        require_numbers(new.to_frame(name), name)
        if fitted.kind != "f" and new.dtype.kind in "iu":
            return new
        return pd.Series(new.to_numpy(dtype=float), index=new.index, name=name)
    codes, found = pd.factorize(new)
    written = level_names(found)
    unseen = [label for label in written if label not in known]
    if fitted.kind == "b" and unseen:
        raise DataError(
            f"Column {name!r} of the new rows holds {_some(unseen)}; the data held "
            f"{_some(tuple(known))}.",
            column=name,
        )
    values = np.empty(len(written), dtype=object)
    values[:] = [known.get(label, label) for label in written]
    typed = pd.Series(values[codes], index=new.index, name=name)
    return typed.astype(bool) if fitted.kind == "b" else typed


def _unseen(part: Any, frame: pd.DataFrame) -> DataError:
    """Make the error that names the levels which no coefficient speaks of."""
    for factor, state in part.factor_contrasts.items():
        for name in frame.columns:
            if not re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", str(factor.expr)):
                continue
            known = set(level_names(state.levels))
            found = [v for v in level_names(frame[name].unique()) if v not in known]
            if found:
                return DataError(
                    f"Factor {str(factor.expr)!r} has {_some(found)} in the new rows, which the "
                    f"data did not have, so there is no coefficient for it; its levels are "
                    f"{_some(sorted(known))}.",
                    column=name,
                    levels=tuple(found),
                )
    return DataError("A factor among the fixed effects has a level that the data did not have.")


def _codes(factor: Factor, frame: pd.DataFrame) -> tuple[IntArray, tuple[str, ...]]:
    """Level of each new row, by the labels of the columns behind the factor; new levels' names."""
    number = {label: k for k, label in enumerate(zip(*factor.labels, strict=True))}
    seen = len(number)
    columns = [
        _labels(frame[name], set(known))
        for name, known in zip(factor.columns, factor.labels, strict=True)
    ]
    wanted = list(zip(*columns, strict=True))
    unseen = sorted(set(wanted) - set(number))
    number |= {label: seen + k for k, label in enumerate(unseen)}
    codes = np.array([number[label] for label in wanted], dtype=np.intp)
    return codes, tuple(":".join(label) for label in unseen)


def _labels(values: pd.Series[Any], known: set[str]) -> Any:
    """Write every value as the text that names its level; refuse what is nearly a known one."""
    import pandas as pd

    codes, found = pd.factorize(values)
    names = level_names(found)
    unknown = [name for name in names if name not in known]
    refuse_similar(str(values.name), unknown, known)
    if unknown:
        refuse_decimals(values)
    return np.array(names, dtype=object)[codes]


def _weights(spec: DesignSpec, frame: pd.DataFrame) -> Array:
    """Weights that scale the residual SD of each row."""
    name = spec.weights or spec.se
    if name is None:
        return np.ones(len(frame))
    require_numbers(frame, name)
    values = np.asarray(frame[name].to_numpy(dtype=float))
    if not np.all(values > 0):
        row = int(np.flatnonzero(~(values > 0))[0]) + 1
        raise DataError(
            f"Column {name!r} is {values[row - 1]:g} in row {row} of the new rows; positive "
            f"{'weights' if spec.weights else 'standard errors'} are expected.",
            row=row,
        )
    return values if spec.sigma is None else np.asarray((spec.sigma / values) ** 2)


def _some(levels: Sequence[str]) -> str:
    """Write the first few levels."""
    more = f" and {len(levels) - _SHOWN} more" if len(levels) > _SHOWN else ""
    return ", ".join(map(repr, levels[:_SHOWN])) + more

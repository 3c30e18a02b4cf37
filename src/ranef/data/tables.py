"""Any dataframe, mapping or file to named columns in memory; what happens to missing rows."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import brief
from ranef.data.files import read_file
from ranef.data.types import holds_numbers, infinite_values, plain_types
from ranef.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["check_column", "drop_missing", "read_table", "require_column", "require_numbers"]

# A number whose decimals stand after a comma, as spreadsheets write it in much of Europe.
_COMMA = re.compile(r"-?\d{1,3}(\.?\d{3})*,\d+|-?\d+,\d+")


def read_table(data: Any) -> pd.DataFrame:
    """Bring a table into memory as a pandas frame.

    Parameters
    ----------
    data
        A path to a CSV or Parquet file, a mapping of column names to sequences, or any frame
        that narwhals knows (pandas, polars, pyarrow, DuckDB relation, Dask, PySpark, Ibis, …).

    Returns
    -------
    pandas.DataFrame
        The columns as they came; nothing is dropped here. In a CSV, empty fields and the words
        NA, N/A, NaN, NULL, None and a lone point are missing values.

    Raises
    ------
    DataError
        If the file is missing, empty or unreadable, or the object is no table.

    Examples
    --------
    >>> read_table({"y": [1.0, 2.0], "g": ["a", "b"]}).shape
    (2, 2)
    """
    if isinstance(data, (str, os.PathLike)):
        return read_file(Path(data))
    if isinstance(data, Mapping):
        return _from_mapping(data)
    return _from_frame(data)


def _from_mapping(data: Mapping[Any, Any]) -> pd.DataFrame:
    """Turn columns of equal length into a frame."""
    import pandas as pd

    lengths = {str(name): _length(values) for name, values in data.items()}
    if len(lengths) < len(data):
        raise DataError("Two columns have the same name as text, such as 1 and '1'; rename one.")
    if len(set(lengths.values())) > 1 or () in lengths.values():
        shapes = ", ".join(f"{k} {v[0] if v else 'a single value'}" for k, v in lengths.items())
        raise DataError(f"Columns must be sequences of one length; came: {shapes}.")
    try:
        return pd.DataFrame({str(name): values for name, values in data.items()})
    except ValueError as error:
        raise DataError(f"The columns are no plain sequences: {error}.") from None


def _length(values: Any) -> tuple[int, ...]:
    """Length of a column, empty for what is none."""
    try:
        return tuple(np.shape(values)[:1])
    except ValueError:  # sequences of different lengths inside
        return (len(values),)


def _from_frame(data: Any) -> pd.DataFrame:
    """Collect any narwhals-compatible frame."""
    import narwhals.stable.v2 as nw

    try:
        frame = nw.from_native(data)
    except nw.exceptions.DuplicateError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"The table has columns of the same name; rename. {reason}.") from None
    except TypeError:
        if type(data).__name__ == "DuckDBPyConnection":
            raise DataError(
                "A DuckDB connection is no table; pass connection.table('name') or "
                "connection.sql('SELECT …')."
            ) from None
        raise DataError(
            f"A {type(data).__name__} is no table; expected a dataframe, a mapping of columns, "
            "or the path of a CSV or Parquet file."
        ) from None
    if isinstance(frame, nw.LazyFrame):
        # Polars goes to pandas only through pyarrow, which may not be there.
        polars = frame.implementation.is_polars()
        frame = frame.collect(backend="polars") if polars else frame.collect(backend="pandas")
    if frame.implementation.is_pandas():
        native: pd.DataFrame = frame.to_native()
        return native.rename(columns=str)
    import pandas as pd

    return pd.DataFrame({name: _column(frame[name]) for name in frame.columns})


def _column(series: Any) -> Any:
    """Give one narwhals column in the type that pandas has for it."""
    import narwhals.stable.v2 as nw
    import pandas as pd

    dtype, missing = series.dtype, series.is_null().any()
    if dtype.is_integer() and missing:
        # Not floats: they would make one group of two long identifiers.
        name = "UInt64" if dtype.is_unsigned_integer() else "Int64"
        return pd.array(series.to_list(), dtype=name)
    if dtype.is_numeric():
        plain = series.cast(nw.Float64) if missing or dtype.is_decimal() else series
        return np.asarray(plain.to_numpy())
    if dtype == nw.Boolean:
        return pd.array(series.to_list(), dtype="boolean") if missing else series.to_numpy()
    if dtype in (nw.Categorical, nw.Enum):
        return pd.Categorical(series.to_list(), series.cat.get_categories().to_list())
    return pd.Series(series.to_list(), dtype=object)


def check_column(argument: str, name: Any, frame: pd.DataFrame) -> None:
    """Refuse an argument (called so by the user) that names no column of the table, or several."""
    if not isinstance(name, str):
        raise DataError(f"{argument} is {brief(name)}; the name of a column is expected.")
    require_column(frame, name, f"{argument} is {name!r}, which is no column of the table.")


def require_column(frame: pd.DataFrame, name: str, missing: str) -> None:
    """Raise `DataError` unless one column has the name: `missing`, and the nearest name."""
    known = [str(c) for c in frame.columns]
    if name not in known:
        raise DataError(f"{missing} {nearest(name, known)}", column=name)
    if known.count(name) > 1:
        raise DataError(f"The table has {known.count(name)} columns named {name!r}; rename.")


def drop_missing(frame: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Keep the rows in which every named column has a value, and count the others.

    Parameters
    ----------
    frame
        The table.
    names
        Columns that the formula uses.

    Returns
    -------
    frame : pandas.DataFrame
        The used columns of the complete rows, in the types of `plain_types`.
    dropped : int
        Number of rows left out.

    Raises
    ------
    DataError
        If no complete row remains, a field holds a list or the like, or a numeric column holds
        infinity: an infinite value is a mistake upstream, not a missing one.

    Examples
    --------
    >>> import pandas as pd
    >>> drop_missing(pd.DataFrame({"y": [1.0, None]}), ["y"])[1]
    1
    """
    used = frame.loc[:, list(names)]
    for name in names:
        if used[name].dtype == object:
            _refuse_collections(used[name], name)
        infinite = infinite_values(used[name])
        if infinite.any():
            row = int(np.flatnonzero(infinite)[0]) + 1
            raise DataError(
                f"Column {name!r} holds an infinite value (row {row}, {infinite.sum()} in "
                "all); correct it or mark it as missing.",
                column=name,
                row=row,
            )
    complete = used.notna().all(axis=1).to_numpy()
    dropped = int((~complete).sum())
    if dropped == len(used):
        raise DataError(
            f"No row has a value in all of {', '.join(map(repr, names))}; {dropped} rows came."
        )
    if dropped:
        used = used.loc[complete]
    return plain_types(used), dropped


def _refuse_collections(values: pd.Series[Any], name: str) -> None:
    """Raise `DataError` for a column whose fields hold lists and the like instead of values."""
    try:
        values.unique()
    except TypeError:
        row = next(i for i, v in enumerate(values, start=1) if not isinstance(v, Hashable))
        raise DataError(
            f"Column {name!r} holds a {type(values.iloc[row - 1]).__name__} in row {row}; a number "
            "or a text in each row is expected.",
            column=name,
            row=row,
        ) from None


def require_numbers(frame: pd.DataFrame, name: str) -> None:
    """Raise `DataError` naming the first value that is no number, unless `name` is numeric.

    Missing values are passed over; rows are counted from 1 in the table as it came.
    """
    values = frame[name]
    missing = values.isna()
    if holds_numbers(values) or missing.all():
        return
    for row, value in enumerate(values, start=1):
        if missing.iloc[row - 1]:
            continue
        try:
            float(value)
        except (TypeError, ValueError):
            comma = isinstance(value, str) and _COMMA.fullmatch(value.strip())
            advice = (
                "if that is a decimal comma, pass pandas.read_csv(…, sep=';', decimal=',')."
                if comma
                else "correct it or leave the field empty."
            )
            raise DataError(
                f"Column {name!r} must be numeric, but row {row} holds {str(value)!r}; {advice}",
                column=name,
                row=row,
            ) from None
    raise DataError(
        f"Column {name!r} holds numbers stored as {values.dtype}; convert it to a numeric column.",
        column=name,
    )

"""CSV and Parquet files to frames: names, categories and encodings as they stand in the file."""

from __future__ import annotations

import csv
import os
import re
from typing import TYPE_CHECKING, Any

from ranef.data.types import dictionary_levels
from ranef.errors import DataError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

__all__ = ["read_file"]

# What R, pandas and spreadsheets write for a missing value.
_MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", ".")
# What a DuckDB database holds from its ninth byte on.
_DATABASE = b"DUCK"


def read_file(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file through DuckDB, with types from all rows.

    Raises
    ------
    DataError
        If the file is missing, empty, no table, in another encoding than UTF-8, or has several
        columns of one name.
    """
    _check_path(path)
    import duckdb

    # DuckDB takes the path for a pattern, in which `data[1].csv` would find `data1.csv`.
    literal = re.sub(r"([*?\[])", r"[\1]", str(path))
    connection = duckdb.connect()
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            frame: pd.DataFrame = connection.read_parquet(literal).df()
            frame = _with_categories(frame, path)
        else:
            frame = connection.read_csv(
                literal, header=True, sample_size=-1, na_values=list(_MISSING)
            ).df()
            if _renamed(list(frame.columns)):
                frame.columns = _header(connection, literal, path, len(frame.columns))
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    finally:
        connection.close()
    if frame.shape[0] == 0:
        raise DataError(f"File '{path}' has a header but no rows.", path=str(path))
    return frame


def _check_path(path: Path) -> None:
    """Refuse what is no file with a table in it, before DuckDB says so in its words."""
    if not os.path.exists(path):  # noqa: PTH110, Path.exists raises where a name is too long
        if re.search(r"[*?]", path.name):
            raise DataError(
                f"'{path}' is a pattern; one file is expected. Read several with "
                f"duckdb.sql(\"SELECT * FROM '{path}'\") and pass the result.",
                path=str(path),
            )
        siblings = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        close = nearest(path.name, siblings) if siblings else ""
        hint = close if close.startswith("Did") else "Check the path."
        raise DataError(f"File '{path}' does not exist. {hint}", path=str(path))
    if path.is_dir():
        raise DataError(f"'{path}' is a folder; a CSV or Parquet file was expected.")
    if path.stat().st_size == 0:
        raise DataError(f"File '{path}' is empty; a header line and rows were expected.")
    with path.open("rb") as stream:
        if stream.read(12)[8:] == _DATABASE:
            raise DataError(
                f"File '{path}' is a DuckDB database, which may hold several tables; pass one, "
                f"e.g. duckdb.connect('{path}').table('name').",
                path=str(path),
            )


def _unreadable(path: Path, error: Exception) -> DataError:
    """Make the error of a file that DuckDB cannot read."""
    first = str(error).strip().splitlines()[0]
    if path.suffix.lower() not in {".parquet", ".pq"}:
        try:
            with path.open(encoding="utf-8") as stream:
                for _ in stream:
                    pass
        except UnicodeDecodeError as wrong:
            return DataError(
                f"File '{path}' cannot be read as CSV or Parquet: it is not UTF-8 text (byte "
                f"{wrong.object[wrong.start]:#x}); save it as UTF-8, or pass "
                f"pandas.read_csv('{path}', encoding='cp1252') if it comes from Windows.",
                path=str(path),
            )
    return DataError(f"File '{path}' cannot be read as CSV or Parquet: {first}", path=str(path))


def _renamed(names: list[str]) -> bool:
    """Whether some name may be DuckDB's for a second column of the same name, such as `y_1`."""
    known = {name.casefold() for name in names}
    ends = (re.fullmatch(r"(.+)_\d+", name.casefold(), re.DOTALL) for name in names)
    return any(match is not None and match[1] in known for match in ends)


def _header(connection: Any, literal: str, path: Path, count: int) -> list[str]:
    """Names as the first line has them, which may differ by case only; refuse equal ones."""
    sniffed = connection.execute(
        "SELECT Delimiter, Quote, SkipRows FROM sniff_csv(?, header=true, sample_size=-1)",
        [literal],
    ).fetchone()
    delimiter, quote, skipped = sniffed
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for _ in range(skipped):
            next(stream)
        plain = quote in ("", "(empty)")
        reader = csv.reader(stream, delimiter=delimiter, quotechar='"' if plain else quote)
        names = [name.strip() for name in next(reader)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        places = [str(k) for k, name in enumerate(names, start=1) if name == twice[0]]
        raise DataError(
            f"File '{path}' has several columns of the same name, {', '.join(map(repr, twice))} "
            f"({twice[0]!r} in columns {' and '.join(places)}); rename.",
            path=str(path),
            columns=tuple(twice),
        )
    if len(names) != count or "" in names:
        raise DataError(f"File '{path}' has a header that cannot be told from its rows; check it.")
    return names


def _with_categories(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Give columns that a frame wrote as categories their order back, which DuckDB loses.

    The order stands in Arrow's own part of the file; where pyarrow is missing the levels are in
    the order of the alphabet.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return frame
    try:
        schema = pq.read_schema(path)
        names = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        table = pq.read_table(path, columns=names) if names else None
    except (pa.ArrowException, OSError):
        return frame
    for name in names:
        if table is not None and name in frame.columns:
            frame[name] = dictionary_levels(table.column(name))
    return frame

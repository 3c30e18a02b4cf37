"""Files and frames that hold more than their columns' names say at first sight."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ranef as rf
from ranef.data.tables import read_table
from ranef.errors import DataError
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate

N = 40
LEVELS = ["low", "mid", "high", "top"]


def table():
    rng = np.random.default_rng(0)
    f = pd.Categorical(np.array(LEVELS)[np.arange(N) % 4], LEVELS)
    x = rng.normal(5, 1, N)
    return pd.DataFrame({"y": rng.normal(size=N), "x": x, "f": f, "g": np.arange(N) % 8})


def names_of(data, formula="y ~ f + (1|g)"):
    return evaluate(parse_formula(formula), read_table(data)).spec.fixed.names[1:]


def as_relation(data, _):
    connection = duckdb.connect()
    connection.register("shelf", data)
    return connection.sql("SELECT * FROM shelf")


def parquet_of_pandas(data, folder):
    data.to_parquet(folder / "pandas.parquet")
    return folder / "pandas.parquet"


def parquet_of_polars(data, folder):
    levels = pl.Series(data["f"].astype(str).tolist(), dtype=pl.Enum(LEVELS))
    columns = {n: data[n].to_numpy() for n in "yg"}
    pl.DataFrame({**columns, "f": levels}).write_parquet(folder / "polars.parquet")
    return folder / "polars.parquet"


def arrow_backed(data, folder):
    return pd.read_parquet(parquet_of_pandas(data, folder), dtype_backend="pyarrow")


ORDERED = {
    "pandas": lambda data, _: data,
    "Parquet of pandas": parquet_of_pandas,
    "Parquet of polars": parquet_of_polars,
    "pandas on Arrow": arrow_backed,
    "Arrow": lambda data, _: pa.Table.from_pandas(data),
    "DuckDB relation": as_relation,
}


@pytest.mark.parametrize("source", ORDERED)
def test_order_of_categories_is_that_of_the_frame(source, tmp_path):
    data = ORDERED[source](table(), tmp_path)
    assert names_of(data) == ("f[mid]", "f[high]", "f[top]")
    factor = evaluate(parse_formula("y ~ 1 + (1|f)"), read_table(data)).spec.factors[0]
    assert factor.levels == tuple(LEVELS)


def test_dictionaries_with_missing_values_and_chunks_are_categories():
    chunks = [
        pa.array(v).dictionary_encode() for v in (["b", "a", None, "b"], ["c", "a", "c", "b"])
    ]
    f = pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array(chunks)))
    data = pd.DataFrame({"y": np.arange(8.0), "f": f, "g": list("uvuvuvuv")})
    with pytest.warns(rf.MissingRowsWarning, match="1 of 8"):
        assert names_of(data) == ("f[a]", "f[c]")


def test_rows_cut_into_intervals_are_predicted(tmp_path):
    data = table()
    data = data.assign(part=pd.cut(data["x"], [0, 4, 5, 6, 10]))
    fit = rf.fit("y ~ part + (1|g)", data, draws=1000, seed=1)
    assert fit.summary().index[1] == "part[(4, 5]]"
    fit.save(tmp_path / "fit.nc")
    for made in (fit, rf.load(tmp_path / "fit.nc")):
        expected = made.predict().table()
        for rows in (data, data.assign(part=data["part"].astype(str))):
            pd.testing.assert_frame_equal(made.predict(rows).table(), expected, rtol=1e-9)
        pd.testing.assert_frame_equal(made.predict(data.head(1)).table(), expected.head(1))


@pytest.mark.parametrize("header", ["y,g,y", '"y";"g";"y"', "\ufeffy\tg\ty", "y, g, y"])
def test_duplicate_names_in_a_csv_are_refused_by_name_and_place(header, tmp_path):
    sign = next(s for s in ";\t," if s in header)
    path = tmp_path / "twice.csv"
    lines = [header, *(sign.join(row) for row in (["1", "a", "2"], ["2", "b", "3"]))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"same name, 'y' \('y' in columns 1 and 3\); rename"):
        read_table(path)


@pytest.mark.parametrize("header", [["y", "Y", "g"], ["y", "y_1", "g"], ["a_1", "a", "b_2"]])
def test_names_that_only_resemble_each_other_stay_as_they_are(header, tmp_path):
    path = tmp_path / "similar.csv"
    path.write_text(",".join(header) + "\n1,2,3\n4,5,6\n", encoding="utf-8")
    assert list(read_table(path).columns) == header


def test_truth_values_as_a_response_are_refused_with_what_to_write():
    data = table().assign(ill=lambda d: d["x"] > 5)
    for ill in (data["ill"], data["ill"].astype("boolean"), data["ill"].astype(object)):
        with pytest.raises(DataError, match=r"'ill' holds truth values.*'I\(1 \* ill\) ~ …'"):
            names_of(data.assign(ill=ill), "ill ~ x + (1|g)")
    made = evaluate(parse_formula("I(1 * ill) ~ x + (1|g)"), data)
    np.testing.assert_array_equal(made.y, data["ill"])

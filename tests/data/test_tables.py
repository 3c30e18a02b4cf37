"""Tables: every source gives the same columns, and nothing is dropped or guessed in silence."""

from __future__ import annotations

import datetime
import sys
from functools import cache

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ranef as rf
from frames import make_frame
from ranef.data.tables import drop_missing, read_table, require_numbers
from ranef.errors import DataError, MissingRowsWarning
from ranef.formula.grouping import group_codes
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate
from ranef.mixed_model.model import build_model


def write(folder, text, name="data.csv", encoding="utf-8"):
    """Write a file and give its path."""
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def columns_of(formula, data):
    """Evaluate a formula on any data."""
    return evaluate(parse_formula(formula), read_table(data))


# -- one table, every source -----------------------------------------------------------------------

TABLE = {
    "y": [1.5, 2.5, 4.0, 8.0],
    "x": [3, 1, 2, 5],
    "flag": [True, False, True, True],
    "g": ["b", "a", "b", "a"],
}


def as_csv(folder):
    return write(folder, pd.DataFrame(TABLE).to_csv(index=False))


def as_parquet(folder):
    path = folder / "data.parquet"
    pl.DataFrame(TABLE).write_parquet(path)
    return str(path)


def as_relation(_):
    frame = pd.DataFrame(TABLE)
    connection = duckdb.connect()
    connection.register("shelf", frame)
    return connection.sql("SELECT * FROM shelf")


SOURCES = {
    "CSV": as_csv,
    "Parquet": as_parquet,
    "mapping": lambda _: TABLE,
    "mapping of arrays": lambda _: {k: np.array(v) for k, v in TABLE.items()},
    "pandas": lambda _: pd.DataFrame(TABLE, index=[9, 9, 3, 1]),
    "polars": lambda _: pl.DataFrame(TABLE),
    "pyarrow": lambda _: pa.table(TABLE),
    "polars LazyFrame": lambda _: pl.LazyFrame(TABLE),
    "DuckDB relation": as_relation,
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_columns(source, tmp_path):
    made = columns_of("y ~ x + flag + (1|g)", SOURCES[source](tmp_path))
    np.testing.assert_array_equal(made.y, TABLE["y"])
    assert made.spec.fixed.names == ("Intercept", "x", "flag")
    np.testing.assert_array_equal(made.X[:, 1], TABLE["x"])
    np.testing.assert_array_equal(made.X[:, 2], [1, 0, 1, 1])
    assert made.spec.factors[0].levels == ("a", "b")
    np.testing.assert_array_equal(made.codes[0], [1, 0, 1, 0])


@pytest.mark.parametrize("source", ["pandas", "polars", "pyarrow", "polars LazyFrame"])
def test_missing_values_of_every_kind_are_dropped_and_counted(source):
    full = {
        "y": [1.0, None, 3.0, 4.0, 5.0],
        "k": [1, 2, None, 4, 5],
        "flag": [True, True, True, None, False],
        "g": ["a", "a", "a", "b", "b"],
    }
    data = {
        "pandas": lambda: pd.DataFrame(full).convert_dtypes(),
        "polars": lambda: pl.DataFrame(full),
        "pyarrow": lambda: pa.table(full),
        "polars LazyFrame": lambda: pl.LazyFrame(full),
    }[source]()
    with pytest.warns(MissingRowsWarning, match="^3 of 5 rows have missing values and are left"):
        made = columns_of("y ~ k + flag + (1|g)", data)
    assert made.dropped == 3
    np.testing.assert_array_equal(made.X[:, 1:], [[1, 1], [5, 0]])
    assert made.spec.factors[0].levels == ("a", "b")


def test_rows_missing_in_unused_columns_stay():
    made = columns_of("y ~ 1 + (1|g)", {"y": [1.0, 2.0], "g": ["a", "b"], "x": [None, None]})
    assert (made.dropped, len(made.y)) == (0, 2)


def test_dropped_rows_are_recorded_in_the_fit_and_told():
    data = make_frame()
    data.loc[[2, 5], "x"] = np.nan
    with pytest.warns(MissingRowsWarning, match=f"^2 of {len(data)} rows"):
        made = rf.fit("y ~ x + (1|g)", data, draws=800, seed=1)
    assert made.draws.attrs["dropped"] == 2
    assert made.draws.attrs["rows"] == len(data) - 2
    assert f"{len(data) - 2} rows (2 with missing values left out), 8 levels of g" in str(made)


def test_drop_missing_keeps_the_order_and_the_index():
    frame = pd.DataFrame({"a": [1.0, None, 3.0], "b": ["x", "y", "z"]}, index=[7, 8, 9])
    kept, dropped = drop_missing(frame, ["b", "a"])
    assert dropped == 1
    assert kept.to_dict("list") == {"b": ["x", "z"], "a": [1.0, 3.0]}
    assert list(kept.index) == [7, 9]


def test_no_complete_row_is_an_error():
    with pytest.raises(DataError, match="No row has a value in all of 'y', 'g'; 2 rows came"):
        drop_missing(pd.DataFrame({"y": [1.0, None], "g": [None, "a"]}), ["y", "g"])


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token", ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", ".", '""', '"NA"']
)
def test_csv_knows_the_usual_words_for_missing(token, tmp_path):
    path = write(tmp_path, f"y,g\n1.5,a\n{token},b\n2.5,{token}\n")
    frame = read_table(path)
    assert frame["y"].dtype == float
    assert frame.isna().to_numpy().tolist() == [[False, False], [True, False], [False, True]]


@pytest.mark.parametrize("token", ["?", "missing", "-", "n.d."])
def test_other_words_in_a_numeric_column_are_named_with_their_row(token, tmp_path):
    path = write(tmp_path, f"y,g\nNA,a\n1.5,a\n{token},b\n")
    with pytest.raises(DataError) as caught:
        columns_of("y ~ 1 + (1|g)", path)
    message = (
        f"Column 'y' must be numeric, but row 3 holds '{token}'; correct it or leave the field"
    )
    assert str(caught.value).startswith(message)
    assert (caught.value.column, caught.value.row) == ("y", 3)


def test_word_far_down_a_long_file_is_found(tmp_path):
    lines = [f"{i}.5,{i % 7}" for i in range(30_000)] + ["oops,1"]
    path = write(tmp_path, "y,g\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError, match="row 30001 holds 'oops'"):
        columns_of("y ~ 1 + (1|g)", path)


@pytest.mark.parametrize(
    "text",
    [
        "y;g\n1.5;a\n2;b\n",
        "y\tg\n1.5\ta\n2\tb\n",
        "\ufeffy,g\r\n1.5,a\r\n2,b\r\n",
        '"y","g"\n1.5,a\n2,b',
    ],
    ids=["semicolon", "tab", "Windows", "no last line end"],
)
def test_csv_dialects_are_recognised(text, tmp_path):
    assert read_table(write(tmp_path, text)).to_dict("list") == {"y": [1.5, 2.0], "g": ["a", "b"]}


def test_leading_zeros_and_long_identifiers_stay_apart(tmp_path):
    path = write(tmp_path, "a,b\n001,9007199254740993\n01,9007199254740992\n1,\n")
    frame = read_table(path)
    assert group_codes(frame["a"])[1] == ("001", "01", "1")
    assert group_codes(frame["b"].dropna())[1] == ("9007199254740992", "9007199254740993")


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame, pa.table])
def test_long_identifiers_beside_missing_ones_stay_apart(kind):
    data = kind({"g": [2**53 + 1, 2**53, None]})
    assert group_codes(read_table(data)["g"].dropna())[1] == (str(2**53), str(2**53 + 1))


@pytest.mark.parametrize("name", ["data (1).csv", "da'ta.csv", "größe.csv", "DATA.CSV", "a b.txt"])
def test_odd_file_names_are_read(name, tmp_path):
    path = write(tmp_path, "y,g\n1,a\n2,b\n", name)
    assert read_table(str(path))["y"].tolist() == [1, 2]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_file_name_is_no_pattern(suffix, tmp_path):
    for name, value in (("data1", 7.0), ("data[1]", 1.0)):
        frame = pl.DataFrame({"y": [value, 2.0]})
        path = tmp_path / (name + suffix)
        frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    assert read_table(tmp_path / f"data[1]{suffix}")["y"].tolist() == [1.0, 2.0]


def test_missing_file_is_told_with_the_nearest_name(tmp_path):
    write(tmp_path, "y\n1\n", "sleep.csv")
    with pytest.raises(DataError, match=r"sleeep\.csv' does not exist\. Did you mean 'sleep\.csv'"):
        read_table(tmp_path / "sleeep.csv")


@pytest.mark.parametrize("where", ["zzz.parquet", "nowhere/sleep.csv"])
def test_missing_file_without_a_near_name_says_check_the_path(where, tmp_path):
    write(tmp_path, "y\n1\n", "sleep.csv")
    with pytest.raises(DataError, match=r"does not exist\. Check the path\.") as caught:
        read_table(tmp_path / where)
    assert caught.value.path == str(tmp_path / where)


def test_table_pasted_as_text_is_taken_for_a_missing_file():
    with pytest.raises(DataError, match="does not exist"):
        read_table("y,g\n" * 2000)


def test_unreadable_files_are_refused_in_one_line(tmp_path):
    cases = {
        "is empty; a header line and rows": write(tmp_path, "", "empty.csv"),
        "has a header but no rows": write(tmp_path, "y,g\n", "header.csv"),
        "is a folder; a CSV or Parquet file": tmp_path,
        "cannot be read as CSV or Parquet: ": write(tmp_path, "y,g\n1,2\n", "not.parquet"),
        "cannot be read as CSV or Parquet: it is not UTF-8": write(
            tmp_path, "y,ä\n1,ö\n", "l.csv", "latin-1"
        ),
    }
    for message, path in cases.items():
        with pytest.raises(DataError) as caught:
            read_table(path)
        assert message in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_parquet_without_rows_is_refused(tmp_path):
    path = tmp_path / "none.parquet"
    pl.DataFrame({"y": []}, schema={"y": pl.Float64}).write_parquet(path)
    with pytest.raises(DataError, match="no rows"):
        read_table(path)


def test_frame_without_rows_is_refused():
    with pytest.raises(DataError, match="0 rows came"):
        columns_of("y ~ 1 + (1|g)", pd.DataFrame({"y": [], "g": []}))


# -- what is no table ------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [None, 3, [1, 2], np.ones((3, 2)), pd.Series([1.0])])
def test_other_objects_are_refused_by_type(thing):
    message = f"A {type(thing).__name__} is no table; expected a dataframe, a mapping of columns"
    with pytest.raises(DataError, match=message):
        read_table(thing)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"y": [1, 2], "g": ["a"]}, "of one length; came: y 2, g 1"),
        ({"y": [1, 2], "g": "ab"}, "came: y 2, g a single value"),
        ({"y": [1, 2], "g": 3}, "came: y 2, g a single value"),
        ({"y": iter([1, 2]), "g": [1, 2]}, "came: y a single value, g 2"),
        ({"y": [[1], [2, 3]], "g": [1]}, "came: y 2, g 1"),
        ({"y": np.ones((2, 2)), "g": [1, 2]}, "no plain sequences"),
        ({1: [1.0], "1": [2.0]}, "same name as text, such as 1 and '1'"),
    ],
)
def test_malformed_mappings_are_refused(data, message):
    with pytest.raises(DataError) as caught:
        read_table(data)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame([[1.0, "a", 2.0]], columns=["y", "g", "y"]),
        pa.table([[1.0], ["a"], [2.0]], names=["y", "g", "y"]),
    ],
    ids=["pandas", "pyarrow"],
)
def test_duplicate_column_names_are_refused(data):
    with pytest.raises(DataError, match=r"columns of the same name; rename\. .*'y'"):
        columns_of("y ~ 1 + (1|g)", data)


def test_names_that_become_duplicates_as_text_are_refused_where_used():
    data = pd.DataFrame([[1.0, 2.0, "a"], [2.0, 3.0, "b"]], columns=[1, "1", "g"])
    assert list(read_table(data).columns) == ["1", "1", "g"]
    with pytest.raises(DataError, match="2 columns named '1'; rename"):
        columns_of("`1` ~ 1 + (1|g)", data)


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["y", "x"])
@pytest.mark.parametrize("dtype", ["float64", "Float64", "float32", "double[pyarrow]"])
def test_infinity_is_refused_not_dropped(name, dtype):
    data = pd.DataFrame({"y": [1.0, 2, 3, 4], "x": [0.0, 1, 0, 2], "g": list("aabb")})
    data.loc[[1, 3], name] = [np.inf, -np.inf]
    data[name] = data[name].astype(dtype)
    with pytest.raises(DataError, match=r"holds an infinite value \(row 2, 2 in all\)") as caught:
        columns_of("y ~ x + (1|g)", data)
    assert (caught.value.column, caught.value.row) == (name, 2)


def test_infinity_in_a_csv_is_refused(tmp_path):
    with pytest.raises(DataError, match="Column 'y' holds an infinite value"):
        columns_of("y ~ 1 + (1|g)", write(tmp_path, "y,g\n1.0,a\ninf,b\n"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "2"], "holds numbers stored as"),
        (pd.Categorical([1, 2]), "holds numbers stored as category"),
        ([1, "x"], "row 2 holds 'x'"),
        ([None, "x"], "row 2 holds 'x'"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "row 1 holds '2020-01-01"),
        ([1j, 2], "row 1 holds '1j'"),
    ],
)
def test_what_is_no_number_is_told_by_value_or_type(values, message):
    with pytest.raises(DataError) as caught:
        require_numbers(pd.DataFrame({"y": values}), "y")
    assert "Column 'y'" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "dtype",
    ["int8", "uint64", "float16", "bool", "Int64", "Float64", "boolean", "double[pyarrow]"],
)
def test_every_numeric_type_is_a_response_and_a_covariate(dtype):
    values = pd.Series([1, 0, 1, 1, 0, 1]).astype(dtype)
    data = pd.DataFrame({"y": values, "x": values, "g": list("aabbcc")})
    response = "I(1 * y)" if dtype.startswith("bool") else "y"
    made = columns_of(f"{response} ~ x + (1|g)", data)
    assert made.y.dtype == np.float64
    np.testing.assert_array_equal(made.y, [1, 0, 1, 1, 0, 1])
    assert made.spec.fixed.names == ("Intercept", "x")
    np.testing.assert_array_equal(made.X[:, 1], made.y)


def test_polars_decimals_are_numbers():
    data = pl.DataFrame({"y": ["1.5", "2.25", "4"], "g": ["a", "b", "b"]})
    data = data.with_columns(pl.col("y").cast(pl.Decimal(10, 2)))
    np.testing.assert_array_equal(columns_of("y ~ 1 + (1|g)", data).y, [1.5, 2.25, 4.0])


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame])
def test_polars_columns_of_lists_do_no_harm_unless_used(kind):
    data = kind({"y": [1.0, 2.0], "g": ["a", "b"], "tags": [[1, 2], [3, 4]]})
    assert columns_of("y ~ 1 + (1|g)", data).spec.factors[0].levels == ("a", "b")


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame])
def test_polars_needs_no_pyarrow(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    data = kind({"y": [1.0, 2.0, 4.0], "x": [1, None, 3], "g": ["b", "b", "a"]})
    with pytest.warns(MissingRowsWarning):
        made = columns_of("y ~ x + (1|g)", data)
    assert made.spec.factors[0].levels == ("a", "b")
    np.testing.assert_array_equal(made.X[:, 1], [1, 3])


# -- the grouping column ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "levels", "codes"),
    [
        ([10, 2, 10], ("2", "10"), [1, 0, 1]),
        ([10.0, 2.0, 10.0], ("2", "10"), [1, 0, 1]),
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        (pd.array([10, 2, 10], dtype="Int64"), ("2", "10"), [1, 0, 1]),
        (pd.array([10, 2, 10], dtype="Float64"), ("2", "10"), [1, 0, 1]),
        (pd.array(["b", "a", "b"], dtype="string"), ("a", "b"), [1, 0, 1]),
        (pd.array([True, False, True], dtype="boolean"), ("False", "True"), [1, 0, 1]),
        (pd.array(["b", "a", "b"], dtype="string[pyarrow]"), ("a", "b"), [1, 0, 1]),
        (pd.Categorical(["b", "a", "b"], ["z", "b", "y", "a"]), ("b", "a"), [0, 1, 0]),
        (pd.Categorical([3, 1, 3], [3, 2, 1]), ("3", "1"), [0, 1, 0]),
        ([1, "a", 2.5], ("1", "2.5", "a"), [0, 2, 1]),
        ([("b", 1), ("a", 2), ("b", 1)], ("('a', 2)", "('b', 1)"), [1, 0, 1]),
        ([1j, "a", 1j], ("1j", "a"), [0, 1, 0]),
        (
            [datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)],
            ("2020-01-01", "2020-01-02"),
            [1, 0],
        ),
    ],
)
def test_grouping_column_of_any_type_gives_levels_in_order(values, levels, codes):
    made, names = group_codes(pd.Series(values, name="g"))
    assert names == levels
    np.testing.assert_array_equal(made, codes)
    assert made.dtype == np.intp


def test_levels_that_look_the_same_are_refused():
    message = "Grouping column 'g' holds '1' both as text and as a number"
    with pytest.raises(DataError, match=message):
        columns_of("y ~ 1 + (1|g)", {"y": [1.0, 2, 3], "g": np.array([1, "1", 2], dtype=object)})


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame, lambda d: pl.DataFrame(d).to_arrow()])
def test_order_of_polars_and_arrow_categories_is_kept(kind):
    levels = pl.Series(["lo", "hi", "lo", "hi"], dtype=pl.Enum(["lo", "mid", "hi"]))
    made = columns_of("y ~ g + (1|g)", kind({"y": [1.0, 2.0, 3.0, 5.0], "g": levels}))
    assert made.spec.factors[0].levels == ("lo", "hi")
    assert made.spec.fixed.names == ("Intercept", "g[hi]")


# -- the user's table ------------------------------------------------------------------------------


def test_users_frame_is_not_changed():
    data = make_frame()
    data["f"] = pd.Categorical(data["f"], ["z", "a", "b", "c"])
    data["s"] = pd.array(data["g"].astype(str), dtype="string")
    data.loc[3, "x"] = np.nan
    data.columns = pd.Index([*data.columns[:-1], 7])
    before = data.copy(deep=True)
    with pytest.warns(MissingRowsWarning):
        build_model("log(y + 100) ~ x + f + scale(z) + (1|`7`)", data)
    pd.testing.assert_frame_equal(data, before)


def test_users_arrays_are_not_changed():
    data = {k: v.to_numpy(copy=True) for k, v in make_frame().items()}
    before = {k: v.copy() for k, v in data.items()}
    rf.fit("y ~ x + f + (1|g)", data, draws=1000, chains=1, seed=1, priors={"x": "norm(0, 1)"})
    for name, values in before.items():
        np.testing.assert_array_equal(data[name], values)


ODD = {
    "x": [
        "reaction time (ms)",
        "größe_µm",
        "a/b",
        "100 %",
        "dose [mg]",
        "b-c",
        "Sepal.Length",
    ],
    "f and g": [
        ("type (a/b)", "subject no"),
        ("kind [1]", "site/ward"),
        ("f g", "5%"),
        ("f.h", "größe (µ)"),
        ("f", "a.b"),
    ],
}


@cache
def plain_summary(formula, **priors):
    """Summary of the same fit with plain names."""
    made = rf.fit(formula, make_frame(), draws=1000, seed=5, priors=priors)
    return made.summary()


@pytest.mark.parametrize(("f", "g"), ODD["f and g"])
def test_odd_names_of_factors_and_groups_go_through_fit_and_file(f, g, tmp_path):
    data = make_frame().rename(columns={"f": f, "g": g, "y": "y / kg (m²)"})
    made = rf.fit(f"`y / kg (m²)` ~ `{f}` + (1|`{g}`)", data, draws=1000, seed=5)
    plain = plain_summary("y ~ f + (1|g)")
    names = ["Intercept", f"{f}[b]", f"{f}[c]", f"1|{g}_sigma", "sigma"]
    assert list(made.summary().index) == names
    np.testing.assert_array_equal(made.summary().to_numpy(), plain.to_numpy())
    assert made.effects().index.name == g
    made.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    assert again.draws.identical(made.draws)
    assert str(again) == str(made)
    assert list(again.summary().index) == names


@pytest.mark.parametrize("x", ODD["x"])
def test_odd_names_of_covariates_go_through_fit_and_file(x, tmp_path):
    data = make_frame().rename(columns={"x": x})
    formula = f"y ~ `{x}` + `{x}`:f + (1|g)"
    made = rf.fit(formula, data, draws=1000, seed=5, priors={x: "norm(0, 10)"})
    plain = plain_summary("y ~ x + x:f + (1|g)", x="norm(0, 10)")
    renamed = [n.replace("x", x, 1) if n.startswith("x") else n for n in plain.index]
    assert len(renamed) == 6
    assert list(made.summary().index) == renamed
    np.testing.assert_array_equal(made.summary().to_numpy(), plain.to_numpy())
    made.save(tmp_path / "fit.nc")
    assert rf.load(tmp_path / "fit.nc").draws.identical(made.draws)
    titles = [a.get_title() for a in made.plot.density(truth={x: 2.0}).axes]
    assert titles[1] == x.replace("/", "\u2215")


@pytest.mark.parametrize("value", [[1, 2], {}, {1}])
def test_a_column_of_collections_is_refused_by_name(value):
    data = pd.DataFrame({"y": [1.0, 2, 4, 3], "x": [0.0, 2, 1, 1], "g": ["a", "a", "b", "b"]})
    for column in ("g", "x"):
        bad = data.astype({column: object})
        bad.at[2, column] = value
        with pytest.raises(rf.DataError, match=f"'{column}' holds a .* in row 3"):
            rf.fit("y ~ x + (1|g)", bad, draws=40)

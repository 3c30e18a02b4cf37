"""How a number is stored changes nothing: small, nullable, Arrow, Decimal and object columns."""

from __future__ import annotations

import datetime
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ranef as rf
from ranef.data.tables import read_table
from ranef.data.types import plain_types
from ranef.formula.new_rows import new_rows
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate

TYPES = [
    *["int8", "int16", "int32", "uint8", "uint16", "float16", "float32", "Int8", "UInt8"],
    *["int8[pyarrow]", "uint8[pyarrow]", "float[pyarrow]", "Float32"],
]


def rows_of(formula, data):
    return evaluate(parse_formula(formula), read_table(data))


def ages():
    """Sixty rows whose squares do not fit into eight bits."""
    rng = np.random.default_rng(0)
    n = 60
    g = np.arange(n) % 6
    age = rng.integers(18, 80, n)
    y = 0.002 * (age - 50) ** 2 + rng.normal(size=6)[g] + 0.3 * rng.normal(size=n)
    b = np.random.default_rng(1).integers(0, 100, n)
    return pd.DataFrame({"y": y, "age": age, "b": b, "g": g})


FORMULAS = [
    "y ~ age + I(age**2) + (1|g)",
    "y ~ age:b + (age:b|g)",
    "I(age - b) ~ 1 + (1|g)",
    "y ~ offset(age * 3) + (1|g)",
    "y ~ scale(age) + np.exp(b / 50) + (I(age * b)|g)",
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("formula", FORMULAS)
def test_columns_of_every_type_give_the_same_rows(formula, dtype):
    data = ages()
    stored = data.astype({"age": dtype, "b": dtype})
    ours, wanted = rows_of(formula, stored), rows_of(formula, data.astype(float))
    np.testing.assert_array_equal(ours.y, wanted.y)
    np.testing.assert_array_equal(ours.X, wanted.X)
    np.testing.assert_array_equal(ours.slopes, wanted.slopes)
    np.testing.assert_array_equal(ours.response, wanted.response)
    assert ours.spec.fixed.names == wanted.spec.fixed.names
    again = new_rows(ours.spec, stored.head(9), "mean", "conditional")
    np.testing.assert_allclose(again.X, wanted.X[:9], rtol=1e-14)
    np.testing.assert_array_equal(again.offset, wanted.y[:9] - wanted.response[:9])


def as_objects(values):
    return {
        "objects of int": np.array(values.tolist(), dtype=object),
        "objects of numpy": np.array([np.int16(v) for v in values], dtype=object),
        "objects of Decimal": np.array([Decimal(int(v)) for v in values], dtype=object),
        "Arrow decimals": pd.array(
            [Decimal(int(v)) for v in values], dtype=pd.ArrowDtype(pa.decimal128(9, 2))
        ),
    }


@pytest.mark.parametrize("kind", as_objects(np.arange(1)))
def test_objects_that_are_numbers_are_numbers(kind):
    data = ages()
    stored = data.assign(**{n: as_objects(data[n])[kind] for n in ("age", "b")})
    for formula in FORMULAS:
        ours, wanted = rows_of(formula, stored), rows_of(formula, data)
        np.testing.assert_array_equal(ours.X, wanted.X)
        np.testing.assert_array_equal(ours.response, wanted.response)


@pytest.mark.parametrize("kind", as_objects(np.arange(1)))
def test_objects_that_are_numbers_go_through_files(kind, tmp_path):
    data = ages()
    stored = data.assign(age=as_objects(data["age"])[kind])
    fit = rf.fit("y ~ age + (1|g)", stored, draws=1000, seed=1)
    fit.save(tmp_path / "fit.nc")
    np.testing.assert_array_equal(rf.load(tmp_path / "fit.nc").source.rows.X, fit.source.rows.X)


def test_sixteen_bit_years_and_long_integers_are_squared():
    data = pd.DataFrame({"y": np.arange(6.0), "g": list("aabbcc")})
    data["year"] = np.arange(2000, 2006).astype("int16")
    data["long"] = np.arange(1, 7) * 10**10
    made = rows_of("y ~ I(year**2) + I(long**2) + (1|g)", data)
    np.testing.assert_array_equal(made.X[:, 1], np.arange(2000.0, 2006) ** 2)
    np.testing.assert_allclose(made.X[:, 2], (np.arange(1.0, 7) * 1e10) ** 2, rtol=1e-15)


def test_fit_of_an_eight_bit_column_is_that_of_the_wide_one(tmp_path):
    data = ages()
    path = tmp_path / "ages.parquet"
    with duckdb.connect() as connection:
        connection.register("ages", data)
        query = "SELECT y, age::TINYINT AS age, g FROM ages"
        connection.sql(query).write_parquet(str(path))
    formula = "y ~ age + I(age**2) + (1|g)"
    polars = pl.DataFrame(data.to_dict("list")).with_columns(pl.col("age").cast(pl.Int8))
    for stored in (data.astype({"age": "int8"}), polars, path):
        summary = rf.fit(formula, stored, draws=1000, seed=1).summary()
        assert summary.loc["age", "mean"] == pytest.approx(-0.211, abs=2e-3)
        assert summary.loc["sigma", "mean"] == pytest.approx(0.309, abs=5e-3)


def test_whole_numbers_inside_c_alone_stay_labels():
    data = ages().assign(dose=lambda d: (d["g"] % 3).astype("int8"))
    assert rows_of("y ~ C(dose) + (1|g)", data).spec.fixed.names[1:] == ("C(dose)[1]", "C(dose)[2]")
    made = rows_of("y ~ C(dose) + age + (1|dose)", data)
    assert made.spec.fixed.names[1:] == ("C(dose)[1]", "C(dose)[2]", "age")
    assert made.spec.factors[0].levels == ("0", "1", "2")


def test_truth_values_are_added_as_numbers():
    data = ages().assign(s=lambda d: d["age"] > 40, t=lambda d: d["b"] > 50)
    made = rows_of(
        "y ~ I(s + t) + I(s & t) + s + (1|g)", data.drop(columns="t").assign(t=data["t"])
    )
    np.testing.assert_array_equal(
        rows_of("y ~ I(s + t) + (1|g)", data).X[:, 1], data["s"].astype(int) + data["t"]
    )
    np.testing.assert_array_equal(made.X[:, 2], data["s"] & data["t"])


def test_long_labels_in_objects_stay_apart():
    g = np.array([2**70, 2**70 + 1, 2**70, 2**70 + 1], dtype=object)
    made = rows_of("y ~ 1 + (1|g)", {"y": [1.0, 2, 3, 5], "g": g})
    assert made.spec.factors[0].levels == (str(2**70), str(2**70 + 1))


@pytest.mark.parametrize("missing", [None, np.nan, Decimal("NaN")])
def test_missing_values_among_objects_are_missing(missing):
    x = np.array([Decimal("1.5"), missing, Decimal(2), Decimal(4)], dtype=object)
    with pytest.warns(rf.MissingRowsWarning, match="1 of 4 rows"):
        made = rows_of("y ~ x + (1|g)", {"y": [1.0, 2, 3, 5], "x": x, "g": list("abab")})
    np.testing.assert_array_equal(made.X[:, 1], [1.5, 2, 4])


@pytest.mark.parametrize("infinite", [np.inf, Decimal("-Infinity"), np.float32(np.inf)])
def test_infinity_among_objects_is_refused(infinite):
    x = np.array([1, infinite, 2, 4], dtype=object)
    with pytest.raises(rf.DataError, match=r"'x' holds an infinite value \(row 2, 1 in all\)"):
        rows_of("y ~ x + (1|g)", {"y": [1.0, 2, 3, 5], "x": x, "g": list("abab")})


def test_plain_types_keep_what_is_no_number():
    frame = pd.DataFrame(
        {
            "mixed": np.array([1, "a", 2.5], dtype=object),
            "truth and number": np.array([True, 2, 3], dtype=object),
            "text": ["1", "2", "3"],
            "long": np.array([2**63, 1, 2], dtype=np.uint64),
        }
    )
    pd.testing.assert_frame_equal(plain_types(frame), frame)


DAYS = [datetime.date(2020, 1, 1) + datetime.timedelta(days=k) for k in range(6)]
TIMES = [datetime.datetime(2020, 1, 1 + k) for k in range(6)]
DATES = {
    "objects of date": (pd.DataFrame, DAYS),
    "objects of datetime": (pd.DataFrame, pd.Series(TIMES, dtype=object)),
    "polars dates": (pl.DataFrame, DAYS),
    "polars datetimes": (pl.DataFrame, TIMES),
    "polars durations": (pl.DataFrame, [t - TIMES[0] for t in TIMES]),
    "Arrow dates": (pa.table, DAYS),
    "Arrow dates in pandas": (
        pd.DataFrame,
        pd.Series(DAYS, dtype=pd.ArrowDtype(pa.date32())),
    ),
    "Arrow datetimes in pandas": (
        pd.DataFrame,
        pd.Series(TIMES, dtype=pd.ArrowDtype(pa.timestamp("us"))),
    ),
}


@pytest.mark.parametrize("kind", DATES)
@pytest.mark.parametrize(
    ("formula", "what"),
    [
        ("y ~ day + (1|g)", "Fixed effect 'day' holds"),
        ("y ~ I(day) + (1|g)", "Fixed effect 'day' holds"),
        ("y ~ 1 + (day|g)", "Group slope 'day' holds"),
        ("y ~ 1 + (0 + day||g)", "Group slope 'day' holds"),
    ],
)
def test_dates_are_refused_with_what_to_do(formula, what, kind):
    make, days = DATES[kind]
    data = make({"y": [1.0, 2, 3, 5, 4, 1], "day": days, "g": list("ababab")})
    with pytest.raises(rf.DataError, match=what) as caught:
        rows_of(formula, data)
    assert "days since a date" in str(caught.value)
    assert "C(day)" in str(caught.value)


@pytest.mark.filterwarnings("ignore::ranef.errors.SingleRowWarning")
@pytest.mark.parametrize("kind", DATES)
def test_dates_may_be_factors_and_groups(kind):
    make, days = DATES[kind]
    data = make(
        {"y": [1.0, 2, 3, 5, 4, 1, 7, 8], "day": list(days) + list(days[:2]), "g": [*"ab"] * 4}
    )
    made = rows_of("y ~ C(day) + (1|day)", data)
    assert made.X.shape == (8, 6)
    assert len(made.spec.factors[0].levels) == 6

"""Names of levels: the same value is the same level, and a near miss is a question."""

from __future__ import annotations

import datetime
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import ranef as rf
from ranef.data.tables import read_table
from ranef.errors import DataError, SimilarLabelsWarning
from ranef.formula.labels import level_names
from ranef.formula.new_rows import new_rows
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate

N = 24
Y = np.random.default_rng(8).normal(size=N)
X = np.random.default_rng(9).normal(size=N)


def spec_of(formula, **columns):
    return evaluate(parse_formula(formula), read_table({"y": Y, "x": X, **columns})).spec


def codes_of(spec, labels, groups="new"):
    """Level of each new row, and names of those that are new."""
    rows = new_rows(spec, {"g": labels}, "mean", groups)
    return rows.codes[0].tolist(), rows.new_levels[0]


DAYS = pd.date_range("2020-01-01", periods=4)
TIMES = pd.date_range("2020-01-01 06:30", periods=4, freq="12h")


@pytest.mark.parametrize(
    ("fitted", "new"),
    [
        ([0.0, 0.5, 1.0, 1.5], pd.Categorical([1.0, 0.0])),
        (["0", "1", "2", "3"], [2, 0]),
        (["0", "1", "2", "3"], [2.0, 0.0]),
        ([0, 1, 2, 3], ["2", "0"]),
        ([0, 1, 2, 3], np.array([2, 0], dtype="uint8")),
        ([0, 1, 2, 3], np.array([Decimal(2), Decimal("0.0")], dtype=object)),
        ([0, 1, 2, 3], pd.Categorical([2.0, 0.0])),
        (["0", "1", "2", "3"], np.array([2, "0"], dtype=object)),
        (DAYS, ["2020-01-03", "2020-01-01"]),
        (DAYS, [datetime.date(2020, 1, 3), datetime.date(2020, 1, 1)]),
        (DAYS, np.array([DAYS[2], DAYS[0]], dtype=object)),
        (DAYS.astype(str), [DAYS[2], DAYS[0]]),
        ([d.date() for d in DAYS], [DAYS[2], DAYS[0]]),
        (TIMES, [str(TIMES[2]), str(TIMES[0])]),
        (TIMES, [TIMES[2].to_pydatetime(), TIMES[0].to_pydatetime()]),
    ],
)
def test_the_same_value_of_another_type_is_the_same_level(fitted, new):
    values = list(fitted) * 6
    g = pd.Categorical(values) if isinstance(fitted[1], float) else pd.Series(values)
    spec = spec_of("y ~ 1 + (1|g)", g=g)
    assert codes_of(spec, new, "conditional") == ([2, 0], ())


@pytest.mark.parametrize(
    ("fitted", "new"),
    [
        (["00002709", "00000012"], 2709),
        (["00002709", "00000012"], "2709"),
        ([2709, 12], "00002709"),
        (["1.0", "2.0"], "1"),
        (["1", "2"], "1.0"),
        (["001", "002"], 1),
        (["1", "2"], " 1"),
        (["a b", "c"], "A  b"),
        (["s1", "s2"], "S01"),
        (["site 1", "site 2"], "site1"),
        (["True", "False"], "true"),
        (list(DAYS[:2]), "2020-01-01 00:00:00"),
        (list(DAYS[:2].astype(str)), "2020-1-1"),
    ],
)
@pytest.mark.parametrize("groups", ["new", "conditional"])
def test_near_misses_name_both_labels_and_are_no_new_groups(fitted, new, groups):
    spec = spec_of("y ~ 1 + (1|g)", g=pd.Series(fitted * 12))
    with pytest.raises(DataError) as caught:
        codes_of(spec, [new], groups)
    for name in (str(new), level_names([fitted[0]])[0]):
        assert repr(name) in str(caught.value)
    assert new_rows(spec, {"x": [1.0]}, "mean", "marginal").codes[0].tolist() == [-1]


@pytest.mark.parametrize("new", ["00002710", 2710, "other", "2709b", datetime.date(2021, 1, 1)])
def test_labels_that_are_new_are_new(new):
    spec = spec_of("y ~ 1 + (1|g)", g=["00002709", "00000012"] * 12)
    assert codes_of(spec, ["00000012", new]) == ([0, 2], (str(new),))


def test_decimal_numbers_are_known_or_refused():
    spec = spec_of("y ~ 1 + (1|g)", g=pd.Categorical([0.5, 1.0, 2.5] * 8))
    assert codes_of(spec, [2.5, 1.0]) == ([2, 1], ())
    with pytest.raises(DataError, match="decimal numbers"):
        codes_of(spec, [2.5, 2.7])


def test_columns_of_a_combination_are_compared_each():
    spec = spec_of("y ~ 1 + (1|a:b)", a=["01", "02"] * 12, b=list("uuvvww") * 4)
    rows = new_rows(spec, {"a": ["01", "03"], "b": ["u", "u"]}, "mean", "new")
    assert rows.new_levels == (("03:u",),)
    with pytest.raises(DataError, match=r"'a' of the new rows holds '1'.*'01'"):
        new_rows(spec, {"a": [1], "b": ["u"]}, "mean", "new")
    with pytest.raises(DataError, match=r"'b' of the new rows holds 'U'.*'u'"):
        new_rows(spec, {"a": ["03"], "b": ["U"]}, "mean", "new")


@pytest.mark.parametrize("formula", ["y ~ x + (1|dose)", "y ~ dose + (1|h)", "y ~ 1 + (dose||h)"])
def test_rows_of_the_data_are_known_whichever_stand_beside_them(formula):
    k = np.random.default_rng(8).integers(0, 9, 90)
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": rng.normal(size=90), "x": rng.normal(size=90)})
    data = data.assign(dose=pd.Categorical(k / 2.0), h=np.arange(90) % 10)
    made = evaluate(parse_formula(formula), read_table(data))
    some = data["dose"].isin([1.0, 3.0])
    part = data[some].assign(dose=data["dose"][some].cat.remove_unused_categories())
    for new in (part, part.assign(dose=part["dose"].astype(float))):
        rows = new_rows(made.spec, new, "mean", "conditional")
        np.testing.assert_allclose(rows.X, made.X[some.to_numpy()])
        np.testing.assert_array_equal(rows.codes[0], made.codes[0][some.to_numpy()])


LABELS = {
    "days": DAYS,
    "times": TIMES,
    "dates": [d.date() for d in DAYS],
    "time zone": pd.date_range("2020-01-01", periods=4, tz="Europe/Berlin"),
    "durations": pd.to_timedelta([2, 10, 9, 1], unit="D"),
    "long": [2**70, 9, 10, 11],
    "mixed": [9, 10, "a", 2.5],
    "categories of decimals": pd.Categorical([1.0, 0.5, 10.0, 9.5], [10.0, 0.5, 9.5, 1.0]),
    "categories of days": pd.Categorical(DAYS, DAYS[::-1]),
    "truth": [True, False, True, False],
    "periods": pd.period_range("2020-01", periods=4, freq="M"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_groups_of_every_type_are_the_same_after_save_and_load(kind, tmp_path):
    values = list(LABELS[kind]) * 6
    dtype = object if kind in ("long", "mixed", "dates") else None
    if kind.startswith("categories"):
        g = pd.Series(pd.Categorical(values, LABELS[kind].categories))
    else:
        g = pd.Series(values, dtype=dtype)
    data = pd.DataFrame({"y": 3 * (np.arange(N) % 4) + Y, "g": g})
    fit = rf.fit("y ~ 1 + (1|g)", data, draws=1000, seed=1, priors={"1|g": "half_t(3)"})
    fit.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    factor = fit.source.model.spec.factors[0]
    assert again.source.model.spec.factors[0].levels == factor.levels
    new = data.head(4)
    expected = fit.predict(new).table()
    pd.testing.assert_frame_equal(again.predict(new).table(), expected, rtol=1e-9)
    one = again.predict(new.iloc[[1]]).table()
    pd.testing.assert_frame_equal(one, expected.iloc[[1]], rtol=1e-9)


def test_dates_as_factors_are_the_same_after_save_and_load(tmp_path):
    data = pd.DataFrame({"y": Y, "day": list(DAYS) * 6, "g": np.arange(N) % 5})
    fit = rf.fit("y ~ C(day) + (1|g)", data, draws=1000, seed=1)
    fit.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    assert again.source.model.spec.fixed.names == fit.source.model.spec.fixed.names
    new = data.head(3)
    pd.testing.assert_frame_equal(again.predict(new).table(), fit.predict(new).table(), rtol=1e-9)


@pytest.mark.parametrize("formula", ["y ~ 1 + (1|f)", "y ~ f + (1|h)", "y ~ 1 + (f|h)"])
@pytest.mark.parametrize(
    "pair",
    [
        ("x", "X"),
        ("y", "y "),
        ("a b", "a  b"),
        ("1", "01"),
        ("1", "1.0"),
        ("site 1", "Site 01"),
        ("2020-1-31", "2020-01-31"),
    ],
)
def test_levels_that_look_like_one_warn(formula, pair):
    f = pd.Categorical([pair[0], pair[1], "z"] * 8)
    with pytest.warns(SimilarLabelsWarning) as caught:
        spec_of(formula, f=f, h=np.arange(N) % 5)
    assert len(caught) == 1
    assert f"Column 'f' has the levels {pair[0]!r} and {pair[1]!r}" in str(caught[0].message)


@pytest.mark.parametrize("pair", [(1, "01"), (1, "1.0"), (1.0, "01")])
def test_numbers_beside_text_that_looks_like_them_warn(pair):
    g = np.array([*pair, "z"] * 8, dtype=object)
    with pytest.warns(SimilarLabelsWarning, match=f"'1' and {pair[1]!r}"):
        spec = spec_of("y ~ 1 + (1|g)", g=g)
    assert len(spec.factors[0].levels) == 3


@pytest.mark.parametrize(
    "labels",
    [
        [f"{k:03}" for k in range(12)],
        [f"s{k:02}" for k in range(12)],
        [f"site {k:02} {11 - k:02}" for k in range(12)],
        ["1 11", "11 1", "0 1", "1 0"],
        ["10", "1", "100", "s10", "s1", "s100"],
        [1, 1.0, 2.0, 2],
    ],
)
def test_labels_that_are_different_numbers_do_not_warn(labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SimilarLabelsWarning)
        spec = spec_of("y ~ 1 + (1|g)", g=np.resize(np.array(labels, dtype=object), N))
    assert len(spec.factors[0].levels) == len(set(labels))


def test_levels_are_named_by_value_in_questions_to_a_fit():
    dose = pd.Categorical(np.array([0.0, 0.5, 1.0])[np.arange(N) % 3])
    data = pd.DataFrame({"y": Y, "dose": dose, "k": np.arange(N) % 4})
    fit = rf.fit("y ~ dose + (1|k)", data, draws=1000, seed=1)
    assert fit.marginal_means("dose").labels == ("0", "0.5", "1")
    assert fit.effects(compare=(1.0, 2)).index[0] == fit.effects(compare=("1", "2")).index[0]

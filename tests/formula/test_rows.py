"""Formula and table to arrays: names as Bambi writes them, values as the table holds them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ranef.errors import DataError, FormulaError, MissingRowsWarning, RanefError
from ranef.formula.fixed_effects import FixedTerm
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate

N = 12
DATA = pd.DataFrame(
    {
        "y": [1.0, 3.0, 2.0, 5.0, 4.0, 7.0, 6.0, 9.0, 8.0, 11.0, 10.0, 12.0],
        "x": np.arange(1.0, N + 1),
        "z": [0.5, -1.0, 2.0, 0.0] * 3,
        "f": ["a", "b", "c"] * 4,
        "h": ["u", "v", "v", "u", "u", "v"] * 2,
        "flag": [True, False] * 6,
        "g": [1, 1, 2, 2, 3, 3] * 2,
        "C": np.arange(N) % 5,
        "I": np.arange(N) % 7,
        "np": np.arange(N) % 4 + 1.0,
        "a.b": np.arange(N)[::-1],
    }
)
ONE = np.ones(N)


def columns(text, data=DATA):
    """Evaluate a formula on the data."""
    return evaluate(parse_formula(text), data)


def phrase(text, data=DATA, error=RanefError):
    """Message of the error that a formula gives."""
    with pytest.raises(error) as caught:
        columns(text, data)
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    return message


def is_(column, *levels):
    """Rows in which a text column has one of the levels, as 0 and 1."""
    return DATA[column].isin(levels).to_numpy(dtype=float)


INTERCEPT = FixedTerm("Intercept", (0,))
x, z = DATA["x"].to_numpy(), DATA["z"].to_numpy()
CASES = {
    "1 + x": ([INTERCEPT, FixedTerm("x", (1,))], {"Intercept": ONE, "x": x}),
    "x": ([INTERCEPT, FixedTerm("x", (1,))], {"Intercept": ONE, "x": x}),
    "0 + x": ([FixedTerm("x", (0,))], {"x": x}),
    "x - 1": ([FixedTerm("x", (0,))], {"x": x}),
    "-1 + x": ([FixedTerm("x", (0,))], {"x": x}),
    "0": ([], {}),
    "f": (
        [INTERCEPT, FixedTerm("f", (1, 2), ("b", "c"))],
        {"Intercept": ONE, "f[b]": is_("f", "b"), "f[c]": is_("f", "c")},
    ),
    "0 + f": (
        [FixedTerm("f", (0, 1, 2), ("a", "b", "c"))],
        {"f[a]": is_("f", "a"), "f[b]": is_("f", "b"), "f[c]": is_("f", "c")},
    ),
    "h": ([INTERCEPT, FixedTerm("h", (1,), ("v",))], {"Intercept": ONE, "h[v]": is_("h", "v")}),
    "flag": (
        [INTERCEPT, FixedTerm("flag", (1,))],
        {"Intercept": ONE, "flag": [1.0, 0.0] * 6},
    ),
    "x:z": ([INTERCEPT, FixedTerm("x:z", (1,))], {"Intercept": ONE, "x:z": x * z}),
    "x + x:f": (
        [INTERCEPT, FixedTerm("x", (1,)), FixedTerm("x:f", (2, 3), ("b", "c"))],
        {"Intercept": ONE, "x": x, "x:f[b]": x * is_("f", "b"), "x:f[c]": x * is_("f", "c")},
    ),
    "f*h": (
        [
            INTERCEPT,
            FixedTerm("f", (1, 2), ("b", "c")),
            FixedTerm("h", (3,), ("v",)),
            FixedTerm("f:h", (4, 5), ("b, v", "c, v")),
        ],
        {
            "Intercept": ONE,
            "f[b]": is_("f", "b"),
            "f[c]": is_("f", "c"),
            "h[v]": is_("h", "v"),
            "f[b]:h[v]": is_("f", "b") * is_("h", "v"),
            "f[c]:h[v]": is_("f", "c") * is_("h", "v"),
        },
    ),
    "log(x)": ([INTERCEPT, FixedTerm("log(x)", (1,))], {"Intercept": ONE, "log(x)": np.log(x)}),
    "np.sqrt(x)": (
        [INTERCEPT, FixedTerm("np.sqrt(x)", (1,))],
        {"Intercept": ONE, "np.sqrt(x)": np.sqrt(x)},
    ),
    "I(x/2 + z)": (
        [INTERCEPT, FixedTerm("I(x / 2 + z)", (1,))],
        {"Intercept": ONE, "I(x / 2 + z)": x / 2 + z},
    ),
    "center(x)": (
        [INTERCEPT, FixedTerm("center(x)", (1,))],
        {"Intercept": ONE, "center(x)": x - 6.5},
    ),
    "scale(z)": (
        [INTERCEPT, FixedTerm("scale(z)", (1,))],
        {"Intercept": ONE, "scale(z)": (z - z.mean()) / z.std(ddof=1)},
    ),
    "C(f, contr.treatment('b'))": (
        [INTERCEPT, FixedTerm("C(f, contr.treatment('b'))", (1, 2), ("a", "c"))],
        {
            "Intercept": ONE,
            "C(f, contr.treatment('b'))[a]": is_("f", "a"),
            "C(f, contr.treatment('b'))[c]": is_("f", "c"),
        },
    ),
    "C(f, Sum)": (
        [INTERCEPT, FixedTerm("C(f, Sum)", (1, 2), ("S.a", "S.b"))],
        {
            "Intercept": ONE,
            "C(f, Sum)[S.a]": is_("f", "a") - is_("f", "c"),
            "C(f, Sum)[S.b]": is_("f", "b") - is_("f", "c"),
        },
    ),
}


@pytest.mark.parametrize("fixed", CASES)
def test_fixed_effects_have_bambis_names_and_the_tables_values(fixed):
    terms, expected = CASES[fixed]
    data = DATA.drop(columns=["C", "I", "np"])
    made = columns(f"y ~ {fixed} + (1|g)", data)
    assert made.spec.fixed.terms == tuple(terms)
    assert made.spec.fixed.names == tuple(expected)
    assert made.X.shape == (N, len(expected))
    for j, values in enumerate(expected.values()):
        np.testing.assert_allclose(made.X[:, j], values, rtol=1e-14, atol=1e-14)
    assert made.X.flags.c_contiguous


def test_polynomial_columns_are_orthogonal_and_span_the_powers():
    made = columns("y ~ poly(x, 2) + (1|g)")
    assert made.spec.fixed.names == ("Intercept", "poly(x, 2)[1]", "poly(x, 2)[2]")
    assert made.spec.fixed.terms == (INTERCEPT, FixedTerm("poly(x, 2)", (1, 2), ("1", "2")))
    P = made.X[:, 1:]
    np.testing.assert_allclose(P.T @ P, np.eye(2), atol=1e-13)
    powers = np.column_stack([ONE, x, x**2])
    rest = powers - made.X @ np.linalg.lstsq(made.X, powers, rcond=None)[0]
    np.testing.assert_allclose(rest, 0, atol=1e-10)


def test_rows_missing_inside_a_transform_are_dropped_too():
    data = DATA.assign(x=DATA["x"].where(DATA["x"] != 3))
    with pytest.warns(MissingRowsWarning, match="1 of 12 rows"):
        made = columns("y ~ poly(x, 2) + (1|g)", data)
    assert made.X.shape == (N - 1, 3)


@pytest.mark.parametrize("name", ["C", "I", "np", "a.b"])
def test_columns_named_like_functions_or_with_points_are_columns(name):
    made = columns(f"y ~ {name} + (1|g)")
    assert made.spec.fixed.names == ("Intercept", name)
    np.testing.assert_array_equal(made.X[:, 1], DATA[name])
    np.testing.assert_array_equal(columns(f"{name} ~ 1 + (1|g)").y, DATA[name])
    inside = columns(f"y ~ exp(`{name}`) + (1|g)")
    np.testing.assert_allclose(inside.X[:, 1], np.exp(DATA[name]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y ~ 1 + (1|g)", DATA["y"]),
        ("(y) ~ 1 + (1|g)", DATA["y"]),
        ("log(y) ~ 1 + (1|g)", np.log(DATA["y"])),
        ("I(y - x) ~ 1 + (1|g)", DATA["y"] - DATA["x"]),
        ("center(y) ~ x + (1|g)", DATA["y"] - DATA["y"].mean()),
        ("I(`a.b` / 2) ~ x + (1|g)", DATA["a.b"] / 2),
    ],
)
def test_response_is_the_column_or_what_is_computed_of_it(text, expected):
    made = columns(text)
    np.testing.assert_allclose(made.y, expected, rtol=1e-15)
    assert made.y.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "name", "hint"),
    [
        ("y ~ xx + (1|g)", "xx", "Did you mean 'x'?"),
        ("Y ~ x + (1|g)", "Y", "Did you mean 'y'?"),
        ("y ~ x + (1|gg)", "gg", "Did you mean 'g'?"),
        ("y ~ falg + (1|g)", "falg", "Did you mean 'flag'?"),
        ("y ~ log(falg) + (1|g)", "falg", "Did you mean 'flag'?"),
        ("y ~ poly(falg, 2) + (1|g)", "falg", "Did you mean 'flag'?"),
        ("y ~ log(`falg`) + (1|g)", "falg", "Did you mean 'flag'?"),
        ("y ~ a.c + (1|g)", "a.c", "Did you mean 'a.b'?"),
        ("log(yy) ~ x + (1|g)", "yy", "Did you mean 'y'?"),
        ("y ~ temperature + (1|g)", "temperature", "Known names: 'y', 'x', 'z', 'f'"),
        ("y ~ sqrtt(x) + (1|g)", "sqrtt", "Known names: 'y', 'x', 'z', 'f'"),
        ("y ~ foo.bar(x) + (1|g)", "foo", "Known names: 'y', 'x'"),
    ],
)
def test_unknown_name_is_told_with_the_nearest(text, name, hint):
    message = phrase(text, error=DataError)
    assert f"{name!r} is neither a column nor a known function. {hint}" in message


def test_unknown_name_is_an_attribute():
    with pytest.raises(DataError) as caught:
        columns("y ~ xx + (1|g)")
    assert caught.value.column == "xx"


@pytest.mark.parametrize(
    ("text", "position", "what"),
    [
        ("y ~ x x + (1|g)", 5, "Missing operator"),
        ("y ~ x ** + (1|g)", 7, "Operator `**` has insufficient arguments"),
        ("y ~ x[ + (1|g)", 5, "before quote context was closed"),
        ("y ~ x @ z + (1|g)", 7, "Unknown operator '@'"),
        ("y ~ x * 2 + (1|g)", 9, "Numeric literals other than `1`"),
        ('y ~ "abc" + (1|g)', 5, "String literals are not valid"),
    ],
)
def test_syntax_that_formulaic_refuses_is_told_with_its_position(text, position, what):
    with pytest.raises(FormulaError) as caught:
        columns(text)
    assert f"Formula {text!r}, character {position}: " in str(caught.value)
    assert what in str(caught.value)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("y ~ x", "has no group term; add one, e.g. '+ (1|g)'"),
        ("y ~ x + (0|g)", "(0|g) has no column; write '1' or a variable before '|'"),
        ("y ~ x + (x|g) + (1 + z|g)", "lets '1|g' vary twice; leave it out of one term"),
        ("y ~ (1|g) + (0 + x|g) + (x - 1|g)", "lets 'x|g' vary twice; leave it out of one term"),
        ("y ~ offset(poly(x, 2)) + (1|g)", "offset(poly(x, 2)) gives 2 columns; one is expected"),
        ("y ~ (log(f)|g)", "Unable to evaluate factor `log(f)`"),
        ("y ~ __import__('os').getcwd() + (1|g)", "cannot be read"),
        ("y ~ log(x, ) + log(x=) + (1|g)", "cannot be read"),
        ("y ~ log(f) + (1|g)", "Unable to evaluate factor `log(f)`"),
        ("y ~ np.nothing(x) + (1|g)", "Unable to evaluate factor `np.nothing(x)`"),
    ],
)
def test_other_mistakes_in_formulas_are_one_line(text, what):
    assert what in phrase(text, error=FormulaError)


@pytest.mark.parametrize(
    ("text", "terms", "slopes"),
    [
        ("y ~ x + (1|g) + (1|h)", [("1|g", 0, (0,), ("1|g",)), ("1|h", 1, (0,), ("1|h",))], []),
        ("y ~ (x|g)", [("x|g", 0, (0, 1), ("1|g", "x|g"))], ["x"]),
        ("y ~ (0 + z|h)", [("0 + z|h", 0, (1,), ("z|h",))], ["z"]),
        (
            "y ~ (x|g) + (0 + x + z||h)",
            [("x|g", 0, (0, 1), ("1|g", "x|g")), ("0 + x + z||h", 1, (1, 2), ("x|h", "z|h"))],
            ["x", "z"],
        ),
        (
            "y ~ (1|g) + (0 + x|g)",
            [("1|g", 0, (0,), ("1|g",)), ("0 + x|g", 0, (1,), ("x|g",))],
            ["x"],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::ranef.errors.NestingWarning")
def test_group_terms_pick_their_factor_and_columns(text, terms, slopes):
    made = columns(text)
    assert [(t.label, t.factor, t.columns, t.names) for t in made.spec.groups] == terms
    assert [t.correlated for t in made.spec.groups] == [
        "||" not in t.label for t in made.spec.groups
    ]
    assert made.slopes.shape == (N, len(slopes))
    for j, name in enumerate(slopes):
        np.testing.assert_array_equal(made.slopes[:, j], DATA[name])
    for factor, own in zip(made.spec.factors, made.codes, strict=True):
        levels, codes = np.unique(DATA[factor.name], return_inverse=True)
        assert factor.levels == tuple(map(str, levels))
        np.testing.assert_array_equal(own, codes)


@pytest.mark.parametrize("term", ["(1|g:h)", "(1|g/h)"])
def test_levels_of_an_interaction_are_the_pairs_that_occur(term):
    made = columns(f"y ~ {term}")
    pairs = [f"{a}:{b}" for a, b in zip(DATA["g"], DATA["h"], strict=True)]
    factor = made.spec.factors[-1]
    assert (factor.name, factor.columns) == ("g:h", ("g", "h"))
    assert factor.levels == tuple(sorted(set(pairs)))
    assert [f"{a}:{b}" for a, b in zip(*factor.labels, strict=True)] == list(factor.levels)
    assert [factor.levels[k] for k in made.codes[-1]] == pairs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("offset(z)", z),
        ("offset(z) + offset(2 * x)", z + 2 * x),
        ("offset(x - z)", x - z),
        ("offset(-z)", -z),
        ("offset(x + z)", x + z),
        ("offset(x * z)", x * z),
        ("offset(log(x + 10) / 2)", np.log(x + 10) / 2),
        ("offset(`a.b` - 1)", DATA["a.b"] - 1.0),
    ],
)
def test_offsets_are_added_up_and_taken_off_the_response(text, expected):
    made = columns(f"y ~ x + {text} + (1|g)")
    np.testing.assert_array_equal(made.offset, expected)
    np.testing.assert_array_equal(made.response, made.y - expected)
    np.testing.assert_array_equal(made.y, DATA["y"])
    assert made.spec.fixed.names == ("Intercept", "x")
    assert columns("y ~ x + (1|g)").offset is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("offset(w)", "'w' is neither a column nor a known function"),
        ("offset(f)", "Column 'f' must be numeric, but row 1 holds 'a'"),
        ("offset(log(x * 0))", "The offset of 'y ~ x + offset(log(x * 0)) + (1|g)' is not finite"),
    ],
)
def test_offsets_that_are_no_numbers_are_refused(text, what):
    assert what in phrase(f"y ~ x + {text} + (1|g)", error=DataError)


def test_weights_are_positive_numbers():
    formula = parse_formula("y ~ x + (1|g)")
    weight = np.arange(1.0, N + 1)
    np.testing.assert_array_equal(evaluate(formula, DATA.assign(w=weight), "w").weights, weight)
    assert evaluate(formula, DATA).weights is None
    weight[3] = 0
    with pytest.raises(DataError, match="Weight 'w' is 0 in row 4 of the complete rows; positive"):
        evaluate(formula, DATA.assign(w=weight), "w")


@pytest.mark.parametrize("text", ["y ~ {x} + (1|g)", "{y} ~ x + (1|g)", "y ~ log({x}) + (1|g)"])
def test_braces_never_reach_formulaic(text):
    assert "braces run code" in phrase(text, error=FormulaError)


def test_text_response_is_told_with_its_first_value():
    message = phrase("f ~ x + (1|g)", error=DataError)
    assert message.startswith("Column 'f' must be numeric, but row 1 holds 'a'")


def test_row_numbers_count_the_rows_that_came():
    data = pd.DataFrame({"y": [1.0, 2, 3], "x": [None, 1, 2], "t": ["1", "2", "?"], "g": [1, 1, 2]})
    assert "row 3 holds '?'" in phrase("t ~ x + (1|g)", data, DataError)


@pytest.mark.parametrize("value", [0.0, 5.0, -0.1, 1e12])
def test_constant_response_is_refused(value):
    message = phrase("y ~ x + (1|g)", DATA.assign(y=value), DataError)
    assert f"Response 'y' is constant ({value:g} in all 12 rows)" in message


def test_response_that_differs_in_its_last_digits_is_no_constant():
    y = 1e12 + np.arange(N) / 1000
    np.testing.assert_array_equal(columns("y ~ 1 + (1|g)", DATA.assign(y=y)).y, y)


@pytest.mark.parametrize("warned", ["log(z) ~ 1 + (1|g)", "y ~ log(z) + (1|g)"])
def test_logarithm_of_zero_is_told_without_numpys_warning(warned):
    assert "is not finite in" in phrase(warned, error=DataError)


def test_response_not_finite_is_told_with_its_row():
    assert "Response 'log(z)' is not finite in row 2" in phrase(
        "log(z) ~ 1 + (1|g)", error=DataError
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0 ~ x + (1|g)", "the left-hand side gives 0 columns; one response is expected"),
        ("poly(y, 2) ~ x + (1|g)", "the left-hand side gives 2 columns; one response is expected"),
        ("y:x ~ x + (1|g)", "character 2: arithmetic with the response stands in I()"),
        ("y - x ~ x + (1|g)", "character 3: arithmetic with the response stands in I()"),
    ],
)
def test_left_hand_side_is_one_column_as_written(text, what):
    assert what in phrase(text, error=FormulaError)


def numbers_as_text(values):
    n = len(values)
    data = {"y": np.arange(n) + 0.5, "x": [str(v) for v in values], "g": list("abc") * (n // 3)}
    return pd.DataFrame(data)


@pytest.mark.parametrize("values", [np.arange(30) / 4, np.arange(30), np.arange(30) * 1000])
def test_measurements_written_as_text_are_refused(values):
    data = numbers_as_text(values)
    message = phrase("y ~ x + (1|g)", data, DataError)
    assert "Column 'x' holds 30 different numbers written as text, '0" in message
    assert (
        columns("y ~ x + (1|g)", data.assign(x=pd.to_numeric(data["x"]))).spec.fixed.names[1] == "x"
    )


@pytest.mark.parametrize("values", [[0.5, 1.0, 2.0] * 10, [101, 102, 103] * 10])
def test_few_numbers_written_as_text_are_the_levels_of_a_factor(values):
    made = columns("y ~ x + (1|g)", numbers_as_text(values))
    assert made.spec.fixed.names == ("Intercept", f"x[{values[1]}]", f"x[{values[2]}]")


@pytest.mark.parametrize("dtype", ["category", "string", "object", "str", "string[pyarrow]"])
def test_text_of_every_type_is_a_factor(dtype):
    made = columns("y ~ f + (1|g)", DATA.assign(f=DATA["f"].astype(dtype)))
    assert made.spec.fixed.names == ("Intercept", "f[b]", "f[c]")
    np.testing.assert_array_equal(made.X[:, 2], is_("f", "c"))


def test_categories_give_the_order_and_those_that_no_row_holds_are_left_out():
    f = pd.Categorical(DATA["f"], ["d", "c", "a", "b"])
    made = columns("y ~ f + (1|g)", DATA.assign(f=f))
    assert made.spec.fixed.terms[1] == FixedTerm("f", (1, 2), ("a", "b"))
    np.testing.assert_array_equal(made.X[:, 1], is_("f", "a"))


def test_levels_that_only_dropped_rows_hold_are_left_out():
    data = DATA.assign(f=pd.Categorical(DATA["f"]), x=DATA["x"].where(DATA["f"] != "c"))
    with pytest.warns(MissingRowsWarning, match="4 of 12 rows"):
        made = columns("y ~ x + f + (1|g)", data)
    assert made.spec.fixed.names == ("Intercept", "x", "f[b]")


@pytest.mark.parametrize("f", [["a"] * N, pd.Categorical(["a"] * N, ["a", "b"])])
def test_factor_with_a_single_level_is_refused_not_left_out(f):
    message = phrase("y ~ f + (1|g)", DATA.assign(f=f), DataError)
    assert "Fixed effect 'f' has a single level in the 12 complete rows" in message


@pytest.mark.filterwarnings("ignore::ranef.errors.SimilarLabelsWarning")
@pytest.mark.parametrize(
    "levels",
    [["a]1", "a]2", "a]3"], ["(0, 1]", "[2, 3)", "b:c"], ["", " ", "f[a]"], ["T.x", "U.x", "V.x"]],
)
def test_levels_with_brackets_and_colons_keep_their_names(levels):
    f = pd.Categorical(levels * 4, levels)
    made = columns("y ~ f + (1|g)", DATA.assign(f=f))
    assert made.spec.fixed.terms[1] == FixedTerm("f", (1, 2), tuple(levels[1:]))
    made = columns("y ~ x + f:h + x:f + (1|g)", DATA.assign(f=f))
    by_name = {t.name: t.levels for t in made.spec.fixed.terms}
    assert by_name["x:f"] == tuple(levels[1:])
    assert by_name["f:h"] == ("v", *[f"{a}, {b}" for b in "uv" for a in levels[1:]])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.date_range("2020-01-01", periods=N), "datetime64"),
        (pd.to_timedelta(np.arange(N), unit="D"), "timedelta64"),
        (np.arange(N) * 1j, "complex128"),
    ],
)
def test_dates_and_complex_numbers_are_refused_as_fixed_effects(values, kind):
    message = phrase("y ~ t + (1|g)", DATA.assign(t=values), DataError)
    assert message.startswith(f"Fixed effect 't' holds {kind}")


def test_column_called_intercept_is_refused_beside_an_intercept_and_taken_without():
    data = DATA.assign(Intercept=DATA["x"])
    message = phrase("y ~ Intercept + (1|g)", data, DataError)
    assert message.startswith("A fixed effect cannot be called 'Intercept' beside an intercept")
    assert columns("y ~ 0 + Intercept + (1|g)", data).spec.fixed.names == ("Intercept",)


def test_grouping_column_may_be_a_fixed_effect_too():
    made = columns("y ~ C(g) + (1|g)")
    assert made.spec.fixed.names == ("Intercept", "C(g)[2]", "C(g)[3]")
    np.testing.assert_array_equal(made.codes[0], DATA["g"] - 1)


TOKENS = [*"yxzfg01+-*:()`'/,.[]@% ~^", "log(", "I(", "poly(", "C(", "np.", "`a.b`", "x)", " + "]


@pytest.mark.filterwarnings("ignore::ranef.errors.FormulaWarning")
@given(st.lists(st.sampled_from(TOKENS), max_size=8).map("".join))
@example("log(x)y").via("Python that does not parse")
@example("I(1)")
@example("I(None)")
@example("C(x)(y)")
@example("1is")
def test_any_fixed_part_gives_columns_or_an_error_of_ranef(text):
    try:
        made = columns(f"y ~ {text} + (1|g)")
    except RanefError:
        return
    assert made.X.shape == (N, len(made.spec.fixed.names))
    assert np.isfinite(made.X).all()
    assert sorted(i for t in made.spec.fixed.terms for i in t.columns) == list(
        range(len(made.spec.fixed.names))
    )


@pytest.mark.filterwarnings("ignore::ranef.errors.FormulaWarning")
@given(st.lists(st.sampled_from(TOKENS), max_size=6).map("".join))
@example("I(1)")
@example("I(None)")
@example("(y)(x)")
def test_any_left_hand_side_gives_a_response_or_an_error_of_ranef(text):
    try:
        made = columns(f"{text} ~ x + (1|g)")
    except RanefError:
        return
    assert made.y.shape == (N,)
    assert np.isfinite(made.y).all()

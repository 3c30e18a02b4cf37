"""Messages say what is meant and what to write, for what users of other packages write."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pytest

import ranef as rf
from ranef.common.arguments import brief
from ranef.data.tables import read_table
from ranef.errors import DataError, FormulaError, PriorError
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate
from ranef.priors import parse_prior

N = 24
DATA = pd.DataFrame(
    {
        "y": np.random.default_rng(0).normal(size=N),
        "x": np.arange(N) % 7,
        "f": list("abc") * 8,
        "s": np.ones(N),
        "g": np.arange(N) % 6,
        "Messwert [µg/L]": np.arange(N) / 2,
    }
)


@pytest.mark.parametrize(
    ("formula", "what"),
    [
        ("Messwert [µg/L] ~ x + (1|g)", "stand in backticks: '`Messwert [µg/L]` ~ …'"),
        ("reaction time ~ x + (1|g)", "names with spaces or signs stand in backticks"),
        ("y ~ Messwert [µg/L] + (1|g)", "names with spaces or signs stand in backticks"),
        ("y ~ sqrt(x) + (1|g)", "no function 'sqrt' here; write np.sqrt(x)"),
        ("y ~ abs(x) + (1|g)", "write np.abs(x)"),
        ("y ~ factor(f) + (1|g)", "no function 'factor' here; write C(x)"),
        ("y ~ as.factor(f) + (1|g)", "no function 'as.factor' here; write C(x)"),
        ("y ~ 1 + (factor(f)|g)", "no function 'factor' here; write C(x)"),
        ("y ~ ns(x, 3) + (1|g)", "no function 'ns' here; write bs(x, df=4) or cr(x, df=4)"),
        ("y ~ s(x) + (1|g)", "no function 's' here; write bs(x, df=4) or cr(x, df=4)"),
        ("y ~ x(f) + (1|g)", "'x' is a column and no function"),
        ("sqrt(y) ~ x + (1|g)", "write np.sqrt(x)"),
        ("y ~ offset(sqrt(x)) + (1|g)", "write np.sqrt(x)"),
        ("y|se(s) ~ x + (1|g)", "fit(…, se='column')"),
        ("y | weights(s) ~ x + (1|g)", "fit(…, weights='column')"),
        ("rt|trunc(lb=0) ~ x + (1|g)", "neither truncated nor censored nor counted"),
        ("y | x ~ 1 + (1|g)", "'|' stands in group terms"),
        ("bf(y ~ x + (1|g))", "the formula stands alone here, without bf(…)"),
        ("cbind(y, x) ~ 1 + (1|g)", "one response"),
    ],
)
def test_formulas_of_other_packages_are_answered(formula, what):
    with pytest.raises(FormulaError) as caught:
        evaluate(parse_formula(formula), DATA)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_called_like_foreign_functions_are_columns():
    made = evaluate(
        parse_formula("y ~ s + I(2 * x) + factor + (1|g)"), DATA.assign(factor=DATA["x"])
    )
    assert made.spec.fixed.names == ("Intercept", "s", "I(2 * x)", "factor")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("exponential(1)", "write expon(scale=1 / rate)"),
        ("normal(0, 1)", "write norm(mean, sd)"),
        ("student_t(3, 0, 2)", "write t(df, mean, scale)"),
        ("variance(inv_gamma(1, 1))", "write invgamma(a, scale=b)"),
        ("halfnrom(1)", "Did you mean 'halfnorm'?"),
    ],
)
def test_priors_of_other_packages_are_answered(text, what):
    with pytest.raises(PriorError) as caught:
        parse_prior(text)
    assert what in str(caught.value)


def test_two_limits_are_answered_with_their_width():
    data = rf.datasets.load("gauge_aiag")
    with pytest.raises(DataError, match=r"\(24.5, 25.5\); the width .* tolerance=1\."):
        rf.gauge_rr(data, "measurement", "part", "operator", tolerance=(24.5, 25.5))


def test_percentages_are_answered_with_the_share(fitted):
    with pytest.raises(DataError, match=r"prob is 90; .*between 0 and 1 is expected, 0\.9 for 90%"):
        fitted.effects(prob=90)


def test_files_that_are_no_tables_are_answered(tmp_path):
    database = tmp_path / "shelf.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.sql("CREATE TABLE t AS SELECT 1 AS y")
        with pytest.raises(DataError, match=r"pass connection\.table\('name'\)"):
            read_table(connection)
    western = tmp_path / "western.csv"
    western.write_bytes("größe,g\n1,ä\n2,ö\n".encode("cp1252"))
    for path, what in (
        (database, "is a DuckDB database, which may hold several tables; pass one"),
        (tmp_path / "*.csv", "is a pattern; one file is expected"),
        (western, "it is not UTF-8 text (byte 0xf6)"),
    ):
        with pytest.raises(DataError) as caught:
            read_table(path)
        assert what in str(caught.value)


@pytest.mark.parametrize("text", ["79,64", "-1,5", "1.234,5"])
def test_decimal_commas_are_answered(text, tmp_path):
    path = tmp_path / "comma.csv"
    path.write_text(f"y;g\n{text};a\n80,1;b\n81,25;a\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"row 1 holds '{text}'; if that is a decimal comma"):
        evaluate(parse_formula("y ~ 1 + (1|g)"), read_table(path))


def test_numpys_scalars_are_plain_in_messages(fitted):
    assert brief(np.str_("c001")) == "'c001'"
    assert brief([np.str_("c001"), np.float64(2.5)]) == "['c001', 2.5]"
    with pytest.raises(DataError, match="'c001'") as caught:
        fitted.marginal_means("f", at={"x": np.str_("c001")})
    assert "np." not in str(caught.value)
    with pytest.raises(DataError, match="The contrast names 'c001'"):
        fitted.contrast({np.str_("c001"): 1})


def test_the_group_that_a_coefficient_rests_on_is_named_plainly():
    g = np.repeat(["c001", "c002", "c003"], 8)
    data = {"y": np.random.default_rng(2).normal(size=24), "x": 1.0 * (g == "c001"), "g": g}
    fit = rf.fit("y ~ x + (1|g)", data, draws=1000, seed=1, priors={"1|g": "half_t(1)"})
    with pytest.raises(rf.ImproperPosteriorError, match=r"^Without 'c001' of g nothing"):
        fit.loo(unit="group")

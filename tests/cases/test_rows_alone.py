"""A row of the data alone must give what it gave among all: no term takes it from other rows."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from ranef.data.tables import read_table
from ranef.errors import FormulaError
from ranef.formula.new_rows import new_rows
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate

N = 24


def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(5, 2, size=N),
            "k": np.arange(N) % 4,
            "one": np.arange(N) % 2,
            "f": np.array(["a", "b", "c"])[np.arange(N) % 3],
            "g": np.repeat(np.arange(6), 4),
        }
    )


def rows_of(formula, data):
    return evaluate(parse_formula(formula), read_table(data))


@pytest.mark.parametrize(
    ("formula", "term"),
    [
        ("y ~ I(x - np.mean(x)) + (1|g)", "I(x - np.mean(x))"),
        ("y ~ I(x - x.mean()) + (1|g)", "I(x - x.mean())"),
        ("y ~ x + I(x.rank()) + (1|g)", "I(x.rank())"),
        ("y ~ x.rank() + (1|g)", "x.rank()"),
        ("y ~ I(x / x.max()) + (1|g)", "I(x / x.max())"),
        ("y ~ I(one / one.max()) + (1|g)", "I(one / one.max())"),
        ("y ~ np.cumsum(x) + (1|g)", "np.cumsum(x)"),
        ("y ~ f:I(x - np.mean(x)) + (1|g)", "f:I(x - np.mean(x))"),
        ("y ~ x + (I(x - np.mean(x))|g)", "I(x - np.mean(x))"),
        ("y ~ x + offset(x - np.mean(x)) + (1|g)", "I(x - np.mean(x))"),
        ("y ~ center(x) + I((x - np.mean(x)) / np.std(x)) + (1|g)", "np.std(x)"),
        ("y ~ I(1e-9 * (x - np.mean(x))) + (1|g)", "np.mean(x)"),
    ],
)
def test_terms_that_need_the_other_rows_are_refused_by_name(formula, term):
    with pytest.raises(FormulaError, match="takes a row's value from the other rows") as caught:
        rows_of(formula, table())
    assert term in str(caught.value).partition(": ")[2]
    assert "center(x), scale(x)" in str(caught.value)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ center(x) + scale(k) + (scale(x)|g)",
        "y ~ poly(x, 3) + C(k):x + (1|g)",
        "y ~ bs(x, df=4) + C(f, contr.sum) + (bs(x, df=4)|g)",
        "y ~ cr(x, df=4) + I(x**2) + (1|g)",
        "y ~ np.log(x + 9) * f + offset(x / 2) + (1|g)",
        "y ~ I(x > 5) + np.where(f == 'a', x, 0) + (1|g)",
        "y ~ I(1e100 * x) + I(1e-100 * x) + (1|g)",
        "I(y - np.mean(y)) ~ x + (1|g)",
    ],
)
def test_terms_of_the_row_itself_are_taken_and_give_it_alone_what_it_gave_among_all(formula):
    data = table()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = rows_of(formula, data)
    for i in (0, 7, N - 1):
        alone = new_rows(made.spec, data.iloc[[i]], "mean", "conditional")
        np.testing.assert_allclose(alone.X[0], made.X[i], rtol=1e-9, atol=1e-9)

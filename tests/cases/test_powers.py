"""R's power: `^` inside a call is a power; outside, powers cross terms and leave a column alone."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import ranef as rf
from ranef.errors import FormulaWarning
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate


def table():
    rng = np.random.default_rng(8)
    x = rng.integers(0, 10, 90)
    g = rng.integers(0, 9, 90)
    y = 1 + 0.3 * x - 0.1 * x**2 + rng.normal(size=9)[g] + 0.3 * rng.normal(size=90)
    return pd.DataFrame({"y": y, "x": x, "g": g, "a^b": x + 1})


def test_a_square_in_rs_sense_is_fitted():
    summary = rf.fit("y ~ x + I(x^2) + (1|g)", table(), draws=1000, seed=1).summary()
    assert summary.loc["I(x ** 2)", "mean"] == pytest.approx(-0.111, abs=0.003)
    assert summary.loc["sigma", "mean"] == pytest.approx(0.29, abs=0.01)


@pytest.mark.parametrize(
    ("r", "python"),
    [
        ("y ~ I(x^2) + (1|g)", "y ~ I(x**2) + (1|g)"),
        ("y ~ np.log((x + 1)^2) + (1|g)", "y ~ np.log((x + 1)**2) + (1|g)"),
        ("y ~ I(-x^2) + I(2^x) + (1|g)", "y ~ I(-x**2) + I(2**x) + (1|g)"),
        ("y ~ x + (I(x^2)|g)", "y ~ x + (I(x**2)|g)"),
        ("y ~ offset(x^2) + (1|g)", "y ~ offset(x**2) + (1|g)"),
        ("I(x^2) ~ y + (1|g)", "I(x**2) ~ y + (1|g)"),
        ("y ~ I(`a^b`^2) + (1|g)", "y ~ I(`a^b`**2) + (1|g)"),
    ],
)
def test_powers_inside_calls_are_those_of_r(r, python):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, wanted = (evaluate(parse_formula(text), table()) for text in (r, python))
    np.testing.assert_array_equal(ours.y, wanted.y)
    np.testing.assert_array_equal(ours.X, wanted.X)
    np.testing.assert_array_equal(ours.slopes, wanted.slopes)
    np.testing.assert_array_equal(ours.response, wanted.response)
    assert ours.spec.fixed.names == wanted.spec.fixed.names


def test_group_terms_are_found_by_either_spelling():
    model = rf.model("y ~ x + (I(x^2)|g)", table())
    values = {"sigma": 1.0, "I(x^2)|g": np.eye(2)}
    other = {"sigma": 1.0, "I(x**2)|g": np.eye(2)}
    assert model.log_likelihood(values) == model.log_likelihood(other)


@pytest.mark.parametrize(
    ("formula", "base"),
    [
        ("y ~ x^2 + (1|g)", "x"),
        ("y ~ x**2 + (1|g)", "x"),
        ("y ~ x ^ 2 + (1|g)", "x"),
        ("y ~ (x)^2 + (1|g)", "x"),
        ("y ~ log(x + 1)^2 + (1|g)", "log(x + 1)"),
        ("y ~ `a^b`**2 + (1|g)", "`a^b`"),
        ("y ~ x + (x^2|g)", "x"),
    ],
)
def test_bare_powers_of_a_column_are_warned_of_with_what_to_write(formula, base):
    with pytest.warns(FormulaWarning) as caught:
        parse_formula(formula)
    assert len(caught) == 1
    assert f"write I({base}**2) for the power" in str(caught[0].message)


@pytest.mark.parametrize("formula", ["y ~ (a + b)^2 + (1|g)", "y ~ (a + b + c)**2 + (a*b|g)"])
def test_crossing_of_sums_is_what_bare_powers_are_for(formula):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_formula(formula)

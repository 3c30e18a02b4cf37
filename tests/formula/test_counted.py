"""Responses as other packages write them, and what is wrong with them in one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ranef.errors import DataError, FormulaError
from ranef.families.table import find_family
from ranef.mixed_model.generalized import build_generalized

FRAME = pd.DataFrame(
    {
        "y": [1, 0, 2, 3, 1, 0],
        "n": [2, 1, 2, 4, 3, 0],
        "fail": [1, 1, 0, 1, 2, 0],
        "odd name": [1, 0, 2, 3, 1, 0],
        "answer": ["yes", "no", "yes", "no", "no", "yes"],
        "flag": [True, False, True, True, False, False],
        "three": list("abcabc"),
        "time": [1.0, 2.0, 1.0, 3.0, 2.0, 1.0],
        "g": [0, 0, 1, 1, 2, 2],
    }
)


def build(formula, family="binomial", **options):
    return build_generalized(formula, FRAME, find_family(family), **options)


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ 1 + (1|g)", {"trials": "n"}),
        ("p(y, n) ~ 1 + (1|g)", {}),
        ("proportion(y, n) ~ 1 + (1|g)", {}),
        ("y | trials(n) ~ 1 + (1|g)", {}),
        ("cbind(y, n - y) ~ 1 + (1|g)", {}),
        ("cbind(y, fail) ~ 1 + (1|g)", {}),
        ("p(`odd name`, n) ~ 1 + (1|g)", {}),
    ],
)
def test_trials_in_every_spelling(formula, options):
    model, rows = build(formula, **options)
    np.testing.assert_array_equal(rows.trials, FRAME.n)
    np.testing.assert_array_equal(rows.y, FRAME.y)
    assert model.rows.n.sum() == FRAME.n.sum()


def test_one_number_of_trials():
    _, rows = build("y | trials(4) ~ 1 + (1|g)")
    assert set(rows.trials) == {4}


@pytest.mark.parametrize(
    ("formula", "ones", "success"),
    [
        ("answer ~ 1 + (1|g)", [1, 0, 1, 0, 0, 1], "yes"),
        ("answer['no'] ~ 1 + (1|g)", [0, 1, 0, 1, 1, 0], "no"),
        ("answer[no] ~ 1 + (1|g)", [0, 1, 0, 1, 1, 0], "no"),
        ("three['b'] ~ 1 + (1|g)", [0, 1, 0, 0, 1, 0], "b"),
        ("flag ~ 1 + (1|g)", [1, 0, 1, 1, 0, 0], "True"),
    ],
)
def test_levels_become_zeros_and_ones(formula, ones, success):
    model, rows = build(formula, "bernoulli")
    np.testing.assert_array_equal(rows.y, ones)
    assert model.success == success


def test_exposure_is_an_offset():
    _, rows = build("y ~ 1 + (1|g)", "poisson", exposure="time")
    np.testing.assert_allclose(rows.offset, np.log(FRAME.time))
    _, both = build("y ~ 1 + offset(time) + (1|g)", "poisson", exposure="time")
    np.testing.assert_allclose(both.offset, np.log(FRAME.time) + FRAME.time)


@pytest.mark.parametrize(
    ("formula", "family", "options", "error", "message"),
    [
        ("y ~ 1 + (1|g)", "binomial", {}, DataError, "needs the number of trials"),
        ("p(y, n) ~ 1 + (1|g)", "binomial", {"trials": "n"}, FormulaError, "leave one out"),
        ("p(y, n) ~ 1 + (1|g)", "poisson", {}, FormulaError, "take family='binomial'"),
        ("y ~ 1 + (1|g)", "binomial", {"trials": "m"}, DataError, "'m'"),
        ("y ~ 1 + (1|g)", "binomial", {"trials": 3}, DataError, "name of a column"),
        ("cbind(y, n - g) ~ 1 + (1|g)", "binomial", {}, FormulaError, r"cbind\(y, n - y\)"),
        ("cbind(y, m) ~ 1 + (1|g)", "binomial", {}, DataError, "'m' is no column"),
        ("three ~ 1 + (1|g)", "bernoulli", {}, DataError, "has 3 levels"),
        ("answer['maybe'] ~ 1 + (1|g)", "bernoulli", {}, DataError, "no level 'maybe'"),
        ("answer['no'] ~ 1 + (1|g)", "poisson", {}, DataError, "only family='bernoulli'"),
        ("y ~ 1 + (1|g)", "poisson", {"exposure": "n"}, DataError, "'n' is 0 in row 6"),
        ("y ~ 1 + (1|g)", "poisson", {"exposure": "answer"}, DataError, "answer"),
    ],
)
def test_one_line_says_what_is_wrong(formula, family, options, error, message):
    with pytest.raises(error, match=message):
        build(formula, family, **options)


def test_one_level_of_text_says_nothing():
    frame = FRAME.assign(answer="yes")
    with pytest.raises(DataError, match="one level 'yes'"):
        build_generalized("answer ~ 1 + (1|g)", frame, find_family("bernoulli"))

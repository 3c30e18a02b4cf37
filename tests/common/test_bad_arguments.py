"""Arguments of the wrong type or size: one line that says what came and what is expected."""

from __future__ import annotations

import re
import types

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot as plt

import ranef as rf
from ranef.common.arguments import brief, is_name, is_number, number, positive, whole_number
from ranef.errors import nearest

TABLE = pd.DataFrame({"a": [1, 2]})
DYESTUFF = "Yield ~ 1 + (1|Batch)"
SHARE = "a number between 0 and 1 is expected"
SEED = "a whole number from 0, a numpy.random.Generator or None is expected"
PATH = "the path of a file is expected"


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g = np.tile(np.arange(6), 10)
    x = rng.normal(size=60)
    y = x + rng.normal(size=6)[g] + rng.normal(size=60)
    return pd.DataFrame({"y": y, "x": x, "arm": np.repeat(["a", "b", "c"], 20), "g": g})


@pytest.fixture(scope="module")
def fit():
    return rf.fit("y ~ arm + x + (x|g)", frame(), draws=1000, seed=1)


@pytest.fixture(scope="module")
def model():
    return rf.model("y ~ arm + x + (x|g)", frame())


@pytest.fixture(scope="module")
def plan():
    return rf.plan("icc width < 0.9", groups=5, replicates=2, simulations=2, seed=1)


def refused(call, message, kind=rf.DataError):
    """The one line with which a call is refused."""
    with pytest.raises(kind, match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


# -- questions to a fit ----------------------------------------------------------------------------

PROBS = {
    "summary": lambda f, p: f.summary(p),
    "effects": lambda f, p: f.effects(prob=p),
    "variance_shares": lambda f, p: f.variance_shares(prob=p),
    "contrast": lambda f, p: f.contrast({"x": 1}, p),
    "marginal_means": lambda f, p: f.marginal_means("arm", prob=p),
    "plot.effects": lambda f, p: f.plot.effects(p),
    "sensitivity": lambda f, p: f.sensitivity(prob=p),
    "fitted": lambda f, p: f.fitted(p),
    "check": lambda f, p: f.check(interval=p),
    "no_group_effect": lambda f, p: f.no_group_effect(prior_probability=p),
}


@pytest.mark.parametrize("value", ["95%", 95, 0, np.nan, [0.9], TABLE, True])
@pytest.mark.parametrize("name", PROBS)
def test_probabilities_lie_between_0_and_1(fit, name, value):
    refused(lambda: PROBS[name](fit, value), f"is {brief(value)}; {SHARE}")


SEEDED = {
    "effects": lambda f, s: f.effects(seed=s),
    "variance_shares": lambda f, s: f.variance_shares(seed=s),
    "probability": lambda f, s: f.probability("x > 0", seed=s),
    "predict": lambda f, s: f.predict(seed=s),
    "residuals": lambda f, s: f.residuals(seed=s),
    "check": lambda f, s: f.check(seed=s),
    "sensitivity": lambda f, s: f.sensitivity(seed=s),
    "loo": lambda f, s: f.loo(seed=s),
}


@pytest.mark.parametrize("value", ["one", -1, 1.5, TABLE])
@pytest.mark.parametrize("name", SEEDED)
def test_seeds_are_checked_even_where_nothing_is_drawn(fit, name, value):
    refused(lambda: SEEDED[name](fit, value), f"seed is {brief(value)}; {SEED}")


QUESTIONS = [
    (lambda f: f.effects(3), "There is no effect 3. Known names: '1|g', 'x|g'."),
    (lambda f: f.effects(["1|g"]), "There is no effect ['1|g']. "),
    (lambda f: f.effects(TABLE), "There is no effect a DataFrame. "),
    (lambda f: f.effects(threshold=np.inf), "threshold is inf; a finite number is expected"),
    (lambda f: f.effects(highest=np.eye(2)), "highest is a ndarray; True or False is expected"),
    (lambda f: f.predict(draws="yes"), "draws is 'yes'; True or False is expected"),
    (lambda f: f.effects(compare=TABLE), "compare is a DataFrame; two levels are expected"),
    (lambda f: f.plot.shrinkage(1), "There is no effect 1. "),
    (lambda f: f.plot.density({1: 2}), "truth names 1, no parameter. "),
    (lambda f: f.plot.density([1]), "truth is [1]; a mapping is expected"),
    (lambda f: f.plot.density({"x": "a"}), "truth['x'] is 'a'; a finite number is expected."),
    (lambda f: f.variance_shares(at=3), "at is 3; a mapping is expected, e.g. at={'Days': 5}."),
    (lambda f: f.variance_shares(k=True), "k is True; a whole number from 1 is expected."),
    (lambda f: f.check({}), "statistics is empty; at least one is expected"),
    (lambda f: f.check([]), "statistics is empty; at least one is expected"),
    (lambda f: f.check({"a": 3}), "statistics['a'] is 3; a function of the response is expected."),
    (lambda f: f.check(3), "statistics is 3; a list of names is expected"),
    (
        lambda f: f.check({"a": lambda y: None}),  # noqa: ARG005
        "Statistic 'a' gave None; one number is expected.",
    ),
    (lambda f: f.check({"a": str}), "Statistic 'a' gave "),
    (lambda f: f.check(groups=TABLE), "groups is a DataFrame. Known names: 'conditional', 'new'."),
    (lambda f: f.check(replications=TABLE), "replications is a DataFrame; a whole number from 1"),
    (lambda f: f.marginal_means(["arm", "arm"]), "names is ['arm', 'arm']; a factor, or several"),
    (lambda f: f.marginal_means([]), "names is []; a factor, or several different ones"),
    (lambda f: f.marginal_means(None), "names is None; a list of names is expected"),
    (lambda f: f.marginal_means([["arm"]]), "names is [['arm']]; a list of names is expected"),
    (lambda f: f.marginal_means("arm", at=3), "at is 3; a mapping is expected"),
    (lambda f: f.marginal_means("arm", at="x"), "at is 'x'; a mapping is expected"),
    (lambda f: f.marginal_means("arm", at={"x": None}), "at={'x': None}; a finite number"),
    (lambda f: f.contrast(TABLE), "A contrast is a DataFrame; weights by coefficient"),
    (lambda f: f.contrast({"x": None}), "The weight of 'x' is None; a finite number is expected."),
    (lambda f: f.predict(kind=TABLE), "kind is a DataFrame. Known names: 'mean', 'response'."),
    (lambda f: f.predict(groups=["new"]), "groups is ['new']. "),
    (lambda f: f.predict().plot(3), "x is 3, no column of the rows. "),
    (lambda f: f.predict().plot(["x"]), "x is ['x'], no column of the rows. "),
    (lambda f: f.residuals(TABLE), "kind is a DataFrame. Known names: 'response', 'pearson'"),
    (lambda f: f.sensitivity(quantities=3), "quantities is 3; a list of names is expected"),
    (lambda f: f.sensitivity(quantities=[]), "quantities is empty; at least one is expected"),
    (lambda f: f.sensitivity(quantities={"a": 1}), "quantities['a'] is 1; a function of the draws"),
    (lambda f: f.sensitivity(draws=10), "draws is 10; a whole number from 100 is expected."),
    (lambda f: f.loo(TABLE), "unit is a DataFrame; 'row', 'group' or a grouping factor"),
    (lambda f: f.loo(draws="many"), "draws is 'many'; a whole number from 100 is expected."),
    (lambda f: f.no_group_effect(TABLE), "There is no group term a DataFrame. "),
    (lambda f: f.save(None), f"path is None; {PATH}, e.g. 'fit.nc'."),
    (lambda f: rf.compare({"a": f, "b": f}, unit=TABLE), "unit is a DataFrame; 'row', 'group'"),
]


@pytest.mark.parametrize(("call", "message"), QUESTIONS)
def test_a_fit_refuses_what_it_cannot_answer(fit, call, message):
    refused(lambda: call(fit), message)


STATEMENTS = {
    "x = 1": "asks for equality, which has probability zero; ask how near",
    "x > 1 & sigma > 1": "has '&'; write 'and' instead.",
    "x > 1 && sigma > 1": "has '&&'; write 'and' instead.",
    "x > 1 AND sigma > 1": "has 'AND'; write 'and' instead.",
    "(x > 1) | (sigma > 1)": "has '|'; write 'or' instead.",
    "x > 1 || sigma > 1": "has '|'; write 'or' instead.",
    "!(x > 1)": "has '!'; write 'not' instead.",
    "x => 1": "has '=>'; write '>=' instead.",
    "x ≤ 1": "has '≤'; write '<=' instead.",
    "x^2 > 1": "has '^'; write '**' instead.",
    f"x > 1{'0' * 400}": "holds a number above 1e308; smaller ones are expected.",
    # A bar in a name that is misspelled stays part of the name.
    "1|g_sgima > 1|h_sigma": "names '1|g_sgima', which the fit does not have. Did you mean",
    None: "A statement is text",
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements_in_another_language_are_told_the_right_words(fit, statement):
    refused(lambda: fit.probability(statement), STATEMENTS[statement])


@pytest.mark.parametrize(
    "statement", ["x/0 > 1", "10**400 > sigma", "x > 1e400", "x < 2 and not sigma < 1"]
)
def test_statements_with_extreme_numbers_are_answered(fit, statement):
    assert 0 <= float(fit.probability(statement)) <= 1


# -- functions of the package ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rf.load(None), f"path is None; {PATH}, e.g. 'fit.nc'."),
        (lambda: rf.load(3), f"path is 3; {PATH}"),
        (lambda: rf.Calibration.load(None), f"path is None; {PATH}"),
        (lambda: rf.Calibration.load("x", "1%"), f"error_rate is '1%'; {SHARE}"),
        (lambda: rf.datasets.load(3), "There is no data set 3. Known names: 'Dyestuff'"),
        (lambda: rf.datasets.load([]), "There is no data set []. "),
        (lambda: rf.bayes_factor(None, 3), "a is a NoneType; a fit is expected."),
        (lambda: rf.article.simulate("many"), "n is 'many'; a whole number from 1"),
        (lambda: rf.article.simulate(seed=1.5), "seed is 1.5; a whole number from"),
        (lambda: rf.article.simulate(mean="a"), "mean is 'a'; a finite number is expected."),
        (lambda: rf.article.study("1"), "scenarios is '1'; a list is expected, e.g. [1, 3]."),
        (lambda: rf.article.study(1), "scenarios is 1; a list is expected"),
        (lambda: rf.article.study([1.0]), "Scenario 1.0 does not exist"),
        (lambda: rf.article.study(seed="a"), "seed is 'a'; a whole number from 0"),
        (lambda: rf.article.gibbs(np.eye(3), draws="a"), "draws is 'a'; a whole number from 1"),
        (lambda: rf.article.gibbs(np.eye(3), seed="a"), f"seed is 'a'; {SEED}"),
        (lambda: rf.article.exact(np.eye(3), draws=0), "draws is 0; a whole number from 1"),
        (lambda: rf.article.exact(np.eye(3), seed="a"), f"seed is 'a'; {SEED}"),
    ],
)
def test_functions_refuse_arguments_of_the_wrong_type(call, message):
    refused(call, message)


@pytest.mark.parametrize(
    ("options", "message", "kind"),
    [
        ({"method": ["exact"]}, "method is ['exact']. ", rf.DataError),
        ({"method": TABLE}, "method is a DataFrame. Known names: 'exact'", rf.DataError),
        ({"chains": True}, "chains is True; a whole number from 1 is expected.", rf.DataError),
        ({"draws": TABLE}, "draws is a DataFrame; a whole number from 1", rf.DataError),
        ({"effects": TABLE}, "effects is a DataFrame; 'moments' or 'draws'", rf.DataError),
        ({"aliased": TABLE}, "aliased is a DataFrame; 'refuse' or 'drop'", rf.DataError),
        ({"weights": "w"}, "weights is 'w', which is no column of the table. ", rf.DataError),
        ({"se": "yield"}, "se is 'yield', which is no column of the table. Did", rf.DataError),
        ({"se": TABLE}, "se is a DataFrame; the name of a column is expected.", rf.DataError),
        ({"priors": {1: 2}}, "A prior was given for 1, which the model", rf.PriorError),
        ({"priors": "flat"}, "priors is 'flat'; a mapping is expected", rf.PriorError),
        (
            {"priors": {"Intercept": np.array([1, 2])}},
            "Prior for 'Intercept' is a ndarray",
            rf.PriorError,
        ),
    ],
)
def test_fit_refuses_arguments_of_the_wrong_type(options, message, kind):
    data = rf.datasets.load("Dyestuff")
    refused(lambda: rf.fit(DYESTUFF, data, **options), message, kind)


@pytest.mark.parametrize("dot", ["y ~ .", "y ~ . + (1|g)", "y ~ 1 + (.|g)", "y ~ 1 + (1|.)"])
def test_a_lone_point_is_told_to_name_the_columns(dot):
    refused(lambda: rf.model(dot, frame()), "'.' does not stand for all other", rf.FormulaError)


@pytest.mark.parametrize(
    "formula", ["y ~ y", "y ~ y + (1|g)", "y ~ x:y + (1|g)", "`y` ~ x + (y|g)", "y ~ offset(y)"]
)
def test_the_response_stands_on_one_side(formula):
    message = "the response 'y' stands on the right-hand side too; leave it out there."
    refused(lambda: rf.model(formula, frame()), message, rf.FormulaError)


def test_a_response_called_1_is_not_the_intercept():
    named = frame().rename(columns={"y": "1"})
    assert rf.model("`1` ~ 1 + x + (1|g)", named).inner.names == ("Intercept", "x")
    refused(
        lambda: rf.model("exp(y) ~ exp(y) + (1|g)", frame()),
        "the response 'exp(y)' stands on the right-hand side too",
        rf.FormulaError,
    )


def test_points_within_numbers_and_calls_are_read():
    data = frame().assign(**{"x.1": frame()["x"] ** 3})
    model = rf.model("y ~ I(.5 * x) + I(1. * x**2) + np.sin(x) + `x.1` + (1|g)", data)
    assert model.inner.names[-1] == "x.1"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rf.half_t(None), "half_t: scale is None; a positive number is expected."),
        (lambda: rf.half_t(1, []), "half_t: df is []; a positive number is expected."),
        (lambda: rf.half_t(TABLE), "half_t: scale is a DataFrame; a positive number"),
        (lambda: rf.lkj("a"), "lkj: eta is 'a'; a positive number is expected."),
        (lambda: rf.lkj(None), "lkj: eta is None; a positive number is expected."),
        (lambda: rf.dirichlet([]), "dirichlet: [] came; positive numbers are expected."),
        (lambda: rf.dirichlet({}), "dirichlet: {} came; positive numbers are expected."),
        (lambda: rf.dirichlet(TABLE), "a DataFrame came."),
        (lambda: rf.variance(3), "variance is given a int"),
    ],
)
def test_priors_refuse_arguments_of_the_wrong_type(call, message):
    refused(call, message, rf.PriorError)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.prior_draws(-1), "draws is -1; a whole number from 1 is expected."),
        (lambda m: m.prior_draws(2.5), "draws is 2.5; a whole number from 1 is expected."),
        (lambda m: m.prior_draws(3, "a"), f"seed is 'a'; {SEED}"),
        (lambda m: m.log_likelihood(None), "values is None; a mapping is expected"),
        (lambda m: m.log_likelihood({1: 2}), "values lacks 'sigma'"),
        (lambda m: m.log_likelihood({"sigma": "a"}), "sigma is 'a'; a positive number"),
        (
            lambda m: m.log_likelihood({"sigma": 1, "x|g": "a"}),
            "'x|g' is 'a'; a 2 x 2 covariance matrix is expected.",
        ),
        (
            lambda m: m.log_likelihood({"sigma": 1, "x|g": np.full((2, 2), np.nan)}),
            "'x|g' is a ndarray; a 2 x 2 covariance matrix is expected.",
        ),
    ],
)
def test_models_refuse_arguments_of_the_wrong_type(model, call, message):
    refused(lambda: call(model), message)


# -- planning --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_sd": None}, "group_sd is None; a number or a frozen scipy.stats distribution"),
        ({"sigma": None}, "sigma is None; a number or a frozen scipy.stats distribution"),
        ({"sigma": TABLE}, "sigma is a DataFrame; a number or a frozen"),
        ({"assurance": None}, f"assurance is None; {SHARE}, e.g. 0.8."),
        ({"assurance": "80%"}, f"assurance is '80%'; {SHARE}"),
        ({"groups": None}, "groups is None; a whole number from 2 is expected."),
        ({"groups": "5"}, "groups is '5'; a whole number from 2 is expected."),
        ({"replicates": (2, None)}, "replicates[1] is None; a whole number from 2 is expected."),
        ({"simulations": True}, "simulations is True; a whole number from 1 is expected."),
        ({"cost_per_group": "a"}, "cost_per_group is 'a'; a number from 0 is expected."),
        ({"cost_per_measurement": np.nan}, "cost_per_measurement is nan; a number from 0"),
        ({"seed": "a"}, f"seed is 'a'; {SEED}"),
        ({"goal": "icc widht < 0.35"}, "is not known. Did you mean 'icc width < 0.35'?"),
        ({"goal": "reliabilty >= .9"}, "is not known. Did you mean 'reliability >= .9'?"),
        ({"goal": TABLE}, "goal is a DataFrame; one of these is expected: 'icc width < 0.2'"),
    ],
)
def test_plan_refuses_arguments_of_the_wrong_type(options, message):
    refused(lambda: rf.plan(**{"goal": "icc width < 0.9"} | options), message)


def test_plan_names_the_value_whose_text_cannot_be_read():
    message = "sigma: Prior 'foo', character 1: 'foo' needs arguments"
    refused(lambda: rf.plan("icc width < 0.9", sigma="foo"), message, rf.PriorError)


@pytest.mark.parametrize("of", [None, ["group"], "slop"])
def test_goals_of_an_unknown_sd_are_refused(of):
    refused(lambda: rf.goals.sd_within(0.2, of), f"sd_within: of is {of!r}. ")


def test_plan_answers_for_the_designs_that_it_considered(plan):
    assert plan.cost(5, 2) == 10
    refused(lambda: plan.attained(7, 2), "A design of 7 groups with 2 replicates was not")
    refused(lambda: plan.attained(5, [2]), "A design of 5 groups with [2] replicates was not")
    refused(lambda: plan.cost(None, 2), "groups is None; a whole number from 1 is expected.")


# -- functions that the user writes ----------------------------------------------------------------


def nothing(*_):
    return None


def fitter(data, rng):
    return {"mu": rng.normal(data / 2, 0.5**0.5, 20)}


def simulate(rng):
    mu = rng.normal()
    return {"mu": mu}, rng.normal(mu)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": nothing}, "The fit gave None; numbers or arrays by name are expected"),
        ({"model": lambda y, rng: {"mu": ["a"]}}, "The fit gave ['a'] for 'mu'; numbers are"),  # noqa: ARG005
        ({"simulate": nothing}, "simulate gave None; a pair (parameters, data) is expected."),
        ({"simulate": lambda rng: (None, 1.0)}, "simulate gave None; numbers or arrays by name"),  # noqa: ARG005
        ({"simulate": 3}, "simulate is 3; a function simulate(rng) -> (parameters, data)"),
        ({"log_likelihood": nothing}, "log_likelihood gave None; one number is expected."),
        ({"log_likelihood": 3}, "log_likelihood is 3; a function log_likelihood(parameters, data)"),
        ({"simulations": True}, "simulations is True; a whole number from 1 is expected."),
        ({"error_rate": None}, f"error_rate is None; {SHARE}, e.g. 0.01."),
        ({"start": TABLE}, "start is a DataFrame. Known names: 'own', 'truth'."),
        ({"method": ["gibbs"]}, "method is ['gibbs']. "),
        ({"file": 3}, f"file is 3; {PATH}"),
    ],
)
def test_calibrate_refuses_functions_that_give_nothing(options, message):
    whole = {
        "model": fitter,
        "simulate": simulate,
        "simulations": 2,
        "draws": 9,
        "seed": 1,
    } | options
    refused(lambda: rf.calibrate(**whole), message)


JOINT = {
    "draw_parameters": lambda rng: rng.normal(),
    "draw_data": lambda mu, rng: rng.normal(mu),
    "update": lambda mu, y, rng: rng.normal(y / 2, 0.5**0.5),  # noqa: ARG005
    "quantities": lambda mu, y: {"mu": mu},  # noqa: ARG005
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draw_parameters": nothing}, "draw_parameters returned None; does it end with a return"),
        ({"draw_data": nothing}, "draw_data returned None"),
        ({"update": nothing}, "update returned None"),
        ({"quantities": nothing}, "quantities gave None; numbers by name are expected"),
        ({"quantities": lambda mu, y: {"mu": None}}, "Quantity 'mu' gave None; one number"),  # noqa: ARG005
        ({"quantities": lambda mu, y: {str(mu): y}}, "the same names are expected each time."),
        ({"update": None}, "update is None; a function update(parameters, data, rng) is expected."),
        ({"error_rate": "1%"}, f"error_rate is '1%'; {SHARE}"),
        ({"seed": "a"}, f"seed is 'a'; {SEED}"),
    ],
)
def test_geweke_refuses_functions_that_give_nothing(options, message):
    refused(lambda: rf.geweke(**JOINT | {"chains": 3, "sweeps": 1} | options), message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": None}, f"alpha is None; {SHARE}, e.g. 0.0001."),
        ({"rng": "a"}, f"rng is 'a'; {SEED}"),
        ({"invariant": "mu"}, "invariant is 'mu'; a list of names is expected, e.g. ('mu',)."),
        ({"invariant": 3}, "invariant is 3; a list of names is expected"),
        ({"invariant": [1]}, "invariant is [1]; a list of names is expected"),
        ({"sweep": 3}, "sweep is 3; a function sweep(state, rng) is expected."),
        ({"updates": {1: nothing}}, "updates names 1, not in the state. "),
    ],
)
def test_check_gibbs_refuses_arguments_of_the_wrong_type(options, message):
    whole = {
        "updates": {"mu": lambda state, rng: rng.normal()},  # noqa: ARG005
        "log_joint": lambda state: -0.5 * state["mu"] ** 2,
        "state": {"mu": 0.0},
    }
    refused(lambda: rf.check_gibbs(**whole | options), message)


# -- columns with the names of other things --------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"), [("g", "mean"), ("arm", "lp"), ("y", "sigma"), ("y", "lp"), ("y", "Intercept")]
)
def test_columns_may_be_called_as_parts_of_the_draws_are(old, new):
    names = types.SimpleNamespace(**({c: c for c in frame()} | {old: new}))
    data = frame().rename(columns={old: new})
    fit = rf.fit(f"{names.y} ~ {names.arm} + (1|{names.g})", data, draws=1000, seed=1)
    plain = rf.fit("y ~ arm + (1|g)", frame(), draws=1000, seed=1)
    np.testing.assert_array_equal(fit.summary()["mean"], plain.summary()["mean"])
    np.testing.assert_array_equal(fit.draws["observed_data"][names.y], frame()["y"])
    figure = fit.plot.effects()
    (points,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(points.get_xdata(), np.sort(fit.effects()["mean"]))
    plt.close(figure)


@pytest.mark.parametrize("name", ["shares", "total_sigma"])
@pytest.mark.parametrize("old", ["x", "arm"])
def test_columns_called_as_joint_priors_are(name, old):
    data = frame().rename(columns={old: name})
    formula = f"y ~ {name} + (1|g)"
    model = rf.model(formula, data, priors={name: "norm(0, 2)"})
    assert "norm(0, 2)" in model.priors.values()
    message = f"A fixed effect is called {name!r}, as is a prior on shares of the total variance"
    for joint in ({"shares": "dirichlet(1)"}, {"shares": "dirichlet(1)", "total_sigma": "flat"}):
        refused(lambda p=joint: rf.model(formula, data, priors=p), message, rf.PriorError)
    alternatives = set(rf.fit(formula, data, draws=1000, seed=1).sensitivity(draws=100).draws)
    assert "variance shares" not in alternatives
    assert "half-Cauchy" in alternatives


# -- the checks themselves -------------------------------------------------------------------------


def test_messages_repeat_short_values_and_name_the_type_of_long_ones():
    assert brief(np.float64(0.5)) == "0.5"
    assert brief("x" * 100) == f"'{'x' * 60}…'"
    assert brief(list(range(100))) == "a list"
    assert brief(nothing) == "a function"
    assert brief(TABLE) == "a DataFrame"


def test_numbers_and_names_are_what_they_are():
    assert all(map(is_number, (1, 1.5, np.float32(2), np.int64(3), np.nan)))
    assert not any(map(is_number, (True, np.True_, "1", None, 1j, np.array(1.0))))
    for one in (2, np.int64(2), np.array(2), xr.DataArray(2)):
        assert (whole_number("n", one), number("n", one), positive("n", one)) == (2, 2.0, 2.0)
    assert is_name("a", {"a": 1})
    assert not any(is_name(v, ["a"]) for v in (["a"], TABLE, None, 1))


def test_hints_are_given_for_any_value():
    assert nearest(308, ["307", "308"]) == "Did you mean '308'?"
    assert nearest(None, ["a"]) == "Known names: 'a'."

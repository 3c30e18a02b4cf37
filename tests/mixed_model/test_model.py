"""Data and priors together: what is refused, and that the refusals are right."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

import ranef as rf
from frames import make_frame
from ranef.cells.cells import balanced_cells
from ranef.errors import (
    DataError,
    IdentifiabilityError,
    IdentifiabilityWarning,
    ImproperPosteriorError,
    PriorError,
)
from ranef.formula.spec import intercept_spec
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.mixed_model.family import Gaussian
from ranef.mixed_model.model import build_model, model_from_cells
from ranef.priors import scale_prior


def model_of(formula, data, priors=None):
    return build_model(formula, data, priors)[0]


def group_prior(model):
    """Prior on the SD of the only group effect."""
    ((prior,),) = (term.scales for term in model.parameters.terms)
    return prior


def with_priors(model, sigma=None, group=None):
    """A random-intercept model with other priors, unchecked."""
    (term,) = model.parameters.terms
    if group is not None:
        term = replace(term, scales=(scale_prior(group, "1|g"),))
    family = model.parameters.family
    if sigma is not None:
        family = Gaussian(scale_prior(sigma, "sigma"))
    return replace(model, parameters=replace(model.parameters, terms=(term,), family=family))


def groups_of(count, rows=4, seed=1):
    """Groups of equal size, with covariates that vary within (x) and between groups (z)."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(count), rows)
    return pd.DataFrame(
        {
            "y": rng.normal(size=len(g)) + rng.normal(size=count)[g],
            "x": rng.normal(size=len(g)),
            "z": rng.normal(size=count)[g],
            "g": g,
        }
    )


# -- priors find their parameters ------------------------------------------------------------------


def test_priors_of_a_term_go_to_its_columns_and_a_columns_own_goes_first():
    priors = {"f": "norm(0, 1)", "f[c]": "norm(3, 2)", "x": stats.norm(0, 5), "sigma": "half_t(4)"}
    made = model_of("y ~ x + f + (1|g)", make_frame(), priors)
    assert made.names == ("Intercept", "x", "f[b]", "f[c]")
    np.testing.assert_array_equal(made.prior_mean, [0, 0, 0, 3])
    np.testing.assert_array_equal(made.prior_precision, [0, 1 / 25, 1, 1 / 4])
    texts = made.prior_texts()
    assert list(texts) == ["Intercept", "x", "f[b]", "f[c]", "1|g", "sigma"]
    assert (texts["f[b]"], texts["f[c]"]) == ("norm(0, 1)", "norm(3, 2)")
    assert texts["sigma"] == "half_t(4, df=3)"


@pytest.mark.parametrize("constant", [False, True])
def test_a_model_of_cells_without_rows_is_that_of_their_rows(constant):
    data, priors = groups_of(6), {"sigma": "half_t(2)", "1|g": "half_t(2)"}
    formula = f"y ~ {int(constant)} + (1|g)"
    mean = data.groupby("g")["y"].mean().to_numpy()
    within = float(((data["y"] - mean[data["g"]]) ** 2).sum())
    cells = balanced_cells(mean, within, rows=24, weight=4, size=4, constant=constant)
    made = RandomIntercept(model_from_cells(intercept_spec(formula), cells, priors))
    log_ratio, log_sigma = np.array([-3.0, 0.0, 2.0]), np.array([-0.4, 0.1, 0.3])
    expected = RandomIntercept(model_of(formula, data, priors)).log_density(log_ratio, log_sigma)
    np.testing.assert_allclose(made.log_density(log_ratio, log_sigma), expected, rtol=1e-12)
    # Negative control: another sum of squares within groups is other data.
    other = balanced_cells(mean, 2 * within, rows=24, weight=4, size=4, constant=constant)
    wrong = RandomIntercept(model_from_cells(intercept_spec(formula), other, priors))
    assert np.abs(wrong.log_density(log_ratio, log_sigma) - expected).min() > 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Intercpt", "Did you mean 'Intercept'?"),
        ("sigm", "Did you mean 'sigma'?"),
        ("1 | g", "Did you mean '1|g'?"),
        ("f[z]", "Did you mean 'f[c]'?"),
        ("g", "Known names: 'sigma', 'Intercept', 'x', 'f[b]', 'f[c]', '1|g', 'f', '1|g_sigma'."),
    ],
)
def test_prior_for_an_unknown_parameter_is_told_with_the_nearest(name, hint):
    with pytest.raises(PriorError) as caught:
        model_of("y ~ x + f + (1|g)", make_frame(), {name: "half_t(1)"})
    message = f"A prior was given for {name!r}, which the model does not have. {hint}"
    assert str(caught.value) == message
    assert caught.value.parameter == name


def test_users_priors_are_not_changed():
    priors = {"sigma": "half_t(1)", "x": "flat"}
    model_of("y ~ x + (1|g)", make_frame(), priors)
    assert priors == {"sigma": "half_t(1)", "x": "flat"}


@pytest.mark.parametrize(
    ("column", "formula"),
    [
        ("sigma", "y ~ sigma + (1|g)"),
        ("1|g_sigma", "y ~ `1|g_sigma` + (1|g)"),
        ("1|g", "y ~ `1|g` + (1|g)"),
        ("chain", "y ~ chain + (1|g)"),
        ("draw", "y ~ draw + (1|g)"),
        ("f_dim", "y ~ f + f_dim + (1|g)"),
        ("g__factor_dim", "y ~ g__factor_dim + (1|g)"),
    ],
)
def test_fixed_effect_that_would_overwrite_other_draws_is_refused(column, formula):
    data = make_frame().rename(columns={"x": column})
    with pytest.raises(DataError) as caught:
        model_of(formula, data)
    assert f"A fixed effect cannot be called {column!r}" in str(caught.value)
    assert caught.value.column == column


def test_model_knows_levels_rows_and_what_was_dropped():
    data = make_frame()
    data.loc[[0, 4], "x"] = np.nan
    with pytest.warns(rf.MissingRowsWarning):
        made, rows = build_model("y ~ x + (1|g)", data)
    assert (rows.dropped, made.design.N, len(rows.y)) == (2, len(data) - 2, len(data) - 2)
    assert made.spec.factors[0].levels == tuple("01234567")
    assert made.parameters.terms[0].label == "1|g"


# -- what the data cannot tell ---------------------------------------------------------------------

ONE_GROUP = groups_of(1, rows=8)
SINGLES = groups_of(8, rows=1)


@pytest.mark.parametrize(
    ("data", "priors", "message", "parameters", "state"),
    [
        (
            ONE_GROUP,
            {},
            "'g' has a single level, so the data say nothing of 1|g_sigma: its posterior is its "
            "prior.",
            ("1|g",),
            "State a prior for '1|g' to",
        ),
        (ONE_GROUP, {"sigma": "half_t(1)"}, "a single level", ("1|g",), "prior for '1|g' to"),
        (
            SINGLES,
            {},
            "Every level of 'g' has one row, so only the sum sigma^2 + 1|g_sigma^2 is identified, "
            "not the two apart: their ratio follows the prior.",
            ("sigma", "1|g"),
            "State a prior for 'sigma' and '1|g' to",
        ),
        (SINGLES, {"1|g": "half_t(1)"}, "one row", ("sigma", "1|g"), "prior for 'sigma' to"),
        (SINGLES, {"sigma": "half_t(1)"}, "one row", ("sigma", "1|g"), "prior for '1|g' to"),
    ],
)
def test_what_only_the_prior_answers_is_refused_under_default_priors(
    data, priors, message, parameters, state
):
    with pytest.raises(IdentifiabilityError) as caught:
        model_of("y ~ 1 + (1|g)", data, priors)
    assert message in str(caught.value)
    assert state in str(caught.value)
    assert caught.value.parameters == parameters


@pytest.mark.parametrize(
    ("data", "priors", "message"),
    [
        (ONE_GROUP, {"1|g": "half_t(1)"}, "^'g' has a single level, so the data say nothing"),
        (SINGLES, {"1|g": "half_t(1)", "sigma": "half_t(1)"}, "^Every level of 'g' has one row"),
    ],
)
def test_what_only_the_prior_answers_is_warned_of_under_stated_priors(data, priors, message):
    with pytest.warns(IdentifiabilityWarning, match=message):
        made = model_of("y ~ 1 + (1|g)", data, priors)
    assert group_prior(made).text == "half_t(1, df=3)"


def test_one_repeated_measurement_is_enough():
    data = pd.concat([SINGLES, SINGLES.iloc[:1].assign(y=1.0)])
    assert RandomIntercept(model_of("y ~ 1 + (1|g)", data)).size.tolist() == [1, 2]


def test_with_one_group_the_posterior_of_its_sd_is_the_prior():
    with pytest.warns(IdentifiabilityWarning):
        made = rf.fit("y ~ 1 + (1|g)", ONE_GROUP, priors={"1|g": "half_t(2)"}, draws=4000, seed=1)
    draws = made.draws["posterior"]["1|g_sigma"].to_numpy().ravel()
    assert stats.kstest(draws, rf.half_t(2).cdf).pvalue > 0.01


# -- posteriors that do not exist ------------------------------------------------------------------


def mass_along(model, group, direction, start):
    """Growth of the log density, per unit, far out along log(sigma_b), sigma integrated out."""
    target = RandomIntercept(with_priors(model, group=group))
    tau = np.linspace(-8, 8, 1601)
    at = []
    for log_sd in (start, start + direction * 5.0):
        values = target.log_density(np.full(1601, 2 * log_sd) - 2 * tau, tau)
        at.append(logsumexp(values) + np.log(2))
    return (at[1] - at[0]) / 5.0


@pytest.mark.parametrize(
    "formula", ["y ~ 1 + (1|g)", "y ~ z + (1|g)", "y ~ x + (1|g)", "y ~ 0 + (1|g)"]
)
@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "prior", ["half_t(1)", "flat", "jeffreys", "variance(flat)", "variance(invgamma(1))"]
)
def test_group_priors_are_refused_just_where_the_posterior_has_infinite_mass(formula, count, prior):
    data = groups_of(count)
    if formula == "y ~ z + (1|g)" and count == 2:
        data = data.assign(z=data["x"])
    safe = model_of(formula, data, {"1|g": "half_t(1)"})
    # Mass runs off where the density in log(sigma_b) does not fall.
    proper = all(mass_along(safe, prior, d, start=12.0 * d) < -1e-3 for d in (-1, 1))
    if proper:
        assert group_prior(model_of(formula, data, {"1|g": prior})).text.startswith(prior[:-1])
    else:
        with pytest.raises(ImproperPosteriorError):
            model_of(formula, data, {"1|g": prior})


def test_both_answers_occur():
    # So that the test above compares with something: three groups carry a flat SD, two do not.
    for count, expected in ((2, False), (3, True)):
        safe = model_of("y ~ 1 + (1|g)", groups_of(count))
        assert (mass_along(safe, "flat", 1, 12.0) < -1e-3) == expected


@pytest.mark.parametrize(
    ("data", "formula", "priors", "message"),
    [
        (
            groups_of(6),
            "y ~ 1 + (1|g)",
            {"1|g": "jeffreys"},
            "prior jeffreys on 1|g has infinite mass near zero, where the likelihood does not",
        ),
        (
            groups_of(6),
            "y ~ 1 + (1|g)",
            {"1|g": rf.variance(rf.jeffreys())},
            "prior variance(jeffreys) on 1|g has infinite mass near zero",
        ),
        (
            groups_of(2),
            "y ~ 1 + (1|g)",
            {"1|g": rf.flat()},
            "prior flat on 1|g needs more than 1 free directions between groups, the data have 1",
        ),
        (
            groups_of(3),
            "y ~ 1 + (1|g)",
            {"1|g": "variance(flat)"},
            "prior variance(flat) on 1|g needs more than 2 free directions between groups, the "
            "data have 2",
        ),
        (
            groups_of(3),
            "y ~ z + (1|g)",
            {"1|g": "flat"},
            "prior flat on 1|g needs more than 1 free directions between groups, the data have 1",
        ),
        (
            groups_of(3, rows=2),
            "y ~ C(i) + (1|g)",
            {"sigma": "flat", "1|g": "half_t(1)"},
            "prior flat on sigma with 1 residual degrees of freedom",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::ranef.errors.SingleRowWarning")
@pytest.mark.filterwarnings("ignore::ranef.errors.IdentifiabilityWarning")
def test_improper_posterior_is_refused_with_its_reason(data, formula, priors, message):
    data = data.assign(i=np.maximum(np.arange(len(data)), 1))
    with pytest.raises(ImproperPosteriorError) as caught:
        model_of(formula, data, priors)
    assert str(caught.value).startswith(f"The posterior is improper: {message}")
    assert "Use a proper prior" in str(caught.value)


@pytest.mark.parametrize(
    ("coefficients", "accepted"),
    [
        ({}, False),
        ({"x": "norm(0, 1)"}, False),
        ({"z": "norm(0, 1)"}, True),
        ({"Intercept": "norm(0, 1)"}, True),
    ],
)
def test_coefficients_with_a_prior_take_no_direction_between_groups(coefficients, accepted):
    data, formula = groups_of(3), "y ~ x + z + (1|g)"
    safe = model_of(formula, data, coefficients)
    assert (mass_along(safe, "flat", 1, 12.0) < -1e-3) == accepted
    if accepted:
        made = model_of(formula, data, {"1|g": "flat", **coefficients})
        assert group_prior(made).power == 0
    else:
        with pytest.raises(ImproperPosteriorError, match="between groups, the data have 1"):
            model_of(formula, data, {"1|g": "flat", **coefficients})


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("priors", [{}, {"w": "norm(0, 1)"}])
def test_units_of_covariates_do_not_decide_whether_the_posterior_exists(unit, offset, priors):
    data = groups_of(3)
    w = np.random.default_rng(3).normal(size=len(data))
    data = data.assign(x=(data["x"] + offset) * unit, w=w)
    made = model_of("y ~ x + w + (1|g)", data, {"1|g": "flat", **priors})
    assert group_prior(made).power == 0
    with pytest.raises(ImproperPosteriorError):
        model_of("y ~ x + w + z + (1|g)", data, {"1|g": "flat", **priors})


STILL = pd.DataFrame({"y": np.repeat([1.0, 2.0, 5.0, 7.0], 3), "g": np.repeat(range(4), 3)})


@pytest.mark.parametrize(
    "prior",
    [
        "half_t(1)",
        "halfnorm(scale=1)",
        "jeffreys",
        "flat",
        "variance(flat)",
        "uniform(0, 3)",
        "uniform(0.1, 3)",
        "gamma(3)",
        "gamma(7)",
        "gamma(9)",
        "gamma(12)",
        "lognorm(1)",
        "invgamma(2)",
        "variance(invgamma(1, scale=1))",
        "variance(gamma(3))",
        "variance(gamma(5))",
    ],
)
def test_response_constant_within_groups_is_refused_just_where_sigma_would_run_to_zero(prior):
    # Take a response that varies, then strip its variation, to have a model that is not refused.
    noisy = STILL.assign(y=STILL["y"] + np.tile([-1.0, 0.0, 1.0], 4))
    safe = model_of("y ~ 1 + (1|g)", noisy, {"1|g": "half_t(3)"})
    still = replace(safe.response, within=0 * safe.response.within, square=0.0)
    bare = with_priors(safe, sigma=prior).with_response(still)
    tau = np.array([-25.0, -30.0])
    at = RandomIntercept(bare).log_density(-2 * tau, tau)  # sigma_b = 1
    falls = at[0] == -np.inf or at[0] - at[1] > 1e-3
    if falls:
        made = model_of("y ~ 1 + (1|g)", STILL, {"sigma": prior})
        assert made.parameters.family.sigma.text.startswith(prior[:-1])
    else:
        with pytest.raises(ImproperPosteriorError) as caught:
            model_of("y ~ 1 + (1|g)", STILL, {"sigma": prior})
        assert "the response does not vary within groups, so sigma = 0 fits" in str(caught.value)
        assert "variance(invgamma(a, scale=b))" in str(caught.value)


def test_response_constant_within_groups_is_refused_by_default_and_fits_with_an_inverse_gamma():
    with pytest.raises(ImproperPosteriorError, match=r"half_t\(3, df=3\) has mass there"):
        model_of("y ~ 1 + (1|g)", STILL)
    priors = {"sigma": rf.variance(stats.invgamma(1, scale=1))}
    made = rf.fit("y ~ 1 + (1|g)", STILL, priors=priors, draws=1000, seed=1)
    assert made.certificate.trusted
    assert made.summary().loc["sigma", "mean"] < 0.6


@pytest.mark.parametrize("offset", [0.1, 1e6 / 3, 1e12 / 7])
def test_rounding_is_no_variation_within_groups(offset):
    data = STILL.assign(y=STILL["y"] * 1.1 + offset)
    with pytest.raises(ImproperPosteriorError, match="does not vary within groups"):
        model_of("y ~ 1 + (1|g)", data)


def test_response_that_the_covariates_explain_wholly_within_groups_is_refused():
    data = groups_of(4)
    data["y"] = 3 * data["x"] + np.repeat([1.0, -1, 4, 2], 4)
    with pytest.raises(ImproperPosteriorError, match="does not vary within groups"):
        model_of("y ~ x + (1|g)", data)


@pytest.mark.filterwarnings("ignore::ranef.errors.SingleRowWarning")
def test_as_many_coefficients_as_rows_are_refused_and_one_fewer_is_taken():
    data = groups_of(3, rows=2).assign(i=np.arange(6))
    with pytest.raises(DataError, match="6 fixed-effect columns came with 6 rows"):
        model_of("y ~ C(i) + (1|g)", data)
    data, priors = data.assign(i=[0, 0, 1, 2, 3, 4]), {"1|g": "half_t(3)"}
    with pytest.warns(IdentifiabilityWarning, match="a coefficient for every level of 'g'"):
        assert model_of("y ~ C(i) + (1|g)", data, priors).design.p == 5


@pytest.mark.parametrize("count", [2, 3])
def test_few_groups_and_more_covariates_than_groups_are_fitted_quietly(count):
    data = groups_of(count, rows=8)
    rng = np.random.default_rng(0)
    data = data.assign(**{f"x{i}": rng.normal(size=len(data)) for i in range(5)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = rf.fit(
            "y ~ x0 + x1 + x2 + x3 + x4 + (1|g)",
            data,
            draws=1000,
            seed=2,
            priors={"1|g": "expon(0, 1)"},
        )
    assert made.certificate.trusted

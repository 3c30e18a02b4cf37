"""Priors: densities that integrate to one, text that reads back, and errors with positions."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

import ranef as rf
from ranef.errors import PriorError
from ranef.mixed_model.model import build_model
from ranef.priors import (
    CoefficientPrior,
    Power,
    Variance,
    coefficient_prior,
    default_scale,
    flat,
    half_t,
    jeffreys,
    parse_prior,
    scale_prior,
    variance,
)

# -- the half-t family -----------------------------------------------------------------------------

HALF_T = [(2.5, 3), (0.01, 1), (1e4, 7.5), (1.0, 100)]
X = np.array([0.0, 1e-6, 0.1, 0.76, 1.0, 3.0, 50.0, 1e6])


@pytest.mark.parametrize(("scale", "df"), HALF_T)
def test_half_t_is_the_absolute_value_of_a_t_variable(scale, df):
    half, t = half_t(scale, df), stats.t(df, scale=scale)
    x = X * scale
    np.testing.assert_allclose(half.pdf(x), 2 * t.pdf(x), rtol=1e-13)
    np.testing.assert_allclose(half.logpdf(x), np.log(2) + t.logpdf(x), rtol=1e-13)
    np.testing.assert_allclose(half.cdf(x), 2 * t.cdf(x) - 1, rtol=1e-12)
    np.testing.assert_allclose(half.sf(x), 2 * t.sf(x), rtol=1e-13)
    np.testing.assert_allclose(half.ppf(half.cdf(x[2:6])), x[2:6], rtol=1e-9)
    assert half.median() == pytest.approx(t.ppf(0.75))
    np.testing.assert_array_equal(half.pdf(-x[1:]), 0)
    np.testing.assert_array_equal(half.cdf(-x[1:]), 0)
    assert half.support() == (0, np.inf)


@pytest.mark.parametrize(("scale", "df"), HALF_T)
def test_half_t_density_integrates_to_its_distribution_function(scale, df):
    half = half_t(scale, df)
    for end in (0.3, 2.0):
        mass, _ = integrate.quad(half.pdf, 0, end * scale, epsabs=0, epsrel=1e-10)
        assert mass == pytest.approx(half.cdf(end * scale), rel=1e-9)


def test_half_t_draws_follow_it():
    draws = half_t(2.5, 4).rvs(size=20_000, random_state=np.random.default_rng(1))
    assert stats.kstest(draws, half_t(2.5, 4).cdf).pvalue > 0.01
    assert stats.kstest(draws, half_t(2.7, 4).cdf).pvalue < 1e-6


def test_half_t_has_three_degrees_of_freedom_unless_told():
    assert half_t(2.5).pdf(4.0) == half_t(2.5, 3).pdf(4.0)
    assert half_t(2.5).pdf(4.0) == pytest.approx(2 * stats.t.pdf(4 / 2.5, 3) / 2.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "half_t: scale is 0; a positive number is expected."),
        ((-2.5,), "half_t: scale is -2.5; a positive number"),
        ((np.nan,), "half_t: scale is nan"),
        ((np.inf,), "half_t: scale is inf"),
        ((1, 0), "half_t: df is 0"),
        ((1, -3), "half_t: df is -3"),
    ],
)
def test_half_t_refuses_what_is_not_positive(arguments, message):
    with pytest.raises(PriorError) as caught:
        half_t(*arguments)
    assert message in str(caught.value)


# -- densities on the log scale --------------------------------------------------------------------

PROPER = {
    "half_t(2.5)": None,
    "half_t(300, df=1)": None,
    "expon(scale=2)": None,
    "halfnorm(scale=0.01)": None,
    "halfcauchy(scale=25)": None,
    "gamma(2.5, scale=3)": None,
    "gamma(0.5)": None,
    "lognorm(1, scale=4)": None,
    "uniform(0, 3)": None,
    "uniform(1, 2)": None,
    "truncnorm(0, 4, scale=2)": None,
    "expon(1, 2)": None,
    "invgamma(2, scale=3)": None,
    "variance(invgamma(0.5, scale=2))": "invgamma(0.5, scale=2)",
    "variance(invgamma(3, scale=200))": "invgamma(3, scale=200)",
    "variance(invgamma(2, loc=1, scale=2))": "invgamma(2, loc=1, scale=2)",
    "variance(gamma(2, scale=3))": "gamma(2, scale=3)",
    "variance(half_t(1.5))": "half_t(1.5)",
    "variance(uniform(1, 8))": "uniform(1, 8)",
}


@pytest.mark.parametrize("text", PROPER)
def test_log_density_of_log_sigma_integrates_to_one(text):
    prior = scale_prior(text, "sigma")
    low, high = (np.log(v) if v > 0 else -60.0 for v in prior.support)
    middle = np.log(prior.median)

    def density(u):
        return float(np.exp(prior.log_density(np.array(u))))

    parts = [
        integrate.quad(density, max(low, -60.0), middle, limit=300, epsabs=1e-12)[0],
        integrate.quad(density, middle, min(high, 60.0), limit=300, epsabs=1e-12)[0],
    ]
    # Half on either side of the median of sigma, so neither the Jacobian nor a power is amiss.
    np.testing.assert_allclose(parts, 0.5, rtol=1e-7)


@pytest.mark.parametrize(("text", "on_variance"), PROPER.items())
def test_log_density_is_the_distributions_times_the_jacobian(text, on_variance):
    prior = scale_prior(text, "sigma")
    u = np.log(prior.median) + np.array([-0.3, 0.0, 0.2])
    inner = parse_prior(on_variance or text)
    if on_variance:
        expected = inner.logpdf(np.exp(2 * u)) + np.log(2) + 2 * u
    else:
        expected = inner.logpdf(np.exp(u)) + u
    np.testing.assert_allclose(prior.log_density(u), expected, rtol=1e-11)
    assert prior.on_variance == bool(on_variance)


@pytest.mark.parametrize("text", PROPER)
def test_log_density_is_quiet_and_never_nan_at_absurd_scales(text):
    u = np.array([-800.0, -400.0, -50.0, 50.0, 400.0, 800.0])
    values = scale_prior(text, "sigma").log_density(u)
    assert not np.isnan(values).any()
    assert np.all(values < 0)


@pytest.mark.parametrize("text", PROPER)
def test_draws_of_a_scale_prior_have_its_median_and_support(text):
    prior = scale_prior(text, "sigma")
    draws = prior.draw(np.random.default_rng(2), 4000)
    below = np.mean(draws < prior.median)
    assert abs(below - 0.5) < 4 * 0.5 / np.sqrt(4000)
    assert np.all((draws >= prior.support[0]) & (draws <= prior.support[1]))


@pytest.mark.parametrize(
    ("prior", "exponent"),
    [
        (flat(), 0.0),
        (jeffreys(), 1.0),
        (variance(flat()), -1.0),
        (variance(jeffreys()), 1.0),
        ("flat", 0.0),
        ("jeffreys()", 1.0),
        ("variance(flat)", -1.0),
    ],
)
def test_improper_priors_are_powers_of_sigma(prior, exponent):
    made = scale_prior(prior, "sigma")
    assert made.power == exponent
    assert made.median is None
    u = np.array([-2.0, 0.0, 3.0])
    # The density sigma^-c on sigma is sigma^(1-c) on its logarithm.
    np.testing.assert_allclose(made.log_density(u), (1 - exponent) * u)
    with pytest.raises(PriorError, match="is improper, so nothing can be drawn from it"):
        made.draw(np.random.default_rng(), 1)


@pytest.mark.parametrize(
    ("text", "conjugate", "support"),
    [
        ("variance(invgamma(0.5, scale=2))", (0.5, 2.0), (0, np.inf)),
        ("variance(invgamma(0.5, 0, 2))", (0.5, 2.0), (0, np.inf)),
        ("variance(invgamma(3))", (3.0, 1.0), (0, np.inf)),
        ("variance(invgamma(2, loc=4, scale=2))", None, (2, np.inf)),
        ("invgamma(0.5, scale=2)", None, (0, np.inf)),
        ("variance(uniform(1, 8))", None, (1, 3)),
        ("uniform(1, 8)", None, (1, 9)),
    ],
)
def test_inverse_gamma_variances_and_supports_are_recognised(text, conjugate, support):
    made = scale_prior(text, "sigma")
    assert made.inverse_gamma == conjugate
    assert made.support == pytest.approx(support)


@pytest.mark.parametrize("number", ["0.001", "1e-4", "1e-6"])
def test_vague_inverse_gammas_are_taken_though_their_median_overflows(number):
    made = scale_prior(f"variance(invgamma({number}, scale={number}))", "sigma")
    assert made.inverse_gamma == (float(number), float(number))
    assert (made.median is None) == (number != "0.001")
    priors = {"sigma": made, "1|Batch": half_t(50)}
    data = rf.datasets.load("Dyestuff")
    fit = rf.fit("Yield ~ 1 + (1|Batch)", data, priors=priors, draws=1000, seed=1)
    assert fit.certificate.trusted


# -- defaults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mad", "scale"),
    [(0, 2.5), (0.2, 2.5), (2.54, 2.5), (2.56, 2.6), (47.27, 47.3), (56.31, 56.3), (1e6, 1e6)],
)
def test_default_scale_is_that_of_brms(mad, scale):
    # brms 2.x: prior on SDs student_t(3, 0, max(2.5, round(mad(y), 1))).
    assert default_scale(mad) == scale


def test_default_priors_are_flat_and_half_t_of_the_mad():
    data = rf.datasets.load("sleepstudy")
    made = build_model("Reaction ~ Days + (1|Subject)", data)[0].prior_texts()
    y = data["Reaction"]
    mad = 1.4826 * np.median(np.abs(y - np.median(y)))
    half = f"half_t({round(mad, 1):g}, df=3)"
    assert made == {"Intercept": "flat", "Days": "flat", "1|Subject": half, "sigma": half}


# -- text ------------------------------------------------------------------------------------------

NUMBER = st.floats(1e-6, 1e6).map(lambda v: float(f"{v:.6g}"))
LOCATION = st.floats(-1e6, 1e6).map(lambda v: float(f"{v:.6g}"))
FAMILIES = {
    "half_t": (st.tuples(NUMBER), {"df": NUMBER}),
    "halfnorm": (st.tuples(), {"scale": NUMBER, "loc": NUMBER}),
    "halfcauchy": (st.tuples(), {"scale": NUMBER}),
    "expon": (st.tuples(NUMBER, NUMBER), {}),
    "gamma": (st.tuples(NUMBER), {"scale": NUMBER}),
    "invgamma": (st.tuples(NUMBER), {"scale": NUMBER}),
    "lognorm": (st.tuples(NUMBER), {"scale": NUMBER}),
    "uniform": (st.tuples(NUMBER, NUMBER), {}),
    "weibull_min": (st.tuples(NUMBER), {"scale": NUMBER}),
}


@st.composite
def texts(draw):
    """A prior on a scale, as a user might type it."""
    family = draw(st.sampled_from(sorted(FAMILIES)))
    positional, named = FAMILIES[family]
    given_names = {k: draw(v) for k, v in named.items() if draw(st.booleans())}
    space = draw(st.sampled_from(["", " "]))
    parts = [repr(v) for v in draw(positional)] + [f"{k}={v!r}" for k, v in given_names.items()]
    inside = f"{space}{f',{space}'.join(parts)}{space}"
    text = f"{family}({inside})"
    return f"variance({text})" if draw(st.booleans()) else text


@given(texts())
def test_a_prior_reads_back_from_its_text(text):
    made = scale_prior(text, "sigma")
    again = scale_prior(made.text, "sigma")
    assert again.text == made.text
    assert (again.on_variance, again.inverse_gamma) == (made.on_variance, made.inverse_gamma)
    u = np.log(made.median or 1.0) + np.array([0.0, 0.1])
    np.testing.assert_array_equal(again.log_density(u), made.log_density(u))


@given(LOCATION, NUMBER)
def test_a_normal_prior_reads_back_from_its_text(mean, sd):
    made = coefficient_prior(f"norm({mean!r}, {sd!r})", "x")
    assert (made.mean, made.sd) == (mean, pytest.approx(sd, rel=1e-12))
    assert coefficient_prior(made.text, "x") == made


@pytest.mark.parametrize(
    ("prior", "text"),
    [
        (half_t(50), "half_t(50, df=3)"),
        (half_t(2.5, df=1), "half_t(2.5, df=1)"),
        (stats.halfnorm(scale=10), "halfnorm(scale=10)"),
        (stats.gamma(2, 0, 0.1), "gamma(2, 0, 0.1)"),
        (variance(stats.invgamma(0.1, scale=1)), "variance(invgamma(0.1, scale=1))"),
        (variance(half_t(3)), "variance(half_t(3, df=3))"),
        (flat(), "flat"),
        (variance(jeffreys()), "variance(jeffreys)"),
        (stats.expon(scale=np.float64(2)), "expon(scale=2)"),
    ],
)
def test_objects_and_their_text_are_the_same_prior(prior, text):
    made = scale_prior(prior, "sigma")
    assert made.text == text
    again = scale_prior(text, "sigma")
    u = np.linspace(-1, 3, 9)
    np.testing.assert_array_equal(again.log_density(u), made.log_density(u))
    assert scale_prior(made, "sigma") is made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flat", Power(0.0, "flat")),
        ("flat()", Power(0.0, "flat")),
        (" jeffreys ", Power(1.0, "jeffreys")),
        ("variance(flat)", Variance(Power(0.0, "flat"))),
    ],
)
def test_words_are_read(text, expected):
    assert parse_prior(text) == expected


def test_signs_and_exponents_are_numbers():
    made = parse_prior("norm(-1.5, +2e1)")
    assert (made.mean(), made.std()) == (-1.5, 20.0)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("half_t(50", 7, "'(' was never closed"),
        ("half_t(50))", 11, "unmatched ')'"),
        ("half_t(5 0)", 8, "invalid syntax"),
        ("", 1, "expected for example 'half_t(50)'"),
        ("half_t(x)", 8, "a number is expected"),
        ("half_t(50, df=x)", 15, "a number is expected"),
        ("half_t('50')", 8, "a number is expected"),
        ("half_t(True)", 8, "a number is expected"),
        ("half_t(2*3)", 8, "a number is expected"),
        ("half_t(1, **{'df': 4})", 13, "a number is expected"),
        ("half_t(*[1])", 8, "a number is expected"),
        ("variance(gamma(a))", 16, "a number is expected"),
    ],
)
def test_error_in_text_has_its_position_as_a_number(text, position, message):
    with pytest.raises(PriorError) as caught:
        parse_prior(text)
    assert str(caught.value).startswith(f"Prior {text!r}, character {position}: ")
    assert message in str(caught.value)
    assert (caught.value.position, caught.value.text) == (position, text)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("halfnrm(1)", 1, "no distribution is called 'halfnrm'. Did you mean 'halfnorm'?"),
        ("half_tt(1)", 1, "Did you mean 'half_t'?"),
        (
            "variance(invgama(1))",
            10,
            "no distribution is called 'invgama'. Did you mean 'invgamma'?",
        ),
        ("poisson(3)", 1, "no distribution is called 'poisson'"),
        ("rv_continuous()", 1, "no distribution is called 'rv_continuous'"),
        ("zzzz(1)", 1, "Known names: 'half_t', 'flat', 'jeffreys', 'lkj', 'variance'"),
        ("halfnorm", 1, "'halfnorm' needs arguments, e.g. 'halfnorm(scale=1)'"),
        ("variance", 1, "'variance' needs arguments"),
        ("variance()", 1, "variance takes one distribution"),
        ("variance(flat, flat)", 1, "variance takes one distribution"),
        ("flat(1)", 1, "flat takes no arguments"),
        ("variance(jeffreys(2))", 10, "jeffreys takes no arguments"),
        ("half_t()", 1, "half_t: missing 1 required positional argument: 'scale'"),
        ("gamma(b=1)", 1, "gamma: got an unexpected keyword argument 'b'"),
        ("half_t(1, loc=2)", 1, "half_t: got an unexpected keyword argument 'loc'"),
        ("gamma(1, 2, 3, 4)", 1, "gamma: takes from 2 to 4 positional arguments but 5 were given"),
        ("1 + 1", 1, "a distribution's name is expected"),
        ("stats.halfnorm(1)", 1, "a distribution's name is expected"),
        ("variance(3)", 10, "a distribution's name is expected"),
        ("__import__('os').system('x')", 1, "a distribution's name is expected"),
    ],
)
def test_error_in_text_says_what_and_where(text, position, message):
    with pytest.raises(PriorError) as caught:
        parse_prior(text)
    assert str(caught.value).startswith(f"Prior {text!r}, character {position}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_positions_do_not_count_blanks_before_the_text():
    with pytest.raises(PriorError, match=r"^Prior 'half_t\(x\)', character 8: "):
        parse_prior("   half_t(x)  ")


# -- what does not fit its parameter ---------------------------------------------------------------

NO_POSITIVE = "its scale or shape is not a positive number"
FROZEN = "expected a frozen continuous scipy.stats distribution such as scipy.stats.halfnorm"


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (stats.halfnorm(scale=-1), f"Prior halfnorm(scale=-1) for '1|g': {NO_POSITIVE}"),
        (stats.halfnorm(scale=0), NO_POSITIVE),
        (stats.gamma(-1), NO_POSITIVE),
        (stats.gamma(2, scale=np.inf), NO_POSITIVE),
        (stats.halfnorm(scale=np.nan), NO_POSITIVE),
        (variance(stats.invgamma(1, scale=-1)), NO_POSITIVE),
        ("expon(0, -3)", NO_POSITIVE),
        (stats.norm(0, 1), "norm(0, 1) for '1|g' has support (-inf, inf); a standard deviation"),
        (stats.uniform(-1, 3), "has support (-1, 2); a standard deviation needs one on positive"),
        (stats.expon(-0.5), "has support (-0.5, inf)"),
        (variance(stats.norm(5, 1)), "has support (-inf, inf); a variance needs one on positive"),
        (stats.poisson(3), f"Prior for '1|g' is a rv_discrete_frozen; {FROZEN}"),
        (stats.halfnorm, f"Prior for '1|g' is a halfnorm_gen; {FROZEN}"),
        (half_t, f"is a function; {FROZEN}"),
        (3.0, f"is a float; {FROZEN}"),
        (None, f"is a NoneType; {FROZEN}"),
        (stats.multivariate_normal([0, 0]), FROZEN),
        (stats.gamma(2, scale=[1, 2]), "gamma has arrays as arguments; one number for each"),
    ],
)
def test_what_is_no_prior_on_a_scale_is_refused(prior, message):
    with pytest.raises(PriorError) as caught:
        scale_prior(prior, "1|g")
    assert message in str(caught.value)
    assert "'1|g'" in str(caught.value)
    assert caught.value.parameter == "1|g"


@pytest.mark.parametrize(
    "inner",
    [stats.halfnorm, variance(stats.expon()), stats.poisson(3), 3, "expon", rf.lkj(2)],
)
def test_what_is_no_distribution_on_a_variance_is_refused_at_once(inner):
    message = f"variance is given a {type(inner).__name__}; expected a frozen continuous"
    with pytest.raises(PriorError, match=message):
        variance(inner)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (stats.norm(0, -1), "Prior norm(0, -1) for 'x': its scale is not a positive number"),
        (stats.norm(0, 0), "its scale is not a positive number"),
        (stats.norm(np.nan, 1), "its scale is not a positive number"),
        (stats.norm(0, np.inf), "its scale is not a positive number"),
        (stats.t(3), "Prior t(3) for coefficient 'x': only norm(mean, sd) and flat integrate out"),
        (half_t(1), "Prior half_t(1, df=3) for coefficient 'x': only norm(mean, sd) and flat"),
        ("jeffreys", "Prior for coefficient 'x' must be normal or flat"),
        (variance(flat()), "Prior for coefficient 'x' must be normal or flat"),
        (stats.norm, f"is a norm_gen; {FROZEN}"),
        (stats.norm([0, 1], 1), "norm has arrays as arguments"),
        (0, f"is a int; {FROZEN}"),
    ],
)
def test_what_is_no_prior_on_a_coefficient_is_refused(prior, message):
    with pytest.raises(PriorError) as caught:
        coefficient_prior(prior, "x")
    assert message in str(caught.value)
    assert caught.value.parameter == "x"


@pytest.mark.parametrize(
    ("prior", "mean", "sd", "precision"),
    [
        ("norm(2, 4)", 2.0, 4.0, 1 / 16),
        (stats.norm(loc=-1, scale=0.5), -1.0, 0.5, 4.0),
        (stats.norm(3), 3.0, 1.0, 1.0),
        (flat(), 0.0, np.inf, 0.0),
        ("flat", 0.0, np.inf, 0.0),
    ],
)
def test_coefficients_take_normal_and_flat_priors(prior, mean, sd, precision):
    made = coefficient_prior(prior, "x")
    assert (made.mean, made.sd, made.precision) == (mean, sd, precision)
    assert isinstance(made, CoefficientPrior)
    assert coefficient_prior(made, "x") is made


def test_half_t_priors_can_be_sent_to_another_process():
    prior = half_t(2.5, df=4)
    copy = pickle.loads(pickle.dumps(prior))
    x = np.array([0.0, 0.3, 7.0])
    np.testing.assert_array_equal(copy.logpdf(x), prior.logpdf(x))
    np.testing.assert_array_equal(copy.rvs(3, random_state=1), prior.rvs(3, random_state=1))
    assert scale_prior(copy, "sigma").text == "half_t(2.5, df=4)"

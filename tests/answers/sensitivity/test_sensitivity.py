"""Prior sensitivity: densities by brute force, refits against fresh fits, and honest verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef as rf
from frames import make_frame
from ranef.answers.sensitivity.power_scaling import (
    log_likelihood_draws,
    log_prior_density,
    power_scaling_sensitivity,
)
from ranef.answers.sensitivity.refits import FITTED
from ranef.posterior.draws import posterior_draws

INTERCEPT = "y ~ x + (1|g)"


@pytest.fixture(scope="module")
def slopes():
    frame = make_frame(groups=12)
    frame["u"] = np.random.default_rng(5).normal(size=len(frame))
    return rf.fit("y ~ x + f + (x + u|g)", frame, seed=3)


def moments_gap(ours, theirs):
    """Difference of two means in units of its Monte Carlo error, an ESS of half the draws."""
    error = np.sqrt(2 * ours.var() / len(ours) + 2 * theirs.var() / len(theirs))
    return abs(ours.mean() - theirs.mean()) / error


def test_log_likelihood_and_prior_by_brute_force():
    frame = make_frame()
    priors = {"x": "norm(1, 2)", "x|g": "expon(scale=2)", "x|g_corr": "lkj(2.5)"}
    priors |= {"1|g": "variance(invgamma(2, scale=3))", "sigma": "half_t(2)"}
    fit = rf.fit("y ~ x + f + (x|g)", frame, priors=priors, draws=2000, seed=3)
    drawn = posterior_draws(fit.draws, fit.source.model)
    X = fit.source.rows.X
    Z = np.stack([np.ones(len(frame)), frame["x"]], axis=1)
    same = frame["g"].to_numpy()[:, None] == frame["g"].to_numpy()
    posterior = fit.draws["posterior"]
    likelihood, prior = [], []
    for i in range(20):
        a, b, r, s = (
            float(posterior[n].to_numpy().ravel()[i])
            for n in ("1|g_sigma", "x|g_sigma", "x|g_corr", "sigma")
        )
        cov = np.array([[a * a, r * a * b], [r * a * b, b * b]])
        V = same * (Z @ cov @ Z.T) + s**2 * np.eye(len(frame))
        likelihood.append(stats.multivariate_normal(X @ drawn.beta[i], V).logpdf(frame["y"]))
        lp = stats.norm(1, 2).logpdf(drawn.beta[i, fit.source.model.names.index("x")])
        lp += stats.expon(scale=2).logpdf(b) + rf.half_t(2).logpdf(s)
        lp += stats.invgamma(2, scale=3).logpdf(a**2) + np.log(a)
        lp += 1.5 * np.log(1 - r**2)
        prior.append(lp)
    np.testing.assert_allclose(log_likelihood_draws(drawn)[:20], likelihood, rtol=1e-9)
    ours = log_prior_density(fit.source.model, drawn)[:20]
    np.testing.assert_allclose(ours - ours[0], np.array(prior) - prior[0], atol=1e-8)
    # Negative control: the density of log SDs is another function of the draws.
    logs = fit.source.model.parameters.log_prior(drawn.theta[:20])
    assert np.ptp(logs - np.array(prior)) > 0.1


def test_the_fits_own_rows_are_those_of_the_summary(slopes):
    made = slopes.sensitivity(priors={}, seed=1)
    table = made.table()
    summary = slopes.summary()
    assert list(table.index.unique("quantity")) == list(summary.index)
    own = table.xs(FITTED, level="prior")
    for column in ("mean", "sd", "2.5%", "median", "97.5%"):
        np.testing.assert_allclose(own[column], summary[column], rtol=1e-12)
    np.testing.assert_array_equal(own["shift"], 0.0)
    np.testing.assert_array_equal(own["width"], 1.0)


@pytest.mark.parametrize("formula", [INTERCEPT, "y ~ x + (x|g)"])
def test_a_refit_is_the_fit_under_that_prior(formula):
    frame = make_frame()
    fit = rf.fit(formula, frame, seed=1)
    other = {"1|g": "half_t(0.2, df=7)", "sigma": "variance(invgamma(40, scale=40))"}
    made = fit.sensitivity({"other": other}, seed=2)
    fresh = rf.fit(formula, frame, priors=other, seed=3)
    assert made.priors["other"] == fresh.source.model.prior_texts()
    for name in ("1|g_sigma", "sigma", "x"):
        theirs = fresh.draws["posterior"][name].to_numpy().ravel()
        assert moments_gap(made.draws["other"][name], theirs) < 4.5
    # Negative control: the fit's own prior gives another posterior.
    theirs = fresh.draws["posterior"]["sigma"].to_numpy().ravel()
    assert moments_gap(made.draws[FITTED]["sigma"], theirs) > 4.5


def test_default_alternatives_against_quadrature():
    """Dyestuff under each default prior: sums of squares on a grid, balanced one-way layout."""
    data = rf.datasets.load("Dyestuff")
    made = rf.fit("Yield ~ 1 + (1|Batch)", data, seed=1).sensitivity(seed=2)
    y = data["Yield"].to_numpy(float).reshape(6, 5)
    within = ((y - y.mean(1, keepdims=True)) ** 2).sum()
    between = 5 * ((y.mean(1) - y.mean()) ** 2).sum()
    s = 1.4826 * np.median(np.abs(y - np.median(y)))
    e, g = np.meshgrid(np.geomspace(20, 200, 400), np.geomspace(0.01, 4000, 1500), indexing="ij")
    between_mean = e**2 + 5 * g**2
    log_f = -24 * np.log(e) - within / e**2 / 2 - 2.5 * np.log(between_mean)
    log_f += -between / between_mean / 2 + np.log(e) + np.log(g)
    ig = stats.invgamma(0.1, scale=0.1 * s**2)
    total = np.sqrt(e**2 + g**2)
    priors = {
        "half-t": rf.half_t(s, 3).logpdf(e) + rf.half_t(s, 3).logpdf(g),
        "half-Cauchy": rf.half_t(s, 1).logpdf(e) + rf.half_t(s, 1).logpdf(g),
        "exponential": -(e + g) / s,
        "uniform": np.where(g < 10 * s, 0.0, -np.inf),
        "inverse gamma": ig.logpdf(e**2) + ig.logpdf(g**2) + np.log(e) + np.log(g),
        # Total V = T^2 with half-t T, share uniform: d(e^2) d(g^2) = V dV dw.
        "variance shares": rf.half_t(s, 3).logpdf(total) - 3 * np.log(total) + np.log(e * g),
    }
    assert list(made.draws) == [FITTED, *priors]
    truth = {}
    for name, log_prior in priors.items():
        weight = np.exp(log_f + log_prior - (log_f + log_prior).max())
        weight /= weight.sum()
        for quantity, values in (("sigma", e), ("1|Batch_sigma", g)):
            values = np.log(values)
            mean = float((weight * values).sum())
            truth[name, quantity] = mean, np.sqrt(float((weight * (values - mean) ** 2).sum()))

    def gap(name, quantity, values):
        mean, sd = truth[name, quantity]
        return abs(np.log(values).mean() - mean) / (sd / np.sqrt(len(values)))

    for name, quantity in truth:
        assert gap(name, quantity, made.draws[name][quantity]) < 4.5
    # Negative control: the draws under one prior do not pass for those under another.
    assert gap("variance shares", "1|Batch_sigma", made.draws["uniform"]["1|Batch_sigma"]) > 4.5


def test_verdicts_tell_whose_the_answer_is():
    few = make_frame(groups=3)
    made = rf.fit(INTERCEPT, few, priors={"1|g": "half_t(0.05)"}, seed=1).sensitivity(seed=1)
    assert made.verdicts["1|g_sigma"].startswith("the prior's: medians from 0.0")
    assert "scaling the fit's own prior moves it too" in made.verdicts["1|g_sigma"]
    assert made.power_scaling.loc["1|g_sigma", "prior"] > 0.05
    many = rf.fit(INTERCEPT, make_frame(groups=400), seed=1, draws=2000).sensitivity(seed=1)
    assert all(v.startswith("the data's") for v in many.verdicts.values())
    assert (many.power_scaling["prior"] < 0.02).all()
    assert (many.power_scaling["likelihood"] > 0.05).all()
    assert "the data's" in str(many)


def test_power_scaling_follows_the_conjugate_normal():
    """A normal mean with normal prior: the more it weighs, the more sensitive the posterior."""
    rng = np.random.default_rng(1)
    found = []
    for weight in (0.02, 0.5, 0.98):  # of the prior in the posterior precision, prior mean 1
        theta = (weight + rng.normal(size=4000)) * 1.0
        log_prior = -0.5 * weight * (theta - 1) ** 2
        log_likelihood = -0.5 * (1 - weight) * theta**2
        found.append(power_scaling_sensitivity({"a/b": theta}, log_prior, log_likelihood))
    prior = [float(f.loc["a/b", "prior"]) for f in found]
    likelihood = [float(f.loc["a/b", "likelihood"]) for f in found]
    assert prior == sorted(prior)
    assert likelihood == sorted(likelihood, reverse=True)
    flat = power_scaling_sensitivity({"a": theta}, np.zeros(4000), log_likelihood)
    assert flat.loc["a", "prior"] == 0.0


def test_functions_of_the_draws_as_quantities(tmp_path):
    fit = rf.fit(INTERCEPT, make_frame(), seed=1, draws=1000)
    icc = {"ICC": lambda d: d["1|g_sigma"] ** 2 / (d["1|g_sigma"] ** 2 + d["sigma"] ** 2)}
    made = fit.sensitivity(quantities=icc, seed=1, draws=500)
    assert list(made.verdicts) == ["ICC"]
    assert len(made.draws["uniform"]["ICC"]) == 500
    assert len(made.plot().axes) == 1
    fit.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc").sensitivity(quantities=icc, seed=1, draws=500)
    pd.testing.assert_frame_equal(again.table(), made.table())
    pd.testing.assert_frame_equal(again.power_scaling, made.power_scaling)


@pytest.mark.filterwarnings("ignore::ranef.IdentifiabilityWarning")
@pytest.mark.parametrize(
    ("formula", "options", "left_out"),
    [
        ("y ~ x + (x|g)", {"priors": {"x|g": "invwishart(4, scale=[[1, 0], [0, 1]])"}}, set()),
        ("y ~ x + (1|g)", {"priors": {"shares": 1, "total_sigma": "half_t(3)"}}, set()),
        ("y ~ x + (1|g) + (1|f)", {"priors": {"x": "norm(0, 1)"}}, set()),
        ("y ~ x + (1|g)", {"se": "w"}, {"variance shares"}),
        ("y ~ 0 + x + (x||g)", {"weights": "w"}, set()),
    ],
)
def test_every_kind_of_model_gets_alternatives(formula, options, left_out):
    frame = make_frame().assign(w=lambda d: 1 + (d["x"] > 0))
    made = rf.fit(formula, frame, seed=1, draws=800, **options).sensitivity(draws=400, seed=1)
    names = {"half-t", "half-Cauchy", "exponential", "uniform", "inverse gamma", "variance shares"}
    assert set(made.draws) | set(made.failed) == {FITTED} | names - left_out
    assert not set(made.failed)
    assert np.isfinite(made.table().to_numpy()).all()
    assert np.isfinite(made.power_scaling.to_numpy()).all()
    assert len(made.plot().axes) >= len(made.verdicts)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"priors": ["half_t(1)"]}, rf.PriorError, "a name for each alternative"),
        ({"priors": {"1|g": "half_t(1)"}}, rf.PriorError, "a name for each alternative"),
        ({"priors": {FITTED: {}}}, rf.PriorError, "the name of the fit's own priors"),
        ({"priors": {"a": {"1|h": "half_t(1)"}}}, rf.PriorError, "the model does not have"),
        ({"priors": {"a": {"1|g": "jeffreys"}}}, rf.ImproperPosteriorError, "improper"),
        ({"quantities": ["sigm"]}, rf.DataError, "Did you mean 'sigma'"),
        ({"quantities": "sigma"}, rf.DataError, "a list of names is expected"),
        ({"quantities": {"a": "sigma"}}, rf.DataError, "a function of the draws"),
        ({"quantities": {"a": lambda d: d["sigm"]}}, rf.DataError, "Did you mean 'sigma'"),
        ({"quantities": {"a": lambda d: d["sigma"].mean()}}, rf.DataError, "one number for each"),
        ({"prob": 95}, rf.DataError, "prob is 95"),
        ({"draws": 10}, rf.DataError, "draws is 10"),
    ],
)
def test_bad_input_is_one_line(fitted, arguments, error, text):
    with pytest.raises(error, match=text) as caught:
        fitted.sensitivity(**arguments)
    assert "\n" not in str(caught.value)

"""Marginal likelihoods and Bayes factors against closed forms, quadrature and other estimators."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import gammaln, logsumexp

import ranef as rf
from helpers import DATA, dense_of, posterior_grid
from ranef.answers.evidence.group_effect import NoGroupEffect
from ranef.answers.evidence.marginal_likelihood import log_mass
from ranef.answers.evidence.scale import in_words, ratio, shown
from ranef.errors import DataError, PriorError, RanefError, ReliabilityWarning
from ranef.likelihood.posterior import MarginalPosterior
from ranef.mixed_model.model import build_model
from ranef.posterior.draws import posterior_draws

IG = {"sigma": "variance(invgamma(2, scale=3000))", "1|Batch": "variance(invgamma(1, scale=1000))"}
HALF_T = {"sigma": "half_t(60)", "1|Batch": "half_t(60)"}
MEAN = {"Intercept": "norm(1500, 80)"}
DYESTUFF = rf.datasets.load("Dyestuff")
SLEEP = rf.datasets.load("sleepstudy")
YIELD = "Yield ~ 1 + (1|Batch)"
PENICILLIN = "diameter ~ 1 + (1|plate) + (1|sample)"
PENICILLIN_PRIORS = {
    "Intercept": "norm(20, 10)",
    "sigma": "half_t(2)",
    "1|plate": "half_t(2)",
    "1|sample": "half_t(3)",
}


def log_trapezoid(log_f: np.ndarray, *steps: float) -> float:
    """Log integral on an even grid: exact to rounding for smooth densities that end at the rim."""
    return float(logsumexp(log_f) + np.log(steps).sum())


@pytest.mark.parametrize("priors", [IG, HALF_T], ids=["inverse gamma", "half-t"])
def test_random_intercepts_equal_dense_quadrature(priors):
    fit = rf.fit(YIELD, DYESTUFF, priors=priors | MEAN, draws=1000, seed=1)
    message = fit.log_marginal_likelihood()
    model, rows = fit.source.model, fit.source.rows
    assert float(message) == pytest.approx(posterior_grid(model).log_mass, abs=1e-6)
    # Once more without any of the engine's algebra: N x N matrices on a grid of log SDs.
    by_hand = dense_of(rows, model)
    # Half-t puts mass in proportion to the SD near zero, so the grid starts at exp(-14).
    u, v = np.arange(-14.0, 9.5, 0.16), np.arange(2.9, 5.3, 0.06)
    group, sigma = model.parameters.terms[0].scales[0], model.parameters.family.sigma
    values = np.array([[by_hand.reml(2 * (a - b), b) for b in v] for a in u])
    values += group.log_density(u)[:, None] + sigma.log_density(v)
    exact = log_trapezoid(values, 0.16, 0.06)
    assert float(message) == pytest.approx(exact, abs=1e-6)
    assert message.error < 1e-6
    assert message.pareto_k is None
    # Negative control: the Jacobian of rho = 2 log SD, forgotten, is seen.
    assert abs(float(message) + np.log(2) - exact) > 0.5
    assert "quadrature" in str(message)
    assert message.table().shape == (1, 3)


def test_three_standard_deviations_equal_quadrature():
    """Two crossed factors, by a tensor grid over log SDs."""
    fit = rf.fit(PENICILLIN, DATA / "Penicillin.csv", priors=PENICILLIN_PRIORS, seed=2)
    message = fit.log_marginal_likelihood()
    eta = posterior_draws(fit.draws, fit.source.model).theta
    center, sd = eta.mean(axis=0), eta.std(axis=0)
    reach = [(-7, 7), (-7, 11), (-7, 7)]
    axes = [c + s * np.arange(a, b, 0.5) for c, s, (a, b) in zip(center, sd, reach, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    exact = log_trapezoid(MarginalPosterior(fit.source.model).log_density(grid), *(0.5 * sd))
    assert 0 < message.error < 0.02
    assert abs(message.value - exact) < 4.5 * message.error
    assert abs(message.value + 0.1 - exact) > 4.5 * message.error  # a tenth of a nat is seen
    assert message.pareto_k < 0.7


def test_correlated_slopes_equal_another_importance_sampler():
    """Four variance parameters, from a single t fitted to draws by Gibbs."""
    priors = {"Intercept": "norm(250, 100)", "Days": "norm(0, 20)"}
    formula = "Reaction ~ Days + (Days|Subject)"
    exact = rf.fit(formula, SLEEP, priors=priors, seed=3)
    # Draws that merely tell where to propose need not mix well.
    with pytest.warns(ReliabilityWarning):
        gibbs = rf.fit(formula, SLEEP, priors=priors, method="gibbs", seed=4)
    model = gibbs.source.model
    eta = posterior_draws(gibbs.draws, model).theta
    proposal = stats.multivariate_t(eta.mean(axis=0), 1.3 * np.cov(eta.T), df=6)
    x = proposal.rvs(40_000, random_state=np.random.default_rng(5))
    log_w = MarginalPosterior(model).log_density(x) - proposal.logpdf(x)
    weight = np.exp(log_w - log_w.max())
    value = np.log(weight.mean()) + log_w.max()
    error = weight.std() / weight.mean() / np.sqrt(len(weight))
    for fit in (exact, gibbs):  # draws by Gibbs carry no integral: it is computed anew
        message = fit.log_marginal_likelihood()
        assert abs(message.value - value) < 4.5 * np.hypot(error, message.error)
        assert np.hypot(error, message.error) < 0.03


def null_mass(y: np.ndarray, p: int, rss: float, log_det: float, a: float, b: float) -> float:
    """Log marginal likelihood of a regression, flat coefficients and variance ~ IG(a, b)."""
    k = len(y) - p
    return float(
        -0.5 * k * np.log(2 * np.pi)
        - 0.5 * log_det
        + a * np.log(b)
        - gammaln(a)
        + gammaln(a + 0.5 * k)
        - (a + 0.5 * k) * np.log(b + 0.5 * rss)
    )


def test_no_group_effect_equals_closed_forms():
    """Inverse-gamma variances: closed form without the term, one integral with it."""
    fit = rf.fit(YIELD, DYESTUFF, priors=IG, draws=1000, seed=1)
    y = DYESTUFF["Yield"].to_numpy(float)
    codes = fit.source.rows.codes[0]
    (ae, be), (ax, bx) = (2, 3000.0), (1, 1000.0)
    without = null_mass(y, 1, float(((y - y.mean()) ** 2).sum()), np.log(len(y)), ae, be)

    def given_ratio(rho: float) -> float:
        """Variances r s and s with s integrated out: IG on r s brings r^-ax e^(-bx / (r s))."""
        V = np.eye(len(y)) + np.exp(rho) * (codes[:, None] == codes)
        W = np.linalg.inv(V)
        ones = np.ones(len(y))
        A = ones @ W @ ones
        rest = y @ W @ y - (ones @ W @ y) ** 2 / A
        s = ae + ax + 0.5 * (len(y) - 1)
        return float(
            -0.5 * (len(y) - 1) * np.log(2 * np.pi)
            - 0.5 * np.linalg.slogdet(V)[1]
            - 0.5 * np.log(A)
            + ae * np.log(be)
            - gammaln(ae)
            + ax * np.log(bx)
            - gammaln(ax)
            - ax * rho
            + gammaln(s)
            - s * np.log(be + bx * np.exp(-rho) + 0.5 * rest)
        )

    parts = [
        integrate.quad(lambda r: np.exp(given_ratio(r) - without), *ends, epsabs=0, epsrel=1e-11)[0]
        for ends in ((-25, -6), (-6, 0), (0, 8), (8, 25))
    ]
    expected = -np.log(sum(parts))
    message = fit.no_group_effect("1|Batch")
    assert message.log_bayes_factor == pytest.approx(expected, abs=1e-7)
    assert message.bayes_factor == pytest.approx(np.exp(expected), rel=1e-6)
    assert message.probability == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-6)
    wary = fit.no_group_effect(prior_probability=0.9)
    odds = wary.probability / (1 - wary.probability)
    assert odds == pytest.approx(9 * np.exp(expected), rel=1e-6)
    # Negative control: the prior of the term's SD matters, as it must.
    wide = rf.fit(YIELD, DYESTUFF, priors=IG | {"1|Batch": "half_t(5000)"}, draws=1000, seed=1)
    assert wide.no_group_effect().log_bayes_factor > message.log_bayes_factor + 1


def test_known_errors_leave_a_normal_density_without_the_term():
    rng = np.random.default_rng(6)
    se = rng.uniform(0.5, 2, 8)
    table = {"y": rng.normal(1, 1.5, 8), "s": se, "g": list("abcdefgh")}
    priors = {"Intercept": "norm(0, 5)", "1|g": "half_t(2)"}
    fit = rf.fit("y ~ 1 + (1|g)", table, se="s", priors=priors, draws=1000, seed=1)

    def density(sd: float) -> float:
        V = np.diag(se**2 + sd**2) + 25.0
        return float(stats.multivariate_normal(np.zeros(8), V).pdf(table["y"]))

    prior = rf.half_t(2)
    whole = sum(
        integrate.quad(lambda t: density(t) * prior.pdf(t), *ends, epsabs=0, epsrel=1e-11)[0]
        for ends in ((0, 3), (3, 20), (20, 2000))
    )
    message = fit.no_group_effect()
    assert message.bayes_factor == pytest.approx(density(0.0) / whole, rel=1e-6)
    assert float(fit.log_marginal_likelihood()) == pytest.approx(np.log(whole), abs=1e-7)


def test_one_of_several_terms_equals_the_model_fitted_without_it():
    priors = dict(PENICILLIN_PRIORS)
    fit = rf.fit(PENICILLIN, DATA / "Penicillin.csv", priors=priors, seed=2)
    del priors["1|sample"]
    less = rf.fit("diameter ~ 1 + (1|plate)", DATA / "Penicillin.csv", priors=priors, seed=2)
    message, between = fit.no_group_effect("1 | sample"), rf.bayes_factor(less, fit)
    error = np.hypot(message.error, between.error)
    assert abs(message.log_bayes_factor - between.log_value) < 4.5 * error
    assert error < 0.03
    with pytest.raises(DataError, match="2 group terms"):
        fit.no_group_effect()
    with pytest.raises(DataError, match=r"Did you mean '1\|sample'"):
        fit.no_group_effect("1|smaple")
    # A correlated term goes as a whole, and its columns' SDs with it.
    slopes = rf.fit("Reaction ~ Days + (Days|Subject)", SLEEP, seed=1).no_group_effect()
    assert slopes.log_bayes_factor < -60


def test_bayes_factors_compare_what_is_comparable():
    a = rf.fit("Reaction ~ Days + (1|Subject)", SLEEP, draws=1000, seed=1)
    b = rf.fit("Reaction ~ Days + (Days|Subject)", SLEEP, draws=2000, seed=1)
    made = rf.bayes_factor(a, b)
    assert made.log_value == pytest.approx(-rf.bayes_factor(b, a).log_value, abs=1e-12)
    assert made.log_value < -10
    assert made.strength == "very strong"
    assert "for Reaction ~ Days + (Days|Subject)" in str(made)
    assert made.table().loc[made.table().index[0], "strength"] == "very strong"
    assert made.plot().axes[0].get_xlabel().startswith("log10 Bayes factor")
    # Other columns: their flat coefficients are not common.
    c = rf.fit("Reaction ~ 1 + (1|Subject)", SLEEP, draws=1000, seed=1)
    with pytest.raises(PriorError, match="these are improper: Days ~ flat"):
        rf.bayes_factor(a, c)
    scaled = rf.fit("Reaction ~ I(Days / 2) + (1|Subject)", SLEEP, draws=1000, seed=1)
    with pytest.raises(PriorError, match="flat"):
        rf.bayes_factor(a, scaled)
    other = rf.fit("I(Reaction / 1000) ~ Days + (1|Subject)", SLEEP, draws=1000, seed=1)
    with pytest.raises(DataError, match="different responses"):
        rf.bayes_factor(a, other)
    fewer = rf.fit("Reaction ~ Days + (1|Subject)", SLEEP.iloc[:-1], draws=1000, seed=1)
    with pytest.raises(DataError, match="180 rows and 'b' to 179"):
        rf.bayes_factor(a, fewer)
    with pytest.raises(DataError, match="a fit is expected"):
        rf.bayes_factor(a, "b")


def test_improper_priors_are_refused_by_name():
    fit = rf.fit(YIELD, DYESTUFF, draws=1000, seed=1, priors={"sigma": rf.jeffreys()})
    with pytest.raises(PriorError, match="Intercept ~ flat, sigma ~ jeffreys") as caught:
        fit.log_marginal_likelihood()
    assert caught.value.parameters == ("Intercept", "sigma")
    fit.no_group_effect()  # what both models share cancels
    flat = rf.fit(YIELD, DYESTUFF, draws=1000, seed=1, priors={"1|Batch": rf.flat()})
    with pytest.raises(PriorError, match=r"Prior flat on 1\|Batch is improper"):
        flat.no_group_effect()
    with pytest.raises(PriorError, match="improper"):
        rf.bayes_factor(fit, flat)
    with pytest.raises(DataError, match="between 0 and 1"):
        fit.no_group_effect(prior_probability=1)
    shares = {"shares": rf.dirichlet(1), "total_sigma": rf.half_t(50)}
    shared = rf.fit(YIELD, DYESTUFF, draws=1000, seed=1, priors=shares)
    with pytest.raises(PriorError, match="shares of a total variance"):
        shared.no_group_effect()
    total = build_model(YIELD, DYESTUFF, {"shares": rf.dirichlet(1), "total_sigma": "jeffreys"})
    assert total[0].improper() == {"Intercept": "flat", "total_sigma": "jeffreys"}


def test_untrusted_weights_are_refused(monkeypatch):
    model, _ = build_model(PENICILLIN, DATA / "Penicillin.csv", PENICILLIN_PRIORS)
    monkeypatch.setattr("ranef.answers.evidence.marginal_likelihood.pareto_k", lambda _: 0.9)
    with pytest.raises(RanefError, match=r"Pareto k-hat 0\.90"):
        log_mass(model)


def test_a_loaded_fit_answers_the_same(tmp_path):
    fit = rf.fit(PENICILLIN, DATA / "Penicillin.csv", priors=PENICILLIN_PRIORS, seed=2)
    fit.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    assert again.log_marginal_likelihood() == fit.log_marginal_likelihood()
    assert again.no_group_effect("1|plate") == fit.no_group_effect("1|plate")


def test_words_follow_kass_and_raftery():
    words = [in_words(np.log(b)) for b in (1.0, 2.9, 3.1, 19, 21, 149, 151)]
    assert words == [
        *["not worth more than a bare mention"] * 2,
        *["positive"] * 2,
        *["strong"] * 2,
        "very strong",
    ]
    assert in_words(-np.log(21)) == "strong"
    assert shown(800.0) == "exp(800.0)"
    assert (ratio(-1e4), ratio(1e4)) == (0.0, np.inf)
    assert "below 1e-300" in str(NoGroupEffect("1|g", -1e4, 0.0, 0.5, 0.0))

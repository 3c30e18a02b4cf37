"""The article's true posterior: quadrature against quadrature, draws against both.

`ByHand` is the formula of one grouping factor with inverse-gamma priors (Searle, Casella and
McCulloch 1992, ch. 3), summed group by group and integrated by `scipy.integrate.quad`; it shares
no code with the package.
"""

from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

import ranef as rf
from helpers import errors_of, ess, load_json, load_w, worst
from ranef import DataError, PriorError
from ranef.article import SCENARIOS, exact, gibbs
from ranef.mixed_model.model import build_model
from ranef.samplers.exact import sample_exact
from ranef.samplers.sample import SamplerSettings

NUMBERS = range(1, 9)
VARIANCES = ("sigma2_e", "sigma2_x")
MODELS = ("zero_mean", "flat_mean")
LIMIT = 4.0
both = pytest.mark.parametrize("model", MODELS)
every = pytest.mark.parametrize("number", NUMBERS)


@cache
def result(number, model, draws=40_000):
    return exact(
        load_w(number),
        mean=model == "flat_mean",
        draws=draws,
        seed=[number, len(model)],
        **SCENARIOS[number - 1].hyperparameters,
    )


def reference(number, model):
    return load_json("exact")[number - 1][model]


class ByHand:
    """One-dimensional posterior of rho = log(sigma2_x / sigma2_e), group by group."""

    def __init__(self, groups, prior, flat_mean):
        self.size = np.array([len(g) for g in groups], dtype=float)
        self.mean = np.array([np.mean(g) for g in groups])
        self.within = sum(((np.asarray(g) - np.mean(g)) ** 2).sum() for g in groups)
        self.prior, self.flat = prior, flat_mean
        self.shape = prior["a_sigma_e"] + prior["a_sigma_x"] + (self.size.sum() - flat_mean) / 2
        mode = optimize.minimize_scalar(lambda t: -self.log_p(t), bounds=(-20, 25))
        self.mode, self.top = mode.x, -mode.fun
        self.mass = self.integral(lambda _: 1.0)

    def parts(self, rho):
        r = np.exp(rho)
        w = self.size / (1 + self.size * r)
        center = w @ self.mean / w.sum() if self.flat else 0.0
        squares = self.within + w @ (self.mean - center) ** 2
        p = self.prior
        rate = p["b_sigma_e"] + p["b_sigma_x"] / r + squares / 2
        return r, w, center, rate

    def log_p(self, rho):
        r, w, _, rate = self.parts(rho)
        log_det = np.log1p(self.size * r).sum() + (np.log(w.sum()) if self.flat else 0.0)
        return -self.prior["a_sigma_x"] * rho - log_det / 2 - self.shape * np.log(rate)

    def integral(self, f):
        def g(rho):
            return f(rho) * np.exp(self.log_p(rho) - self.top)

        cuts = self.mode + np.array([-40.0, -12.0, -4.0, -1.0, 0.0, 1.0, 4.0, 12.0, 40.0])
        pairs = pairwise(cuts)
        return sum(integrate.quad(g, *c, epsabs=0, epsrel=1e-10, limit=200)[0] for c in pairs)

    def expect(self, f):
        return self.integral(f) / self.mass

    def moments(self, name):
        """Mean and sd of a variance; given rho it is inverse gamma."""

        def power(k):
            def f(rho):
                r, _, _, rate = self.parts(rho)
                value = rate * (r if name == "sigma2_x" else 1.0)
                return value**k / np.prod(self.shape - np.arange(1, k + 1))

            return self.expect(f)

        mean = power(1)
        return mean, np.sqrt(power(2) - mean**2)

    def effect(self, i):
        """Mean and sd of the deviation of group i from the mean."""

        def conditional(rho):
            r, w, center, rate = self.parts(rho)
            share = self.size[i] * r / (1 + self.size[i] * r)
            variance = rate / (self.shape - 1)
            spread = share / self.size[i] + (share**2 / w.sum() if self.flat else 0.0)
            return share * (self.mean[i] - center), variance * spread

        mean = self.expect(lambda t: conditional(t)[0])
        square = self.expect(lambda t: conditional(t)[1] + conditional(t)[0] ** 2)
        return mean, np.sqrt(square - mean**2)


# -- without Monte Carlo error


@every
@both
def test_means_equal_the_reference(number, model):
    for name in VARIANCES:
        expected = reference(number, model)[name]["mean"]
        assert result(number, model).mean(name) == pytest.approx(expected, rel=1e-6)


@every
@both
def test_the_reference_equals_scipys_quadrature_of_the_formula(number, model):
    scenario = SCENARIOS[number - 1]
    hand = ByHand(list(load_w(number)), scenario.hyperparameters, model == "flat_mean")
    for name in VARIANCES:
        mean, sd = hand.moments(name)
        assert reference(number, model)[name]["mean"] == pytest.approx(mean, rel=1e-6)
        assert reference(number, model)[name]["sd"] == pytest.approx(sd, rel=1e-5)


@every
@both
def test_densities_integrate_to_one_and_have_the_moments_and_quantiles(number, model):
    made = result(number, model)
    for name in VARIANCES:
        known = reference(number, model)[name]
        x, w = np.polynomial.legendre.leggauss(240)
        # In log units the densities are smooth and their tails exponential.
        wide = 4 * np.log(known["q975"] / known["q025"])
        low, high = np.log(known["q025"]) - wide, np.log(known["q975"]) + wide
        at = np.exp(low + (x + 1) / 2 * (high - low))
        mass = w * (high - low) / 2 * at * made.density(name, at)
        mean = mass @ at
        assert mass.sum() == pytest.approx(1, abs=1e-6)
        assert mean == pytest.approx(made.mean(name), rel=1e-6)
        assert np.sqrt(mass @ (at - mean) ** 2) == pytest.approx(known["sd"], rel=1e-5)
        for key, p in (("q025", 0.025), ("q50", 0.5), ("q975", 0.975)):
            half = (np.log(known[key]) - low) / 2
            below = np.exp(low + (x + 1) * half)
            share = w * half * below @ made.density(name, below)
            assert share == pytest.approx(p, abs=1e-5)


def test_an_unbalanced_fit_agrees_with_scipys_quadrature():
    rng = np.random.default_rng(6)
    groups = [
        rng.normal(3 + b, 1.0, size=m)
        for b, m in zip(rng.normal(0, 2, 8), [1, 1, 2, 3, 5, 8, 2, 4], strict=True)
    ]
    prior = {"a_sigma_e": 1.5, "b_sigma_e": 0.7, "a_sigma_x": 2.0, "b_sigma_x": 3.0}
    hand = ByHand(groups, prior, True)
    table = pd.DataFrame(
        {"y": np.concatenate(groups), "g": np.repeat(np.arange(8), [len(g) for g in groups])}
    )
    priors = {
        "sigma": rf.variance(stats.invgamma(1.5, scale=0.7)),
        "1|g": rf.variance(stats.invgamma(2.0, scale=3.0)),
    }
    model, _ = build_model("y ~ 1 + (1|g)", table, priors)
    points = sample_exact(
        model, SamplerSettings(8, 1, 0, (), False), np.random.default_rng(1)
    ).points
    mean, sd = hand.moments("sigma2_e")
    assert points.weight @ points.variance == pytest.approx(mean, rel=1e-6)
    mean_x, sd_x = hand.moments("sigma2_x")
    assert points.weight @ (points.variance * np.exp(points.log_ratio)) == pytest.approx(
        mean_x, rel=1e-6
    )

    fit = rf.fit("y ~ 1 + (1|g)", table, priors=priors, draws=40_000, chains=4, seed=2)
    effects = np.array([hand.effect(i) for i in range(8)])
    np.testing.assert_allclose(fit.effects()["mean"], effects[:, 0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.effects()["sd"], effects[:, 1], rtol=1e-6)
    posterior = fit.draws["posterior"]
    z = {
        "sigma": errors_of(posterior["sigma"].to_numpy() ** 2, {"mean": mean, "sd": sd}),
        "group": errors_of(posterior["1|g_sigma"].to_numpy() ** 2, {"mean": mean_x, "sd": sd_x}),
    }
    assert worst(z) < LIMIT, z
    # Negative control: with the model's mean left out the same numbers do not come.
    wrong = ByHand(groups, prior, False)
    assert wrong.moments("sigma2_x")[0] != pytest.approx(mean_x, rel=0.05)


# -- draws


@every
@both
def test_draws_agree_with_the_reference(number, model):
    made = result(number, model)
    draws = {k: made.draws[k].to_numpy() for k in VARIANCES}
    draws["icc"] = draws["sigma2_x"] / (draws["sigma2_x"] + draws["sigma2_e"])
    z = {}
    for name, values in draws.items():
        assert ess(values) > 30_000
        z[name] = errors_of(values, reference(number, model)[name])
    assert worst(z) < LIMIT, z


@every
def test_the_check_on_draws_rejects_the_printed_sampler_and_small_changes(number):
    scenario = SCENARIOS[number - 1]
    known = reference(number, "zero_mean")
    printed = gibbs(
        load_w(number), draws=5000, seed=1, progress=False, **scenario.hyperparameters
    ).draws
    draws = result(number, "zero_mean").draws
    for name in VARIANCES:
        assert worst(errors_of(printed[name].to_numpy(), known[name])) > LIMIT
        values = draws[name].to_numpy()
        shifted = values + 0.1 * values.std()
        wider = values.mean() + 1.05 * (values - values.mean())
        assert worst(errors_of(shifted, known[name])) > LIMIT
        assert worst(errors_of(wider, known[name])) > LIMIT


@every
@both
def test_draws_are_independent_and_nearly_all_accepted(number, model):
    values = result(number, model).draws["sigma2_x"].to_numpy()[0]
    assert 1 - np.mean(np.diff(values) == 0) > 0.99
    for name in VARIANCES:
        x = np.log(result(number, model).draws[name].to_numpy()[0])
        assert abs(lag_one(x)) < LIMIT / np.sqrt(len(x))


def test_the_check_on_independence_rejects_the_right_gibbs_sampler():
    x = np.log(gibbs(load_w(1), "corrected", draws=10_000, seed=1).draws["sigma2_x"].to_numpy()[0])
    assert lag_one(x) > LIMIT / np.sqrt(len(x))


def lag_one(x):
    x = x - x.mean()
    return float((x[1:] * x[:-1]).mean() / x.var())


@both
def test_signals_have_the_moments_of_the_mixture_over_nodes(model):
    """X given a node is normal around its own shrunken mean; nodes and sigma2_e mix it."""
    flat = model == "flat_mean"
    W = load_w(6)
    n, J = W.shape
    made = exact(W, mean=flat, draws=20_000, X=True, seed=4, **SCENARIOS[5].hyperparameters)
    r, weight = np.exp(made.points.log_ratio), made.points.weight
    variance = made.rate / (made.shape - 1)
    share = J * r / (1 + J * r)
    own = W.mean(axis=1)
    center = W.mean() if flat else 0.0
    middle = center + share * (own[:, None] - center)
    spread = variance * share / J
    if flat:
        spread = spread + variance * (1 - share) ** 2 * (1 + J * r) / (n * J)
    mean = middle @ weight
    sd = np.sqrt(weight @ spread + (middle - mean[:, None]) ** 2 @ weight)
    X = made.draws["X"].to_numpy()
    assert X.shape == (1, 20_000, n)
    z = [errors_of(X[:, :, i], {"mean": mean[i], "sd": sd[i]}) for i in range(n)]
    worst_z = max(worst(s) for s in z)
    assert worst_z < 4.6  # 200 comparisons: 1 - (1 - 2 Phi(-4.6))^200 < 1e-3
    # Negative control: effects paired with a stranger's variances keep no joint distribution.
    ratio = np.log(made.draws["sigma2_x"].to_numpy()[0])
    size = np.log((X[0] ** 2).mean(axis=1) if not flat else X[0].var(axis=1))
    assert np.corrcoef(ratio, size)[0, 1] > 0.5
    assert abs(np.corrcoef(ratio, np.roll(size, 1))[0, 1]) < LIMIT / np.sqrt(len(size))
    too_wide = [
        errors_of(mean[i] + 1.05 * (X[:, :, i] - mean[i]), {"mean": mean[i], "sd": sd[i]})
        for i in range(3)
    ]
    assert min(abs(s["sd"]) for s in too_wide) > LIMIT


def test_signals_agree_with_the_effects_of_the_same_model_by_formula():
    W = load_w(1)
    table = pd.DataFrame({"W": W.ravel(), "i": np.repeat(np.arange(100), 2)})
    ig = rf.variance(stats.invgamma(0.1, scale=1.0))
    fit = rf.fit("W ~ 0 + (1|i)", table, priors={"sigma": ig, "1|i": ig}, seed=1)
    X = exact(W, draws=20_000, X=True, seed=2).draws["X"].to_numpy()
    effects = fit.effects()
    z = [
        errors_of(X[:, :, i], {"mean": effects["mean"].iloc[i], "sd": effects["sd"].iloc[i]})
        for i in range(100)
    ]
    assert max(worst(s) for s in z) < 4.6


def test_the_mean_has_its_posterior():
    made = result(7, "flat_mean")
    r, A = np.exp(made.points.log_ratio), 200 / (1 + 2 * np.exp(made.points.log_ratio))
    assert r.shape == A.shape
    sd = np.sqrt(made.points.weight @ (made.rate / (made.shape - 1) / A))
    known = {"mean": load_w(7).mean(), "sd": sd}
    assert worst(errors_of(made.draws["mu"].to_numpy(), known)) < LIMIT
    assert worst(errors_of(made.draws["mu"].to_numpy() * 1.001, known)) > LIMIT


# -- what the function takes and gives


def test_shapes_seeds_and_names():
    W = load_w(1)
    made = exact(W, draws=50, seed=3)
    assert set(made.draws) == {"sigma2_e", "sigma2_x"}
    assert made.draws["sigma2_e"].shape == (1, 50)
    assert set(exact(W, mean=True, X=True, draws=50, seed=3).draws) == {
        "sigma2_e",
        "sigma2_x",
        "mu",
        "X",
    }
    assert made.draws.equals(exact(W, draws=50, seed=3).draws)
    assert made.draws.equals(exact(W, draws=50, seed=np.random.default_rng(3)).draws)
    assert not made.draws.equals(exact(W, draws=50, seed=4).draws)
    assert made.seconds > 0
    assert made.points.weight.sum() == pytest.approx(1, rel=1e-12)


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match="shape"):
        exact(np.ones(4))
    with pytest.raises(DataError, match="constant"):
        exact(np.ones((4, 2)))
    with pytest.raises(PriorError, match="b_sigma_x is 0"):
        exact(load_w(1), b_sigma_x=0)
    with pytest.raises(DataError, match="'sigma2_e' or 'sigma2_x'"):
        exact(load_w(1), draws=10, seed=1).mean("sigma")

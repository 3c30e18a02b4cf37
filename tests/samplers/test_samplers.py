"""One contract for every row of the table of samplers; calibration is in test_calibrate.py.

Reference posteriors come from `helpers.posterior_grid`, a tensor quadrature over (log sigma_b,
log sigma) that shares the log density (checked in test_marginal.py) but neither panels, modes nor
tables with the package. Draws come in 64 chains whose means give the Monte Carlo error: each
score is t distributed with 63 degrees of freedom.
"""

import time
import tracemalloc
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import ranef as rf
from helpers import (
    batch_scores,
    bonferroni,
    errors_of,
    ess,
    load_json,
    posterior_grid,
    worst,
)
from ranef.article import gibbs
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.mixed_model.model import build_model
from ranef.samplers import SAMPLERS
from ranef.samplers.independent.random_intercept_effects import effect_moments
from ranef.samplers.sample import Points, SamplerSettings

CHAINS = 64


def ig(shape, scale):
    return rf.variance(stats.invgamma(shape, scale=scale))


def table(counts, seed):
    """Rows with a covariate within groups, one between groups, and a factor."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(len(counts)), counts)
    N = len(g)
    data = {
        "g": g,
        "x": 0.3 + rng.normal(size=N),
        "z": rng.normal(size=len(counts))[g],
        "f": np.array(list("abc"))[np.arange(N) % 3],
    }
    data["y"] = 3 + rng.normal(0, 2, len(counts))[g] + rng.normal(size=N) + 0.5 * data["x"]
    return pd.DataFrame(data)


# Seeds under which Gibbs mixes well; what is hard for it has its own tests below.
MODELS = {
    "balanced": ("y ~ 1 + (1|g)", table([4] * 8, 2), {}),
    "singletons": ("y ~ 1 + (1|g)", table([1, 1, 2, 5, 3, 1, 7, 2, 4], 2), {}),
    "covariates": ("y ~ 1 + x + f + (1|g)", table([3, 4, 5, 3, 6, 2, 4], 3), {}),
    "zero mean": ("y ~ 0 + (1|g)", table([2] * 12, 3), {}),
    "three groups": ("y ~ 1 + (1|g)", table([4] * 3, 5), {}),
    "normal coefficients": (
        "y ~ 1 + x + z + (1|g)",
        table([3, 3, 4, 5, 2, 6, 1], 7),
        {"x": stats.norm(0.4, 0.2), "z": stats.norm(0, 1)},
    ),
}
PRIORS = {
    "inverse gamma": (ig(1, 1), ig(0.5, 1)),
    "half_t": (rf.half_t(2.5), rf.half_t(2.5)),
    "mixed": (ig(1, 1), rf.half_t(2)),
    "expon": (stats.expon(scale=2), stats.expon(scale=2)),
    "uniform": (stats.uniform(0, 5), stats.uniform(0, 3)),
    "halfcauchy": (stats.halfcauchy(scale=2), stats.halfcauchy(scale=2)),
}
CASES = list(product(MODELS, PRIORS))
EVERY = pytest.mark.parametrize(("model", "priors"), CASES)
METHODS = pytest.mark.parametrize("method", SAMPLERS)
# Gibbs' steps for coefficients and effects depend on the model alone, those for SDs on the prior:
# every model under two kinds of prior, every prior on the least balanced one.
GIBBS = [(m, p) for m, p in CASES if p in ("inverse gamma", "half_t") or m == "singletons"]
SAMPLED = [("exact", *case) for case in CASES] + [("gibbs", *case) for case in GIBBS]
EVERY_SAMPLE = pytest.mark.parametrize(("method", "model", "priors"), SAMPLED)

# Five functionals of each of 2 SDs and at most 4 coefficients, two of each of 2 effects: up to 34
# comparisons for each sample. All of them pass in a right package with probability 0.999
# if none may exceed this.
COMPARISONS = 34 * len(SAMPLED)
LIMIT = bonferroni(COMPARISONS, CHAINS - 1)


@cache
def model_of(model, priors):
    formula, data, coefficients = MODELS[model]
    sigma, group = PRIORS[priors]
    return build_model(formula, data, {"sigma": sigma, "1|g": group, **coefficients})[0]


@cache
def grid_of(model, priors):
    return posterior_grid(model_of(model, priors))


def tau_of(sample):
    """Log residual SD."""
    return np.log(sample.sigma)


def rho_of(sample):
    """Log variance ratio."""
    return 2 * np.log(sample.scales["1|g"] / sample.sigma)


def moved(sample, tau=None, rho=None):
    """The sample with other log residual SDs or log variance ratios."""
    tau = tau_of(sample) if tau is None else tau
    rho = rho_of(sample) if rho is None else rho
    return replace(sample, theta=np.stack([tau + rho / 2, tau], axis=-1))


def group_of(model):
    """Prior on the SD of the group effects."""
    return model.parameters.terms[0].scales[0]


def draw(method, model, seed=1, per_chain=600, chains=CHAINS, effects=("1|g",), warmup=500):
    request = SamplerSettings(per_chain * chains, chains, warmup, effects, False)
    return SAMPLERS[method](model, request, np.random.default_rng(seed))


@cache
def sample_of(method, model, priors):
    """Draws, of the effects only the first and the last: the rest would fill the memory."""
    sample = draw(method, model_of(model, priors), per_chain=400 if method == "exact" else 800)
    return replace(sample, effects={"1|g": sample.effects["1|g"][:, :, [0, -1]].copy()})


@cache
def coefficients_of(model, priors):
    return grid_of(model, priors).coefficients()


@cache
def effects_of(model, priors):
    """Exact mean and sd of every effect by averaging over the grid."""
    grid = grid_of(model, priors)
    keep = grid.weight > 1e-11
    u, v, w = (a[keep] for a in (grid.log_group, grid.log_sigma, grid.weight))
    points = Points(2 * (u - v), v, w / w.sum(), np.exp(2 * v))
    return effect_moments(grid.target, points)


def bounded_square(x):
    """x^2 around zero, levelling off at 9."""
    return x**2 / (1 + x**2 / 9)


def scores(sample, model, priors):
    """Scores and effective sample sizes of all functionals of one sample.

    SDs are compared in logs, where all moments exist; their spread by a bounded square, because
    the long left tail of a group SD's logarithm leaves the plain one no t distribution. With
    three groups the coefficients' tails are too heavy for moments; their quantiles are compared.
    """
    grid = grid_of(model, priors)
    out = {}
    for axis, (name, draws, nodes) in enumerate(
        [
            ("log group sd", np.log(sample.scales["1|g"]), grid.log_group),
            ("log sigma", tau_of(sample), grid.log_sigma),
        ]
    ):
        center = grid.weight @ nodes
        spread = np.sqrt(grid.weight @ (nodes - center) ** 2)
        out[name, "mean"] = batch_scores(draws, center)
        wide = bounded_square((draws - center) / spread)
        out[name, "sd"] = batch_scores(
            wide, grid.weight @ bounded_square((nodes - center) / spread)
        )
        for p in (0.05, 0.5, 0.95):
            at, share = grid.quantile(axis, p)
            if 0.005 < share < 0.995:
                out[name, p] = batch_scores((draws <= at) * 1.0, share)
    for j, (center, sd, shares) in enumerate(coefficients_of(model, priors)):
        draws = sample.beta[:, :, j]
        if model != "three groups":
            out[f"beta {j}", "mean"] = batch_scores(draws, center)
            out[f"beta {j}", "sd"] = batch_scores((draws - center) ** 2, sd**2)
        for at, share in shares:
            out[f"beta {j}", at] = batch_scores((draws <= at) * 1.0, share)
    if model != "three groups":
        mean, sd = effects_of(model, priors)
        for i in (0, -1):
            draws = sample.effects["1|g"][:, :, i]
            out[f"effect {i}", "mean"] = batch_scores(draws, mean[i])
            out[f"effect {i}", "sd"] = batch_scores((draws - mean[i]) ** 2, sd[i] ** 2)
    return out


def largest(found):
    return max(abs(z) for z, _ in found.values())


# -- the contract


@EVERY_SAMPLE
def test_draws_have_the_exact_posteriors_moments_and_quantiles(method, model, priors):
    found = scores(sample_of(method, model, priors), model, priors)
    assert min(size for _, size in found.values()) > 400
    assert largest(found) < LIMIT, {k: v for k, v in found.items() if abs(v[0]) > 4}


@EVERY_SAMPLE
def test_the_contract_rejects_samplers_that_are_slightly_wrong(method, model, priors):
    right = sample_of(method, model, priors)
    tau, rho = tau_of(right), rho_of(right)
    step = 0.1 * tau.std()
    center = rho.mean()
    wrong = {
        "residual sd off by a tenth of its posterior sd": moved(right, tau=tau + step),
        "ratio's spread a fifth too small": moved(right, rho=center + 0.8 * (rho - center)),
    }
    if right.beta.shape[2]:
        sd = right.beta[:, :, 0].std()
        wrong["coefficient off by a fifth of its sd"] = replace(right, beta=right.beta + 0.2 * sd)
    if model != "three groups":
        mean = effects_of(model, priors)[0][[0, -1]]
        wide = {"1|g": mean + 1.15 * (right.effects["1|g"] - mean)}
        wrong["effects with an sd 15 percent too large"] = replace(right, effects=wide)
    # Gibbs moves the ratio slowly where the data leave it open: there the shifts must be larger
    # than the Monte Carlo error that its effective sample size leaves.
    for name, sample in wrong.items():
        found = scores(sample, model, priors)
        if method == "exact" or name.startswith("residual"):
            assert largest(found) > LIMIT, name
        else:
            assert largest(found) > 4, name


def test_the_contract_rejects_the_articles_printed_conditional():
    """A real sampler with a real error, on the balanced model without mean."""
    model, priors = "zero mean", "inverse gamma"
    W = MODELS[model][1]["y"].to_numpy().reshape(12, 2)
    hyper = {"a_sigma_e": 1, "b_sigma_e": 1, "a_sigma_x": 0.5, "b_sigma_x": 1}
    for conditional, passes in (("corrected", True), ("printed", False)):
        chains = [
            gibbs(W, conditional, draws=700, burn_in=100, seed=i, progress=False, **hyper).draws
            for i in range(CHAINS)
        ]
        e, x = (np.log([c[k].to_numpy()[0] for c in chains]) for k in ("sigma2_e", "sigma2_x"))
        effects = np.stack([c["X"].to_numpy()[0] for c in chains])
        sample = moved(sample_of("exact", model, priors), tau=e / 2, rho=x - e)
        sample = replace(sample, effects={"1|g": effects})
        found = scores(sample, model, priors)
        assert (largest(found) < LIMIT) == passes


@EVERY_SAMPLE
def test_samples_have_their_shapes_and_a_seed_fixes_them(method, model, priors):
    made = model_of(model, priors)
    first, again, other = (draw(method, made, seed, 10, 3, warmup=20) for seed in (4, 4, 5))
    p, G = made.design.p, made.design.factors[0].levels

    def arrays(sample):
        return {
            **vars(sample),
            "sigma": sample.sigma,
            "group": sample.scales["1|g"],
            "effects": sample.effects["1|g"],
        }

    assert set(first.scales) == set(first.effects) == set(first.moments) == {"1|g"}
    assert first.correlations == {}
    for name, shape in {
        "theta": (3, 10, 2),
        "sigma": (3, 10),
        "group": (3, 10),
        "log_density": (3, 10),
        "beta": (3, 10, p),
        "effects": (3, 10, G),
    }.items():
        values = arrays(first)[name]
        assert values.shape == shape
        assert np.isfinite(values).all()
        assert np.array_equal(values, arrays(again)[name])
        assert values.size == 0 or not np.any(values == arrays(other)[name])
    mean, sd = first.moments["1|g"]
    assert mean.shape == sd.shape == (G,)
    assert np.isfinite(mean).all()
    if method == "gibbs":
        # Sums over sweeps, nothing integrated out: the moments of its own draws.
        drawn = first.effects["1|g"].reshape(-1, G)
        np.testing.assert_allclose(mean, drawn.mean(axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(sd, drawn.std(axis=0), rtol=1e-6)
        assert first.points is None
        assert first.accepted is None
        assert first.log_weight is None
        assert first.log_marginal_likelihood is None
    else:
        points = first.points
        assert points.weight.sum() == pytest.approx(1, rel=1e-12)
        assert np.all(points.weight >= 0)
        assert {len(points.log_ratio), len(points.log_sigma), len(points.variance)} == {
            len(points.weight)
        }
        assert first.accepted.shape == first.log_weight.shape == (3, 10)


@EVERY_SAMPLE
def test_the_log_density_is_that_of_the_draws_beside_it(method, model, priors):
    sample = sample_of(method, model, priors)
    rho, tau = rho_of(sample)[:2, :50].ravel(), tau_of(sample)[:2, :50].ravel()
    expected = RandomIntercept(model_of(model, priors)).log_density(rho, tau)
    np.testing.assert_allclose(sample.log_density[:2, :50].ravel(), expected, rtol=1e-10)


@METHODS
def test_effects_are_drawn_only_on_request_and_change_no_other_draw(method):
    model = model_of("covariates", "half_t")
    with_effects, without = (
        SAMPLERS[method](model, SamplerSettings(40, 2, 5, e, False), np.random.default_rng(3))
        for e in (("1|g",), ())
    )
    assert without.effects == {}
    for name in ("sigma", "beta", "log_density"):
        assert np.array_equal(getattr(with_effects, name), getattr(without, name))
    assert np.array_equal(with_effects.scales["1|g"], without.scales["1|g"])
    assert np.array_equal(with_effects.moments["1|g"], without.moments["1|g"])


# -- the exact sampler's own promises


@EVERY
def test_quadrature_points_give_the_exact_moments(model, priors):
    grid, points = grid_of(model, priors), sample_of("exact", model, priors).points
    rho = 2 * (grid.log_group - grid.log_sigma)
    for power in (1, 2):
        expected = grid.weight @ rho**power
        assert points.weight @ points.log_ratio**power == pytest.approx(
            expected, rel=1e-5, abs=1e-6
        )
    variance = grid.weight @ np.exp(2 * grid.log_sigma)
    assert points.weight @ points.variance == pytest.approx(variance, rel=1e-5)
    if model != "three groups":
        mean, sd = effect_moments(RandomIntercept(model_of(model, priors)), points)
        expected = effects_of(model, priors)
        np.testing.assert_allclose(mean, expected[0], rtol=1e-5, atol=1e-5 * sd.max())
        np.testing.assert_allclose(sd, expected[1], rtol=1e-5)


@EVERY
def test_the_marginal_likelihood_is_told_where_it_exists(model, priors):
    message = sample_of("exact", model, priors).log_marginal_likelihood
    if model == "zero mean":
        assert message == pytest.approx(grid_of(model, priors).log_mass, abs=1e-6)
    else:  # a flat coefficient has no density to integrate against
        assert message is None


@EVERY
def test_exact_draws_are_independent_and_nearly_all_accepted(model, priors):
    sample = sample_of("exact", model, priors)
    assert sample.accepted.mean() > 0.99
    for x in (tau_of(sample), rho_of(sample)):
        x = x - x.mean()
        lag = float((x[:, 1:] * x[:, :-1]).mean() / x.var())
        # Correlation from one rejection in a hundred is allowed, and four standard errors.
        assert abs(lag) < 0.01 + 4 / np.sqrt(x.size)
    if (model, priors) in GIBBS:  # negative control
        slow = rho_of(sample_of("gibbs", model, priors))
        slow = slow - slow.mean()
        assert float((slow[:, 1:] * slow[:, :-1]).mean() / slow.var()) > 0.1


def level(seed=11):
    """Five groups of four that do not differ."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"g": np.repeat(np.arange(5), 4), "y": 3 + rng.normal(size=20)})


def conflict(counts):
    """Responses at 100 within 0.02, under a prior that puts the mean near zero."""
    rng = np.random.default_rng(2)
    y = 100 + 0.02 * rng.normal(size=sum(counts))
    return pd.DataFrame({"g": np.repeat(np.arange(len(counts)), counts), "y": y})


HARD = {
    "two modes": (level(2), {"sigma": rf.half_t(2), "1|g": ig(0.001, 1e-8)}),
    "density infinite at zero": (level(), {"sigma": stats.gamma(0.5), "1|g": stats.gamma(0.5)}),
    "prior away from the data": (level(), {"1|g": stats.gamma(1e4, scale=5e-4)}),
    "residual prior away from the data": (level(), {"sigma": stats.gamma(1e4, scale=5e-4)}),
    "priors twelve decades apart": (level(), {"sigma": rf.half_t(1e-6), "1|g": rf.half_t(1e6)}),
    "two modes in sigma": (conflict([2, 2, 2]), {"Intercept": stats.norm(0, 12)}),
    "two modes in sigma, two groups": (conflict([2, 2]), {"Intercept": stats.norm(0, 20)}),
    "improper priors": (level(), {"sigma": rf.jeffreys(), "1|g": rf.flat()}),
    "two groups": (level().head(8), {"1|g": rf.half_t(2, df=1)}),
}


@pytest.mark.parametrize("name", HARD)
def test_posteriors_that_defeat_normal_approximations_are_drawn_exactly(name):
    data, priors = HARD[name]
    priors = {"sigma": rf.half_t(2.5), "1|g": rf.half_t(2.5), **priors}
    model, _ = build_model("y ~ 1 + (1|g)", data, priors)
    grid = posterior_grid(model, panels=90)
    sample = draw("exact", model, per_chain=1500, effects=())
    assert sample.accepted.mean() > 0.97
    limit = bonferroni(len(HARD) * 2 * 6, CHAINS - 1)
    for axis, draws in enumerate((np.log(sample.scales["1|g"]), tau_of(sample))):
        for p in (0.02, 0.1, 0.35, 0.65, 0.9, 0.98):
            at, share = grid.quantile(axis, p)
            if 1e-3 < share < 1 - 1e-3:
                score, size = batch_scores((draws <= at) * 1.0, share)
                assert size > 10_000
                assert abs(score) < limit, (axis, p)
                # Negative control: a twentieth of the mass moved, as a missed mode would.
                if p == 0.35:
                    moved = np.where(draws > np.quantile(draws, 0.95), -np.inf, draws)
                    assert abs(batch_scores((moved <= at) * 1.0, share)[0]) > limit


BOUNDED = {
    "upper bound on the group sd": (rf.half_t(2), stats.uniform(0, 3)),
    "lower and upper bound on the group sd": (rf.half_t(2), stats.uniform(1, 2)),
    "bounds on both": (stats.uniform(0.5, 1.1), stats.uniform(1, 2)),
    "upper bounds on both variances": (
        rf.variance(stats.uniform(0, 1.5)),
        rf.variance(stats.uniform(0, 6)),
    ),
    "lower bounds": (stats.pareto(2, scale=0.9), stats.pareto(2, scale=1.5)),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_hard_bounds_are_reached_and_not_crossed(name):
    """Shares of the draws near a bound are right to about one in a thousand.

    A proposal that stops a hundredth of a posterior sd before the bound leaves out three in a
    thousand.
    """
    formula, data, _ = MODELS["three groups"]
    sigma, group = BOUNDED[name]
    model, _ = build_model(formula, data, {"sigma": sigma, "1|g": group})
    grid = posterior_grid(model, panels=80)
    request = SamplerSettings(500_000, 100, 0, (), False)
    sample = SAMPLERS["exact"](model, request, np.random.default_rng(2))
    assert sample.accepted.mean() > 0.98
    draws = (np.log(sample.scales["1|g"]), tau_of(sample))
    limit = bonferroni(len(BOUNDED) * 2 * 8, 99)
    for axis, prior in ((0, group_of(model)), (1, model.parameters.family.sigma)):
        low, high = prior.support
        assert np.exp(draws[axis].min()) >= low * (1 - 1e-9)
        assert np.exp(draws[axis].max()) <= high * (1 + 1e-9)
        for p in (0.02, 0.05, 0.1, 0.3, 0.7, 0.9, 0.95, 0.98):
            at, share = grid.quantile(axis, p)
            if 1e-4 < share < 1 - 1e-4:
                score, _ = batch_scores((draws[axis] <= at) * 1.0, share)
                assert abs(score) < limit, (axis, p)
    if name == "upper bound on the group sd":  # negative control
        at, share = grid.quantile(0, 0.95)
        kept = draws[0][draws[0] <= np.quantile(draws[0], 0.997)]
        short = kept[: len(kept) // 100 * 100].reshape(100, -1)
        assert batch_scores((short <= at) * 1.0, share)[0] > limit


def test_gibbs_starts_inside_narrow_supports():
    formula, data, _ = MODELS["balanced"]
    priors = {"sigma": stats.uniform(0.9, 0.01), "1|g": stats.pareto(3, scale=40)}
    model, _ = build_model(formula, data, priors)
    sample = SAMPLERS["gibbs"](
        model, SamplerSettings(200, 4, 0, (), False), np.random.default_rng(1)
    )
    assert np.isfinite(sample.log_density).all()


def test_a_design_that_explains_all_within_groups_is_sampled_without_a_warning():
    data = table([2, 2, 2], 1)
    priors = {"sigma": rf.half_t(2), "1|g": rf.half_t(2)}
    model, _ = build_model("y ~ 1 + x + z + f + (1|g)", data, priors)
    sample = draw("exact", model, effects=())
    assert sample.accepted.mean() > 0.98
    at, share = posterior_grid(model).quantile(1, 0.5)
    assert abs(batch_scores((tau_of(sample) <= at) * 1.0, share)[0]) < 4


def test_a_tight_prior_beside_flat_coefficients_leaves_both_samplers_agreed():
    rng = np.random.default_rng(1)
    w = rng.normal(size=32)
    data = pd.DataFrame(
        {
            "g": np.repeat(np.arange(8), 4),
            "w0": 0.01 * (rng.normal(size=32) + w),
            "w1": w,
            "w2": rng.normal(size=32) + w,
        }
    )
    data["y"] = rng.normal(0, 1e4, 8)[data["g"]] + rng.normal(0, 1e4, 32)
    model, _ = build_model("y ~ w0 + w1 + w2 + (1|g)", data, {"w0": stats.norm(0, 1e-5)})
    one, two = (draw(m, model, per_chain=500, effects=()).beta for m in ("exact", "gibbs"))
    assert np.isfinite(two).all()
    limit = bonferroni(2 * 4, 2 * (CHAINS - 1))
    for j in range(4):
        center = one[:, :, j].mean()
        for power in (1, 2):
            a, b = (((x[:, :, j] - center) ** power).mean(axis=1) for x in (one, two))
            assert abs(stats.ttest_ind(a, b).statistic) < limit


# -- JAGS


@METHODS
def test_sleepstudys_posterior_equals_jags(method):
    """Mean, sd and three quantiles of four parameters: 20 comparisons a sampler."""
    posteriors = load_json("reference")["posteriors_jags"]
    known = next(v for k, v in posteriors.items() if k != "source")
    wide = stats.norm(0, 1000)
    fit = rf.fit(
        "Reaction ~ Days + (1|Subject)",
        rf.datasets.load("sleepstudy"),
        priors={
            "sigma": rf.half_t(50),
            "1|Subject": rf.half_t(50),
            "Intercept": wide,
            "Days": wide,
        },
        method=method,
        draws=100_000 if method == "exact" else 50_000,
        chains=25,
        warmup=500,
        seed=3,
        progress=False,
    )
    names = {"b0": "Intercept", "b1": "Days", "sigma": "sigma", "su": "1|Subject_sigma"}
    z = {}
    for theirs, ours in names.items():
        draws = fit.draws["posterior"][ours].to_numpy()
        assert ess(draws) > 1000
        z[theirs] = errors_of(draws, known[theirs], known[theirs]["ess"])
        shifted = errors_of(draws + 0.2 * draws.std(), known[theirs], known[theirs]["ess"])
        assert worst(shifted) > 4
    assert worst(z) < 4, z


# -- many groups


def crowd(G, top, seed=1):
    """Unbalanced data of many groups; SD 0.7 between and 1 within."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(G), rng.integers(1, top, G))
    x = rng.normal(size=len(g))
    y = 1 + 0.5 * x + rng.normal(0, 0.7, G)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "x": x, "y": y})


def test_ten_thousand_unbalanced_groups_take_little_time_and_memory():
    data = crowd(10_000, 40)
    rf.fit("y ~ x + (1|g)", data, seed=1)  # imports and caches
    started = time.perf_counter()
    fit = rf.fit("y ~ x + (1|g)", data, seed=1)
    assert time.perf_counter() - started < 3
    tracemalloc.start()
    try:
        rf.fit("y ~ x + (1|g)", data, seed=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150e6  # 200,000 rows of 3 numbers are 5e6 bytes; draws x groups would be 320e6
    posterior = fit.draws["posterior"]
    for name, truth in {"sigma": 1.0, "1|g_sigma": 0.7, "x": 0.5, "Intercept": 1.0}.items():
        values = posterior[name].to_numpy()
        assert abs(values.mean() - truth) < 4.5 * values.std()


@pytest.mark.parametrize("priors", ["inverse gamma", "half_t"])
def test_the_narrow_posterior_of_a_hundred_thousand_groups_is_found(priors):
    """Compared with the normal approximation at the mode of (log sigma_b, log sigma)."""
    sigma, group = PRIORS[priors]
    model, _ = build_model("y ~ x + (1|g)", crowd(100_000, 6), {"sigma": sigma, "1|g": group})
    target = RandomIntercept(model)

    def f(at):
        u, v = at
        return -float(target.log_density(np.array([2 * (u - v)]), np.array([v]))[0])

    mode = optimize.minimize(
        f, [np.log(0.7), 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}
    ).x
    h = 1e-3
    eye = h * np.eye(2)
    hessian = np.array(
        [
            [
                (f(mode + a + b) - f(mode + a - b) - f(mode - a + b) + f(mode - a - b))
                / (4 * h * h)
                for b in eye
            ]
            for a in eye
        ]
    )
    sd = np.sqrt(np.diag(np.linalg.inv(hessian)))
    assert sd.max() < 0.01
    sample = draw("exact", model, per_chain=300, effects=())
    assert sample.accepted.mean() > 0.98
    limit = bonferroni(2 * 2 * 2, CHAINS - 1)
    for draws, center, spread in zip(
        (np.log(sample.scales["1|g"]), tau_of(sample)), mode, sd, strict=True
    ):
        # The approximation itself is off by the order of 1/G, far less than the Monte Carlo error.
        assert abs(batch_scores(draws, center)[0]) < limit
        assert abs(batch_scores((draws - center) ** 2, spread**2)[0]) < limit
        assert abs(batch_scores(draws + 0.1 * spread, center)[0]) > limit
        assert abs(batch_scores((draws - center) ** 2, 1.2 * spread**2)[0]) > limit

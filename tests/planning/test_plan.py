"""Planning: posteriors against the engine's fits of rows, simulated statistics, and advice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef as rf
from ranef.numerics.log_linear import build_log_linear
from ranef.planning import criteria as goals
from ranef.planning.balanced import (
    Balanced,
    balanced_model,
    balanced_posterior,
    simulate_means,
    simulate_slopes,
    spread_of_x,
)
from ranef.planning.criteria import Posterior, parse_goal, quantiles
from ranef.planning.result import Plan

PRIORS = {"sigma": "half_t(1.5)", "group_sd": "half_t(1.5)"}


def rows_of(data: Balanced, m: int, rng: np.random.Generator) -> pd.DataFrame:
    """Make rows with exactly these means and squares within groups."""
    G = len(data.mean)
    rest = rng.normal(size=(G, m))
    rest -= rest.mean(1, keepdims=True)
    rest *= np.sqrt(data.within / (rest**2).sum())
    y = data.mean[:, None] + rest
    return pd.DataFrame({"y": y.ravel(), "g": np.repeat(np.arange(G), m)})


def expectation(posterior: Posterior, values) -> float:
    return float((posterior.weight * values).sum())


@pytest.mark.parametrize(("G", "m"), [(4, 2), (12, 5), (150, 8)])
@pytest.mark.parametrize("group_sd", [0.0, 0.7, 30.0])
def test_the_posterior_is_that_of_a_fit_of_the_rows(G, m, group_sd):
    rng = np.random.default_rng(G)
    data = simulate_means(G, m, {"sigma": 1.0, "group_sd": group_sd}, rng, 0)
    posterior = balanced_posterior(data, balanced_model(data, PRIORS), m, 0.0)
    fit = rf.fit(
        "y ~ 1 + (1|g)",
        rows_of(data, m, rng),
        priors={"sigma": "half_t(1.5)", "1|g": "half_t(1.5)"},
        seed=1,
        draws=16_000,
    )
    draws = {k: fit.draws["posterior"][k].to_numpy().ravel() for k in ("1|g_sigma", "sigma")}
    group = np.exp(posterior.log_sigma + 0.5 * posterior.log_ratio[:, None])
    ratio = 2 * np.log(draws["1|g_sigma"] / draws["sigma"])
    for q in (0.025, 0.5, 0.975):
        at = posterior.ratio.draw(np.array([q]))[0]
        assert abs((ratio < at).mean() - q) < 4.5 * np.sqrt(q * (1 - q) / len(ratio))
    for ours, theirs in (
        (np.log1p(group), np.log1p(draws["1|g_sigma"])),
        (posterior.log_sigma, np.log(draws["sigma"])),
    ):
        mean = expectation(posterior, ours)
        sd = np.sqrt(expectation(posterior, (ours - mean) ** 2))
        assert abs(mean - theirs.mean()) < 4.5 * sd / np.sqrt(len(theirs))
        # The interval too: at our 2.5% and 97.5% points the draws' distribution function agrees.
        for q in (0.025, 0.975):
            at = quantiles(ours.ravel(), posterior.weight.ravel(), np.array([q]))[0]
            error = np.sqrt(q * (1 - q) / len(theirs))
            assert abs((theirs < at).mean() - q) < 4.5 * error
    intercept = fit.draws["posterior"]["Intercept"].to_numpy().ravel()
    assert posterior.best == pytest.approx(intercept.mean(), abs=4.5 * intercept.std() / 126)
    mean_variance = expectation(posterior, posterior.sd**2)
    if G > 4:  # with four groups the fourth moment is too heavy to compare variances
        # Var(s^2) of heavy-tailed draws by their own fourth moment.
        spread = ((intercept - intercept.mean()) ** 2).std() / np.sqrt(len(intercept))
        assert abs(intercept.var() - mean_variance) < 4.5 * spread
    # Negative control: the posterior of other data is told apart.
    other = Balanced(data.mean, data.weight, data.rows, 2.0 * data.within)
    wrong = balanced_posterior(other, balanced_model(other, PRIORS), m, 0.0)
    mean, theirs = expectation(wrong, wrong.log_sigma), np.log(draws["sigma"])
    assert abs(mean - theirs.mean()) > 4.5 * theirs.std() / np.sqrt(len(theirs))


def line_rows(G: int, m: int, seed: int, slope_sd: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = np.tile(np.linspace(0, 1, m) - 0.5, G)
    g = np.repeat(np.arange(G), m)
    slope = 1.0 + slope_sd * rng.normal(size=G)
    y = rng.normal(size=G)[g] + slope[g] * x + 0.6 * rng.normal(size=G * m)
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{i:02d}" for i in g]})


def test_slopes_within_groups_are_a_layout_of_their_own():
    """Random slopes beside fixed group intercepts, fitted from rows by the general engine."""
    G, m = 9, 4
    frame = line_rows(G, m, 3, 0.8)
    square = spread_of_x(m)
    assert square == pytest.approx((frame["x"][:m] ** 2).sum())
    wide_y, wide_x = (frame[k].to_numpy().reshape(G, m) for k in ("y", "x"))
    slope = (wide_y * wide_x).sum(1) / square
    rest = wide_y - wide_y.mean(1, keepdims=True) - slope[:, None] * wide_x
    data = Balanced(slope, square, m - 1, float((rest**2).sum()))
    posterior = balanced_posterior(data, balanced_model(data, PRIORS), m, 1.0)
    priors = {"sigma": "half_t(1.5)", "x|g": "half_t(1.5)"}
    fit = rf.fit("y ~ 0 + g + x + (0 + x|g)", frame, priors=priors, seed=1, draws=16_000)
    drawn = fit.draws["posterior"]
    ess = fit.summary()["ess"]
    for name, ours in (
        ("sigma", posterior.log_sigma),
        ("x|g_sigma", posterior.log_sigma + 0.5 * posterior.log_ratio[:, None]),
    ):
        theirs = np.log(drawn[name].to_numpy().ravel())
        assert abs(expectation(posterior, ours) - theirs.mean()) < 4.5 * theirs.std() / np.sqrt(
            ess[name] / 2
        )
    theirs = drawn["x"].to_numpy().ravel()
    right = goals.slope_sign(0.9).measure(posterior)
    assert abs(right - (theirs > 0).mean()) < 4.5 * np.sqrt(right * (1 - right) / ess["x"]) + 1e-9
    width = goals.slope_width(1.0).measure(posterior)
    inside = (np.abs(theirs - posterior.best) < width / 2).mean()
    assert abs(inside - 0.95) < 4.5 * np.sqrt(0.05 * 0.95 / (ess["x"] / 2))
    # Negative control: squares that forget the groups' own intercepts.
    wrong = Balanced(slope, square, m - 1, float(((wide_y - slope[:, None] * wide_x) ** 2).sum()))
    other = balanced_posterior(wrong, balanced_model(wrong, PRIORS), m, 1.0)
    log_sigma = np.log(drawn["sigma"].to_numpy().ravel())
    gap = abs(expectation(other, other.log_sigma) - log_sigma.mean())
    assert gap > 4.5 * log_sigma.std() / np.sqrt(ess["sigma"] / 2)


def test_a_shared_slope_takes_one_degree_of_freedom_within_groups():
    G, m = 8, 3
    frame = line_rows(G, m, 4, 0.0)
    y, x = (frame[k].to_numpy().reshape(G, m) for k in ("y", "x"))
    slope = (y * x).sum() / (x**2).sum()
    rest = y - y.mean(1, keepdims=True) - slope * x
    data = Balanced(y.mean(1), float(m), m, float((rest**2).sum()), fitted=1)
    posterior = balanced_posterior(data, balanced_model(data, PRIORS), m, 0.0)
    priors = {"sigma": "half_t(1.5)", "1|g": "half_t(1.5)"}
    fit = rf.fit("y ~ 1 + x + (1|g)", frame, priors=priors, seed=1, draws=16_000)
    theirs = np.log(fit.draws["posterior"]["sigma"].to_numpy().ravel())
    gap = 4.5 * theirs.std() / np.sqrt(16_000)
    assert abs(expectation(posterior, posterior.log_sigma) - theirs.mean()) < gap
    slopes = fit.draws["posterior"]["x"].to_numpy().ravel()
    variance = expectation(posterior, np.exp(2 * posterior.log_sigma)) / (G * spread_of_x(m))
    spread = ((slopes - slopes.mean()) ** 2).std() / np.sqrt(16_000)
    assert abs(slopes.var() - variance) < 4.5 * spread
    # Negative control: without the degree of freedom the residual SD comes out smaller.
    wrong = Balanced(data.mean, data.weight, m, data.within)
    other = balanced_posterior(wrong, balanced_model(wrong, PRIORS), m, 0.0)
    assert abs(expectation(other, other.log_sigma) - theirs.mean()) > gap


def test_simulated_statistics_have_the_distributions_of_rows():
    G, m, n = 6, 4, 2000
    truth = {"sigma": 1.3, "group_sd": 0.7, "slope": 2.0, "slope_sd": 0.9}
    rng = np.random.default_rng(8)
    means = [simulate_means(G, m, truth, rng, 0) for _ in range(n)]
    slopes = [simulate_slopes(G, m, truth, rng) for _ in range(n)]
    # Rows, reduced the long way.
    x = np.linspace(0, 1, m) - 0.5
    b = 0.7 * rng.normal(size=(n, G, 1))
    u = 2.0 + 0.9 * rng.normal(size=(n, G, 1))
    e = 1.3 * rng.normal(size=(n, G, m))
    plain, line = b + e, b + u * x + e
    fitted = (line * x).sum(2) / (x**2).sum()
    rest = line - line.mean(2, keepdims=True) - fitted[:, :, None] * x
    pairs = {
        "between": ([d.mean.var() for d in means], plain.mean(2).var(1)),
        "within": ([d.within for d in means], plain.var(2).sum(1) * m),
        "slope": ([d.mean.mean() for d in slopes], fitted.mean(1)),
        "slopes": ([d.mean.var() for d in slopes], fitted.var(1)),
        "about lines": ([d.within for d in slopes], (rest**2).sum((1, 2))),
    }
    for ours, theirs in pairs.values():
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-4
    # Negative control: squares with the degrees of freedom of another layout.
    assert stats.ks_2samp(pairs["within"][0], pairs["about lines"][1]).pvalue < 1e-4


def test_measures_of_a_known_posterior():
    """sigma known, ratio normal on the logarithm: every measure in closed form."""
    log_ratio = np.linspace(-6, 6, 4001) * 0.5 + 1.0
    weight = stats.norm.pdf(log_ratio, 1.0, 0.5)[:, None]
    weight /= weight.sum()
    log_sigma = np.zeros_like(weight)
    line = build_log_linear(
        log_ratio[None], stats.norm.logpdf(log_ratio, 1.0, 0.5)[None], tails=True
    )
    posterior = Posterior(
        line, log_ratio, log_sigma, weight, 0.7, np.full_like(weight, 0.4), 3, -2.0
    )
    z = stats.norm.ppf(0.975)
    ends = 1 / (1 + np.exp(-(1.0 + 0.5 * z * np.array([-1, 1]))))
    assert goals.icc_width(0.2).measure(posterior) == pytest.approx(ends[1] - ends[0], rel=1e-4)
    assert goals.mean_width(1).measure(posterior) == pytest.approx(2 * z * 0.4, rel=1e-5)
    assert goals.slope_sign(0.9).measure(posterior) == pytest.approx(stats.norm.cdf(-0.7 / 0.4))
    share = np.sinh(0.25 * z)  # of a lognormal SD with log SD 0.25
    assert goals.sd_within(0.2).measure(posterior) == pytest.approx(share, rel=1e-4)
    bound = 3 * np.exp(1.0 + 0.5 * stats.norm.ppf(0.1))
    assert goals.reliability(0.8).measure(posterior) == pytest.approx(bound / (1 + bound), rel=1e-4)
    even, sd = np.array([[0.5], [0.5]]), np.array([[1.0], [3.0]])
    mixed = Posterior(line, log_ratio[:2], log_sigma[:2], even, 0.0, sd, 2, 0.0)
    half = goals.mean_width(1, prob=0.9).measure(mixed) / 2
    assert stats.norm.cdf(half) / 2 + stats.norm.cdf(half / 3) / 2 == pytest.approx(0.95, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("icc width < 0.2", goals.icc_width(0.2)),
        ("ICC interval narrower than 0.2", goals.icc_width(0.2)),
        ("mean width < 5 with probability 0.9", goals.mean_width(5, prob=0.9)),
        ("slope width below 1e-1", goals.slope_width(0.1)),
        ("group sd within 25%", goals.sd_within(0.25)),
        ("sd known within ±25%", goals.sd_within(0.25)),
        ("sigma within 0.1", goals.sd_within(0.1, of="residual")),
        ("slope sd within 30%", goals.sd_within(0.3, of="slope")),
        ("slope sign 0.9", goals.slope_sign(0.9)),
        ("slope sign at least 0.95", goals.slope_sign(0.95)),
        ("reliability >= 0.8", goals.reliability(0.8)),
        ("reliability ≥ 0.8 with probability 0.95", goals.reliability(0.8, prob=0.95)),
    ],
)
def test_goals_as_text(text, goal):
    assert parse_goal(text) == goal
    assert parse_goal(goal.text) == goal


def test_every_known_goal_is_read():
    for text in goals.KNOWN:
        assert parse_goal(text).text == text


def small(**changes):
    settings = {"groups": (4, 12), "replicates": (2, 4), "simulations": 30, "seed": 5}
    return rf.plan("icc width < 0.65", **{**settings, "group_sd": 1.0, **changes})


def test_a_plan_depends_on_its_seed_alone():
    plan = small()
    again = small(processes=2, simulations=60, groups=(12,))
    for design in ((12, 2), (12, 4)):
        np.testing.assert_array_equal(plan.measures[design], again.measures[design][:30])
    other = small(seed=6, groups=(12,), replicates=(2,))
    assert not np.array_equal(plan.measures[12, 2], other.measures[12, 2])


def test_more_data_reach_more():
    plan = small(simulations=120)
    p = plan.probability
    assert p[4, 2] < p[12, 2] < p[12, 4]
    assert plan.recommended == (12, 4)
    table = plan.table()
    assert list(table["reaches"]) == [False, False, False, True]
    assert (table["cost"] == table["measurements"]).all()
    assert "12 groups with 4 measurements each" in plan.recommendation
    axis = plan.plot().axes[0]
    assert axis.get_xlabel() == "number of groups"
    assert "icc width" in axis.get_ylabel()


def test_the_cheapest_design_is_recommended():
    measures = {(10, 8): np.array([0.1]), (20, 4): np.array([0.1]), (30, 4): np.array([0.1])}
    goal = goals.icc_width(0.2)
    truth = {"sigma": 1.0, "group_sd": 1.0}
    assert Plan(goal, measures, 0.8, (0.0, 1.0), truth).recommended == (10, 8)
    assert Plan(goal, measures, 0.8, (0.0, 1.0), truth).cost(20, 4) == 80
    assert Plan(goal, measures, 0.8, (10.0, 1.0), truth).recommended == (10, 8)
    measures[10, 8] = np.array([0.3])
    assert Plan(goal, measures, 0.8, (0.0, 1.0), truth).recommended == (20, 4)


def test_what_cannot_be_reached_says_what_can():
    plan = rf.plan("icc width < 0.05", groups=(5, 10), replicates=(2,), simulations=40, seed=1)
    assert plan.recommended is None
    attained = plan.attained(10, 2)
    assert f"'icc width < {attained:.4g}'" in plan.recommendation
    assert (plan.measures[10, 2] <= attained).mean() == pytest.approx(0.8, abs=0.03)
    never = rf.plan("reliability >= 0.9", groups=(10,), replicates=(2,), simulations=20, seed=1)
    # 2 x 0.25 / (2 x 0.25 + 1)
    assert "reliability 0.33, so more replicates are needed" in never.recommendation
    assert (never.measures[10, 2] >= never.attained(10, 2)).mean() == pytest.approx(0.8, abs=0.06)


def test_uncertain_values_and_stated_priors():
    one = {"groups": (12,), "replicates": (4,)}
    fixed = small(**one).measures[12, 4]
    plan = small(group_sd=stats.lognorm(0.5, scale=1.0), sigma="lognorm(0.2, scale=1)", **one)
    assert "group_sd ~ lognorm(0.5, scale=1)" in str(plan)
    assert plan.measures[12, 4].std() > fixed.std()
    tight = small(priors={"group_sd": "halfnorm(scale=0.01)"}, **one)
    assert tight.measures[12, 4].max() < fixed.min()


@pytest.mark.parametrize("slope_sd", [None, 0.3])
def test_slopes(slope_sd):
    options = {"groups": (5, 60), "replicates": (2, 5), "simulations": 60, "seed": 3}
    plan = rf.plan("slope sign 0.9", slope=-0.6, slope_sd=slope_sd, **options)
    assert plan.probability[60, 5] > 0.9 > plan.probability[5, 2]
    # The classical power: P(estimate / SE beyond the 0.9 quantile), SE near its true value.
    variance = ((slope_sd or 0.0) ** 2 + 1 / spread_of_x(5)) / 60
    power = stats.norm.sf(stats.norm.ppf(0.9) - 0.6 / np.sqrt(variance))
    se = np.sqrt(power * (1 - power) / 60) + 0.02
    assert abs(plan.probability[60, 5] - power) < 4.5 * se


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"goal": "make it good"},
            rf.DataError,
            "Known goals: 'icc width < 0.2', 'mean width < 5'",
        ),
        ({"goal": 3}, rf.DataError, "one of these is expected"),
        ({"goal": "icc width < 1.5"}, rf.DataError, "a number between 0 and 1"),
        ({"goal": "slope sign 90"}, rf.DataError, "a number between 0 and 1"),
        ({"goal": "slope sign 0.9"}, rf.DataError, "give slope="),
        ({"goal": "slope sign 0.9", "slope": 0}, rf.DataError, "no sign"),
        ({"goal": "slope sd within 25%", "slope": 1}, rf.DataError, "needs slope_sd="),
        ({"slope": 1.0}, rf.DataError, "not about a slope"),
        ({"sigma": 0}, rf.DataError, "sigma is 0"),
        ({"group_sd": -1}, rf.DataError, "group_sd is -1"),
        ({"group_sd": [1, 2]}, rf.DataError, "a number or a frozen"),
        ({"group_sd": stats.norm(1, 1)}, rf.DataError, "reaches below zero"),
        ({"groups": (1, 5)}, rf.DataError, r"groups\[0\] is 1; a whole number from 2"),
        ({"replicates": (2.5,)}, rf.DataError, r"replicates\[0\] is 2.5"),
        ({"replicates": ()}, rf.DataError, "replicates is empty"),
        ({"assurance": 80}, rf.DataError, "assurance is 80"),
        ({"simulations": 0}, rf.DataError, "simulations is 0"),
        ({"cost_per_group": -1}, rf.DataError, "cost_per_group is -1"),
        ({"seed": "x"}, rf.DataError, "seed is 'x'"),
        ({"priors": {"sigm": "half_t(1)"}}, rf.PriorError, "Did you mean 'sigma'"),
        ({"priors": "half_t(1)"}, rf.PriorError, "a mapping is expected"),
    ],
)
def test_bad_input_is_one_line(arguments, error, text):
    with pytest.raises(error, match=text) as caught:
        rf.plan(**{"goal": "icc width < 0.2", **arguments})
    assert "\n" not in str(caught.value)


def test_a_share_far_above_one_is_a_slip_of_the_percent_sign():
    with pytest.raises(rf.DataError, match=r"share such as 0\.25"):
        parse_goal("group sd within 25")

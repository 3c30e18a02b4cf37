"""The article's sampler, printed against long chains in R and corrected against quadrature.

Each comparison looks at mean, sd and three quantiles of both variances, in units of the combined
Monte Carlo error. Chains are long enough that every effective sample size exceeds 400.
"""

import time
from functools import cache

import numpy as np
import pytest
from scipy import stats

from helpers import errors_of, ess, load_json, load_w, worst
from ranef import DataError, PriorError
from ranef.article import SCENARIOS, gibbs

NUMBERS = range(1, 9)
VARIANCES = ("sigma2_e", "sigma2_x")
LIMIT = 4.0
SMALL = np.array([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0], [-2.0, -1.5]])


@cache
def chain(number, conditional, mean=False):
    """Draws of both variances in one scenario, and of the mean where there is one."""
    scenario = SCENARIOS[number - 1]
    result = gibbs(
        load_w(number),
        conditional,
        mean=mean,
        draws=20_000 if scenario.n == 1000 else 40_000,
        burn_in=500,
        seed=[number, len(conditional), mean],
        progress=False,
        **scenario.hyperparameters,
    )
    return {k: v.to_numpy() for k, v in result.draws.items() if k != "X"}


def scores(draws, reference):
    """Errors against exact values, or against chains that tell their ess."""
    for name in VARIANCES:
        assert ess(draws[name]) > 400
    return {
        name: errors_of(draws[name], reference[name], reference[name].get("ess", np.inf))
        for name in VARIANCES
    }


# -- the right stationary distribution, and the wrong one


@pytest.mark.parametrize("number", NUMBERS)
def test_the_printed_sampler_gives_what_it_gives_in_r(number):
    z = scores(chain(number, "printed"), load_json("printed")[number - 1])
    assert worst(z) < LIMIT, z


@pytest.mark.parametrize("number", NUMBERS)
def test_the_check_against_r_rejects_the_corrected_sampler(number):
    z = scores(chain(number, "corrected"), load_json("printed")[number - 1])
    assert worst(z) > 5 * LIMIT, z


@pytest.mark.parametrize("mean", [False, True], ids=["zero_mean", "flat_mean"])
@pytest.mark.parametrize("number", NUMBERS)
def test_the_corrected_sampler_gives_the_true_posterior(number, mean):
    exact = load_json("exact")[number - 1]["flat_mean" if mean else "zero_mean"]
    z = scores(chain(number, "corrected", mean), exact)
    assert worst(z) < LIMIT, z


@pytest.mark.parametrize("number", NUMBERS)
def test_the_check_against_the_true_posterior_rejects_the_printed_sampler(number):
    z = scores(chain(number, "printed"), load_json("exact")[number - 1]["zero_mean"])
    assert worst(z) > 5 * LIMIT, z


def test_the_check_notices_an_sd_that_is_five_percent_off():
    draws = chain(1, "corrected")["sigma2_x"]
    exact = load_json("exact")[0]["zero_mean"]["sigma2_x"]
    z = errors_of(draws.mean() + 1.05 * (draws - draws.mean()), exact)
    assert abs(z["sd"]) > LIMIT
    assert max(abs(z["q025"]), abs(z["q975"])) > LIMIT


@pytest.mark.parametrize("number", NUMBERS)
def test_the_share_of_the_signal_agrees_too_and_needs_the_right_pairing(number):
    draws = chain(number, "corrected", True)
    exact = load_json("exact")[number - 1]["flat_mean"]["icc"]

    def z(sigma2_e):
        return errors_of(draws["sigma2_x"] / (sigma2_e + draws["sigma2_x"]), exact)

    assert worst(z(draws["sigma2_e"])) < LIMIT
    if number == 1:  # the two variances are correlated most
        assert worst(z(np.roll(draws["sigma2_e"], 500))) > LIMIT


# -- the full conditionals, with the variances pinned by their priors


def pinned(W, conditional, sigma2_e, sigma2_x, draws=4000, **more):
    """Run with priors so tight that both variances stay put from the first sweep on."""
    tight = 1e14
    return gibbs(
        W,
        conditional,
        draws=draws,
        burn_in=1,
        seed=3,
        a_sigma_e=tight,
        b_sigma_e=tight * sigma2_e,
        a_sigma_x=tight,
        b_sigma_x=tight * sigma2_x,
        **more,
    ).draws


def conditional_variance(conditional, J, sigma2_e, sigma2_x):
    if conditional == "printed":
        return 1 / (J / sigma2_x + 1 / sigma2_e)
    return 1 / (1 / sigma2_x + J / sigma2_e)


def signal_errors(draws, W, V, sigma2_e):
    """Scores of the X draws against N(V sum(W) / sigma2_e, V)."""
    out = {}
    for i, row in enumerate(W):
        normal = stats.norm(V * row.sum() / sigma2_e, np.sqrt(V))
        reference = dict(zip(("q025", "q50", "q975"), normal.ppf([0.025, 0.5, 0.975]), strict=True))
        reference |= {"mean": normal.mean(), "sd": normal.std()}
        out[i] = errors_of(draws["X"].to_numpy()[0, :, i], reference)
    return out


@pytest.mark.parametrize("J", [2, 3])
@pytest.mark.parametrize("conditional", ["printed", "corrected"])
def test_signals_follow_their_stated_conditional_and_not_the_other(conditional, J):
    W = np.column_stack([SMALL, SMALL[:, 0] + 1])[:, :J]
    draws = pinned(W, conditional, sigma2_e=1.0, sigma2_x=4.0)
    other = {"printed": "corrected", "corrected": "printed"}[conditional]
    assert worst(signal_errors(draws, W, conditional_variance(conditional, J, 1, 4), 1)) < LIMIT
    assert worst(signal_errors(draws, W, conditional_variance(other, J, 1, 4), 1)) > 5 * LIMIT


def test_equal_variances_hide_the_error():
    """A check at this symmetric point passes both conditionals, so no test may rely on one."""
    for J, v in ((2, 0.3), (2, 1.0), (2, 40.0), (3, 2.0)):
        blind = [conditional_variance(c, J, v, v) for c in ("printed", "corrected")]
        assert blind[0] == pytest.approx(blind[1], rel=1e-15)
    printed, corrected = (pinned(SMALL, c, 2.0, 2.0)["X"] for c in ("printed", "corrected"))
    np.testing.assert_allclose(printed, corrected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("sigma2_e", "sigma2_x"), [(1.0, 4.0), (4.0, 1.0), (2.0, 3.0)])
def test_unequal_variances_show_the_error(sigma2_e, sigma2_x):
    each = [conditional_variance(c, 2, sigma2_e, sigma2_x) for c in ("printed", "corrected")]
    assert not np.isclose(*each, rtol=0.1)
    printed, corrected = (
        pinned(SMALL, c, sigma2_e, sigma2_x)["X"] for c in ("printed", "corrected")
    )
    assert np.isclose(printed, corrected, rtol=0.05).mean() < 0.3


def test_the_mean_follows_its_posterior_given_the_variances():
    draws = pinned(SMALL, "corrected", 1.0, 4.0, draws=20_000, mean=True)["mu"].to_numpy()
    normal = stats.norm(SMALL.mean(), np.sqrt((4.0 + 1.0 / 2) / len(SMALL)))
    reference = dict(zip(("q025", "q50", "q975"), normal.ppf([0.025, 0.5, 0.975]), strict=True))
    assert ess(draws) > 1000
    assert worst(errors_of(draws, {"mean": normal.mean(), "sd": normal.std(), **reference})) < LIMIT
    wrong = {"mean": normal.mean(), "sd": np.sqrt(4.0 / len(SMALL))}  # without the noise's part
    assert worst(errors_of(draws, wrong)) > LIMIT


# -- what the function takes and gives


def test_burn_in_is_removed_from_the_front_and_changes_nothing_else():
    whole = gibbs(SMALL, draws=300, burn_in=0, seed=5).draws
    kept = gibbs(SMALL, draws=300, burn_in=100, seed=5).draws
    assert kept.sizes["draw"] == 200
    for name in whole:
        assert np.array_equal(whole[name][:, 100:], kept[name])


@pytest.mark.parametrize("mean", [False, True])
def test_draws_are_labelled_by_chain_draw_and_signal(mean):
    result = gibbs(SMALL, "corrected", mean=mean, draws=50, burn_in=10, seed=1)
    draws = result.draws
    assert set(draws) == {"sigma2_e", "sigma2_x", "X"} | ({"mu"} if mean else set())
    assert draws["X"].dims == ("chain", "draw", "signal")
    assert draws["X"].shape == (1, 40, 4)
    for name in set(draws) - {"X"}:
        assert draws[name].dims == ("chain", "draw")
        assert draws[name].shape == (1, 40)
    assert draws["signal"].to_numpy().tolist() == [1, 2, 3, 4]
    assert all(np.isfinite(draws[name]).all() for name in draws)
    assert (draws["sigma2_e"] > 0).all()
    assert (draws["sigma2_x"] > 0).all()


def test_a_seed_fixes_the_draws_and_a_generator_serves_as_well():
    first = gibbs(SMALL, draws=40, burn_in=0, seed=9).draws
    assert first.equals(gibbs(SMALL, draws=40, burn_in=0, seed=9).draws)
    assert first.equals(gibbs(SMALL, draws=40, burn_in=0, seed=np.random.default_rng(9)).draws)
    assert not first.equals(gibbs(SMALL, draws=40, burn_in=0, seed=10).draws)


def test_printed_is_the_default_with_the_articles_priors():
    named = gibbs(
        SMALL,
        "printed",
        draws=150,
        burn_in=100,
        a_sigma_e=0.1,
        b_sigma_e=1.0,
        a_sigma_x=0.1,
        b_sigma_x=1.0,
        seed=2,
    )
    assert gibbs(SMALL, draws=150, seed=2).draws.equals(named.draws)


def test_the_data_are_left_as_they_were():
    W = SMALL.copy()
    gibbs(W, draws=20, burn_in=0, seed=1)
    assert np.array_equal(W, SMALL)


def test_run_time_and_sweeps_are_told():
    started = time.perf_counter()
    result = gibbs(SMALL, draws=2000, burn_in=100, seed=1)
    elapsed = time.perf_counter() - started
    assert 0 < result.seconds <= elapsed
    assert result.sweeps == 2000
    assert "2,000 sweeps in" in repr(result)
    assert "1,900 draws kept" in repr(result)
    assert f"sigma2_x {float(result.draws['sigma2_x'].mean()):.4g}" in repr(result)


@pytest.mark.parametrize("name", ["a_sigma_e", "b_sigma_e", "a_sigma_x", "b_sigma_x"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_a_prior_number_that_is_not_positive_is_refused_by_name(name, value):
    with pytest.raises(PriorError, match=f"{name} is .*positive") as caught:
        gibbs(SMALL, **{name: value})
    assert caught.value.parameter == name


@pytest.mark.parametrize(
    ("W", "message"),
    [
        ([1.0, 2.0, 3.0], r"shape \(3,\)"),
        (np.ones((5, 1)), r"shape \(5, 1\)"),
        (np.ones((1, 5)), r"shape \(1, 5\)"),
        ([["a", "b"], ["c", "d"]], "matrix of numbers"),
        ([[1.0, 2.0], [3.0]], "matrix of numbers"),
        ([[1.0, np.nan], [3.0, 4.0]], "missing or infinite"),
        ([[1.0, np.inf], [3.0, 4.0]], "missing or infinite"),
        (np.full((4, 2), 7.0), r"constant \(7\)"),
    ],
)
def test_measurements_that_are_no_finite_varying_matrix_are_refused(W, message):
    with pytest.raises(DataError, match=message):
        gibbs(W)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conditional": "right"}, "conditional is 'right'. Known names: 'printed', 'corrected'"),
        ({"draws": 100, "burn_in": 100}, "burn_in=100, draws=100"),
        ({"burn_in": -1}, "burn_in is -1; a whole number from 0"),
        ({"draws": 0, "burn_in": 0}, "draws is 0; a whole number from 1"),
    ],
)
def test_other_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        gibbs(SMALL, **arguments)

"""Simulation-based calibration: mock samplers with known ranks, broken ones, engines, resuming.

Each check of the checker runs against a tampered one too: ranks shuffled, truth leaked.
"""

from __future__ import annotations

import itertools
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef as rf
from ranef.article import gibbs
from ranef.calibration import experiments, workers
from ranef.calibration import from_truth as from_truth_module
from ranef.calibration.exact_pit import exact_pit
from ranef.calibration.exact_tests import band, holm, uniformity_p_value
from ranef.calibration.from_truth import start_of
from ranef.calibration.quantities import of_sample, quantities
from ranef.calibration.report import pattern
from ranef.calibration.simulate import sample_parameters, sample_response, with_response
from ranef.calibration.workers import random_rank
from ranef.samplers import SAMPLERS
from ranef.samplers.gibbs import sampler, variance_steps
from ranef.samplers.gibbs.linear_steps import draw_effects
from ranef.samplers.gibbs.products import products_of
from ranef.samplers.gibbs.variance_steps import draw_residual
from ranef.samplers.sample import SamplerSettings

ALPHA = 1e-3

# -- ranks and their test


def every_sample(S, bins):
    return (np.array(c) for c in itertools.product(range(bins), repeat=S))


@pytest.mark.parametrize(("S", "bins"), [(1, 5), (4, 3), (5, 4), (6, 2)])
def test_p_values_are_those_of_all_samples_counted(S, bins):
    edges = np.arange(1, bins) / bins

    def statistic(ranks):
        counts = np.array([(ranks < k).sum() for k in range(1, bins)])
        law = stats.binom(S, edges)
        return float(2 * np.minimum(law.cdf(counts), law.sf(counts - 1)).min())

    samples = list(every_sample(S, bins))
    own = np.array([statistic(r) for r in samples])
    p = np.array([uniformity_p_value(r, bins - 1) for r in samples])
    counted = np.array([np.mean(own <= t * (1 + 1e-9)) for t in own])
    np.testing.assert_allclose(p, counted, rtol=1e-9)
    # The band is the same test as a picture.
    for rate in (0.05, 0.2, 0.6):
        low, high = band(S, bins - 1, rate)
        share = np.array([[(r < k).mean() for k in range(1, bins)] for r in samples])
        np.testing.assert_array_equal(((share < low) | (share > high)).any(axis=1), p <= rate)


def test_p_values_of_many_ranks_are_uniform_and_see_what_is_not():
    rng = np.random.default_rng(1)
    p = np.array([uniformity_p_value(rng.integers(0, 100, 1000), 99) for _ in range(500)])
    assert stats.kstest(p, "uniform").pvalue > ALPHA
    skewed = (100 * rng.random(1000) ** 1.3).astype(int)
    assert uniformity_p_value(skewed, 99) < ALPHA


def test_ranks_count_the_draws_below_and_break_ties_at_random():
    rng = np.random.default_rng(1)
    draws = np.array([3.0, 1.0, 2.0, 5.0])
    assert [random_rank(draws, t, rng) for t in (0.0, 2.5, 9.0)] == [0, 2, 4]
    tied = np.array([random_rank(np.ones(3), 1.0, rng) for _ in range(400)])
    assert stats.chisquare(np.bincount(tied)).pvalue > ALPHA
    assert len(np.bincount(tied)) == 4


def test_holm_adjusts_as_by_hand():
    np.testing.assert_allclose(holm(np.array([0.02, 0.01, 0.03, 0.9])), [0.06, 0.04, 0.06, 0.9])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda u: u**2, "draws too high"),
        (lambda u: u**0.5, "draws too low"),
        (lambda u: stats.beta(0.5, 0.5).ppf(u), "draws too narrow"),
        (lambda u: stats.beta(2, 2).ppf(u), "draws too wide"),
    ],
)
def test_the_pattern_says_what_is_wrong(values, message):
    assert pattern(values(np.random.default_rng(1).random(200))) == message


# -- mock samplers: mu ~ N(0, 1), three observations N(mu, 1), so mu | y ~ N(sum y / 4, 1 / 4)


def simulate(rng):
    mu = rng.normal()
    return {"mu": mu}, rng.normal(mu, 1, 3)


def log_likelihood(parameters, y):
    return float(-0.5 * ((y - parameters["mu"]) ** 2).sum())


def normal(center=0.0, spread=1.0):
    def fit(y, rng):
        return {"mu": y.sum() / 4 + 0.5 * (center + spread * rng.normal(size=99))}

    return fit


def right(y, rng):
    return normal()(y, rng)


def prior_only(y, rng):
    del y
    return {"mu": rng.normal(size=99)}


def calibrate(fit, simulations=300, **options):
    options = {"seed": 1, "error_rate": ALPHA, "log_likelihood": log_likelihood} | options
    return rf.calibrate(fit, simulations, simulate=simulate, **options)


def check_right_passes():
    for seed in range(2):
        assert calibrate(right, seed=seed).passed


def check_wrong_fail():
    samplers = {
        "draws too narrow": normal(spread=0.75),
        "draws too wide": normal(spread=1.4),
        "draws too high": normal(center=0.4),
        "draws too low": normal(center=-0.4),
    }
    for expected, fit in samplers.items():
        result = calibrate(fit)
        assert not result.passed
        assert result.table()["pattern"]["mu"] == expected
        with pytest.raises(rf.CalibrationError, match="NOT calibrated: 300 simulations") as caught:
            result.raise_if_failed()
        assert caught.value.calibration is result


def check_ignored_data_are_seen_by_the_likelihood_alone():
    result = calibrate(prior_only)
    table = result.table()
    assert table["p_value"]["mu"] > 0.01
    assert table["p_value"]["log_likelihood"] < 1e-6
    assert not result.passed
    assert calibrate(prior_only, log_likelihood=None).passed


def check_ranks_by_hand():
    """A sampler that answers with a fixed grid: the rank is the number of points below mu."""
    truths, seen = [], []

    def remember(rng):
        parameters, y = simulate(rng)
        truths.append(parameters["mu"])
        return parameters, y

    def grid(y, rng):
        del rng
        seen.append(y)
        return {"mu": np.linspace(-2, 2, 99)}

    result = rf.calibrate(grid, 40, simulate=remember, seed=7)
    by_hand = [int(np.sum(np.linspace(-2, 2, 99) < mu)) for mu in truths]
    np.testing.assert_array_equal(result.ranks[:, 0], by_hand)
    assert np.all(np.floor(result.pit[:, 0] * 100) == by_hand)
    # What the sampler is given is the data, as they were simulated, and nothing else.
    for i, y in enumerate(seen):
        streams = np.random.SeedSequence(7, spawn_key=(i,)).spawn(3)
        parameters, data = simulate(np.random.default_rng(streams[0]))
        np.testing.assert_array_equal(y, data)
        assert truths[i] == parameters["mu"]


CHECKS = {
    "right": check_right_passes,
    "wrong": check_wrong_fail,
    "likelihood": check_ignored_data_are_seen_by_the_likelihood_alone,
    "by hand": check_ranks_by_hand,
}


@pytest.mark.parametrize("name", CHECKS)
def test_calibrate_tells_mock_samplers_apart(name):
    CHECKS[name]()


def shuffled(draws, truth, rng):
    del truth
    return int(rng.integers(len(draws) + 1))


def reversed_rank(draws, truth, rng):
    del rng
    return int(np.sum(draws > truth))


def constant(draws, truth, rng):
    del truth, rng
    return len(draws) // 2


def leaked(self, draws, simulating, fitting, compare=experiments.OwnExperiment.compare):
    """Draws scattered about the truth as the truth would scatter about them."""
    pair = compare(self, draws, simulating, fitting)
    u = simulating.random()
    return replace(
        pair,
        draws={
            k: pair.truth[k] + stats.norm.ppf(u) - fitting.normal(size=draws) for k in pair.draws
        },
    )


def blind(self, draws, simulating, fitting, compare=leaked.__defaults__[0]):
    """The log likelihood replaced by something that knows nothing of the data."""
    pair = compare(self, draws, simulating, fitting)
    noise = fitting.normal(size=draws + 1)
    name = "log_likelihood"
    if name not in pair.draws:
        return pair
    return replace(pair, truth=pair.truth | {name: noise[0]}, draws=pair.draws | {name: noise[1:]})


@pytest.mark.parametrize(
    ("place", "name", "tampered", "caught_by"),
    [
        (workers, "random_rank", shuffled, {"wrong", "likelihood", "by hand"}),
        (workers, "random_rank", reversed_rank, {"wrong", "by hand"}),
        (workers, "random_rank", constant, {"right", "wrong", "likelihood", "by hand"}),
        (experiments.OwnExperiment, "compare", leaked, {"wrong", "likelihood", "by hand"}),
        (experiments.OwnExperiment, "compare", blind, {"likelihood"}),
    ],
)
def test_a_tampered_calibrate_is_caught(monkeypatch, place, name, tampered, caught_by):
    monkeypatch.setattr(place, name, tampered)
    caught = set()
    for check, run in CHECKS.items():
        try:
            run()
        except (AssertionError, pytest.fail.Exception):
            caught.add(check)
    assert caught == caught_by


def test_a_correct_sampler_fails_as_often_as_stated():
    alarms = [not calibrate(right, 20, seed=i, error_rate=0.2).passed for i in range(150)]
    assert stats.binomtest(sum(alarms), 150, 0.2, "greater").pvalue > ALPHA
    assert sum(alarms) > 5


def test_arrays_of_parameters_and_thinning():
    def draw(rng):
        theta = rng.normal(size=(2, 2))
        return {"theta": theta, "tau": 1.0}, theta + rng.normal(size=(2, 2))

    def fit(y, rng):
        return {"theta": y / 2 + 0.5**0.5 * rng.normal(size=(1000, 2, 2))}

    result = rf.calibrate(fit, 30, simulate=draw, draws=9, seed=1)
    assert result.names == ("theta[0, 0]", "theta[0, 1]", "theta[1, 0]", "theta[1, 1]")
    assert result.ranks.max() <= 9
    assert result.passed


# -- resuming, processes, files


class Interrupted:
    """A fit that stops the whole run at its n-th call."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self, y, rng):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return right(y, rng)


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_stopped(tmp_path):
    file = tmp_path / "ranks"
    whole = calibrate(Interrupted(-1), 60)
    for calls in (25, 20):
        with pytest.raises(KeyboardInterrupt):
            calibrate(Interrupted(calls), 60, file=file)
    assert rf.Calibration.load(file).simulations == 45
    done = calibrate(Interrupted(15), 60, file=file)
    np.testing.assert_array_equal(done.ranks, whole.ranks)
    np.testing.assert_array_equal(done.pit, whole.pit)
    assert done.names == whole.names
    # More simulations only add to those there are; a run that is done only reads.
    more = calibrate(Interrupted(10), 70, file=file, seed=None)
    np.testing.assert_array_equal(more.pit[:60], whole.pit)
    np.testing.assert_array_equal(calibrate(Interrupted(0), 60, file=file).pit, whole.pit)
    assert rf.Calibration.load(file).simulations == 70
    assert [p.name for p in tmp_path.iterdir()] == ["ranks"]


def test_a_file_of_another_calibration_or_none_is_refused(tmp_path):
    file = tmp_path / "ranks"
    calibrate(right, 5, file=file)
    with pytest.raises(rf.DataError, match="another calibration: its seed is 1, here it is 2"):
        calibrate(right, 5, file=file, seed=2)
    with pytest.raises(rf.DataError, match="its fit is 'right', here it is 'prior_only'"):
        calibrate(prior_only, 5, file=file)
    file.write_text("nothing")
    with pytest.raises(rf.DataError, match="holds no calibration"):
        calibrate(right, 5, file=file)
    with pytest.raises(rf.DataError, match="cannot be written"):
        calibrate(right, 5, file=tmp_path / "no" / "folder")
    with pytest.raises(rf.DataError, match="does not exist"):
        rf.Calibration.load(tmp_path / "nowhere")


def test_saved_and_loaded_are_the_same(tmp_path):
    result = calibrate(right, 20)
    result.save(tmp_path / "c.npz")
    back = rf.Calibration.load(tmp_path / "c.npz", error_rate=ALPHA)
    np.testing.assert_array_equal(back.pit, result.pit)
    assert str(back) == str(result)


def dyestuff(**priors):
    priors = {"sigma": "half_t(50)", "1|Batch": "half_t(50)"} | priors
    return rf.model("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), priors=priors)


def test_known_standard_errors_leave_no_sigma_to_rank():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"y": rng.normal(size=12), "g": range(12), "s": rng.uniform(0.5, 2, 12)})
    result = rf.calibrate(
        rf.model("y ~ 1 + (1|g)", frame, se="s", priors={"1|g": "half_t(2)"}),
        120, seed=1, progress=False,
    )  # fmt: skip
    assert result.passed
    assert not [n for n in result.names if n.startswith("sigma")]
    assert "1|g_sigma (exact)" in result.names


def test_one_process_and_two_give_the_same_ranks():
    conjugate = dict.fromkeys(("sigma", "1|Batch"), "variance(invgamma(3, scale=2000))")
    one, two = (rf.calibrate(dyestuff(**conjugate), 30, seed=4, processes=p) for p in (1, 2))
    np.testing.assert_array_equal(one.pit, two.pit)
    np.testing.assert_array_equal(one.ranks, two.ranks)
    other = rf.calibrate(dyestuff(**conjugate), 30, seed=5)
    assert np.mean(other.ranks == one.ranks) < 0.2
    # The default half-t priors travel too.
    assert pickle.loads(pickle.dumps(dyestuff().inner)).prior_texts() == dyestuff().priors


def test_functions_that_cannot_travel_are_told():
    with pytest.raises(rf.DataError, match="cannot be sent to other processes"):
        calibrate(normal(), 4, processes=2)


def test_a_script_without_a_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import ranef as rf\n"
        "def simulate(rng):\n    mu = rng.normal()\n    return {'mu': mu}, mu\n"
        "def fit(y, rng):\n    return {'mu': rng.normal(size=9)}\n"
        "rf.calibrate(fit, 4, simulate=simulate, draws=9, processes=2)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=os.environ, check=False
    )
    assert "put the call below `if __name__ == '__main__':`" in done.stderr


# -- models of the package


def ig(shape, scale):
    return rf.variance(stats.invgamma(shape, scale=scale))


def rows(seed=5, n=48, groups=8):
    rng = np.random.default_rng(seed)
    data = {
        "g": rng.integers(0, groups, n),
        "h": rng.integers(0, 4, n),
        "x": 0.3 + rng.normal(size=n),
        "w": rng.uniform(0.5, 3, n),
        "o": np.linspace(0, 5, n),
        "y": 100 + rng.normal(size=n),
    }
    return pd.DataFrame(data)


EXPON, LOGNORM = "expon(scale=1)", "lognorm(0.5, scale=1)"
IG = {"sigma": ig(3, 2), "1|g": ig(3, 3)}
# Formula, priors, simulations: as many as a few seconds allow; `make calibrate` runs 1,000 of all.
MODELS = {
    "zero mean, IG": ("y ~ 0 + (1|g)", IG, 200),
    "flat coefficients, weights, IG": ("y ~ x + (1|g)", IG, 200),
    "normal coefficients, half_t": (
        "y ~ x + offset(o) + (1|g)",
        {"sigma": "half_t(1)", "1|g": "half_t(1)", "x": "norm(0, 2)", "Intercept": "norm(90, 3)"},
        20,
    ),
    "slopes, lognormal": (
        "y ~ x + (x|g)",
        {"sigma": LOGNORM, "1|g": LOGNORM, "x|g": LOGNORM, "x|g_corr": "lkj(2)"},
        10,
    ),
    "crossed, exponential": (
        "y ~ 1 + (1|g) + (1|h)",
        {"sigma": "half_t(1)", "1|g": EXPON, "1|h": EXPON},
        15,
    ),
}


def model_of(name):
    formula, priors, _ = MODELS[name]
    return rf.model(formula, rows(), priors=priors, weights="w" if "weights" in name else None)


@pytest.mark.parametrize("name", MODELS)
def test_the_exact_sampler_is_calibrated(name):
    result = rf.calibrate(model_of(name), MODELS[name][2], seed=3, error_rate=ALPHA)
    result.raise_if_failed()


def test_gibbs_is_calibrated():
    result = rf.calibrate(
        model_of("flat coefficients, weights, IG"), 25, method="gibbs", draws=19, warmup=80,
        seed=3, error_rate=ALPHA,
    )  # fmt: skip
    result.raise_if_failed()
    assert not any("(exact)" in name for name in result.names)


# -- chains that start at the truth: exactly uniform ranks however slowly they mix


CHAINS = [("gibbs", name, 100 if "slopes" not in name else 60) for name in MODELS]


def test_every_sampler_of_the_table_is_calibrated_here():
    assert {"exact"} | {method for method, *_ in CHAINS} == set(SAMPLERS)


@pytest.mark.parametrize(("method", "name", "simulations"), CHAINS)
def test_chains_from_the_truth_are_calibrated(method, name, simulations):
    result = from_truth(name, method, simulations)
    result.raise_if_failed()


def from_truth(name, method, simulations, **options):
    return rf.calibrate(
        model_of(name), simulations, method=method, start="truth", draws=19, seed=3,
        error_rate=ALPHA, **options,
    )  # fmt: skip


SLOW = "normal coefficients, half_t"


def test_a_single_sweep_from_the_truth_gives_uniform_ranks_only_by_way_of_the_hub(monkeypatch):
    from_truth(SLOW, "gibbs", 400, warmup=1).raise_if_failed()
    there = from_truth_module.start_of
    truth = []

    # Chains that leave the truth itself surround it: its rank is in the middle.
    def straight(model, at, *, backward=False):
        if backward:
            truth[:] = [there(model, at)]
        return truth[0]

    monkeypatch.setattr(from_truth_module, "start_of", straight)
    assert not from_truth(SLOW, "gibbs", 400, warmup=1).passed


def louder(products, state, rng):
    """The residual SD grows by a twentieth in each sweep."""
    after = draw_residual(products, state, rng)
    theta = after.theta.copy()
    theta[:, -1] += 0.05
    return replace(after, theta=theta)


def wider(products, factor, state, rng):
    """Effects drawn as if the residual variance were twice what it is."""
    theta = state.theta.copy()
    theta[:, -1] += 0.5 * np.log(2)
    after = draw_effects(products, factor, replace(state, theta=theta), rng)
    return replace(after, theta=state.theta)


def one_level_less(products, term, state):
    """Degrees of freedom of a group variance, off by one."""
    squares, levels = squares_of(products, term, state)
    return squares, levels - 1


squares_of = variance_steps._squares


PLANTED = {
    "residual SD": ("gibbs", SLOW, 200, sampler, "draw_residual", louder),
    "effects": ("gibbs", SLOW, 100, sampler, "draw_effects", wider),
    "degrees of freedom": ("gibbs", SLOW, 200, variance_steps, "_squares", one_level_less),
}


@pytest.mark.parametrize("error", PLANTED)
def test_errors_planted_in_the_chains_are_found_from_the_truth(error, monkeypatch):
    method, name, simulations, *wrong = PLANTED[error]
    monkeypatch.setattr(*wrong)
    assert not from_truth(name, method, simulations).passed


@pytest.mark.parametrize("name", MODELS)
def test_backwards_the_steps_of_a_sweep_come_in_opposite_order(name, monkeypatch):
    model = model_of(name)
    inner, rng = model.inner, np.random.default_rng(1)
    steps = sampler.steps_of(products_of(inner))
    order = []

    def step(i):
        return lambda state, rng: order.append(i) or steps[i](state, rng)

    recorded = [step(i) for i in range(len(steps))]
    monkeypatch.setattr(sampler, "steps_of", lambda _: recorded)
    truth = sample_parameters(inner, rng)
    names = tuple(n for term in inner.parameters.terms for n in term.names)
    for backward in (False, True):
        start = start_of(inner, truth, backward=backward)
        request = SamplerSettings(3, 3, 1, names, progress=False, start=start)
        SAMPLERS["gibbs"](inner, request, rng)
    forward = list(range(len(steps)))
    assert order == 2 * forward + 2 * forward[::-1]


@pytest.mark.parametrize("name", MODELS)
def test_a_chain_begins_where_it_is_told(name, monkeypatch):
    inner, rng = model_of(name).inner, np.random.default_rng(2)
    truth = sample_parameters(inner, rng)
    # A sweep without steps gives back what went in.
    monkeypatch.setattr(sampler, "steps_of", lambda _: [])
    names = tuple(n for term in inner.parameters.terms for n in term.names)
    request = SamplerSettings(2, 2, 0, names, progress=False, start=start_of(inner, truth))
    ends = of_sample(SAMPLERS["gibbs"](inner, request, rng))
    for chain in range(2):
        np.testing.assert_allclose(ends.sigma[chain], truth.sigma[0], rtol=1e-9)
        for name_, values in truth.scales.items():
            np.testing.assert_allclose(ends.scales[name_][chain], values[0], rtol=1e-9)
        for label, values in truth.correlations.items():
            np.testing.assert_allclose(ends.correlations[label][chain], values[0], atol=1e-9)
        np.testing.assert_allclose(ends.beta[chain], truth.beta[0], rtol=1e-9)
        for name_, values in truth.effects.items():
            np.testing.assert_array_equal(ends.effects[name_][chain], values[0])


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("model", {"start": "turth", "method": "gibbs"}, "start is 'turth'. Did you mean 'truth'"),
        ("model", {"start": "truth"}, "method='exact', whose draws are independent"),
        ("model", {"start": "truth", "method": "gibbs", "warmup": 0}, "at least 1 is expected"),
        ("model", {"start": None}, "start is None"),
        ("fit", {"start": "truth", "simulate": simulate}, "up to the function"),
    ],
)
def test_starts_that_cannot_be_are_refused(model, options, message):
    fitted = model_of("zero mean, IG") if model == "model" else right
    with pytest.raises(rf.DataError, match=re.escape(message)):
        rf.calibrate(fitted, 10, **options)


def moved(sample, log_sigma=lambda x: x, log_ratio=lambda x: x):
    """Residual SDs and variance ratios put through functions of their logs."""
    log_scale, sigma = sample.theta[..., 0], sample.theta[..., 1]
    ratio = log_ratio(2 * (log_scale - sigma))
    sigma = log_sigma(sigma)
    return replace(sample, theta=np.stack([sigma + ratio / 2, sigma], axis=-1))


def shifted(sample, rng):
    """Residual SDs half a posterior SD too large."""
    del rng
    return moved(sample, log_sigma=lambda x: x + 0.5 * x.std())


def narrow(sample, rng):
    """Group SDs with six tenths of their spread, in logs."""
    del rng
    return moved(sample, log_ratio=lambda x: x.mean() + 0.6 * (x - x.mean()))


def unpaired(sample, rng):
    """Effects of a stranger's variances and coefficients: each margin is right."""
    return replace(sample, effects={"1|g": sample.effects["1|g"][rng.permutation(99)]})


def displaced(sample, rng):
    """Effects of the first level given to the second and so on."""
    del rng
    return replace(sample, effects={"1|g": np.roll(sample.effects["1|g"], 1, axis=2)})


@pytest.mark.parametrize("damage", [shifted, narrow, unpaired, displaced])
def test_calibration_rejects_broken_samplers(monkeypatch, damage):
    def broken(model, request, rng):
        return damage(SAMPLERS["exact"](model, request, rng), np.random.default_rng(1))

    monkeypatch.setitem(SAMPLERS, "broken", broken)
    result = rf.calibrate(
        model_of("flat coefficients, weights, IG"), 200, method="broken", seed=3, error_rate=ALPHA
    )
    assert not result.passed
    table = result.table()
    # The exact rows do not look at draws.
    assert table.loc[[n for n in result.names if "(exact)" in n], "adjusted"].min() > ALPHA
    if damage is unpaired:  # only the likelihood sees it
        assert list(table.index[table["adjusted"] <= ALPHA]) == ["log_likelihood"]


def test_a_wrong_quadrature_is_seen_by_the_exact_rows_alone(monkeypatch):
    def broken(model, request, rng):
        sample = SAMPLERS["exact"](model, request, rng)
        points = replace(sample.points, log_ratio=sample.points.log_ratio + 1.0)
        return replace(sample, points=points)

    monkeypatch.setitem(SAMPLERS, "broken", broken)
    result = rf.calibrate(model_of("zero mean, IG"), 150, method="broken", seed=3, error_rate=ALPHA)
    failed = set(result.table().query("adjusted <= 0.001").index)
    assert failed
    assert all("(exact)" in name for name in failed)


def test_flat_coefficients_may_lie_anywhere():
    """The promise behind holding them: the ranks do not change with their true values."""
    frame = rows()
    far = frame.assign(y=frame["y"] + 40 - 7 * frame["x"])
    priors = {"sigma": ig(3, 2), "1|g": ig(3, 3)}
    one, two = (
        rf.calibrate(rf.model("y ~ x + (1|g)", f, priors=priors), 15, seed=1) for f in (frame, far)
    )
    np.testing.assert_allclose(one.pit, two.pit, atol=1e-6)
    assert one.settings["held"] == ["Intercept", "x"]


@pytest.mark.parametrize(
    "name", ["zero mean, IG", "flat coefficients, weights, IG", "normal coefficients, half_t"]
)
def test_exact_pits_are_the_share_of_draws_below(name):
    model = model_of(name)
    rng = np.random.default_rng(1)
    for _ in range(3):
        truth = sample_parameters(model.inner, rng)
        y = sample_response(model.inner, model.rows, truth, rng)
        fitted = with_response(model.inner, model.rows, y)
        request = SamplerSettings(40_000, 40_000, 0, ("1|g",), progress=False, moments=False)
        sample = SAMPLERS["exact"](fitted, request, rng)
        pit = exact_pit(fitted, sample.points, truth)
        draws = quantities(model.inner, model.rows, y, of_sample(sample))
        true = quantities(model.inner, model.rows, y, truth)
        assert set(pit) <= set(draws)
        for key, value in pit.items():
            share = np.mean(draws[key] < true[key])
            # Interpolated between nodes where priors are not inverse gamma.
            slack = 1e-3 if "half_t" in name and "sigma" in key else 0.0
            assert abs(share - value) < 4.5 * np.sqrt(value * (1 - value) / 40_000) + slack, key


def test_quantities_are_what_they_say():
    model = rf.model(
        "y ~ x + (x|g) + (1|h)", rows(), weights="w",
        priors=dict.fromkeys(("sigma", "1|g", "x|g", "1|h"), "half_t(1)"),
    )  # fmt: skip
    inner, data, frame = model.inner, model.rows, rows()
    rng = np.random.default_rng(2)
    at = sample_parameters(inner, rng)
    y = sample_response(inner, data, at, rng)
    values = {k: v[0] for k, v in quantities(inner, data, y, at).items()}
    g, h, x, w = (frame[k].to_numpy() for k in "ghxw")
    intercept, slope, other = (at.effects[k][0] for k in ("1|g", "x|g", "1|h"))
    mean = at.beta[0, 0] + intercept[g] + (at.beta[0, 1] + slope[g]) * x + other[h]
    sd = at.sigma[0] / np.sqrt(w)
    assert values["log_likelihood"] == pytest.approx(
        stats.norm(mean, sd).logpdf(y).sum(), rel=1e-10
    )
    a, b, r = at.scales["1|g"][0], at.scales["x|g"][0], at.correlations["x|g"][0, 0]
    between = a**2 + 2 * r * a * b * x + b**2 * x**2 + at.scales["1|h"][0] ** 2
    assert values["total_variance"] == pytest.approx(np.mean(between + sd**2), rel=1e-10)
    assert values["group_share"] == pytest.approx(between.mean() / np.mean(between + sd**2))
    assert values["1|g[0]"] == intercept[0]
    assert values["x|g_corr"] == r
    # Simulated effects have the covariance, residuals the SD.
    many = [sample_parameters(inner, rng) for _ in range(400)]
    z = np.concatenate([m.effects["x|g"][0] / m.scales["x|g"] for m in many])
    assert abs(np.mean(z**2) - 1) < 4 * np.sqrt(2 / len(z))
    product = [m.effects["x|g"][0] * m.effects["1|g"][0] for m in many]
    scaled = [
        (p / (m.scales["x|g"] * m.scales["1|g"]) - m.correlations["x|g"][0, 0]).mean()
        for p, m in zip(product, many, strict=True)
    ]
    assert abs(np.mean(scaled)) < 4 * np.std(scaled) / 20


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ({"sigma": rf.jeffreys()}, "jeffreys on sigma"),
        ({"1|Batch": rf.flat()}, r"flat on 1\|Batch"),
    ],
)
def test_improper_priors_on_sds_are_refused(priors, message):
    with pytest.raises(
        rf.PriorError, match=f"nothing can be drawn .*{message}.*state a proper one"
    ):
        rf.calibrate(dyestuff(**priors), 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"simulations": 0}, "simulations is 0; a whole number from 1"),
        ({"draws": 2.5}, "draws is 2.5"),
        ({"processes": 0}, "processes is 0"),
        ({"error_rate": 0}, "error_rate is 0"),
        ({"method": "vb"}, "method is 'vb'"),
        ({"simulate": simulate}, "came with a model"),
        ({"seed": "one"}, "seed is 'one'"),
        ({"model": 3}, r"model is a int; rf.model\(formula, data\)"),
        ({"model": right}, "without simulate="),
        ({"model": right, "simulate": simulate, "draws": 199}, "gives 99 draws of 'mu'"),
        ({"model": lambda y, rng: {"nu": y}, "simulate": simulate}, "gives 'nu', which"),  # noqa: ARG005
        (
            {"model": lambda y, rng: {"mu": rng.normal(size=(99, 2))}, "simulate": simulate},  # noqa: ARG005
            r"Draws of 'mu' have shape \(2,\)",
        ),
        (
            {"model": lambda y, rng: {"mu": np.full(99, np.nan)}, "simulate": simulate},  # noqa: ARG005
            "'mu' are not a number",
        ),
    ],
)
def test_bad_arguments_are_told(options, message):
    with pytest.raises(rf.RanefError, match=message):
        rf.calibrate(**{"model": dyestuff(), "simulations": 3} | options)


def test_a_failing_fit_says_in_which_simulation():
    def fails(y, rng):
        if y[0] > 1:
            raise ZeroDivisionError("no data")
        return right(y, rng)

    with pytest.raises(ZeroDivisionError) as caught:
        calibrate(fails, 50)
    assert "In simulation" in caught.value.__notes__[0]


def test_fits_with_other_quantities_are_refused():
    def fit(y, rng):
        draws = right(y, rng)["mu"]
        return {"mu": draws} if y[0] > 0 else {"nu": draws, "mu": draws}

    def draw(rng):
        parameters, y = simulate(rng)
        return parameters | {"nu": 0.0}, y

    with pytest.raises(rf.DataError, match=r"other quantities than the first \(nu"):
        rf.calibrate(fit, 20, simulate=draw, seed=1)


# -- the article's sampler


ARTICLE = {"a_sigma_e": 3, "b_sigma_e": 2, "a_sigma_x": 2, "b_sigma_x": 4}


def draw_article(rng):
    e, x = 2 / rng.gamma(3), 4 / rng.gamma(2)
    W = rng.normal(0, np.sqrt(x), (20, 1)) + rng.normal(0, np.sqrt(e), (20, 2))
    return {"sigma2_e": e, "sigma2_x": x}, W


def article_log_likelihood(parameters, W):
    e, x = parameters["sigma2_e"], parameters["sigma2_x"]
    mean, half = W.mean(axis=1), W[:, 0] - W[:, 1]
    wide = x + e / 2
    return float(-10 * np.log(wide * e) - 0.5 * (mean @ mean / wide + half @ half / (2 * e)))


@pytest.mark.parametrize(("conditional", "passes"), [("corrected", True), ("printed", False)])
def test_a_hundred_simulations_tell_the_printed_conditional(conditional, passes):
    def fit(W, rng):
        draws = gibbs(
            W, conditional, draws=1200, burn_in=210, seed=rng, progress=False, **ARTICLE
        ).draws
        return {k: draws[k].to_numpy()[0] for k in ("sigma2_e", "sigma2_x")}

    result = rf.calibrate(
        fit, 100, simulate=draw_article, log_likelihood=article_log_likelihood, seed=2,
        error_rate=ALPHA,
    )  # fmt: skip
    assert result.passed == passes


# -- what it prints and draws


@cache
def small():
    return rf.calibrate(model_of("zero mean, IG"), 100, seed=1)


def test_the_table_gives_coverage_with_binomial_errors():
    result = small()
    table = result.table()
    assert list(table.index) == list(result.names)
    for level in (50, 80, 95):
        inside = np.abs(result.pit - 0.5) < level / 200
        np.testing.assert_allclose(table[f"coverage_{level}"], inside.mean(axis=0))
        error = np.sqrt(level * (100 - level)) / 100 / 10
        np.testing.assert_allclose(table[f"se_{level}"], error)
        assert np.all(np.abs(table[f"coverage_{level}"] - level / 100) < 4.5 * error)
    text = str(result)
    assert "model: y ~ 0 + (1|g)" in text
    assert "in 95% (±2.2)" in text
    assert "Calibrated: 100 simulations, 9 quantities" in text
    assert "held" not in text


def test_the_plot_has_a_panel_for_each_quantity_and_exact_bands():
    figure = small().plot()
    titled = [a.get_title() for a in figure.axes if a.get_title()]
    assert titled == list(small().names)
    axis = figure.axes[0]
    (shade,) = axis.collections
    low, high = band(100, 99, 0.01 / 9)
    at = np.arange(1, 100) / 100
    path = shade.get_paths()[0].vertices
    assert path[:, 1].min() == pytest.approx((low - at).min())
    assert path[:, 1].max() == pytest.approx((high - at).max())


# -- command line


def test_the_command_prints_the_table_and_resumes(monkeypatch, capsys, tmp_path):
    from ranef.cli import commands as cli

    rf.datasets.load("Dyestuff").to_csv(tmp_path / "d.csv", index=False)
    monkeypatch.chdir(tmp_path)
    prior = "=variance(invgamma(3, scale=2000))"
    arguments = [
        "ranef", "calibrate", "d.csv", "Yield ~ 1 + (1|Batch)", "--prior", f"sigma{prior}",
        "--prior", f"1|Batch{prior}", "--simulations", "20", "--seed", "1", "--checkpoint", "c",
        "--out", "o",
    ]  # fmt: skip
    outputs = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert "Nothing found in 20 simulations, 11 quantities" in outputs[0]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "calibration.csv", "calibration.png"
    ]  # fmt: skip
    table = pd.read_csv(tmp_path / "o/calibration.csv", index_col=0)
    assert table.loc["sigma", "coverage_95"] > 0.7
    assert Path("c").exists()

    # A sampler that is not calibrated ends with code 1, bad input with code 2.
    exact = SAMPLERS["exact"]
    monkeypatch.setitem(
        SAMPLERS, "gibbs", lambda m, r, g: moved(exact(m, r, g), lambda x: x + np.log(2))
    )
    monkeypatch.setattr(sys, "argv", [*arguments[:-4], "--method", "gibbs"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert "NOT calibrated" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments[:4], "--prior", "sigma=jeffreys"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "nothing can be drawn" in capsys.readouterr().err

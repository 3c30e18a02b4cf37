"""The article's data: R's random numbers, digit for digit, and exact relations between them."""

import numpy as np
import pytest

from helpers import batch_scores, load_w
from ranef import DataError
from ranef.article import SCENARIOS, simulate

# R 4.2.2: set.seed(seed); sprintf("%.15g", rnorm(4))
R_NORMALS = {
    0: [1.26295428488079, -0.326233360705649, 1.3297992629225, 1.2724293214294],
    1: [-0.626453810742332, 0.183643324222082, -0.835628612410047, 1.59528080213779],
    -7: [-0.449612728578214, -0.659659390104835, -0.00668944416090265, -0.333680275984979],
    2147483647: [0.494907901076881, -0.853235969526475, 1.59238663800399, 0.233898428729847],
}


def normals(n, seed=47403):
    """R's rnorm(n), got from one column of noise."""
    return simulate(n, replicates=1, sigma2_e=1, sigma2_x=0, seed=seed)[:, 0]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.number)
def test_scenario_data_equal_rs_to_12_digits(scenario):
    np.testing.assert_allclose(scenario.data(), load_w(scenario.number), rtol=1e-12)


def test_the_comparison_with_r_rejects_another_seed_and_filling_by_rows():
    W = load_w(1)
    z = normals(300)
    columns = np.sqrt(3) * z[:200].reshape(2, 100).T + np.sqrt(5) * z[200:, None]
    rows = np.sqrt(3) * z[:200].reshape(100, 2) + np.sqrt(5) * z[200:, None]
    np.testing.assert_allclose(columns, W, rtol=1e-12)
    assert not np.allclose(rows, W, rtol=1e-2)
    assert not np.allclose(simulate(seed=47404), W, rtol=1e-2)


@pytest.mark.parametrize("seed", R_NORMALS)
def test_normals_equal_rs_for_other_seeds(seed):
    np.testing.assert_allclose(normals(4, seed), R_NORMALS[seed], rtol=1e-13)


def test_normals_equal_rs_after_the_generator_has_refilled():
    # R 4.2.2: set.seed(1); sprintf("%.15g", rnorm(2000)[c(624, 625, 1300, 2000)])
    expected = [1.76358634774588, 0.689600221934096, 0.635283144521572, -0.311973356192691]
    np.testing.assert_allclose(normals(2000, 1)[[623, 624, 1299, 1999]], expected, rtol=1e-13)


@pytest.mark.parametrize(("n", "replicates"), [(1, 1), (7, 3), (3, 7), (21, 1), (250, 2)])
def test_noise_fills_the_matrix_by_columns_and_signals_come_next(n, replicates):
    z = normals(n * (replicates + 1))
    W = simulate(n, replicates=replicates, sigma2_e=1, sigma2_x=1)
    assert W.shape == (n, replicates)
    E, X = z[: n * replicates].reshape(replicates, n).T, z[n * replicates :]
    np.testing.assert_allclose(W, X[:, None] + E, rtol=1e-14, atol=1e-14)


def test_a_scaled_sd_scales_its_part_alone():
    signal = simulate(30, sigma2_e=0, sigma2_x=5)
    assert np.array_equal(signal[:, 0], signal[:, 1])
    noise = simulate(30, sigma2_e=1, sigma2_x=0)
    for c in (0.1, 1.0, 7.0):
        W = simulate(30, sigma2_e=c**2, sigma2_x=5)
        np.testing.assert_allclose(W, signal + c * noise, rtol=1e-13, atol=1e-13)
        W = simulate(30, sigma2_e=1, sigma2_x=5 * c**2)
        np.testing.assert_allclose(W, c * signal + noise, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("mean", [-3.5, 50, 1000])
def test_the_mean_shifts_every_measurement(mean):
    np.testing.assert_allclose(
        simulate(40, mean=mean), simulate(40) + mean, rtol=0, atol=1e-14 * max(40, 40 * abs(mean))
    )


def test_scenarios_that_differ_in_the_prior_alone_have_the_same_data():
    assert np.array_equal(SCENARIOS[1].data(), SCENARIOS[3].data())
    assert np.array_equal(SCENARIOS[2].data(), SCENARIOS[4].data())
    assert SCENARIOS[1].hyperparameters != SCENARIOS[3].hyperparameters


def variance_scores(W, sigma2_e, sigma2_x):
    """Scores of half squared differences and of products within rows against their expectations."""
    noise = batch_scores(((W[:, 0] - W[:, 1]) ** 2 / 2).reshape(100, -1), sigma2_e)[0]
    return abs(noise), abs(batch_scores((W[:, 0] * W[:, 1]).reshape(100, -1), sigma2_x)[0])


def test_variances_are_what_was_asked_for_and_exchanged_ones_are_noticed():
    W = simulate(40_000, sigma2_e=3, sigma2_x=5)
    assert max(variance_scores(W, 3, 5)) < 4
    assert min(variance_scores(W, 5, 3)) > 10


def test_the_same_seed_gives_the_same_data_and_another_does_not():
    assert np.array_equal(simulate(seed=3), simulate(seed=3))
    assert not np.any(simulate(seed=3) == simulate(seed=4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n is 0; a whole number from 1"),
        ({"n": -4}, "n is -4; a whole number from 1"),
        ({"replicates": 0}, "replicates is 0; a whole number from 1"),
        ({"sigma2_e": -1.0}, "sigma2_e is -1.0; a number from 0"),
        ({"sigma2_x": float("nan")}, "sigma2_x is nan; a number from 0"),
        ({"sigma2_x": float("inf")}, "sigma2_x is inf; a number from 0"),
        ({"mean": float("inf")}, "mean is inf; a finite number"),
    ],
)
def test_impossible_input_is_refused_by_name(arguments, message):
    with pytest.raises(DataError, match=message):
        simulate(**arguments)

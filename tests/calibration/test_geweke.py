"""Geweke's joint test: its exact p-values, honest false alarms, and what it finds."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

import ranef as rf
from ranef.calibration.exact_tests import two_sample_p_value


def test_two_sample_p_values_are_those_of_all_arrangements():
    """With 4 + 5 values all 126 arrangements are equally likely: the p-value can be counted."""
    places = [set(c) for c in combinations(range(9), 4)]

    def statistic(first):
        """Smallest two-sided tail probability over m, from scipy's hypergeometric."""
        least = 1.0
        for m in range(1, 9):
            law = stats.hypergeom(9, 5, m)
            count = sum(1 for i in range(m) if i not in first)
            least = min(least, 2 * min(law.cdf(count), law.sf(count - 1)))
        return least

    every = np.array([statistic(p) for p in places])
    for chosen, own in list(zip(places, every, strict=True))[::9]:
        first = np.array([i for i in range(9) if i in chosen], dtype=float)
        second = np.array([i for i in range(9) if i not in chosen], dtype=float)
        p = two_sample_p_value(first, second, np.random.default_rng(1))
        assert p == pytest.approx(np.mean(every <= own * (1 + 1e-9)), rel=1e-9)


def test_ties_between_samples_are_broken_at_random():
    rng = np.random.default_rng(2)
    p = [
        two_sample_p_value(rng.integers(0, 2, 60), rng.integers(0, 2, 60), rng) for _ in range(400)
    ]
    assert stats.binomtest(int(np.sum(np.array(p) <= 0.1)), 400, 0.1, "greater").pvalue > 1e-4


# -- the article's model: 20 signals, two measurements each, proper inverse-gamma priors

SIGNALS, REPLICATES = 20, 2


def draw_parameters(rng):
    e, x = 2 / rng.gamma(3), 4 / rng.gamma(2.5)
    return e, x, rng.normal(0, np.sqrt(x), SIGNALS)


def draw_data(parameters, rng):
    e, _, X = parameters
    return X[:, None] + rng.normal(0, np.sqrt(e), (SIGNALS, REPLICATES))


def sweep(printed):
    """One sweep of the article's sampler."""

    def update(parameters, W, rng):
        e, x, _ = parameters
        swapped = 1 / (REPLICATES / x + 1 / e)
        V = swapped if printed else 1 / (1 / x + REPLICATES / e)
        X = rng.normal(V * W.sum(axis=1) / e, np.sqrt(V))
        x = (4 + X @ X / 2) / rng.gamma(2.5 + SIGNALS / 2)
        rest = W - X[:, None]
        e = (2 + (rest**2).sum() / 2) / rng.gamma(3 + W.size / 2)
        return e, x, X

    return update


def quantities(parameters, W):
    e, x, X = parameters
    rest = W - X[:, None]
    return {
        "log e": np.log(e),
        "log x": np.log(x),
        "X1": X[0],
        "log likelihood": -W.size * np.log(e) / 2 - (rest**2).sum() / (2 * e),
    }


@pytest.mark.parametrize("printed", [False, True])
def test_the_articles_swap_is_found_and_the_corrected_sweep_passes(printed):
    result = rf.geweke(
        draw_parameters, draw_data, sweep(printed), quantities,
        chains=300, sweeps=10, seed=1, error_rate=1e-3,
    )  # fmt: skip
    assert result.passed != printed
    if printed:
        assert result.adjusted.min() < 1e-6
        with pytest.raises(rf.CalibrationError, match="does NOT keep") as caught:
            result.raise_if_failed()
        assert caught.value.test is result
    else:
        result.raise_if_failed()
        assert "keeps the joint distribution: 300 chains of 10 sweeps, 4 quantities" in str(result)


def normal_update(shrink=0.5, keep=0.0):
    """Draw mu | y for mu ~ N(0, 1), y ~ N(mu, 1), from `keep` of the last one in 1 - keep^2."""

    def update(mu, y, rng):
        center, sd = shrink * y, 0.5**0.5
        return center + keep * (mu - center) + np.sqrt(1 - keep**2) * sd * rng.normal()

    return update


def joint(update, **options):
    return rf.geweke(
        lambda rng: rng.normal(),
        lambda mu, rng: rng.normal(mu),
        update,
        lambda mu, y: {"mu": mu, "mu y": mu * y, "y": y},
        **options,
    )


@pytest.mark.parametrize("keep", [0.0, 0.95])
def test_false_alarms_come_at_the_stated_rate_however_slowly_the_chain_moves(keep):
    alarms = [
        not joint(normal_update(keep=keep), chains=40, sweeps=3, seed=i, error_rate=0.1).passed
        for i in range(400)
    ]
    assert stats.binomtest(sum(alarms), 400, 0.1, "greater").pvalue > 1e-4
    # Holm is conservative for quantities that go together, but not by an order of magnitude.
    assert stats.binomtest(sum(alarms), 400, 0.02, "less").pvalue > 1e-4
    wrong = [
        not joint(normal_update(1.0, keep), chains=40, sweeps=40, seed=i, error_rate=0.1).passed
        for i in range(20)
    ]
    assert np.mean(wrong) > 0.5


def test_the_table_gives_means_with_honest_errors():
    result = joint(normal_update(), chains=500, sweeps=5, seed=3)
    table = result.table()
    for name in ("prior", "chain"):
        z = (table[f"{name}_mean"] - [0.0, 1.0, 0.0]) / table[f"{name}_se"]
        assert np.all(np.abs(z) < 4)
    np.testing.assert_allclose(table["prior_sd"], [1, 3**0.5, 2**0.5], rtol=0.2)
    np.testing.assert_array_equal(result.fresh, joint(normal_update(), chains=500, seed=3).fresh)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chains": 1}, "chains is 1; a whole number from 2"),
        ({"sweeps": 0}, "sweeps is 0; a whole number from 1"),
        ({"error_rate": 1}, "error_rate is 1"),
    ],
)
def test_bad_numbers_are_told(options, message):
    with pytest.raises(rf.DataError, match=message):
        joint(normal_update(), **options)


def test_a_quantity_that_is_no_number_is_told():
    with pytest.raises(rf.DataError, match="Quantity 'mu' is not a number"):
        joint(lambda mu, y, rng: np.nan, chains=5)  # noqa: ARG005


def test_updates_that_ignore_data_are_found():
    def draw_y(mu, rng):
        return rng.normal(mu, 1, 5)

    def judged(update, seed):
        return rf.geweke(
            lambda rng: rng.normal(), draw_y, update,
            lambda mu, y: {"mu": mu, "mu y": mu * y.mean(), "fit": -((y - mu) ** 2).sum()},
            chains=1000, sweeps=3, seed=seed, progress=False,
        )  # fmt: skip

    def right(mu, y, rng):  # noqa: ARG001
        return rng.normal(y.sum() / 6, 6**-0.5)

    def prior_only(mu, y, rng):  # noqa: ARG001
        return rng.normal()

    def first_only(mu, y, rng):  # noqa: ARG001
        return rng.normal(y[0] / 2, 2**-0.5)

    for seed in range(3):
        assert judged(right, seed).passed
        assert not judged(prior_only, seed).passed
        assert not judged(first_only, seed).passed

"""Every row of the table of families against scipy.stats, differences and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ranef.errors import DataError
from ranef.families.table import FAMILIES, find_family

EVERY = [(name, link) for name, kind in FAMILIES.items() for link in kind.links]


def scipy_log_density(name, mean, y, n, own):
    """What scipy.stats says, at the mean of one trial."""
    if name in ("bernoulli", "binomial"):
        return stats.binom(n, mean).logpmf(y)
    if name == "poisson":
        return stats.poisson(mean).logpmf(y)
    (alpha,) = own
    return stats.nbinom(alpha, alpha / (alpha + mean)).logpmf(y)


@pytest.fixture(params=EVERY, ids=lambda pair: "-".join(pair))
def family(request):
    return find_family(*request.param)


@pytest.fixture
def data(family):
    rng = np.random.default_rng(3)
    n = np.full((40, 1), 7.0 if family.takes_trials else 1.0)
    eta = rng.uniform(-3, 2, (40, 3))
    own = tuple(np.array([0.3, 2.0, 50.0]) for _ in family.dispersions)
    mean = family.mean(eta[:, :1])
    y = rng.binomial(n.astype(int), mean) if family.merges and family.links[0] != "log" else None
    y = rng.poisson(3 * mean) if y is None else y
    return eta, y.astype(float), n, own


def test_density_is_scipys(family, data):
    eta, y, n, own = data
    ours = family.log_density(eta, y, n, own) + family.log_rests(y, own) + family.constants(y, n)
    theirs = scipy_log_density(family.name, family.mean(eta), y, n, own)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_rests_of_all_rows_are_the_sum_of_each(family, data):
    _, y, n, own = data
    each = np.broadcast_to(family.log_rests(y, own), (len(y), 3)).sum(axis=0)
    total = np.broadcast_to(family.log_rest(y, np.ones_like(n), own), (3,))
    np.testing.assert_allclose(total, each, rtol=1e-12)


def test_slopes_are_differences(family, data):
    eta, y, n, own = data
    first, second = family.slopes(eta, y, n, own)
    h = 1e-5
    up, down = (family.log_density(eta + s, y, n, own) for s in (h, -h))
    np.testing.assert_allclose(first, (up - down) / (2 * h), rtol=1e-5, atol=1e-5)
    assert np.all(second >= 0)
    if family.link in ("logit", "log"):  # the observed information
        a, b = (family.slopes(eta + s, y, n, own)[0] for s in (h, -h))
        np.testing.assert_allclose(second, -(a - b) / (2 * h), rtol=1e-5, atol=1e-5)


def test_cheap_forms_are_the_density(family, data):
    eta, y, n, own = data
    whole = family.log_density(eta, y, n, own)
    if family.exponential:
        np.testing.assert_allclose(whole, y * eta - n * np.exp(eta), rtol=1e-12)
    if (parts := family.softplus(y, n, own)) is not None:
        slope, weight, shift = parts
        cheap = slope * eta - weight * np.logaddexp(0, eta - shift)
        np.testing.assert_allclose(whole, cheap, rtol=1e-10, atol=1e-12)


def test_simulated_moments(family, data):
    eta, _, n, own = data
    rng = np.random.default_rng(5)
    eta, own = np.tile(eta[:1], (40_000, 1)), own
    y = family.draw(eta, n[:1], own, rng)
    mean, variance = n[0] * family.mean(eta[:1]), family.variance(eta[:1], n[:1], own)
    error = np.sqrt(variance[0] / len(y))
    assert np.all(np.abs(y.mean(axis=0) - mean[0]) < 4.5 * error)
    fourth = ((y - mean[0]) ** 2).std(axis=0) / np.sqrt(len(y))
    assert np.all(np.abs(((y - mean[0]) ** 2).mean(axis=0) - variance[0]) < 4.5 * fourth)
    # The comparison sees a mean that is off by a fifth.
    assert np.any(np.abs(y.mean(axis=0) - 1.2 * mean[0]) > 4.5 * error)


def test_negative_binomial_keeps_its_digits_towards_poisson():
    family, poisson = find_family("negativebinomial"), find_family("poisson")
    y, n = np.array([[0.0], [3.0], [40.0]]), np.ones((3, 1))
    eta = np.full((3, 1), 1.3)
    for alpha in (1e7, 1e10, 1e16):
        own = (np.array([alpha]),)
        ours = family.log_density(eta, y, n, own) + family.log_rests(y, own)
        # y^2 / alpha apart, the next term.
        np.testing.assert_allclose(
            ours, poisson.log_density(eta, y, n, ()), atol=2e3 / alpha + 1e-10
        )


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_proportions_at_the_ends(link):
    family = find_family("binomial", link)
    eta = np.array([[-400.0, -40.0, 6.0, 40.0]])
    for y in (0.0, 1.0):
        value = family.log_density(eta, np.array([[y]]), np.ones((1, 1)), ())
        first, second = family.slopes(eta, np.array([[y]]), np.ones((1, 1)), ())
        assert not np.isnan(value).any()
        assert np.all(value <= 0)
        assert np.isfinite(first).all()
        assert np.isfinite(second).all()


def test_names():
    assert find_family("nbinom2").name == "negativebinomial"
    for bad in ("binom", 3, None):
        with pytest.raises(DataError, match="family is"):
            find_family(bad)
    with pytest.raises(DataError, match="'log' is expected"):
        find_family("poisson", "logit")


@pytest.mark.parametrize(
    ("name", "y", "trials", "message"),
    [
        ("bernoulli", [0, 2], None, "is 2 in row 2"),
        ("binomial", [1, 3], [2, 2], "is 3 of 2 trials in row 2"),
        ("binomial", [1, 1.5], [2, 2], "is 1.5 in row 2"),
        ("binomial", [1, 1], [2, 2.5], "Trials is 2.5 in row 2"),
        ("poisson", [-1, 2], None, "is -1 in row 1"),
        ("negativebinomial", [0.5, 2], None, "is 0.5 in row 1"),
    ],
)
def test_impossible_responses(name, y, trials, message):
    trials = None if trials is None else np.array(trials, float)
    with pytest.raises(DataError, match=message):
        find_family(name).check("y", np.array(y, float), trials)

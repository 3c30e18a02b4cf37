"""Inverse-Wishart and share priors: densities against Jacobians by differences, draws, engines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import ranef as rf
from ranef.numerics.correlations import (
    correlation_root,
    draw_lkj,
    log_lkj,
    log_volume,
    partial_correlations,
)
from ranef.priors import half_t, scale_prior
from ranef.priors.joint import Shares, inverse_wishart


def covariance(log_sd, z):
    q = len(log_sd)
    root = np.exp(log_sd)[:, None] * correlation_root(z[None], q)[0]
    return root @ root.T


@pytest.mark.parametrize("q", [2, 3, 4])
def test_partial_correlations_invert_the_root(q):
    z = np.random.default_rng(q).normal(size=(20, q * (q - 1) // 2))
    L = correlation_root(z, q)
    np.testing.assert_allclose(partial_correlations(L @ L.transpose(0, 2, 1)), z, atol=1e-9)


@pytest.mark.parametrize("q", [2, 3, 4])
def test_volume_of_correlation_matrices_is_the_jacobian(q):
    rng = np.random.default_rng(q)
    z = 0.5 * rng.normal(size=q * (q - 1) // 2)
    i, j = np.tril_indices(q, -1)

    def entries(z):
        L = correlation_root(z[None], q)[0]
        return (L @ L.T)[i, j]

    step = 1e-6 * np.eye(len(z))
    jacobian = np.array([(entries(z + s) - entries(z - s)) / 2e-6 for s in step]).T
    expected = np.linalg.slogdet(jacobian)[1]
    assert log_volume(z[None], q)[0] == pytest.approx(expected, abs=1e-7)
    # LKJ(1) is uniform over correlation matrices: its density is the volume up to a constant.
    other = 0.5 * rng.normal(size=(5, len(z)))
    np.testing.assert_allclose(np.ptp(log_lkj(other, q, 1.0) - log_volume(other, q)), 0, atol=1e-12)


@pytest.mark.parametrize("q", [1, 2, 3])
def test_inverse_wishart_density_is_scipys_times_the_jacobian(q):
    rng = np.random.default_rng(q)
    A = rng.normal(size=(q, q + 2))
    given = stats.invwishart(q + 2.5, A @ A.T)
    prior = inverse_wishart(given, "x|g", q)
    i, j = np.tril_indices(q)
    for _ in range(3):
        at = 0.5 * rng.normal(size=q + q * (q - 1) // 2)

        def entries(v):
            return covariance(v[:q], v[q:])[i, j]

        step = 1e-6 * np.eye(len(at))
        jacobian = np.array([(entries(at + s) - entries(at - s)) / 2e-6 for s in step]).T
        expected = given.logpdf(covariance(at[:q], at[q:])) + np.linalg.slogdet(jacobian)[1]
        got = prior.log_density(at[None, :q], at[None, q:])[0]
        assert got == pytest.approx(expected, abs=1e-6)


def test_draws_of_an_inverse_wishart_have_its_mean():
    S = np.array([[4.0, 1.0], [1.0, 2.0]])
    prior = inverse_wishart(stats.invwishart(9, S), "x|g", 2)
    log_sd, z = prior.draw(np.random.default_rng(1), 40_000)
    draws = np.array([covariance(a, b) for a, b in zip(log_sd, z, strict=True)])
    gap = (draws.mean(axis=0) - S / 6) / (draws.std(axis=0) / np.sqrt(len(draws)))
    assert np.abs(gap).max() < 4


def shares(alpha):
    total = scale_prior(half_t(2.0, df=5), "total_sigma")
    return Shares(total, np.array(alpha), np.array([1.0, 3.0, 1.0]), "dirichlet")


@pytest.mark.parametrize("alpha", [(1.0, 1.0, 1.0), (0.7, 2.0, 3.5)])
def test_share_density_is_total_times_dirichlet_times_the_jacobian(alpha):
    prior = shares(alpha)
    rng = np.random.default_rng(3)

    def coordinates(log_sd):
        v = (prior.size * np.exp(log_sd)) ** 2
        return np.append(np.sqrt(v.sum()), v[:-1] / v.sum())

    for _ in range(3):
        at = rng.normal(size=3)
        step = 1e-6 * np.eye(3)
        jacobian = np.array([(coordinates(at + s) - coordinates(at - s)) / 2e-6 for s in step]).T
        total, *some = coordinates(at)
        expected = np.log(2) + stats.t.logpdf(total / 2, 5) - np.log(2)
        expected += stats.dirichlet(alpha).logpdf([*some, 1 - sum(some)])
        expected += np.linalg.slogdet(jacobian)[1]
        assert prior.log_density(at[None])[0] == pytest.approx(expected, abs=1e-6)


def test_draws_of_shares_follow_total_and_dirichlet():
    prior = shares((0.7, 2.0, 3.5))
    v = (prior.size * np.exp(prior.draw(np.random.default_rng(2), 20_000))) ** 2
    share = v[:, 0] / v.sum(axis=1)
    assert stats.kstest(share, stats.beta(0.7, 5.5).cdf).pvalue > 0.001
    assert stats.kstest(share, stats.beta(1.0, 5.5).cdf).pvalue < 1e-6  # the test has power
    assert stats.kstest(np.sqrt(v.sum(axis=1)), prior.total.stated.cdf).pvalue > 0.001


def test_draws_of_lkj_have_its_marginal():
    z = draw_lkj(3, 2.0, np.random.default_rng(4), 20_000)
    L = correlation_root(z, 3)
    r = (L @ L.transpose(0, 2, 1))[:, 2, 1]
    # Each correlation is Beta(eta + (q - 2) / 2) on (-1, 1).
    assert stats.kstest((r + 1) / 2, stats.beta(2.5, 2.5).cdf).pvalue > 0.001


# -- through rf.model


def model(formula="Reaction ~ Days + (Days|Subject)", **options):
    return rf.model(formula, rf.datasets.load("sleepstudy"), **options)


def test_priors_are_printed_as_text_that_reads_back():
    given = {"Days|Subject": stats.invwishart(5, [[600, 10], [10, 40]])}
    texts = model(priors=given).priors
    assert texts["Days|Subject"] == "invwishart(5, scale=[[600, 10], [10, 40]])"
    assert model(priors={"Days|Subject": texts["Days|Subject"]}).priors == texts
    texts = model(priors={"shares": {"1|Subject": 2}, "total_sigma": "half_t(40)"}).priors
    assert texts["shares"] == "dirichlet({'1|Subject': 2})"
    assert model(priors={k: texts[k] for k in ("shares", "total_sigma")}).priors == texts
    assert model(priors={"total_sigma": "half_t(9)"}).priors["shares"] == "dirichlet(1)"
    assert "half_t" in model(priors={"shares": 1}).priors["total_sigma"]


def test_prior_draws_follow_the_joint_priors():
    drawn = model(priors={"total_sigma": "half_t(40)", "shares": 1}).prior_draws(4000, seed=1)
    data = rf.datasets.load("sleepstudy")
    size = np.sqrt(np.mean(np.asarray(data["Days"], dtype=float) ** 2))
    v = drawn[["1|Subject_sigma", "Days|Subject_sigma", "sigma"]].to_numpy() ** 2
    v[:, 1] *= size**2
    assert stats.kstest(np.sqrt(v.sum(axis=1)), half_t(40).cdf).pvalue > 0.001
    assert stats.kstest(v[:, 1] / v.sum(axis=1), stats.beta(1, 2).cdf).pvalue > 0.001


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ({"Days|Subject": "invwishart(4, scale=[[1]])"}, "2 x 2"),
        ({"sigma": "invwishart(4, scale=[[1, 0], [0, 1]])"}, "group term"),
        ({"Days|Subject": "invwishart(1, scale=[[1, 0], [0, 1]])"}, "invwishart"),
        (
            {"Days|Subject": "invwishart(4, scale=[[1, 0], [0, 1]])", "1|Subject": "half_t(2)"},
            "leave one out",
        ),
        ({"shares": 1, "sigma": "half_t(2)"}, "leave one out"),
        ({"shares": {"plate": 2}}, "no share"),
        ({"shares": [1, 2]}, "2 numbers for 3 shares"),
        ({"shares": -1}, "positive"),
        ({"shares": "half_t(3)"}, "dirichlet"),
        ({"total_sigma": rf.lkj(1)}, "total_sigma"),
    ],
)
def test_joint_priors_that_make_no_sense_are_refused(priors, message):
    with pytest.raises(rf.PriorError, match=message):
        model(priors=priors)


def test_an_inverse_wishart_needs_correlated_columns():
    with pytest.raises(rf.PriorError, match="not correlated"):
        model(
            "Reaction ~ Days + (1|Subject)",
            priors={"1|Subject": stats.invwishart(4, [[1]])},
        )


def test_jeffreys_on_the_total_is_proper_with_enough_rows():
    priors = {"total_sigma": "jeffreys", "shares": 1}
    assert model(priors=priors).priors["total_sigma"] == "jeffreys"
    with pytest.raises(rf.PriorError, match="improper"):
        model(priors=priors).prior_draws(10)

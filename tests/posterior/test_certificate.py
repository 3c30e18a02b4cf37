"""The certificate: right where draws are good, alarmed where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ranef.posterior.certificate import certify


def tree(
    log_weight: np.ndarray | None, accepted: np.ndarray | None, values: np.ndarray
) -> xr.DataTree:
    """Make the least that a certificate is computed from; values has shape (chains, draws)."""
    dims = ("chain", "draw")
    stats = {"lp": (dims, np.zeros(values.shape))}
    if log_weight is not None and accepted is not None:
        stats["log_weight"], stats["accepted"] = (dims, log_weight), (dims, accepted)
    made = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"sigma": (dims, values)}),
            "sample_stats": xr.Dataset(stats),
        }
    )
    made.attrs.update({"effects": '{"1|g": "g"}', "structure": "one factor", "method": "exact"})
    return made


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("k", [0.3, 0.5, 0.9])
def test_pareto_k_finds_the_tail_index_of_the_weights(rng, k):
    # u^-k has tail index k, and its inverse has a bounded tail: a wrong sign would be seen.
    log_weight = -k * np.log(rng.random((4, 5000)))
    made = certify(tree(log_weight, np.ones((4, 5000), bool), rng.normal(size=(4, 5000))))
    assert made.pareto_k == pytest.approx(k, abs=0.15)
    assert made.trusted == (k < 0.7)
    if k > 0.7:
        assert "Pareto k-hat" in made.problems[0]
        assert "DO NOT TRUST" in str(made)


def test_constant_weights_are_the_best_there_are(rng):
    values = rng.normal(size=(2, 2000))
    made = certify(tree(np.zeros((2, 2000)), np.ones((2, 2000), bool), values))
    assert made.pareto_k == -np.inf
    assert made.trusted
    assert made.ess > 3000


def test_acceptance_is_the_share_of_fresh_draws_and_a_low_one_is_told(rng):
    accepted = rng.random((2, 2000)) < 0.3
    made = certify(tree(rng.normal(size=(2, 2000)) * 0.1, accepted, rng.normal(size=(2, 2000))))
    assert made.acceptance == accepted.mean()
    assert any("acceptance" in p for p in made.problems)


def test_ess_sees_correlated_draws(rng):
    noise = rng.normal(size=(4, 3000))
    values = np.empty_like(noise)
    values[:, 0] = noise[:, 0]
    for t in range(1, 3000):
        values[:, t] = 0.9 * values[:, t - 1] + np.sqrt(1 - 0.81) * noise[:, t]
    made = certify(tree(None, None, values))
    # An AR(1) series with coefficient a has (1 - a) / (1 + a) of its length in independent draws.
    assert made.ess == pytest.approx(12_000 * 0.1 / 1.9, rel=0.25)
    assert made.pareto_k is None
    assert made.r_hat == pytest.approx(1.0, abs=0.02)


def test_r_hat_sees_chains_that_disagree(rng):
    values = rng.normal(size=(4, 500)) + np.arange(4)[:, None]
    made = certify(tree(None, None, values))
    assert made.r_hat > 1.5
    assert any("R-hat" in p for p in made.problems)
    assert any("ESS" in p for p in made.problems)


def test_small_weights_with_a_tail_of_their_own_are_no_alarm(rng):
    """Ten-thousandths with a heavy tail are interpolation errors; at full size the tail is told."""
    tail = (rng.random((4, 5000)) ** -0.4 - 1) / 1e4
    values, accepted = rng.normal(size=(4, 5000)), np.ones((4, 5000), bool)
    assert certify(tree(tail, accepted, values)).pareto_k == -np.inf
    assert certify(tree(np.log1p(1e4 * tail), accepted, values)).pareto_k > 0.2


def test_a_heavy_tail_of_weights_that_hardly_vary_is_no_alarm(rng):
    """Under a uniform prior the target ends sharply; the proposals beyond lose a percent of it."""
    log_weight = np.where(rng.random((4, 1000)) < 0.01, 0.05 / rng.random((4, 1000)) ** 0.2, 0.0)
    accepted = rng.random((4, 1000)) < 0.997
    found = certify(tree(log_weight, accepted, rng.normal(size=(4, 1000))))
    assert found.pareto_k == -np.inf
    assert found.trusted
    assert found.kind == "independent draws"


def test_a_draw_that_stands_for_many_is_seen_where_acceptance_is_high(rng):
    values = rng.normal(size=(1, 4000))
    accepted = rng.random((1, 4000)) < 0.77
    accepted[0, 0] = True
    log_weight = 0.3 * rng.normal(size=(1, 4000))
    before = certify(tree(log_weight, accepted, values))
    assert before.trusted
    assert before.kind == f"draws, effective {before.ess:,.0f},"
    accepted[0, 1000], accepted[0, 1001:1038], accepted[0, 1038] = True, False, True
    stuck = certify(tree(log_weight, accepted, values))
    assert stuck.problems == ("one draw is repeated 38 times in a row",)
    assert stuck.warning.startswith("DO NOT TRUST")


def test_tails_that_few_draws_reach_are_seen(rng):
    # Two states: in one of fifty excursions of hundred draws the tail is visited.
    values = rng.normal(size=(1, 4000))
    values[0, 2000:2160] += 6
    found = certify(tree(np.zeros((1, 4000)), np.ones((1, 4000), bool), values))
    assert found.ess_tail < 200
    assert not found.trusted

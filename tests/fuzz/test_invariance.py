"""A few designs written another way; `make fuzz` goes through as many as asked."""

from __future__ import annotations

import pytest

from fuzz import invariance
from fuzz.invariance import DRAWS_TOLERANCE, TOLERANCE, draws_change, likelihood_change


@pytest.mark.parametrize("first", [0, 10])
def test_likelihoods_change_by_their_units_alone(first):
    for seed in range(first, first + 10):
        assert likelihood_change(seed) < TOLERANCE, seed


@pytest.mark.parametrize("seed", range(4))
def test_draws_change_by_their_units_alone(seed):
    assert draws_change(seed) < DRAWS_TOLERANCE


def test_a_row_in_another_group_is_seen(monkeypatch):
    right = invariance.rewritten_table

    def wrong(table, units, response_like, rng):
        made = right(table, units, response_like, rng)
        g = made[invariance.NAMES["g"]]
        made[invariance.NAMES["g"]] = [*g[1:2], *g[1:]]
        return made

    monkeypatch.setattr(invariance, "rewritten_table", wrong)
    # The first row's group is the second's by chance where few groups are.
    assert max(map(likelihood_change, range(4))) > TOLERANCE
    assert max(map(draws_change, range(3))) > DRAWS_TOLERANCE

"""A few posteriors of small models against grids; `make fuzz` goes through as many as asked."""

from __future__ import annotations

import pytest

from fuzz.grid import draw_small_design, grid_posterior
from fuzz.posteriors import log_draws, root_mean_square, scores, too_large
from helpers import errors_of


def test_draws_follow_the_grids():
    found = []
    for seed in range(8):
        design, errors = scores(seed)
        assert not too_large(errors), str(design)
        found.append(errors)
    # Some fifty scores, of which those of one parameter go together.
    assert 0.75 < root_mean_square(found) < 1.25


@pytest.mark.parametrize("seed", [0, 1])
def test_a_shifted_posterior_is_found(seed):
    """A sixth of a posterior SD is ten standard errors of 4,000 draws."""
    design = draw_small_design(seed)
    truth, draws = grid_posterior(design), log_draws(design)
    for name in draws:
        moved = draws[name] + truth[name]["sd"] / 6
        errors = errors_of(moved, truth[name])
        assert errors["mean"] > 4.5
        assert any(line.startswith("mean") for line in too_large({name: errors}))

"""Proposals that fit a posterior all but perfectly are trusted, however odd their few weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import ranef as rf
from helpers import errors_of, posterior_grid, worst


def table(seed):
    """Ten groups of five, with a spread near that of the rows."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(10), 5)
    return {"y": rng.normal(size=10)[g] + rng.normal(size=50), "g": g}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("top", [5, 20, 100])
def test_uniform_priors_are_trusted_and_right(seed, top):
    priors = {"sigma": stats.uniform(0, top), "1|g": stats.uniform(0, top)}
    fit = rf.fit("y ~ 1 + (1|g)", table(seed), priors=priors, seed=1, progress=False)
    certificate = fit.certificate
    assert certificate.trusted
    assert "DO NOT TRUST" not in str(fit)
    assert certificate.acceptance > 0.99
    grid = posterior_grid(fit.source.model)
    draws = fit.draws["posterior"]["sigma"].to_numpy()
    sigma = np.exp(grid.log_sigma)
    mean = grid.weight @ sigma
    spread = np.sqrt(grid.weight @ (sigma - mean) ** 2)
    assert worst(errors_of(draws, {"mean": mean, "sd": spread})) < 4.5

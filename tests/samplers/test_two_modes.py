"""Posteriors of several modes whose masses a symmetry or a grid tells.

Two factors that divide most rows alike can each explain them. Where they differ, in blocks of two
by two levels, the response shows no effects: there both factors together would have one effect too
many, so the posterior has a mode where `g` has all the effects and one where `h` has, and a valley
between. Data that are the same with `g` and `h` exchanged give both the same mass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from scipy.special import logsumexp

import ranef as rf
import ranef.samplers.exchanges as exchanges_module
from ranef.likelihood.posterior import MarginalPosterior
from ranef.mixed_model.model import build_model
from ranef.samplers import search
from ranef.samplers.sample import SamplerSettings

FORMULA = "y ~ 1 + (1|g) + (1|h)"
SLOPES = "y ~ x + (x||g) + (x||h)"
# The second factor's effects are expected to be larger, which they are.
PRIORS = {"1|g": "half_t(20)", "1|h": "half_t(40)"}
SEEDS = (1, 2, 3, 4, 5)


def twin_factors(sd: float, *, each: int = 4, alike: int = 20, blocks: int = 3) -> pd.DataFrame:
    """Rows that stay the same if g and h are exchanged, with x of -1 and 1 in turn in each cell."""
    rng = np.random.default_rng(1)
    rows = []
    for k in range(alike):
        intercept, slope = sd * rng.standard_normal(2)
        for i in range(each):
            x = 2.0 * (i % 2) - 1
            rows.append((k, k, x, intercept, slope * x, rng.standard_normal()))
    for a in range(alike, alike + 2 * blocks, 2):
        for i in range(each):
            x = 2.0 * (i % 2) - 1
            rows += [(k, k, x, 0.0, 0.0, rng.standard_normal()) for k in (a, a + 1)]
            e = rng.standard_normal()
            rows += [(a, a + 1, x, 0.0, 0.0, e), (a + 1, a, x, 0.0, 0.0, e)]
    frame = pd.DataFrame(rows, columns=["g", "h", "x", "intercept", "slope", "e"])
    frame["y"] = frame["intercept"] + frame["e"]
    frame["sloped"] = frame["y"] + frame["slope"]
    return frame


def grid(priors: dict[str, str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Log SDs of a square grid, and the log mass there of (log SD of g, log SD of h)."""
    target = MarginalPosterior(build_model(FORMULA, twin_factors(20), priors)[0])
    u, s = np.linspace(-9, 5, 85), np.linspace(-0.6, 0.6, 21)
    at = np.stack(np.meshgrid(u, u, s, indexing="ij"), axis=-1)
    log_f = np.stack([target.log_density(part.reshape(-1, 3)) for part in at])
    return u, logsumexp(log_f.reshape(at.shape[:3]), axis=2)


def score(event: np.ndarray, truth: float) -> float:
    """Difference between a share of draws and the truth, in Monte Carlo errors of that share."""
    size = float(array_stats.ess(event * 1.0, chain_axis=0, draw_axis=1, method="mean"))
    return float((event.mean() - truth) / np.sqrt(truth * (1 - truth) / min(size, event.size)))


def of_g(fit: rf.Fit, column: str = "1") -> np.ndarray:
    """Whether g has the effects of a column, of each draw."""
    draws = fit.draws["posterior"]
    return (draws[f"{column}|g_sigma"] > draws[f"{column}|h_sigma"]).to_numpy()


def test_both_modes_are_there_with_a_valley_between():
    for priors in (None, PRIORS):
        _, log_mass = grid(priors)
        # Every way between the modes crosses the diagonal.
        sides = log_mass[np.tril_indices_from(log_mass)], log_mass[np.triu_indices_from(log_mass)]
        assert min(side.max() for side in sides) - np.diag(log_mass).max() > 4


@pytest.fixture(scope="module")
def unequal() -> tuple[float, float]:
    """The share of the mode of g under PRIORS, and the mean of g's log SD, from the grid."""
    u, log_mass = grid(PRIORS)
    w = np.exp(log_mass - logsumexp(log_mass))
    mine = np.subtract.outer(u, u) > 0
    return float(w[mine].sum() + np.diag(w).sum() / 2), float(w.sum(axis=1) @ u)


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_modes_are_drawn_in_equal_proportion(seed):
    fit = rf.fit(FORMULA, twin_factors(20), seed=seed)
    assert fit.certificate.trusted
    assert min(fit.certificate.ess, fit.certificate.ess_tail) > 1500
    assert abs(score(of_g(fit), 0.5)) < 4


@pytest.mark.parametrize("seed", SEEDS)
def test_unequal_modes_are_drawn_in_proportion(unequal, seed):
    share, mean = unequal
    assert 0.3 < share < 0.45
    fit = rf.fit(FORMULA, twin_factors(20), priors=PRIORS, seed=seed)
    assert fit.certificate.trusted
    assert abs(score(of_g(fit), share)) < 4
    log_sd = np.log(fit.draws["posterior"]["1|g_sigma"].to_numpy())
    error = float(array_stats.mcse(log_sd, chain_axis=0, draw_axis=1))
    assert abs(log_sd.mean() - mean) < 4 * error


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_columns_change_sides_one_by_one(seed):
    """x is -1 and 1 alike often in each cell, so slopes know nothing of intercepts: four modes."""
    frame = twin_factors(10, each=8).assign(y=lambda f: f["sloped"])
    fit = rf.fit(SLOPES, frame, seed=seed)
    assert fit.certificate.trusted
    intercepts, slopes = of_g(fit), of_g(fit, "x")
    for event in (intercepts, slopes, intercepts & slopes, intercepts & ~slopes):
        assert abs(score(event, 0.25 if event.mean() < 0.37 else 0.5)) < 4


def no_exchanges(_parameters: Any, _columns: Any, theta: np.ndarray) -> np.ndarray:
    return theta[:0]


def test_one_mode_alone_would_be_seen(unequal, monkeypatch):
    """Negative control: as before there were exchanges."""
    monkeypatch.setattr(exchanges_module, "exchanges", no_exchanges)
    poor = rf.fit(FORMULA, twin_factors(20), priors=PRIORS, seed=1)
    assert abs(score(of_g(poor), unequal[0])) > 20


def test_an_exchange_leads_to_the_mode_that_starts_miss(monkeypatch):
    model = build_model(FORMULA, twin_factors(20), PRIORS)[0]
    settings = SamplerSettings(4000, 4, 0, (), progress=False)
    assert len(search.explore(model, settings).modes) == 2
    monkeypatch.setattr(exchanges_module, "exchanges", no_exchanges)
    assert len(search.explore(model, settings).modes) == 1


def test_exchanges_are_of_one_column_or_of_all():
    frame = twin_factors(1)
    parameters = build_model("y ~ x + (x|g) + (x|h)", frame)[0].parameters
    theta = np.arange(7.0)[None]  # two SDs and a correlation of g, of h, sigma
    out = exchanges_module.exchanges(parameters, [(0, 1), (0, 1)], theta)
    np.testing.assert_array_equal(
        out, [[3, 1, 2, 0, 4, 5, 6], [0, 4, 2, 3, 1, 5, 6], [3, 4, 5, 0, 1, 2, 6]]
    )
    assert exchanges_module.exchanges(parameters, [(0, 1), (2, 3)], theta).shape == (0, 7)

"""Posteriors whose mass is easily missed: another mode, and a thin arm towards a correlation of -1.

The truth of the uncentred model comes from the centred one: both have one likelihood, and the
covariance of (intercept, slope) at year 0 is a linear map of that at the middle year, so draws of
the one are draws of the other once they are weighted by the ratio of the priors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from scipy import stats

import ranef as rf

MIDDLE = 2009.5
SCALE = 5.0
PRIOR = f"half_t({SCALE}, df=3)"
REACTION = Path(__file__).parents[1] / "reference" / "reaction_times.csv"


@pytest.fixture(scope="module")
def yearly() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    groups, times = 40, 20
    g = np.repeat(np.arange(groups), times)
    year = np.tile(np.arange(2000, 2020), groups)
    t = year - MIDDLE
    y = 50 + 0.5 * t + 3 * rng.normal(size=groups)[g] + rng.normal(size=groups)[g] * t
    y = y + 2 * rng.normal(size=groups * times)
    return pd.DataFrame({"g": g, "year": year, "t": t, "y": y})


def weighted_truth(frame: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Mean, SD and standard error of the mean of SDs of the uncentred model."""
    priors = {"1|g": PRIOR, "t|g": PRIOR}
    centred = rf.fit("y ~ t + (t|g)", frame, seed=1, draws=20_000, priors=priors)
    draws = centred.draws["posterior"]
    intercept, slope = (draws[f"{n}|g_sigma"].to_numpy().ravel() for n in ("1", "t"))
    corr = draws["t|g_corr"].to_numpy().ravel()
    moved = np.sqrt(intercept**2 - 2 * MIDDLE * corr * intercept * slope + (MIDDLE * slope) ** 2)
    prior = stats.t(3, scale=SCALE)
    # Variances and the covariance move linearly: SDs bring in the square of each of them.
    log_w = prior.logpdf(moved) - 2 * np.log(moved)
    log_w -= prior.logpdf(intercept) - 2 * np.log(intercept)
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    assert 1 / (w @ w) > 4000
    out = {}
    sigma = draws["sigma"].to_numpy().ravel()
    for name, x in (("1|g_sigma", moved), ("year|g_sigma", slope), ("sigma", sigma)):
        mean = float(w @ x)
        # Draws in a row are a little alike, which the weights do not know.
        error = 1.5 * float(np.sqrt(np.sum((w * (x - mean)) ** 2)))
        out[name] = mean, float(np.sqrt(w @ (x - mean) ** 2)), error
    return out


def test_an_uncentred_covariate_has_the_posterior_of_the_centred_one_under_its_own_prior(yearly):
    priors = {"1|g": PRIOR, "year|g": PRIOR}
    fit = rf.fit("y ~ year + (year|g)", yearly, seed=1, priors=priors)
    assert fit.certificate.trusted
    truth = weighted_truth(yearly)
    for name, (mean, sd, error) in truth.items():
        draws = fit.draws["posterior"][name].to_numpy()
        own = float(array_stats.mcse(draws, chain_axis=0, draw_axis=1))
        assert abs(draws.mean() - mean) < 4.5 * np.hypot(own, error), name
        assert draws.std() == pytest.approx(sd, rel=0.1)
        # Negative control: half a standard deviation is seen.
        assert abs(draws.mean() + 0.5 * sd - mean) > 4.5 * np.hypot(own, error), name


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_arm_towards_minus_one_holds_no_draw_for_long(seed):
    """40,000 Gibbs sweeps give P(correlation < -.95) = .0002; stuck draws once gave .0112."""
    frame = pd.read_csv(REACTION, dtype={"subj": str})
    frame = frame[frame["Accuracy"] == 1].dropna()
    formula = "rt ~ Congruency * SOA + Group + (Congruency|subj) + (1|Item)"
    fit = rf.fit(formula, frame, seed=seed)
    assert fit.certificate.trusted
    assert min(fit.certificate.ess, fit.certificate.ess_tail) > 1700
    corr = fit.draws["posterior"]["Congruency|subj_corr"].to_numpy().ravel()
    repeats = np.unique(corr, return_counts=True)[1]
    assert repeats.max() <= 20
    assert np.mean(corr < -0.95) < 0.002

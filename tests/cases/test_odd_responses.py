"""Responses and columns that are odd: mostly one number, no coefficients, sizes far from one."""

from __future__ import annotations

import numpy as np
import pytest

import ranef as rf
from ranef.errors import DataError, ReliabilityWarning


def counts():
    """Most rows zero, some groups in the ten thousands."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(12), 6)
    group = np.where(np.arange(12) < 3, 1e5 * (1 + rng.random(12)), 0.0)
    return {"y": group[g] * (1 + 0.1 * rng.normal(size=72)), "g": g}


def test_a_mad_of_zero_falls_back_on_the_sd():
    data = counts()
    with pytest.warns(ReliabilityWarning, match="More than half of the response"):
        model = rf.model("y ~ 1 + (1|g)", data)
    assert model.priors["1|g"] == f"half_t({round(float(data['y'].std()), 1):.10g}, df=3)"
    stated = {"1|g": "half_t(50000)", "sigma": "half_t(50000)"}
    assert rf.model("y ~ 1 + (1|g)", data, priors=stated).priors["1|g"] == "half_t(50000, df=3)"


@pytest.mark.filterwarnings("ignore::ranef.errors.ReliabilityWarning")
def test_a_mad_of_zero_does_not_shrink_the_groups():
    """Of twelve groups whose means spread by 63,000 the SD is about that, not 14."""
    data = counts()
    means = np.array([data["y"][data["g"] == j].mean() for j in range(12)])
    row = rf.fit("y ~ 1 + (1|g)", data, seed=1).summary().loc["1|g_sigma"]
    assert row["median"] == pytest.approx(np.std(means, ddof=1), rel=0.1)


def test_sensitivity_without_coefficients():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(8), 5)
    data = {"y": rng.normal(size=8)[g] + rng.normal(size=40), "g": g}
    fit = rf.fit("y ~ 0 + (1|g)", data, draws=1000, seed=1, progress=False)
    assert set(fit.sensitivity(seed=1).verdicts) == {"1|g_sigma", "sigma"}


@pytest.mark.parametrize("size", [1e200, 1e-200])
@pytest.mark.parametrize("formula", ["y ~ x + (1|g)", "y ~ 1 + (x|g)", "x ~ 1 + (1|g)"])
def test_squares_out_of_range_are_refused_by_name(formula, size):
    rng = np.random.default_rng(1)
    data = {
        "y": rng.normal(size=40),
        "x": size * rng.normal(size=40),
        "g": np.repeat(np.arange(8), 5),
    }
    with pytest.raises(DataError, match="Use other units"):
        rf.model(formula, data)


@pytest.mark.filterwarnings("ignore")
def test_small_numbers_are_shown_short():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(8), 5)
    data = {"y": rng.normal(size=40), "x": 1e130 * rng.normal(size=40), "g": g}
    text = str(rf.fit("y ~ x + (1|g)", data, draws=400, seed=1, progress=False))
    assert max(len(line) for line in text.splitlines() if "  x" in line) < 110
    assert "e-131" in text or "e-130" in text

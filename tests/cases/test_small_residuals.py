"""Residuals far below the groups' spread are residuals; only what is perfect to rounding is not."""

from __future__ import annotations

import numpy as np
import pytest

import ranef as rf
from ranef.errors import ImproperPosteriorError


def lines(sd, unit):
    """Ten lines of eight points each, with residuals of the given SD; x in any unit."""
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(10), 8), np.tile(np.arange(8.0), 10)
    intercept, slope, e = rng.normal(size=10), rng.normal(size=10), rng.normal(size=80)
    y = 10 + intercept[g] + (1 + slope[g]) * x + sd * e
    left = [
        np.sum((e[g == j] - np.polyval(np.polyfit(x[g == j], e[g == j], 1), x[g == j])) ** 2)
        for j in range(10)
    ]
    return {"y": y, "x": x * unit, "g": g}, float(np.sum(left))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sd", [1e-4, 1e-5])
@pytest.mark.parametrize("unit", [1.0, 1e-6])
def test_residuals_1e_5_of_the_slopes_are_fitted(sd, unit):
    """Lines are fitted perfectly, so sigma^2 is inverse gamma: 60 degrees of freedom are left."""
    data, left = lines(sd, unit)
    fit = rf.fit("y ~ x + (x|g)", data, draws=1000, seed=1, progress=False)
    row = fit.summary().loc["sigma"]
    median = sd * np.sqrt(left / 59.33)
    assert abs(row["median"] - median) < 4 * 1.2533 * row["sd"] / np.sqrt(row["ess"])


@pytest.mark.parametrize(
    ("formula", "sd"),
    [("y ~ x + (x|g)", 0.0), ("y ~ x + (x|g)", 1e-12), ("y ~ x + (x|g) + (1|h)", 0.0)],
)
def test_lines_without_residuals_are_refused(formula, sd):
    data, _ = lines(sd, 1e-6)
    data["h"] = np.random.default_rng(1).integers(0, 4, 80)
    with pytest.raises(ImproperPosteriorError, match="sigma = 0"):
        rf.fit(formula, data, draws=400, seed=1, progress=False)

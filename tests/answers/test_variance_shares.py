"""Shares of variance against formulas written out on the draws, and coverage of their intervals."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ranef as rf
from ranef.answers.variance_components import fitted_variance

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
loaded = importlib.util.spec_from_file_location("coverage", SCRIPT)
coverage = importlib.util.module_from_spec(loaded)
loaded.loader.exec_module(coverage)


DRAWS = 2000


def frame():
    rng = np.random.default_rng(3)
    n = 150
    g, h = rng.integers(0, 12, n), rng.integers(0, 5, n)
    x, z = rng.normal(2, 1, n), rng.normal(size=n)
    y = 20 + x + rng.normal(size=12)[g] + 0.7 * rng.normal(size=12)[g] * x
    y = y + rng.normal(size=5)[h] + rng.normal(size=n)
    w = rng.uniform(0.5, 2, n)
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": g, "h": np.array(list("pqrst"))[h], "w": w})


@pytest.fixture(scope="module")
def crossed():
    formula = "y ~ x + z + (x|g) + (1|h)"
    return rf.fit(formula, frame(), weights="w", draws=DRAWS, effects="draws", seed=1)


def by_hand(fit, x, correlated=True):
    """Every variance of a row, written out on the labelled draws."""
    data, post = frame(), fit.draws["posterior"].to_dataset()
    s1, s2, r = post["1|g_sigma"], post["x|g_sigma"], post["x|g_corr"]
    g = s1**2 + s2**2 * np.mean(x**2) + correlated * 2 * r * s1 * s2 * np.mean(x)
    h = post["1|h_sigma"] ** 2
    e = post["sigma"] ** 2 * np.mean(1 / data["w"].to_numpy())
    rows = sum(post[n] * xr.DataArray(data[n].to_numpy(), dims="row") for n in ("x", "z"))
    return g, h, e, rows.var("row", ddof=1)


def test_shares_are_the_formulas_on_the_draws(crossed):
    made = crossed.variance_shares(k=[1, 4]).draws
    g, h, e, f = by_hand(crossed, frame()["x"].to_numpy())
    total = g + h + e
    mean = crossed.draws["posterior"]["Intercept"] + sum(
        crossed.draws["posterior"][n] * frame()[n].mean() for n in ("x", "z")
    )
    expected = {
        "share[x|g]": g / total,
        "share[1|h]": h / total,
        "share[residual]": e / total,
        "ICC": (g + h) / total,
        "repeatability[g]": g / total,
        "repeatability[h]": h / total,
        "reliability[g, k=4]": g / (g + (h + e) / 4),
        "reliability[h, k=4]": h / (h + (g + e) / 4),
        "R2_marginal": f / (f + total),
        "R2_conditional": (f + g + h) / (f + total),
        "CV[x|g]": np.sqrt(g) / mean,
        "CV[1|h]": np.sqrt(h) / mean,
        "CV[residual]": np.sqrt(e) / mean,
        "CV[total]": np.sqrt(total) / mean,
    }
    assert set(made) == {*expected, "R2_bayes"}
    for name, values in expected.items():
        np.testing.assert_allclose(made[name], values.to_numpy().ravel(), rtol=1e-9, err_msg=name)


def test_a_share_without_the_covariance_is_caught(crossed):
    made = crossed.variance_shares().draws["share[x|g]"]
    g, h, e, _ = by_hand(crossed, frame()["x"].to_numpy(), correlated=False)
    wrong = (g / (g + h + e)).to_numpy().ravel()
    assert np.abs(made / wrong - 1).max() > 0.01


def test_shares_at_a_value_are_those_of_rows_with_it(crossed):
    made = crossed.variance_shares(at={"x": 3})
    g, h, e, _ = by_hand(crossed, np.full(5, 3.0))
    np.testing.assert_allclose(made.draws["ICC"], ((g + h) / (g + h + e)).to_numpy().ravel())
    assert not any(name.startswith(("R2", "CV")) for name in made.draws)
    assert "at x = 3" in str(made)
    other = crossed.variance_shares(at={"x": 0}).draws["ICC"]
    assert np.abs(made.draws["ICC"] - other).max() > 0.01


def test_a_held_factor_picks_its_own_effect():
    rng = np.random.default_rng(5)
    g, f = np.repeat(np.arange(20), 12), np.tile(["a", "b", "c"], 80)
    y = rng.normal(size=20)[g] + (f == "b") * 2 * rng.normal(size=20)[g] + rng.normal(size=240)
    fit = rf.fit("y ~ f + (f|g)", {"y": y, "f": f, "g": g}, draws=2000, seed=1)
    post = fit.draws["posterior"].to_dataset()
    s = [post[f"{n}|g_sigma"].to_numpy().ravel() for n in ("1", "f[b]")]
    r = post["f|g_corr"].to_numpy()[..., 0].ravel()
    between = s[0] ** 2 + s[1] ** 2 + 2 * r * s[0] * s[1]
    expected = between / (between + post["sigma"].to_numpy().ravel() ** 2)
    np.testing.assert_allclose(fit.variance_shares(at={"f": "b"}).draws["ICC"], expected)


def test_bayesian_r2_follows_stored_effects(crossed):
    data, post = frame(), crossed.draws["posterior"].to_dataset()
    flat = {n: post[n].to_numpy().reshape(DRAWS, -1) for n in ("x", "z", "1|g", "x|g", "1|h")}
    g, x, h = data["g"].to_numpy(), data["x"].to_numpy(), data["h"].map("pqrst".index).to_numpy()
    rows = flat["x"] * x + flat["z"] * data["z"].to_numpy()
    rows += flat["1|g"][:, g] + flat["x|g"][:, g] * x + flat["1|h"][:, h]
    fitted = rows.var(axis=1, ddof=1)
    source = crossed.source
    beta = np.column_stack([post["Intercept"].to_numpy().ravel(), flat["x"], flat["z"]])
    effects = [np.stack([flat["1|g"], flat["x|g"]], axis=2), flat["1|h"][:, :, None]]
    ours = fitted_variance(source.model, source.rows, beta, effects)
    np.testing.assert_allclose(ours, fitted, rtol=1e-9)
    residual = post["sigma"].to_numpy().ravel() ** 2 * np.mean(1 / data["w"])
    expected = fitted / (fitted + residual)
    made = crossed.variance_shares().draws["R2_bayes"]
    error = np.hypot(expected.std(), made.std()) / np.sqrt(DRAWS)
    assert abs(made.mean() - expected.mean()) < 4 * error
    # The fixed part alone would be noticed.
    wrong = fitted_variance(source.model, source.rows, beta, [0 * e for e in effects])
    assert abs((wrong / (wrong + residual)).mean() - expected.mean()) > 4 * error


def test_independent_slopes_stand_apart_and_known_errors_are_averaged():
    data = frame()
    fit = rf.fit("y ~ x + (x||g)", data, se="w", draws=2000, seed=1)
    made = fit.variance_shares()
    post = fit.draws["posterior"].to_dataset()
    slope = post["x|g_sigma"].to_numpy().ravel() ** 2 * np.mean(data["x"] ** 2)
    constant = post["1|g_sigma"].to_numpy().ravel() ** 2
    total = slope + constant + np.mean(data["w"] ** 2)
    np.testing.assert_allclose(made.draws["share[x|g]"], slope / total)
    np.testing.assert_allclose(made.draws["share[1|g]"], constant / total)
    assert "squared known standard errors" in str(made)


def test_table_text_picture_and_a_loaded_fit(crossed, tmp_path):
    made = crossed.variance_shares(k=3, prob=0.9)
    table = made.table()
    assert list(table.columns) == ["mean", "sd", "5%", "median", "95%"]
    np.testing.assert_allclose(table.loc["ICC", "5%"], np.quantile(made.draws["ICC"], 0.05))
    assert "sigma² / weight" in str(made)
    axis = made.plot().axes[0]
    labels = [t.get_text() for t in axis.get_yticklabels()][::-1]
    assert labels == [n for n in table.index if not n.startswith("CV")]
    crossed.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc").variance_shares(k=3, prob=0.9)
    pd.testing.assert_frame_equal(again.table(), table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": {"z": 1}}, "at names 'z', with which no effect varies by group"),
        ({"at": {"x": "high"}}, "a finite number is expected"),
        ({"at": 5}, "a mapping is expected"),
        ({"k": 0}, "k is 0; a whole number from 1"),
        ({"k": 1.5}, "k is 1.5; a whole number from 1"),
    ],
)
def test_bad_input_is_told(crossed, options, message):
    with pytest.raises(rf.DataError, match=message):
        crossed.variance_shares(**options)


def test_bad_probability_is_told(crossed):
    with pytest.raises(ValueError, match="between 0 and 1"):
        crossed.variance_shares(prob=95)


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = coverage.coverage("random intercept", 60, prob=0.5, draws=400)
    scores = {name: coverage.distance(v, 0.5) for name, v in held.items()}
    assert max(map(abs, scores.values())) < 3.5, scores
    # Intervals claimed to be wider than they are would be noticed.
    assert coverage.distance(held["ICC"], 0.8) < -3.5

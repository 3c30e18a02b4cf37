"""Effects' intervals and probabilities against quadrature, stored draws and dense algebra."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

import ranef as rf
from ranef.answers.shrinkage import raw_effects
from ranef.numerics import mixtures


@pytest.fixture(scope="module")
def dyestuff():
    priors = {"sigma": "half_t(50)", "1|Batch": "half_t(50)"}
    return rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), priors=priors, seed=1)


@pytest.fixture(scope="module")
def sleep():
    return rf.fit("Reaction ~ Days + (Days|Subject)", rf.datasets.load("sleepstudy"), seed=1)


def crossed_frame():
    rng = np.random.default_rng(7)
    n = 90
    g, h = rng.integers(0, 9, n), rng.integers(0, 4, n)
    x = rng.normal(size=n)
    y = x + rng.normal(size=9)[g] + rng.normal(size=4)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


@pytest.fixture(scope="module")
def crossed():
    return rf.fit("y ~ x + (1|g) + (1|h)", crossed_frame(), seed=1)


def exact_mixture():
    """Posterior of Dyestuff's batch effects on a grid of both SDs: weights, means, sds.

    The mean of all is integrated out: a flat mean among m batches of n has precision m / (s² +
    e² / n), whatever the effects.
    """
    data = rf.datasets.load("Dyestuff")
    means = data.groupby("Batch")["Yield"].mean().to_numpy()
    n, m = 5, len(means)
    within = float(
        data.groupby("Batch")["Yield"].apply(lambda v: ((v - v.mean()) ** 2).sum()).sum()
    )
    gap = means - means.mean()
    s, e = np.meshgrid(np.linspace(0.05, 600, 1500), np.linspace(20, 160, 500), indexing="ij")
    total = s**2 + e**2 / n
    log_f = -within / (2 * e**2) - m * (n - 1) * np.log(e)
    log_f += -0.5 * (gap @ gap) / total - 0.5 * (m - 1) * np.log(total)
    log_f += stats.t.logpdf(s / 50, 3) + stats.t.logpdf(e / 50, 3)
    w = np.exp(log_f - log_f.max())
    keep = w > 1e-9 * w.max()
    s, e, w, total = s[keep], e[keep], w[keep] / w[keep].sum(), total[keep]
    k = s**2 / total
    sd = np.sqrt(s**2 * (1 - k) + k**2 * total / m)
    return w, k[:, None] * gap, sd[:, None] * np.ones(m)


def test_intervals_are_those_of_the_exact_posterior(dyestuff):
    w, mean, sd = exact_mixture()
    table = dyestuff.effects(threshold=10, prob=0.9)
    np.testing.assert_allclose(table["mean"], w @ mean, rtol=1e-3, atol=0.02)
    for i, (_, row) in enumerate(table.iterrows()):
        cdf = lambda x, i=i: float(w @ stats.norm.cdf(x, mean[:, i], sd[:, i]))  # noqa: E731
        # The share of the posterior below a quantile is off by Monte Carlo error of the variance
        # parameters alone: less than the 4000 draws' own, sqrt(p (1 - p) / 4000).
        for p, column in ((0.05, "5%"), (0.95, "95%")):
            assert abs(cdf(row[column]) - p) < 3.5 * np.sqrt(p * (1 - p) / 4000)
        over = 1 - cdf(10)
        assert abs(row["P(> 10)"] - over) < 3.5 * np.sqrt(over * (1 - over) / 4000)


def test_a_normal_approximation_would_be_noticed(dyestuff):
    w, mean, sd = exact_mixture()
    table = dyestuff.effects(prob=0.9)
    i = int(np.argmax(np.abs(table["mean"])))
    low = float(stats.norm.ppf(0.05, table["mean"].iloc[i], table["sd"].iloc[i]))
    share = float(w @ stats.norm.cdf(low, mean[:, i], sd[:, i]))
    assert abs(share - 0.05) > 3.5 * np.sqrt(0.05 * 0.95 / 4000) / 2


def shares_below(draws, table):
    """Share of stored draws beyond each end of the intervals."""
    for name in table.index.get_level_values(0).unique():
        values = draws[name]
        values = values.reshape(-1, values.shape[-1])
        for p, column in ((0.025, "2.5%"), (0.975, "97.5%")):
            yield p, (values < table.loc[name][column].to_numpy()).mean(axis=0)


def test_intervals_agree_with_many_stored_draws(sleep):
    many = rf.fit(
        "Reaction ~ Days + (Days|Subject)",
        rf.datasets.load("sleepstudy"),
        draws=100_000,
        effects="draws",
        seed=2,
    )
    draws = {n: many.draws["posterior"][n].to_numpy() for n in ("1|Subject", "Days|Subject")}
    table, ess = sleep.effects(), sleep.summary()["ess"].min()
    for p, found in shares_below(draws, table):
        # Of the draws behind the table; those of the stored draws are a fifth of that.
        assert np.abs(found - p).max() < 4.5 * np.sqrt(p * (1 - p) / ess)
    narrow = sleep.effects(prob=0.9).set_axis(table.columns, axis=1)
    gaps = [np.abs(found - p).max() for p, found in shares_below(draws, narrow)]
    assert min(gaps) > 4.5 * np.sqrt(0.025 * 0.975 / ess)
    chosen = sleep.effects("Days|Subject", highest=True)
    assert chosen["P(highest)"].sum() == pytest.approx(1)
    top = draws["Days|Subject"].reshape(-1, 18).argmax(axis=1)
    expected = np.bincount(top, minlength=18) / len(top)
    error = np.sqrt(expected * (1 - expected) / 4000 + 1 / 4000**2)
    assert np.abs((chosen["P(highest)"] - expected) / error).max() < 4
    # Levels drawn apart from each other: the counts would be those of independent winners.
    rng = np.random.default_rng(1)
    loose = rng.permuted(draws["1|Subject"].reshape(-1, 18), axis=0)
    pair = sleep.effects("1|Subject", compare=("308", "309")).iloc[0]
    values = draws["1|Subject"].reshape(-1, 18)
    expected = (values[:, 0] > values[:, 1]).mean()
    assert abs(pair["P(> 0)"] - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)
    assert abs(pair["sd"] / (values[:, 0] - values[:, 1]).std() - 1) < 4 / np.sqrt(2 * 4000)
    assert abs(pair["sd"] / (loose[:, 0] - loose[:, 1]).std() - 1) > 4 / np.sqrt(2 * 4000)


def test_crossed_levels_are_compared_by_joint_draws(crossed):
    stored = rf.fit("y ~ x + (1|g) + (1|h)", crossed_frame(), draws=20_000, effects="draws", seed=2)
    values = stored.draws["posterior"]["1|h"].to_numpy().reshape(20_000, 4)
    pair = crossed.effects(compare=("0", "3"), name="1|h").iloc[0]
    gap = values[:, 0] - values[:, 3]
    assert abs(pair["mean"] - gap.mean()) < 4 * gap.std() / np.sqrt(4000)
    assert abs(pair["sd"] / gap.std() - 1) < 4 * np.sqrt((stats.kurtosis(gap) + 2) / (4 * 4000))
    apart = np.sqrt(values[:, 0].var() + values[:, 3].var())
    assert abs(pair["sd"] / apart - 1) > 0.05
    assert pair["P(> 0)"] == pytest.approx((gap > 0).mean(), abs=0.04)
    pd.testing.assert_series_equal(crossed.effects(compare=("0", "3"), name="1|h").iloc[0], pair)


def test_first_columns_are_the_stored_moments(sleep, tmp_path):
    table = sleep.effects()
    assert list(table.columns) == ["mean", "sd", "2.5%", "97.5%"]
    pd.testing.assert_frame_equal(table[["mean", "sd"]], sleep.effects(prob=None))
    sleep.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    pd.testing.assert_frame_equal(again.effects(highest=True), sleep.effects(highest=True))


def test_a_level_is_not_compared_with_itself(sleep):
    with pytest.raises(rf.DataError, match="'308' twice"):
        sleep.effects(compare=("308", "308"))


def test_quantiles_of_mixtures_solve_their_equation():
    rng = np.random.default_rng(2)
    mean = rng.normal(size=(300, 7)) * np.array([0, 1, 10, 1e6, 1e-6, 1, 1])
    mean[:150, 5] += 1e3
    sd = rng.exponential(size=(300, 7))
    for p in (1e-6, 0.025, 0.5, 0.9999):
        found = mixtures.quantiles(mean, sd, [p])[0]
        for j in range(7):
            cdf = lambda x, j=j, p=p: stats.norm.cdf(x, mean[:, j], sd[:, j]).mean() - p  # noqa: E731
            wide = 12 * sd[:, j].max()
            lows, highs = mean[:, j].min() - wide, mean[:, j].max() + wide
            expected = brentq(cdf, lows, highs, xtol=1e-12, rtol=1e-14)
            # To 1e-11 in probability, as documented; between far modes any point may satisfy that.
            spread = mixtures.moments(mean[:, [j]], sd[:, [j]])[1][0]
            assert abs(found[j] - expected) < 1e-6 * spread or abs(cdf(found[j])) < 1e-11
    draws = rng.normal(size=(1000, 2))
    expected = np.quantile(draws, [0.1, 0.9], axis=0)
    np.testing.assert_array_equal(mixtures.quantiles(draws, 0 * draws, [0.1, 0.9]), expected)


def test_raw_estimates_are_least_squares_within_levels(sleep):
    data = rf.datasets.load("sleepstudy")
    raw = raw_effects(sleep)
    means = sleep.summary()["mean"]
    for i, (_, rows) in enumerate(data.groupby("Subject")):
        slope, constant = np.polyfit(rows["Days"], rows["Reaction"], 1)
        assert raw["1|Subject"][i] == pytest.approx(constant - means["Intercept"])
        assert raw["Days|Subject"][i] == pytest.approx(slope - means["Days"])
    axis = sleep.plot.shrinkage("Days|Subject").axes[0]
    assert axis.get_xlabel() == "Days|Subject, raw estimate"
    shown = axis.containers[0].lines[0]
    np.testing.assert_allclose(shown.get_xdata().astype(float), raw["Days|Subject"])
    np.testing.assert_allclose(
        shown.get_ydata().astype(float), sleep.effects("Days|Subject")["mean"]
    )


def test_raw_estimates_leave_out_what_rows_do_not_tell():
    data = rf.datasets.load("sleepstudy")
    data = data.drop(data.index[(data["Subject"].astype(str) == "309") & (data["Days"] > 0)])
    fit = rf.fit("Reaction ~ Days + (Days|Subject)", data, seed=1)
    raw = raw_effects(fit)
    assert np.flatnonzero(np.isnan(raw["Days|Subject"])).tolist() == [1]
    assert np.isfinite(fit.effects()["2.5%"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Dyas|Subject"}, "Did you mean 'Days|Subject'"),
        ({"compare": ("308", "3o9")}, "names '3o9', no level of 'Subject'"),
        ({"compare": "308"}, "two levels are expected"),
        ({"threshold": "high"}, "threshold is 'high'"),
    ],
)
def test_bad_input_is_told(sleep, options, message):
    with pytest.raises(rf.DataError, match=message.replace("|", r"\|")):
        sleep.effects(**options)


def test_levels_of_different_factors_are_not_compared(crossed):
    with pytest.raises(rf.DataError, match="no grouping factor has both"):
        crossed.effects(compare=("0", "77"))
    both = crossed.effects(compare=("0", "8"))
    assert list(both.index) == ["1|g[0] - 1|g[8]"]


def test_effect_names_of_the_tree_are_those_of_the_model(sleep):
    assert list(json.loads(sleep.draws.attrs["effects"])) == ["1|Subject", "Days|Subject"]

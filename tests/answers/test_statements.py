"""Statements, contrasts and marginal means against the draws and against formulas by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats

import ranef as rf
from ranef.answers.statements import read_statement


def frame():
    rng = np.random.default_rng(4)
    n = 240
    g = rng.integers(0, 15, n)
    f = rng.choice(["low", "mid", "high"], n, p=[0.6, 0.3, 0.1])
    h = rng.choice(["a-1", "a"], n)
    x = rng.normal(3, 1, n)
    y = x + (f == "mid") + 2 * (f == "high") * (h == "a") + rng.normal(size=15)[g]
    y = y + rng.normal(size=n)
    return pd.DataFrame(
        {
            "y": y,
            "x": x,
            "f": pd.Categorical(f, ["low", "mid", "high"]),
            "h": h,
            "a b": rng.normal(size=n),
            "off": rng.normal(5, 1, n),
            "g": [f"s {k}]" for k in g],
        }
    )


@pytest.fixture(scope="module")
def fit():
    formula = "y ~ f * h + poly(x, 2) + `a b` + offset(off) + (x|g)"
    return rf.fit(formula, frame(), draws=4000, effects=["1|g"], seed=1)


@pytest.fixture(scope="module")
def flat(fit):
    post = fit.draws["posterior"].to_dataset()
    return {str(n): v.to_numpy().reshape(4000, -1) for n, v in post.data_vars.items()}


CASES = {
    "f[mid] > f[high]": lambda d: d["f"][:, 0] > d["f"][:, 1],
    "f:h[high, a-1] - 2 * h[a-1]<-0.5": lambda d: d["f:h"][:, 1] - 2 * d["h"][:, 0] < -0.5,
    "-0.1 < `a b` < 0.1": lambda d: np.abs(d["a b"][:, 0]) < 0.1,
    "abs(a b) < 0.1 or not x|g_sigma < 0.2": lambda d: (
        (np.abs(d["a b"]) < 0.1) | (d["x|g_sigma"] >= 0.2)
    ).ravel(),
    "1|g_sigma**2 / (1|g_sigma**2 + sigma**2) >= 0.5": lambda d: (
        d["1|g_sigma"] >= d["sigma"]
    ).ravel(),
    "poly(x, 2)[1] > 3 * poly(x, 2)[2] and x|g_corr < 0": lambda d: (
        (d["poly(x, 2)"][:, 0] > 3 * d["poly(x, 2)"][:, 1]) & (d["x|g_corr"][:, 0] < 0)
    ),
    "max(sigma, 1) > min(1.4, 3) ": lambda d: (np.maximum(d["sigma"], 1) > 1.4).ravel(),
    "exp(log(sigma)) <= sqrt(2)": lambda d: (d["sigma"] <= np.sqrt(2)).ravel(),
    "1|g[s 3]] > 1|g[s 4]] + 1e-1": lambda d: (
        d["1|g"][:, GROUPS.index("s 3]")] > d["1|g"][:, GROUPS.index("s 4]")] + 0.1
    ),
}
GROUPS = sorted({str(g) for g in frame()["g"]})


@pytest.mark.parametrize("text", CASES)
def test_a_statement_is_the_share_of_draws_in_which_it_holds(fit, flat, text):
    found = fit.probability(text)
    expected = CASES[text](flat)
    assert 0 < float(found) < 1
    assert float(found) == pytest.approx(expected.mean(), abs=1e-12)
    chains = expected.reshape(4, -1).astype(float)
    ess = float(array_stats.ess(chains, chain_axis=0, draw_axis=1, method="mean"))
    p = expected.mean()
    error = np.sqrt(p * (1 - p) / min(ess, 4000))
    assert found.error == pytest.approx(error, rel=0.1, abs=1e-4)
    assert text.strip() in str(found)


def test_effects_are_drawn_jointly_where_they_are_not_stored(fit):
    pair = "x|g[s 3]] - x|g[s 4]] + 1|g[s 3]] - 1|g[s 4]]"
    found = fit.probability(f"{pair} > 0")
    assert found == fit.probability(f"{pair} > 0")
    again = fit.probability(f"{pair} > 0", seed=1)
    assert again.value != found.value
    assert abs(again.value - found.value) < 4 * np.hypot(again.error, found.error)
    stored = fit.probability("1|g[s 3]] > 0")
    table = fit.effects("1|g", threshold=0).loc["s 3]", "P(> 0)"]
    assert abs(stored.value - table) < 4 * stored.error


def test_a_share_of_none_has_an_error_too(fit):
    never = fit.probability("sigma < 0")
    assert never.value == 0
    assert 0 < never.error < 1e-3


def test_errors_of_dependent_draws_are_larger():
    data = rf.datasets.load("Dyestuff")
    gibbs = rf.fit("Yield ~ 1 + (1|Batch)", data, method="gibbs", draws=4000, seed=1)
    found = gibbs.probability("1|Batch_sigma > 40")
    values = gibbs.draws["posterior"]["1|Batch_sigma"].to_numpy() > 40
    ess = array_stats.ess(values.astype(float), chain_axis=0, draw_axis=1, method="mean")
    assert found.draws == pytest.approx(float(ess))
    assert found.draws < 3000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f[midd] > 0", "names 'f[midd]', which the fit does not have. Did you mean 'f[mid]'"),
        ("1|g_sigm > 1", "Did you mean '1|g_sigma'"),
        ("1|g[s 77]] > 0", "which the fit does not have"),
        ("`ab` > 0", "Did you mean 'a b'"),
        ("sigma", "compares nothing"),
        ("sigma == 1", "equality, which has probability zero"),
        ("__import__('os').system('true') > 1", "which the fit does not have"),
        ("__import__('os') > 1", "calls '__import__'"),
        ("sigma.__class__ > 1", "which the fit does not have"),
        ("(lambda: 1)() > sigma", "which the fit does not have"),
        ("[sigma][0] > 1", "which the fit does not have"),
        ("sigma if 1 else 2 > 1", "which the fit does not have"),
        ("sigma > 'a'", "holds 'a'; numbers"),
        ("sigma > True", "holds True; numbers"),
        ("(sigma > 1) + 1 > 1", "calculates with a comparison"),
        ("sigma > 1 and 2", "is no comparison"),
        ("abs(sigma, 1) > 1", "abs takes one value"),
        ("abs() > 1", "abs takes one value"),
        ("sigma in 1", "expected comparisons are"),
        ("log(-sigma) > 1", "no number in some draws"),
        ("sigma >", "cannot be read"),
        ("-" * 5000 + "sigma > 0", "cannot be read"),
        ("_ranef_0_ > sigma", "which the fit does not have"),
        ("2 > 1", "names no parameter"),
        (3, "type int came"),
    ],
)
def test_what_is_no_statement_is_told(fit, text, message):
    with pytest.raises(rf.DataError) as caught:
        fit.probability(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_longer_names_win():
    names = ["x", "x|g_sigma", "1|x_sigma", "x - 1"]
    assert read_statement("1|x_sigma > x", names, {}).names == ("1|x_sigma", "x")
    assert read_statement("2 * x|g_sigma > x*1", names, {}).names == ("x|g_sigma", "x")
    with pytest.raises(rf.DataError, match="names 'xx'"):
        read_statement("xx > x", names, {})


def test_a_contrast_is_that_of_the_draws(fit, flat):
    contrast = fit.contrast({"f[mid]": 1, "f[high]": -0.5}, prob=0.9)
    draws = flat["f"] @ [1, -0.5]
    row = contrast.table().loc["f[mid] - 0.5 f[high]"]
    expected = [draws.mean(), draws.std(ddof=1), *np.quantile(draws, [0.05, 0.5, 0.95])]
    np.testing.assert_allclose(row.to_numpy(), [*expected, (draws > 0).mean()], rtol=1e-9)
    # Taken one by one, as if they were independent, the two would have another sd.
    apart = np.sqrt(flat["f"][:, 0].var() + 0.25 * flat["f"][:, 1].var())
    assert abs(row["sd"] / apart - 1) > 4 / np.sqrt(2 * 4000)
    several = fit.contrast({"one": {"a b": 1}, "two": {"f[mid]:h[a-1]": 2}})
    table = several.table()
    assert list(table.index) == ["one", "two"]
    assert table.loc["two", "mean"] == pytest.approx(2 * flat["f:h"][:, 0].mean(), rel=1e-9)


def predictions(flat, f, h, x):
    """Fixed part at one combination, written out by hand."""
    data = frame()
    basis = np.column_stack([data["x"] ** k for k in range(3)])
    q, r = np.linalg.qr(basis)
    q = q * np.sign(np.diag(r))
    new = np.array([x**k for k in range(3)]) @ np.linalg.inv(np.sign(np.diag(r))[:, None] * r)
    out = flat["Intercept"][:, 0] + flat["poly(x, 2)"] @ new[1:] + frame()["off"].mean()
    out = out + flat["a b"][:, 0] * data["a b"].mean()
    level = {"low": None, "mid": 0, "high": 1}[f]
    if level is not None:
        out = out + flat["f"][:, level]
    if h == "a-1":
        out = out + flat["h"][:, 0] + (0 if level is None else flat["f:h"][:, level])
    return out


def test_marginal_means_weigh_other_factors_equally(fit, flat):
    made = fit.marginal_means("f")
    x = frame()["x"].mean()
    expected = {
        f: sum(predictions(flat, f, h, x) for h in ("a", "a-1")) / 2 for f in ("low", "mid", "high")
    }
    assert made.labels == tuple(expected)
    table = made.table()
    for f, draws in expected.items():
        assert abs(table.loc[f, "mean"] - draws.mean()) < 4 * draws.std() / np.sqrt(4000)
        assert abs(table.loc[f, "sd"] / draws.std() - 1) < 4 / np.sqrt(2 * 4000)
    pairs = made.pairs().table()
    gap = expected["high"] - expected["low"]
    assert abs(pairs.loc["high - low", "sd"] / gap.std() - 1) < 4 / np.sqrt(2 * 4000)
    # At the other factor's first level alone they would be others.
    other = predictions(flat, "high", "a", x)
    assert abs(table.loc["high", "mean"] - other.mean()) > 4 * other.std() / np.sqrt(4000)


def test_marginal_means_at_held_values_and_for_several_factors(fit, flat, tmp_path):
    made = fit.marginal_means(["f", "h"], at={"x": 2.0})
    assert made.labels[:3] == ("low, a", "low, a-1", "mid, a")
    draws = predictions(flat, "high", "a-1", 2.0)
    row = made.table().loc["high, a-1"]
    assert abs(row["mean"] - draws.mean()) < 4 * draws.std() / np.sqrt(4000)
    held = fit.marginal_means("f", at={"h": "a-1", "x": 2.0}).table().loc["high"]
    assert held["mean"] == pytest.approx(row["mean"])
    fit.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc").marginal_means(["f", "h"], at={"x": 2.0})
    pd.testing.assert_frame_equal(again.table(), made.table())
    axis = made.plot().axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()][::-1] == list(made.labels)
    assert axis.get_ylabel() == "f, h"
    assert axis.get_xlabel() == "y (median, 95% interval)"
    assert "high, a-1" in str(made)


def test_numbers_under_C_are_levels():
    rng = np.random.default_rng(1)
    k, g = np.tile([1, 2, 5], 20), np.repeat(np.arange(10), 6)
    y = k**2 + rng.normal(size=60) + rng.normal(size=10)[g]
    fit = rf.fit("y ~ C(k) + (1|g)", {"y": y, "k": k, "g": g}, seed=1)
    made = fit.marginal_means("k")
    assert made.labels == ("1", "2", "5")
    error = made.table()["sd"] / np.sqrt(4000)
    gap = made.table()["mean"] - [y[k == v].mean() for v in (1, 2, 5)]
    assert (abs(gap) < 4 * error).all()


@pytest.mark.filterwarnings("ignore:Fixed-effect column:ranef.errors.AliasedWarning")
def test_means_that_the_data_do_not_tell_are_left_out_by_name():
    rng = np.random.default_rng(1)
    f, h = np.repeat(["a", "b"], 40), np.tile(["u", "v", "w", "w"], 20)
    keep = ~((f == "b") & (h == "w"))
    data = {"y": rng.normal(size=keep.sum()), "f": f[keep], "h": h[keep]}
    data["g"] = np.arange(keep.sum()) % 7
    fit = rf.fit("y ~ f * h + (1|g)", data, aliased="drop", seed=1)
    with pytest.warns(rf.AliasedWarning, match="do not tell 1 of 2 means, 'b', which are left out"):
        assert fit.marginal_means("f").labels == ("a",)
    with pytest.warns(rf.AliasedWarning, match="do not tell 1 of 6 means, 'b, w'"):
        cells = fit.marginal_means(["f", "h"])
    assert cells.labels == ("a, u", "a, v", "a, w", "b, u", "b, v")
    for label, mean in cells.table()["mean"].items():
        own = [f"{a}, {b}" == label for a, b in zip(data["f"], data["h"], strict=True)]
        assert abs(mean - data["y"][own].mean()) < 0.5
    assert fit.marginal_means("f", at={"h": "v"}).labels == ("a", "b")


@pytest.mark.parametrize(
    ("names", "at", "message"),
    [
        ("x", None, "'x' holds numbers"),
        ("ff", None, "There is no factor 'ff' in the fixed part. Did you mean 'f'"),
        ("f", {"h": "b"}, "names no level that was seen"),
        ("f", {"g": "s 3]"}, "at names 'g'"),
        ("f", {"f": "mid"}, "whose means are asked for"),
    ],
)
def test_bad_marginal_means_are_told(fit, names, at, message):
    with pytest.raises(rf.DataError) as caught:
        fit.marginal_means(names, at)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"f[hihg]": 1}, "Did you mean 'f[high]'"),
        ({"f[high]": "one"}, "a finite number is expected"),
        ({}, "weights by coefficient are expected"),
        ({"f[high]": 1, "b": {"f[mid]": 1}}, "give one kind"),
    ],
)
def test_bad_contrasts_are_told(fit, weights, message):
    with pytest.raises(rf.DataError) as caught:
        fit.contrast(weights)
    assert message in str(caught.value)

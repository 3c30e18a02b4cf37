"""fit(): labelled draws, their summary, file and pictures, and what is told on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import arviz_plots
import arviz_stats
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from arviz_stats.base import array_stats
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import ranef as rf
from frames import make_frame
from ranef.errors import DataError, ReliabilityWarning
from ranef.formula.parse import canonical_label, parse_formula
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.mixed_model.model import build_model
from ranef.posterior.summary import decimals

FORMULA = "y ~ x + f + (1|g)"
SCALARS = ["Intercept", "x", "f[b]", "f[c]", "1|g_sigma", "sigma"]


@pytest.fixture(scope="module")
def gibbs_fit():
    """The same data by Gibbs, long enough to be trusted."""
    return rf.fit(FORMULA, make_frame(), method="gibbs", draws=40_000, warmup=500, seed=12)


def posterior(fit):
    return fit.draws["posterior"].to_dataset()


def scalar(fit, name):
    """Draws of one row of the summary, shape (chains, draws)."""
    data = posterior(fit)
    if "[" in name:
        term, level = name.removesuffix("]").split("[")
        return data[term].sel({f"{term}_dim": level}).to_numpy()
    return data[name].to_numpy()


def flat_draws(fit):
    """Every variable with chains laid end to end."""
    data = posterior(fit).stack(all=("chain", "draw"), create_index=False)
    return {str(k): v.transpose("all", ...).to_numpy() for k, v in data.items()}


# -- names, dimensions, attributes -----------------------------------------------------------------


def test_tree_has_arviz_groups_and_bambis_names(fitted):
    groups = {"posterior", "unconstrained_posterior", "sample_stats", "observed_data", "effects"}
    assert set(fitted.draws.children) == groups
    data = posterior(fitted)
    assert {str(k): v.dims for k, v in data.items()} == {
        "Intercept": ("chain", "draw"),
        "x": ("chain", "draw"),
        "f": ("chain", "draw", "f_dim"),
        "sigma": ("chain", "draw"),
        "1|g_sigma": ("chain", "draw"),
        "1|g": ("chain", "draw", "g__factor_dim"),
    }
    assert dict(data.sizes) == {"chain": 4, "draw": 500, "f_dim": 2, "g__factor_dim": 8}
    assert data["f_dim"].to_numpy().tolist() == ["b", "c"]
    assert data["g__factor_dim"].to_numpy().tolist() == list("01234567")
    assert data["chain"].to_numpy().tolist() == [0, 1, 2, 3]
    assert data["draw"].to_numpy().tolist() == list(range(500))
    assert set(fitted.draws["sample_stats"].data_vars) == {"lp", "accepted", "log_weight"}


def test_tree_holds_the_observed_response_and_exact_effects(fitted):
    observed = fitted.draws["observed_data"]["y"]
    assert observed.dims == ("__obs__",)
    np.testing.assert_array_equal(observed, make_frame()["y"])
    effects = fitted.draws["effects"]["1|g"]
    assert effects.dims == ("statistic", "g__factor_dim")
    assert effects["statistic"].to_numpy().tolist() == ["mean", "sd"]


def test_gibbs_tree_has_the_same_names_but_no_weights(gibbs_fit, fitted):
    names = set(posterior(fitted).data_vars) - {"1|g"}
    assert set(posterior(gibbs_fit).data_vars) == names
    assert set(gibbs_fit.draws["sample_stats"].data_vars) == {"lp"}
    assert posterior(gibbs_fit).sizes["draw"] == 10_000


def test_factor_coefficients_and_effects_stand_under_their_own_labels():
    rng = np.random.default_rng(0)
    site = np.array(["north", "east", "west"])[rng.integers(3, size=60)]
    level = np.array(["z", "m", "a", "q"])[rng.integers(4, size=60)]
    heights = {"north": 30.0, "east": -10.0, "west": -20.0}
    y = np.vectorize(heights.get)(site) + rng.normal(size=60)
    y += np.select([level == "m", level == "q", level == "z"], [100.0, 200.0, 300.0])
    data = {"y": y, "level": level, "site": site}
    made = rf.fit("y ~ level + (1|site)", data, draws=1000, effects="draws", seed=1)
    means = made.summary()["mean"]
    assert means[["level[m]", "level[q]", "level[z]"]].round(-1).tolist() == [100, 200, 300]
    found = made.effects()["mean"]
    assert found.index.tolist() == ["east", "north", "west"]
    np.testing.assert_allclose(found - found.mean(), [-10, 30, -20], atol=2)
    draws = posterior(made)["1|site"].sel(site__factor_dim=found.index)
    means = draws.mean(("chain", "draw"))
    np.testing.assert_allclose(means - means.mean(), found - found.mean(), atol=0.1)
    # All three move together with the intercept, by far more than they differ.
    assert abs(float(means.mean()) - found.mean()) < 4 * float(draws.std()) / np.sqrt(1000)


def test_attributes_record_how_the_fit_was_made(fitted):
    attrs = fitted.draws.attrs
    assert attrs["ranef_version"] == rf.__version__
    assert (attrs["formula"], attrs["method"], attrs["seed"]) == (FORMULA, "exact", 11)
    assert json.loads(attrs["effects"]) == {"1|g": "g"}
    assert json.loads(attrs["groups"]) == {"g": 8}
    assert attrs["structure"] == "one factor, groups of equal size together"
    assert (attrs["rows"], attrs["dropped"]) == (len(make_frame()), 0)
    assert 0 < attrs["seconds"] < 60
    priors = json.loads(attrs["priors"])
    assert list(priors) == ["Intercept", "x", "f[b]", "f[c]", "1|g", "sigma"]
    assert priors["f[c]"] == "flat"
    assert priors["sigma"].startswith("half_t(")


@pytest.mark.parametrize(
    ("seed", "recorded"),
    [
        (3, 3),
        (np.int64(3), 3),
        (2**80, str(2**80)),
        (np.random.default_rng(3), "not given as a number"),
        (None, "not given as a number"),
    ],
)
def test_seed_is_recorded_and_saved_whatever_its_size(seed, recorded, tmp_path):
    made = rf.fit(FORMULA, make_frame(), draws=1000, seed=seed)
    assert made.draws.attrs["seed"] == recorded
    made.save(tmp_path / "fit.nc")
    assert rf.load(tmp_path / "fit.nc").draws.attrs["seed"] == recorded


@pytest.mark.parametrize("method", ["exact", "gibbs"])
def test_lp_is_the_log_density_at_the_draws(method, fitted, gibbs_fit):
    made = fitted if method == "exact" else gibbs_fit
    target = RandomIntercept(build_model(FORMULA, make_frame())[0])
    data = posterior(made)
    tau = np.log(data["sigma"].to_numpy()).ravel()
    rho = 2 * (np.log(data["1|g_sigma"].to_numpy()).ravel() - tau)
    lp = made.draws["sample_stats"]["lp"].to_numpy().ravel()
    np.testing.assert_allclose(lp, target.log_density(rho, tau), rtol=1e-9)


# -- summary and text ------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["fitted", "gibbs_fit"])
@pytest.mark.parametrize(("prob", "low", "high"), [(0.95, "2.5%", "97.5%"), (0.8, "10%", "90%")])
def test_summary_is_computed_from_the_draws(which, prob, low, high, request):
    made = request.getfixturevalue(which)
    table = made.summary() if prob == 0.95 else made.summary(prob=prob)
    columns = ["mean", "sd", low, "median", high, "ess"]
    assert list(table.columns) == columns + (["r_hat"] if which == "gibbs_fit" else [])
    assert list(table.index) == SCALARS
    assert table.index.name == "parameter"
    for name, row in table.iterrows():
        draws = scalar(made, name)
        assert row["mean"] == pytest.approx(draws.mean(), rel=1e-12)
        assert row["sd"] == pytest.approx(draws.std(ddof=1), rel=1e-12)
        quantiles = np.quantile(draws, [(1 - prob) / 2, 0.5, (1 + prob) / 2])
        np.testing.assert_allclose(row[[low, "median", high]].astype(float), quantiles, rtol=1e-12)
        ess = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk")
        if which == "gibbs_fit":
            assert row["ess"] == pytest.approx(ess)
            assert row["r_hat"] == pytest.approx(array_stats.rhat(draws, chain_axis=0, draw_axis=1))
        else:
            assert row["ess"] == pytest.approx(min(ess, 2000))


@pytest.mark.parametrize("prob", [0, 1, 1.5, -0.1, 95])
def test_probability_outside_zero_and_one_is_refused(prob, fitted):
    phrase = f"prob is {prob}; a number between 0 and 1 is expected, "
    with pytest.raises(ValueError, match=phrase):
        fitted.summary(prob=prob)
    with pytest.raises(ValueError, match=phrase):
        fitted.plot.effects(prob=prob)


def test_certificate_is_computed_from_the_draws(fitted, gibbs_fit):
    ess = [array_stats.ess(scalar(fitted, n), chain_axis=0, draw_axis=1) for n in SCALARS]
    exact = fitted.certificate
    assert (exact.method, exact.draws, exact.r_hat) == ("exact", 2000, None)
    assert exact.ess == pytest.approx(min(*ess, 2000))
    accepted = fitted.draws["sample_stats"]["accepted"].to_numpy()
    assert exact.acceptance == accepted.mean() > 0.99
    assert exact.pareto_k < 0.7
    assert exact.trusted
    other = gibbs_fit.certificate
    assert (other.method, other.draws) == ("gibbs", 40_000)
    assert (other.acceptance, other.pareto_k) == (None, None)
    r_hat = [array_stats.rhat(scalar(gibbs_fit, n), chain_axis=0, draw_axis=1) for n in SCALARS]
    assert other.r_hat == pytest.approx(max(r_hat))


@pytest.mark.parametrize("which", ["fitted", "gibbs_fit"])
def test_text_is_the_table_with_two_digits_of_the_sd(which, request):
    made = request.getfixturevalue(which)
    lines = str(made).splitlines()
    assert repr(made) == str(made)
    assert lines[0] == FORMULA
    draws = "2,000 independent draws"
    if which == "gibbs_fit":
        draws = f"40,000 Gibbs draws, effective {made.certificate.ess:,.0f},"
    assert lines[1].startswith(f"{len(make_frame())} rows, 8 levels of g; {draws} in ")
    extra = ["R\u0302"] if which == "gibbs_fit" else []
    assert lines[3].split() == ["mean", "sd", "2.5%", "median", "97.5%", "ESS", *extra]
    headings = [
        i for i, line in enumerate(lines) if line in ("Fixed effects", "Standard deviations")
    ]
    assert headings == [4, 9]
    shown = {line.split()[0]: line.split()[1:] for line in lines[5:12] if len(line.split()) > 2}
    table = made.summary()
    assert list(shown) == SCALARS
    for name, row in table.iterrows():
        digits = decimals(row["sd"])
        assert shown[name][:5] == [f"{v:.{digits}f}" for v in row.iloc[:5]]
        assert shown[name][5] == f"{row['ess']:,.0f}"
        assert len(shown[name][1].replace(".", "").strip("0")) <= 2
    assert lines[13].startswith(
        "Priors       Intercept ~ flat, x ~ flat, f[b] ~ flat, f[c] ~ flat, 1|g ~"
    )
    # Priors are wrapped between two of them, never within one.
    priors = " ".join(line.strip() for line in lines[13:-1]).removeprefix("Priors").strip()
    given = json.loads(made.draws.attrs["priors"])
    assert priors == ", ".join(f"{k} ~ {v}" for k, v in given.items())
    assert max(len(line) for line in lines) <= 100
    assert lines[-1] == f"Certificate  {made.certificate}"


@pytest.mark.parametrize(
    ("sd", "digits"),
    [(24.2, 0), (9.99, 1), (0.95, 2), (0.031, 3), (3e-9, 10), (0.0, 3), (np.nan, 3), (np.inf, 3)],
)
def test_decimals_show_two_digits_of_the_sd(sd, digits):
    assert decimals(sd) == digits


def test_table_without_fixed_effects_has_no_such_heading():
    made = rf.fit("y ~ 0 + (1|g)", make_frame(), draws=1000, seed=1)
    assert list(made.summary().index) == ["1|g_sigma", "sigma"]
    assert "Fixed effects" not in str(made)
    assert "Standard deviations" in str(made)


# -- file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["fitted", "gibbs_fit"])
def test_saved_fit_is_the_same_fit(which, request, tmp_path):
    made = request.getfixturevalue(which)
    made.save(str(tmp_path / "fit.nc"))
    again = rf.load(str(tmp_path / "fit.nc"))
    assert isinstance(again, rf.Fit)
    assert again.draws.identical(made.draws)
    assert again.draws.attrs == made.draws.attrs
    assert str(again) == str(made)
    pd.testing.assert_frame_equal(again.summary(), made.summary())
    pd.testing.assert_frame_equal(again.effects(), made.effects())
    assert again.certificate == made.certificate
    assert [p.name for p in tmp_path.iterdir()] == ["fit.nc"]


def test_slashes_in_names_are_stored_as_division_slashes_and_shown_as_written(tmp_path):
    data = make_frame().rename(columns={"y": "y/t", "f": "f/h", "g": "g/i"})
    formula = "`y/t` ~ I(x/2) + `f/h` + (1|`g/i`)"
    made = rf.fit(formula, data, draws=1000, effects="draws", seed=1)
    stored = ["Intercept", "I(x \u2215 2)", "f\u2215h", "sigma", "1|g\u2215i_sigma", "1|g\u2215i"]
    assert sorted(map(str, posterior(made).data_vars)) == sorted(stored)
    shown = ["Intercept", "I(x / 2)", "f/h[b]", "f/h[c]", "1|g/i_sigma", "sigma"]
    assert list(made.summary().index) == shown
    assert made.effects().index.name == "g/i"
    assert str(made).startswith(formula)
    assert "8 levels of g/i" in str(made)
    made.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    assert again.draws.identical(made.draws)
    assert str(again) == str(made)


def test_division_slash_of_the_user_stays_one(tmp_path):
    made = rf.fit("y ~ `m\u2215s` + (1|g)", make_frame().rename(columns={"x": "m\u2215s"}), seed=1)
    made.save(tmp_path / "fit.nc")
    assert "m\u2215s" in rf.load(tmp_path / "fit.nc").summary().index


@pytest.mark.parametrize("before", [None, b"older"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_save_leaves_nothing_and_keeps_the_older_file(
    before, error, fitted, tmp_path, monkeypatch
):
    def fail(_, path, **__):
        Path(path).write_bytes(b"half of it")
        raise error

    target = tmp_path / "fit.nc"
    if before:
        target.write_bytes(before)
    monkeypatch.setattr(xr.DataTree, "to_netcdf", fail)
    if isinstance(error, OSError):
        with pytest.raises(DataError, match=r"fit\.nc' cannot be written: No space left on device"):
            fitted.save(target)
    else:
        with pytest.raises(KeyboardInterrupt):
            fitted.save(target)
    left = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert left == ({"fit.nc": before} if before else {})


def test_save_replaces_an_older_file(fitted, tmp_path):
    (tmp_path / "fit.nc").write_bytes(b"older")
    fitted.save(tmp_path / "fit.nc")
    assert rf.load(tmp_path / "fit.nc").draws.identical(fitted.draws)


def test_save_into_a_missing_folder_or_onto_a_folder_is_refused(fitted, tmp_path):
    with pytest.raises(DataError, match=r"Folder '.*nowhere' does not exist; create it first"):
        fitted.save(tmp_path / "nowhere" / "fit.nc")
    with pytest.raises(DataError, match="cannot be written: Is a directory"):
        fitted.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_load_tells_what_is_wrong_with_a_file(fitted, tmp_path):
    fitted.save(tmp_path / "fit.nc")
    whole = (tmp_path / "fit.nc").read_bytes()
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    (tmp_path / "text.nc").write_text("hello")
    (tmp_path / "empty.nc").write_bytes(b"")
    (tmp_path / "half.nc").write_bytes(whole[: len(whole) // 2])
    cases = {
        "missing.nc": "does not exist",
        "": "does not exist",
        "other.nc": "holds no ranef fit; expected one from fit.save()",
        "text.nc": "is no NetCDF file; expected one from fit.save()",
        "empty.nc": "is no NetCDF file",
        "half.nc": "is no NetCDF file",
    }
    for name, phrase in cases.items():
        with pytest.raises(DataError) as caught:
            rf.load(tmp_path / name)
        assert phrase in str(caught.value)


# -- seeds, draws, chains --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["exact", "gibbs"])
def test_same_seed_gives_the_same_draws_and_another_others(method):
    def run(seed):
        arguments = {"method": method, "draws": 2000, "effects": "draws", "warmup": 200}
        data = make_frame()
        return flat_draws(rf.fit("y ~ 0 + x + (1|g)", data, seed=seed, **arguments))

    a, b, other = run(5), run(np.random.default_rng(5)), run(6)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
        assert np.mean(a[name] == other[name]) < 0.01


@pytest.mark.parametrize("priors", [{}, dict.fromkeys(("sigma", "1|g"), "variance(invgamma(1))")])
def test_chains_are_only_a_layout_of_exact_draws(priors):
    made = {
        chains: rf.fit(
            FORMULA, make_frame(), draws=960, chains=chains, seed=7, effects="draws", priors=priors
        )
        for chains in (1, 2, 4, 8)
    }
    first = flat_draws(made[1])
    for chains, fit in made.items():
        assert posterior(fit).sizes["chain"] == chains
        assert posterior(fit).sizes["draw"] == 960 // chains
        for name, values in flat_draws(fit).items():
            np.testing.assert_array_equal(values, first[name])


def test_drawing_effects_does_not_change_the_other_draws():
    with_effects = rf.fit(FORMULA, make_frame(), draws=1000, seed=7, effects="draws")
    without = rf.fit(FORMULA, make_frame(), draws=1000, seed=7)
    assert "1|g" not in posterior(without)
    for name, values in flat_draws(without).items():
        np.testing.assert_array_equal(values, flat_draws(with_effects)[name])
    pd.testing.assert_frame_equal(without.effects(), with_effects.effects())


def test_draws_are_rounded_down_to_whole_chains():
    made = rf.fit(FORMULA, make_frame(), draws=1003, chains=4, seed=1)
    assert dict(made.draws["posterior"].sizes)["draw"] == 250
    assert made.certificate.draws == 1000


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ({"draws": 0}, "draws is 0; a whole number from 1 is expected"),
        ({"draws": 15}, "draws=15, chains=4 came; at least four draws for each chain are expected"),
        ({"chains": 0}, "chains is 0; a whole number from 1 is expected"),
        ({"warmup": -1}, "warmup is -1; a whole number from 0 is expected"),
        ({"draws": 1e4}, "draws is 10000.0; a whole number from 1 is expected"),
        ({"draws": "many"}, "draws is 'many'; a whole number from 1 is expected"),
        ({"chains": 2.0}, "chains is 2.0; a whole number from 1 is expected"),
        ({"warmup": None}, "warmup is None; a whole number from 0 is expected"),
        ({"method": "vb"}, "method is 'vb'. Known names: 'exact', 'gibbs'."),
        (
            {"method": "nuts"},
            "method='nuts' is no longer there; use method='exact', which draws hard posteriors by "
            "particles, or method='gibbs' for a Markov chain.",
        ),
        ({"method": "gibs"}, "method is 'gibs'. Did you mean 'gibbs'?"),
        ({"method": None}, "method is None. Known names: 'exact', 'gibbs'."),
        (
            {"effects": "all"},
            "effects is 'all'; 'moments' or 'draws' is expected, or a list of names such as "
            "['1|g'].",
        ),
        ({"effects": "1|g"}, "effects is '1|g'; 'moments' or 'draws' is expected"),
        ({"effects": None}, "effects is None; 'moments' or 'draws' is expected"),
        ({"effects": [1]}, "effects is [1]; 'moments' or 'draws' is expected"),
    ],
)
def test_wrong_arguments_are_refused_before_the_data_are_read(arguments, phrase):
    with pytest.raises(DataError) as caught:
        rf.fit(FORMULA, "no such file.csv", **arguments)
    assert phrase in str(caught.value)


@pytest.mark.parametrize(("draws", "chains"), [(4, 1), (16, 4), (24, 1), (25, 1), (396, 4)])
def test_a_handful_of_draws_is_given_but_not_trusted(draws, chains):
    with pytest.warns(ReliabilityWarning, match=r"ESS is \d+, below 400\. Take more draws"):
        made = rf.fit(FORMULA, make_frame(), draws=draws, chains=chains, seed=1)
    assert made.certificate.draws == draws
    assert (made.certificate.pareto_k is None) == (draws < 25)
    assert "DO NOT TRUST" in str(made)


def test_nothing_is_printed(capfd):
    rf.fit(FORMULA, make_frame(), draws=1000, seed=1)
    assert capfd.readouterr() == ("", "")


# -- Gibbs -----------------------------------------------------------------------------------------


def test_gibbs_fit_carries_r_hat(gibbs_fit):
    assert gibbs_fit.certificate.trusted
    assert 0.999 < gibbs_fit.certificate.r_hat < 1.01
    assert "r_hat" in gibbs_fit.summary()
    assert f"R\u0302 {gibbs_fit.certificate.r_hat:.3f}" in str(gibbs_fit)


def test_gibbs_too_short_is_warned_of_with_advice():
    with pytest.warns(ReliabilityWarning) as caught:
        made = rf.fit(FORMULA, make_frame(), method="gibbs", draws=80, warmup=0, seed=1)
    phrase = str(caught[0].message)
    assert phrase.startswith("The draws should not be trusted: R-hat ")
    assert "below 400" in phrase
    assert phrase.endswith("Take more draws or sweeps (draws=, warmup=).")
    assert made.certificate.r_hat > 1.01
    assert "DO NOT TRUST: R-hat" in str(made)
    assert caught[0].filename == __file__


def test_warmup_sweeps_are_left_out_of_gibbs_draws():
    def sigma(draws, warmup):
        with pytest.warns(ReliabilityWarning):
            made = rf.fit(
                FORMULA, make_frame(), method="gibbs", draws=draws, warmup=warmup, chains=1, seed=3
            )
        return flat_draws(made)["sigma"]

    np.testing.assert_array_equal(sigma(200, 100), sigma(300, 0)[100:])


# -- effects ---------------------------------------------------------------------------------------

PRIORS = {
    "half t": {},
    "inverse gamma": dict.fromkeys(("sigma", "1|g"), "variance(invgamma(2, scale=2))"),
    "normal coefficients": {"Intercept": "norm(9, 0.3)", "x": "norm(0, 1)"},
}


def effect_scores(draws, table):
    """Differences of draws from exact means and variances, in Monte Carlo errors."""
    n = len(draws)
    mean, sd = table["mean"].to_numpy(), table["sd"].to_numpy()
    centred = draws - mean
    fourth = (centred**4).mean(axis=0)
    return (
        centred.mean(axis=0) / (sd / np.sqrt(n)),
        ((centred**2).mean(axis=0) - sd**2) / np.sqrt((fourth - sd**4) / n),
    )


@pytest.mark.parametrize("formula", ["y ~ x + f + (1|g)", "y ~ z + (1|g)", "y ~ 0 + (1|g)"])
@pytest.mark.parametrize("priors", PRIORS)
def test_drawn_effects_have_the_exact_moments(formula, priors):
    given = {k: v for k, v in PRIORS[priors].items() if k not in ("x", "Intercept") or k in formula}
    if formula != "y ~ x + f + (1|g)" and priors == "normal coefficients":
        given = {"z": "norm(0, 0.5)"} if "z" in formula else {}
    made = rf.fit(formula, make_frame(), priors=given, draws=4000, effects="draws", seed=17)
    draws, table = flat_draws(made)["1|g"], made.effects()
    for score in effect_scores(draws, table):
        assert np.abs(score).max() < 4
    # A tenth of a standard deviation would be seen, in place and in width.
    shifted, wider = draws + 0.1 * table["sd"].to_numpy(), draws * 1.1
    assert np.abs(effect_scores(shifted, table)[0]).max() > 4
    assert np.abs(effect_scores(wider - 0.1 * table["mean"].to_numpy(), table)[1]).max() > 4


def test_effects_of_gibbs_are_those_of_the_exact_fit(fitted, gibbs_fit):
    exact, gibbs = fitted.effects(), gibbs_fit.effects()
    assert list(exact.index) == list(gibbs.index)
    error = exact["sd"] / np.sqrt(gibbs_fit.certificate.ess)
    assert ((exact["mean"] - gibbs["mean"]).abs() < 4 * error).all()
    np.testing.assert_allclose(gibbs["sd"], exact["sd"], rtol=0.1)


def test_correlations_go_by_the_names_of_their_columns():
    x, formula = "dose [mg/kg]", "y ~ `dose [mg/kg]` + (`dose [mg/kg]`|`the site`)"
    data = make_frame(groups=20).rename(columns={"x": x, "g": "the site"})
    name = f"{x}|the site_corr"
    made = rf.fit(formula, data, priors={name: "lkj(4)"}, draws=2000, seed=1)
    assert name in made.summary().index
    assert "lkj(4)" in str(made)
    assert "`" not in "".join(made.summary().index)
    assert parse_formula(formula).groups[0].label == f"{x}|the site"
    assert canonical_label(f"`{x}`|`the site`") == canonical_label(f"{x}|the site")


# -- pictures --------------------------------------------------------------------------------------

NAMES = ["Intercept", "x", "f", "1|g_sigma", "sigma"]


def is_red(line):
    return to_rgba(line.get_color()) == (1, 0, 0, 1)


def test_trace_shows_every_chain_of_every_parameter_twice(fitted):
    figure = fitted.plot.trace()
    assert isinstance(figure, Figure)
    assert [len(axis.lines) for axis in figure.axes] == [4] * 12


def test_density_shows_each_scalar_and_truth_as_one_red_line(fitted):
    truth = {"sigma": 1.25, "x": 2.0, "1|g_sigma": 1.5}
    plain, marked = fitted.plot.density(), fitted.plot.density(truth=truth)
    titles = ["Intercept", "x", "f b", "f c", "1|g_sigma", "sigma"]
    for figure in (plain, marked):
        assert isinstance(figure, Figure)
        assert [" ".join(a.get_title().split()) for a in figure.axes] == titles
    assert not any(is_red(line) for axis in plain.axes for line in axis.lines)
    for title, axis in zip(titles, marked.axes, strict=True):
        red = [set(map(float, line.get_xdata())) for line in axis.lines if is_red(line)]
        assert red == ([{truth[title]}] if title in truth else [])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sigm", "Did you mean 'sigma'?"),
        ("1|g", "Known names: 'Intercept', 'x', 'f', '1|g_sigma', 'sigma'."),
    ],
)
def test_truth_of_an_unknown_parameter_is_told(name, hint, fitted):
    with pytest.raises(DataError) as caught:
        fitted.plot.density(truth={"x": 2.0, name: 1.0})
    assert f"truth names {name!r}, no parameter. {hint}" in str(caught.value)


@pytest.mark.parametrize("prob", [0.95, 0.5])
def test_effects_are_drawn_in_order_with_the_intervals_of_the_table(fitted, prob):
    figure = fitted.plot.effects(prob=prob)
    assert isinstance(figure, Figure)
    (axis,) = figure.axes
    table = fitted.effects(prob=prob).sort_values("mean")
    assert [t.get_text() for t in axis.get_yticklabels()] == list(table.index)
    points, _, (bars,) = axis.containers[0]
    np.testing.assert_allclose(points.get_xdata().astype(float), table["mean"])
    np.testing.assert_array_equal(points.get_ydata(), np.arange(8))
    ends = np.array([segment[:, 0] for segment in bars.get_segments()], dtype=float)
    np.testing.assert_allclose(ends, table.iloc[:, 2:4].to_numpy())
    assert axis.get_xlabel() == f"effect 1|g (mean, {prob:.0%} interval)"
    assert axis.get_ylabel() == "g"


@pytest.mark.parametrize(("groups", "named"), [(60, 60), (61, 0)])
def test_many_effects_are_drawn_without_names(groups, named):
    made = rf.fit("y ~ x + (1|g)", make_frame(groups=groups), draws=1000, seed=1)
    assert len(made.plot.effects().axes[0].get_yticks()) == named


def test_pictures_stay_with_whoever_asked_for_them(fitted):
    before = plt.get_fignums()
    fitted.plot.trace()
    fitted.plot.density()
    fitted.plot.effects()
    assert plt.get_fignums() == before


def test_arviz_takes_the_draws(fitted):
    table = arviz_stats.summary(fitted.draws, round_to="none")
    assert set(SCALARS) <= set(table.index)
    ours = fitted.summary()
    means = table.loc[SCALARS, "mean"].astype(float)
    np.testing.assert_allclose(means, ours.loc[SCALARS, "mean"], rtol=1e-9)
    made = arviz_plots.plot_forest(fitted.draws, backend="matplotlib")
    assert isinstance(made.viz["figure"].item(), Figure)
    plt.close("all")


# -- the package -----------------------------------------------------------------------------------


def test_datasets_are_those_of_the_literature():
    dyestuff = rf.datasets.load("Dyestuff")
    assert dyestuff.shape == (30, 2)
    # Batch means of Davies and Goldsmith (1972), table 6.3.
    means = {"A": 1505, "B": 1528, "C": 1564, "D": 1498, "E": 1600, "F": 1470}
    assert dyestuff.groupby("Batch")["Yield"].mean().to_dict() == means
    sleep = rf.datasets.load("sleepstudy")
    assert list(sleep.columns) == ["Reaction", "Days", "Subject"]
    assert sleep.groupby("Subject")["Days"].apply(list).tolist() == [list(range(10))] * 18
    assert sleep["Reaction"].iloc[[0, -1]].round(4).tolist() == [249.56, 364.1236]
    assert sleep["Reaction"].mean() == pytest.approx(298.5079, abs=1e-4)


def test_unknown_dataset_is_told_with_the_nearest():
    with pytest.raises(DataError, match=r"no data set 'dyestuf'\. Did you mean 'Dyestuff'\?"):
        rf.datasets.load("dyestuf")


def test_import_loads_nothing_heavy():
    heavy = [
        "numpy",
        "scipy",
        "pandas",
        "xarray",
        "matplotlib",
        "arviz_base",
        "formulaic",
        "duckdb",
    ]
    code = (
        "import sys, ranef; ranef.RanefError, ranef.__version__, dir(ranef); "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_public_names_are_there_and_unknown_ones_are_not():
    assert set(rf.__all__) <= set(dir(rf))
    for name in rf.__all__:
        assert getattr(rf, name) is not None
    with pytest.raises(AttributeError, match="module 'ranef' has no attribute 'fitt'"):
        rf.fitt  # noqa: B018

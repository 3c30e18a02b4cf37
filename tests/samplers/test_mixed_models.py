"""Posteriors of mixed models: JAGS, a second algorithm, an interpolated likelihood, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from scipy import stats

import ranef as rf
from fuzz import two_samplers
from fuzz.two_samplers import random_frame
from helpers import DATA, limit
from ranef.likelihood.interpolation.boxes import LogBox, PlainBox
from ranef.likelihood.posterior import MarginalPosterior
from ranef.mixed_model.model import build_model
from ranef.samplers.sample import PosteriorSample

JAGS = json.loads((DATA / "reference.json").read_text())["posteriors_jags"]
WIDE = stats.norm(0, 1000)

REFERENCES = {
    "sleepstudy: Reaction ~ Days + (1|Subject)": (
        {"sigma": 50, "1|Subject": 50},
        {"b0": "Intercept", "b1": "Days", "sigma": "sigma", "su": "1|Subject_sigma"},
    ),
    "sleepstudy: Reaction ~ Days + (Days||Subject)": (
        {"sigma": 50, "1|Subject": 50, "Days|Subject": 20},
        {
            "b0": "Intercept", "b1": "Days", "sigma": "sigma",
            "su": "1|Subject_sigma", "sv": "Days|Subject_sigma",
        },
    ),
    "sleepstudy: Reaction ~ Days + (Days|Subject)": (
        {"sigma": 50, "1|Subject": 50, "Days|Subject": 20},
        {
            "b0": "Intercept", "b1": "Days", "sigma": "sigma", "su": "1|Subject_sigma",
            "sv": "Days|Subject_sigma", "rho": "Days|Subject_corr",
        },
    ),
    "Penicillin: diameter ~ 1 + (1|plate) + (1|sample)": (
        {"sigma": 2.5, "1|plate": 2.5, "1|sample": 2.5},
        {"b0": "Intercept", "sigma": "sigma", "su": "1|plate_sigma", "sv": "1|sample_sigma"},
    ),
    "Pastes: strength ~ 1 + (1|batch/cask)": (
        {"sigma": 2.5, "1|batch": 2.5, "1|batch:cask": 2.5},
        {"b0": "Intercept", "sigma": "sigma", "su": "1|batch_sigma", "sv": "1|batch:cask_sigma"},
    ),
}  # fmt: skip


def reference_of(name: str) -> dict[str, dict[str, float]]:
    return next(v for k, v in JAGS.items() if k.startswith(f"{name},") and isinstance(v, dict))


def draws_of(fit: rf.Fit, parameter: str) -> np.ndarray:
    return fit.draws["posterior"][parameter].to_numpy()


@pytest.fixture(scope="module")
def reference_fits() -> dict[str, rf.Fit]:
    fits = {}
    for name, (scales, names) in REFERENCES.items():
        data, formula = name.split(": ", 1)
        priors = {k: rf.half_t(v) for k, v in scales.items()}
        priors |= {k: WIDE for k in names.values() if k in ("Intercept", "Days")}
        fits[name] = rf.fit(formula, DATA / f"{data}.csv", priors=priors, draws=8000, seed=5)
    return fits


@pytest.mark.parametrize("name", REFERENCES)
def test_posteriors_agree_with_jags(reference_fits, name):
    fit = reference_fits[name]
    for key, jags in reference_of(name).items():
        ours = draws_of(fit, REFERENCES[name][1][key])
        error = np.hypot(
            array_stats.mcse(ours, chain_axis=0, draw_axis=1, method="mean"),
            jags["sd"] / np.sqrt(jags["ess"]),
        )
        assert abs(ours.mean() - jags["mean"]) < 4 * error, key
        for prob, q in ((0.025, "q025"), (0.5, "q50"), (0.975, "q975")):
            mine = array_stats.mcse(ours, chain_axis=0, draw_axis=1, method="quantile", prob=prob)
            # JAGS's own error of a quantile, scaled up from ours by the effective sizes.
            error = mine * np.sqrt(1 + ours.size / jags["ess"])
            assert abs(np.quantile(ours, prob) - jags[q]) < 4 * error, (key, q)
        # Negative control: the check sees a posterior shifted by half its sd.
        assert abs(ours.mean() + 0.5 * ours.std() - jags["mean"]) > 4 * np.hypot(
            array_stats.mcse(ours, chain_axis=0, draw_axis=1, method="mean"),
            jags["sd"] / np.sqrt(jags["ess"]),
        )


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_models_are_drawn_at_half_efficiency_or_better(reference_fits, name):
    made = reference_fits[name].certificate
    assert made.ess >= 0.5 * made.draws
    assert made.pareto_k < 0.7
    assert made.trusted


# Every structure, every kind of prior; those together that make other steps of Gibbs or other
# Jacobians. `make fuzz` compares all 43.
DESIGNS = [
    ("correlated", "half_t"),
    ("correlated", "shares"),
    ("correlated", "wishart"),
    ("independent", "expon"),
    ("slope alone", "normal coefficients"),
    ("crossed", "inverse gamma"),
    ("crossed", "shares"),
    ("nested", "half_t"),
    ("factor", "inverse gamma"),
    ("factor", "wishart"),
    ("both", "normal coefficients"),
    ("both", "shares"),
    ("zero mean", "expon"),
]


def test_the_designs_hold_every_structure_and_every_prior():
    assert set(DESIGNS) < set(two_samplers.DESIGNS)
    for i in (0, 1):
        assert {design[i] for design in DESIGNS} == {design[i] for design in two_samplers.DESIGNS}


@cache
def sampled(structure: str, prior: str) -> tuple[PosteriorSample, PosteriorSample]:
    return two_samplers.sampled(structure, prior)


@pytest.mark.parametrize(("structure", "prior"), DESIGNS)
def test_exact_draws_agree_with_gibbs(structure, prior):
    exact, gibbs = sampled(structure, prior)
    for name, draws in two_samplers.quantities(exact).items():
        assert array_stats.ess(draws, chain_axis=0, draw_axis=1) > 1000, name
    assert not two_samplers.disagreements(exact, gibbs)


def test_the_comparison_sees_draws_that_are_half_an_sd_off():
    exact, gibbs = sampled("correlated", "half_t")
    spread = exact.theta.std(axis=(0, 1))
    for j in range(exact.theta.shape[2]):
        step = 0.5 * spread * (np.arange(len(spread)) == j)
        assert two_samplers.disagreements(replace(exact, theta=exact.theta + step), gibbs)
    moved = {k: (mean + 0.5 * sd, sd) for k, (mean, sd) in exact.moments.items()}
    assert two_samplers.disagreements(replace(exact, moments=moved), gibbs)


def crossed_frame(seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = 1800
    a, b = rng.integers(0, 160, n), rng.integers(0, 70, n)
    y = 2 + 0.8 * rng.normal(size=160)[a] + 0.5 * rng.normal(size=70)[b] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "a": a, "b": b})


def test_an_interpolated_likelihood_gives_the_same_posterior_and_tells_its_error(monkeypatch):
    frame = crossed_frame()
    formula = "y ~ 1 + (1|a) + (1|b)"
    limit(monkeypatch, "DIRECT_EVALUATIONS", seconds=0.01)
    fit = rf.fit(formula, frame, seed=1)
    assert fit.certificate.surrogate_error is not None
    assert fit.certificate.surrogate_error < 1e-4
    assert "interpolation error" in str(fit)
    model, _ = build_model(formula, frame)
    target = MarginalPosterior(model)
    draws = fit.draws["posterior"]
    sd = [draws[v].to_numpy().ravel()[:40] for v in ("1|a_sigma", "1|b_sigma", "sigma")]
    truth = target.log_density(np.log(np.column_stack(sd)))
    message = fit.draws["sample_stats"]["lp"].to_numpy().ravel()[:40]
    np.testing.assert_allclose(message, truth, atol=1e-3)
    for box in (LogBox, PlainBox):
        monkeypatch.setattr(box, "degrees", {2: (1,)})
    direct = rf.fit(formula, frame, seed=1)
    assert direct.certificate.surrogate_error is None  # a poor one is given up where that is cheap
    assert direct.certificate.trusted
    limit(monkeypatch, "SECOND_ATTEMPT", seconds=0.0)
    with pytest.warns(rf.ReliabilityWarning, match="interpolation is off"):
        poor = rf.fit(formula, frame, seed=1)
    assert not poor.certificate.trusted


def test_draws_of_effects_agree_with_their_moments():
    frame = random_frame(9)
    fit = rf.fit("y ~ x + (x|g) + (1|h)", frame, seed=2, effects=["x|g", "h"])
    posterior = fit.draws["posterior"]
    assert "1|g" not in posterior
    for name in ("x|g", "1|h"):
        draws = posterior[name].to_numpy().reshape(4000, -1)
        table = fit.effects(name)
        error = table["sd"] / np.sqrt(2000)
        assert np.all(np.abs(draws.mean(axis=0) - table["mean"]) < 4.5 * error)
        np.testing.assert_allclose(draws.std(axis=0), table["sd"], rtol=0.12)


def test_offsets_and_weights_do_what_they_say():
    frame = random_frame(4)
    frame["o"] = np.linspace(0, 30, len(frame))
    plain = rf.fit("y ~ x + (1|g)", frame, seed=3)
    moved = frame.assign(y=frame["y"] + frame["o"])
    offset = rf.fit(
        "y ~ x + offset(o) + (1|g)", moved, seed=3,
        priors=json.loads(plain.draws.attrs["priors"]),
    )  # fmt: skip
    np.testing.assert_allclose(
        offset.summary()["mean"], plain.summary()["mean"], rtol=1e-6, atol=1e-8
    )
    # A row of weight 2 counts as its mean over two rows with the same group and covariates.
    frame["w"] = 1.0
    doubled = rf.model("y ~ x + (1|g)", frame, weights="w")
    values = {"sigma": 1.1, "1|g": 0.8}
    assert doubled.log_likelihood(values) == pytest.approx(
        rf.model("y ~ x + (1|g)", frame).log_likelihood(values), rel=1e-12
    )
    frame["w"] = np.random.default_rng(1).uniform(0.5, 3, len(frame))
    one = rf.model("y ~ x + (1|g)", frame, weights="w").log_likelihood(values)
    scaled = frame.assign(w=4 * frame["w"])
    other = rf.model("y ~ x + (1|g)", scaled, weights="w").log_likelihood(
        {"sigma": 2.2, "1|g": 0.8}
    )
    assert other == pytest.approx(one, rel=1e-12)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ x + (x|g) + (1|g)", "lets '1|g' vary twice"),
        ("y ~ x + (1|g) + (1|g)", "group term (1|g) twice"),
        ("y ~ x + (0|g)", "has no column"),
        ("y ~ x + (q|g)", "'q' is neither a column"),
        ("y ~ x + (1|g/q)", "'q' is neither a column"),
        ("y ~ x + offset(f) + (1|g)", "must be numeric"),
        ("y ~ x + (x|g|h)", "second '|'"),
    ],
)
def test_bad_group_terms_are_told(formula, message):
    with pytest.raises(rf.RanefError) as error:
        rf.fit(formula, random_frame(1))
    assert message in str(error.value)


def test_more_effects_than_rows_are_refused_under_default_priors():
    frame = pd.DataFrame(
        {"y": np.arange(8.0) ** 1.5, "x": np.arange(8.0), "g": np.repeat(np.arange(4), 2)}
    )
    with pytest.raises(rf.IdentifiabilityError, match="8 effects for 8 rows"):
        rf.fit("y ~ 1 + (x|g)", frame)


def test_bad_weights_and_effects_are_told():
    frame = random_frame(1).assign(w=1.0)
    frame.loc[3, "w"] = 0.0
    with pytest.raises(rf.DataError, match=r"Weight 'w' is 0 in row 4"):
        rf.fit("y ~ x + (1|g)", frame, weights="w")
    with pytest.raises(rf.DataError, match=r"effects names 'gg'.*Did you mean 'g'"):
        rf.fit("y ~ x + (1|g)", frame, effects=["gg"])

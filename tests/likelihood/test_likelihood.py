"""The public likelihood against lme4's values, and its maximum against lme4's estimates."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import optimize

import ranef as rf
from helpers import DATA

FITS = json.loads((DATA / "reference.json").read_text())["likelihood_fits"]
# The same models by lme4's own hand with all its digits: tests/reference/lme4_mixed.R.
DIGITS = json.loads((DATA / "lme4_mixed.json").read_text())

MODELS = {
    "Dyestuff: Yield ~ 1 + (1|Batch)": {"1|Batch": "Batch"},
    "sleepstudy: Reaction ~ Days + (Days|Subject)": {"Days|Subject": ("Intercept", "Days", "cov")},
    "sleepstudy: Reaction ~ Days + (Days||Subject)": {
        "1|Subject": "Intercept",
        "Days|Subject": "Days",
    },
    "Penicillin: diameter ~ 1 + (1|plate) + (1|sample)": {
        "1|plate": "plate",
        "1|sample": "sample",
    },
    "Pastes: strength ~ 1 + (1|batch/cask)": {
        "1|batch:cask": "cask:batch",
        "1|batch": "batch",
    },
}
CASES = [
    (name, kind)
    for name in MODELS
    for kind in ("ml", "reml")
    if "residual" in FITS[name].get(kind, {})
]


def model_of(name: str) -> rf.MixedModel:
    data, formula = name.split(": ", 1)
    return rf.model(formula, DATA / f"{data}.csv")


def values_of(name: str, fit: dict[str, float]) -> dict[str, object]:
    """lme4's variances as the values that log_likelihood takes."""
    values: dict[str, object] = {"sigma": fit["residual"] ** 0.5}
    for label, key in MODELS[name].items():
        if isinstance(key, tuple):
            a, b, c = (fit[k] for k in key)
            values[label] = [[a, c], [c, b]]
        else:
            values[label] = fit[key] ** 0.5
    return values


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_likelihood_at_lme4s_estimates_is_lme4s(name, kind):
    # The estimates are printed with five or six digits; at a maximum that costs the square of
    # their rounding, about 1e-9 of the criterion, which itself is printed with four decimals.
    fit = FITS[name][kind]
    ours = -2 * model_of(name).log_likelihood(values_of(name, fit), reml=kind == "reml")
    assert ours == pytest.approx(fit["minus2loglik"], abs=1e-4)
    wrong = {**values_of(name, fit), "sigma": 1.05 * fit["residual"] ** 0.5}
    off = -2 * model_of(name).log_likelihood(wrong, reml=kind == "reml")
    assert abs(off - fit["minus2loglik"]) > 1e-2


@pytest.mark.parametrize("kind", ["ml", "reml"])
@pytest.mark.parametrize("name", MODELS)
def test_the_likelihood_agrees_with_all_of_lme4s_digits(name, kind):
    fit = DIGITS[name][kind]
    ours = -2 * model_of(name).log_likelihood(values_of(name, fit), reml=kind == "reml")
    assert ours == pytest.approx(fit["minus2loglik"], rel=1e-11)
    # ... which are those of the reference, as far as it prints them.
    if kind in FITS[name]:
        assert fit["minus2loglik"] == pytest.approx(FITS[name][kind]["minus2loglik"], abs=6e-5)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_maximum_of_our_likelihood_is_lme4s(name, kind):
    fit, made = FITS[name][kind], model_of(name)

    def pack(theta: np.ndarray) -> dict[str, object]:
        values: dict[str, object] = {"sigma": np.exp(theta[0])}
        at = 1
        for label, key in MODELS[name].items():
            if isinstance(key, tuple):
                L = np.array([[np.exp(theta[at]), 0], [theta[at + 2], np.exp(theta[at + 1])]])
                values[label] = L @ L.T
                at += 3
            else:
                values[label] = np.exp(theta[at])
                at += 1
        return values

    def criterion(theta: np.ndarray) -> float:
        return -2 * made.log_likelihood(pack(theta), reml=kind == "reml")

    start = [0.5 * np.log(fit["residual"])]
    for key in MODELS[name].values():
        if isinstance(key, tuple):
            start += [0.5 * np.log(fit["Intercept"]), 0.5 * np.log(fit["Days"]), 0.0]
        else:
            start.append(0.5 * np.log(fit[key]))
    found = optimize.minimize(
        criterion, np.array(start) + 0.3, method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 8000, "maxfev": 8000},
    )  # fmt: skip
    assert found.fun == pytest.approx(fit["minus2loglik"], abs=1e-4)
    assert found.fun == pytest.approx(DIGITS[name][kind]["minus2loglik"], rel=1e-10)
    best = pack(found.x)
    assert best["sigma"] ** 2 == pytest.approx(fit["residual"], rel=2e-3)


def test_a_zero_standard_deviation_is_the_model_without_the_term():
    both = rf.model("diameter ~ 1 + (1|plate) + (1|sample)", DATA / "Penicillin.csv")
    one = rf.model("diameter ~ 1 + (1|plate)", DATA / "Penicillin.csv")
    for reml in (False, True):
        assert both.log_likelihood(
            {"sigma": 2.0, "1|plate": 0.7, "1|sample": 0}, reml=reml
        ) == pytest.approx(one.log_likelihood({"sigma": 2.0, "1|plate": 0.7}, reml=reml), rel=1e-12)


def test_a_singular_covariance_is_allowed_and_labels_may_be_written_freely():
    made = rf.model("Reaction ~ Days + (Days|Subject)", DATA / "sleepstudy.csv")
    singular = {"sigma": 30.0, "1 + Days | Subject": [[400.0, 60.0], [60.0, 9.0]]}
    near = {"sigma": 30.0, "Days|Subject": [[400.0, 60.0], [60.0, 9.0 + 1e-9]]}
    assert made.log_likelihood(singular) == pytest.approx(made.log_likelihood(near), abs=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"1|plate": 1, "1|sample": 1}, "values lacks 'sigma'"),
        ({"sigma": 1, "1|plate": 1}, "values lacks '1|sample'; an SD is expected"),
        ({"sigma": 0, "1|plate": 1, "1|sample": 1}, "sigma is 0"),
        (
            {"sigma": 1, "1|plate": -1, "1|sample": 1},
            "'1|plate' is -1; a number from 0",
        ),
        ({"sigma": 1, "1|plate": 1, "1|sample": 1, "1|x": 1}, "values names '1|x'"),
    ],
)
def test_bad_values_are_told(values, message):
    made = rf.model("diameter ~ 1 + (1|plate) + (1|sample)", DATA / "Penicillin.csv")
    with pytest.raises(rf.DataError, match=message.replace("|", r"\|")):
        made.log_likelihood(values)


def test_bad_covariance_matrices_are_told():
    made = rf.model("Reaction ~ Days + (Days|Subject)", DATA / "sleepstudy.csv")
    for matrix, message in (
        ([[1, 2], [0, 1]], "not symmetric"),
        ([[1, 2], [2, 1]], "negative eigenvalue"),
        ([[1]], "2 x 2 matrix is expected"),
    ):
        with pytest.raises(rf.DataError, match=message):
            made.log_likelihood({"sigma": 1.0, "Days|Subject": matrix})


def test_prior_draws_follow_the_priors():
    from scipy import stats

    made = rf.model(
        "Reaction ~ Days + (Days|Subject)",
        DATA / "sleepstudy.csv",
        priors={"Days": stats.norm(5, 2), "Days|Subject_corr": rf.lkj(2), "sigma": rf.half_t(30)},
    )
    draws = made.prior_draws(20_000, seed=1)
    assert list(draws) == [
        "Days", "1|Subject_sigma", "Days|Subject_sigma", "Days|Subject_corr", "sigma",
    ]  # fmt: skip
    checks = {
        "Days": stats.norm(5, 2),
        "sigma": rf.half_t(30),
        # For two columns LKJ(eta) makes (rho + 1) / 2 beta(eta, eta).
        "Days|Subject_corr": stats.beta(2, 2, loc=-1, scale=2),
    }
    for name, law in checks.items():
        assert stats.kstest(draws[name], law.cdf).pvalue > 1e-3
    assert stats.kstest(draws["Days|Subject_corr"], stats.uniform(-1, 2).cdf).pvalue < 1e-6

"""Posteriors of other families against long runs of NUTS (tests/reference/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats

import ranef as rf
from ranef.families.table import find_family
from ranef.mixed_model.generalized import build_generalized

HERE = Path(__file__).parent.parent / "reference" / "families"
REFERENCE = json.loads((HERE / "references.json").read_text())
# Our columns in the reference's order.
EPIL = [0, 1, 2, 5, 3, 4]


def cbpp():
    data = pd.read_csv(HERE / "cbpp.csv", dtype={"period": str})
    return "p(incidence, size) ~ period + (1|herd)", data, "binomial"


def seeds():
    data = pd.read_csv(HERE / "seeds.csv")
    data["o73"], data["cucumber"] = 1.0 * (data.seed == "O73"), 1.0 * (data.extract == "Cucumber")
    return "r | trials(n) ~ o73 * cucumber + (1|plate)", data, "binomial"


def toenail():
    data = pd.read_csv(HERE / "toenail.csv")
    data["terbinafine"] = 1.0 * (data.treatment == "terbinafine")
    return (
        "outcome['moderate or severe'] ~ terbinafine * time + (1|patientID)",
        data,
        "bernoulli",
    )


def contraception():
    data = pd.read_csv(HERE / "contraception.csv")
    data["a"] = data.age / 10
    data["u"] = 1.0 * (data.urban == "Y")
    for level in ("1", "2", "3+"):
        data[f"l{level[0]}"] = 1.0 * (data.livch == level)
    return "use ~ a + I(a**2) + u + l1 + l2 + l3 + (1|district)", data, "bernoulli"


def epil():
    data = pd.read_csv(HERE / "epil.csv")
    data["lb"] = np.log(data.base / 4) - np.log(data.base / 4).mean()
    data["la"] = np.log(data.age) - np.log(data.age).mean()
    data["progabide"] = 1.0 * (data.trt == "progabide")
    return "y ~ lb * progabide + la + V4 + (1|subject)", data, "poisson"


def epil_nb():
    return *epil()[:2], "negativebinomial"


def owls():
    data = pd.read_csv(HERE / "owls.csv")
    data["satiated"] = 1.0 * (data.FoodTreatment == "Satiated")
    data["male"] = 1.0 * (data.SexParent == "Male")
    data["at"] = (data.ArrivalTime - data.ArrivalTime.mean()) / data.ArrivalTime.std()
    formula = "SiblingNegotiation ~ satiated + male + at + offset(logBroodSize) + (1|Nest)"
    return formula, data, "negativebinomial"


def salamander():
    data = pd.read_csv(HERE / "salamander.csv")
    for cross in ("R/W", "W/R", "W/W"):
        data[cross.replace("/", "")] = 1.0 * (data.Cross == cross)
    return "Mate ~ RW + WR + WW + (1|Male) + (1|Female)", data, "bernoulli"


CASES = {f.__name__: f for f in (cbpp, seeds, contraception, epil, epil_nb, owls, toenail)}
CROSSED = {"salamander": salamander}


def test_every_reference_has_a_case():
    assert {*CASES, *CROSSED} == set(REFERENCE)


@pytest.mark.parametrize("name", CASES)
def test_reference(name):
    formula, data, family = CASES[name]()
    names = build_generalized(formula, data, find_family(family))[0].names
    priors = dict.fromkeys(names, "norm(0, 2.5)")
    draws = 2000 if name == "toenail" else 4000
    fit = rf.fit(formula, data, family=family, priors=priors, draws=draws, seed=11, progress=False)
    assert fit.certificate.trusted
    reference = REFERENCE[name]
    p = len(names)
    order = EPIL if name.startswith("epil") else list(range(p))
    drawn = fit.posterior_draws
    ours = np.column_stack([drawn.beta, np.exp(drawn.theta)])
    at = [*order, *range(p, ours.shape[1])]
    for j, x in enumerate(ours[:, at].T):
        x = x.reshape(4, -1)
        error = np.hypot(reference["mcse"][j], array_stats.mcse(x, chain_axis=0, draw_axis=1))
        assert abs(x.mean() - reference["mean"][j]) < 4.5 * error, (name, j)
        spread = np.hypot(
            reference["sd"][j] / np.sqrt(2 * reference["ess"][j]) * 1.5,
            array_stats.mcse(x, chain_axis=0, draw_axis=1, method="sd"),
        )
        assert abs(x.std() - reference["sd"][j]) < 4.5 * spread, (name, j)
        assert array_stats.ess(x, chain_axis=0, draw_axis=1) > draws / 2
    effects = fit.effects(prob=None)
    gap = effects["mean"].to_numpy()[: len(reference["b_mean"])] - reference["b_mean"]
    sd = np.array(reference["b_sd"])
    # Errors of both: the reference's draws are autocorrelated, ours thinned for moments.
    assert np.abs(gap / sd).max() < 4.5 * (1 / np.sqrt(1000) + 1 / np.sqrt(reference["draws"] / 3))
    assert np.abs(effects["sd"].to_numpy()[: len(sd)] / sd - 1).max() < 0.15


def test_crossed_reference():
    formula, data, family = salamander()
    names = ["Intercept", "RW", "WR", "WW"]
    priors = dict.fromkeys(names, "norm(0, 2.5)")
    fit = rf.fit(formula, data, family=family, priors=priors, draws=2000, seed=3, progress=False)
    assert fit.certificate.trusted
    reference, drawn = REFERENCE["salamander"], fit.posterior_draws
    ours = np.column_stack([drawn.beta, drawn.theta])  # log SDs
    for j, x in enumerate(ours.T):
        x = x.reshape(4, -1)
        error = np.hypot(reference["mcse"][j], array_stats.mcse(x, chain_axis=0, draw_axis=1))
        assert abs(x.mean() - reference["mean"][j]) < 4.5 * error, j
        assert abs(x.std() / reference["sd"][j] - 1) < 4.5 * 1.5 / np.sqrt(reference["ess"][j])
        assert array_stats.ess(x, chain_axis=0, draw_axis=1) > 1000
    # The comparison sees a mean that is off by a fifth of an SD.
    assert abs(ours[:, 0].mean() + 0.2 * ours[:, 0].std() - reference["mean"][0]) > 4.5 * np.hypot(
        reference["mcse"][0], ours[:, 0].std() / np.sqrt(3000)
    )

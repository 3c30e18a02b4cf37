"""The gradient of the marginal log density against differences of the density itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_structures import FORMULAS, dense, structures

import ranef as rf
from ranef.common import budget
from ranef.likelihood.gradient import log_density_gradient, log_likelihood_gradient
from ranef.likelihood.posterior import MarginalPosterior
from ranef.mixed_model.model import build_model
from ranef.mixed_model.parameters import correlation_root
from ranef.priors import scale_prior

pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.NestingWarning")

NORMAL = {"x": "norm(0.3, 0.2)", "Intercept": "norm(40, 3)"}


def differences(f: Any, x: np.ndarray, h: float = 4e-3) -> np.ndarray:
    """Gradient of f at points (n, d): central differences of three steps, extrapolated to none."""
    out = np.empty_like(x)
    for j in range(x.shape[1]):
        e = np.zeros(x.shape[1])
        e[j] = 1.0
        wide, middle, fine = (
            (f(x + s * e) - f(x - s * e)) / (2 * s) for s in (h, h / 2, h / 4)
        )  # fmt: skip
        out[:, j] = (64 * fine - 20 * middle + wide) / 45
    return out


def largest_error(
    target: MarginalPosterior, eta: np.ndarray, found: np.ndarray | None = None
) -> float:
    """Error relative to the size of the gradient, or to one where that is smaller."""
    found = log_density_gradient(target, eta) if found is None else found
    gap = found - differences(target.log_density, eta)
    return float(np.abs(gap / np.maximum(np.abs(found), 1.0)).max())


def points(model: Any, seed: int = 2, n: int = 4) -> np.ndarray:
    return 0.7 * np.random.default_rng(seed).normal(size=(n, model.parameters.size))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_every_structure_has_the_gradient_of_its_density(name, weighted):
    model = dense(FORMULAS[name], weighted).model
    for structure in structures(model):
        assert largest_error(MarginalPosterior(model, structure), points(model)) < 1e-6


@pytest.mark.parametrize("name", ["crossed slopes", "nested"])
def test_the_sparse_factorisation_has_the_same_gradient(name, monkeypatch):
    monkeypatch.setattr(budget, "DENSE_COLUMNS", -1)
    model = dense(FORMULAS[name], weighted=True).model
    assert largest_error(MarginalPosterior(model, structures(model)[1]), points(model)) < 1e-6


@pytest.mark.parametrize("name", ["correlated", "crossed", "three columns"])
def test_normal_coefficients_are_in_the_gradient(name):
    made = frame(3)
    priors = {k: v for k, v in NORMAL.items() if k != "x" or "y ~ x" in FORMULAS[name]}
    model, _ = build_model(FORMULAS[name], made, {"sigma": "half_t(2)", **priors})
    for structure in structures(model):
        assert largest_error(MarginalPosterior(model, structure), points(model)) < 1e-6


def frame(seed: int, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": 40 + rng.normal(size=n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "g": rng.integers(0, 8, n),
            "h": rng.integers(0, 4, n),
            "k": rng.integers(0, 3, n),
        }
    )


def test_a_gradient_without_the_trace_term_fails():
    """Negative control: the effects' posterior means alone, without their covariance."""
    for name in ("correlated", "crossed"):
        model = dense(FORMULAS[name], weighted=False).model
        for structure in structures(model):
            whole = structure.second_moments

            def means_alone(roots: Any, W: Any, whole: Any = whole) -> Any:
                nothing = whole(roots, np.zeros_like(W))
                return [a - b for a, b in zip(whole(roots, W), nothing, strict=True)]

            structure.second_moments = means_alone
            target, eta = MarginalPosterior(model, structure), points(model)
            assert largest_error(target, eta) > 1e-2


@pytest.mark.parametrize("name", ["intercept", "correlated", "three columns", "crossed slopes"])
def test_sds_near_zero_and_correlations_near_one_stay_exact(name):
    model = dense(FORMULAS[name], weighted=False).model
    for structure in structures(model):
        target = MarginalPosterior(model, structure)
        small, near, gone, never = (points(model) for _ in range(4))
        for log_sd, _ in model.parameters.split(small):
            log_sd[:, 0] = small[:, -1] + np.log(1e-6)
        for _, z in model.parameters.split(near):
            z *= 3 / 0.7
        assert largest_error(target, small) < 1e-6
        assert largest_error(target, near) < 1e-6
        for log_sd, _ in model.parameters.split(gone):
            log_sd[:] = -290.0
        # Nothing is left there but the priors, whatever underflows on the way.
        likelihood = log_likelihood_gradient(target, gone)[:, :-1]
        np.testing.assert_allclose(likelihood, 0.0, atol=1e-9)
        for log_sd, z in model.parameters.split(never):
            log_sd[:], z[:] = -290.0, 280.0
        assert np.isfinite(log_density_gradient(target, never)).all()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(FORMULAS)),
    rows=st.integers(25, 80),
    normal=st.booleans(),
    near_zero=st.booleans(),
)
def test_random_designs_have_the_gradient_of_their_density(seed, name, rows, normal, near_zero):
    data = frame(seed, rows)
    formula = FORMULAS[name]
    priors = {"sigma": "half_t(2)", **dict.fromkeys(names(formula, data), "half_t(3)")}
    if normal and "y ~ x" in formula:
        priors["x"] = NORMAL["x"]
    model, _ = build_model(formula, data, priors)
    eta = points(model, seed)
    if near_zero:
        eta[:, 0] = eta[:, -1] + np.log(1e-6)
    for structure in structures(model):
        target = MarginalPosterior(model, structure)
        found = log_density_gradient(target, eta)
        assert largest_error(target, eta, found) < 1e-6
        one = np.concatenate([log_density_gradient(target, row[None]) for row in eta])
        np.testing.assert_allclose(one, found, rtol=1e-9, atol=1e-9)


def names(formula: str, data: pd.DataFrame) -> list[str]:
    layout = build_model(formula, data, {"sigma": "half_t(2)"})[0].parameters
    return [n for t in layout.terms for n in t.names]


@pytest.mark.parametrize(
    "prior",
    [
        rf.half_t(2.0, df=1),
        rf.variance(stats.invgamma(0.5, scale=2)),
        rf.jeffreys(),
        rf.flat(),
        rf.variance(rf.flat()),
        stats.expon(scale=2),
        stats.lognorm(1.0),
        stats.halfnorm(scale=3),
        rf.variance(stats.gamma(2, scale=1)),
        rf.variance(stats.uniform(0, 40)),
        stats.beta(0.5, 0.5, scale=7.0),
    ],
    ids=lambda prior: scale_prior(prior, "sigma").text,
)
def test_priors_have_the_slope_of_their_log_density(prior):
    made = scale_prior(prior, "sigma")
    at = np.linspace(-3, 1.5, 10)[:, None]
    expected = differences(lambda x: made.log_density(x[:, 0]), at)[:, 0]
    np.testing.assert_allclose(made.log_density_gradient(at[:, 0]), expected, rtol=1e-6, atol=1e-7)


def test_a_pole_at_a_bound_keeps_its_slope():
    made = scale_prior(stats.beta(0.5, 0.5, scale=2.0), "sigma")
    share = 1 - np.array([1e-2, 1e-4, 1e-6])
    # d log f / d log s of s^-1/2 (1 - s)^-1/2, and one for the change to log s.
    expected = 0.5 + 0.5 * share / (1 - share)
    np.testing.assert_allclose(made.log_density_gradient(np.log(2 * share)), expected, rtol=1e-6)
    assert made.log_density_gradient(np.array([np.log(2.1)]))[0] == 0.0


def test_the_gradients_root_of_a_correlation_matrix_is_the_parameters():
    from ranef.likelihood.gradient import _correlation_moves

    z = np.random.default_rng(1).normal(size=(5, 6))
    np.testing.assert_allclose(_correlation_moves(z, 4)[0], correlation_root(z, 4), atol=1e-14)

"""Log likelihoods with group effects integrated out, against scipy's quadrature."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from ranef.families.table import FAMILIES, find_family
from ranef.likelihood.integrated.posterior import first_guess
from ranef.mixed_model.generalized import build_generalized
from ranef.samplers.generalized.group_effects import effect_moments, sample_group_effects

EVERY = [(name, link) for name, kind in FAMILIES.items() for link in kind.links]


def small(name, link, *, slope=False):
    """A small model, its rows and its family."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"g": np.repeat([0, 1, 2], [3, 1, 5]), "x": rng.standard_normal(9)})
    family = find_family(name, link)
    trials = None
    if name == "binomial":
        frame["n"], trials = [4, 0, 3, 2, 5, 1, 2, 9, 3], "n"
        frame["y"] = [1, 0, 3, 2, 0, 1, 1, 4, 2]
    elif name == "bernoulli":
        frame["y"] = [0, 1, 1, 0, 1, 1, 1, 1, 0]
    else:
        frame["y"] = [0, 3, 1, 8, 2, 2, 0, 1, 12]
    term = "(0 + x|g)" if slope else "(1|g)"
    return *build_generalized(f"y ~ x + {term}", frame, family, trials=trials), family


def by_quad(rows, family, v, refined):
    """The log likelihood at a vector, group by group."""
    beta, theta = (a[0] for a in refined.split(v[None]))
    sd, own = np.exp(theta[0]), tuple(np.exp(theta[1:])[:, None])
    n = np.ones(len(rows.y)) if rows.trials is None else rows.trials
    z = rows.slopes[:, 0] if rows.slopes.shape[1] else np.ones(len(rows.y))
    total = 0.0
    for g in range(3):
        at = np.flatnonzero(rows.codes[0] == g)
        y, m = rows.y[at, None], n[at, None]

        def log_f(u, at=at, y=y, m=m):
            eta = (rows.X[at] @ beta + sd * u * z[at])[:, None]
            rest = family.log_rests(y, own) + family.constants(y, m)
            return float(np.sum(family.log_density(eta, y, m, own) + rest))

        def f(u, log_f=log_f):
            return np.exp(log_f(u)) * stats.norm.pdf(u)

        total += np.log(integrate.quad(f, -12, 12, epsabs=1e-30, epsrel=1e-11, limit=400)[0])
    return total


@pytest.mark.parametrize(("name", "link"), EVERY)
@pytest.mark.parametrize("slope", [False, True])
def test_log_likelihood(name, link, slope):
    model, rows, family = small(name, link, slope=slope)
    guess = first_guess(model)
    d = guess.parameters.size
    points = np.array([[-0.5, 0.3, *([0.2] * d)], [0.2, -0.4, 1.5, *([1.0] * (d - 1))]])
    refined = guess.refined(points, 1e-9)
    ours = refined.log_density(points) - refined._log_prior(points)
    for v, value in zip(points, ours, strict=True):
        assert value == pytest.approx(by_quad(rows, family, v, refined), abs=1e-7)


@pytest.mark.parametrize(("name", "link"), EVERY)
def test_gradient(name, link):
    model, _, _ = small(name, link)
    target = first_guess(model)
    v = np.array([[-0.5, 0.3, *([0.2] * target.parameters.size)]])
    value, slope = target.gradient(v)
    assert value[0] == target.log_density(v)[0]
    for j in range(v.shape[1]):
        step = np.zeros_like(v)
        step[0, j] = 1e-4
        rise = target.log_density(v + step) - target.log_density(v - step)
        assert slope[0, j] == pytest.approx(rise[0] / 2e-4, abs=1e-5)


def crossed(name):
    """A small crossed model with a slope of its own, and its rows."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": np.repeat(range(4), 5), "h": np.tile(range(3), 7)[:20]})
    frame["x"], frame["y"] = rng.standard_normal(20), rng.integers(0, 2, 20)
    formula = "y ~ x + (1|g) + (1|h) + (0 + x|h)"
    # Of a t prior the curvature is only what is positive definite of it.
    priors = {"Intercept": "norm(0, 2.5)"}
    return build_generalized(formula, frame, find_family(name), priors)


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "negativebinomial"])
def test_kept_effects(name):
    model, rows = crossed(name)
    family, target = model.response, first_guess(model)
    k, d = model.rows.linear, model.parameters.size
    assert k == 2 + 3 + 3
    v = np.concatenate([0.5 * np.random.default_rng(1).standard_normal(k), np.full(d, 0.3)])
    v[k + 1] = -0.4
    beta, theta = (a[0] for a in target.split(v[None]))
    sds, own = np.exp(theta[:3]), tuple(np.exp(theta[3:])[:, None])
    x = rows.slopes[:, 0]
    eta = rows.X @ beta + sds[1] * v[2:5][rows.codes[1]] + sds[2] * v[5:8][rows.codes[1]] * x
    n = np.ones((20, 1))
    total = 0.0
    for g in range(4):
        at = np.flatnonzero(rows.codes[0] == g)
        y = rows.y[at, None]
        rest = np.sum(family.log_rests(y, own) + family.constants(y, n[at]) + 0 * y)

        def f(u, at=at, y=y, rest=rest):
            inner = family.log_density((eta[at] + sds[0] * u)[:, None], y, n[at], own)
            return np.exp(inner.sum() + rest) * stats.norm.pdf(u)

        total += np.log(integrate.quad(f, -12, 12, epsabs=1e-30, epsrel=1e-11)[0])
    prior = target._log_prior(v[None])[0]
    assert target.log_density(v[None])[0] - prior == pytest.approx(total, abs=1e-7)
    without = model.coefficients.log_density(beta[None])[0] + model.parameters.log_prior(
        theta[None]
    )
    scale = np.linalg.slogdet(model.rows.T)[1]
    assert prior == pytest.approx(without[0] + scale + stats.norm.logpdf(v[2:k]).sum())


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "negativebinomial"])
def test_gradient_and_curvature_with_kept_effects(name):
    model, _ = crossed(name)
    target, k = first_guess(model), model.rows.linear
    v = 0.4 * np.random.default_rng(2).standard_normal((1, k + model.parameters.size))
    _, slope = target.gradient(v)
    curvature = target.curvature(v[0])
    for j in range(v.shape[1]):
        step = np.zeros_like(v)
        step[0, j] = 1e-4
        rise = target.log_density(v + step) - target.log_density(v - step)
        assert slope[0, j] == pytest.approx(rise[0] / 2e-4, abs=1e-5)
        if j < k:
            bend = target.gradient(v + step)[1] - target.gradient(v - step)[1]
            np.testing.assert_allclose(curvature[:, j], -bend[0, :k] / 2e-4, atol=1e-3)


def test_merged_rows_change_nothing():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": rng.integers(0, 4, 300), "x": rng.integers(0, 2, 300)})
    frame["y"] = rng.integers(0, 2, 300)
    bernoulli, _ = build_generalized("y ~ x + (1|g)", frame, find_family("bernoulli"))
    assert len(bernoulli.rows.codes) == 8
    cells = frame.groupby(["g", "x"]).y.agg(["sum", "size"]).reset_index()
    binomial, _ = build_generalized(
        "sum ~ x + (1|g)", cells, find_family("binomial"), trials="size"
    )
    beta = np.array([[0.3, -0.2], [1.0, 0.5]])
    log_sd = np.array([[-0.3], [0.9]])
    values = []
    for model in (bernoulli, binomial):
        target = first_guess(model)
        v = np.column_stack([model.rows.internal(beta), log_sd])
        values.append(target.log_density(v) - target._log_prior(v) - model.constant)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "negativebinomial"])
def test_effects_are_draws_of_their_density(name):
    model, _, _ = small(name, None)
    target = first_guess(model)
    one = np.array([-0.5, 0.3, 0.4, *([0.2] * (target.parameters.size - 1))])
    v = np.tile(one, (6000, 1))
    target = target.refined(v[:1], 1e-9)
    b = sample_group_effects(target, v, np.random.default_rng(1))
    mean, sd = effect_moments(target, v[:1])
    block = next(target.blocks(v[:1]))
    u = np.linspace(-9, 9, 20_001)
    for g in range(3):
        others = np.zeros((3, 1))
        log_f = []
        for value in u:
            others[g] = value
            log_f.append(block.integrals.log_integrand(others)[g, 0])
        density = np.exp(np.array(log_f) - max(log_f))
        cdf = np.cumsum(density) / density.sum()
        scale = block.integrals.sd[0]

        def below(x, cdf=cdf, scale=scale):
            return np.interp(x / scale, u, cdf)

        test = stats.kstest(b[:, g], below)
        assert test.pvalue > 1e-4
        middle = scale * (u * density).sum() / density.sum()
        assert mean[g] == pytest.approx(middle, abs=1e-5)
        spread = np.sqrt(((scale * u - middle) ** 2 * density).sum() / density.sum())
        assert sd[g] == pytest.approx(spread, rel=1e-4)
        # The test sees a shift by a seventh of the SD.
        moved = stats.kstest(b[:, g] + 0.15 * spread, below)
        assert moved.pvalue < 1e-4

"""A model in other units is the same model: tolerances are relative to their own columns.

Columns, weights and the response change their units by powers of ten from -12 to 12; likelihood,
draws at the same seed, effects, predictions and leave-one-out change by nothing but the units.
"""

from __future__ import annotations

import numpy as np
import pytest

import ranef as rf
from ranef.errors import DataError

POWERS = [1e-12, 1e-5, 3e-6, 1e-2, 1e3, 1e7, 1e12]


def spread_slopes():
    """Groups whose covariate differs in spread by orders of magnitude, and so in Z'Z."""
    G, r = 12, 6
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(G), r)
    x = np.tile(np.linspace(-1, 1, r), G) * np.repeat(np.exp(1.2 * rng.normal(size=G)), r)
    y = rng.normal(size=G)[g] + 2 * rng.normal(size=G)[g] * x + 0.5 * rng.normal(size=G * r)
    return {"y": y, "x": x, "g": g, "h": rng.integers(0, 4, G * r), "w": rng.uniform(0.5, 2, G * r)}


@pytest.mark.parametrize("unit", [1, *POWERS])
def test_groups_keep_apart_however_small_their_covariate_is(unit):
    """-91.5303 from a dense normal."""
    data = spread_slopes()
    data["x"] = data["x"] * unit
    model = rf.model("y ~ x + (x|g)", data)
    value = model.log_likelihood({"x|g": np.diag([1, 4 / unit**2]), "sigma": 0.5})
    assert value == pytest.approx(-91.5303, abs=5e-5)


@pytest.mark.parametrize("unit", [1, 1e-5])
def test_effects_of_a_small_covariate_are_those_of_a_large_one(unit):
    """The first group's slope is -1.1914 with an SD of .5201 (192,000 draws), in any units."""
    data = spread_slopes()
    data["x"] = data["x"] * unit
    priors = {"sigma": "half_t(2)", "1|g": "half_t(2)", "x|g": f"half_t({2 / unit!r})"}
    fit = rf.fit("y ~ x + (x|g)", data, priors=priors, seed=1, draws=16_000)
    effects = fit.effects("x|g", prob=None)
    assert effects["mean"].iloc[0] * unit == pytest.approx(-1.1914, abs=5e-3)
    assert effects["sd"].iloc[0] * unit == pytest.approx(0.5201, abs=5e-3)


@pytest.mark.filterwarnings("ignore::ranef.errors.IdentifiabilityWarning")
def test_groups_keep_apart_beside_enormous_weights():
    """Two groups of weight 1e12 and two of weight 1, by their covariance matrix."""
    y, g = np.array([1e-6, -2e-6, 1.3, 0.1]), np.array([0, 1, 2, 3])
    w = np.array([1e12, 1e12, 1.0, 1.0])
    model = rf.model("y ~ 0 + (1|g)", {"y": y, "g": g, "w": w}, priors=PROPER, weights="w")
    variance = 0.25 + 1 / w
    expected = -0.5 * np.sum(np.log(2 * np.pi * variance) + y**2 / variance)
    assert model.log_likelihood({"1|g": 0.5, "sigma": 1.0}) == pytest.approx(expected, rel=1e-12)


PROPER = {"sigma": "half_t(2)", "1|g": "half_t(2)"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("formula", ["y ~ x + (x|g)", "y ~ x + (x|g) + (1|h)", "y ~ x + (1|g)"])
@pytest.mark.parametrize(
    ("u", "v", "t"),
    [
        (a, b, c)
        for a, b, c in zip(
            POWERS,
            [1e9, 1e-9, 1.0, 1e12, 1e-12, 1e-3, 1e6],
            [1e-12, 1e12, 1e6, 1e-6, 1.0, 1e9, 1e-9],
            strict=True,
        )
    ],
)
def test_the_likelihood_knows_no_units(formula, u, v, t):
    """Covariate times u, response times v, weights times t."""
    data = spread_slopes()
    other = {**data, "x": data["x"] * u, "y": data["y"] * v, "w": data["w"] * t}

    def value(table, x, y, w):
        S = np.array([[1.3, 0.4], [0.4, 0.9]]) * y**2 / np.outer([1, x], [1, x])
        terms = {"x|g": S} if "(x|g)" in formula else {"1|g": 1.1 * y}
        terms |= {"1|h": 0.6 * y} if "h)" in formula else {}
        model = rf.model(formula, table, weights="w")
        return [
            model.log_likelihood({**terms, "sigma": 0.5 * y * np.sqrt(w)}, reml=reml)
            for reml in (False, True)
        ]

    ml, reml = value(data, 1, 1, 1)
    n = len(data["y"])
    other_ml, other_reml = value(other, u, v, t)
    # Densities of the response, and for REML flat densities of two coefficients.
    assert other_ml == pytest.approx(ml - n * np.log(v), rel=1e-10, abs=1e-8)
    expected = reml - (n - 2) * np.log(v) - np.log(u)
    assert other_reml == pytest.approx(expected, rel=1e-10, abs=1e-8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("formula", ["y ~ x + (x|g)", "y ~ x + (1|g) + (1|h)", "y ~ x + (1|g)"])
@pytest.mark.parametrize(("u", "v"), [(1e-12, 1e12), (1e-5, 1.0), (1e12, 1e-12), (1e6, 1e6)])
def test_draws_and_answers_know_no_units(formula, u, v):
    """Fits with the same seed and priors that scale along."""

    def answers(x, y):
        data = spread_slopes()
        table = {**data, "x": data["x"] * x, "y": data["y"] * y}
        priors = {"sigma": f"half_t({2 * y!r})", "1|g": f"half_t({2 * y!r})"}
        if "(x|g)" in formula:
            priors["x|g"] = f"half_t({2 * y / x!r})"
        if "h)" in formula:
            priors["1|h"] = f"half_t({2 * y!r})"
        fit = rf.fit(formula, table, priors=priors, draws=800, seed=4, progress=False)
        mean = fit.summary()["mean"]
        scale = np.array([y / x if str(n).startswith("x") else y for n in mean.index])
        scale[[str(n).endswith("_corr") for n in mean.index]] = 1.0
        effects = fit.effects(prob=None)
        own = np.where(effects.index.get_level_values(0) == "x|g", y / x, y)
        rows = {k: np.asarray(c)[:5] for k, c in table.items()}
        loo = fit.loo(refit=False)
        return (
            mean.to_numpy() / scale,
            effects["mean"].to_numpy() / own,
            fit.predict(rows, seed=1).table()["mean"].to_numpy() / y,
            loo.elpd_i.to_numpy() + np.log(y),
        )

    for here, there in zip(answers(1, 1), answers(u, v), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4)


def test_covariances_of_columns_of_other_sizes_are_as_good():
    """SDs that differ by 1e6: the same likelihood as of columns in equal units."""
    data = spread_slopes()
    S = np.array([[1.0, 0.999], [0.999, 1.0]])
    unit = 1e-6
    expected = rf.model("y ~ x + (x|g)", data).log_likelihood({"x|g": S, "sigma": 0.5})
    model = rf.model("y ~ x + (x|g)", {**data, "x": data["x"] * unit})
    S = S / np.outer([1, unit], [1, unit])
    assert model.log_likelihood({"x|g": S, "sigma": 0.5}) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "matrix",
    [
        [[1e-10, 2e-10], [2e-10, 1e-10]],
        [[1.0, 2e-9], [2e-9, 1e-18]],
        [[-1e-20, 0.0], [0.0, 1.0]],
        [[0.0, 1e-12], [1e-12, 1.0]],
        [[1e-10, 1e-11], [-1e-11, 1e-10]],
    ],
)
def test_what_is_no_covariance_is_none_however_small(matrix):
    model = rf.model("y ~ x + (x|g)", spread_slopes())
    with pytest.raises(DataError, match="covariance matrix is expected"):
        model.log_likelihood({"x|g": matrix, "sigma": 0.5})

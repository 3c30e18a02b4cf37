"""One fit, one answer: what is asked twice, in two ways, or after saving, comes out the same."""

import numpy as np
import pandas as pd
import pytest

import ranef as rf


def crossed():
    rng = np.random.default_rng(3)
    g, h = np.repeat(np.arange(8), 6), np.tile(np.arange(6), 8)
    x, f = rng.normal(size=48), np.array(["a", "b", "c"])[rng.integers(3, size=48)]
    y = 2 + x + rng.normal(size=8)[g] + rng.normal(size=6)[h] + rng.normal(size=48)
    return pd.DataFrame({"y": y, "x": x, "f": f, "g": g, "h": h})


FORMULAS = {
    "crossed": "y ~ x + f + (1|g) + (1|h)",
    "slopes": "y ~ x + f + (x|g)",
    "intercepts": "y ~ x + f + (1|g)",
}

ANSWERS = {
    "summary": lambda fit: fit.summary(),
    "effects": lambda fit: fit.effects(threshold=0.5, highest=True),
    "difference": lambda fit: fit.effects("1|g", compare=("0", "1")),
    "probability": lambda fit: float(fit.probability("1|g[0] > 1|g[1]")),
    "contrast": lambda fit: fit.contrast({"x": 1, "f[b]": -1}).table(),
    "means": lambda fit: fit.marginal_means("f").table(),
    "predict": lambda fit: fit.predict().table(),
    "new": lambda fit: fit.predict(crossed().iloc[:5].assign(g=99), groups="new").table(),
    "draws": lambda fit: fit.predict(draws=True).draws,
    "fitted": lambda fit: fit.fitted(),
    "residuals": lambda fit: fit.residuals().values,
    "pit": lambda fit: fit.residuals("pit").values,
    "check": lambda fit: fit.check().table(),
    "shares": lambda fit: fit.variance_shares().table(),
    "loo": lambda fit: fit.loo().elpd_i.to_numpy(),
}


@pytest.fixture(scope="module", params=FORMULAS)
def fit(request):
    return rf.fit(FORMULAS[request.param], crossed(), draws=1000, seed=2)


@pytest.fixture(scope="module")
def loaded(fit, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "fit.nc"
    fit.save(path)
    return rf.load(path)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_same_question_gets_the_same_answer_and_after_loading_too(fit, loaded, name):
    first, second, third = (np.asarray(ANSWERS[name](one)) for one in (fit, fit, loaded))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_the_fits_own_seed_is_not_that_of_its_draws():
    data = crossed()
    for seed in (0, 2):
        one = rf.fit(FORMULAS["crossed"], data, draws=1000, seed=seed)
        assert one.stream().random() != np.random.default_rng(seed).random()
    other = rf.fit(FORMULAS["crossed"], data, draws=1000, seed=3)
    assert not np.array_equal(one.predict(draws=True).draws, other.predict(draws=True).draws)
    asked = one.predict(draws=True, seed=5).draws
    assert not np.array_equal(one.predict(draws=True).draws, asked)
    np.testing.assert_array_equal(asked, one.predict(draws=True, seed=5).draws)


def test_two_ways_to_ask_agree(fit):
    summary = fit.summary()
    row = fit.contrast({"x": 1}).table().iloc[0]
    for column in ("mean", "sd", "2.5%", "median", "97.5%"):
        assert row[column] == pytest.approx(summary.loc["x", column], rel=1e-12)
    assert float(fit.probability("x > 1")) == np.mean(fit.draws["posterior"]["x"] > 1)
    fitted = fit.fitted()
    residuals = fit.residuals()
    np.testing.assert_allclose(residuals.fitted, fitted["mean"], rtol=1e-12)
    np.testing.assert_allclose(residuals.values, crossed()["y"] - fitted["mean"], atol=1e-12)
    same = fit.predict(crossed()).table()
    np.testing.assert_allclose(same["mean"], fit.predict().table()["mean"], rtol=1e-12)


def test_the_plot_of_effects_shows_the_table(fit):
    table = fit.effects("1|g", prob=0.8).sort_values("mean")
    axis = fit.plot.effects(prob=0.8).axes[0]
    segments = axis.containers[0].lines[2][0].get_segments()
    ends = np.array([[s[0][0], s[1][0]] for s in segments])
    np.testing.assert_allclose(ends, table.iloc[:, 2:4].to_numpy(), rtol=1e-9)

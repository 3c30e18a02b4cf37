"""Residuals, leave-one-out probabilities and posterior predictive checks, against refits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef as rf
from ranef.answers.prediction.check import group_statistics
from ranef.answers.prediction.predictive import components, prepare
from ranef.answers.prediction.residuals import leave_one_out_pit
from ranef.formula.new_rows import fitted_rows
from ranef.posterior.draws import posterior_draws

pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.ReliabilityWarning")


def data(seed: int = 1, heavy: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, h = np.repeat(np.arange(8), 5), np.tile(np.arange(5), 8)
    x = rng.normal(size=40)
    e = rng.standard_t(1.5, size=40) if heavy else rng.normal(size=40)
    y = 5 + x + 1.5 * rng.normal(size=8)[g] + rng.normal(size=5)[h] + e
    return pd.DataFrame({"y": y, "x": x, "w": rng.uniform(0.5, 2, 40), "g": g, "h": h})


def test_leave_one_out_moments_are_those_of_the_other_rows():
    """At one parameter vector, against the conditional normal of y_i given the others."""
    frame = data()
    fit = rf.fit("y ~ x + (1|g)", frame, weights="w", seed=1, draws=64)
    drawn = posterior_draws(fit.draws, fit.source.model).take(np.array([7]))
    rows = fitted_rows(fit.source.rows, "response", "conditional")
    given = prepare(drawn, rows, np.random.default_rng(0))
    mean, variance = components(given, rows, slice(None))
    noise = given.sigma2[:, None] / rows.weights
    y = frame["y"].to_numpy()
    pit = leave_one_out_pit(y, mean, variance, noise)
    X = rows.X
    V = np.exp(2 * drawn.theta[0, 0]) * (rows.codes[0][:, None] == rows.codes[0]) + np.diag(
        noise[0]
    )
    expected = np.empty(40)
    for i in range(40):
        rest = np.arange(40) != i
        K = np.linalg.inv(V[np.ix_(rest, rest)])
        A = np.linalg.inv(X[rest].T @ K @ X[rest])
        beta = A @ X[rest].T @ K @ y[rest]
        middle = X[i] @ beta + V[i, rest] @ K @ (y[rest] - X[rest] @ beta)
        a = X[i] - V[i, rest] @ K @ X[rest]
        spread = V[i, i] - V[i, rest] @ K @ V[rest, i] + a @ A @ a
        expected[i] = stats.norm.cdf((y[i] - middle) / np.sqrt(spread))
    np.testing.assert_allclose(pit, expected, rtol=1e-8)


@pytest.mark.parametrize("formula", ["y ~ x + (1|g)", "y ~ x + (1|g) + (1|h)"])
def test_leave_one_out_against_refits(formula):
    frame = data()
    frame.loc[11, "y"] += 4.0
    fit = rf.fit(formula, frame, seed=1)
    pit = fit.residuals("pit", seed=2).values
    pick = [0, 11, 23, 39]
    within = []
    for i in pick:
        refit = rf.fit(formula, frame.drop(index=i), seed=3)
        made = refit.predict(frame.iloc[[i]], "response", seed=4, draws=True)
        below = (made.draws[:, 0] < frame["y"][i]).mean()
        error = np.sqrt(2 * max(below * (1 - below), 1 / 4000) / refit.certificate.ess)
        assert abs(pit[i] - below) < 5 * error
        own = fit.predict(frame.iloc[[i]], "response", seed=4, draws=True).draws[:, 0]
        within.append(abs((own < frame["y"][i]).mean() - below) / error)
    # The row's own prediction, which has seen it, is told apart.
    assert max(within) > 5


def test_a_row_that_no_other_speaks_of_has_no_probability():
    frame = data().assign(f=["a"] * 20 + ["b"] * 19 + ["c"])
    with pytest.warns(rf.SingleRowWarning):
        fit = rf.fit("y ~ f + (1|h)", frame, seed=1, draws=64)
    pit = fit.residuals("pit").values
    assert np.flatnonzero(np.isnan(pit)).tolist() == [39]


def test_residuals_are_uniform_and_normal_where_the_model_is_right():
    frame = pd.concat([data(s).assign(g=lambda d, s=s: d["g"] + 8 * s) for s in range(10)])
    fit = rf.fit("y ~ x + (1|g)", frame, weights="w", seed=1)
    pit, response, pearson = (fit.residuals(k).values for k in ("pit", "response", "pearson"))
    fitted = fit.fitted()
    np.testing.assert_allclose(response, fit.source.rows.y - fitted["mean"], rtol=1e-9)
    sigma = np.sqrt((fit.draws["posterior"]["sigma"].to_numpy() ** 2).mean())
    np.testing.assert_allclose(pearson, response / sigma * np.sqrt(frame["w"]), rtol=1e-9)
    assert stats.kstest(pit, "uniform").pvalue > 1e-3
    heavy = pd.concat([data(s, True).assign(g=lambda d, s=s: d["g"] + 8 * s) for s in range(10)])
    wrong = rf.fit("y ~ x + (1|g)", heavy, seed=1)
    assert stats.kstest(wrong.residuals("pit").values, "uniform").pvalue < 1e-3


def test_group_statistics():
    rng = np.random.default_rng(1)
    codes = rng.permutation(np.repeat(np.arange(4), [2, 3, 5, 2]))
    Y = rng.normal(size=(3, 12)) + rng.normal(size=4)[codes]
    between, within, icc = group_statistics(Y, codes)
    for k in range(3):
        groups = [Y[k, codes == j] for j in range(4)]
        f = stats.f_oneway(*groups).statistic
        pooled = sum(((v - v.mean()) ** 2).sum() for v in groups) / 8
        n0 = (12 - (4 + 9 + 25 + 4) / 12) / 3
        assert between[k] == pytest.approx(np.std([v.mean() for v in groups], ddof=1))
        assert within[k] == pytest.approx(np.sqrt(pooled))
        assert icc[k] == pytest.approx((f - 1) / (f + n0 - 1))
    offset = group_statistics(Y + 1e9, codes)
    np.testing.assert_allclose(offset[2], icc, rtol=1e-5)


@pytest.mark.parametrize("groups", ["conditional", "new"])
def test_replicated_data_have_the_predictive_distribution(groups):
    fit = rf.fit("y ~ x + (1|g)", data(), weights="w", seed=1)
    first = fit.check({"first": lambda y: y[0]}, groups=groups, replications=4000, seed=1)
    ask = data().head(1).assign(g=0 if groups == "conditional" else 99)
    made = fit.predict(ask, "response", "new")
    ess = fit.certificate.ess
    found = first.replicated[:, 0]
    assert abs(found.mean() - made.mean[0]) < 5 * made.sd[0] / np.sqrt(ess)
    assert abs(found.std() - made.sd[0]) < 5 * made.sd[0] / np.sqrt(ess)
    other = "new" if groups == "conditional" else "conditional"
    wrong = fit.check({"first": lambda y: y[0]}, groups=other, replications=4000, seed=1)
    assert abs(wrong.replicated.std() - made.sd[0]) > 5 * made.sd[0] / np.sqrt(ess)


def test_checks_find_what_the_model_does_not_have():
    good = rf.fit("y ~ x + (1|g) + (1|h)", data(), seed=1).check(groups="new", seed=1)
    assert set(good.names) >= {"mean", "sd", "min", "max", "icc[g]", "between_sd[h]"}
    assert good.p_values.min() > 0.005
    assert good.p_values.max() < 0.995
    outlier = data()
    outlier.loc[11, "y"] += 25
    reach = {"reach": lambda y: np.abs(y - np.median(y)).max() / stats.iqr(y)}
    assert rf.fit("y ~ x + (1|g)", outlier, seed=1).check(reach, seed=1).p_values[0] < 0.01
    # Groups that the model leaves out show in the statistics of that factor's means.
    frame = data()
    frame["y"] += 4 * (frame["h"] == 2)
    without = rf.fit("y ~ x + (1|g)", frame, seed=1)
    means = {"h": lambda y: pd.Series(y).groupby(frame["h"].to_numpy()).mean().std()}
    assert without.check(means, seed=1).p_values[0] < 0.01


def test_checks_print_draw_and_survive_saving(tmp_path):
    fit = rf.fit("log(y) ~ x + (1|g)", data().assign(y=lambda d: np.exp(d["y"] / 5)), seed=1)
    fit.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    made, loaded = (f.check(["max", "icc"], seed=3, replications=200) for f in (fit, again))
    pd.testing.assert_frame_equal(made.table(), loaded.table(), rtol=1e-9)
    assert list(made.table().columns) == ["observed", "mean", "sd", "lower", "upper", "p_value"]
    assert str(made).splitlines()[1] == (
        "200 replicated data sets, groups conditional, 95% intervals"
    )
    figure = made.plot()
    assert [a.get_xlabel() for a in figure.axes if a.get_visible()] == ["log(y)", "max", "icc"]
    for kind in ("response", "pearson", "pit"):
        ours, theirs = fit.residuals(kind), again.residuals(kind)
        pd.testing.assert_frame_equal(ours.table(), theirs.table(), rtol=1e-6)
        assert ours.plot().axes[0].get_xlabel() == "fitted log(y)"
        assert str(ours).splitlines()[1] == f"{kind} residuals of 40 rows"
    one_each = rf.fit("y ~ 1 + (1|i)", data().assign(i=range(40)), se="w", seed=1, draws=64)
    assert "icc" not in one_each.check(seed=1).names


def test_bad_input():
    fit = rf.fit("y ~ x + (1|g)", data(), seed=1, draws=64)
    for options, message in (
        ({"statistics": ["maximum"]}, "statistics names 'maximum'. Did you mean 'max'"),
        ({"statistics": "max"}, "a list of names is expected"),
        ({"statistics": {"all": lambda y: y}}, r"'all' gave an array of shape \(40,\)"),
        ({"groups": "marginal"}, "groups is 'marginal'"),
        ({"replications": 0}, "replications is 0"),
        ({"interval": 2}, "interval is 2"),
        ({"seed": "x"}, "seed is 'x'"),
    ):
        with pytest.raises(rf.DataError, match=message):
            fit.check(**options)
    with pytest.raises(rf.DataError, match="kind is 'deviance'"):
        fit.residuals("deviance")

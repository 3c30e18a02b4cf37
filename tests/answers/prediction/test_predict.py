"""Predictions against closed forms, dense algebra, quadrature and brute-force simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef as rf
from helpers import limit
from ranef.answers.prediction.predictive import components, prepare
from ranef.formula.expressions import model_matrix, parse_side
from ranef.formula.new_rows import fitted_rows, new_rows
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate
from ranef.numerics import mixtures
from ranef.posterior.draws import posterior_draws

# Tests of how rows are read take few draws.
pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.ReliabilityWarning")
IG = {
    "1|g": "variance(invgamma(2, scale=3))",
    "sigma": "variance(invgamma(2, scale=2))",
}


def rows_frame(seed: int = 1, n: int = 90, groups: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.append(np.arange(groups), rng.integers(0, groups, n - groups))
    x, z = rng.normal(2, 1, n), rng.normal(size=n)
    f = rng.choice(["low", "mid", "high"], n)
    b = rng.normal(size=(groups, 2)) @ np.array([[1.5, 0.4], [0, 0.7]])
    y = 30 + 2 * x + (f == "mid") + b[g, 0] + b[g, 1] * x + rng.normal(size=n)
    return pd.DataFrame(
        {
            "y": y,
            "x": x,
            "z": z,
            "f": pd.Categorical(f, ["low", "mid", "high"]),
            "k": rng.integers(0, 3, n),
            "b": rng.random(n) < 0.5,
            "g": [f"g{i}" for i in g],
            "h": rng.choice(["u", "v", "w", "t"], n),
            "w": rng.uniform(0.5, 2, n),
        }
    )


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return rows_frame()


@pytest.fixture(scope="module")
def slopes(data) -> rf.Fit:
    return rf.fit("y ~ x + f + (x|g)", data, weights="w", effects="draws", seed=2)


@pytest.fixture(scope="module")
def crossed(data) -> rf.Fit:
    return rf.fit("y ~ x + (x|g) + (1|h)", data, effects="draws", seed=3)


# Against closed forms


def balanced(seed: int = 5, groups: int = 6, size: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), size)
    y = 20 + 1.5 * rng.normal(size=groups)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "g": g})


def quadrature(frame: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Nodes of rho with weights, s and R of sigma^2 | rho ~ IG(s, R), by mathematics.md, 2."""
    means = frame.groupby("g")["y"].mean().to_numpy()
    G, N = len(means), len(frame)
    m = N // G
    ssw = float(((frame["y"] - means[frame["g"]]) ** 2).sum())
    ssb = float(((means - means.mean()) ** 2).sum())
    rho = np.linspace(-12, 12, 20_001)
    r = np.exp(rho)
    s = 2 + 2 + (N - 1) / 2
    R = 2 + 3 / r + (ssw + m / (1 + m * r) * ssb) / 2
    log_p = -2 * rho - (G - 1) / 2 * np.log1p(m * r) - s * np.log(R)
    p = np.exp(log_p - log_p.max())
    return r, p / p.sum(), np.full(len(r), s), R, means, m


def test_balanced_random_intercept_against_quadrature():
    frame = balanced()
    fit = rf.fit("y ~ 1 + (1|g)", frame, priors=IG, seed=4)
    r, p, s, R, means, m = quadrature(frame)
    G, n = len(means), 4000
    w = m * r / (1 + m * r)
    level = means.mean() + w[:, None] * (means - means.mean())
    # Given rho, mean and new observation of a group are t with 2s degrees of freedom; units sigma^2
    unit = w / m + (1 - w) ** 2 * (1 + m * r) / (m * G)
    new_level = means.mean()
    new_unit = r + (1 + m * r) / (m * G)
    ask = pd.DataFrame({"g": [*range(G), 99]})
    spread = np.sqrt(np.sum(p * w**2) - np.sum(p * w) ** 2)
    for kind, residual in (("mean", 0.0), ("response", 1.0)):
        table = fit.predict(ask, kind, "new").table()
        for i in range(G + 1):
            middle = level[:, i] if i < G else np.full(len(r), new_level)
            scale = np.sqrt(((unit if i < G else new_unit) + residual) * R / s)
            exact = np.sum(p * middle)
            error = 5 * max(abs(means - means.mean())) * spread / np.sqrt(n)
            assert abs(table["mean"][i] - exact) < max(error, 1e-9)
            for bound, prob in (("lower", 0.025), ("upper", 0.975)):
                below = np.sum(p * stats.t.cdf((table[bound][i] - middle) / scale, 2 * s))
                # Means over normals vary less than counts of draws, which set the scale.
                assert abs(below - prob) < 5 * np.sqrt(0.025 * 0.975 / n)
    # A prediction that does not shrink is caught.
    raw = abs(means - [np.sum(p * level[:, i]) for i in range(G)])
    assert raw.max() > max(error, 1e-9)


def dense(fit: rf.Fit, eta: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance of each row's mean at one parameter vector, by N x N algebra."""
    source = fit.source
    rows = fitted_rows(source.rows, "mean", "conditional")
    layout = source.model.parameters
    roots = layout.roots(eta[None])
    tau2 = np.exp(2 * layout.log_sigma(eta[None])[0])
    V = np.zeros((len(rows), len(rows)))
    for codes, Z, root in zip(rows.codes, rows.Z, roots, strict=True):
        S = tau2 * root[0] @ root[0].T
        V += (codes[:, None] == codes) * (Z @ S @ Z.T)
    noise = np.diag(tau2 / weights)
    inverse = np.linalg.inv(V + noise)
    X, y = rows.X, rows.y - rows.offset
    A = np.linalg.inv(X.T @ inverse @ X)
    P = inverse - inverse @ X @ A @ X.T @ inverse
    return rows.offset + y - noise @ P @ y, np.diag(noise - noise @ P @ noise)


def test_components_of_one_factor_against_dense_algebra(slopes, data):
    drawn = posterior_draws(slopes.draws, slopes.source.model)
    rows = fitted_rows(slopes.source.rows, "mean", "conditional")
    given = prepare(drawn, rows, np.random.default_rng(0))
    mean, variance = components(given, rows, slice(None))
    for i in (0, 1234, 3999):
        m, v = dense(slopes, drawn.theta[i], data["w"].to_numpy())
        np.testing.assert_allclose(mean[i], m, rtol=1e-9)
        np.testing.assert_allclose(variance[i], v, rtol=1e-7)
    # Coefficients and effects are negatively correlated: leaving that out would be seen.
    apart = components_without_covariance(given, rows)
    assert np.max(np.abs(apart / variance - 1)) > 0.5


def test_where_integration_is_expensive_coefficients_are_drawn(slopes, data, monkeypatch):
    new = data.assign(g=data["g"].replace({"g3": "new"}))
    exact = slopes.predict(new, groups="new").table()
    limit(monkeypatch, "PREDICTED_ROWS", seconds=0.0)
    drawn = slopes.predict(new, groups="new").table()
    error = exact["sd"] / np.sqrt(slopes.certificate.ess)
    assert np.abs((drawn["mean"] - exact["mean"]) / error).max() < 5
    assert np.abs((drawn["sd"] - exact["sd"]) / error).max() < 5
    assert not np.array_equal(drawn["mean"], exact["mean"])


def components_without_covariance(given, rows) -> np.ndarray:
    """What adding up the variances of X beta and Z b would give."""
    bare = rows.__class__(**{**rows.__dict__, "codes": (np.full(len(rows), -1),)})
    zero = rows.__class__(**{**bare.__dict__, "Z": tuple(0 * z for z in rows.Z)})
    effects = rows.__class__(**{**rows.__dict__, "X": 0 * rows.X})
    part = slice(None)
    return components(given, zero, part)[1] + components(given, effects, part)[1]


@pytest.mark.parametrize("which", ["slopes", "crossed"])
@pytest.mark.parametrize("kind", ["mean", "response"])
def test_against_brute_force_from_stored_effects(which, kind, request, data):
    fit = request.getfixturevalue(which)
    weights = data["w"].to_numpy() if which == "slopes" else np.ones(len(data))
    drawn = posterior_draws(fit.draws, fit.source.model)
    rows = fitted_rows(fit.source.rows, "mean", "conditional")
    b = {k: fit.draws["posterior"][k].to_numpy() for k in ("1|g", "x|g")}
    b = {k: v.reshape(-1, v.shape[-1]) for k, v in b.items()}
    codes = rows.codes[0]

    def simulate(order: np.ndarray) -> np.ndarray:
        mu = drawn.beta @ rows.X.T
        mu += b["1|g"][order][:, codes] + b["x|g"][order][:, codes] * data["x"].to_numpy()
        if which == "crossed":
            h = fit.draws["posterior"]["1|h"].to_numpy()
            mu += h.reshape(-1, h.shape[-1])[:, rows.codes[1]]
        if kind == "response":
            rng = np.random.default_rng(9)
            mu += (
                np.exp(drawn.log_sigma)[:, None] / np.sqrt(weights) * rng.standard_normal(mu.shape)
            )
        return mu

    table = fit.predict(kind=kind, seed=1).table()
    n, order = fit.certificate.ess, np.arange(len(drawn.theta))

    def z_scores(mu: np.ndarray) -> np.ndarray:
        sd = mu.std(axis=0)
        # Two sets of draws where effects are drawn again, one and exact moments else.
        error = np.sqrt(2 / n) * sd
        parts = [(table["mean"] - mu.mean(axis=0)) / error, (table["sd"] - sd) / error]
        for bound, prob in (("lower", 0.025), ("upper", 0.975)):
            share = (mu < table[bound].to_numpy()).mean(axis=0)
            parts.append((share - prob) / np.sqrt(2 * 0.025 * 0.975 / n))
        return np.abs(np.array(parts))

    # 360 comparisons, correlated: 5 standard errors.
    assert z_scores(simulate(order)).max() < 5
    if kind == "mean":
        assert z_scores(simulate(np.random.default_rng(0).permutation(order))).max() > 10


@pytest.mark.parametrize("which", ["slopes", "crossed"])
def test_joint_draws_agree_with_the_table(which, request, data):
    fit = request.getfixturevalue(which)
    new = data.head(6).assign(g=["g0", "g0", "new", "new", "other", "g1"])
    for kind in ("mean", "response"):
        made = fit.predict(new, kind, "new", seed=5, draws=True)
        error = np.sqrt(2 / fit.certificate.ess) * made.sd
        assert np.abs((made.draws.mean(axis=0) - made.mean) / error).max() < 5
        assert np.abs((made.draws.std(axis=0) - made.sd) / error).max() < 5


# Groups


def test_rows_of_a_new_level_share_its_effect():
    fit = rf.fit("y ~ 1 + (1|g)", balanced(), priors=IG, seed=4)
    new = pd.DataFrame({"g": ["n1", "n2", "n1", "g"]})
    draws = fit.predict(new, groups="new", seed=1, draws=True).draws
    np.testing.assert_array_equal(draws[:, 0], draws[:, 2])
    assert np.corrcoef(draws[:, 0], draws[:, 1])[0, 1] < 0.5
    drawn = posterior_draws(fit.draws, fit.source.model)
    level = draws[:, 0] - drawn.beta[:, 0]
    # Standardised by sigma_b of the same draw, the effects are standard normal.
    assert stats.kstest(level / np.exp(drawn.theta[:, 0]), "norm").pvalue > 1e-4
    assert stats.kstest(1.2 * level / np.exp(drawn.theta[:, 0]), "norm").pvalue < 1e-4
    response = fit.predict(new, "response", "new", seed=1, draws=True).draws
    # What rows of one level have in common is intercept and effect.
    shared = np.var(draws[:, 0]) / np.var(response[:, 0])
    found = np.corrcoef(response[:, 0], response[:, 2])[0, 1]
    assert abs(found - shared) < 5 / np.sqrt(len(draws))


def test_variance_of_a_new_group_is_the_mixture():
    fit = rf.fit("y ~ x + f + (x|g)", rows_frame(), seed=2)
    drawn = posterior_draws(fit.draws, fit.source.model)
    new = pd.DataFrame({"x": [3.0], "f": ["mid"], "g": ["new"]})
    table = fit.predict(new, "response", "new").table()
    eta = drawn.theta
    sd1, sd2 = np.exp(eta[:, 0]), np.exp(eta[:, 1])
    group = sd1**2 + 9 * sd2**2 + 6 * np.tanh(eta[:, 2]) * sd1 * sd2
    given = group + np.exp(2 * drawn.log_sigma)
    fixed = drawn.beta @ [1.0, 3.0, 1.0, 0.0]
    total = np.sqrt(given.mean() + fixed.var())
    error = 5 * total * np.sqrt(2 / fit.certificate.ess)
    assert abs(table["sd"][0] - total) < error
    assert abs(np.sqrt(np.exp(2 * drawn.log_sigma).mean() + fixed.var()) - total) > error
    own = mixtures.cdf(table["upper"].to_numpy(), fixed[:, None], np.sqrt(given[:, None]))
    assert abs(own[0] - 0.975) < 5 * np.sqrt(0.025 * 0.975 / len(eta))


def test_marginal_is_the_population(slopes, data):
    drawn = posterior_draws(slopes.draws, slopes.source.model)
    table = slopes.predict(groups="marginal").table()
    fixed = drawn.beta @ slopes.source.rows.X.T
    error = fixed.std(axis=0) * np.sqrt(2 / slopes.certificate.ess)
    assert np.abs((table["mean"] - fixed.mean(axis=0)) / error).max() < 5
    assert np.abs((table["sd"] - fixed.std(axis=0)) / error).max() < 5
    # A response from the population is one from a new group.
    one = data.head(5).drop(columns=["g", "y"])
    ours = slopes.predict(one, "response", "marginal").table()
    theirs = slopes.predict(one.assign(g="new"), "response", "new").table()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    draws = slopes.predict(one, "response", "marginal", seed=1, draws=True).draws
    error = np.sqrt(2 / len(draws)) * ours["sd"].to_numpy()
    assert np.abs((draws.std(axis=0) - ours["sd"].to_numpy()) / error).max() < 5
    # The mean does not even need what varies by group.
    bare = rf.fit("y ~ f + (x|g)", data, seed=1, draws=400)
    assert len(bare.predict({"f": ["low", "high"]}, groups="marginal").table()) == 2


def test_known_levels_keep_their_effects_beside_new_ones(crossed, data):
    new = data.head(3).assign(g=["new", *data["g"][1:3]])
    mixed = crossed.predict(new, groups="new", seed=1).table()
    known = crossed.predict(data.iloc[1:3], seed=1).table()
    np.testing.assert_allclose(mixed.iloc[1:], known, rtol=0.05)
    assert mixed["sd"].iloc[0] > 2 * known["sd"].max()


def test_a_new_level_inside_a_known_one():
    rng = np.random.default_rng(0)
    a, b = np.repeat(np.arange(8), 12), np.tile(np.repeat(np.arange(4), 3), 8)
    y = 3 * rng.normal(size=8)[a] + rng.normal(size=(8, 4))[a, b] + 0.5 * rng.normal(size=96)
    frame = pd.DataFrame({"y": y, "a": a, "b": b})
    fit = rf.fit("y ~ 1 + (1|a/b)", frame, seed=1)
    new = pd.DataFrame({"a": [2, 2, 77], "b": [1, 9, 1]})
    with pytest.raises(rf.DataError, match="'2:9'"):
        fit.predict(new.head(2))
    sd = fit.predict(new, groups="new", seed=1).table()["sd"]
    assert 2 * sd[0] < sd[1] < sd[2] / 2
    mean = fit.predict(new, groups="new", seed=1).table()["mean"]
    assert abs(mean[1] - y[a == 2].mean()) < abs(mean[2] - y[a == 2].mean())


# Columns


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ poly(x, 2) + f + (1|g)",
        "y ~ C(k) + x:f + (1|g)",
        "y ~ bs(x, df=4) + offset(z) + (1|g)",
        "y ~ scale(x) * f + (scale(x)|g)",
        "log(y) ~ center(x) + b + offset(2 * z) + (f||g)",
        "y ~ x + (x|g) + (0 + f|h)",
        "y ~ C(f, contr.sum) + (1|g:h)",
    ],
)
def test_transforms_and_contrasts_are_those_of_the_fit(formula, data):
    fit = rf.fit(formula, data, seed=1, draws=200)
    rows, spec = fit.source.rows, fit.source.model.spec
    pick = [17, 3, 55, 4, 80]
    # The response is not needed, nor all levels of a factor; categories may be plain text.
    some = data.iloc[pick].drop(columns="y").assign(f=lambda d: d["f"].astype(str))
    ours, whole = new_rows(spec, some, "response", "new"), fitted_rows(rows, "mean", "new")
    np.testing.assert_allclose(ours.X, whole.X[pick], atol=1e-12)
    np.testing.assert_allclose(ours.offset, whole.offset[pick], atol=1e-12)
    for mine, all_rows in zip(ours.Z, whole.Z, strict=True):
        np.testing.assert_allclose(mine, all_rows[pick], atol=1e-12)
    for mine, all_rows in zip(ours.codes, whole.codes, strict=True):
        np.testing.assert_array_equal(mine, all_rows[pick])
    table = fit.predict(some, "response", seed=1).table()
    assert list(table.index) == pick
    if "scale" in formula:
        fresh = model_matrix(
            parse_side(spec.formula.fixed, spec.formula, intercept=True), spec.formula, some
        )
        assert np.abs(fresh["scale(x)"].to_numpy() - ours.X[:, 1]).max() > 0.1
    if formula.startswith("log"):
        assert abs(table["mean"].mean() - np.log(data["y"]).mean()) < 3


@pytest.mark.filterwarnings("ignore::ranef.errors.IdentifiabilityWarning")
def test_combinations_are_looked_up_by_the_labels_of_their_columns():
    rng = np.random.default_rng(3)
    pairs = [("a", "b:c"), ("a:b", "c"), ("a", "c"), ("d", "b:c")]
    g, h = (np.repeat(v, 5) for v in zip(*pairs, strict=True))
    spec = evaluate(
        parse_formula("y ~ 1 + (1|g:h)"), pd.DataFrame({"y": rng.normal(size=20), "g": g, "h": h})
    ).spec
    new = pd.DataFrame({"g": ["a:b", "a", "a:b", "d"], "h": ["c", "b:c", "b:c", "b:c"]})
    found = new_rows(spec, new, "mean", "new")
    same = {levels: k for k, levels in enumerate(zip(*spec.factors[0].labels, strict=True))}
    assert found.codes[0].tolist() == [same["a:b", "c"], same["a", "b:c"], 4, same["d", "b:c"]]
    assert found.new_levels == (("a:b:b:c",),)


def test_columns_equal_in_the_data_may_differ_in_new_rows(data):
    data = data.assign(x2=data["x"])
    fit = rf.fit("y ~ x + (0 + x|g) + (0 + x2|h)", data, seed=1, draws=400)
    new = data.head(1).assign(x2=0.0)
    rows = new_rows(fit.source.model.spec, new, "mean", "new")
    assert rows.Z[0][0, 0] == data["x"][0]
    assert rows.Z[1][0, 0] == 0.0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ poly(x, 2) + f + b + (1 + b|g)", {"weights": "w"}),
        ("y ~ x + double + offset(z) + (1|g)", {"aliased": "drop", "se": "w"}),
        ("y ~ scale(x) + (1|code) + (1|h)", {}),
    ],
)
def test_a_loaded_fit_predicts_the_same(formula, options, data, tmp_path):
    data = data.assign(
        double=2 * data["x"], code=pd.Categorical(data["k"] * 2 + data["b"].astype(int))
    )
    fit = rf.fit(formula, data, seed=1, draws=400, **options)
    fit.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    new = data.head(7)
    for rows in (None, new):
        for kind, groups in (("mean", "conditional"), ("response", "new"), ("mean", "marginal")):
            ours = fit.predict(rows, kind, groups, seed=1).table()
            theirs = again.predict(rows, kind, groups, seed=1).table()
            pd.testing.assert_frame_equal(ours, theirs, rtol=1e-9)
    same = fit.predict(data, seed=1).table()
    pd.testing.assert_frame_equal(same, fit.predict(seed=1).table(), rtol=1e-9)


@pytest.mark.parametrize("which", ["slopes", "crossed"])
def test_order_of_rows_and_blocks_change_nothing(which, request, data, monkeypatch):
    fit = request.getfixturevalue(which)
    new = data.assign(g=data["g"].replace({"g3": "new1", "g5": "new2"}))
    whole = fit.predict(new, "response", "new", seed=1).table()
    turned = fit.predict(new.iloc[::-1], "response", "new", seed=1).table()
    pd.testing.assert_frame_equal(whole, turned.iloc[::-1], rtol=1e-9)
    parts = pd.concat(
        fit.predict(new.iloc[a : a + 30], "response", "new", seed=1).table() for a in (0, 30, 60)
    )
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-9)
    limit(monkeypatch, "PREDICTED_ROWS", block=500_000)
    limit(monkeypatch, "PREDICTED_EFFECTS", block=500_000)
    pd.testing.assert_frame_equal(
        whole, fit.predict(new, "response", "new", seed=1).table(), rtol=1e-9
    )


def test_known_standard_errors_give_each_row_its_own_residual():
    rng = np.random.default_rng(3)
    se = rng.uniform(0.5, 2, 25)
    frame = pd.DataFrame({"y": rng.normal(size=25) + se * rng.normal(size=25), "se": se})
    frame["study"] = [f"s{i}" for i in range(25)]
    fit = rf.fit("y ~ 1 + (1|study)", frame, se="se", seed=1)
    mean = fit.predict({"study": ["new"]}, groups="new").table()["sd"][0]
    response = fit.predict({"study": ["new"] * 2, "se": [1.0, 3.0]}, "response", "new").table()
    np.testing.assert_allclose(response["sd"] ** 2, mean**2 + np.array([1.0, 9.0]), rtol=1e-12)
    with pytest.raises(rf.DataError, match=r"lack column 'se'.*kind='mean'"):
        fit.predict({"study": ["new"]}, "response", "new")


def test_coverage_of_new_groups():
    """Parameters from their priors: then an exact 95% interval covers in 95% of all data sets."""
    hits, bare, total = 0, 0, 100
    rng = np.random.default_rng(20)
    g = np.repeat(np.arange(5), 3)
    for seed in range(total):
        sd_b, sd_e = np.sqrt(stats.invgamma.rvs(2, scale=[3, 2], random_state=rng))
        frame = pd.DataFrame({"y": sd_b * rng.normal(size=5)[g] + sd_e * rng.normal(size=15)})
        fit = rf.fit("y ~ 1 + (1|g)", frame.assign(g=g), priors=IG, draws=400, seed=seed)
        made = fit.predict({"g": ["new"]}, "response", "new", 0.8)
        known = fit.predict({"g": [0]}, "response", interval=0.8)
        y = np.hypot(sd_b, sd_e) * rng.normal()
        hits += int(made.lower[0] <= y <= made.upper[0])
        half = (known.upper[0] - known.lower[0]) / 2
        bare += int(abs(y - made.mean[0]) < half)
    assert stats.binomtest(hits, total, 0.8).pvalue > 1e-3
    # An interval as wide as that of a known group does not cover.
    assert stats.binomtest(bare, total, 0.8).pvalue < 1e-3


# Bad input


@pytest.mark.parametrize(
    ("change", "groups", "message"),
    [
        ({"f": "huge"}, "conditional", "'f' has 'huge' in the new rows.*no coefficient"),
        ({"f": 1.5}, "conditional", "'f' has '1.5'"),
        ({"k": 7}, "conditional", r"'C\(k\)' has '7'.*its levels are '0', '1', '2'"),
        ({"b": 3}, "conditional", "'b' of the new rows holds '3'"),
        ({"x": "a"}, "conditional", "'x' must be numeric"),
        ({"x": np.nan}, "conditional", "'x' of the new rows has no value in row 1"),
        ({"x": np.inf}, "conditional", "infinite"),
        ({"g": "nobody"}, "conditional", "'g' of the new rows holds 'nobody'.*groups='new'"),
        ({"g": None}, "conditional", "'g' of the new rows has no value"),
        ({"x": None}, "marginal", "'x' of the new rows has no value"),
    ],
)
def test_rows_that_cannot_be_predicted(change, groups, message, data):
    fit = rf.fit("y ~ x + f + C(k) + b + (1|g)", data, seed=1, draws=64)
    new = data.head(2).drop(columns=list(change)).assign(**change)
    with pytest.raises(rf.DataError, match=message):
        fit.predict(new, groups=groups)


def test_other_bad_input(slopes, data):
    with pytest.raises(rf.DataError, match="lack column 'x', which the formula"):
        slopes.predict(data.drop(columns="x"))
    with pytest.raises(rf.DataError, match="lack column 'w', from which the residual SD"):
        slopes.predict(data.drop(columns="w"), kind="response")
    with pytest.raises(rf.DataError, match="'w' is -1 in row 1"):
        slopes.predict(data.head(2).assign(w=-1.0), kind="response")
    with pytest.raises(rf.DataError, match="has no rows"):
        slopes.predict(data.head(0))
    for options, message in (
        ({"kind": "median"}, "kind is 'median'"),
        ({"groups": "all"}, "groups is 'all'"),
        ({"interval": 95}, "interval is 95; a number between 0 and 1"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(rf.DataError, match=message):
            slopes.predict(**options)
    fit = rf.fit("y ~ log(x + 5) + (1|g)", data, seed=1, draws=64)
    with pytest.raises(rf.DataError, match=r"'log\(x \+ 5\)' is not finite in row 2"):
        fit.predict(data.head(3).assign(x=[1, -9, 2]))


@pytest.mark.filterwarnings("ignore::ranef.errors.AliasedWarning")
def test_columns_left_out_must_be_combinations_in_new_rows_too(data):
    seen = data[(data["f"] != "mid") | (data["k"] != 2)].reset_index(drop=True)
    seen = seen.assign(double=2 * seen["x"] + 1)
    fit = rf.fit("y ~ x + double + f*C(k) + (1|g)", seen, aliased="drop", seed=1, draws=64)
    assert len(fit.source.model.spec.fixed.aliased) == 2
    table = fit.predict(seen).table()
    np.testing.assert_allclose(table["mean"], fit.predict().table()["mean"], rtol=1e-9)
    with pytest.raises(rf.DataError, match=r"'double' was left out.*row 2 of the new rows"):
        fit.predict(seen.head(3).assign(double=[*seen["double"][:1], 0.0, *seen["double"][2:3]]))
    combination = seen.head(1).assign(f="mid", k=2)
    with pytest.raises(rf.DataError, match=r"'f\[mid\]:C\(k\)\[2\]' was left out"):
        fit.predict(combination)


def test_fitted_values_and_residuals_join_the_users_rows(tmp_path):
    frame = rf.datasets.load("sleepstudy").sample(frac=1.0, random_state=3)
    frame.loc[frame.index[5], "Reaction"] = np.nan
    with pytest.warns(rf.MissingRowsWarning):
        fit = rf.fit("Reaction ~ Days + (Days|Subject)", frame, seed=1)
    fit.save(tmp_path / "fit.nc")
    for made in (fit, rf.load(tmp_path / "fit.nc")):
        joined = frame.join(made.residuals("response", seed=1).table(), how="inner")
        assert len(joined) == len(frame) - 1
        gap = joined["Reaction"] - joined["fitted"] - joined["residual"]
        assert np.abs(gap).max() < 1e-9
        joined = frame.join(made.fitted(seed=1), how="inner")
        assert np.corrcoef(joined["Reaction"], joined["mean"])[0, 1] > 0.85


# Mixtures


def test_quantiles_of_mixtures():
    rng = np.random.default_rng(0)
    mean, variance = rng.standard_cauchy((300, 4)), rng.chisquare(1, (300, 4))
    variance[:, 1] = 0
    variance[::2, 2] = 0
    variance[:, 3] *= 1e-20
    probs = (0.01, 0.5, 0.975)
    found = mixtures.quantiles(mean, np.sqrt(variance), probs)
    np.testing.assert_array_equal(found[:, 1], np.quantile(mean[:, 1], probs))
    for j in (0, 2):
        for q, prob in zip(found[:, j], probs, strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                below = stats.norm.cdf((q - mean[:, j]) / np.sqrt(variance[:, j]))
            # Where a component is a point, the distribution function jumps by its weight.
            assert abs(np.nan_to_num(below).mean() - prob) < (1e-9 if j == 0 else 1 / 300)
    # Points, all but: between the draws that the probability lies between.
    draws = np.sort(mean[:, 3])
    for q, prob in zip(found[:, 3], probs, strict=True):
        assert draws[int(np.ceil(300 * prob)) - 1] - 1e-6 < q < draws[int(300 * prob)] + 1e-6
    middle, sd = mixtures.moments(np.array([[-1.0], [1.0]]), np.sqrt([[3.0], [5.0]]))
    assert (middle[0], sd[0]) == (0.0, np.sqrt(5))


# What is shown


def test_prediction_prints_and_draws(slopes, crossed, data):
    made = slopes.predict(data.head(20))
    assert str(made).splitlines()[1] == "mean of y, groups conditional, 95% intervals"
    assert str(made).splitlines()[-1] == "… 8 more rows"
    pd.testing.assert_index_equal(made.table().index, data.head(20).index)
    assert list(made.table().columns) == ["mean", "sd", "lower", "upper"]
    grid = pd.DataFrame({"x": np.linspace(0, 4, 9), "f": "low"})
    axis = slopes.predict(grid, groups="marginal").plot().axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("x", "mean of y")
    assert len(axis.lines) == len(axis.collections) == 1
    axis = crossed.predict(kind="response").plot("g").axes[0]
    assert axis.get_xlabel() == "g"
    assert axis.get_ylabel() == "y"
    with pytest.raises(rf.DataError, match="x is 'nothing'"):
        made.plot("nothing")
    lone = rf.fit("y ~ 1 + (1|g)", data, seed=1, draws=64)
    one = lone.predict(pd.DataFrame(index=["here"]), groups="marginal")
    assert list(one.table().index) == ["here"]
    assert one.plot().axes[0].get_xlabel() == "row"
    given = pd.DataFrame({"g": ["g1"], "mean": [3.0]})
    odd = rf.fit("y ~ mean + (1|g)", data.assign(mean=data["x"]), seed=1, draws=64)
    assert list(odd.predict(given).full_table())[:2] == ["mean (given)", "g"]

"""Leave-one-out densities against dense normal conditioning, and against actual refits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, linalg, stats
from scipy.special import logsumexp

import ranef as rf
from helpers import DATA, limit
from ranef.answers.leave_one_out.groups import group_densities
from ranef.answers.leave_one_out.loo import bridge
from ranef.answers.leave_one_out.rows import row_densities
from ranef.answers.leave_one_out.units import units_of
from ranef.common import budget
from ranef.errors import DataError, ImproperPosteriorError, ReliabilityWarning
from ranef.likelihood.posterior import MarginalPosterior
from ranef.likelihood.structures.crossed import Crossed
from ranef.mixed_model.model import build_model
from ranef.posterior.draws import posterior_draws

SLEEP = "Reaction ~ Days + (Days|Subject)"


def make_weighted() -> pd.DataFrame:
    """Make unbalanced data with weights, standard errors, an offset and two crossed factors."""
    rng = np.random.default_rng(5)
    n = 60
    g, h = rng.integers(0, 7, n), rng.integers(0, 4, n)
    x = rng.normal(size=n)
    return pd.DataFrame(
        {
            "y": 40 + 2 * x + 1.5 * rng.normal(size=7)[g] + rng.normal(size=n),
            "x": x,
            "o": rng.normal(size=n),
            "g": [f"g{i}" for i in g],
            "h": [f"h{i}" for i in h],
            "w": rng.uniform(0.3, 3, n),
            "s": rng.uniform(0.5, 1.5, n),
        }
    )


CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "correlated slopes": (SLEEP, DATA / "sleepstudy.csv", {}),
    "random intercept": ("Yield ~ 1 + (1|Batch)", DATA / "Dyestuff.csv", {}),
    "crossed": ("diameter ~ 1 + (1|plate) + (1|sample)", DATA / "Penicillin.csv", {}),
    "nested": ("strength ~ 1 + (1|batch/cask)", DATA / "Pastes.csv", {}),
    "weights, offset": ("y ~ x + offset(o) + (x|g)", make_weighted(), {"weights": "w"}),
    "known errors": ("y ~ x + (1|g)", make_weighted(), {"se": "s"}),
    "normal priors": (
        "y ~ x + (1|g)",
        make_weighted(),
        {"priors": {"Intercept": "norm(30, 5)", "x": "norm(0, 1)"}},
    ),
    "one normal prior, crossed slopes": (
        "y ~ x + (x|g) + (1|h)",
        make_weighted(),
        {"weights": "w", "priors": {"x": "norm(0, 0.5)"}},
    ),
}


@dataclass(frozen=True)
class Dense:
    """A model with its matrices written out, in the user's units."""

    model: Any
    rows: Any

    def covariance(self, eta: np.ndarray) -> np.ndarray:
        """Covariance of y given the coefficients at one parameter vector, shape (N, N)."""
        rows, layout = self.rows, self.model.parameters
        sigma = float(np.exp(layout.log_sigma(eta[None])[0]))
        w = np.ones(len(rows.y)) if rows.weights is None else rows.weights
        V = np.diag(sigma**2 / w)
        Z = np.column_stack([np.ones(len(w)), rows.slopes])
        for f, root in enumerate(layout.roots(eta[None])):
            S = sigma**2 * root[0] @ root[0].T
            z = Z[:, list(self.model.design.factors[f].columns)]
            codes = rows.codes[f]
            V += (z @ S @ z.T) * (codes[:, None] == codes)
        return V

    def predictive(self, eta: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the rows `out` given the others: kriging with a prior."""
        V, X, y = self.covariance(eta), self.rows.X, self.rows.response
        precision = np.diag(self.model.prior_precision)
        rest = ~out
        C = np.linalg.solve(V[np.ix_(rest, rest)], np.column_stack([X, y[:, None]])[rest])
        A = X[rest].T @ C[:, :-1] + precision
        beta = np.linalg.solve(A, X[rest].T @ C[:, -1] + precision @ self.model.prior_mean)
        K = np.linalg.solve(V[np.ix_(rest, rest)], V[np.ix_(rest, out)]).T
        H = X[out] - K @ X[rest]
        mean = X[out] @ beta + K @ (y[rest] - X[rest] @ beta)
        spread = V[np.ix_(out, out)] - K @ V[np.ix_(rest, out)] + H @ np.linalg.solve(A, H.T)
        return mean, spread

    def log_density(self, eta: np.ndarray, out: np.ndarray) -> float:
        """Log density of the rows `out` given the others, by dense normal conditioning."""
        mean, spread = self.predictive(eta, out)
        L = np.linalg.cholesky(spread)
        z = linalg.solve_triangular(L, self.rows.response[out] - mean, lower=True)
        return float(-0.5 * z @ z - np.log(np.diag(L)).sum() - 0.5 * len(z) * np.log(2 * np.pi))


def some_vectors(model: Any, n: int = 2) -> np.ndarray:
    """Parameter vectors near what the data suggest."""
    rng = np.random.default_rng(3)
    eta = 0.4 * rng.normal(size=(n, model.parameters.size))
    spread = float(np.log(build_spread(model)))
    for log_sd, _ in model.parameters.split(eta):
        log_sd += spread - 0.5
    if model.parameters.family.dispersions:
        eta[:, -1] += spread
    return eta


def build_spread(model: Any) -> float:
    """SD of the response about its least-squares fit, within cells."""
    return float(model.response.spread(model.design.count))


@pytest.mark.parametrize("case", CASES)
def test_rows_have_their_dense_conditional_density(case):
    formula, data, settings = CASES[case]
    model, rows = build_model(formula, data, **settings)
    eta, made = some_vectors(model), Dense(model, rows)
    N = len(rows.y)
    expected = [[made.log_density(e, np.arange(N) == i) for i in range(N)] for e in eta]
    structures = [None]
    if len(model.design.factors) > 1:
        structures.append(Crossed(model.design, model.response))
    for structure in structures:
        target = MarginalPosterior(model, structure)
        left_out, seen = row_densities(target, rows, np.arange(N), eta)
        np.testing.assert_allclose(left_out, expected, rtol=1e-8, atol=1e-8)
        some = np.array([3, 0, N - 1])
        np.testing.assert_allclose(
            row_densities(target, rows, some, eta)[0], left_out[:, some], atol=1e-11
        )
    # Negative control: the density given all data is another one, and larger on average.
    assert np.abs(seen - expected).max() > 1e-3
    assert seen.sum() > np.sum(expected)


@pytest.mark.parametrize("case", CASES)
def test_groups_have_their_dense_conditional_density(case):
    formula, data, settings = CASES[case]
    model, rows = build_model(formula, data, **settings)
    eta, made = some_vectors(model), Dense(model, rows)
    for factor, codes in zip(rows.spec.factors, rows.codes, strict=True):
        units = units_of(rows, factor.name)
        which = np.arange(len(factor.levels))
        expected = [[made.log_density(e, codes == j) for j in which] for e in eta]
        left_out, seen = group_densities(MarginalPosterior(model), rows, units, which, eta)
        np.testing.assert_allclose(left_out, expected, rtol=1e-8, atol=1e-8)
        some = which[[2, 0]]
        again, _ = group_densities(MarginalPosterior(model), rows, units, some, eta)
        np.testing.assert_allclose(again, left_out[:, some], atol=1e-10)
        # Negative control: rows left out one by one are not a group left out.
        single, _ = row_densities(MarginalPosterior(model), rows, np.arange(len(rows.y)), eta)
        wrong = np.array([[r[codes == j].sum() for j in which] for r in single])
        assert np.abs(wrong - expected).max() > 0.1
        assert seen.sum() > left_out.sum()


@pytest.mark.parametrize("case", ["correlated slopes", "crossed", "nested", "normal priors"])
def test_a_copy_of_a_group_has_its_dense_conditional_density(case):
    formula, data, settings = CASES[case]
    model, rows = build_model(formula, data, **settings)
    eta, unit = some_vectors(model), rows.spec.factors[0]
    units = units_of(rows, unit.name)
    _, seen = group_densities(MarginalPosterior(model), rows, units, np.array([1]), eta)
    # The same by hand: a table with the group's rows again, under a name of its own; casks, which
    # are numbered within batches, become new with it.
    frame = rows.frame.copy()
    frame = frame.assign(**{c: frame[c].astype(str) for c in frame if frame[c].dtype.kind == "O"})
    copy = frame[rows.codes[0] == 1].assign(**{unit.name: "copied"})
    stacked = pd.concat([frame.assign(**{unit.name: frame[unit.name].astype(str)}), copy])
    big, more = build_model(formula, stacked, model.prior_texts())
    out = np.arange(len(stacked)) >= len(frame)
    expected = [Dense(big, more).log_density(e, out) for e in eta]
    np.testing.assert_allclose(seen[:, 0], expected, rtol=1e-8, atol=1e-8)


# -- averaged over the variance parameters


@pytest.fixture(scope="module")
def sleep() -> rf.Fit:
    return rf.fit(SLEEP, DATA / "sleepstudy.csv", seed=1)


def log_mean(log_p: np.ndarray) -> tuple[float, float]:
    """Log of the mean of exp(log_p), and its standard error."""
    value = float(logsumexp(log_p) - np.log(len(log_p)))
    return value, float(np.exp(log_p - value).std() / np.sqrt(len(log_p)))


def refitted_row(fit: rf.Fit, row: int) -> tuple[float, float]:
    """Density of a sleepstudy row under draws of everything, fitted to the other rows."""
    frame = fit.source.rows.frame
    at = frame.iloc[row]
    rest = rf.fit(
        SLEEP,
        frame.drop(index=frame.index[row]),
        priors=fit.source.model.prior_texts(),
        effects="draws",
        draws=4000,
        seed=row,
    )
    post = rest.draws["posterior"].to_dataset()
    label = {"Subject__factor_dim": str(int(at.Subject))}
    b = [post[f"{n}|Subject"].sel(label).to_numpy().ravel() for n in ("1", "Days")]
    mean = post["Intercept"].to_numpy().ravel() + b[0]
    mean = mean + (post["Days"].to_numpy().ravel() + b[1]) * at.Days
    sd = post["sigma"].to_numpy().ravel()
    return log_mean(-0.5 * np.log(2 * np.pi) - np.log(sd) - 0.5 * ((at.Reaction - mean) / sd) ** 2)


def own_errors(fit: rf.Fit, elpd: Any) -> np.ndarray:
    """Standard errors of the log densities from the importance weights' spread."""
    weight = np.exp(elpd.log_weights.to_numpy().reshape(-1, elpd.n_samples))
    spread = np.sqrt(((weight - 1 / elpd.n_samples) ** 2).sum(axis=1))
    return spread * np.sqrt(elpd.n_samples / fit.certificate.ess)


def test_rows_equal_actual_refits(sleep):
    elpd = sleep.loo()
    errors = own_errors(sleep, elpd)
    in_sample, _ = row_densities(
        MarginalPosterior(sleep.source.model),
        sleep.source.rows,
        np.arange(180),
        vectors_of(sleep),
    )
    for row in (0, 57):
        value, error = refitted_row(sleep, row)
        both = np.hypot(error, errors[row])
        assert abs(float(elpd.elpd_i[row]) - value) < 4.5 * both
    # Negative control: averaging without importance weights is seen where it matters.
    worst = int(np.argmin(elpd.elpd_i.to_numpy()))
    value, error = refitted_row(sleep, worst)
    plain, _ = log_mean(in_sample[:, worst])
    assert abs(float(elpd.elpd_i[worst]) - value) < 4.5 * np.hypot(error, errors[worst])
    assert abs(plain - value) > 4.5 * np.hypot(error, errors[worst])


def vectors_of(fit: rf.Fit) -> np.ndarray:
    return posterior_draws(fit.draws, fit.source.model).theta


def refitted_group(fit: rf.Fit, j: int, draws: int = 8000) -> tuple[float, float]:
    """Density of a subject under draws fitted to the others: dense, coefficients drawn."""
    model, rows = fit.source.model, fit.source.rows
    out = rows.codes[0] == j
    rest = rf.fit(SLEEP, rows.frame[~out], priors=model.prior_texts(), draws=draws, seed=j)
    made = posterior_draws(rest.draws, rest.source.model)
    Z = np.column_stack([np.ones(out.sum()), rows.slopes[out]])
    sigma = np.exp(made.log_sigma)
    root = sigma[:, None, None] * model.parameters.roots(made.theta)[0]
    V = Z @ root @ root.transpose(0, 2, 1) @ Z.T + sigma[:, None, None] ** 2 * np.eye(len(Z))
    gap = rows.response[out] - made.beta @ rows.X[out].T
    L = np.linalg.cholesky(V)
    z = np.linalg.solve(L, gap[:, :, None])[:, :, 0]
    log_det = np.log(np.einsum("nii->ni", L)).sum(axis=1)
    return log_mean(-0.5 * (z**2).sum(axis=1) - log_det - 0.5 * len(Z) * np.log(2 * np.pi))


def test_groups_equal_actual_refits(sleep):
    elpd = sleep.loo("group")
    errors, k = own_errors(sleep, elpd), elpd.pareto_k.to_numpy()
    labels = list(elpd.pareto_k.coords["Subject__factor_dim"].to_numpy())
    for j in (0, labels.index("335")):
        assert 0 < k[j] < 0.7 or k[j] < 0
        value, error = refitted_group(sleep, j)
        assert abs(float(elpd.elpd_i[j]) - value) < 4.5 * np.hypot(error, errors[j])
        # Negative control: half a nat is seen.
        assert abs(float(elpd.elpd_i[j]) + 0.5 - value) > 4.5 * np.hypot(error, errors[j])


def test_cases_that_importance_weights_cannot_do_are_fitted_again(sleep):
    with pytest.warns(ReliabilityWarning, match=r"1 of 18 levels of Subject \(332\)"):
        plain = sleep.loo("Subject", refit=False)
    elpd = sleep.loo("Subject")
    at = {"Subject__factor_dim": "332"}
    assert float(plain.pareto_k.sel(at)) > 0.7
    assert plain.warning
    assert not elpd.warning
    assert float(elpd.pareto_k.sel(at)) == 0.0
    assert elpd.elpd == pytest.approx(float(elpd.elpd_i.sum()))
    others = elpd.elpd_i["Subject__factor_dim"] != "332"
    np.testing.assert_array_equal(elpd.elpd_i[others], plain.elpd_i[others])
    value, error = refitted_group(sleep, int(np.flatnonzero(~others)[0]), draws=40_000)
    own = 0.045  # sd of the value over ten fits with other seeds
    assert abs(float(elpd.elpd_i.sel(at)) - value) < 4.5 * np.hypot(error, own)


def test_the_bridge_gives_ratios_of_normal_constants():
    """Two normal densities a unit apart, the upper scaled by exp(3)."""
    rng = np.random.default_rng(8)
    upper, lower = rng.normal(1.0, 1.0, 6000), rng.normal(0.0, 1.0, 4000)

    def log_ratio(x):
        return 3.0 + x - 0.5

    def overlap(x):
        p, q = stats.norm.pdf(x, 1.0), stats.norm.pdf(x)
        return p * q / (0.6 * p + 0.4 * q)

    # The relative variance of the optimal bridge, Meng and Wong (1996).
    shared = integrate.quad(overlap, -9, 10)[0]
    error = np.sqrt((1 / shared - 1) / (0.6 * 0.4 * 10_000))
    assert abs(bridge(log_ratio(upper), log_ratio(lower)) - 3.0) < 4.5 * error
    # Negative control: the two sets of draws swapped.
    assert abs(bridge(log_ratio(lower), log_ratio(upper)) - 3.0) > 4.5 * error


def test_crossed_and_nested_designs_sum_up(tmp_path):
    fit = rf.fit(CASES["nested"][0], DATA / "Pastes.csv", seed=2)
    elpd, batches = fit.loo(), fit.loo("batch")
    assert elpd.n_data_points == 60
    assert batches.n_data_points == 10
    assert batches.elpd < elpd.elpd  # a new batch is harder to foretell than one more row
    assert 20 < elpd.p < 40
    assert 1 < batches.p < 6
    fit.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc").loo()
    np.testing.assert_allclose(again.elpd_i, elpd.elpd_i, atol=1e-9)
    few = fit.loo(draws=500)
    assert few.n_samples == 500
    assert abs(few.elpd - elpd.elpd) < 0.5


def test_what_cannot_be_left_out_is_said(sleep):
    with pytest.raises(DataError, match="Did you mean 'Subject'"):
        sleep.loo("subject")
    with pytest.raises(DataError, match="whole number from 100 to 4000"):
        sleep.loo(draws=5000)
    crossed = rf.fit(CASES["crossed"][0], DATA / "Penicillin.csv", seed=1)
    with pytest.raises(DataError, match="2 grouping factors; name one of them: 'plate', 'sample'"):
        crossed.loo("group")
    frame = make_weighted().assign(only=0.0)
    frame.loc[3, "only"] = 1.0
    alone = rf.fit("y ~ x + only + (1|g)", frame, seed=1)
    with pytest.raises(ImproperPosteriorError, match=r"Without row 3 nothing .* determines only"):
        alone.loo()
    with pytest.raises(ImproperPosteriorError, match="determines only"):
        alone.loo("g")
    normal = rf.fit("y ~ x + only + (1|g)", frame, priors={"only": "norm(0, 2)"}, seed=1)
    assert np.isfinite(normal.loo().elpd)
    with pytest.raises(DataError, match="leaving out groups does not support"):
        normal.loo("g")


def test_designs_too_large_say_so(monkeypatch, sleep):
    monkeypatch.setattr(budget, "LEFT_OUT_UNITS", 100)
    with pytest.raises(DataError, match=r"180 rows cannot be left out one by one.*'Subject'"):
        sleep.loo()
    limit(monkeypatch, "LEAVE_ONE_OUT", seconds=1e-9)
    with pytest.raises(DataError, match="Leaving out each of 18 levels of Subject would take"):
        sleep.loo("Subject")


def test_compare_ranks_fits_of_the_same_responses(sleep):
    line = rf.fit("Reaction ~ Days + (1|Subject)", DATA / "sleepstudy.csv", seed=1)
    table = rf.compare({"line": line, "lines": sleep})
    assert list(table.index) == ["lines", "line"]
    assert table.loc["line", "elpd_diff"] == pytest.approx(
        table.loc["lines", "elpd"] - table.loc["line", "elpd"]
    )
    assert table["weight"].sum() == pytest.approx(1)
    groups = rf.compare({"line": line, "lines": sleep}, unit="Subject", draws=1000)
    assert groups.loc["lines", "elpd"] < table.loc["lines", "elpd"]
    with pytest.raises(DataError, match="at least two"):
        rf.compare({"line": line})
    with pytest.raises(DataError, match="a fit is expected"):
        rf.compare({"line": line, "other": sleep.loo()})
    frame = pd.read_csv(DATA / "sleepstudy.csv")
    other = rf.fit("Reaction ~ Days + (1|half)", frame.assign(half=frame.Subject // 10), seed=1)
    with pytest.raises(DataError, match=r"The groups of 'line' .Subject. and of 'other' .half."):
        rf.compare({"line": line, "other": other}, unit="group")
    logs = rf.fit("np.log(Reaction) ~ Days + (1|Subject)", frame, seed=1)
    with pytest.raises(DataError, match="different responses"):
        rf.compare({"line": line, "logs": logs})

"""Fits with other families from the outside: edges, answers, files."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef as rf

RNG = np.random.default_rng(0)
N = 200
BASE = pd.DataFrame({"g": np.repeat(np.arange(20), 10), "x": RNG.standard_normal(N)})
COUNTS = BASE.assign(
    y=RNG.poisson(np.exp(0.5 + 0.3 * BASE.x + 0.6 * RNG.standard_normal(20)[BASE.g])),
    n=RNG.integers(1, 6, N),
)
COUNTS["k"] = RNG.binomial(COUNTS.n, 1 / (1 + np.exp(-COUNTS.x)))


@cache
def fitted(family, draws=2000):
    trials = "n" if family == "binomial" else None
    response = "k" if family == "binomial" else "y"
    data = COUNTS.assign(y=COUNTS.y.clip(upper=1)) if family == "bernoulli" else COUNTS
    return rf.fit(
        f"{response} ~ x + (1|g)",
        data,
        family=family,
        trials=trials,
        draws=draws,
        seed=4,
        progress=False,
    )


FAMILIES = ["bernoulli", "binomial", "poisson", "negativebinomial"]


@pytest.mark.parametrize(
    ("change", "family"),
    [
        ({"y": 0}, "bernoulli"),
        ({"y": 1}, "bernoulli"),
        ({"y": 0}, "poisson"),
        ({"y": (BASE.x > 0) * 1}, "bernoulli"),
        ({"y": RNG.poisson(1.0, N), "g": np.arange(N)}, "poisson"),
        ({"y": RNG.poisson(1e6 * np.exp(0.5 * RNG.standard_normal(20)[BASE.g]))}, "poisson"),
        ({"y": RNG.poisson(2.0, N)}, "negativebinomial"),
        (
            {"y": RNG.binomial(1, 1 / (1 + np.exp(-8 * RNG.standard_normal(20)[BASE.g])))},
            "bernoulli",
        ),
    ],
    ids=["none", "all", "no counts", "separated", "ones", "1e6", "poisson", "sigma 8"],
)
def test_edges_are_trusted_and_silent(change, family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = BASE.assign(**change)
        fit = rf.fit("y ~ x + (1|g)", data, family=family, draws=1000, seed=1, progress=False)
    assert fit.certificate.trusted, fit.certificate
    assert fit.certificate.quadrature_error < 0.01
    assert np.isfinite(fit.summary().to_numpy()).all()


def test_a_group_whose_rows_are_missing_is_gone():
    data = COUNTS.assign(y=COUNTS.y.astype(float))
    data.loc[data.g == 3, "y"] = np.nan
    with pytest.warns(rf.MissingRowsWarning, match="10 of 200"):
        fit = rf.fit("y ~ x + (1|g)", data, family="poisson", draws=1000, seed=1, progress=False)
    assert len(fit.effects()) == 19


def test_no_trials_tell_nothing():
    data = COUNTS.assign(n=COUNTS.n.where(COUNTS.g > 3, 0), k=COUNTS.k.where(COUNTS.g > 3, 0))
    fit = rf.fit("p(k, n) ~ x + (1|g)", data, family="binomial", seed=1, progress=False)
    rest = data[data.g > 3]
    other = rf.fit("p(k, n) ~ x + (1|g)", rest, family="binomial", seed=2, progress=False)
    gap = fit.summary()["mean"] - other.summary()["mean"]
    assert np.all(np.abs(gap) < 0.15 * fit.summary()["sd"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"family": "poison"}, rf.DataError, "Did you mean 'poisson'"),
        ({"family": "poisson", "weights": "n"}, rf.DataError, "weights"),
        ({"family": "poisson", "method": "gibbs"}, rf.DataError, "'exact' is expected"),
        ({"family": "poisson", "priors": {"x": "flat"}}, rf.PriorError, "state a wide normal"),
        ({"family": "poisson", "priors": {"1|g": "flat"}}, rf.PriorError, "improper"),
        ({"family": "poisson", "priors": {"sigma": "half_t(2)"}}, rf.PriorError, "sigma"),
        ({"trials": "n"}, rf.DataError, "family='gaussian'"),
        ({"exposure": "n"}, rf.DataError, "family='gaussian'"),
        ({"link": "log"}, rf.DataError, "'identity'"),
    ],
)
def test_arguments_that_do_not_go_together(options, error, message):
    with pytest.raises(error, match=message):
        rf.fit("y ~ x + (1|g)", COUNTS, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"g": 0}, "one level"), ({"g": np.arange(N)}, "one trial in every level")],
)
def test_sds_that_only_the_default_prior_would_tell(change, message):
    data = BASE.assign(y=RNG.integers(0, 2, N), **change)
    with pytest.raises(rf.IdentifiabilityError, match=message):
        rf.fit("y ~ x + (1|g)", data, family="bernoulli")
    fit = rf.fit(
        "y ~ x + (1|g)",
        data,
        family="bernoulli",
        priors={"1|g": "half_t(1)"},
        draws=1000,
        seed=1,
        progress=False,
    )
    assert fit.certificate.trusted


def test_structures_that_are_not_drawn_yet_are_refused():
    with pytest.raises(rf.FormulaError, match=r"write \(x\|\|g\) for \(x\|g\)"):
        rf.fit("y ~ x + (x|g)", COUNTS, family="poisson")
    many = COUNTS.assign(h=np.arange(N), k=np.arange(N) // 2 + 1, m=np.arange(N) % 201)
    with pytest.raises(rf.FormulaError, match="up to 300"):
        rf.fit("y ~ x + (1|h) + (1|k) + (1|m) + (1|g)", many, family="poisson")


def test_prior_of_a_coefficient_pulls_it():
    fit = rf.fit(
        "y ~ x + (1|g)",
        COUNTS,
        family="poisson",
        priors={"x": "norm(2, 0.001)"},
        draws=1000,
        seed=1,
        progress=False,
    )
    assert fit.summary().loc["x", "mean"] == pytest.approx(2, abs=0.01)


def test_marginal_likelihood_is_that_of_brute_quadrature():
    data = pd.DataFrame({"y": [3, 1, 4, 0, 2, 7], "g": [0, 0, 1, 1, 2, 2]})
    priors = {"Intercept": "norm(0.5, 1)", "1|g": "half_t(1)"}
    fit = rf.fit("y ~ 1 + (1|g)", data, family="poisson", priors=priors, seed=1, progress=False)
    b = np.linspace(-9, 9, 301)

    def likelihood(intercept, log_sd):
        sd = np.exp(log_sd)
        total = 1.0
        for pair in ((3, 1), (4, 0), (2, 7)):
            eta = intercept + sd * b
            log_f = sum(y * eta - np.exp(eta) for y in pair) - 0.5 * b**2
            total *= np.exp(log_f).sum() * (b[1] - b[0]) / np.sqrt(2 * np.pi)
            total /= np.prod([float(np.prod(np.arange(1, y + 1))) for y in pair])
        return total

    # The trapezoid rule, for an integrand that falls off at all ends.
    intercepts, logs = np.linspace(-4, 4, 81), np.linspace(-12, 4, 81)
    first = stats.norm(0.5, 1).pdf(intercepts)
    second = 2 * stats.t(3).pdf(np.exp(logs)) * np.exp(logs)
    each = np.array([[likelihood(i, s) for s in logs] for i in intercepts])
    total = first @ each @ second
    truth = np.log(total * (intercepts[1] - intercepts[0]) * (logs[1] - logs[0]))
    ours = fit.log_marginal_likelihood()
    assert abs(float(ours) - truth) < 4.5 * ours.error < 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_answers(family, tmp_path):
    fit = fitted(family)
    text = str(fit)
    assert family in text
    assert "quadrature error" in text
    mean, linear = fit.predict(), fit.predict(kind="linear")
    assert len(mean.table()) == N
    response = fit.predict(kind="response", draws=True)
    # New responses average to the means.
    error = response.sd / np.sqrt(len(response.draws))
    assert np.abs((response.mean - mean.mean) / error).max() < 5 or family == "binomial"
    if family == "binomial":
        gap = response.mean - mean.mean * COUNTS.n
        assert np.abs(gap / error).max() < 5
    link = np.log if family in FAMILIES[2:] else lambda p: np.log(p / (1 - p))
    assert np.all(link(mean.lower) < linear.mean)
    assert np.all(linear.mean < link(mean.upper))
    effects = fit.effects(threshold=0, highest=True)
    assert effects["P(highest)"].sum() == pytest.approx(1)
    assert fit.effects(compare=("0", "1")).shape == (1, 6)
    assert len(fit.loo().elpd_i) == N
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rf.ReliabilityWarning)  # a group may be unlike the others
        assert len(fit.loo("group").elpd_i) == 20
    assert 0.02 < fit.check().p_values[0] < 0.98
    shares = fit.variance_shares()["mean"]
    assert shares["R2 marginal"] < shares["R2 conditional"] < 1
    assert float(fit.probability("x > -5")) == 1
    path = tmp_path / "fit.nc"
    fit.save(path)
    again = rf.load(path)
    assert isinstance(again, rf.Fit)
    pd.testing.assert_frame_equal(again.predict().table(), mean.table())
    pd.testing.assert_frame_equal(again.effects(), fit.effects())
    for name in ("residuals", "sensitivity", "no_group_effect"):
        with pytest.raises(rf.DataError, match="so far"):
            getattr(fit, name)()


def test_marginal_means_integrate_over_groups():
    fit = fitted("bernoulli")
    new = pd.DataFrame({"x": [-1.0, 0.0, 2.0]})
    ours = fit.predict(new, groups="marginal", draws=True)
    drawn = fit.posterior_draws
    z = np.random.default_rng(1).standard_normal((2000, 400))
    for j, x in enumerate(new.x):
        eta = (drawn.beta @ [1.0, x])[:, None] + drawn.sds * z
        p = 1 / (1 + np.exp(-eta))
        error = p.mean(axis=1).std() / np.sqrt(2000) + p.std() / np.sqrt(z.size)
        assert abs(p.mean() - ours.mean[j]) < 5 * error
    plugged = 1 / (1 + np.exp(-(drawn.beta @ [1.0, 2.0])))
    assert plugged.mean() > ours.mean[2]


def test_new_groups_share_one_effect():
    fit = fitted("poisson")
    new = pd.DataFrame({"x": [0.0, 0.0, 0.0], "g": [100, 100, 101]})
    draws = fit.predict(new, "linear", groups="new", draws=True).draws
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    assert abs(np.corrcoef(draws[:, 0] - draws[:, 2], draws[:, 0])[0, 1]) > 0.2
    with pytest.raises(rf.DataError, match="'100'"):
        fit.predict(new)
    with pytest.raises(rf.DataError, match="number of trials"):
        fitted("binomial").predict(new, "response", groups="new")


def test_leaving_rows_out_is_fitting_without_them():
    fit = fitted("poisson")
    elpd = fit.loo().elpd_i.to_numpy()
    for row in (0, 57, int(COUNTS.y.argmax())):
        rest = COUNTS.drop(index=row)
        other = rf.fit("y ~ x + (1|g)", rest, family="poisson", draws=2000, seed=9, progress=False)
        eta = other.predict(COUNTS.loc[[row]], "linear", draws=True).draws[:, 0]
        density = stats.poisson(np.exp(eta)).pmf(COUNTS.y[row])
        error = density.std() / np.sqrt(1000) / density.mean()
        assert abs(elpd[row] - np.log(density.mean())) < 4 * error + 0.02
    # Densities with the row seen would be larger.
    assert fit.loo().p > 5


@cache
def crossed_fit():
    rng = np.random.default_rng(12)
    data = COUNTS.assign(h=np.tile(np.arange(10), 20), s=rng.integers(0, 2, N))
    data["block"] = data.g // 4
    data["y"] = rng.poisson(np.exp(0.4 + 0.5 * rng.standard_normal(10)[data.h] + 0.3 * data.x))
    fit = rf.fit(
        "y ~ x + (1|g) + (1|h)", data, family="poisson", draws=2000, seed=4, progress=False
    )
    return fit, data


def test_answers_of_crossed_factors(tmp_path):
    fit, data = crossed_fit()
    assert fit.certificate.trusted
    effects = fit.effects(threshold=0, highest=True)
    assert effects.index.names == ["effect", "level"]
    assert effects.loc["1|h", "P(highest)"].sum() == pytest.approx(1)
    assert len(fit.effects("1|h")) == 10
    assert len(fit.effects(compare=("1", "2"))) == 2
    draws = fit.posterior_draws
    eta = fit.predict(kind="linear", draws=True).draws
    z = draws.z * draws.sds[:, 1:]
    # Rows of one group, but for the effects of the other factor and the covariate.
    first, second = 0, 1
    gap = eta[:, first] - eta[:, second]
    known = draws.beta[:, 1] * (data.x[0] - data.x[1]) + z[:, 0] - z[:, 1]
    np.testing.assert_allclose(gap, known, atol=1e-9)
    new = pd.DataFrame({"x": [0.0], "g": ["new"], "h": [3]})
    assert fit.predict(new, groups="new").sd[0] > 0
    marginal = fit.predict(new, groups="marginal").mean[0]
    expected = np.exp(draws.beta[:, 0] + (draws.sds**2).sum(axis=1) / 2).mean()
    assert marginal == pytest.approx(expected, rel=1e-4)
    assert len(fit.loo().elpd_i) == N
    with pytest.raises(rf.DataError, match="leave out rows, or levels of 'g'"):
        fit.loo("h")
    shares = fit.variance_shares()
    assert list(shares.index) == ["1|g", "1|h", "R2 marginal", "R2 conditional"]
    assert 0.02 < fit.check(groups="new").p_values[0] < 0.98
    path = tmp_path / "fit.nc"
    fit.save(path)
    pd.testing.assert_frame_equal(rf.load(path).effects(), fit.effects())


def test_crossed_rows_left_out_are_fits_without_them():
    fit, data = crossed_fit()
    elpd = fit.loo().elpd_i.to_numpy()
    for row in (3, int(data.y.argmax())):
        rest = data.drop(index=row)
        other = rf.fit(
            "y ~ x + (1|g) + (1|h)", rest, family="poisson", draws=2000, seed=9, progress=False
        )
        eta = other.predict(data.loc[[row]], "linear", draws=True).draws[:, 0]
        density = stats.poisson(np.exp(eta)).pmf(data.y[row])
        error = density.std() / np.sqrt(1000) / density.mean()
        assert abs(elpd[row] - np.log(density.mean())) < 4 * error + 0.02


def test_a_factor_that_hardly_matters_leaves_its_sd_open():
    # Laplace's approximation is flat along the SD of h: places go where the posterior is not.
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(np.arange(8), 6), "h": np.tile(np.arange(6), 8)})
    data["k"], data["n"] = rng.binomial(4, 0.4 + 0.05 * data.g), 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = rf.fit("p(k, n) ~ 1 + (1|g) + (1|h)", data, family="binomial", seed=5, progress=False)
    assert fit.certificate.trusted
    assert fit.summary().loc["1|h_sigma", "2.5%"] < 0.1


@pytest.mark.parametrize("terms", ["(1|block/g)", "(x||h)"])
def test_nested_and_independent_slopes(terms):
    _, data = crossed_fit()
    fit = rf.fit(f"s ~ x + {terms}", data, family="bernoulli", draws=1000, seed=2, progress=False)
    assert fit.certificate.trusted
    # Nothing depends on groups here.
    assert (fit.summary()["mean"].filter(like="_sigma") < 0.8).all()


def test_comparisons_and_bayes_factors():
    poisson, negative = fitted("poisson"), fitted("negativebinomial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rf.ReliabilityWarning)
        table = rf.compare({"poisson": poisson, "negative": negative})
    assert table.loc["poisson", "rank"] in (0, 1)
    ours = rf.bayes_factor(poisson, negative)
    gap = float(poisson.log_marginal_likelihood()) - float(negative.log_marginal_likelihood())
    assert ours.log_value == pytest.approx(gap)
    normal = rf.fit("y ~ x + (1|g)", COUNTS, draws=1000, seed=1, progress=False)
    with pytest.raises(rf.DataError, match="do not compare"):
        rf.compare({"poisson": poisson, "normal": normal})


def test_command_line(tmp_path):
    from click.testing import CliRunner

    from ranef.cli.commands import cli

    path, out = tmp_path / "cbpp.csv", tmp_path / "out"
    rf.datasets.load("cbpp").to_csv(path, index=False)
    arguments = ["incidence ~ C(period) + (1|herd)", "--family", "binomial", "--trials", "size"]
    done = CliRunner().invoke(cli, ["fit", str(path), *arguments, "--seed", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "binomial, link logit, trials size" in done.output
    assert "1|herd" in (out / "report.html").read_text()
    new = tmp_path / "new.csv"
    new.write_text("period,herd\n1,1\n")
    asked = ["predict", str(out / "draws.nc"), str(new), "--kind", "linear"]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0, done.output


def test_same_seed_same_draws():
    first, second = (
        rf.fit("y ~ x + (1|g)", COUNTS, family="poisson", draws=1000, seed=7, progress=False)
        for _ in range(2)
    )
    a, b = (f.draws["posterior"]["x"].to_numpy() for f in (first, second))
    np.testing.assert_array_equal(a, b)

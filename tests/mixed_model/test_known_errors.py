"""Known standard errors: likelihood and posterior against dense normals and plain quadrature."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

import ranef as rf
from helpers import errors_of, worst
from ranef.cells.from_rows import compress
from ranef.errors import DataError, IdentifiabilityError, IdentifiabilityWarning, PriorError
from ranef.likelihood.interpolation.interpolate import interpolate
from ranef.likelihood.posterior import MarginalPosterior
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.mixed_model.model import build_model
from ranef.mixed_model.parameters import ParameterVector
from ranef.samplers.annealed.sampler import sample_by_proposals
from ranef.samplers.exact import sample_exact
from ranef.samplers.sample import SamplerSettings
from ranef.samplers.search import explore, starts

# Rubin (1981), Journal of Educational Statistics 6, 377: effects of coaching in eight schools.
Y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
SE = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
SCHOOLS = pd.DataFrame({"school": list("ABCDEFGH"), "y": Y, "se": SE})
FORMULA = "y ~ 1 + (1|school)"


def studies(seed=3, G=12, study_sd=0.8, outcome_sd=0.4) -> pd.DataFrame:
    """Studies of one to four outcomes with a covariate and standard errors of many sizes."""
    rng = np.random.default_rng(seed)
    study = np.repeat(np.arange(G), rng.integers(1, 5, G))
    n = len(study)
    x, se = rng.normal(size=n), rng.uniform(0.2, 1.5, n)
    y = 1 + 0.5 * x + rng.normal(0, study_sd, G)[study] + rng.normal(0, outcome_sd, n)
    y += se * rng.normal(size=n)
    outcome = np.concatenate([np.arange(k) for k in np.unique(study, return_counts=True)[1]])
    return pd.DataFrame({"y": y, "x": x, "se": se, "study": study, "outcome": outcome})


def covariance(frame, **sds):
    """Dense covariance of y given SDs of `study`, `outcome` within it, and `slope` of x."""
    same = np.equal.outer(frame["study"].to_numpy(), frame["study"].to_numpy()).astype(float)
    V = np.diag(frame["se"].to_numpy() ** 2) + sds.get("study", 0.0) ** 2 * same
    V += sds.get("outcome", 0.0) ** 2 * np.eye(len(frame))
    x = frame["x"].to_numpy()
    return V + sds.get("slope", 0.0) ** 2 * same * np.outer(x, x)


def dense(y, X, V, *, reml):
    """Log likelihood with coefficients at their maximum, or integrated over the whole line."""
    W = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ W @ X, X.T @ W @ y)
    value = stats.multivariate_normal(X @ beta, V).logpdf(y)
    if not reml:
        return value
    p = X.shape[1]
    return value + 0.5 * p * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(X.T @ W @ X)[1]


# -- likelihood ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e7])
@pytest.mark.parametrize(
    ("group", "sds"),
    [
        ("(1|study)", {"study": 0.7}),
        ("(1|study)", {"study": 0.0}),
        ("(1|study/outcome)", {"study": 0.7, "outcome": 0.3}),
        ("(x||study)", {"study": 0.7, "slope": 0.4}),
    ],
)
def test_log_likelihood_is_the_dense_normal(group, sds, unit, reml):
    frame = studies()
    names = {"study": "1|study", "outcome": "1|study:outcome", "slope": "x|study"}
    expected = dense(
        frame["y"].to_numpy(),
        np.column_stack([np.ones(len(frame)), frame["x"]]),
        covariance(frame, **sds),
        reml=reml,
    )
    # In other units y is u times as large, and so is the volume of y or of what X leaves of it.
    expected -= (len(frame) - (2 if reml else 0)) * np.log(unit)
    scaled = frame.assign(y=unit * frame["y"], se=unit * frame["se"])
    model = rf.model(f"y ~ x + {group}", scaled, se="se")
    values = {names[k]: unit * v for k, v in sds.items()}
    assert model.log_likelihood(values, reml=reml) == pytest.approx(expected, abs=1e-8)


def test_layout_without_sigma_has_no_place_for_it():
    known = build_model("y ~ x + (x|study)", studies(), se="se")[0].parameters
    free = build_model("y ~ x + (x|study)", studies())[0].parameters
    assert (known.size, known.ratios, free.size, free.ratios) == (3, 3, 4, 3)
    rng = np.random.default_rng(1)
    eta = rng.normal(size=(5, 3))
    tau = np.full(5, known.family.log_sd)
    np.testing.assert_array_equal(known.log_sigma(eta), tau)
    np.testing.assert_allclose(known.absolute(known.relative(eta), tau), eta, rtol=1e-14)
    beside = np.column_stack([eta, tau])
    np.testing.assert_allclose(known.relative(eta), free.relative(beside), rtol=1e-14)
    for a, b in zip(known.roots(eta), free.roots(beside), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    assert isinstance(free, ParameterVector)
    np.testing.assert_allclose(
        known.log_prior(eta), free.log_prior(beside) - free.family.log_prior(tau), rtol=1e-12
    )


# -- posterior of the eight schools ----------------------------------------------------------------


def school_density(prior):
    """Joint density of the SD between schools and y, the mean integrated over the line."""

    def density(sd):
        W = 1 / (SE**2 + sd**2)
        mean = W @ Y / W.sum()
        value = 0.5 * np.log(W).sum() - 0.5 * W @ (Y - mean) ** 2 - 0.5 * np.log(W.sum())
        return np.exp(value - 3.5 * np.log(2 * np.pi)) * prior.pdf(sd)

    return density


def school_truth(prior):
    """Log mass, moments and quantiles of the SD, and moments of effects and mean, by quadrature."""
    density = school_density(prior)
    low, high = prior.support()
    ends = np.unique(np.clip([low, 1, 5, 20, 60, 200, 1e3, 1e5], low, min(high, 1e5)))

    def expect(f, upto=np.inf):
        parts = [
            integrate.quad(
                lambda t: f(t) * density(t), a, min(b, upto), epsabs=0, epsrel=1e-11, limit=200
            )[0]
            for a, b in pairwise(ends)
            if a < upto
        ]
        return sum(parts)

    mass = expect(lambda _: 1.0)
    mean = expect(lambda t: t) / mass
    sd = np.sqrt(expect(lambda t: (t - mean) ** 2) / mass)
    truth = {"mean": mean, "sd": sd}
    for key, p in (("q025", 0.025), ("q50", 0.5), ("q975", 0.975)):
        truth[key] = optimize.brentq(
            lambda g, p=p: expect(lambda _: 1.0, upto=g) / mass - p, low, min(high, 1e3), xtol=1e-6
        )

    def mu(t):
        W = 1 / (SE**2 + t**2)
        return W @ Y / W.sum(), 1 / W.sum()

    first = [
        expect(lambda t, i=i: t**2 / (t**2 + SE[i] ** 2) * (Y[i] - mu(t)[0])) / mass
        for i in range(8)
    ]

    def square(t, i):
        s = t**2 / (t**2 + SE[i] ** 2)
        m, v = mu(t)
        return s * SE[i] ** 2 + s**2 * v + (s * (Y[i] - m)) ** 2

    second = [expect(lambda t, i=i: square(t, i)) / mass for i in range(8)]
    middle = expect(lambda t: mu(t)[0]) / mass
    spread = np.sqrt(expect(lambda t: mu(t)[1] + (mu(t)[0] - middle) ** 2) / mass)
    effects = np.array(first), np.sqrt(np.array(second) - np.array(first) ** 2)
    return np.log(mass), truth, effects, {"mean": middle, "sd": spread}


PRIORS = {
    "half_t(5, df=1)": stats.halfcauchy(scale=5),
    "half_t(10)": rf.half_t(10),
    "uniform(0, 20)": stats.uniform(0, 20),
    "uniform(2, 15)": stats.uniform(2, 15),
    "variance(uniform(0, 400))": None,
    "halfnorm(3, 4)": stats.halfnorm(3, 4),
}


class OnVariance:
    """Density of an SD whose variance is uniform up to 400."""

    def pdf(self, sd):
        return np.where(sd < 20, 2 * sd / 400, 0.0)

    def support(self):
        return 0.0, 20.0


@pytest.mark.parametrize("prior", PRIORS)
def test_posterior_of_the_eight_schools_is_that_of_quadrature(prior):
    _, truth, effects, mean = school_truth(PRIORS[prior] or OnVariance())
    made = rf.fit(FORMULA, SCHOOLS, se="se", priors={"1|school": prior}, draws=20_000, seed=5)
    posterior = made.draws["posterior"]
    assert worst(errors_of(posterior["1|school_sigma"].to_numpy(), truth)) < 4.5
    assert worst(errors_of(posterior["Intercept"].to_numpy(), mean)) < 4.5
    table = made.effects()
    assert list(table.index) == list("ABCDEFGH")
    np.testing.assert_allclose(table["mean"], effects[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(table["sd"], effects[1], rtol=1e-6)
    certificate = made.certificate
    assert certificate.acceptance > 0.999
    assert certificate.pareto_k < 0.7
    assert certificate.trusted


def test_comparison_with_quadrature_detects_standard_errors_that_are_off():
    """Negative control: errors five percent too large, or an estimated sigma, are seen."""
    _, truth, effects, _ = school_truth(PRIORS["half_t(10)"])
    arguments = {"priors": {"1|school": "half_t(10)"}, "draws": 20_000, "seed": 5}
    off = rf.fit(FORMULA, SCHOOLS.assign(se=1.05 * SE), se="se", **arguments)
    assert np.abs(off.effects()["mean"] - effects[0]).max() > 0.05
    weights = SCHOOLS.assign(w=SE**-2.0)
    with pytest.warns(IdentifiabilityWarning):
        estimated = rf.fit(FORMULA, weights, weights="w", **arguments)
    draws = estimated.draws["posterior"]["1|school_sigma"].to_numpy()
    assert worst(errors_of(draws, truth)) > 10


@pytest.mark.parametrize("prior", ["half_t(10)", "uniform(0, 20)"])
def test_marginal_likelihood_is_that_of_quadrature(prior):
    log_mass, *_ = school_truth(PRIORS[prior])
    flat = build_model(FORMULA, SCHOOLS, {"1|school": prior}, se="se")[0]
    request = SamplerSettings(400, 4, 0, (), progress=False)
    made = sample_exact(flat, request, np.random.default_rng(1))
    assert made.log_marginal_likelihood is None  # the intercept is flat
    target = RandomIntercept(flat)
    tau = flat.parameters.family.log_sd

    def log_density(rho):
        rho = np.array([rho])
        return float(np.exp(target.log_density(rho, np.full(1, tau)))[0])

    high = 2 * (np.log(20) - tau) if prior.startswith("uni") else 20.0
    mass = sum(
        integrate.quad(log_density, a, b, epsabs=0, epsrel=1e-11, limit=200)[0]
        for a, b in ((-60, -20), (-20, -8), (-8, -2), (-2, high))
    )
    assert np.log(mass) == pytest.approx(log_mass, abs=1e-8)
    priors = {"1|school": prior, "Intercept": "norm(3, 12)"}
    proper = build_model(FORMULA, SCHOOLS, priors, se="se")[0]
    line = sample_exact(proper, request, np.random.default_rng(1))
    many = SamplerSettings(20_000, 4, 0, (), progress=False)
    landscape, rng = explore(proper, many), np.random.default_rng(2)
    proposed = sample_by_proposals(landscape, many, rng, moving=False)

    def joint(sd):
        V = np.diag(SE**2 + sd**2) + 12.0**2
        return stats.multivariate_normal(np.full(8, 3.0), V).pdf(Y) * PRIORS[prior].pdf(sd)

    exact = np.log(sum(integrate.quad(joint, a, b)[0] for a, b in ((0, 20), (20, 200))))
    assert line.log_marginal_likelihood == pytest.approx(exact, abs=1e-7)
    weight = np.exp(proposed.log_weight.ravel() - proposed.log_weight.max())
    error = weight.std() / weight.mean() / np.sqrt(weight.size)
    assert abs(proposed.log_marginal_likelihood - exact) < 4.5 * error


def test_flat_prior_needs_three_studies():
    made = rf.fit(FORMULA, SCHOOLS, se="se", priors={"1|school": "flat"}, seed=1)
    assert made.certificate.trusted
    with pytest.raises(rf.ImproperPosteriorError, match="needs more than 1 free directions"):
        rf.fit(FORMULA, SCHOOLS[:2], se="se", priors={"1|school": "flat"})


def test_same_posterior_in_any_unit():
    made = {
        unit: rf.fit(
            FORMULA,
            SCHOOLS.assign(y=unit * Y, se=unit * SE),
            se="se",
            priors={"1|school": f"half_t({10 * unit})"},
            seed=1,
        ).summary()
        for unit in (1.0, 2.0**30, 2.0**-30)
    }
    for unit, table in made.items():
        np.testing.assert_allclose(table["mean"] / unit, made[1.0]["mean"], rtol=1e-6)


# -- other structures ------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["(1|study)", "(1|study/outcome)", "(x|study)"])
def test_exact_and_gibbs_agree(group):
    # Away from zero, where Gibbs hardly moves.
    frame, formula = studies(G=24, study_sd=2.0, outcome_sd=1.5), f"y ~ x + {group}"
    priors = {"1|study": "half_t(1)", "1|study:outcome": "half_t(1)", "x|study": "half_t(1)"}
    named = {"(1|study)": ["1|study"], "(x|study)": ["1|study", "x|study"]}
    names = named.get(group, ["1|study", "1|study:outcome"])
    given = {n: priors[n] for n in names}
    if group == "(x|study)":
        frame["y"] += frame["x"] * np.random.default_rng(1).normal(size=24)[frame["study"]]
    exact = rf.fit(formula, frame, se="se", priors=given, draws=20_000, seed=1)
    gibbs = rf.fit(
        formula, frame, se="se", priors=given, draws=40_000, chains=8, seed=2, method="gibbs"
    )
    assert "sigma" not in exact.summary().index
    assert "sigma" not in gibbs.summary().index
    for name in exact.summary().index:
        if "[" in name:
            continue
        a = exact.draws["posterior"][name].to_numpy()
        b = gibbs.draws["posterior"][name].to_numpy()
        reference = {"mean": a.mean(), "sd": a.std(), "q50": np.median(a)}
        assert worst(errors_of(b, reference, reference_ess=10_000)) < 4.5, name
    ours, theirs = exact.effects(), gibbs.effects()
    assert np.abs((ours["mean"] - theirs["mean"]) / ours["sd"]).max() < 0.1
    lp = [f.draws["sample_stats"]["lp"].to_numpy() for f in (exact, gibbs)]
    assert abs(lp[0].mean() - lp[1].mean()) < 0.2


def test_general_sampler_draws_the_random_intercept_as_the_line_does():
    _, truth, _, _ = school_truth(PRIORS["half_t(10)"])
    model = build_model(FORMULA, SCHOOLS, {"1|school": "half_t(10)"}, se="se")[0]
    request = SamplerSettings(20_000, 4, 0, ("1|school",), progress=False)
    landscape = explore(model, request)
    made = sample_by_proposals(landscape, request, np.random.default_rng(4), moving=False)
    assert made.theta.shape[-1] == 1
    assert np.ptp(made.sigma) == 0
    assert worst(errors_of(made.scales["1|school"], truth)) < 4.5
    line = rf.fit(FORMULA, SCHOOLS, se="se", priors={"1|school": "half_t(10)"}, seed=1)
    mean, sd = made.moments["1|school"]
    np.testing.assert_allclose(mean, line.effects()["mean"], atol=0.15)
    np.testing.assert_allclose(sd, line.effects()["sd"], rtol=0.03)
    drawn = made.effects["1|school"].reshape(-1, 8)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=5 * sd.max() / np.sqrt(10_000))


def test_interpolated_likelihood_is_the_likelihood():
    frame = studies(G=400, outcome_sd=1.0)
    model = build_model("y ~ x + (1|study/outcome)", frame, se="se")[0]
    target = MarginalPosterior(model)
    begin = starts(model)[0]
    assert begin.shape == (2,)
    other, mode, error = interpolate(target, begin)
    assert mode.shape == (2,)
    assert error < 0.01
    near = mode + 0.1 * np.random.default_rng(1).normal(size=(20, 2))
    np.testing.assert_allclose(other.log_density(near), target.log_density(near), atol=0.02)


# -- what the fit holds ----------------------------------------------------------------------------


def test_fit_without_sigma_is_saved_shown_and_drawn(tmp_path):
    made = rf.fit(FORMULA, SCHOOLS, se="se", seed=1, effects="draws")
    assert list(made.summary().index) == ["Intercept", "1|school_sigma"]
    assert "sigma" not in made.draws["posterior"]
    assert made.draws.attrs["se"] == "se"
    assert "Residual     known standard errors, se" in str(made)
    assert "sigma ~" not in str(made)
    made.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    assert str(again) == str(made)
    assert again.draws.identical(made.draws)
    assert made.plot.density() is not None
    drawn = made.draws["posterior"]["1|school"].to_numpy()
    assert drawn.shape == (4, 1000, 8)


def test_model_without_sigma_has_no_prior_of_it():
    model = rf.model(FORMULA, SCHOOLS, se="se")
    assert list(model.priors) == ["Intercept", "1|school"]
    assert list(model.prior_draws(10, seed=1).columns) == ["1|school_sigma"]
    with pytest.raises(DataError, match="values names 'sigma', which known standard errors leave"):
        model.log_likelihood({"sigma": 1.0, "1|school": 1.0})
    with pytest.raises(DataError, match=r"Did you mean '1\|school'"):
        model.log_likelihood({"1|school": 1.0, "1|schol": 1.0})


def test_command_line_takes_standard_errors(tmp_path):
    SCHOOLS.to_csv(tmp_path / "schools.csv", index=False)
    arguments = [str(tmp_path / "schools.csv"), FORMULA, "--se", "se", "--out", str(tmp_path / "o")]
    made = subprocess.run(
        [sys.executable, "-c", "from ranef.cli.commands import main; main()", "fit", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "Residual     known standard errors, se" in made.stdout
    assert "<b>Residual.</b> known standard errors, se." in (tmp_path / "o/report.html").read_text()


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "Standard error 'se' is 0 in row 3 of the complete rows; positive numbers are"),
        (-2.0, "Standard error 'se' is -2 in row 3 of the complete rows"),
        (np.inf, "Column 'se' holds an infinite value"),
        ("?", "Column 'se' must be numeric, but row 3 holds"),
    ],
)
def test_standard_errors_are_positive_numbers(value, message):
    frame = SCHOOLS.assign(se=[*SE[:2], value, *SE[3:]])
    with pytest.raises(DataError, match=message):
        rf.fit(FORMULA, frame, se="se")


def test_rows_without_standard_error_are_left_out():
    frame = SCHOOLS.assign(se=[*SE[:2], np.nan, *SE[3:]])
    with pytest.warns(rf.MissingRowsWarning, match="1 of 8 rows"):
        made = rf.fit(FORMULA, frame, se="se", seed=1)
    assert made.draws.attrs["rows"] == 7


def test_what_standard_errors_exclude_is_refused():
    with pytest.raises(DataError, match="weights='se' and se='se' came; give one of them"):
        rf.fit(FORMULA, SCHOOLS, se="se", weights="se")
    with pytest.raises(PriorError, match=r"for 'sigma', but se='se' makes the residual"):
        rf.fit(FORMULA, SCHOOLS, se="se", priors={"sigma": "half_t(1)"})
    with pytest.raises(DataError, match="se is 'sd', which is no column of the table"):
        rf.fit(FORMULA, SCHOOLS, se="sd")
    with pytest.raises(DataError, match=r"se is \[1.0, .*\]; the name of a column is expected"):
        rf.fit(FORMULA, SCHOOLS, se=[1.0] * 8)


def test_group_effects_beyond_the_reach_of_double_precision_are_refused():
    frame = studies().assign(se=1e-9)
    with pytest.raises(DataError, match="100,000 times as large as the known standard errors"):
        rf.fit("y ~ x + (1|study/outcome)", frame, se="se")


def test_two_factors_of_the_same_rows_are_told():
    frame = SCHOOLS.assign(outcome=1)
    with pytest.raises(IdentifiabilityError, match="'school' and 'school:outcome' put the same"):
        rf.fit("y ~ 1 + (1|school/outcome)", frame, se="se")
    priors = {"1|school": "half_t(5)", "1|school:outcome": "half_t(5)"}
    with pytest.warns(IdentifiabilityWarning, match=r"the sum 1\|school_sigma\^2 \+ 1\|school:out"):
        rf.fit("y ~ 1 + (1|school/outcome)", frame, se="se", priors=priors, seed=1)


def test_weights_are_those_of_the_standard_errors():
    _, rows = build_model(FORMULA, SCHOOLS, se="se")
    np.testing.assert_allclose(rows.spec.sigma / np.sqrt(rows.weights), SE, rtol=1e-14)
    assert np.exp(compress(rows).log_weights) == pytest.approx(1.0)

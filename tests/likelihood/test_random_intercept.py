"""The marginal likelihood against dense normal distributions, in the user's units.

`helpers.Dense` knows nothing of cells, designs or orthonormal columns: it factors the N by N
covariance of the rows. Where that loses its digits (variance ratios of 1e-12 and 1e12) the same
expressions are evaluated in exact rational arithmetic.
"""

from fractions import Fraction
from math import log, pi

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import ranef as rf
from helpers import dense_of, load_json, posterior_grid
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.mixed_model.model import build_model
from ranef.numerics.batched_linalg import cholesky, solve_lower, solve_upper
from ranef.numerics.quadrature import integrate_line
from ranef.samplers.independent.random_intercept_effects import effect_moments
from ranef.samplers.sample import Points

IG = rf.variance(stats.invgamma(1.5, scale=0.8))
OTHER_IG = rf.variance(stats.invgamma(0.7, scale=2.0))


def example(counts, covariates=(), intercept=True, priors=None, seed=1, scale=None):
    """A table, its model and the dense counterpart.

    Covariates are named w (varies within groups) or v (constant within groups), with a number.
    """
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(len(counts)), counts)
    N = len(g)
    table = {"g": g, "y": 5 + rng.normal(0, 2, len(counts))[g] + rng.normal(0, 1, N)}
    for name in covariates:
        shift, unit = rng.choice([0.0, 1.0, -3.0]), rng.choice([0.2, 1.0, 5.0])
        draws = rng.normal(size=N) if name[0] == "w" else rng.normal(size=len(counts))[g]
        table[name] = unit * (shift + draws)
    terms = " + ".join(["1" if intercept else "0", *covariates, "(1|g)"])
    scales = scale or {"sigma": IG, "1|g": OTHER_IG}
    model, columns = build_model(f"y ~ {terms}", pd.DataFrame(table), {**scales, **(priors or {})})
    return model, dense_of(columns, model), columns


@st.composite
def examples(draw):
    """Unbalanced designs of 2 to 6 groups with 0 to 3 covariates, some with normal priors."""
    counts = draw(st.lists(st.integers(1, 5), min_size=2, max_size=6))
    intercept = draw(st.booleans())
    p = draw(st.integers(0, 3))
    kinds = draw(st.lists(st.sampled_from("wv"), min_size=p, max_size=p))
    # Fewer columns than rows, and fewer group-level columns than groups.
    kinds = kinds[: max(0, min(p, sum(counts) - 2 - intercept))]
    level = 0
    names = []
    for i, kind in enumerate(kinds):
        level += kind == "v"
        kind = "w" if kind == "v" and level + intercept >= len(counts) else kind
        if kind == "w" and sum(counts) - len(counts) <= sum(n[0] == "w" for n in names):
            continue
        names.append(f"{kind}{i}")
    own = [*(["Intercept"] if intercept else []), *names]
    proper = [n for n in own if draw(st.booleans())]
    priors = {
        n: stats.norm(
            draw(st.sampled_from([0.0, 1.0, -4.0])), draw(st.sampled_from([0.1, 1.0, 10.0]))
        )
        for n in proper
    }
    if max(counts) == 1:
        counts[0] = 2
    seed = draw(st.integers(0, 10_000))
    rho = draw(st.floats(-9, 7))
    tau = draw(st.floats(-1.5, 2.5))
    model, dense, _ = example(counts, names, intercept, priors, seed)
    if names:
        # Digits are lost with the condition of X on either side; offsets have their own tests.
        assume(np.linalg.cond(dense.X / np.linalg.norm(dense.X, axis=0)) < 30)
    return (model, dense), rho, tau


def arrays(*values):
    return tuple(np.atleast_1d(np.asarray(v, dtype=float)) for v in values)


fixed = settings(max_examples=100, derandomize=True, deadline=None, database=None)


@fixed
@given(examples())
def test_likelihoods_equal_a_dense_normal_with_flat_and_normal_coefficients(case):
    (model, dense), rho, tau = case
    target = RandomIntercept(model)
    reml, ml = (target.log_likelihood(*arrays(rho, tau), reml=r)[0] for r in (True, False))
    assert reml == pytest.approx(dense.reml(rho, tau), rel=1e-9, abs=1e-9)
    assert ml == pytest.approx(dense.ml(rho, tau), rel=1e-9, abs=1e-9)


@fixed
@given(examples())
def test_coefficients_and_effects_have_their_dense_conditional_moments(case):
    (model, dense), rho, tau = case
    target, design = RandomIntercept(model), model.design
    rho_, tau_ = arrays(rho, tau)
    mean, root = target.coefficient_moments(target.profile(rho_), tau_)
    root = design.T @ root[0]
    expected, covariance = dense.coefficients(rho, tau)
    sd = np.sqrt(np.diag(covariance))
    got = model.response.beta_ls + design.T @ mean[0]
    np.testing.assert_allclose((got - expected) / sd, 0, atol=1e-6)
    scale = np.outer(sd, sd)
    np.testing.assert_allclose(root @ root.T / scale, covariance / scale, atol=1e-7)

    point = Points(rho_, tau_, np.ones(1), np.exp(2 * tau_))
    effect_mean, effect_sd = effect_moments(target, point)
    expected, covariance = dense.effects(rho, tau)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((effect_mean - expected) / sd, 0, atol=1e-6)
    np.testing.assert_allclose(effect_sd / sd, 1, atol=1e-6)


def test_the_dense_comparison_notices_the_articles_error():
    """A covariance with the 2 on the wrong term moves the likelihood by nats."""
    model, dense, _ = example([2] * 6)
    target = RandomIntercept(model)
    for rho, tau in ((1.0, 0.2), (-1.0, 0.5)):
        right = target.log_likelihood(*arrays(rho, tau))[0]
        assert right == pytest.approx(dense.reml(rho, tau), rel=1e-12)
        assert abs(dense.reml(-rho, tau + rho / 2) - right) > 0.1


def test_many_values_at_once_equal_one_at_a_time():
    model, _, _ = example([1, 2, 5, 3], ["w0", "v1"], priors={"w0": stats.norm(0, 1)})
    target = RandomIntercept(model)
    rho, tau = np.linspace(-5, 5, 7), np.linspace(-1, 1, 7)
    one = [float(target.log_density(*arrays(r, t))[0]) for r, t in zip(rho, tau, strict=True)]
    np.testing.assert_allclose(target.log_density(rho, tau), one, rtol=1e-13)
    table = target.log_density(rho, np.tile(tau, (7, 1)))
    np.testing.assert_allclose(np.diag(table), one, rtol=1e-13)


# -- densities


SCALES = {
    "inverse gamma": ({"sigma": IG, "1|g": OTHER_IG}, None),
    "half_t": ({"sigma": rf.half_t(2.0), "1|g": rf.half_t(1.5, df=4)}, None),
    "mixed": ({"sigma": stats.expon(scale=2), "1|g": IG}, None),
    "bounded": ({"sigma": stats.uniform(0, 4), "1|g": stats.uniform(0.5, 3)}, None),
    "flat": ({"sigma": rf.jeffreys(), "1|g": rf.flat()}, None),
}


def log_prior(prior, sd):
    """Log density of an SD under a prior as the user states it, up to nothing."""
    if prior == rf.jeffreys():
        return -np.log(sd)
    if prior == rf.flat():
        return 0.0
    if hasattr(prior, "distribution"):
        return prior.distribution.logpdf(sd**2) + np.log(2 * sd)
    return prior.logpdf(sd)


@pytest.mark.parametrize("scale", SCALES)
def test_the_joint_density_is_likelihood_times_priors_times_jacobian(scale):
    priors, _ = SCALES[scale]
    model, dense, _ = example([4, 2, 3, 5], ["w0"], scale=priors, priors={"w0": stats.norm(0, 2)})
    target = RandomIntercept(model)
    for rho, tau in ((0.3, 0.1), (-2.0, 0.8), (1.5, -0.4), (3.0, 0.0)):
        sigma, group = np.exp(tau), np.exp(tau + rho / 2)
        jacobian = np.log(sigma) + np.log(group / 2)  # d(sigma, group) / d(tau, rho)
        expected = (
            dense.reml(rho, tau)
            + log_prior(priors["sigma"], sigma)
            + log_prior(priors["1|g"], group)
            + jacobian
        )
        assert target.log_density(*arrays(rho, tau))[0] == pytest.approx(expected, rel=1e-11)


def test_the_density_of_the_ratio_is_the_joint_density_integrated_over_tau():
    model, _, _ = example([1, 2, 5, 3], ["w0"])
    target = RandomIntercept(model)
    for rho in (-6.0, 0.0, 4.0):
        top = target.log_density(np.full(200, rho), np.linspace(-6, 9, 200)).max()

        def joint(tau, rho=rho, top=top):
            return np.exp(target.log_density(*arrays(rho, tau))[0] - top)

        mass = integrate.quad(joint, -6, 9, epsabs=0, epsrel=1e-11, limit=300, points=[0, 1, 2])[0]
        expected = top + np.log(mass)
        assert target.log_density_ratio(arrays(rho)[0])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("intercept", [True, False])
def test_the_density_of_the_ratio_has_the_mass_of_the_joint_density(intercept):
    model, _, _ = example([1, 2, 5, 3], intercept=intercept)
    line = integrate_line(RandomIntercept(model).log_density_ratio)
    assert line.log_mass == pytest.approx(posterior_grid(model).log_mass, abs=1e-6)


def test_the_mass_is_the_marginal_likelihood_of_monte_carlo_over_the_prior():
    """Averaging dense likelihoods over prior draws shares nothing with any quadrature."""
    model, dense, _ = example([2, 3, 1], priors={"Intercept": stats.norm(4, 3)})
    rng = np.random.default_rng(1)
    sigma, group = (
        p.draw(rng, 4000)
        for p in (model.parameters.family.sigma, model.parameters.terms[0].scales[0])
    )
    logs = np.array(
        [dense.reml(2 * np.log(b / s), np.log(s)) for s, b in zip(sigma, group, strict=True)]
    )
    values = np.exp(logs - logs.max())
    error = values.std() / values.mean() / np.sqrt(len(values))
    estimate = logs.max() + np.log(values.mean())
    mass = posterior_grid(model).log_mass
    assert error < 0.05
    assert abs(estimate - mass) < 4 * error
    assert abs(estimate - (mass + np.log(2))) > 4 * error  # a forgotten Jacobian


def test_only_conjugate_models_have_a_density_of_the_ratio():
    model, _, _ = example([2, 3], scale={"sigma": rf.half_t(1), "1|g": IG})
    target = RandomIntercept(model)
    assert not target.conjugate
    with pytest.raises(TypeError, match="conjugate"):
        target.log_density_ratio(np.zeros(1))
    assert RandomIntercept(example([2, 3])[0]).conjugate
    normal = {"Intercept": stats.norm(0, 1)}
    assert not RandomIntercept(example([2, 3], priors=normal)[0]).conjugate


# -- lme4


LME4 = {
    "Dyestuff": ("Yield ~ 1 + (1|Batch)", "1|Batch"),
    "sleepstudy": ("Reaction ~ Days + (1|Subject)", "1|Subject"),
}


@pytest.mark.parametrize("kind", ["reml", "ml"])
@pytest.mark.parametrize("data", LME4)
def test_criteria_equal_lme4s_and_are_largest_at_its_estimates(data, kind):
    formula, _ = LME4[data]
    known = load_json("lme4_random_intercept")[data][kind]
    model, _ = build_model(formula, rf.datasets.load(data))
    target = RandomIntercept(model)

    def criterion(group, residual):
        rho, tau = arrays(np.log(group / residual), np.log(residual) / 2)
        return -2 * float(target.log_likelihood(rho, tau, reml=kind == "reml")[0])

    best = criterion(known["group"], known["residual"])
    assert best == pytest.approx(known["minus2loglik"], abs=1e-8)
    for factor in (0.98, 1.02):
        assert criterion(known["group"] * factor, known["residual"]) > best + 1e-5
        assert criterion(known["group"], known["residual"] * factor) > best + 1e-5


@pytest.mark.parametrize("kind", ["reml", "ml"])
def test_dyestuff_criteria_equal_the_published_ones_to_their_digits(kind):
    known = load_json("reference")["likelihood_fits"]["Dyestuff: Yield ~ 1 + (1|Batch)"][kind]
    model, _ = build_model("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"))
    rho = np.log(known["Batch"] / known["residual"])
    tau = np.log(known["residual"]) / 2
    value = -2 * RandomIntercept(model).log_likelihood(*arrays(rho, tau), reml=kind == "reml")[0]
    # Four decimals are printed; the rounded variances move the criterion by less than 1e-8.
    assert value == pytest.approx(known["minus2loglik"], abs=0.5e-4 + 1e-8)


@pytest.mark.parametrize("data", LME4)
def test_coefficients_and_their_standard_errors_equal_lme4s(data):
    known = load_json("lme4_random_intercept")[data]["reml"]
    model, _ = build_model(LME4[data][0], rf.datasets.load(data))
    target = RandomIntercept(model)
    rho, tau = arrays(np.log(known["group"] / known["residual"]), np.log(known["residual"]) / 2)
    mean, root = target.coefficient_moments(target.profile(rho), tau)
    T = model.design.T
    np.testing.assert_allclose(model.response.beta_ls + T @ mean[0], known["beta"], rtol=1e-7)
    se = np.sqrt(((T @ root[0]) ** 2).sum(axis=1))
    np.testing.assert_allclose(se, known["se_beta"], rtol=1e-7)


# -- extreme variance ratios, in exact arithmetic


def rational_criteria(dense, ratio, sigma2, weights=None):
    """REML and ML log likelihoods by elimination in rational numbers, from the same doubles."""
    N = len(dense.y)
    inverse = [Fraction(1)] * N if weights is None else [Fraction(float(w)) for w in weights]
    X = [[Fraction(float(v)) for v in row] for row in dense.X]
    proper = [
        (j, m, s) for j, (m, s) in enumerate(zip(dense.mean, dense.sd, strict=True)) if s < np.inf
    ]
    V = [
        [
            Fraction(sigma2)
            * ((i == j) / inverse[i] + Fraction(ratio) * int(dense.codes[i] == dense.codes[j]))
            for j in range(N)
        ]
        for i in range(N)
    ]
    ml, _ = _eliminate(V, X, [Fraction(float(v)) for v in dense.y])
    y = [
        Fraction(float(v)) - sum(row[j] * Fraction(float(m)) for j, m, _ in proper)
        for row, v in zip(X, dense.y, strict=True)
    ]
    for j, _, s in proper:
        V = [
            [V[i][k] + X[i][j] * X[k][j] * Fraction(float(s)) ** 2 for k in range(N)]
            for i in range(N)
        ]
    flat = [j for j in range(len(dense.sd)) if j not in [c[0] for c in proper]]
    _, reml = _eliminate(V, [[row[j] for j in flat] for row in X], y)
    return reml, ml


def _eliminate(V, X, y):
    """ML and REML log likelihoods of y ~ N(X beta, V), beta at its best or integrated out."""
    N, p = len(y), len(X[0]) if X else 0
    # Eliminating V from [V | X y] leaves -[X y]' V^-1 [X y] in the border.
    border = [[*X[i], y[i]] for i in range(N)]
    matrix = [V[i] + border[i] for i in range(N)]
    matrix += [[border[j][i] for j in range(N)] + [Fraction(0)] * (p + 1) for i in range(p + 1)]
    logs = []
    for k in range(N + p):
        pivot = matrix[k][k]
        logs.append(log(abs(pivot.numerator)) - log(pivot.denominator))
        for i in range(k + 1, N + p + 1):
            if matrix[i][k]:
                factor = matrix[i][k] / pivot
                matrix[i] = [a - factor * b for a, b in zip(matrix[i], matrix[k], strict=True)]
    rest = float(-matrix[-1][-1])
    ml = -0.5 * (N * log(2 * pi) + sum(logs[:N]) + rest)
    return ml, -0.5 * ((N - p) * log(2 * pi) + sum(logs) + rest)


@pytest.mark.parametrize("ratio", ["1e-12", "1e-6", "1", "1e6", "1e12"])
@pytest.mark.parametrize(
    ("covariates", "intercept", "proper"),
    [
        ((), True, ()),
        ((), False, ()),
        (("w0",), True, ()),
        (("w0", "v1"), True, ("w0", "v1")),
        (("w0",), True, ("Intercept", "w0")),
    ],
)
def test_extreme_variance_ratios_equal_rational_arithmetic(ratio, covariates, intercept, proper):
    priors = {name: stats.norm(0.5, 4.0) for name in proper}
    model, dense, _ = example([1, 3, 2, 2], covariates, intercept, priors, seed=4)
    target = RandomIntercept(model)
    rho, tau = arrays(np.log(float(ratio)), 0.5 * np.log(2.25))
    reml, ml = rational_criteria(dense, ratio, "2.25")
    assert target.log_likelihood(rho, tau, reml=True)[0] == pytest.approx(reml, rel=1e-9)
    assert target.log_likelihood(rho, tau, reml=False)[0] == pytest.approx(ml, rel=1e-9)


@pytest.mark.parametrize("shift", [1e3, 1e8])
@pytest.mark.parametrize("proper", [(), ("w0",)])
def test_offsets_of_response_and_covariates_cost_no_digits(shift, proper):
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(4), [1, 3, 2, 2])
    table = pd.DataFrame(
        {"g": g, "w0": shift + rng.normal(size=8), "y": 2 * shift + rng.normal(size=8)}
    )
    priors = {"sigma": IG, "1|g": IG, **{n: stats.norm(1.0, 2.0) for n in proper}}
    model, columns = build_model("y ~ 1 + w0 + (1|g)", table, priors)
    reml, ml = rational_criteria(dense_of(columns, model), "3", "0.5")
    target = RandomIntercept(model)
    rho, tau = arrays(np.log(3), 0.5 * np.log(0.5))
    assert target.log_likelihood(rho, tau, reml=True)[0] == pytest.approx(reml, rel=1e-9)
    assert target.log_likelihood(rho, tau, reml=False)[0] == pytest.approx(ml, rel=1e-9)


@pytest.mark.parametrize(
    ("tight", "wide", "spread"),
    [(1e-3, np.inf, 0.01), (1e-6, np.inf, 1.0), (1e-4, 1000.0, 1.0), (1e-3, 1000.0, 0.01)],
)
def test_a_tight_prior_beside_wide_and_flat_ones_costs_no_digits(tight, wide, spread):
    """Prior precisions up to 1e16 apart; the residual SD is large, so that all of them count."""
    rng = np.random.default_rng(3)
    w1 = rng.normal(size=8)
    table = {
        "g": np.repeat(np.arange(4), [1, 3, 2, 2]),
        "w0": spread * (w1 + rng.normal(size=8)),
        "w1": w1,
        "y": 1e4 + 1e4 * rng.normal(size=8),
    }
    priors = {"sigma": IG, "1|g": IG, "w0": stats.norm(0, tight)}
    if np.isfinite(wide):
        priors |= {"Intercept": stats.norm(0, wide), "w1": stats.norm(0, wide)}
    model, columns = build_model("y ~ 1 + w0 + w1 + (1|g)", pd.DataFrame(table), priors)
    dense = dense_of(columns, model)
    target = RandomIntercept(model)
    rho, tau = arrays(np.log(3), 0.5 * np.log(1e8))
    reml, _ = rational_criteria(dense, "3", "1e8")
    assert target.log_likelihood(rho, tau)[0] == pytest.approx(reml, rel=1e-10)
    mean, root = target.coefficient_moments(target.profile(rho), tau)
    expected, covariance = dense.coefficients(rho[0], tau[0])
    sd = np.sqrt(np.diag(covariance))
    root = model.design.T @ root[0]
    got = model.response.beta_ls + model.design.T @ mean[0]
    np.testing.assert_allclose((got - expected) / sd, 0, atol=1e-5)
    np.testing.assert_allclose(np.sqrt((root**2).sum(axis=1)) / sd, 1, rtol=1e-6)


def test_everything_stays_finite_far_out_and_reaches_its_limits():
    model, dense, _ = example([1, 3, 2, 2], ["w0"])
    target = RandomIntercept(model)
    rho = np.array([-600.0, -27.6, 0.0, 27.6, 600.0])
    tau = np.zeros(5)
    for values in (
        target.log_likelihood(rho, tau),
        target.log_likelihood(rho, tau, reml=False),
        target.profile(rho).rest,
    ):
        assert np.isfinite(values).all()
    for reml, expected in ((True, dense.reml), (False, dense.ml)):
        got = target.log_likelihood(rho, tau, reml=reml)[0]
        assert got == pytest.approx(expected(-700.0, 0.0), rel=1e-12)  # no group effect
    # Each doubling of a huge ratio costs half a log for each free direction between groups.
    high = target.log_likelihood(np.array([600.0, 601.0]), np.zeros(2))
    assert high[1] - high[0] == pytest.approx(-0.5 * (4 - 1), rel=1e-9)
    assert np.array_equal(target.shrinkage(np.array([-800.0, 800.0]))[:, 0], [0.0, 1.0])


def test_covariates_that_explain_all_within_groups_leave_a_positive_rest():
    """Three groups of two, three columns within groups: only rounding is left far out."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "g": [0, 0, 1, 1, 2, 2],
            "x": rng.normal(size=6),
            "v": rng.normal(size=3)[[0, 0, 1, 1, 2, 2]],
            "f": list("abcabc"),
            "y": rng.normal(size=6),
        }
    )
    priors = {"sigma": rf.half_t(2), "1|g": rf.half_t(2)}
    model, columns = build_model("y ~ 1 + x + v + f + (1|g)", table, priors)
    target = RandomIntercept(model)
    rho = np.linspace(-200, 200, 801)
    assert np.all(target.profile(rho).rest > 0)
    assert np.isfinite(target.log_likelihood(rho, -rho / 2)).all()
    reml, _ = rational_criteria(dense_of(columns, model), "1e4", "0.01")
    far = arrays(np.log(1e4), 0.5 * np.log(0.01))
    assert target.log_likelihood(*far)[0] == pytest.approx(reml, rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("digits", [2, 5, 7, 8, 10])
def test_residuals_far_below_the_group_effects_keep_their_digits(digits, weighted):
    """What groups differ by must not drown the squares within them, with covariates either."""
    rng = np.random.default_rng(digits)
    g = np.repeat(np.arange(6), [3, 4, 2, 3, 5, 1])
    x, v = rng.normal(size=(2, len(g)))
    between = rng.normal(size=6)[g]
    sigma = 10.0**-digits
    y = 5 + 2 * x + between + rng.normal(size=6)[g] + sigma * rng.normal(size=len(g))
    table = pd.DataFrame({"y": y, "x": x, "v": v, "between": between, "g": g})
    # Weights of 4 double a row's precision twice over; rationals carry them exactly.
    table["w"] = np.where(g % 2, 4.0, 1.0) if weighted else 1.0
    model, columns = build_model(
        "y ~ x + v + between + (1|g)", table, {"v": stats.norm(0, 1)}, weights="w"
    )
    target = RandomIntercept(model)
    dense = dense_of(columns, model)
    ratio, sigma2 = f"1e{2 * digits}", f"1e-{2 * digits}"
    reml, ml = rational_criteria(dense, ratio, sigma2, weights=table["w"])
    rho, tau = arrays(np.log(float(ratio)), -digits * np.log(10.0))
    # Squares of the residuals carry what rounding the rows left: eps / sigma, relative.
    close = max(1e-9, 50 * np.finfo(float).eps / sigma)
    assert target.log_likelihood(rho, tau, reml=True)[0] == pytest.approx(reml, rel=close)
    assert target.log_likelihood(rho, tau, reml=False)[0] == pytest.approx(ml, rel=close)


# -- small matrices


@fixed
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 1000))
def test_stacked_factors_and_solves_equal_numpys(p, n, seed):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, p, p + 2))
    A = A @ A.transpose(0, 2, 1)
    b = rng.normal(size=(n, p))
    F = cholesky(A)
    np.testing.assert_allclose(F, np.linalg.cholesky(A), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", F, solve_lower(F, b)), b, atol=1e-8)
    np.testing.assert_allclose(np.einsum("nji,nj->ni", F, solve_upper(F, b)), b, atol=1e-8)

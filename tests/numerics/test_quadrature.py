"""Quadrature on the line, its proposal, the table beside it, and independence Metropolis."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import betaln, gammaln, logsumexp

import ranef as rf
from helpers import batch_scores
from ranef import RanefError
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.mixed_model.model import build_model
from ranef.numerics.conditional_quadrature import integrate_conditional
from ranef.numerics.log_linear import build_log_linear
from ranef.numerics.metropolis import accept
from ranef.numerics.quadrature import integrate_line

ALPHA = 1e-3  # of each Kolmogorov-Smirnov test; seeds are fixed


def mixture(*parts):
    """Normal mixture from (share, mean, sd)."""
    return lambda x: logsumexp(
        [np.log(w) + stats.norm.logpdf(x, m, s) for w, m, s in parts], axis=0
    )


def log_beta(a, b):
    """A beta(a, b) variable's log odds: exponential tails with slopes a and -b."""
    return lambda x: a * x - (a + b) * np.logaddexp(0, x) - betaln(a, b)


DENSITIES = {
    **{
        f"normal, sd {sd:g}, at {at:g}": stats.norm(at, sd).logpdf
        for sd in (1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0, 2.0, 5.0)
        for at in (0.0, 0.3, -2.5, 60.4, 300.37, -600.1)
    },
    "two modes": mixture((0.3, -12, 0.8), (0.7, 3, 0.5)),
    "two modes, one narrow": mixture((0.5, -12, 0.8), (0.5, 3, 0.01)),
    "two modes, far apart": mixture((0.5, -40, 0.8), (0.5, 45, 0.5)),
    "two modes, overlapping": mixture((0.6, 0, 1.0), (0.4, 1.7, 0.4)),
    "three modes": mixture((0.2, -9, 0.1), (0.5, 0.0, 2.0), (0.3, 11, 0.5)),
    "narrow mode on a wide one": mixture((0.9, 0, 4.0), (0.1, 2.5, 0.05)),
    "logistic": stats.logistic(2.3, 1.7).logpdf,
    "logistic, narrow": stats.logistic(2.3, 0.1).logpdf,
    "logistic, wide": stats.logistic(-3, 12).logpdf,
    "gumbel": stats.gumbel_r(2.3, 1.7).logpdf,
    "normal plus exponential": stats.exponnorm(2.0, loc=-4, scale=0.3).logpdf,
    "exponential tails 1/2 and 5": log_beta(0.5, 5),
    "exponential tails 0.07 and 5": log_beta(0.07, 5),
    "exponential tails 8 and 0.1": log_beta(8, 0.1),
    "kink": stats.laplace(2.3, 1.7).logpdf,
}


# -- quadrature


@pytest.mark.parametrize("name", DENSITIES)
def test_known_densities_have_mass_one_wherever_they_lie(name):
    line = integrate_line(DENSITIES[name])
    assert line.log_mass == pytest.approx(0, abs=1e-8)
    assert line.error < 1e-6
    assert line.weight.sum() == pytest.approx(1, rel=1e-12)
    assert np.all(np.diff(line.x) > 0)


@pytest.mark.parametrize("sd", [1e-4, 0.02, 1.0, 5.0])
def test_weights_give_moments(sd):
    line = integrate_line(stats.norm(7.3, sd).logpdf)
    assert line.weight @ line.x == pytest.approx(7.3, rel=1e-10)
    assert line.weight @ (line.x - 7.3) ** 2 == pytest.approx(sd**2, rel=1e-8)


@pytest.mark.parametrize("constant", [-1e5, 1e5])
def test_a_constant_shifts_the_log_mass_alone(constant):
    line = integrate_line(lambda x: stats.norm.logpdf(x, 1.0, 0.4) + constant)
    assert line.log_mass == pytest.approx(constant, abs=1e-8)
    assert np.array_equal(line.x, integrate_line(lambda x: stats.norm.logpdf(x, 1.0, 0.4)).x)


def tight_prior_posterior():
    """IG(0.001, 1e-8), five groups of four that do not differ: two modes (mathematics.md, 2)."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"g": np.repeat(np.arange(5), 4), "y": rng.normal(size=20)})
    tight = rf.variance(stats.invgamma(0.001, scale=1e-8))
    model, _ = build_model("y ~ 1 + (1|g)", table, {"sigma": tight, "1|g": tight})
    return RandomIntercept(model)


def test_both_modes_of_a_tight_priors_posterior_are_found():
    target = tight_prior_posterior()
    line = integrate_line(target.log_density_ratio)
    # Independent of the adaptive panels: the trapezoidal rule on a fine grid.
    grid = np.linspace(-120, 60, 180_001)
    f = target.log_density_ratio(grid)
    mass = logsumexp(f) + np.log(grid[1] - grid[0])
    assert line.log_mass == pytest.approx(mass, abs=1e-8)
    modes = grid[1:-1][(f[1:-1] > f[:-2]) & (f[1:-1] > f[2:])]
    assert len(modes) == 2
    low, high = modes
    between = 0.5 * (low + high)
    share = np.exp(logsumexp(f[grid < between]) - logsumexp(f))
    assert 0.01 < share < 0.99
    assert line.weight[line.x < between].sum() == pytest.approx(share, abs=0.01)
    # Negative control: a normal approximation at the upper mode misses the other.
    i = int(np.argmin(np.abs(grid - high)))
    bend = (f[i - 100] - 2 * f[i] + f[i + 100]) / (grid[100] - grid[0]) ** 2
    laplace = f[i] + 0.5 * np.log(2 * np.pi / -bend)
    assert abs(laplace - mass) > 0.1


def test_mass_beyond_double_precision_is_refused():
    with pytest.raises(RanefError, match="lighter tails"):
        integrate_line(lambda x: -0.01 * np.abs(x))
    with pytest.raises(RanefError, match="lighter tails"):
        integrate_line(stats.t(3).logpdf)


# -- its proposal


@pytest.mark.parametrize("name", DENSITIES)
def test_the_proposal_follows_the_density(name):
    log_f = DENSITIES[name]
    line = integrate_line(log_f)
    n = 20_000
    x, log_q = line.proposal.draw(np.random.default_rng(5).random(n))
    log_w = log_f(x) - log_q
    # Importance weights average to the mass and hardly vary, so nearly all would be accepted.
    mean, error = np.exp(log_w).mean(), np.exp(log_w).std() / np.sqrt(n)
    assert abs(mean - 1) < 4 * error + 1e-7
    assert np.abs(log_w).max() < 0.6
    _, rate = accept(log_w, 0.0, np.random.default_rng(6).random(n))
    assert rate > 0.99


@pytest.mark.parametrize(
    ("law", "other"),
    [
        (stats.norm(0.3, 2.0), stats.norm(0.3, 2.1)),
        (stats.norm(60.4, 0.01), stats.norm(60.4005, 0.01)),
        (stats.logistic(2.3, 1.7), stats.logistic(2.3, 1.8)),
        (stats.gumbel_r(2.3, 1.7), stats.gumbel_r(2.4, 1.7)),
    ],
    ids=lambda law: law.dist.name,
)
def test_draws_pass_a_kolmogorov_smirnov_test_and_close_neighbours_do_not(law, other):
    line = integrate_line(law.logpdf)
    x, _ = line.proposal.draw(np.random.default_rng(8).random(40_000))
    assert stats.kstest(x, law.cdf).pvalue > ALPHA
    assert stats.kstest(x, other.cdf).pvalue < ALPHA


# -- log-linear densities


LOG_LINEAR = {
    "steps": ([0.0, 1.0, 1.5, 4.0], [0.0, 0.0, 0.0, 0.0], False),
    "slopes": ([-3.0, -1.0, 0.0, 0.1, 2.0], [-4.0, 1.0, 1.2, -3.0, -3.5], False),
    "tails": ([-1.0, 0.0, 0.5, 2.0], [-2.0, 0.0, 0.3, -4.0], True),
    "steep": ([0.0, 1.0, 2.0, 3.0], [-600.0, 300.0, -300.0, -900.0], False),
    "steep tails": ([0.0, 1.0, 2.0], [-800.0, 0.0, -800.0], True),
    "nearly flat": ([0.0, 1.0, 2.0], [5.0, 5.0 + 3e-6, 5.0 - 3e-6], False),
    "empty ends": ([0.0, 1.0, 2.0, 3.0], [-np.inf, 0.0, 0.5, -np.inf], False),
    "an empty middle": ([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 0.5, -np.inf, 0.2, 0.0], False),
}


def log_linear_cdf(density, at):
    """Distribution function by fine numerical integration of the nodes' interpolation."""
    x, f = density.x[0], density.f[0]
    top = f.max()
    tails = np.isfinite(density.left[0])
    pieces = []
    if tails:
        pieces.append((x[0] - 40 / density.left[0], x[0]))
        pieces.append((x[-1], x[-1] - 40 / density.right[0]))
    pieces += list(pairwise(x))

    def log_f(t):
        inside = np.interp(t, x, f)
        if tails:
            inside = inside + density.left[0] * np.minimum(t - x[0], 0)
            inside = inside + density.right[0] * np.maximum(t - x[-1], 0)
        return inside

    # Graded towards both ends of each piece, where steep ones have all their mass.
    graded = np.concatenate(
        [np.geomspace(1e-9, 0.5, 4000), 1 - np.geomspace(1e-9, 0.5, 4000)[-2::-1]]
    )
    knots = np.unique(np.concatenate([a + (b - a) * np.append(graded, [0, 1]) for a, b in pieces]))
    heights = np.exp(log_f(knots) - top)
    steps = np.append(0, np.cumsum(0.5 * (heights[1:] + heights[:-1]) * np.diff(knots)))
    return np.interp(at, knots, steps / steps[-1]), top + np.log(steps[-1])


@pytest.mark.parametrize("name", LOG_LINEAR)
def test_log_linear_draws_follow_their_own_density(name):
    x, f, tails = LOG_LINEAR[name]
    density = build_log_linear(np.array([x]), np.array([f]), tails=tails)
    draws, log_q = density.draw(np.random.default_rng(3).random(40_000))
    assert np.isfinite(draws).all()
    assert np.isfinite(log_q).all()
    _, log_mass = log_linear_cdf(density, 0.0)
    assert density.log_mass[0] == pytest.approx(log_mass, abs=1e-4)
    test = stats.kstest(draws, lambda at: log_linear_cdf(density, at)[0])
    assert test.pvalue > ALPHA
    spread = draws.std()
    shifted = stats.kstest(draws + 0.05 * spread, lambda at: log_linear_cdf(density, at)[0])
    assert shifted.pvalue < ALPHA
    # What is reported as density is the density: an integral of 1/q over draws gives the length
    # of the region they come from, and q itself integrates to one over it.
    low, high = np.quantile(draws, [0.02, 0.98])
    inside = (draws > low) & (draws < high)
    values = np.where(inside, np.exp(-log_q), 0.0)
    score, _ = batch_scores(values.reshape(100, -1), high - low)
    if name not in ("an empty middle",):  # a region without mass has no draws to measure it
        assert abs(score) < 4


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 3), st.floats(-30, 30)), min_size=2, max_size=8),
    st.booleans(),
)
def test_the_density_of_log_linear_draws_integrates_to_one(pieces, tails):
    x = np.cumsum([w for w, _ in pieces])
    f = np.array([v for _, v in pieces])
    if tails:  # a tail must fall
        f[0], f[-1] = f[1] - 1.0, f[-2] - 2.0
    density = build_log_linear(x[None], f[None], tails=tails)
    # Where the distribution function is differentiable, dx/du = 1/q.
    u = np.linspace(0.0005, 0.9995, 2000)
    h = 1e-7
    (up, _), (down, _), (at, log_q) = (density.draw(v) for v in (u + h, u - h, u))
    assert np.all(np.diff(at) >= 0)
    smooth = ~np.isclose(np.abs(np.subtract.outer(at, x)).min(axis=1), 0, atol=1e-5)
    slope = (up - down) / (2 * h)
    np.testing.assert_allclose((slope * np.exp(log_q))[smooth], 1, rtol=2e-3)


def test_rows_are_drawn_from_as_if_each_stood_alone():
    x = np.array([[0.0, 1.0, 2.0], [5.0, 5.5, 9.0], [-2.0, 0.0, 1.0]])
    f = np.array([[0.0, 1.0, -1.0], [-3.0, 0.0, -0.5], [-np.inf, 0.0, -2.0]])
    rng = np.random.default_rng(1)
    u, row = rng.random(300), rng.integers(0, 3, 300)
    together, log_q = build_log_linear(x, f, tails=False).draw(u, row)
    for i in range(3):
        alone = build_log_linear(x[i : i + 1], f[i : i + 1], tails=False).draw(u[row == i])
        np.testing.assert_allclose(together[row == i], alone[0], rtol=1e-13)
        np.testing.assert_allclose(log_q[row == i], alone[1], rtol=1e-13)


def test_the_ends_of_the_unit_interval_give_the_ends_of_the_support():
    density = build_log_linear(
        np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 30.0, -700.0]]), tails=False
    )
    x, log_q = density.draw(np.array([0.0, np.nextafter(1, 0)]))
    assert x[0] == 0
    assert 1 < x[1] <= 2
    assert np.isfinite(log_q).all()


# -- tau beside rho


ROWS = {
    # log density of tau, bounds, places to look
    "gamma-like": [
        (lambda t, k=k, q=q: -k * t - 0.5 * q * np.exp(-2 * t), -np.inf, np.inf)
        for k, q in ((1.5, 0.01), (4, 3.0), (30, 200.0), (2000, 5e4), (1e6, 1e6))
    ],
    "bounded above": [
        (
            lambda t, k=k, b=b: np.where(t <= b, t - k * t - 0.5 * 9 * np.exp(-2 * t), -np.inf),
            -np.inf,
            b,
        )
        for k in (4, 40)
        for b in (-2.0, -0.5, 0.1, 0.7, 3.0)
    ],
    "bounded on both sides": [
        (
            lambda t, a=a, b=b: np.where((t >= a) & (t <= b), -4 * t - 2 * np.exp(-2 * t), -np.inf),
            a,
            b,
        )
        for a, b in ((-1.0, 1.0), (0.2, 0.3), (1.0, 4.0), (-3.0, -2.5))
    ],
    "heavy-tailed": [
        (
            lambda t, k=k, s=s: t - k * t - 0.5 * np.exp(-2 * t) - np.log1p(np.exp(2 * t) / s**2),
            -np.inf,
            np.inf,
        )
        for k in (1.0, 1.5, 3.0)
        for s in (0.1, 1.0, 30.0)
    ],
}


def rows_of(name):
    rows = ROWS[name]

    def log_h(tau):
        return np.stack([row[0](t) for row, t in zip(rows, tau, strict=True)])

    low, high = (np.array([row[i] for row in rows], dtype=float) for i in (1, 2))
    return log_h, low, high


@pytest.mark.parametrize("name", ROWS)
def test_tau_is_integrated_as_scipy_does_and_its_table_covers_its_support(name):
    log_h, low, high = rows_of(name)
    given = integrate_conditional(log_h, low, high, np.zeros((len(low), 1)))
    rng = np.random.default_rng(2)
    for i, (f, a, b) in enumerate(ROWS[name]):
        c, s = given.center[i], given.scale[i]
        top = float(f(np.array(c)))
        cuts = np.unique(np.clip(c + s * np.array([-90, -30, -9, -3, 0, 3, 9, 30, 90]), a, b))

        def g(t, f=f, top=top):
            return float(np.exp(f(np.array(t)) - top))

        parts = pairwise(cuts)
        mass = sum(integrate.quad(g, *p, epsabs=0, epsrel=1e-11, limit=200)[0] for p in parts)
        assert given.log_mass[i] == pytest.approx(top + np.log(mass), abs=1e-7)
        assert given.weight[i].sum() == pytest.approx(1, rel=1e-12)
        first = sum(
            integrate.quad(lambda t, g=g: t * g(t), *p, epsabs=1e-13, epsrel=1e-11, limit=200)[0]
            for p in pairwise(cuts)
        )
        assert given.weight[i] @ given.log_sigma[i] == pytest.approx(first / mass, abs=1e-6)
        # The proposal: weights average to the mass, vary little, and the bounds are reached.
        t, log_q = given.table.draw(rng.random(20_000), np.full(20_000, i))
        tau = c + s * t
        log_w = f(tau) - log_q + np.log(s) - top - np.log(mass)
        error = np.exp(log_w).std() / np.sqrt(len(tau))
        assert abs(np.exp(log_w).mean() - 1) < 4 * error + 1e-6
        # Around the mode the weights hardly vary.
        assert np.exp(log_w).std() < 0.1
        if np.isfinite(b) and g(b - 1e-9) > 1e-3:
            assert given.high[i] == b
            assert c + s * given.table.x[i, -1] == pytest.approx(b, abs=1e-9)
        if np.isfinite(a) and g(a + 1e-9) > 1e-3:
            assert given.low[i] == a
            assert c + s * given.table.x[i, 0] == pytest.approx(a, abs=1e-9)


def test_gamma_integrals_have_their_closed_form():
    k, q = np.array([1.0, 7.0, 300.0]), np.array([0.1, 3.0, 900.0])
    unbounded = np.full(3, np.inf)
    given = integrate_conditional(
        lambda t: -k[:, None] * t - 0.5 * q[:, None] * np.exp(-2 * t),
        -unbounded,
        unbounded,
        np.zeros((3, 1)),
    )
    closed = gammaln(k / 2) - np.log(2) - 0.5 * k * np.log(q / 2)
    np.testing.assert_allclose(given.log_mass, closed, atol=1e-8)


def test_a_row_without_mass_is_told_as_empty():
    def log_h(tau):
        f = -0.5 * tau**2
        f[1] = -np.inf
        return f

    unbounded = np.full(2, np.inf)
    given = integrate_conditional(log_h, -unbounded, unbounded, np.zeros((2, 1)))
    assert given.log_mass[0] == pytest.approx(0.5 * np.log(2 * np.pi), abs=1e-8)
    assert given.log_mass[1] == -np.inf
    assert np.all(given.weight[1] == 0)


def test_the_mode_is_found_from_a_poor_guess():
    log_h = rows_of("gamma-like")[0]
    n = len(ROWS["gamma-like"])
    unbounded = np.full(n, np.inf)
    near = integrate_conditional(log_h, -unbounded, unbounded, np.zeros((n, 1)))
    far = integrate_conditional(log_h, -unbounded, unbounded, np.full((n, 1), 25.0))
    np.testing.assert_allclose(far.log_mass, near.log_mass, atol=1e-7)


# -- independence Metropolis


def step_by_step(log_weight, start, uniform):
    """The textbook loop."""
    state, held = start, -1
    index = []
    for i, (w, u) in enumerate(zip(log_weight, uniform, strict=True)):
        if np.log(max(u, 1e-300)) < w - state:
            state, held = w, i
        index.append(held)
    return np.array(index, dtype=int)


weights = st.one_of(st.floats(-3, 3), st.floats(-50, 50), st.just(-np.inf))


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(
    st.lists(st.tuples(weights, st.floats(0, 1, exclude_max=True)), max_size=40),
    st.floats(-5, 5),
)
@example([(0.0, 0.5), (-np.inf, 0.0), (5.0, 0.999)], 0.0)
@example([(-np.inf, 0.0)] * 3, -5.0)
def test_accept_holds_the_same_proposals_as_the_plain_loop(steps, start):
    log_weight = np.array([w for w, _ in steps], dtype=float)
    uniform = np.array([u for _, u in steps], dtype=float)
    index, rate = accept(log_weight, start, uniform)
    expected = step_by_step(log_weight, start, uniform)
    assert np.array_equal(index, expected)
    fresh = np.mean(expected == np.arange(len(expected))) if steps else 1.0
    assert rate == pytest.approx(fresh)


def poor_chain(n, chains, correct):
    """Chains for a normal(0, 1) from a proposal that is off-centre and too wide."""
    rng = np.random.default_rng(4)
    proposal = stats.t(4, loc=0.8, scale=1.4)
    out = np.empty((chains, n))
    for c in range(chains):
        x = proposal.rvs(n + 1, random_state=rng)
        log_w = stats.norm.logpdf(x) - proposal.logpdf(x)
        x[0] = rng.normal()  # the chains start in the stationary distribution
        log_w[0] = stats.norm.logpdf(x[0]) - proposal.logpdf(x[0])
        if not correct:
            log_w = 0.5 * log_w
        index, rate = accept(log_w[1:], log_w[0], rng.random(n))
        out[c] = x[1:][index] * (index >= 0) + x[0] * (index < 0)
        assert 0.3 < rate < 0.99
    return out


@pytest.mark.parametrize("correct", [True, False])
def test_a_deliberately_poor_proposal_leaves_the_target_stationary(correct):
    x = poor_chain(2000, 100, correct)
    scores = [batch_scores(x, 0.0)[0], batch_scores(x**2, 1.0)[0]]
    scores += [batch_scores((x <= q) * 1.0, stats.norm.cdf(q))[0] for q in (-1.96, 0, 1.96)]
    assert batch_scores(x, 0.0)[1] > 10_000
    if correct:
        assert np.abs(scores).max() < 4.4  # five comparisons, t with 99 degrees, alpha 1e-4
    else:  # negative control: the square root of the weights
        assert np.abs(scores).max() > 10
    # Stationary from the first step on: the start is drawn from the target.
    first = stats.kstest(x[:, :3].ravel(), "norm")
    assert first.pvalue > ALPHA or not correct

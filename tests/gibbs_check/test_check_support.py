"""check_gibbs where random draws tell little: missing noise, supports, starts that mislead."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pytest
from scipy import special, stats

from ranef import DataError, check_gibbs

SEEDS = range(3)


def report(updates, log_joint, state, data=None, seed=0):
    return check_gibbs(updates, log_joint, state, data, rng=seed, progress=False)


def failures(*arguments):
    """Blocks that failed, the same at every seed."""
    found = [list(report(*arguments, seed=seed).failures) for seed in SEEDS]
    assert all(f == found[0] for f in found)
    return found[0]


# -- noise that was forgotten

Y = np.random.default_rng(1).normal(size=24)
G = np.repeat(np.arange(6), 4)


def groups_joint(s):
    if s["s2"] <= 0 or s["t2"] <= 0:
        return -np.inf
    out = stats.norm.logpdf(Y, s["b"][G], s["s2"] ** 0.5).sum()
    out += stats.norm.logpdf(s["b"], 0, s["t2"] ** 0.5).sum()
    return out + stats.invgamma.logpdf(s["s2"], 2) + stats.invgamma.logpdf(s["t2"], 2)


def groups(noisy):
    """Effects of which the first `noisy` get noise, the others their conditional mean."""

    def update(s, rng):
        precision = 4 / s["s2"] + 1 / s["t2"]
        b = np.bincount(G, Y) / s["s2"] / precision
        b[:noisy] += rng.standard_normal(noisy) / np.sqrt(precision)
        return b

    return update


@pytest.mark.parametrize("noisy", [1, 5])
def test_elements_at_their_conditional_mean_are_found(noisy):
    state = {"b": np.zeros(6), "s2": 1.0, "t2": 1.0}
    assert failures({"b": groups(6)}, groups_joint, state) == []
    assert failures({"b": groups(noisy)}, groups_joint, state) == ["b"]
    message = report({"b": groups(noisy)}, groups_joint, state).failures["b"]
    assert f"draws {noisy} random number" in message
    assert "for 6 values: some of them are tied" in message


C = np.array([[1.0, 0.6], [0.6, 1.0]])


def pair_joint(s):
    return stats.multivariate_normal.logpdf(s["mu"], [1, 2], C)


def test_a_second_conditional_without_noise_is_found():
    def right(s, rng):  # noqa: ARG001
        a = rng.normal(1, 1)
        return np.array([a, 2 + 0.6 * (a - 1) + 0.8 * rng.standard_normal()])

    def wrong(s, rng):  # noqa: ARG001
        a = rng.normal(1, 1)
        return np.array([a, 2 + 0.6 * (a - 1)])

    assert failures({"mu": right}, pair_joint, {"mu": np.zeros(2)}) == []
    assert failures({"mu": wrong}, pair_joint, {"mu": np.zeros(2)}) == ["mu"]


def test_values_that_are_tied_for_good_are_no_error():
    """Effects that sum to zero, and an element that stays where the state has it."""

    def summing(s, rng):  # noqa: ARG001
        z = rng.standard_normal(4)
        root = np.linalg.qr(np.column_stack([np.ones(5), np.eye(5)[:, :4]]))[0][:, 1:]
        return root @ z

    def fixed(s, rng):  # noqa: ARG001
        return np.append(0.0, rng.standard_normal(3))

    def joint(s):
        return stats.norm.logpdf(s["e"]).sum() + stats.norm.logpdf(s["f"][1:]).sum()

    state = {"e": np.zeros(5), "f": np.zeros(4)}
    assert failures({"e": summing, "f": fixed}, joint, state) == []
    # The control: an element fixed elsewhere than in the state is not there for good.
    assert failures({"e": summing, "f": fixed}, joint, {**state, "f": np.ones(4)}) == ["f"]


# -- starts that look constrained

A0 = np.array([[0.5, 0.3], [-0.2, 0.4]])
SERIES = np.zeros((30, 2))
_rng = np.random.default_rng(10)
for _t in range(1, 30):
    SERIES[_t] = A0 @ SERIES[_t - 1] + _rng.normal(size=2)
NOW, BEFORE = SERIES[1:], SERIES[:-1]


def var_joint(s):
    try:
        np.linalg.cholesky(s["S"])
    except np.linalg.LinAlgError:
        return -np.inf
    E = NOW - BEFORE @ s["A"].T
    out = stats.invwishart.logpdf(s["S"], 4, np.eye(2)) + stats.norm.logpdf(s["A"]).sum()
    return out + stats.multivariate_normal.logpdf(E, np.zeros(2), s["S"]).sum()


def var_S(power):
    def update(s, rng):
        E = NOW - BEFORE @ (s["A"].T if power == "right" else s["A"])
        E = NOW if power == "forgotten" else E
        return stats.invwishart.rvs(4 + len(NOW), np.eye(2) + E.T @ E, random_state=rng)

    return update


def var_A(s, rng):
    P = np.linalg.inv(s["S"])
    precision = np.kron(P, BEFORE.T @ BEFORE) + np.eye(4)
    mean = np.linalg.solve(precision, (P @ NOW.T @ BEFORE).ravel())
    L = np.linalg.cholesky(precision)
    return (mean + np.linalg.solve(L.T, rng.standard_normal(4))).reshape(2, 2)


@pytest.mark.parametrize("start", [np.zeros((2, 2)), 0.5 * np.eye(2), np.ones((2, 2)) / 4])
def test_a_matrix_that_starts_symmetric_is_moved_to_one_that_is_not(start):
    state = {"A": start, "S": np.eye(2)}
    assert failures({"A": var_A, "S": var_S("right")}, var_joint, state) == []
    assert failures({"A": var_A, "S": var_S("transposed")}, var_joint, state) == ["S"]
    assert failures({"A": var_A, "S": var_S("forgotten")}, var_joint, state) == ["S"]


@pytest.mark.parametrize("start", [[0.5, 0.5], [0.0, 1.0], [1.0, 1.0]])
def test_two_means_that_sum_to_one_at_the_start_are_no_probabilities(start):
    y = np.array([[1.0, 2.0, 0.5], [3.0, 2.5, 4.0]])

    def joint(s):
        if s["v"] <= 0:
            return -np.inf
        out = stats.norm.logpdf(y, s["m"][:, None], s["v"] ** 0.5).sum()
        return out + stats.norm.logpdf(s["m"], 0, 3).sum() + stats.invgamma.logpdf(s["v"], 2)

    def means(s, rng):
        precision = 3 / s["v"] + 1 / 9
        return rng.normal(y.sum(axis=1) / s["v"] / precision, precision**-0.5)

    def variance(second):
        def update(s, rng):
            m = np.array([s["m"][0], second(s["m"])])
            rest = ((y - m[:, None]) ** 2).sum()
            return 1 / rng.gamma(2 + 3, 1 / (1 + rest / 2))

        return update

    state = {"m": np.array(start), "v": 1.0}
    assert failures({"m": means, "v": variance(lambda m: m[1])}, joint, state) == []
    assert failures({"m": means, "v": variance(lambda m: 1 - m[0])}, joint, state) == ["v"]


def test_a_start_of_ones_becomes_negative_where_draws_do():
    def joint(s):
        if s["lam"] <= 0:
            return -np.inf
        out = stats.norm.logpdf(s["beta"]).sum()
        return out - s["lam"] * (1 + np.abs(s["beta"]).sum()) + 3 * np.log(s["lam"])

    def update(size):
        return lambda s, rng: rng.gamma(4.0, 1 / (1 + size(s["beta"]).sum()))

    def beta(s, rng):  # noqa: ARG001
        # Right for lam = 0 alone: it is here to show where beta can be.
        return rng.normal(0, 1, 3)

    state = {"beta": np.ones(3), "lam": 1.0}
    found = failures({"beta": beta, "lam": update(np.abs)}, joint, state)
    assert found == ["beta"]
    assert failures({"beta": beta, "lam": update(np.asarray)}, joint, state) == ["beta", "lam"]


# -- supports

COUNTS = np.append(np.random.default_rng(6).poisson(3, 20), np.random.default_rng(7).poisson(1, 30))


def change_joint(s):
    if not 1 <= s["k"] < 50:
        return -np.inf
    rate = np.where(np.arange(50) < s["k"], s["a"], s["b"])
    return stats.poisson.logpmf(COUNTS, rate).sum()


def change(low, high, edge=1.0):
    def update(s, rng):
        ks = np.arange(low, high)
        log_p = np.array([change_joint({**s, "k": k}) for k in ks])
        p = np.exp(log_p - log_p.max())
        p[-1] *= edge
        return rng.choice(ks, p=p / p.sum())

    return update


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (change(10, 30), "where log_joint goes on"),
        (change(1, 30), "never draws 30"),
        (change(1, 50, edge=1.5), "1.5 times"),
        (change(1, 50, edge=0.0), "never draws 49, which log_joint allows"),
    ],
)
def test_a_change_point_that_is_not_looked_for_everywhere_is_found(update, message):
    # The rates are close, so that no place is out of the question.
    state = {"k": 15, "a": 1.9, "b": 1.8}
    assert failures({"k": change(1, 50)}, change_joint, state) == []
    for seed in SEEDS:
        found = report({"k": update}, change_joint, state, seed=seed).failures
        assert message in found["k"] or "times as often" in found["k"]


MIXED = np.random.default_rng(3).normal(size=12) * 3


def mixture_joint(s):
    return -0.5 * ((MIXED - s["mu"][s["z"]]) ** 2).sum() - 0.5 * (s["mu"] ** 2).sum() / 9


def allocate(components, by):
    def update(s, rng):
        w = np.exp(-0.5 * (MIXED[:, None] - s["mu"][:components]) ** 2)
        p = w / w.sum(axis=1, keepdims=True)
        if by == "choice":
            return np.array([rng.choice(components, p=row) for row in p])
        return (rng.random(12)[:, None] > p.cumsum(axis=1)).sum(axis=1)

    return update


@pytest.mark.parametrize("by", ["choice", "uniform"])
def test_a_component_that_is_never_chosen_is_found(by):
    state = {"z": np.arange(12) % 3, "mu": np.array([-1.0, 0.0, 1.0])}
    assert failures({"z": allocate(3, by)}, mixture_joint, state) == []
    assert failures({"z": allocate(2, by)}, mixture_joint, state) == ["z"]


def test_indicators_are_right_even_where_the_formula_goes_on():
    """log_joint of 0/1 indicators is often finite at 2, too."""
    x = np.random.default_rng(2).normal(size=8)

    def joint(s):
        g, p = s["g"], special.expit(s["a"])
        return (x * g).sum() + (g * np.log(p) + (1 - g) * np.log1p(-p)).sum() - s["a"] ** 2

    def update(s, rng):
        return rng.binomial(1, special.expit(x + s["a"]))

    state = {"g": np.zeros(8, dtype=int), "a": 0.3}
    assert failures({"g": update}, joint, state) == []
    assert failures({"g": lambda s, rng: rng.binomial(1, special.expit(x - s["a"]))}, joint, state)


@pytest.mark.parametrize("level", [0, 1])
def test_boolean_masks_stay_boolean(level):
    def update(s, rng):  # noqa: ARG001
        return rng.random(4) < 0.3 if level else rng.binomial(1, 0.3, 4).astype(bool)

    def joint(s):
        assert s["g"].dtype == bool
        return 4 * np.log(0.7) + len(np.arange(4)[s["g"]]) * np.log(0.3 / 0.7)

    made = report({"g": update}, joint, {"g": np.ones(4, dtype=bool)})
    assert made.passed
    assert made.blocks[0].level == level


@pytest.mark.parametrize("mass", [0.13, 0.006])
def test_values_beyond_the_support_are_drawn_on_purpose(mass):
    edge = stats.norm.isf(mass)

    def joint(s):
        return stats.norm.logpdf(s["v"]) if s["v"] < edge else -np.inf

    def right(s, rng):  # noqa: ARG001
        return special.ndtri(rng.random() * (1 - mass))

    def free(s, rng):  # noqa: ARG001
        return rng.normal()

    for seed in range(20):
        assert report({"v": right}, joint, {"v": 0.0}, seed=seed).passed
        wrong = report({"v": free}, joint, {"v": 0.0}, seed=seed)
        assert "log_joint is not finite" in wrong.failures["v"]


def test_gammas_of_tiny_shapes_that_underflow_pass():
    y = np.array([0, 0, 1, 0, 3.0])

    def joint(s):
        if (s["lam"] <= 0).any():
            return -np.inf
        out = stats.poisson.logpmf(y, s["lam"]).sum()
        return out + stats.gamma.logpdf(s["lam"], 0.01, scale=1 / s["b"]).sum() - s["b"]

    def update(shape):
        return lambda s, rng: rng.gamma(y + shape, 1 / (1 + s["b"]))

    state = {"lam": np.ones(5), "b": 1.0}
    for seed in range(10):
        assert report({"lam": update(0.01)}, joint, state, seed=seed).passed
    assert failures({"lam": update(0.5)}, joint, state) == ["lam"]


def test_which_elements_hang_together_is_looked_at_everywhere():
    """Through a coefficient that starts at zero the second value depends on the first."""

    def joint(s):
        a, b = s["v"]
        return stats.norm.logpdf(np.log(a)) - np.log(a) + stats.norm.logpdf(b, s["c"] * a, 1)

    def update(s, rng):
        a = np.exp(rng.standard_normal())
        return np.array([a, rng.normal(s["c"] * a, 1)])

    def lost(s, rng):
        return np.array([np.exp(rng.standard_normal()), rng.normal(s["c"], 1)])

    state = {"v": np.array([1.0, 0.0]), "c": 0.0}
    assert failures({"v": update}, joint, state) == []
    assert failures({"v": lost}, joint, state) == ["v"]


class PosteriorSample:
    """Data that compute something about themselves when first asked."""

    def __init__(self, y):
        self.y = y

    @cached_property
    def total(self):
        return self.y.sum()


def test_data_may_remember_what_they_computed_but_not_change():
    def joint(s, data):
        return -0.5 * ((data.y - s["mu"]) ** 2).sum()

    def right(s, data, rng):  # noqa: ARG001
        return rng.normal(data.total / 3, 3**-0.5)

    def meddling(s, data, rng):
        data.y = data.y - 1
        return right(s, data, rng)

    y = np.array([1.0, 2.0, 6.0])
    assert report({"mu": right}, joint, {"mu": 0.0}, PosteriorSample(y)).passed
    message = report({"mu": meddling}, joint, {"mu": 0.0}, PosteriorSample(y)).failures["mu"]
    assert "changes the data" in message


def test_level_1_tells_of_draws_outside_the_support():
    def joint(s):
        return stats.invgamma.logpdf(s["v"], 3) if s["v"] > 0 else -np.inf

    def rejection(s, rng):  # noqa: ARG001
        while True:
            v = rng.normal(0.5, 0.5)
            if rng.random() < 0.5:
                return v

    found = report({"v": rejection}, joint, {"v": 1.0})
    assert "log_joint is not finite" in found.failures["v"]


@pytest.mark.parametrize("width", [2, 40])
def test_an_angle_without_bounds_is_not_checked_and_says_what_to_do(width):
    def joint(bounded):
        def log_joint(s):
            inside = not bounded or abs(s["a"]) <= np.pi
            return width * np.cos(s["a"] - 2.5) if inside else -np.inf

        return log_joint

    def update(s, rng):  # noqa: ARG001
        return rng.vonmises(2.5, width)

    for seed in SEEDS:
        block = report({"a": update}, joint(False), {"a": 0.3}, seed=seed).blocks[0]
        # One narrow bump may be seen whole; it is never called wrong.
        assert block.passed is None or (width > 2 and block.passed)
        if block.passed is None:
            assert "outside the support (of an angle, one turn)" in block.diagnosis
    assert failures({"a": update}, joint(True), {"a": 0.3}) == []


@pytest.mark.parametrize("error", [AssertionError, RuntimeError, AttributeError])
def test_whatever_an_update_raises_away_from_the_start_is_its_failure(error):
    def update(s, rng):
        if s["b"] != 0.5:
            raise error("no")
        return rng.normal(s["b"], 1)

    def joint(s):
        return stats.norm.logpdf(s["v"], s["b"], 1) + stats.norm.logpdf(s["b"])

    message = report({"v": update}, joint, {"v": 0.0, "b": 0.5}).failures["v"]
    assert f"raises {error.__name__}: no" in message


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (lambda s, rng: s.missing, "raises AttributeError"),  # noqa: ARG005
        (lambda s, rng: {"v": "text"}, "returned 'v' as a str; numbers are expected"),  # noqa: ARG005
    ],
)
def test_sweeps_that_break_are_failures_not_tracebacks(sweep, message):
    def update(s, rng):  # noqa: ARG001
        return rng.normal()

    made = check_gibbs(
        {"v": update}, lambda s: -0.5 * s["v"] ** 2, {"v": 0.0}, sweep=sweep, rng=1, progress=False
    )
    assert message in made.failures["sweep"]


def test_an_empty_block_is_refused():
    with pytest.raises(DataError, match="state\\['v'\\] is empty"):
        report({"v": lambda s, rng: np.empty(0)}, lambda s: 0.0, {"v": np.empty(0)})  # noqa: ARG005


def test_two_bumps_far_apart_are_not_checked_rather_than_failed():
    def joint(s):
        return np.logaddexp(stats.norm.logpdf(s["v"], -10), stats.norm.logpdf(s["v"], 10))

    def update(s, rng):  # noqa: ARG001
        sign = 1 if int(rng.permutation(2)[0]) else -1  # replay does not follow it
        return rng.normal(10 * sign, 1)

    for seed in SEEDS:
        block = report({"v": update}, joint, {"v": 9.0}, seed=seed).blocks[0]
        assert block.passed is None
        assert "rises again beyond a valley" in block.diagnosis

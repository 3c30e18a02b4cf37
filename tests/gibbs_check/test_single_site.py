"""check_gibbs on updates that draw their block element by element, each given the newest values."""

import time

import numpy as np
import pytest

from ranef import check_gibbs

# -- regression coefficients one at a time: y = Z x + e, e ~ N(0, v), x_j ~ N(0, 4)


def regression(n=6, order=range, deviates=False, what=""):
    """Update of coefficients one at a time; `what` names an error."""
    rng = np.random.default_rng(2)
    Z = rng.normal(size=(3 * n + 5, n)) + 0.5
    y = Z @ rng.normal(size=n) + rng.normal(size=len(Z))

    def log_joint(s):
        rest = y - Z @ s["x"]
        return -0.5 * rest @ rest / s["v"] - 0.5 * (s["x"] @ s["x"]) / 4

    def update(s, rng):
        x, old = s["x"].copy(), s["x"].copy()
        z = rng.standard_normal(n) if deviates else None
        rest = y - Z @ x
        for j in order(n):
            if what != "stale residual":
                rest = y - Z @ x
            P = Z[:, j] @ Z[:, j] / s["v"] + (0 if what == "prior left out" else 0.25)
            mean = Z[:, j] @ (rest + Z[:, j] * old[j]) / s["v"] / P
            if what == "one stale" and j == n // 2:
                mean -= Z[:, j] @ Z[:, 0] * (old[0] - x[0]) / s["v"] / P
            sd = 1 / P if what == "variance for sd" else P**-0.5
            x[j] = mean + sd * z[j] if deviates else rng.normal(mean, sd)
        return x

    return {"x": update}, log_joint, {"x": np.zeros(n), "v": 1.0}


# -- a random walk of levels: y_t ~ N(x_t, 1), x_t ~ N(x_t-1, w), x_0 ~ N(0, 9)


def levels(n=12, order=range, what=""):
    y = np.random.default_rng(4).normal(size=n).cumsum()

    def log_joint(s):
        x = s["x"]
        jumps = np.diff(x)
        return -0.5 * ((y - x) ** 2).sum() - 0.5 * jumps @ jumps / s["w"] - 0.5 * x[0] ** 2 / 9

    def update(s, rng):
        x, old = s["x"].copy(), s["x"]
        for t in order(n):
            seen = old if what == "forward values" else x
            linear, P = y[t], 1.0
            if t > 0:
                before = x[t - 1] if what == "forward values" else seen[t - 1]
                if what == "wrong neighbour" and t > 1:
                    before = x[t - 2]
                linear, P = linear + before / s["w"], P + 1 / s["w"]
            else:
                P += 1 / 9
            if t < n - 1:
                linear, P = linear + seen[t + 1] / s["w"], P + 1 / s["w"]
            x[t] = rng.normal(linear / P, P**-0.5)
        return x

    return {"x": update}, log_joint, {"x": np.zeros(n), "w": 1.0}


# -- rates that pull at each other: gamma given the others, not normal


def rates(n=5, what=""):
    def log_joint(s):
        x = s["x"]
        if (x <= 0).any():
            return -np.inf
        pull = (x.sum() ** 2 - x @ x) / 2
        return 2 * np.log(x).sum() - s["a"] * x.sum() - pull

    def update(s, rng):
        x = s["x"].copy()
        for j in reversed(range(n)):
            rate = s["a"] + (x.sum() - x[j]) * (0.5 if what else 1)
            x[j] = rng.gamma(3, 1 / rate)
        return x

    return {"x": update}, log_joint, {"x": np.ones(n), "a": 1.0}


# -- an Ising chain of zeros and ones with a field


def ising(n=8, draw="random"):
    field = np.random.default_rng(6).normal(size=n)

    def log_joint(s):
        x = np.asarray(s["x"], float)
        return field @ x + s["a"] * (x[1:] @ x[:-1])

    def update(s, rng):
        x = np.array(s["x"])
        for j in range(n):
            near = (x[j - 1] if j else 0) + (x[j + 1] if j < n - 1 else 0)
            p = 1 / (1 + np.exp(-(field[j] + s["a"] * near)))
            if draw == "binomial":
                x[j] = rng.binomial(1, p)
            elif draw == "choice":
                x[j] = rng.choice([1, 0], p=[p, 1 - p])
            else:
                x[j] = rng.random() < p
        return x

    return {"x": update}, log_joint, {"x": np.arange(n) % 2, "a": 0.8}


def backward(n):
    return reversed(range(n))


def fixed(n):
    return np.random.default_rng(8).permutation(n)


def block(sampler, seed=1):
    updates, log_joint, state = sampler
    return check_gibbs(updates, log_joint, state, rng=seed, progress=False).blocks[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("order", [range, backward, fixed])
def test_right_single_site_samplers_pass_at_rounding_error(order, seed):
    for sampler in (
        regression(order=order),
        regression(order=order, deviates=True),
        levels(order=order),
        levels(40, order=order),
        rates(),
    ):
        found = block(sampler, seed)
        assert (found.level, found.passed) == (0, True), found.diagnosis
        assert found.difference < 1e-7


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (
            regression(what="stale residual"),
            "draws x[1], x[2], x[3] and 2 more from something else than their full conditionals; "
            "for x[1] it uses the old value of x[0], where the new one is due",
        ),
        (
            regression(what="one stale"),
            "draws x[3] from something else than its full conditional; for x[3] it uses the old "
            "value of x[0], where the new one is due",
        ),
        (regression(what="prior left out"), "for x[0] it uses the SD"),
        (
            regression(what="variance for sd"),
            "for x[0] it passes the variance where the standard deviation belongs",
        ),
        (regression(deviates=True, order=fixed, what="stale residual"), "where the new one is due"),
        (levels(what="wrong neighbour"), "draws x[2], x[3], x[4] and 7 more"),
        (levels(order=backward, what="forward values"), "it uses the old value of x["),
        (rates(what="half the pull"), "draws x[4], x[3], x[2] and 2 more"),
    ],
)
def test_planted_errors_are_found_at_level_0(sampler, message, seed):
    found = block(sampler, seed)
    assert (found.level, found.passed) == (0, False)
    assert found.diagnosis.startswith("update 'x' draws x[")
    assert message in found.diagnosis


# -- what is left to level 2


@pytest.mark.parametrize("draw", ["random", "binomial", "choice"])
def test_indicators_drawn_one_at_a_time_are_said_to_be_unchecked(draw):
    found = block(ising(draw=draw))
    assert found.passed is None
    assert found.diagnosis.startswith("not checked, a step in 8 values")


def flips(s, rng):
    """A Metropolis step: an indicator is flipped or stays."""
    x = np.array(s["x"])
    for j in range(len(x)):
        gain = s["a"] * (1 - 2 * x[j])
        x[j] = 1 - x[j] if np.log(rng.random()) < gain else x[j]
    return x


def test_metropolis_flips_are_no_wrong_thresholds():
    state = {"x": np.array([0, 1, 1]), "a": 0.4}
    found = block(({"x": flips}, lambda s: s["a"] * float(np.sum(s["x"])), state))
    assert found.passed is None
    assert "own current value" in found.diagnosis


COUPLED = np.full((3, 3), -0.3) + 1.3 * np.eye(3)


def coupled(s):
    return -0.5 * s["x"] @ COUPLED @ s["x"]


def scan(order, own=0.0, spread=1.0):
    def update(s, rng):
        x = s["x"].copy()
        for j in order(rng):
            mean = 0.3 * (x.sum() - x[j])
            x[j] = mean + own * (x[j] - mean) + spread * rng.normal()
        return x

    return update


def pair(s, rng):
    x, C = s["x"].copy(), np.linalg.inv(COUPLED[:2, :2])
    x[:2] = rng.multivariate_normal(C @ np.full(2, 0.3) * x[2], C)
    x[2] = rng.normal(0.3 * (x[0] + x[1]), 1)
    return x


@pytest.mark.parametrize(
    "update",
    [
        scan(lambda _: range(3), own=-0.6, spread=0.8),
        scan(lambda rng: rng.permutation(3)),
        scan(lambda rng: rng.integers(3, size=3)),
        pair,
    ],
    ids=["overrelaxed", "shuffled", "sites at random", "pair"],
)
def test_other_steps_stay_at_level_2(update):
    found = block(({"x": update}, coupled, {"x": np.zeros(3)}))
    assert (found.level, found.passed) == (2, True)


def test_a_hundred_elements_take_a_second_or_two():
    started = time.process_time()
    for sampler in (regression(100), levels(100)):
        assert block(sampler).level == 0
    assert time.process_time() - started < 20


def test_an_update_that_keeps_what_it_saw_first_is_found():
    updates, log_joint, state = levels()
    kept = {}

    def keeper(s, rng):
        kept.setdefault("w", s["w"])
        return updates["x"]({**s, **kept}, rng)

    found = block(({"x": keeper}, log_joint, state))
    assert (found.level, found.passed) == (0, False)

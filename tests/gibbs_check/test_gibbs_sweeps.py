"""check_gibbs on whole sweeps: how fast they are read, and what hides a stale value."""

import time

import numpy as np
import pytest
from scipy import special, stats

from ranef import check_gibbs
from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.sweep import read_sweep
from ranef.gibbs_check.sampler import make_sampler


def crossed(effects=4, rows=60):
    """Crossed random effects: every block reads every other effect through the residuals."""
    rng = np.random.default_rng(3)
    cells = {f"b{k}": rng.integers(4, size=rows) for k in range(effects)}
    y = rng.normal(size=rows)

    def rest(s, without=None):
        return y - s["mu"] - sum(s[n][i] for n, i in cells.items() if n != without)

    def variance(of, shape):
        return lambda s, rng: 1 / rng.gamma(shape, 1 / (1 + (of(s) ** 2).sum() / 2))

    def effect(name):
        def update(s, rng):
            P = np.bincount(cells[name], minlength=4) / s["noise"] + 1 / s[f"v{name}"]
            sums = np.bincount(cells[name], rest(s, name), minlength=4)
            return rng.normal(sums / s["noise"] / P, P**-0.5)

        return update

    def mean(s, rng):
        return rng.normal((rest(s) + s["mu"]).mean(), np.sqrt(s["noise"] / rows))

    updates = {"mu": mean}
    state = {"mu": 0.0, "noise": 1.0}
    for name in cells:
        updates |= {name: effect(name), f"v{name}": variance(lambda s, n=name: s[n], 4)}
        state |= {name: np.zeros(4), f"v{name}": 1.0}
    updates["noise"] = variance(rest, 2 + rows / 2)

    def normal(x, v):
        return -0.5 * x.size * np.log(v) - 0.5 * (x @ x) / v

    def log_joint(s):
        if min(s["noise"], *(s[f"v{n}"] for n in cells)) <= 0:
            return -np.inf
        out = normal(rest(s), s["noise"]) + sum(normal(s[n], s[f"v{n}"]) for n in cells)
        return out - sum(3 * np.log(s[n]) + 1 / s[n] for n in updates if n[0] in "vn")

    return updates, log_joint, state, rest


def crossed_sweeps():
    updates, _, _, rest = crossed()

    def right(s, rng):
        for name in updates:
            s[name] = updates[name](s, rng)
        return s

    def stale(s, rng):
        """Residuals computed when only mu and b0 have moved."""
        last = dict(s)
        for name in list(updates)[:-1]:
            s[name] = updates[name](s, rng)
            if name in ("mu", "b0"):
                last[name] = s[name]
        s["noise"] = updates["noise"](last, rng)
        return s

    def all_old(s, rng):
        return {name: updates[name](dict(s), rng) for name in updates}

    def last_line_wrong(s, rng):
        for name in list(updates)[:-1]:
            s[name] = updates[name](s, rng)
        s["noise"] = 1 / rng.gamma(32, 1 / (1 + (rest(s) ** 2).sum()))
        return s

    def middle_wrong(s, rng):
        for name in updates:
            s[name] = updates[name](s, rng) + (name == "b1") * 0.5
        return s

    return right, stale, all_old, last_line_wrong, middle_wrong


@pytest.mark.parametrize(
    ("sweep", "level", "message"),
    list(
        zip(
            crossed_sweeps(),
            (0, 0, 0, 2, 2),
            (
                "",
                "the sweep gives update 'noise' the value of 'b1', 'b2', 'b3' from before",
                "it gives update 'noise' the value of 'mu', 'b0', 'b1', 'b2', 'b3' from before",
                "it draws 'noise' in another way than its update does",
                "it is one up to 'vb0', then draws in another way",
            ),
            strict=True,
        )
    ),
    ids=lambda v: getattr(v, "__name__", None),
)
def test_sweeps_of_many_blocks_that_share_residuals_are_read_fast(sweep, level, message):
    updates, log_joint, state, _ = crossed()
    assert len(updates) == 10
    started = time.process_time()
    report = check_gibbs(updates, log_joint, state, sweep=sweep, rng=1, progress=False)
    assert time.process_time() - started < 10
    assert list(report.failures) == ["sweep"] * (message != "")
    assert (report.blocks[-1].level, message in report.blocks[-1].diagnosis) == (level, True)


@pytest.mark.parametrize("seed", range(4))
def test_a_stale_value_that_only_moves_the_parameters_of_a_draw_is_seen(seed):
    """In a replay a Poisson count comes out the same, whatever its mean."""
    updates = {
        "lam": lambda s, rng: rng.gamma(2 + s["n"], 1 / 2),
        "n": lambda s, rng: rng.poisson(s["lam"]),
    }

    def joint(s):
        return stats.gamma.logpdf(s["lam"], 2) + stats.poisson.logpmf(s["n"], s["lam"])

    def fresh(s, rng):
        s["lam"] = updates["lam"](s, rng)
        return {**s, "n": updates["n"](s, rng)}

    def stale(s, rng):
        return {name: update(s, rng) for name, update in updates.items()}

    def run(sweep):
        return check_gibbs(updates, joint, {"lam": 1.0, "n": 3}, sweep=sweep, rng=seed)

    run(fresh).raise_if_failed()
    message = "the sweep gives update 'n' the value of 'lam' from before"
    assert run(stale).failures == {"sweep": message}


@pytest.mark.parametrize("seed", range(100))
def test_indicators_that_match_by_chance_do_not_make_a_right_sweep_stale(seed):
    """One of three indicators may come out as if it had been drawn at another's turn."""
    updates = {
        name: lambda s, rng, n=name: int(rng.random() < special.expit(s["x"] + ord(n) / 50))
        for name in "abc"
    }
    updates["x"] = lambda s, rng: rng.normal(s["a"] + s["b"] + s["c"], 1)

    def sweep(s, rng):
        for name in "caxb":
            s[name] = updates[name](s, rng)
        return s

    rng = np.random.default_rng(seed)
    state = {"a": 0, "b": 1, "c": 0, "x": rng.normal()}
    sampler = make_sampler(updates, lambda _: 0.0, state, None, rng)
    found = read_sweep(sampler, sweep, sampler.state, Recorder(rng))
    assert (found.stale, found.unmoved, found.unmatched) == ({}, (), ())

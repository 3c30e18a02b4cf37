"""check_gibbs against planted errors, right samplers in many styles, and densities from scipy.

Each check has its counterpart: what passes on the right sampler must fail on a wrong one.
"""

import re
import time
from pathlib import Path

import numpy as np
import planted
import pytest
from scipy import special, stats

import ranef as rf
from ranef import DataError, check_gibbs
from ranef.article.check import check_article
from ranef.article.conditionals import article_log_joint, article_state, article_updates
from ranef.gibbs_check import block as block_module
from ranef.gibbs_check.explain.formulas import express
from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.densities import compare
from ranef.gibbs_check.replay.update_map import read_map
from ranef.gibbs_check.sampler import make_sampler
from ranef.gibbs_check.simulation.line_cdf import tabulate
from ranef.gibbs_check.states import asymmetric_states

DOCS = (Path(__file__).parents[2] / "docs" / "check-your-sampler.md").read_text()
SENTENCE = (
    "update 'X' uses precision 2/sigma2_x + 1/sigma2_e; log_joint implies 1/sigma2_x + 2/sigma2_e"
)


# -- planted errors


def test_enough_errors_are_planted_in_enough_models():
    assert len(planted.PLANTED) >= 50
    assert len({e.model for e in planted.PLANTED}) == 4
    assert len({(e.model, e.block) for e in planted.PLANTED}) >= 15


@pytest.mark.parametrize("error", planted.PLANTED, ids=lambda e: f"{e.model}-{e.block}: {e.what}")
def test_a_planted_error_is_found_where_it_is_and_nowhere_else(error):
    block, failed = planted.found(error)
    assert failed == [error.block]
    assert block.level == error.level
    assert error.tells in block.diagnosis
    # The page's table is made of these very lines.
    assert planted.table_row(error, block) in DOCS


@pytest.mark.parametrize(
    "error",
    [e for e in planted.PLANTED if e.level == 0 and e.block != "sweep"],
    ids=lambda e: f"{e.model}, {e.block}: {e.what}",
)
def test_level_0_is_certain_at_any_seed(error):
    assert [error.block] == planted.found(error, seed=17)[1]


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("name", planted.MODELS)
def test_right_samplers_pass_at_rounding_error(name, seed):
    model = planted.MODELS[name]()
    report = check_gibbs(
        model.updates, model.log_joint, model.state, sweep=model.sweep, rng=seed, progress=False
    )
    report.raise_if_failed()
    assert all(b.level == 0 for b in report.blocks)
    assert max(b.difference for b in report.blocks if b.name != "sweep") < 1e-8


# -- the article


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize("mean", [False, True])
def test_the_articles_error_is_told_in_its_own_terms(n, mean):
    W = rf.article.simulate(n=n)
    log_joint, state = article_log_joint(W), article_state(W, mean=mean)
    printed = check_gibbs(article_updates(W, mean=mean), log_joint, state, rng=1)
    assert printed.failures == {"X": SENTENCE}
    check_gibbs(article_updates(W, "corrected", mean=mean), log_joint, state).raise_if_failed()


def test_check_article_reports_both_versions():
    reports = check_article()
    assert reports["printed"].failures == {"X": SENTENCE}
    assert reports["corrected"].passed


def test_the_page_runs_as_it_stands_and_prints_what_it_shows(capsys):
    space = {}
    for block in re.findall(r"```python\n(.*?)```", DOCS, re.S):
        exec(block, space)
    shown = re.search(r"```text\n(.*?)```", DOCS, re.S).group(1)
    printed = capsys.readouterr().out

    def without_rounding(text):  # differences near 1e-13 depend on the machine
        return re.sub(r"(?<=ok    log q and log joint differ by ).*", "", text)

    assert without_rounding(printed) == without_rounding(shown)
    assert SENTENCE in shown


def test_the_articles_functions_have_the_samplers_stationary_distribution():
    W = rf.article.simulate(n=30)
    exact = rf.article.exact(W, draws=20_000, seed=1)
    updates = article_updates(W, "corrected")
    state, rng, kept = article_state(W), np.random.default_rng(2), []
    for _ in range(8000):
        for name, update in updates.items():
            state[name] = update(state, rng)
        kept.append(state["sigma2_x"])
    reference = np.log(exact.draws["sigma2_x"].to_numpy().ravel())
    batches = np.log(kept[1000:]).reshape(50, -1).mean(axis=1)
    error = np.hypot(batches.std(ddof=1) / 50**0.5, reference.std() / len(reference) ** 0.5)
    assert abs(batches.mean() - reference.mean()) < 4 * error


@pytest.mark.parametrize("conditional", ["printed", "corrected"])
def test_a_symmetric_state_blinds_replay_there_but_not_the_check(conditional):
    W = rf.article.simulate(n=20)
    state = {"X": np.ones(20), "sigma2_x": 1.0, "sigma2_e": 1.0}
    updates, log_joint = article_updates(W, conditional), article_log_joint(W)
    rng = np.random.default_rng(1)
    sampler = make_sampler(updates, log_joint, state, None, rng)
    recorder = Recorder(rng)
    at_ones = compare(read_map(sampler, "X", sampler.state, np.zeros(20), recorder))
    assert at_ones.worst < at_ones.limit  # neither version differs here
    assert check_gibbs(updates, log_joint, state, rng=1).passed is (conditional == "corrected")
    # Nor does it help that the variances are not updated at all.
    alone = check_gibbs({"X": updates["X"]}, log_joint, state, rng=1)
    assert alone.passed is (conditional == "corrected")


def test_level_0_takes_some_dozens_of_calls_a_block_however_many_its_elements():
    calls = {}

    def counted(key, function):
        def call(*arguments):
            calls[key] += 1
            return function(*arguments)

        return call

    def count(n):
        W = rf.article.simulate(n=n)
        updates = article_updates(W, "corrected", mean=True)
        functions = {**updates, "log_joint": article_log_joint(W)}
        calls.update(dict.fromkeys(functions, 0))
        functions = {key: counted(key, function) for key, function in functions.items()}
        log_joint = functions.pop("log_joint")
        assert check_gibbs(functions, log_joint, article_state(W, mean=True), rng=1).passed
        return dict(calls)

    few, many = count(20), count(1000)
    assert max(few.values()) < 400
    # Whether number i moves value i alone takes two calls for each binary digit of i.
    assert all(many[key] <= few[key] + 100 for key in few)


# -- every way to draw


STYLES = {
    "normal": (lambda r, a: r.normal(a, 2), lambda v, a: stats.norm.logpdf(v, a, 2)),
    "standard_normal": (
        lambda r, a: a + 2 * r.standard_normal(),
        lambda v, a: stats.norm.logpdf(v, a, 2),
    ),
    "gamma": (lambda r, a: r.gamma(2 + a, 3), lambda v, a: stats.gamma.logpdf(v, 2 + a, scale=3)),
    "small gamma": (
        lambda r, a: r.gamma(0.05 * a, 3),
        lambda v, a: stats.gamma.logpdf(v, 0.05 * a, scale=3),
    ),
    "1/gamma": (
        lambda r, a: 1 / r.gamma(2, 1 / a),
        lambda v, a: stats.invgamma.logpdf(v, 2, scale=a),
    ),
    "standard_gamma": (
        lambda r, a: a / r.standard_gamma(3),
        lambda v, a: stats.invgamma.logpdf(v, 3, scale=a),
    ),
    "chisquare": (
        lambda r, a: a * 4 / r.chisquare(4),
        lambda v, a: stats.invgamma.logpdf(v, 2, scale=2 * a),
    ),
    "exponential": (lambda r, a: r.exponential(a), lambda v, a: stats.expon.logpdf(v, scale=a)),
    "standard_exponential": (
        lambda r, a: a * r.standard_exponential(),
        lambda v, a: stats.expon.logpdf(v, scale=a),
    ),
    "beta": (lambda r, a: r.beta(1 + a, 2), lambda v, a: stats.beta.logpdf(v, 1 + a, 2)),
    "uniform": (lambda r, a: r.uniform(0, 1 + a), lambda v, a: stats.uniform.logpdf(v, 0, 1 + a)),
    "random": (lambda r, a: -a * np.log(r.random()), lambda v, a: stats.expon.logpdf(v, scale=a)),
    "standard_t": (lambda r, a: a * r.standard_t(4), lambda v, a: stats.t.logpdf(v, 4, 0, a)),
    "standard_cauchy": (
        lambda r, a: a * r.standard_cauchy(),
        lambda v, a: stats.cauchy.logpdf(v, 0, a),
    ),
    "lognormal": (
        lambda r, a: r.lognormal(a, 0.5),
        lambda v, a: stats.lognorm.logpdf(v, 0.5, scale=np.exp(a)),
    ),
    "laplace": (lambda r, a: r.laplace(a, 2), lambda v, a: stats.laplace.logpdf(v, a, 2)),
    "logistic": (lambda r, a: r.logistic(a, 2), lambda v, a: stats.logistic.logpdf(v, a, 2)),
    "gumbel": (lambda r, a: r.gumbel(a, 2), lambda v, a: stats.gumbel_r.logpdf(v, a, 2)),
    "weibull": (
        lambda r, a: a * r.weibull(1.5),
        lambda v, a: stats.weibull_min.logpdf(v, 1.5, scale=a),
    ),
    "rayleigh": (lambda r, a: r.rayleigh(a), lambda v, a: stats.rayleigh.logpdf(v, scale=a)),
    "pareto": (lambda r, a: r.pareto(2 + a), lambda v, a: stats.lomax.logpdf(v, 2 + a)),
    "f": (lambda r, a: a * r.f(3, 5), lambda v, a: stats.f.logpdf(v, 3, 5, scale=a)),
    "wald": (lambda r, a: r.wald(a, 2), lambda v, a: stats.invgauss.logpdf(v, a / 2, scale=2)),
    "norm.rvs": (
        lambda r, a: stats.norm.rvs(a, 2, random_state=r),
        lambda v, a: stats.norm.logpdf(v, a, 2),
    ),
    "gamma.rvs": (
        lambda r, a: stats.gamma.rvs(2, scale=a, random_state=r),
        lambda v, a: stats.gamma.logpdf(v, 2, scale=a),
    ),
    "invgamma.rvs": (
        lambda r, a: stats.invgamma.rvs(2, scale=a, random_state=r),
        lambda v, a: stats.invgamma.logpdf(v, 2, scale=a),
    ),
    "truncnorm.rvs": (
        lambda r, a: stats.truncnorm.rvs(-a, 2, random_state=r),
        lambda v, a: stats.truncnorm.logpdf(v, -a, 2),
    ),
    "beta.rvs": (
        lambda r, a: stats.beta.rvs(2, 1 + a, random_state=r),
        lambda v, a: stats.beta.logpdf(v, 2, 1 + a),
    ),
}


def _vector(draw, log_density):
    return draw, lambda v, a: float(np.sum(log_density(v, a)))


K = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.5]])
VECTORS = {
    "loop": _vector(
        lambda r, a: np.array([r.normal(a * i, 1 + i) for i in range(3)]),
        lambda v, a: stats.norm.logpdf(v, a * np.arange(3), 1 + np.arange(3)),
    ),
    "arrays": _vector(
        lambda r, a: r.gamma([1 + a, 2, 3], [1, 2, a]),
        lambda v, a: stats.gamma.logpdf(v, [1 + a, 2, 3], scale=[1, 2, a]),
    ),
    "size": _vector(lambda r, a: r.normal(a, 1, size=3), lambda v, a: stats.norm.logpdf(v, a, 1)),
    "out": _vector(
        lambda r, a: a * r.standard_normal(out=np.empty(3)), lambda v, a: stats.norm.logpdf(v, 0, a)
    ),
    "L @ z": _vector(
        lambda r, a: a + np.linalg.cholesky(K) @ r.standard_normal(3),
        lambda v, a: stats.multivariate_normal.logpdf(v, np.full(3, a), K),
    ),
    "solve": _vector(
        lambda r, a: a + np.linalg.solve(np.linalg.cholesky(K).T, r.standard_normal(3)),
        lambda v, a: stats.multivariate_normal.logpdf(v, np.full(3, a), np.linalg.inv(K)),
    ),
    "multivariate_normal": _vector(
        lambda r, a: r.multivariate_normal(np.full(3, a), K),
        lambda v, a: stats.multivariate_normal.logpdf(v, np.full(3, a), K),
    ),
    "multivariate_normal.rvs": _vector(
        lambda r, a: stats.multivariate_normal.rvs(np.full(3, a), K, random_state=r),
        lambda v, a: stats.multivariate_normal.logpdf(v, np.full(3, a), K),
    ),
    "dirichlet": _vector(
        lambda r, a: r.dirichlet([1 + a, 2, 3]),
        lambda v, a: stats.dirichlet.logpdf(v / v.sum(), [1 + a, 2, 3]),
    ),
    "wishart.rvs": _vector(
        lambda r, a: stats.wishart.rvs(5, a * K, random_state=r),
        lambda v, a: stats.wishart.logpdf(v, 5, a * K),
    ),
    "poisson": _vector(
        lambda r, a: r.poisson([1 + a, 2, 3 * a]),
        lambda v, a: stats.poisson.logpmf(v, [1 + a, 2, 3 * a]),
    ),
    "binomial": _vector(
        lambda r, a: r.binomial(6, special.expit([a, -a, 1])),
        lambda v, a: stats.binom.logpmf(v, 6, special.expit([a, -a, 1])),
    ),
    "negative_binomial": _vector(
        lambda r, a: r.negative_binomial(3, special.expit([a, -a, 1])),
        lambda v, a: stats.nbinom.logpmf(v, 3, special.expit([a, -a, 1])),
    ),
    "geometric": _vector(
        lambda r, a: r.geometric(special.expit([a, -a, 1])),
        lambda v, a: stats.geom.logpmf(v, special.expit([a, -a, 1])),
    ),
    "choice": _vector(
        lambda r, a: r.choice(3, 3, p=np.array([1, a, 2]) / (3 + a)),
        lambda v, a: np.log(np.array([1, a, 2])[v]),
    ),
}


def run_style(draw, log_density, at=lambda a: a, seed=3):
    """Check one draw; `at` changes the parameter that log_joint uses."""
    first = draw(np.random.default_rng(1), 0.7)
    start = first if np.ndim(first) else float(first)
    return check_gibbs(
        {"v": lambda s, rng: draw(rng, s["a"])},
        lambda s: float(log_density(s["v"], at(s["a"]))),
        {"v": start, "a": 0.7},
        rng=seed,
    )


@pytest.mark.parametrize("style", [*STYLES, *VECTORS])
def test_every_way_to_draw_is_followed_exactly_and_a_wrong_one_refused(style):
    draw, log_density = STYLES.get(style) or VECTORS[style]
    report = run_style(draw, log_density)
    report.raise_if_failed()
    assert report.blocks[0].level == 0
    if style == "size":
        assert report.blocks[0].difference < 1e-10
    wrong = run_style(draw, log_density, at=lambda a: 1.05 * a).blocks[0]
    assert wrong.passed is False
    assert wrong.level == 0


@pytest.mark.parametrize("style", STYLES)
def test_recorded_draws_have_the_distribution_they_stand_for(style):
    draw, _ = STYLES[style]
    rng = np.random.default_rng(5)
    mine = [float(draw(Recorder(rng), 0.7)) for _ in range(1500)]
    plain = [float(draw(rng, 0.7)) for _ in range(1500)]
    assert stats.ks_2samp(mine, plain).pvalue > 1e-4
    moved = np.array(plain) + 0.3 * np.subtract(*np.quantile(plain, [0.75, 0.25]))
    assert stats.ks_2samp(mine, moved).pvalue < 1e-4


def test_the_recorder_is_a_generator_and_replays_what_it_wrote():
    recorder = Recorder(np.random.default_rng(1))
    assert isinstance(recorder, np.random.Generator)
    first = stats.norm.rvs(size=3, random_state=recorder), recorder.poisson(4)
    u = recorder.coordinates()
    recorder.replay(u)
    again = stats.norm.rvs(size=3, random_state=recorder), recorder.poisson(4)
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]


# -- where replay sees nothing

NORMAL = {
    "updates": {},
    "log_joint": lambda s: -0.5 * s["v"] ** 2 / s["a"],
    "state": {"v": 0.3, "a": 2.0},
}


def one(update, log_joint=None, state=None, **more):
    report = check_gibbs(
        {"v": update},
        log_joint or NORMAL["log_joint"],
        state or NORMAL["state"],
        rng=1,
        progress=False,
        **more,
    )
    return report.blocks[0]


def folded(s, rng, scale=1.0):
    return scale * abs(rng.normal(0, np.sqrt(s["a"])))


def vonmises(s, rng, factor=1.0):
    return rng.vonmises(0.5, factor * (1 + s["a"]))


def vonmises_joint(s):
    return (1 + s["a"]) * np.cos(s["v"] - 0.5) if abs(s["v"]) <= np.pi else -np.inf


def own_generator(factor):
    mine = np.random.default_rng(4)
    return lambda s, rng: mine.normal(0, factor * np.sqrt(s["a"]))  # noqa: ARG005


def global_numbers(factor):
    return lambda s, rng: np.random.normal(0, factor * np.sqrt(s["a"]))  # noqa: ARG005, NPY002


def half_joint(s):
    return -0.5 * s["v"] ** 2 / s["a"] if s["v"] >= 0 else -np.inf


def bernoulli(s, rng, shift=0.0):
    return rng.random(4) < special.expit(s["a"] - np.arange(4) + shift)


def bernoulli_joint(s):
    return float((np.asarray(s["v"]) * (s["a"] - np.arange(4))).sum())


BITS = {"v": np.array([0, 1, 0, 1]), "a": 1.3}


@pytest.mark.parametrize(
    ("right", "wrong", "log_joint", "state", "why"),
    [
        (folded, lambda s, r: folded(s, r, 1.15), half_joint, None, "folds"),
        (vonmises, lambda s, r: vonmises(s, r, 1.4), vonmises_joint, None, "rng.vonmises"),
        (own_generator(1), own_generator(1.15), None, None, "another value"),
        (global_numbers(1), global_numbers(1.15), None, None, "another value"),
        (bernoulli, lambda s, r: bernoulli(s, r, 0.9), bernoulli_joint, BITS, "whole numbers"),
    ],
    ids=["folded", "vonmises", "own generator", "global generator", "thresholds"],
)
def test_level_1_passes_right_draws_and_finds_wrong_ones(right, wrong, log_joint, state, why):
    good, bad = one(right, log_joint, state), one(wrong, log_joint, state)
    assert (good.level, good.passed) == (1, True)
    assert why in good.diagnosis
    assert (bad.level, bad.passed) == (1, False)
    assert bad.p_value < 1e-4


def test_half_of_a_normal_is_not_the_normal():
    """Replay alone would pass: densities agree wherever the update goes."""
    assert one(folded).passed is False


def test_a_vector_is_tested_along_lines():
    root = np.linalg.cholesky(K)

    def joint(s):
        return -0.5 * s["v"] @ np.linalg.solve(K, s["v"]) / s["a"]

    def hidden(factor):
        mine = np.random.default_rng(8)
        return lambda s, rng: factor * np.sqrt(s["a"]) * root @ mine.standard_normal(3)  # noqa: ARG005

    state = {"v": np.ones(3), "a": 1.0}
    assert one(hidden(1.0), joint, state).passed is True
    assert one(hidden(1.35), joint, state).passed is False


def metropolis(s, rng, power=1.0):
    v = np.asarray(s["v"])
    new = v + 1.5 * rng.standard_normal(v.shape)
    gain = 0.5 * power * float((v**2 - new**2).sum()) / s["a"]
    out = new if np.log(rng.random()) < gain else v
    return float(out) if out.ndim == 0 else out


def test_steps_are_recognised_and_tested_before_against_after():
    good, bad = one(metropolis), one(lambda s, r: metropolis(s, r, 1.5))
    assert (good.level, good.passed) == (2, True)
    assert "depends on its own current value" in good.diagnosis
    assert (bad.level, bad.passed) == (2, False)


def test_steps_of_small_vectors_too_and_large_ones_are_said_to_be_unchecked():
    def joint(s):
        return -0.5 * float((s["v"] ** 2).sum()) / s["a"]

    state = {"v": np.ones(2), "a": 1.0}
    assert one(metropolis, joint, state).passed is True
    assert one(lambda s, r: metropolis(s, r, 2.5), joint, state).passed is False
    large = check_gibbs({"v": metropolis}, joint, {"v": np.ones(30), "a": 1.0}, rng=1)
    assert large.blocks[0].passed is None
    assert not large.passed
    assert "NOT ALL CHECKED" in str(large)


def test_a_step_with_its_own_generator_can_be_declared():
    mine = np.random.default_rng(3)

    def update(s, rng):  # noqa: ARG001
        return 0.8 * s["v"] + 0.6 * mine.normal(0, np.sqrt(s["a"]))

    assert one(update, invariant=["v"]).passed is True


@pytest.mark.parametrize("arguments", [a for _, a in planted.unseen_samplers()])
def test_right_samplers_that_replay_cannot_see_pass(arguments):
    # A sweep takes seconds; `python tests/gibbs_check/planted.py` runs a thousand.
    seeds = range(1 if "sweep" in arguments else 3)
    assert all(check_gibbs(**arguments, rng=seed, progress=False).passed for seed in seeds)


def test_quadrature_reproduces_distribution_functions():
    for law, start in ((stats.norm(3, 1e-3), 3.002), (stats.t(3), 5.0), (stats.expon(2), 2.1)):
        line = tabulate(lambda x, law=law: float(law.logpdf(x)), start, 1.0)
        at = law.ppf([0.001, 0.1, 0.5, 0.9, 0.99])
        np.testing.assert_allclose(line.cdf(at), law.cdf(at), atol=2e-4)


# -- sweeps


def test_a_sweep_in_another_order_or_in_place_is_right():
    model = planted.article()

    def backwards(s, rng):
        for name in reversed(model.updates):
            s[name] = model.updates[name](s, rng)
        return s

    report = check_gibbs(model.updates, model.log_joint, model.state, sweep=backwards, rng=1)
    assert report.passed
    assert report.blocks[-1].level == 0


def test_a_right_sweep_in_another_style_passes_level_2():
    def joint(s):
        return -0.5 * (s["u"] ** 2 - 1.2 * s["u"] * s["v"] + s["v"] ** 2)

    updates = {
        "u": lambda s, rng: rng.normal(0.6 * s["v"], 1),
        "v": lambda s, rng: rng.normal(0.6 * s["u"], 1),
    }

    def sweep(s, rng):
        u = 0.6 * s["v"] - rng.standard_normal()
        return {"u": u, "v": 0.6 * u - rng.standard_normal()}

    def stale(s, rng):
        u = 0.6 * s["v"] - rng.standard_normal()
        return {"u": u, "v": 0.6 * s["u"] - rng.standard_normal()}

    def run(f):
        return check_gibbs(updates, joint, {"u": 0.0, "v": 0.0}, sweep=f, rng=1).blocks[-1]

    assert (run(sweep).level, run(sweep).passed) == (2, True)
    assert (run(stale).level, run(stale).passed) == (2, False)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (lambda s, rng: None, "returned a NoneType"),  # noqa: ARG005
        (lambda s, rng: {"u": 1.0}, "without 'v'"),  # noqa: ARG005
        (lambda s, rng: {**s, "v": np.ones(2)}, "of shape (2,)"),  # noqa: ARG005
        (lambda s, rng: {**s, "v": np.nan}, "not finite"),  # noqa: ARG005
        (lambda s, rng: s["w"], "raises KeyError"),  # noqa: ARG005
    ],
)
def test_a_sweep_that_gives_no_state_fails_and_says_so(sweep, message):
    updates = {"v": lambda s, rng: rng.normal(0, np.sqrt(s["u"]))}
    report = check_gibbs(
        updates, lambda s: -0.5 * s["v"] ** 2 / s["u"], {"v": 0.0, "u": 1.0}, sweep=sweep, rng=1
    )
    assert message in report.failures["sweep"]


# -- input


def test_data_are_handed_on_and_must_stay():
    y = np.array([1.0, 2.0, 6.0])

    def joint(s, data):
        return -0.5 * float(((data["y"] - s["m"]) ** 2).sum())

    def update(s, data, rng):  # noqa: ARG001
        return rng.normal(data["y"].mean(), np.sqrt(1 / 3))

    def meddle(s, data, rng):
        data["y"][0] += 1
        return update(s, data, rng)

    check_gibbs({"m": update}, joint, {"m": 0.0}, {"y": y}, rng=1).raise_if_failed()
    report = check_gibbs({"m": meddle}, joint, {"m": 0.0}, {"y": y.copy()}, rng=1)
    assert report.failures == {"m": "update 'm' changes the data"}


def right(s, rng):
    return rng.normal(0, np.sqrt(s["a"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates": {}}, "updates must be a dict"),
        ({"updates": [right]}, "updates must be a dict"),
        ({"updates": {"w": right}}, "names 'w', not in the state"),
        ({"updates": {"v": 3}}, r"updates\['v'\] is a int"),
        ({"updates": {"v": lambda s: 1.0}}, r"called as v\(state, rng\)"),  # noqa: ARG005
        ({"updates": {"v": lambda s, rng: s["b"]}}, "raises KeyError"),  # noqa: ARG005
        ({"updates": {"v": lambda s, rng: None}}, "returned None"),  # noqa: ARG005
        ({"updates": {"v": lambda s, rng: s}}, "returned a dict"),  # noqa: ARG005
        ({"updates": {"v": lambda s, rng: "x"}}, "returned a str"),  # noqa: ARG005
        ({"updates": {"v": lambda s, rng: rng.normal(0, 1, 2)}}, r"shape \(2,\)"),  # noqa: ARG005
        ({"log_joint": 3}, "log_joint is a int"),
        ({"log_joint": lambda s: np.nan}, "log_joint is nan"),  # noqa: ARG005
        ({"log_joint": lambda s: -np.inf}, "log_joint is -inf"),  # noqa: ARG005
        ({"log_joint": lambda s: np.ones(2)}, r"log_joint returned shape \(2,\)"),  # noqa: ARG005
        ({"log_joint": lambda s: s["b"]}, "log_joint raises KeyError"),
        ({"state": {}}, "state must be a dict"),
        ({"state": {"v": "x", "a": 1.0}}, r"state\['v'\] is a str"),
        ({"state": {"v": np.nan, "a": 1.0}}, r"state\['v'\] is not finite"),
        ({"sweep": 3}, "sweep is 3; a function"),
        ({"alpha": 2}, "alpha is 2"),
        ({"invariant": ["w"]}, "invariant names 'w'"),
    ],
)
def test_bad_input_gets_one_line(changes, message):
    arguments = {
        "updates": {"v": right},
        "log_joint": NORMAL["log_joint"],
        "state": NORMAL["state"],
    }
    with pytest.raises(DataError, match=message) as caught:
        check_gibbs(**{**arguments, **changes}, rng=1)
    assert "\n" not in str(caught.value)


def test_a_value_that_is_not_finite_elsewhere_is_a_finding():
    block = one(lambda s, rng: rng.normal() if s["a"] == 2.0 else rng.normal() * np.nan)
    assert block.passed is False
    assert "returned nan" in block.diagnosis


def test_values_outside_the_support_are_a_finding():
    block = one(lambda s, rng: rng.normal(0, np.sqrt(s["a"])), half_joint)
    assert block.passed is False
    assert "not finite" in block.diagnosis


# -- states and formulas


def test_states_leave_symmetry_and_stay_in_the_support():
    rng = np.random.default_rng(1)

    def joint(s):
        if s["v"] <= 0 or not 0 < s["p"] < 1 or abs(s["w"].sum() - 1) > 1e-9 or min(s["w"]) <= 0:
            return -np.inf
        return -float(np.sum(s["x"] ** 2)) + float(np.linalg.slogdet(s["S"])[1])

    state = {"v": 1.0, "p": 0.5, "w": np.full(3, 1 / 3), "S": np.eye(2), "x": np.zeros(3), "n": 4}
    sampler = make_sampler({"x": lambda s, r: r.normal(size=3)}, joint, state, None, rng)  # noqa: ARG005
    states = asymmetric_states(sampler, 20, rng)
    for s in states:
        assert np.isfinite(joint(s))
        assert np.linalg.eigvalsh(s["S"]).min() > 0
        assert s["n"] == 4
        assert len({*s["x"], *s["w"], s["v"], s["p"]}) == 8
    assert len({s["v"] for s in states}) == 20


def test_formulas_are_told_only_if_exact():
    s = np.exp(np.random.default_rng(1).normal(size=12))
    terms = [{"/s": 1 / s, "": np.ones(12)}]
    assert express(2 / s + 3, terms) == "2/s + 3"
    assert express(-0.5 / s, terms) == "-0.5/s"
    assert express(2 / s + 1e-3 * s, terms) is None


# -- the report


def test_the_report_reads_as_text_table_and_picture():
    report = check_article()["printed"]
    assert not report.passed
    table = report.table()
    assert list(table.index) == ["X", "sigma2_x", "sigma2_e"]
    assert table["passed"].tolist() == [False, True, True]
    assert table.loc["X", "difference"] > 0.1
    figure = report.plot()
    assert [a.get_title() for a in figure.axes] == ["X: FAIL", "sigma2_x: ok", "sigma2_e: ok"]
    assert SENTENCE in str(report)
    with pytest.raises(AssertionError, match="FAILED: X"):
        report.raise_if_failed()
    check_article()["corrected"].raise_if_failed()


def test_what_is_not_checked_is_said():
    report = check_gibbs({"v": right}, NORMAL["log_joint"], NORMAL["state"], rng=1)
    assert "'a' (no update)" in str(report)
    assert "share" in str(report)
    hidden = check_gibbs({"v": global_numbers(1)}, NORMAL["log_joint"], NORMAL["state"], rng=1)
    with pytest.raises(ValueError, match="nothing to draw"):
        hidden.plot()


def test_a_seed_fixes_the_report():
    def run(seed):
        return str(check_gibbs({"v": right}, NORMAL["log_joint"], NORMAL["state"], rng=seed))

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_an_update_sees_a_copy_and_other_blocks_stay(monkeypatch):
    """The negative control of the check for meddling: without it nobody would notice."""

    def meddling(s, rng):
        s["a"] = s["a"] * 1.0 + 1.0
        return rng.normal(0, np.sqrt(s["a"] - 1.0))

    assert "changes 'a' in the state" in one(meddling).diagnosis
    monkeypatch.setattr(block_module, "_meddling", lambda context, name: None)  # noqa: ARG005
    assert one(meddling).passed is True


def test_hundred_values_take_seconds_at_most():
    started = time.perf_counter()
    check_article()
    assert time.perf_counter() - started < 5

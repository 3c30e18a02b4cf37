"""NUTS against exact draws and quadrature, as what takes over, and where it fails itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import stats

import ranef as rf
import ranef.samplers.nuts as nuts_module
from helpers import CROSSED, DATA, WALLS, crossed_frame
from ranef.mixed_model.model import build_model
from ranef.mixed_model.parameters import ParameterVector
from ranef.samplers import SAMPLERS
from ranef.samplers.bounds import Bounds, bounds_of
from ranef.samplers.proposal_quality import shortfall
from ranef.samplers.sample import PosteriorSample, SamplerSettings

pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.NestingWarning")


def quantities(sample: PosteriorSample) -> dict[str, np.ndarray]:
    out = {"sigma": sample.sigma, **sample.scales}
    out |= {k: v[..., 0] for k, v in sample.correlations.items()}
    return out | {f"beta {j}": sample.beta[..., j] for j in range(sample.beta.shape[2])}


def largest_score(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Largest difference of means, medians and outer deciles in Monte Carlo errors."""

    def error(x: np.ndarray, **what: Any) -> float:
        return float(array_stats.mcse(x, chain_axis=0, draw_axis=1, **what))

    scores = []
    for name in a:
        x, y = a[name], b[name]
        scores.append((x.mean() - y.mean()) / np.hypot(error(x), error(y)))
        for p in (0.1, 0.5, 0.9):
            both = np.hypot(
                error(x, method="quantile", prob=p), error(y, method="quantile", prob=p)
            )
            scores.append((np.quantile(x, p) - np.quantile(y, p)) / both)
    return float(np.max(np.abs(scores)))


# Four looks at each of at most six quantities in three comparisons: all stay below in a right
# package with probability 0.995.
LIMIT = float(stats.norm.isf(0.005 / (4 * 6 * 3) / 2))


@pytest.mark.parametrize(
    ("formula", "data"),
    [
        ("Reaction ~ Days + (Days|Subject)", DATA / "sleepstudy.csv"),
        ("diameter ~ 1 + (1|plate) + (1|sample)", DATA / "Penicillin.csv"),
    ],
    ids=["sleepstudy", "Penicillin"],
)
def test_nuts_agrees_with_exact_draws(formula, data):
    model, _ = build_model(formula, data)
    exact = SAMPLERS["exact"](
        model, SamplerSettings(8000, 4, 0, (), False), np.random.default_rng(1)
    )
    effects = (model.parameters.terms[0].names[0],)
    nuts = SAMPLERS["nuts"](
        model, SamplerSettings(1200, 4, 100, effects, False), np.random.default_rng(2)
    )
    right, ours = quantities(exact), quantities(nuts)
    assert nuts.divergences == 0
    for draws in ours.values():
        assert array_stats.ess(draws, chain_axis=0, draw_axis=1) > 400
        assert array_stats.rhat(draws, chain_axis=0, draw_axis=1) < 1.01
    assert largest_score(right, ours) < LIMIT
    # Negative controls: draws off by a quarter of their sd, and a fifth too narrow.
    moved = {k: v + 0.25 * v.std() for k, v in ours.items()}
    narrow = {k: np.median(v) + 0.8 * (v - np.median(v)) for k, v in ours.items()}
    assert largest_score(right, moved) > LIMIT
    assert largest_score(right, narrow) > LIMIT
    for name, (mean, sd) in exact.moments.items():
        assert np.all(np.abs(nuts.moments[name][0] - mean) < 0.1 * sd)
        np.testing.assert_allclose(nuts.moments[name][1], sd, rtol=0.1)
    drawn = nuts.effects[effects[0]]
    mean, sd = exact.moments[effects[0]]
    for level in range(drawn.shape[2]):
        error = array_stats.mcse(drawn[..., level], chain_axis=0, draw_axis=1)
        assert abs(drawn[..., level].mean() - mean[level]) < 4.5 * np.hypot(error, sd[level] / 60)


def test_without_the_package_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr(nuts_module, "find_spec", lambda _: None)
    with pytest.raises(rf.RanefError) as error:
        rf.fit(CROSSED, crossed_frame(), method="nuts")
    assert str(error.value) == ("method='nuts' needs the package mici: pip install 'ranef[nuts]'")


def test_few_draws_and_good_proposals_give_no_reason_to_fall_back():
    weight = 2 * np.random.default_rng(1).standard_exponential((4, 500))
    every, none = np.ones_like(weight, dtype=bool), np.zeros_like(weight, dtype=bool)
    # Exponential log weights of mean k have tail index k.
    assert "Pareto k-hat" in shortfall(_weighted(weight, every))
    assert shortfall(_weighted(0.1 * weight, every)) is None
    assert "acceptance 0%" in shortfall(_weighted(0.1 * weight, none))
    assert shortfall(_weighted(weight[:, :50], none[:, :50])) is None


def _weighted(log_weight: np.ndarray, accepted: np.ndarray) -> PosteriorSample:
    empty, parameters = np.empty((0, 0)), ParameterVector((), None, ())
    return PosteriorSample(parameters, empty, empty, empty, accepted, log_weight, {}, {}, "")


def test_a_seed_fixes_the_draws_and_more_of_them_go_on_where_fewer_stopped():
    model, _ = build_model(CROSSED, crossed_frame())

    def draw(draws: int, seed: int) -> np.ndarray:
        request = SamplerSettings(draws, 2, 20, (), False)
        return SAMPLERS["nuts"](model, request, np.random.default_rng(seed)).sigma

    first = draw(40, 1)
    assert first.shape == (2, 20)
    assert np.array_equal(first, draw(40, 1))
    assert np.array_equal(first, draw(80, 1)[:, :20])
    assert not np.any(first == draw(40, 2))


def test_no_warm_up_is_possible():
    model, _ = build_model(CROSSED, crossed_frame())
    sample = SAMPLERS["nuts"](model, SamplerSettings(40, 1, 0, (), False), np.random.default_rng(1))
    assert len(np.unique(sample.sigma)) > 30


def test_every_notable_mode_gets_a_chain():
    def log_f(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.logaddexp(-0.5 * x[:, 0] ** 2, -0.5 * (x[:, 0] - 30) ** 2 - 3))

    modes = [(np.zeros(1), np.eye(1)), (np.full(1, 30.0), np.eye(1))]
    begin = nuts_module._first_states(log_f, modes, 4, np.random.default_rng(1))
    assert sorted((begin[:, 0] > 15).tolist()) == [False, False, False, True]
    # A mode of a millionth gets none.
    slight = nuts_module._first_states(
        lambda x: np.where(x[:, 0] > 15, -14.0, 0.0), modes, 4, np.random.default_rng(1)
    )
    assert (slight[:, 0] < 15).all()


def test_an_interruption_is_no_short_answer(monkeypatch):
    """The library takes it for the end of the run."""
    model, _ = build_model(CROSSED, crossed_frame())
    calls = []

    def stopped(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 50:
            raise KeyboardInterrupt
        return gradient(*args)

    gradient = nuts_module.log_density_gradient
    monkeypatch.setattr(nuts_module, "log_density_gradient", stopped)
    with pytest.raises(KeyboardInterrupt):
        SAMPLERS["nuts"](model, SamplerSettings(400, 2, 20, (), False), np.random.default_rng(1))


def test_bounds_map_the_line_onto_the_support_smoothly():
    bounds = Bounds(np.array([-np.inf, 0.5, -np.inf, -1.0]), np.array([np.inf, np.inf, 2.0, 3.0]))
    v = np.random.default_rng(1).normal(scale=3, size=(200, 4))
    x = bounds.inside(v)
    assert np.all((x > bounds.low) & (x < bounds.high))
    back = bounds.outside(x)
    near = np.abs(x - np.clip(x, bounds.low + 1e-2, bounds.high - 1e-2)) > 0
    np.testing.assert_allclose(back[~near], v[~near], rtol=1e-9, atol=1e-9)
    h = 1e-5
    value, bend = bounds.log_jacobian(v)
    slope = (bounds.inside(v + h) - bounds.inside(v - h)) / (2 * h)
    np.testing.assert_allclose(np.exp(value), slope, rtol=1e-4, atol=1e-8)
    change = (bounds.log_jacobian(v + h)[0] - bounds.log_jacobian(v - h)[0]) / (2 * h)
    np.testing.assert_allclose(bend, change, atol=1e-7)
    walls = bounds_of(build_model(CROSSED, crossed_frame(), WALLS)[0].parameters)
    np.testing.assert_allclose(np.exp(walls.high), [0.7, 0.6, np.inf])

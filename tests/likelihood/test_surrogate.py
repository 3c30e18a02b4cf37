"""Interpolated likelihoods where an SD may be zero: boxes, errors, posteriors."""

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats

import ranef as rf
import ranef.samplers.annealed.sampler as annealed_module
from helpers import limit
from ranef.likelihood.interpolation import interpolate as expensive
from ranef.likelihood.interpolation.boxes import LogBox, PlainBox
from ranef.likelihood.posterior import MarginalPosterior
from ranef.mixed_model.model import build_model
from ranef.samplers import SAMPLERS
from ranef.samplers.annealed.sampler import MEMORY, sample_by_proposals
from ranef.samplers.sample import SamplerSettings
from ranef.samplers.search import explore, starts

FORMULAS = {
    "slopes": "y ~ x + (x|g)",
    "independent slopes": "y ~ x + (x||g)",
    "crossed": "y ~ x + (1|g) + (1|h)",
    "one SD": "y ~ 1 + (1|g)",
}


def frame(intercept=0.0, slope=0.0, h=0.0, seed=4):
    rng = np.random.default_rng(seed)
    n = 1200
    g, k, x = rng.integers(0, 300, n), rng.integers(0, 40, n), rng.normal(size=n)
    b = rng.normal(size=(300, 2)) * [intercept, slope]
    y = 1 + 0.3 * x + b[g, 0] + b[g, 1] * x + h * rng.normal(size=40)[k] + rng.normal(size=n)
    return pd.DataFrame({"g": g, "h": k, "x": x, "y": y})


def model_of(name, **sizes):
    return build_model(FORMULAS[name], frame(**sizes))[0]


@pytest.mark.parametrize(
    "box",
    [
        LogBox(np.array([0.3, -2.0, 0.1]), np.array([[0.2, 0, 0], [0.1, 0.5, 0], [0, 0.3, 1.0]])),
        PlainBox(np.array([0.0, 0.4, -1]), np.array([0.3, 2.0, 1]), np.array([True, True, False])),
    ],
)
def test_boxes_map_to_the_cube_and_back(box):
    u = np.random.default_rng(1).uniform(-0.999, 0.999, (50, 3))
    np.testing.assert_allclose(box.cube(box.ratios(u)), u, atol=1e-9)
    far = np.array([[800.0, 0.0, 0.0]])
    assert np.abs(box.cube(far)).max() > 1


def test_a_plain_box_reaches_down_to_zero():
    box = PlainBox(np.zeros(2), np.array([0.5, 0.1]), np.array([True, True]))
    # A hundred logarithms down is a hair from zero, and inside.
    np.testing.assert_allclose(box.cube(np.array([[-100.0, -100.0]])), -1.0)


CASES = [("slopes", 0.0), ("slopes", 0.7), ("independent slopes", 0.7), ("crossed", 0.0)]
CASES += [("crossed", 0.7), ("one SD", 0.0)]


@pytest.mark.parametrize(("name", "intercept"), CASES)
def test_interpolated_is_the_likelihood_down_to_sds_of_zero(name, intercept):
    model = model_of(name, intercept=intercept)
    target = MarginalPosterior(model)
    begin = starts(model)[0]
    other, mode, error = expensive.interpolate(target, begin)
    assert isinstance(other.surrogate.box, PlainBox)
    assert error < 1e-2
    settings = SamplerSettings(400, 4, 0, (), False)
    landscape = explore(model, settings, interpolated=False)
    drawn = sample_by_proposals(landscape, settings, np.random.default_rng(1))
    theta = drawn.theta.reshape(400, -1)
    inside = other.surrogate.inside(model.parameters.relative(theta))
    assert inside.mean() > 0.99
    np.testing.assert_allclose(
        other.log_density(theta[inside]), target.log_density(theta[inside]), atol=2 * error + 1e-6
    )
    # The smallest SD drawn is far below what a box in logarithms around the mode would hold.
    smallest = min(drawn.scales, key=lambda name: drawn.scales[name].min())
    assert np.log(drawn.scales[smallest].min()) < model.parameters.scales(mode[None])[smallest]


def test_a_box_in_logarithms_does_not_hold_where_sds_may_be_zero(monkeypatch):
    model = model_of("slopes")
    target, begin = MarginalPosterior(model), starts(model)[0]
    # The control: without a look at how loose the SDs are, nothing but logarithms.
    monkeypatch.setattr(expensive, "_LOOSE", np.inf)
    monkeypatch.setattr(expensive, "LARGEST_ERROR", np.inf)
    other, _, error = expensive.interpolate(target, begin)
    assert isinstance(other.surrogate.box, LogBox)
    assert error > 0.1


def test_a_logarithmic_box_stays_where_the_data_fix_all_sds():
    model = model_of("slopes", intercept=1.5, slope=1.2)
    other, _, error = expensive.interpolate(MarginalPosterior(model), starts(model)[0])
    assert isinstance(other.surrogate.box, LogBox)
    assert error < 1e-3


@pytest.mark.parametrize("name", ["slopes", "crossed"])
def test_the_posterior_is_that_of_the_likelihood_itself(name, monkeypatch):
    model = model_of(name, intercept=0.7)
    request = SamplerSettings(4000, 4, 0, (), progress=False)
    direct = SAMPLERS["exact"](model, request, np.random.default_rng(1))
    assert direct.surrogate_error is None
    limit(monkeypatch, "DIRECT_EVALUATIONS", seconds=0.0)
    made = SAMPLERS["exact"](model, request, np.random.default_rng(2))
    assert made.surrogate_error < 1e-2
    assert made.memory is None or made.memory < MEMORY
    values = {"sigma": (direct.sigma, made.sigma)}
    values |= {k: (v, made.scales[k]) for k, v in direct.scales.items()}
    values |= {k: (v[..., 0], made.correlations[k][..., 0]) for k, v in direct.correlations.items()}
    for key, (a, b) in values.items():
        for prob in (0.1, 0.5, 0.9):
            errors = [
                array_stats.mcse(v, chain_axis=0, draw_axis=1, method="quantile", prob=prob)
                for v in (a, b)
            ]
            gap = abs(np.quantile(a, prob) - np.quantile(b, prob))
            assert gap < 4.5 * np.hypot(*errors), (key, prob)
    # The control: half a posterior SD would be seen.
    for key, (a, b) in values.items():
        errors = [array_stats.mcse(v, chain_axis=0, draw_axis=1, method="mean") for v in (a, b)]
        assert 0.5 * a.std() > 4.5 * np.hypot(*errors), key


def test_a_fit_says_how_well_it_interpolates(monkeypatch):
    limit(monkeypatch, "DIRECT_EVALUATIONS", seconds=0.0)
    fit = rf.fit(FORMULAS["slopes"], frame(), seed=1)
    assert fit.certificate.trusted
    assert "interpolation error" in str(fit)


@pytest.fixture
def rough(monkeypatch):
    """Polynomials of a degree too low, of a likelihood too expensive to explore."""
    limit(monkeypatch, "DIRECT_EVALUATIONS", seconds=0.0)
    limit(monkeypatch, "SECOND_ATTEMPT", seconds=0.0)
    degrees = dict.fromkeys(PlainBox.degrees, (5,))
    monkeypatch.setattr(PlainBox, "degrees", degrees)


@pytest.mark.usefixtures("rough")
def test_a_rough_interpolation_is_corrected_draw_by_draw(monkeypatch):
    model = model_of("slopes", intercept=0.7)
    target = MarginalPosterior(model)
    error = expensive.interpolate(target, starts(model)[0])[2]
    assert 0.05 < error < 1.0
    settings = SamplerSettings(4000, 4, 0, (), progress=False)
    made = SAMPLERS["exact"](model, settings, np.random.default_rng(1))
    assert made.surrogate_error is None
    theta = made.theta.reshape(4000, -1)
    np.testing.assert_allclose(made.log_density.ravel(), target.log_density(theta), atol=1e-8)
    landscape = explore(model, settings, interpolated=False)
    direct = sample_by_proposals(landscape, settings, np.random.default_rng(2))
    limit(monkeypatch, "CORRECTION", seconds=0.0)
    left = SAMPLERS["exact"](model, settings, np.random.default_rng(1))
    assert left.surrogate_error == error
    assert abs(made.log_mass - direct.log_mass) < 4 * np.hypot(
        made.log_mass_error, direct.log_mass_error
    )
    worst = {"made": 0.0, "left": 0.0}
    for name, other in (("made", made), ("left", left)):
        for j in range(theta.shape[1]):
            a, b = direct.theta[..., j], other.theta[..., j]
            errors = [array_stats.mcse(v, chain_axis=0, draw_axis=1) for v in (a, b)]
            worst[name] = max(worst[name], abs(a.mean() - b.mean()) / np.hypot(*errors))
    assert worst["made"] < 4
    assert worst["left"] > 4  # negative control: without the correction


@pytest.mark.usefixtures("rough")
def test_weights_that_are_worth_little_leave_the_error_in_the_certificate(monkeypatch):
    monkeypatch.setattr(annealed_module, "_EVEN", 1.1)
    with pytest.warns(rf.ReliabilityWarning, match="the interpolation is off by"):
        rf.fit(FORMULAS["slopes"], frame(intercept=0.7), seed=1)

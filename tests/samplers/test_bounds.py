"""Log SDs with hard bounds as functions of unbounded numbers: inverses, slopes, walls of priors."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import CROSSED, WALLS, crossed_frame
from ranef.mixed_model.model import build_model
from ranef.samplers.bounds import Bounds, bounds_of


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


@pytest.mark.filterwarnings("ignore::ranef.errors.NestingWarning")
def test_priors_set_the_bounds():
    walls = bounds_of(build_model(CROSSED, crossed_frame(), WALLS)[0].parameters)
    np.testing.assert_allclose(np.exp(walls.high), [0.7, 0.6, np.inf])
    np.testing.assert_array_equal(walls.low, -np.inf)

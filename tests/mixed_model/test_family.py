"""Every family of the table, and every covariance of levels, keeps what the engine relies on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate

from ranef.errors import RanefError
from ranef.mixed_model.covariance import COVARIANCES
from ranef.mixed_model.family import FAMILIES, Gaussian, KnownGaussian
from ranef.mixed_model.parameters import ParameterVector
from ranef.priors import half_t, scale_prior

MADE = {
    Gaussian: Gaussian(scale_prior(half_t(2.0), "sigma")),
    KnownGaussian: KnownGaussian(np.log(3.0)),
}


@pytest.fixture(params=FAMILIES, ids=lambda kind: kind.name)
def family(request):
    """One instance of each row; a row without one fails here."""
    return MADE[request.param]


def test_dispersions_are_the_end_of_the_vector(family):
    vector = ParameterVector((), family, ())
    assert vector.size == len(family.dispersions) == len(family.scales)
    assert tuple(family.scales) == family.dispersions
    theta = np.array([[0.3], [-1.2]])[:, : vector.size]
    expected = theta[:, -1] if family.dispersions else [np.log(3.0)] * 2
    np.testing.assert_array_equal(family.log_sigma(theta), expected)
    np.testing.assert_array_equal(vector.absolute(np.empty((2, 0)), np.array([0.3, -1.2])), theta)


def test_the_prior_of_the_vector_integrates_to_one(family):
    vector = ParameterVector((), family, ())
    if not vector.size:
        np.testing.assert_array_equal(vector.log_prior(np.empty((3, 0))), 0.0)
        return
    density = lambda t: float(np.exp(vector.log_prior(np.array([[t]]))[0]))  # noqa: E731
    assert integrate.quad(density, -40, 12, limit=400)[0] == pytest.approx(1.0, abs=1e-6)


def test_prior_draws_follow_the_prior(family):
    vector = ParameterVector((), family, ())
    theta = vector.draw_prior(np.random.default_rng(1), 4000)
    assert theta.shape == (4000, vector.size)
    for j, prior in enumerate(family.scales.values()):
        below = np.mean(np.exp(theta[:, j]) < prior.median)
        assert abs(below - 0.5) < 4 * 0.5 / np.sqrt(4000)


def test_a_perfect_fit_is_told_by_an_error_of_ours(family):
    assert isinstance(family.perfect_fit(), RanefError)
    assert family.link == "identity"
    assert family.closed_form


@pytest.mark.parametrize("covariance", COVARIANCES, ids=lambda row: row.name)
def test_correlated_effects_keep_their_shape_and_variance(covariance):
    z = np.random.default_rng(2).standard_normal((2000, 3, 2))
    effects = covariance.correlate(z)
    assert effects.shape == z.shape
    error = 4 * np.sqrt(2 / 2000)
    np.testing.assert_allclose(effects.var(axis=0), 1.0, atol=error)

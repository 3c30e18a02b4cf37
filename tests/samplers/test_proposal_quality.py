"""What makes proposals fall short of a posterior, and what does not."""

from __future__ import annotations

import numpy as np

from ranef.mixed_model.parameters import ParameterVector
from ranef.samplers.proposal_quality import shortfall
from ranef.samplers.sample import PosteriorSample


def weighted(log_weight: np.ndarray, accepted: np.ndarray) -> PosteriorSample:
    empty, parameters = np.empty((0, 0)), ParameterVector((), None, ())
    return PosteriorSample(parameters, empty, empty, empty, accepted, log_weight, {}, {}, "")


def test_few_draws_and_good_proposals_give_no_reason_to_fall_back():
    weight = 2 * np.random.default_rng(1).standard_exponential((4, 500))
    every, none = np.ones_like(weight, dtype=bool), np.zeros_like(weight, dtype=bool)
    # Exponential log weights of mean k have tail index k.
    assert "Pareto k-hat" in shortfall(weighted(weight, every))
    assert shortfall(weighted(0.1 * weight, every)) is None
    assert "acceptance 0%" in shortfall(weighted(0.1 * weight, none))
    assert shortfall(weighted(weight[:, :50], none[:, :50])) is None

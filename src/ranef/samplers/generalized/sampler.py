"""Draws of models of other families, by the engine of all posteriors (mathematics.md, 4.8).

Coefficients, kept effects and variance parameters are drawn at once, and the effects that were
integrated out given these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ranef.common.random_streams import split_stream
from ranef.samplers.annealed.sampler import sample_by_proposals
from ranef.samplers.generalized.kept_effects import explore_kept
from ranef.samplers.generalized.landscape import CHECKED, TOLERANCE
from ranef.samplers.generalized.one_column import explore_one

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["sample_generalized"]

# Rules that are tried in all, and the error, in nats, with which nothing is wrong.
_RULES, _GOOD = 3, 0.01


def sample_generalized(
    model: GeneralizedModel, settings: SamplerSettings, rng: np.random.Generator
) -> PosteriorSample:
    """Draw from the posterior of a model of another family.

    Parameters
    ----------
    model
        Data, family and priors.
    settings
        How many draws.
    rng
        Source of random numbers.

    Returns
    -------
    PosteriorSample
    """
    streams = split_stream(rng, 1 + _RULES)
    landscape = (explore_kept if model.rows.kept else explore_one)(model, streams[0])
    for stream in streams[1:]:
        sample = sample_by_proposals(landscape, settings, stream)
        if sample.quadrature_error is not None and sample.quadrature_error < _GOOD:
            break
        # Effects may be larger than about the mode, and take more nodes there.
        v = _vectors(model, sample)
        log_sd = v[:, model.rows.linear + model.rows.place]
        target = landscape.target.refined(v[_extremes(log_sd)], TOLERANCE)
        landscape = replace(landscape, target=target)
    return sample


def _vectors(model: GeneralizedModel, sample: PosteriorSample) -> Array:
    """Internal coefficients and parameter vectors of a sample, shape (n, p + d)."""
    beta = sample.beta.reshape(-1, len(model.names))
    theta = sample.theta.reshape(len(beta), -1)
    assert sample.kept is not None
    z = sample.kept.reshape(len(beta), sample.kept.shape[-1])
    return np.column_stack([model.rows.internal(beta), z, theta])


def _extremes(log_sd: Array) -> IntArray:
    """Draws for which a rule is chosen: even ones, and those with the smallest and largest SD."""
    n = len(log_sd)
    return np.append(np.arange(0, n, max(1, n // CHECKED)), [log_sd.argmin(), log_sd.argmax()])

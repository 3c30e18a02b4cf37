"""Draws of a Markov chain that is started at the truth, as good as independent ones for ranking.

The true parameters are a draw from their posterior given the data that they made. The reversed
chain runs from them to a hub, and from there as many chains as draws are wanted run forward. The
truth and the chains' ends then come from the hub in the same way, so that their ranks are exactly
uniform, however slowly the chain mixes (Besag and Clifford 1989, Biometrika 76, 633; Gandy and
Scott 2020, arXiv:2001.06465).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.calibration.quantities import of_sample
from ranef.samplers import SAMPLERS
from ranef.samplers.sample import InitialState, SamplerSettings

if TYPE_CHECKING:
    from ranef.calibration.quantities import Parameters
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import PosteriorSample

__all__ = ["sample_from_truth", "start_of"]


def sample_from_truth(
    model: ModelSpec,
    method: str,
    truth: Parameters,
    draws: int,
    sweeps: int,
    rng: np.random.Generator,
) -> PosteriorSample:
    """Draw by a Markov chain that has been at the truth.

    Parameters
    ----------
    model
        Data, simulated at the truth, and priors.
    method
        Name in `ranef.samplers.SAMPLERS` of a sampler whose chains can be told where to begin.
    truth
        The true parameters, n = 1.
    draws
        How many draws, L, each the end of a chain of its own.
    sweeps
        Sweeps back to the hub, and as many forward: the more, the further a wrong sampler drifts
        and the better it is seen.
    rng
        Source of random numbers.

    Returns
    -------
    PosteriorSample
        L chains of one draw each.
    """
    names = tuple(n for term in model.parameters.terms for n in term.names)

    def ends(chains: int, start: InitialState) -> PosteriorSample:
        request = SamplerSettings(
            chains, chains, sweeps - 1, names, progress=False, moments=False, start=start
        )
        return SAMPLERS[method](model, request, rng)

    hub = of_sample(ends(1, start_of(model, truth, backward=True)))
    return ends(draws, start_of(model, hub))


def start_of(model: ModelSpec, at: Parameters, *, backward: bool = False) -> InitialState:
    """Write parameters as a chain's first state.

    Parameters
    ----------
    model
        Names and layout.
    at
        n values of all parameters and effects.
    backward
        Whether the reversed chain is to run from there.

    Returns
    -------
    InitialState
        For n chains.
    """
    parameters, n = model.parameters, len(at.sigma)
    factors = zip(model.design.factors, parameters.widths, strict=True)
    effects = tuple(np.zeros((n, factor.levels, width)) for factor, width in factors)
    for term in parameters.terms:
        for j, name in zip(term.place, term.names, strict=True):
            effects[term.factor][:, :, j] = at.effects[name]
    theta = parameters.vectors(
        at.scales, at.correlations, [at.sigma] * len(parameters.family.dispersions)
    )
    return InitialState(theta, at.beta, effects, backward)

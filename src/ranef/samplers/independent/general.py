"""Independent draws of a mixed model's variance parameters from a fitted mixture.

Proposals come from a mixture of t distributions and are corrected by independence Metropolis, so
the draws are exact whatever the fit; acceptance, Pareto k-hat and ESS say how good it is.
Coefficients and effects are Gaussian given the variance parameters (mathematics.md, section 4).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from ranef.common.random_streams import split_stream
from ranef.numerics.metropolis import START, run_chain
from ranef.samplers.complete import complete_draws
from ranef.samplers.independent.mixture import NARROW, WIDE, fit_mixture
from ranef.samplers.search import explore

if TYPE_CHECKING:
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import PosteriorSample, SamplerSettings
    from ranef.samplers.search import Landscape

__all__ = ["sample_independent"]


def sample_independent(
    model: ModelSpec,
    settings: SamplerSettings,
    rng: np.random.Generator,
    landscape: Landscape | None = None,
) -> PosteriorSample:
    """Draw independently from the posterior of any Gaussian mixed model.

    Parameters
    ----------
    model
        Data and priors.
    settings
        How many draws. They are independent; chains are only their shape.
    rng
        Source of random numbers.
    landscape
        From `ranef.samplers.search.explore`, if it is at hand.

    Returns
    -------
    PosteriorSample

    Raises
    ------
    ImproperPosteriorError
        If sigma = 0 fits the data perfectly under a prior that allows it.
    DataError
        If known standard errors are too small beside the group effects for double precision.
    """
    landscape = explore(model, settings) if landscape is None else landscape
    target, tails, error = landscape.target, landscape.tails, landscape.error
    shape = (settings.chains, settings.draws // settings.chains)
    n = shape[0] * shape[1]
    # A stream for each purpose, so that more draws only go on where fewer stopped.
    streams = split_stream(rng, 6)
    reach = WIDE if target.surrogate is None else NARROW
    mixture = fit_mixture(landscape.log_density_inside, landscape.modes, streams[0], tails=reach)
    y = mixture.draw(streams[1], n + START)
    theta = tails.inside(y)
    log_f = target.log_density(theta)
    log_w = log_f + tails.log_jacobian(y) - mixture.log_density(y)
    kept = run_chain(log_w, streams[2], streams[3])
    theta = theta[kept]
    sample = complete_draws(target, settings, theta, log_f[kept], streams[4:])
    log_mass = float(logsumexp(log_w) - np.log(len(log_w)))
    # Delta method: the standard error of a logarithm is the relative one of the mean weight.
    spread = np.expm1(logsumexp(2 * log_w) + np.log(len(log_w)) - 2 * logsumexp(log_w))
    return replace(
        sample,
        accepted=(np.diff(kept, prepend=-1) != 0).reshape(shape),
        log_weight=log_w[START:].reshape(shape),
        log_mass=log_mass,
        log_mass_error=float(np.sqrt(max(spread, 0.0) / len(log_w))) + (error or 0.0),
        log_marginal_likelihood=None if model.improper() else log_mass,
        surrogate_error=error,
    )

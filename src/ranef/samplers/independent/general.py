"""Independent draws of a mixed model's variance parameters from a fitted mixture.

Proposals come from a mixture of t distributions and are corrected by independence Metropolis, so
the draws are exact whatever the fit; acceptance, Pareto k-hat and ESS say how good it is.
Coefficients and effects are Gaussian given the variance parameters (mathematics.md, section 4).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from ranef.common.progress import status
from ranef.common.random_streams import split_stream
from ranef.likelihood.interpolation.interpolate import interpolate, is_expensive
from ranef.likelihood.posterior import MarginalPosterior
from ranef.numerics.metropolis import START, run_chain
from ranef.numerics.modes import find_modes
from ranef.samplers.bounds import bounds_of
from ranef.samplers.complete import complete_draws
from ranef.samplers.independent.mixture import NARROW, WIDE, fit_mixture
from ranef.samplers.independent.tails import TailTransform
from ranef.samplers.search import refuse_perfect_fit, starts

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["sample_independent"]


def sample_independent(
    model: ModelSpec,
    settings: SamplerSettings,
    rng: np.random.Generator,
    *,
    interpolated: bool = True,
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
    interpolated
        Whether an expensive likelihood may be interpolated.

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
    target = MarginalPosterior(model)
    shape = (settings.chains, settings.draws // settings.chains)
    n = shape[0] * shape[1]
    begin, error = starts(model), None
    if interpolated and is_expensive(target):
        with status("Interpolating the likelihood") if settings.progress else nullcontext():
            target, mode, error = interpolate(target, begin[0])
        begin = [mode]
    if (
        not model.parameters.family.dispersions
        and not np.isfinite(target.log_density(np.stack(begin))).any()
    ):
        raise model.parameters.family.perfect_fit()
    bounds = bounds_of(model.parameters)

    def opened(v: Array) -> Array:
        value = target.log_density_inside(bounds.inside(v))
        return np.asarray(value + bounds.log_jacobian(v)[0].sum(axis=1))

    modes = find_modes(opened, list(bounds.outside(np.stack(begin))))
    refuse_perfect_fit(model, target.log_density, bounds.inside(modes[0][0][None])[0])
    warp = TailTransform(bounds, modes[0][0])

    def log_f(y: Array) -> Array:
        return np.asarray(target.log_density_inside(warp.inside(y)) + warp.log_jacobian(y))

    # A stream for each purpose, so that more draws only go on where fewer stopped.
    streams = split_stream(rng, 6)
    tails = WIDE if target.surrogate is None else NARROW
    mixture = fit_mixture(log_f, [warp.outside(*m) for m in modes], streams[0], tails=tails)
    y = mixture.draw(streams[1], n + START)
    theta = warp.inside(y)
    log_f_eta = target.log_density(theta)
    log_w = log_f_eta + warp.log_jacobian(y) - mixture.log_density(y)
    kept = run_chain(log_w, streams[2], streams[3])
    theta = theta[kept]
    sample = complete_draws(target, settings, theta, log_f_eta[kept], streams[4:])
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

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

from ranef.design import column_sizes
from ranef.marginal.mixed import LARGEST_RATIO, Mixed
from ranef.mixed_model import perfect_fit
from ranef.progress import status
from ranef.samplers.expensive import interpolate, is_expensive
from ranef.samplers.given_parameters import draw_given
from ranef.samplers.metropolis import START, run_chain
from ranef.samplers.mixture import NARROW, WIDE, fit_mixture
from ranef.samplers.mode import find_modes
from ranef.streams import split_stream

if TYPE_CHECKING:
    from ranef.mixed_model import Model
    from ranef.samplers.posterior import Request, Sample
    from ranef.types import Array

__all__ = ["refuse_perfect_fit", "sample_independent", "starts"]


def sample_independent(model: Model, request: Request, rng: np.random.Generator) -> Sample:
    """Draw independently from the posterior of any Gaussian mixed model.

    Parameters
    ----------
    model
        Data and priors.
    request
        How many draws. They are independent; chains are only their layout.
    rng
        Source of random numbers.

    Returns
    -------
    Sample

    Raises
    ------
    ImproperPosteriorError
        If sigma = 0 fits the data perfectly under a prior that allows it.
    DataError
        If known standard errors are too small beside the group effects for double precision.
    """
    target = Mixed(model)
    layout = (request.chains, request.draws // request.chains)
    n = layout[0] * layout[1]
    begin, error = starts(model), None
    if is_expensive(target, begin[0]):
        with status("Interpolating the likelihood") if request.progress else nullcontext():
            target, mode, error = interpolate(target, begin[0])
        begin = [mode]
    if model.layout.sigma is None and not np.isfinite(target.log_density(np.stack(begin))).any():
        raise perfect_fit(None)
    modes = find_modes(target.log_density_inside, begin)
    refuse_perfect_fit(model, modes[0][0])
    # A stream for each purpose, so that more draws only go on where fewer stopped.
    streams = split_stream(rng, 6)
    tails = WIDE if target.surrogate is None else NARROW
    mixture, _ = fit_mixture(target.log_density_inside, modes, streams[0], tails=tails)
    eta = mixture.draw(streams[1], n + START)
    log_f = target.log_density(eta)
    log_w = log_f - mixture.log_density(eta)
    kept = run_chain(log_w, streams[2], streams[3])
    eta = eta[kept]
    sample = draw_given(target, request, eta, log_f[kept], streams[4:])
    return replace(
        sample,
        accepted=(np.diff(kept, prepend=-1) != 0).reshape(layout),
        log_weight=log_w[START:].reshape(layout),
        log_marginal_likelihood=float(logsumexp(log_w) - np.log(len(log_w)))
        if model.proper
        else None,
        surrogate_error=error,
    )


def _spread(model: Model) -> float:
    """Residual SD of the response about the fixed effects alone."""
    design = model.design
    y = design.mean[:, -1]
    return float(np.sqrt((design.within[-1, -1] + design.count @ y**2) / design.count.sum()))


def refuse_perfect_fit(model: Model, mode: Array) -> None:
    """Raise ImproperPosteriorError if the mode (d,) lies at a residual SD of next to nothing."""
    ratios = model.layout.split(model.layout.relative(mode[None]))
    if max(float(log_sd.max()) for log_sd, _ in ratios) > LARGEST_RATIO - 1:
        raise perfect_fit(model.layout.sigma)


def starts(model: Model) -> list[Array]:
    """Two places to climb from: moderate group effects, and nearly none.

    Parameters
    ----------
    model
        Data and priors.

    Returns
    -------
    list of numpy.ndarray
        Parameter vectors, shape (d,).
    """
    design, layout = model.design, model.layout
    spread = _spread(model)
    size = np.maximum(column_sizes(design), 1e-300)
    out = []
    for share in (0.5, 0.02):
        eta: list[float] = []
        for term in layout.terms:
            block = design.factors[term.factor].columns
            eta += [np.log(share * spread / size[block[j]]) for j in term.place]
            eta += [0.0] * term.correlations
        if layout.sigma is not None:
            eta.append(np.log(0.7 * spread))
        out.append(np.array(eta))
    return out

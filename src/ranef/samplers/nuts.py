"""The No-U-Turn sampler on the variance parameters, through mici (mathematics.md, 4.4).

Hamiltonian trajectories with multinomial choice (Hoffman and Gelman 2014, Journal of Machine
Learning Research 15, 1593; Betancourt 2017, arXiv:1701.02434) along the exact gradient of the
marginal log density. For posteriors with more parameters, or other shapes, than a mixture of t
distributions covers; its draws are autocorrelated, so R-hat and divergences judge them.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp

from ranef.common.progress import status
from ranef.common.random_streams import split_stream
from ranef.errors import RanefError
from ranef.likelihood.gradient import log_density_gradient
from ranef.likelihood.posterior import MarginalPosterior
from ranef.numerics.modes import find_modes
from ranef.samplers.bounds import bounds_of
from ranef.samplers.complete import complete_draws
from ranef.samplers.search import refuse_perfect_fit, starts

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.bounds import Bounds
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["has_nuts", "sample_nuts"]

_MISSING = "method='nuts' needs the package mici: pip install 'ranef[nuts]'"
# Acceptance that the step size is tuned for; above the usual 0.8, for fewer divergences.
_ACCEPT = 0.9
# A mode of at least this mass gets a chain of its own, so that R-hat sees chains that cannot leave.
_NOTABLE = 0.01
# A start counts as beyond a bound from here on; differences smaller than this are rounding.
_CLOSE = 1e-12


def has_nuts() -> bool:
    """Whether the package behind NUTS is installed."""
    return find_spec("mici") is not None


def sample_nuts(
    model: ModelSpec, settings: SamplerSettings, rng: np.random.Generator
) -> PosteriorSample:
    """Draw the variance parameters by NUTS, then coefficients and effects exactly given them.

    Parameters
    ----------
    model
        Data and priors.
    settings
        How many draws, chains and sweeps of warm-up; without warm-up, or told where to start, the
        steps are those that suit a normal posterior with the mode's curvature.
    rng
        Source of random numbers.

    Returns
    -------
    PosteriorSample

    Raises
    ------
    RanefError
        If the package mici is not installed, or the run ends before its last draw.
    ImproperPosteriorError
        If sigma = 0 fits the data perfectly under a prior that allows it.

    Notes
    -----
    Each evaluation is exact; an expensive likelihood is not interpolated. Chains start at the
    posterior's modes, in proportion to their mass.
    """
    if not has_nuts():
        raise RanefError(_MISSING)
    target, bounds = MarginalPosterior(model), bounds_of(model.parameters)
    streams = split_stream(rng, 4)

    def log_f(v: Array) -> Array:
        return np.asarray(
            target.log_density(bounds.inside(v)) + bounds.log_jacobian(v)[0].sum(axis=1)
        )

    begin = list(bounds.outside(np.array(starts(model))))
    modes = find_modes(log_f, begin)
    refuse_perfect_fit(model, target.log_density, bounds.inside(modes[0][0][None])[0])
    center, root = modes[0][0], np.asarray(np.linalg.cholesky(modes[0][1]))
    if settings.start is None:
        first = _first_states(log_f, modes, settings.chains, streams[0])
    else:
        # A state of the chain, to be kept as it is, unlike a guess beyond a bound.
        inside = bounds.outside(settings.start.theta, margin=_CLOSE)
        first = np.broadcast_to(inside, (settings.chains, inside.shape[1]))
    space = _Space(target, bounds, center, root)
    with status("Drawing by NUTS") if settings.progress else nullcontext():
        u, divergences = _run(space, (first - center) @ np.linalg.inv(root).T, settings, streams[1])
    theta = bounds.inside(center + u @ root.T)
    # Exact draws of a random-intercept model are recorded by log variance ratio, twice the log SD.
    change = np.log(2) if model.random_intercept else 0.0
    log_density = target.log_density(theta) - change
    return replace(
        complete_draws(target, settings, theta, log_density, streams[2:]), divergences=divergences
    )


class _Space:
    """The log density in coordinates u that the mode's curvature makes round: v = center + root u.

    Parameters
    ----------
    target, bounds
        The density of theta, and theta as a function of v.
    center, root
        The best mode and a root of the inverse Hessian there.
    """

    def __init__(
        self, target: MarginalPosterior, bounds: Bounds, center: Array, root: Array
    ) -> None:
        self.target, self.bounds = target, bounds
        self.center, self.root = center, root
        self.interrupted = False

    def __deepcopy__(self, memo: Any) -> _Space:
        """Itself: the library copies what a chain changes, and the data are not among that."""
        return self

    def energy(self, u: Array) -> float:
        """Minus log density at u (d,)."""
        return self.gradient(u)[1]

    def gradient(self, u: Array) -> tuple[Array, float]:
        """Gradient of the energy at u (d,), and the energy; zero and infinity where none is."""
        try:
            with np.errstate(all="ignore"):
                return self._evaluate((self.center + self.root @ u)[None])
        except np.linalg.LinAlgError:
            return np.zeros_like(u), np.inf
        except KeyboardInterrupt:
            self.interrupted = True
            raise

    def _evaluate(self, v: Array) -> tuple[Array, float]:
        outside = np.zeros(v.shape[1]), np.inf
        if not np.isfinite(v).all():
            return outside
        theta = self.bounds.inside(v)
        profile = self.target.profile(theta)
        log_jacobian, bend = self.bounds.log_jacobian(v)
        value = float(self.target.log_density(theta, profile)[0] + log_jacobian.sum())
        if not np.isfinite(value):
            return outside
        slope = log_density_gradient(self.target, theta, profile) * np.exp(log_jacobian) + bend
        slope = self.root.T @ slope[0]
        return (-slope, -value) if np.isfinite(slope).all() else outside


def _run(
    space: _Space, first: Array, settings: SamplerSettings, rng: np.random.Generator
) -> tuple[Array, int]:
    """Run the chains from states (chains, d); all draws, chain after chain, and divergences."""
    import mici

    system = mici.systems.EuclideanMetricSystem(space.energy, grad_neg_log_dens=space.gradient)
    # A step that suits a normal density, should there be no warm-up to find a better one.
    step = 1.0 / first.shape[1] ** 0.25
    integrator = mici.integrators.LeapfrogIntegrator(system, step_size=step)
    sampler = mici.samplers.DynamicMultinomialHMC(system, integrator, rng)
    kept, adapting, adapters = settings.draws // settings.chains, 0, []
    if settings.start is None:
        adapting = settings.warmup
        adapters.append(mici.adapters.DualAveragingStepSizeAdapter(_ACCEPT))
        if adapting >= 100:
            adapters.append(mici.adapters.OnlineCovarianceMetricAdapter())
    out = sampler.sample_chains(
        adapting,
        settings.warmup - adapting + kept,
        list(first),
        adapters=adapters,
        trace_funcs=[_position],
        display_progress=False,
    )
    # The library takes an interruption for the end of the run and leaves the rest blank.
    if space.interrupted:
        raise KeyboardInterrupt
    if min(int(depth.min()) for depth in out.statistics["tree_depth"]) < 0:
        raise RanefError(
            "NUTS stopped before its last draw. Fit again, with other priors if it was not "
            "interrupted."
        )
    diverging = sum(int(chain.sum()) for chain in out.statistics["diverging"])
    return np.concatenate([chain[-kept:] for chain in out.traces["u"]]), diverging


def _position(state: Any) -> dict[str, Array]:
    """What is recorded of a chain's state."""
    return {"u": state.pos}


def _first_states(
    log_f: Any, modes: list[tuple[Array, Array]], chains: int, rng: np.random.Generator
) -> Array:
    """Where the chains start, shape (chains, d): around modes, as many as their mass asks for."""
    log_mass = np.array(
        [float(log_f(x[None])[0]) + 0.5 * np.linalg.slogdet(C)[1] for x, C in modes]
    )
    mass = np.exp(log_mass - logsumexp(log_mass))
    notable = np.flatnonzero(mass >= _NOTABLE)[np.argsort(-mass[mass >= _NOTABLE])][:chains]
    share = np.cumsum(mass[notable] / mass[notable].sum())
    extra = (np.arange(chains - len(notable)) + 0.5) / max(chains - len(notable), 1)
    which = np.concatenate([notable, notable[np.searchsorted(share, extra)]])
    out = np.empty((chains, len(modes[0][0])))
    for chain, k in enumerate(which):
        mode, covariance = modes[k]
        gap = np.linalg.cholesky(covariance) @ rng.standard_normal(len(mode))
        # Halved until the density is there at all.
        while not np.isfinite(log_f((mode + gap)[None])[0]):
            gap = gap / 2
        out[chain] = mode + gap
    return out

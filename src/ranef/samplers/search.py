"""The modes of a posterior, from several starts, and coordinates in which it is near normal."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ranef.cells.orthonormal import column_sizes
from ranef.common.progress import status
from ranef.likelihood.gradient import log_density_gradient
from ranef.likelihood.interpolation.interpolate import interpolate, is_expensive
from ranef.likelihood.posterior import LARGEST_RATIO, MarginalPosterior, largest_ratio
from ranef.numerics.correlations import partial_correlations
from ranef.numerics.modes import find_modes
from ranef.samplers.bounds import bounds_of
from ranef.samplers.complete import complete_draws
from ranef.samplers.exchanges import exchanged_modes
from ranef.samplers.tails import TailTransform

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.bounds import Bounds
    from ranef.samplers.sample import PosteriorSample, SamplerSettings

__all__ = ["GaussianLandscape", "explore", "refuse_perfect_fit", "starts"]

# Of differences, where a slope has no formula.
_STEP = 1e-5
# SDs of a factor's effects at the starts, beside those of the factor before: a climb from where two
# factors are alike would stay on the ridge between a mode of the one and a mode of the other.
_UNLIKE = 0.9
# Unconstrained correlations of the starts at both ends.
_STRONG = 1.5


@dataclass(frozen=True)
class GaussianLandscape:
    """What samplers need to know of a Gaussian model's posterior before they draw.

    Attributes
    ----------
    target
        The marginal posterior.
    tails
        Coordinates y whose tails are like a normal density's.
    modes
        Modes in y and the inverse Hessians there, the best first.
    error
        Largest error of an interpolated log likelihood, in nats; None where it is none.
    exact
        The likelihood itself, by which draws are weighted where its interpolation is too rough.
    """

    target: MarginalPosterior
    tails: TailTransform
    modes: list[tuple[Array, Array]]
    error: float | None
    exact: MarginalPosterior | None = None

    def weighed_exactly(self) -> GaussianLandscape:
        """The same, with draws to be weighted by the likelihood itself."""
        return replace(self, exact=MarginalPosterior(self.target.model, self.target.structure))

    def log_density(self, y: Array) -> Array:
        """Log posterior density of y, shape (n, d), with every constant of `MarginalPosterior`."""
        there = self.target.log_density(self.tails.inside(y))
        return np.asarray(there + self.tails.log_jacobian(y))

    def log_density_inside(self, y: Array) -> Array:
        """The same, -inf outside a surrogate's box: cheap everywhere, to fit proposals with."""
        there = self.target.log_density_inside(self.tails.inside(y))
        return np.asarray(there + self.tails.log_jacobian(y))

    @property
    def free(self) -> int:
        """None: all coordinates depend on each other."""
        return 0

    @property
    def narrow(self) -> bool:
        """Whether proposals should not leave an interpolation's box, where each point is dear."""
        return self.error is not None

    @property
    def proper(self) -> bool:
        """Whether all priors are proper, so that there is a marginal likelihood."""
        return not self.target.model.improper()

    def log_exact(self, y: Array) -> Array | None:
        """Log density by the likelihood itself, where draws are to be weighted by it; else None."""
        if self.exact is None:
            return None
        there = self.exact.log_density(self.tails.inside(y))
        return np.asarray(there + self.tails.log_jacobian(y))

    def features(self, y: Array) -> Array:
        """Parameters as the vector has them, SDs and correlations, shape (n, features)."""
        theta, parameters = self.tails.inside(y), self.target.parameters
        sds = list(parameters.scales(theta).values())
        return np.column_stack([theta, *sds, *parameters.correlations(theta).values()])

    def complete(
        self,
        settings: SamplerSettings,
        y: Array,
        log_density: Array,
        streams: list[np.random.Generator],
    ) -> PosteriorSample:
        """Draw coefficients and effects given the variance parameters."""
        target = self.exact or self.target
        log_density = log_density - self.tails.log_jacobian(y)
        return complete_draws(target, settings, self.tails.inside(y), log_density, streams)


def explore(
    model: ModelSpec, settings: SamplerSettings, *, interpolated: bool = True
) -> GaussianLandscape:
    """Find the modes of a posterior, and coordinates to draw in.

    Parameters
    ----------
    model
        Data and priors.
    settings
        Whether to show progress.
    interpolated
        Whether an expensive likelihood may be interpolated.

    Returns
    -------
    GaussianLandscape

    Raises
    ------
    ImproperPosteriorError
        If sigma = 0 fits the data perfectly under a prior that allows it.
    DataError
        If known standard errors are too small beside the group effects for double precision.
    """
    target = MarginalPosterior(model)
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

    evaluate = _opened(target, bounds)
    modes = find_modes(evaluate, bounds.outside(np.stack(begin)))
    if target.surrogate is None:
        modes = exchanged_modes(target, evaluate, bounds, modes)
    refuse_perfect_fit(model, target.log_density, bounds.inside(modes[0][0][None])[0])
    tails = TailTransform(bounds, modes[0][0])
    return GaussianLandscape(target, tails, [tails.outside(*m) for m in modes], error)


def _opened(target: MarginalPosterior, bounds: Bounds) -> Callable[[Array], tuple[Array, Array]]:
    """Log density of v, where bounds are open, and its slope."""

    def differences(v: Array) -> tuple[Array, Array]:
        # An interpolation costs next to nothing, and has no slope of its own.
        n, d = v.shape
        away = np.concatenate([np.zeros((1, d)), _STEP * np.eye(d), -_STEP * np.eye(d)])
        every = (v + away[:, None]).reshape(-1, d)
        f = target.log_density_inside(bounds.inside(every))
        f = (f + bounds.log_jacobian(every)[0].sum(axis=1)).reshape(-1, n)
        with np.errstate(invalid="ignore"):
            return f[0], ((f[1 : d + 1] - f[d + 1 :]) / (2 * _STEP)).T

    def slopes(v: Array) -> tuple[Array, Array]:
        theta = bounds.inside(v)
        log_jacobian, bend = bounds.log_jacobian(v)
        value = target.log_density(theta)
        slope = np.full_like(v, np.nan)
        there = np.isfinite(value)
        if there.any():
            slope[there] = log_density_gradient(target, theta[there])
        return value + log_jacobian.sum(axis=1), slope * np.exp(log_jacobian) + bend

    return slopes if target.surrogate is None else differences


def starts(model: ModelSpec) -> list[Array]:
    """Places to climb from: moderate group effects, nearly none, and correlated ones.

    Where columns of a term are correlated over rows, such as a constant and a covariate far from
    zero, effects that are independent in orthonormal columns are strongly correlated in the user's.

    Parameters
    ----------
    model
        Data and priors.

    Returns
    -------
    list of numpy.ndarray
        Parameter vectors, shape (d,).
    """
    design, parameters = model.design, model.parameters
    spread = model.response.spread(model.design.count)
    weight = np.sqrt(design.count.sum() / design.N)
    size = np.maximum(column_sizes(design), 1e-300)
    out = []
    for share in (0.5, 0.02):
        theta: list[float] = []
        for term in parameters.terms:
            block = design.factors[term.factor].columns
            part = share * _UNLIKE**term.factor
            theta += [np.log(part * spread / size[block[j]]) for j in term.place]
            theta += [0.0] * term.correlations
        theta += [np.log(0.7 * spread * weight)] * len(parameters.family.dispersions)
        out.append(np.array(theta))
    if any(term.correlations for term in parameters.terms):
        out.append(_orthonormal_start(model, out[0]))
        for z in (_STRONG, -_STRONG):
            correlated = out[0].copy()
            for _, own in parameters.split(correlated[None]):
                own[:] = z
            out.append(correlated)
    return out


def refuse_perfect_fit(
    model: ModelSpec, log_density: Callable[[Array], Array], mode: Array
) -> None:
    """Raise ImproperPosteriorError where the density rises towards a residual SD of nothing.

    Parameters
    ----------
    model
        Data and priors.
    log_density
        Of parameter vectors (n, d).
    mode
        The best mode found, shape (d,). A climb towards a perfect fit may stop early, so a residual
        SD as small as the likelihood can weigh is tried too.
    """
    gap = LARGEST_RATIO - 1 - largest_ratio(model, mode[None])[0]
    perfect = gap < 0
    if not perfect and model.parameters.family.dispersions:
        nothing = mode.copy()
        nothing[-1] -= gap
        there, here = log_density(np.stack([nothing, mode]))
        perfect = there > here
    if perfect:
        raise model.parameters.family.perfect_fit()


def _orthonormal_start(model: ModelSpec, start: Array) -> Array:
    """The start with effects that are independent in orthonormal columns of each term."""
    design, parameters = model.design, model.parameters
    moments = _column_moments(design)
    theta = start[None].copy()
    for term, (log_sd, z) in zip(parameters.terms, parameters.split(theta), strict=True):
        if not term.correlations:
            continue
        block = [design.factors[term.factor].columns[j] for j in term.place]
        size = np.sqrt(np.diag(moments)[block])
        # In units of the columns, whatever the user's: SDs are taken up again below.
        unit = moments[np.ix_(block, block)] / np.outer(size, size)
        covariance = np.linalg.inv(unit + 1e-12 * np.eye(len(block)))
        own = np.sqrt(np.diag(covariance))
        log_sd += np.log(own)
        z[:] = partial_correlations((covariance / np.outer(own, own))[None])
    return np.asarray(theta[0])


def _column_moments(design: OrthonormalCells) -> Array:
    """Mean products of the columns that vary by group, the constant first, shape (1 + k, 1 + k)."""
    total = design.count.sum()
    mean = (design.count @ design.slopes) / total
    inner = design.slope_slope.sum(axis=0)
    inner = (inner + (design.slopes * design.count[:, None]).T @ design.slopes) / total
    return np.block([[np.ones((1, 1)), mean[None]], [mean[:, None], inner]])

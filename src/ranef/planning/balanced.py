"""Balanced one-factor data straight from their sufficient statistics, and their posterior.

With the same number of rows in every group, group means and one sum of squares are all that the
likelihood sees, so a simulated experiment is drawn as these, never as rows (mathematics.md,
section 2).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.cells.cells import balanced_cells
from ranef.errors import IdentifiabilityWarning
from ranef.formula.spec import intercept_spec
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.mixed_model.model import model_from_cells
from ranef.numerics.quadrature import integrate_line
from ranef.planning.criteria import Posterior
from ranef.priors import half_t

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ranef.common.array_types import Array
    from ranef.mixed_model.model import ModelSpec

__all__ = ["Balanced", "balanced_model", "balanced_posterior", "simulate_means", "simulate_slopes"]

# Nodes of the trapezoidal rule for log sigma, in SDs from its mode: few give the integral (a step
# of 0.8 SD errs by exp(-2 pi^2 / 0.8^2)), more are needed where points stand for a distribution.
_INTEGRAL, _POINTS = np.linspace(-8.0, 8.0, 21), np.linspace(-8.0, 8.0, 97)


@dataclass(frozen=True)
class Balanced:
    """Sufficient statistics of G groups.

    Attributes
    ----------
    mean
        Mean of each group, shape (G,).
    weight
        Weight of each mean: its variance given its group's true mean is sigma^2 / weight.
    rows
        Rows of each group that the residual SD is seen in.
    within
        Sum of squares about the groups' means, on G (rows - 1) - fitted degrees of freedom.
    fitted
        Coefficients that were taken out within groups.
    """

    mean: Array
    weight: float
    rows: int
    within: float
    fitted: int = 0


def simulate_means(
    groups: int, replicates: int, truth: Mapping[str, float], rng: np.random.Generator, fitted: int
) -> Balanced:
    """Draw group means and the squares within groups.

    Parameters
    ----------
    groups, replicates
        G and m.
    truth
        `sigma` and `group_sd`.
    rng
        Source of random numbers.
    fitted
        1 where a common slope is fitted within groups, 0 otherwise.

    Returns
    -------
    Balanced
    """
    sigma, m = truth["sigma"], replicates
    spread = np.hypot(truth["group_sd"], sigma / np.sqrt(m))
    mean = spread * rng.standard_normal(groups)
    within = sigma**2 * rng.chisquare(groups * (m - 1) - fitted)
    return Balanced(mean, float(m), m, float(within), fitted)


def simulate_slopes(
    groups: int, replicates: int, truth: Mapping[str, float], rng: np.random.Generator
) -> Balanced:
    """Draw each group's least-squares slope and the squares about the groups' lines.

    The covariate is centred in every group and its effects are independent of the groups' own, so
    slopes and lines are a random-intercept layout of their own: slope_i ~ N(slope, slope_sd^2 +
    sigma^2 / Sxx), with m - 1 rows for each group once its mean is taken out.

    Parameters
    ----------
    groups, replicates
        G and m.
    truth
        `sigma`, `slope` and `slope_sd`.
    rng
        Source of random numbers.

    Returns
    -------
    Balanced
    """
    sigma, m = truth["sigma"], replicates
    square = spread_of_x(m)
    spread = np.hypot(truth["slope_sd"], sigma / np.sqrt(square))
    slope = truth["slope"] + spread * rng.standard_normal(groups)
    degrees = groups * (m - 2)
    within = sigma**2 * rng.chisquare(degrees) if degrees else 0.0
    return Balanced(slope, square, m - 1, float(within))


def spread_of_x(replicates: int) -> float:
    """Sum of squares about their mean of m values evenly spaced from 0 to 1.

    Examples
    --------
    >>> spread_of_x(2)
    0.5
    """
    m = replicates
    return m * (m + 1) / (12 * (m - 1))


def balanced_model(data: Balanced, priors: Mapping[str, Any] | None = None) -> ModelSpec:
    """Make the engine's model from sufficient statistics.

    Parameters
    ----------
    data
        The statistics.
    priors
        By `"sigma"` and `"group_sd"`; default half_t(s, df=3) on both, s the SD of the data.

    Returns
    -------
    ModelSpec
        `y ~ 1 + (1|group)`, flat mean.
    """
    G, mean = len(data.mean), data.mean
    stated = dict(priors or {})
    if len(stated) < 2:
        between = float(((mean - mean.mean()) ** 2).sum()) * data.weight
        degrees = G * data.rows - 1 - data.fitted
        default = half_t(float(np.sqrt((data.within + between) / degrees)))
        stated = {"sigma": default, "group_sd": default, **stated}
    cells = balanced_cells(
        mean,
        data.within,
        rows=G * data.rows - data.fitted,
        weight=data.weight,
        size=data.rows,
        constant=True,
    )
    with warnings.catch_warnings():
        # Two replicates and random slopes leave one row for each slope: the plan's goals then rest
        # on the sum of the two variances, which is identified.
        warnings.simplefilter("ignore", IdentifiabilityWarning)
        by_name = {"sigma": stated["sigma"], "1|group": stated["group_sd"]}
        return model_from_cells(_SPEC, cells, by_name)


_SPEC = intercept_spec("y ~ 1 + (1|group)")


def balanced_posterior(
    data: Balanced, model: ModelSpec, replicates: int, truth: float
) -> Posterior:
    """Integrate the posterior of (log_ratio, log sigma) on the engine's marginal density.

    Given log_ratio, log sigma has its mode near log(rest / k) / 2 and SD near 1 / sqrt(2 k); its
    density is smooth and falls to nothing at both ends, where the trapezoidal rule converges
    exponentially. log_ratio is integrated by adaptive panels, as in every random-intercept fit.

    Parameters
    ----------
    data
        The statistics.
    model
        From `balanced_model`.
    replicates
        Rows of each group.
    truth
        True value of the mean.

    Returns
    -------
    Posterior
        Its coefficient is the mean of the groups' means, N(best, (sigma^2 / weight + group_sd^2) /
        G) given the SDs.
    """
    target = RandomIntercept(model)

    def joint(log_ratio: Array, steps: Array) -> tuple[Array, Array]:
        profile = target.profile(log_ratio)
        middle = 0.5 * np.log(profile.rest / target.k)
        log_sigma = middle[:, None] + steps / np.sqrt(2 * target.k)
        return log_sigma, target.log_density(log_ratio, log_sigma, profile)

    def marginal(log_ratio: Array) -> Array:
        f = joint(log_ratio, _INTEGRAL)[1]
        top = f.max(axis=1)
        return np.asarray(top + np.log(np.exp(f - top[:, None]).sum(axis=1)))

    line = integrate_line(marginal, tolerance=1e-6)
    near = line.weight > 1e-9
    log_ratio, share = line.x[near], line.weight[near]
    log_sigma, f = joint(log_ratio, _POINTS)
    density = np.exp(f - f.max(axis=1, keepdims=True))
    weight = density * (share / density.sum(axis=1) / share.sum())[:, None]
    variance = (
        np.exp(2 * log_sigma) * (1 / data.weight + np.exp(log_ratio)[:, None]) / len(data.mean)
    )
    best = float(data.mean.mean())
    return Posterior(
        line.proposal, log_ratio, log_sigma, weight, best, np.sqrt(variance), replicates, truth
    )

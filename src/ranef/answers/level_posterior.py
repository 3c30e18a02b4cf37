"""Posterior of levels and pairs: normal given the variance parameters (mathematics.md, 5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget
from ranef.common.progress import track
from ranef.samplers.complete import sample_effects
from ranef.samplers.conditional_moments import conditional_effects, thinned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ranef.common.array_types import Array, IntArray
    from ranef.common.budget import Budget
    from ranef.posterior.draws import PosteriorDraws

__all__ = ["chance_highest", "differences", "joint_draws", "level_mixtures", "places", "usable"]


def places(posterior: PosteriorDraws) -> dict[str, tuple[int, int]]:
    """Factor of each effect, and its column in the factor's block, by the effect's name."""
    return {
        name: (term.factor, column)
        for term in posterior.target.parameters.terms
        for column, name in zip(term.place, term.names, strict=True)
    }


def level_mixtures(posterior: PosteriorDraws, names: list[str]) -> dict[str, tuple[Array, Array]]:
    """Mean and sd of every level's effect at each draw of the variance parameters.

    Parameters
    ----------
    posterior
        Draws of the variance parameters. Large designs use every k-th, so that some 10 million
        numbers are held, as `ranef.samplers.conditional_moments.mixed_moments` does.
    names
        Effects, such as `1|g`.

    Returns
    -------
    dict
        Arrays of shape (n, G) by name; coefficients are integrated out. The posterior of an effect
        is the average of the n normals (mathematics.md, 4.6).
    """
    target, where = posterior.target, places(posterior)
    use = thinned(target, len(posterior.theta))
    theta = posterior.theta[use]
    sizes = [f.levels for f in target.model.design.factors]
    shapes = {n: (len(use), sizes[where[n][0]]) for n in names}
    summaries = {n: (np.empty(shape), np.empty(shape)) for n, shape in shapes.items()}
    for conditional in conditional_effects(
        target, theta, target.profile(theta), np.arange(len(use))
    ):
        for f in dict.fromkeys(where[n][0] for n in names):
            mean, variance = conditional.moments(f)
            for name in names:
                if where[name][0] == f:
                    summaries[name][0][conditional.at] = mean[:, :, where[name][1]]
                    summaries[name][1][conditional.at] = np.sqrt(variance[:, :, where[name][1]])
    return summaries


def differences(
    posterior: PosteriorDraws, name: str, first: int, second: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Mean and sd of the difference of two levels at each draw of the variance parameters.

    Parameters
    ----------
    posterior
        Draws of the variance parameters and coefficients.
    name
        The effect.
    first, second
        Positions of the two levels.
    rng
        Source of random numbers where joint draws are needed.

    Returns
    -------
    mean, sd : numpy.ndarray
        Shape (n,). With one grouping factor the levels are independent given the coefficients,
        which both share; where they are not, mean holds joint draws, sd zeros.
    """
    factor, column = places(posterior)[name]
    target = posterior.target
    if target.structure.by_level is None:
        use = usable(posterior)
        mean = np.empty(len(use))
        for part, blocks in joint_draws(posterior, use, rng):
            own = blocks[factor][:, :, column]
            mean[part] = own[:, first] - own[:, second]
        return mean, np.zeros_like(mean)
    use = thinned(target, len(posterior.theta))
    theta = posterior.theta[use]
    mean, variance = np.empty(len(use)), np.empty(len(use))
    for conditional in conditional_effects(
        target, theta, target.profile(theta), np.arange(len(use))
    ):
        B, C = conditional.response[0], conditional.covariance[0]
        gap = B[:, first, None] - B[:, second, None]
        mean[conditional.at] = np.einsum("nqk,nk->nq", gap[:, 0], conditional.c)[:, column]
        own = (C[:, first] + C[:, second])[:, column, column]
        variance[conditional.at] = (
            conditional.variance * own + conditional.carried(gap)[:, 0, column]
        )
    return mean, np.sqrt(variance)


def chance_highest(posterior: PosteriorDraws, name: str, rng: np.random.Generator) -> Array:
    """Probability of each level of having the highest effect, counted over joint draws.

    Parameters
    ----------
    posterior
        Draws of the variance parameters and coefficients.
    name
        The effect.
    rng
        Source of random numbers.

    Returns
    -------
    numpy.ndarray
        Shape (G,), summing to one. The Monte Carlo error of p is sqrt(p (1 - p) / ESS).
    """
    factor, column = places(posterior)[name]
    use = usable(posterior)
    counts = np.zeros(posterior.target.model.design.factors[factor].levels)
    for _, blocks in joint_draws(posterior, use, rng):
        top = blocks[factor][:, :, column].argmax(axis=1)
        counts += np.bincount(top, minlength=len(counts))
    return counts / len(use)


def usable(posterior: PosteriorDraws) -> IntArray:
    """Positions of the draws to draw effects for: all, or every k-th where that takes long."""
    cost = posterior.target.structure.cost
    return budget.JOINT_EFFECTS.draws(len(posterior.theta), seconds=cost)


def joint_draws(
    posterior: PosteriorDraws,
    use: IntArray,
    rng: np.random.Generator,
    *,
    limits: Budget = budget.JOINT_EFFECTS,
    show: bool = True,
) -> Iterator[tuple[slice, list[Array]]]:
    """Draw all effects jointly with the stored coefficients and variance parameters, by blocks.

    Parameters
    ----------
    posterior
        Draws of everything but the effects.
    use
        Positions of the draws to complete.
    rng
        Source of random numbers.
    limits
        Of what is held at a time, the same for every question to a model: the stream of random
        numbers depends on it.
    show
        Show progress; False inside a loop that has a bar of its own.

    Yields
    ------
    part : slice
        Which of `use` a block is of.
    effects : list of numpy.ndarray
        Shape (n, G, q) per factor.
    """
    target = posterior.target
    width = sum(f.levels * len(f.columns) for f in target.model.design.factors)
    for part in track(limits.blocks(len(use), width), "Drawing group effects", show=show):
        at = use[part]
        yield part, sample_effects(target, posterior.theta[at], posterior.internal[at], rng)

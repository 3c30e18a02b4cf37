"""Modes in which two factors have exchanged their effects (mathematics.md, 4.2).

Factors that divide the rows nearly alike can each explain them, a column at a time: with q columns
there are 2^q modes, and climbs from a few starts reach only some.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ranef.numerics.modes import find_modes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ranef.common.array_types import Array
    from ranef.likelihood.posterior import MarginalPosterior
    from ranef.mixed_model.parameters import ParameterVector
    from ranef.samplers.bounds import Bounds

    Modes = list[tuple[Array, Array]]

__all__ = ["exchanged_modes", "exchanges"]

# Nats below a mode down to which an exchange may lead up to another that matters, shares of the way
# there at which a valley is looked for, and rounds: each new mode may lead to others.
_PROMISING, _ON_THE_WAY, _ROUNDS = 20.0, (0.25, 0.5, 0.75), 3


def exchanges(parameters: ParameterVector, columns: list[tuple[int, ...]], theta: Array) -> Array:
    """Vectors in which two terms have exchanged what they have for a column, or for all.

    Parameters
    ----------
    parameters
        What the vector holds.
    columns
        Of each term, by their numbers in the design.
    theta
        Parameter vectors, shape (n, d).

    Returns
    -------
    numpy.ndarray
        For each vector its exchanges, shape (n k, d); k is zero where terms share no column.
    """
    order = np.arange(parameters.size)
    places = [
        (log_sd.astype(int), z.astype(int)) for log_sd, z in parameters.split(order.astype(float))
    ]
    found = []
    for one, other in combinations(range(len(columns)), 2):
        (own, z), (its, w) = places[one], places[other]
        pairs = [
            ([own[columns[one].index(j)]], [its[columns[other].index(j)]])
            for j in columns[one]
            if j in columns[other]
        ]
        if columns[one] == columns[other] and len(own) > 1:
            # Where only one of them has correlations, these stay.
            both = len(z) == len(w)
            pairs.append(([*own, *z[: len(z) * both]], [*its, *w[: len(w) * both]]))
        for here, there in pairs:
            exchanged = order.copy()
            exchanged[here], exchanged[there] = there, here
            found.append(theta[:, exchanged])
    return np.concatenate(found) if found else theta[:0]


def exchanged_modes(
    target: MarginalPosterior,
    evaluate: Callable[[Array], tuple[Array, Array]],
    bounds: Bounds,
    modes: Modes,
) -> Modes:
    """The modes and those to which exchanges between terms lead.

    Parameters
    ----------
    target
        The posterior.
    evaluate
        Log density and slope where bounds are open, as for `find_modes`.
    bounds
        Hard bounds of the parameters.
    modes
        From `find_modes`.

    Returns
    -------
    list of (mode, covariance)
        As `find_modes` gives them, the best first.
    """
    factors = target.model.design.factors
    columns = [
        tuple(factors[t.factor].columns[j] for j in t.place) for t in target.parameters.terms
    ]
    seen = 0
    for _ in range(_ROUNDS):
        if len(modes) == seen:
            break
        seen = len(modes)
        places = np.stack([v for v, _ in modes])
        here = bounds.inside(places)
        there = exchanges(target.parameters, columns, here)
        if not len(there):
            break
        here = np.tile(here, (len(there) // len(here), 1))
        apart = _valleys(target, here, there, floor=_PROMISING)
        if not apart.any():
            break
        modes = find_modes(evaluate, np.concatenate([places, bounds.outside(there[apart])]))
    return modes


def _valleys(
    target: MarginalPosterior, here: Array, there: Array, *, floor: float
) -> NDArray[np.bool_]:
    """Whether the way from each mode (n, d) leads through a valley up to the point it is to reach.

    Points more than `floor` nats below the mode do not count. The way is straight in variances: in
    log SDs it would lead through less effects in all than there are at both ends.
    """
    share = np.array(_ON_THE_WAY)[:, None, None]
    way = (1 - share) * here + share * there
    for (log_sd, _), (a, _), (b, _) in zip(
        *(target.parameters.split(x) for x in (way, here, there)), strict=True
    ):
        log_sd[:] = 0.5 * np.logaddexp(np.log1p(-share) + 2 * a, np.log(share) + 2 * b)
    every = np.concatenate([here[None], there[None], way])
    values = target.log_density(every.reshape(-1, every.shape[-1])).reshape(every.shape[:2])
    return np.asarray((values[1] > values[0] - floor) & (values[2:].min(axis=0) < values[1]))

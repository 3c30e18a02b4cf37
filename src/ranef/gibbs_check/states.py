"""States without symmetry, from one state that may have any."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from ranef.common.array_types import Array
from ranef.errors import DataError
from ranef.gibbs_check.sampler import GibbsSampler, State

__all__ = ["asymmetric_states", "is_positive", "structure"]

# Draws of an update that show where its block can be.
_DRAWS = 12


def asymmetric_states(sampler: GibbsSampler, count: int, rng: np.random.Generator) -> list[State]:
    """Move every continuous variable of the state to a generic place of positive density.

    Positive variables move by a random factor, variables on (0, 1) on the logit scale, symmetric
    matrices by a congruence, probability vectors by random weights, all others by an increment of
    their own order of magnitude. Steps are halved until the log joint density is finite. Whole
    numbers stay, unless they have an update: those move by that update.

    Parameters
    ----------
    sampler
        What is checked.
    count
        Number of states.
    rng
        Source of the random moves.

    Returns
    -------
    list of dict

    Raises
    ------
    DataError
        If some continuous variable cannot be moved at all.

    Notes
    -----
    Where two variances are equal, or everything is one, wrong and right conditionals can coincide
    (mathematics.md, 7), so a check there proves nothing.
    """
    # A generator of its own: where the states lie does not depend on how the kinds are found.
    own = np.random.default_rng(1)
    kinds = {name: _kind(sampler, name, own) for name in sampler.state}
    states = []
    for _ in range(count):
        state = dict(sampler.state)
        for name, kind in kinds.items():
            state = _moved(sampler, state, name, kind, rng)
        states.append(state)
    return states


def is_positive(sampler: GibbsSampler, state: State, name: str) -> bool:
    """Whether a block is positive, and the density vanishes where it is not."""
    value = sampler.value(state, name)
    return bool((value > 0).all()) and sampler.joint_at(state, name, -value) == -np.inf


def structure(value: Array, shape: tuple[int, ...]) -> str:
    """Name the constraint that a block's elements share: `symmetric`, `simplex`, or none."""
    if len(shape) == 2 and shape[0] == shape[1] and shape[0] > 1:
        matrix = value.reshape(shape)
        if np.allclose(matrix, matrix.T, rtol=1e-12, atol=0):
            return "symmetric"
    if value.size > 1 and (value >= 0).all() and abs(value.sum() - 1) < 1e-9:
        return "simplex"
    return ""


def _kind(sampler: GibbsSampler, name: str, rng: np.random.Generator) -> str:
    value = sampler.value(sampler.state, name)
    shape = np.shape(sampler.state[name])
    raw = sampler.state[name]
    if name in sampler.discrete:
        return "discrete"
    if name not in sampler.updates and np.asarray(raw).dtype.kind in "iub":
        return "fixed"  # counts, indices: part of the data
    # A start may look constrained and not be: a matrix of ones, two means at 0 and 1. Draws tell.
    drawn = [value]
    if name in sampler.updates:
        drawn += [sampler.draw(name, sampler.state, rng) for _ in range(_DRAWS)]
    special = {structure(v, shape) for v in drawn}
    if len(special) == 1 and special != {""}:
        return special.pop()
    if all((v > 0).all() for v in drawn):
        if (value < 1).all() and sampler.joint_at(sampler.state, name, value + 1.0) == -np.inf:
            return "unit"
        return "positive"
    return "signed" if (value > 0).all() else "real"


def _moved(
    sampler: GibbsSampler, state: State, name: str, kind: str, rng: np.random.Generator
) -> State:
    if kind == "fixed":
        return state
    if kind == "discrete":
        return sampler.place(state, name, sampler.draw(name, state, rng))
    value = sampler.value(state, name)
    shape = np.shape(state[name])
    z = rng.standard_normal(value.size)
    step = 0.5
    for _ in range(12):
        new = sampler.place(state, name, _move(kind, value, shape, step * z))
        if np.isfinite(sampler.joint(new)):
            return new
        step /= 2
    raise DataError(
        f"log_joint is not finite anywhere near the state when {name!r} moves; start inside the "
        "support."
    )


def _move(kind: str, value: Array, shape: tuple[int, ...], z: Array) -> Array:
    if kind == "positive":
        return value * np.exp(z)
    if kind == "unit":
        return np.asarray(expit(logit(value) + z))
    if kind == "simplex":
        weight: Array = value * np.exp(z)
        return np.asarray(weight / weight.sum())
    if kind == "signed":
        # Positive as it starts, but not for good: some elements are to become negative.
        return np.asarray(value * (1 + 4 * z))
    if kind == "symmetric":
        factor = np.eye(shape[0]) + z.reshape(shape) / shape[0]
        matrix = factor @ value.reshape(shape) @ factor.T
        return np.asarray((matrix + matrix.T) / 2).ravel()
    size = float(value.std()) or float(np.abs(value).max()) or 1.0
    return value + size * z

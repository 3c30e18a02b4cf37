"""Independence Metropolis: near-exact proposals to exact draws (mathematics.md, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray

__all__ = ["START", "accept", "run_chain"]

# Proposals from which the starting state is chosen by weight, so that the chain starts in its
# stationary distribution.
START = 64


def accept(log_weight: Array, start: float, uniform: Array) -> tuple[IntArray, float]:
    """Run the accept-reject steps over proposals that are already drawn.

    Parameters
    ----------
    log_weight
        Log target minus log proposal density of each proposal, shape (n,).
    start
        Log weight of the state before the first proposal.
    uniform
        Shape (n,), one for each decision.

    Returns
    -------
    index : numpy.ndarray
        For each step the proposal that the chain holds; -1 for the starting state.
    rate : float
        Share of proposals accepted.

    Notes
    -----
    A proposal with u < w / max(w) is accepted whatever the state, so only the others, few when the
    proposal is good, need the step by step rule. Tierney (1994), Annals of Statistics 22, 1701.

    Examples
    --------
    >>> accept(np.array([0.0, -9.0, 0.0]), 0.0, np.array([0.5, 0.5, 0.5]))[0]
    array([0, 0, 2])
    """
    n = len(log_weight)
    log_u = np.log(np.maximum(uniform, 1e-300))
    highest = max(float(log_weight.max(initial=-np.inf)), start)
    accepted = log_u < log_weight - highest
    held = np.maximum.accumulate(np.where(accepted, np.arange(n), -1))
    extra = -1
    for i in np.flatnonzero(~accepted):
        state = max(int(held[i - 1]) if i else -1, extra)
        current = log_weight[state] if state >= 0 else start
        if log_u[i] < log_weight[i] - current:
            accepted[i] = True
            extra = int(i)
    index = np.maximum.accumulate(np.where(accepted, np.arange(n), -1))
    return index, float(accepted.mean()) if n else 1.0


def run_chain(
    log_weight: Array, begin: np.random.Generator, decide: np.random.Generator
) -> IntArray:
    """Start in the stationary distribution and accept or reject every proposal after that.

    Parameters
    ----------
    log_weight
        Log target minus log proposal density, shape (START + n,); the first START proposals serve
        to choose where the chain starts.
    begin, decide
        Random numbers for the start and for the decisions.

    Returns
    -------
    numpy.ndarray
        For each of n steps the position of the proposal that the chain holds.
    """
    weight = np.exp(log_weight[:START] - logsumexp(log_weight[:START]))
    start = int(begin.choice(START, p=weight / weight.sum()))
    later = log_weight[START:]
    index, _ = accept(later, float(log_weight[start]), decide.random(len(later)))
    return np.where(index >= 0, START + index, start)

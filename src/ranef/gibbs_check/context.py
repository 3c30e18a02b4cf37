"""What the levels of the check share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranef.gibbs_check.sampler import Problem, State

__all__ = ["Context"]


@dataclass(frozen=True)
class Context:
    """A sampler under check, and where.

    Attributes
    ----------
    problem
        The sampler and the model.
    states
        The user's own state first, then asymmetric ones.
    rng
        Source of random numbers.
    alpha
        Probability that a right block fails levels 1 and 2.
    invariant
        Blocks declared to leave their conditional invariant only.
    """

    problem: Problem
    states: list[State]
    rng: np.random.Generator
    alpha: float
    invariant: frozenset[str]

"""Random number streams that do not depend on how much is drawn."""

from __future__ import annotations

import numpy as np

__all__ = ["split_stream"]


def split_stream(rng: np.random.Generator, count: int) -> list[np.random.Generator]:
    """Make independent generators, seeded from one.

    With a generator for each purpose, asking for more draws continues each stream instead of
    shifting all that follow it (mathematics.md, 8.8).

    Parameters
    ----------
    rng
        Where the seeds come from; it moves on.
    count
        How many generators.

    Returns
    -------
    list of numpy.random.Generator

    Examples
    --------
    >>> len(split_stream(np.random.default_rng(1), 3))
    3
    """
    seeds = rng.integers(0, 2**63, size=(count, 2))
    return [np.random.default_rng(seed) for seed in seeds]

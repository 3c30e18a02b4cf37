"""Simulations run in order or side by side, each with random streams of its own, and their ranks.

If parameters come from the prior, data from the model and draws from the posterior, then truth and
draws are exchangeable and the truth's rank is uniform (Talts et al. 2018, arXiv:1804.06788).
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ranef.common.processes import in_processes
from ranef.common.threads import one_thread
from ranef.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ranef.calibration.experiments import Experiment
    from ranef.common.array_types import Array, IntArray

__all__ = ["Outcome", "random_rank", "run_simulations", "simulate_one"]

# Each process gets its simulations in so many parts, so that none waits long for another.
_PARTS = 8
_LARGEST_PART = 20


@dataclass(frozen=True)
class Outcome:
    """What is kept of one simulation.

    Attributes
    ----------
    index
        Number of the simulation.
    names
        The test quantities.
    ranks
        Rank of the truth among L draws, 0..L, shape (Q,); for an exact PIT the bin of L + 1.
    pit
        The same on (0, 1): (rank + uniform) / (L + 1), or the exact PIT, shape (Q,).
    """

    index: int
    names: tuple[str, ...]
    ranks: IntArray
    pit: Array


def simulate_one(experiment: Experiment, entropy: int, index: int, draws: int) -> Outcome:
    """Run one simulation; its random numbers depend on seed and number alone.

    Parameters
    ----------
    experiment
        What to simulate and fit.
    entropy
        Seed of the whole calibration.
    index
        Number of the simulation.
    draws
        Posterior draws to rank among, L.

    Returns
    -------
    Outcome
    """
    seeds = np.random.SeedSequence(entropy, spawn_key=(index,)).spawn(3)
    simulating, fitting, ranking = map(np.random.default_rng, seeds)
    try:
        pair = experiment.compare(draws, simulating, fitting)
        broken = [n for n, v in pair.draws.items() if np.isnan(v).any() or np.isnan(pair.truth[n])]
        if broken:
            raise DataError(f"Draws or true value of {broken[0]!r} are not a number.")
    except Exception as error:
        error.add_note(f"In simulation {index} of the calibration with seed {entropy}.")
        raise
    ranks = [random_rank(values, pair.truth[name], ranking) for name, values in pair.draws.items()]
    pit = [(rank + ranking.random()) / (draws + 1) for rank in ranks]
    for value in pair.exact.values():
        ranks.append(min(int(value * (draws + 1)), draws))
        pit.append(value)
    return Outcome(index, (*pair.draws, *pair.exact), np.array(ranks), np.array(pit))


def random_rank(draws: Array, truth: float, rng: np.random.Generator) -> int:
    """Count the draws below the truth, with ties broken at random.

    Parameters
    ----------
    draws
        Posterior draws of one quantity, shape (L,).
    truth
        Its true value.
    rng
        Used only where a draw equals the truth.

    Returns
    -------
    int
        0..L.

    Examples
    --------
    >>> random_rank(np.array([0.1, 0.7, 0.4]), 0.5, np.random.default_rng(1))
    2
    """
    ties = int(np.sum(draws == truth))
    return int(np.sum(draws < truth)) + (int(rng.integers(ties + 1)) if ties else 0)


def run_simulations(
    experiment: Experiment, entropy: int, indices: Sequence[int], draws: int, processes: int
) -> Generator[Outcome, None, None]:
    """Run simulations, in any order where processes share them.

    Parameters
    ----------
    experiment, entropy, draws
        As in `simulate_one`.
    indices
        Numbers of the simulations to run.
    processes
        How many to run side by side, each with a single thread.

    Yields
    ------
    Outcome

    Raises
    ------
    DataError
        If the experiment cannot be sent to other processes, or they cannot start.
    """
    if processes == 1 or len(indices) < 2:
        # One thread here as there: sums of other numbers of threads round differently.
        with one_thread():
            for index in indices:
                yield simulate_one(experiment, entropy, index, draws)
        return
    try:
        pickle.dumps(experiment)
    except Exception as error:
        raise DataError(
            f"The functions cannot be sent to other processes ({error}). Define them at the top "
            "level of a module, or use processes=1."
        ) from None
    size = min(_LARGEST_PART, -(-len(indices) // (_PARTS * processes)))
    parts = [indices[i : i + size] for i in range(0, len(indices), size)]
    for _, outcomes in in_processes(
        partial(_run_part, experiment, entropy, draws), parts, processes
    ):
        yield from outcomes


def _run_part(
    experiment: Experiment, entropy: int, draws: int, indices: Sequence[int]
) -> list[Outcome]:
    """Run a few simulations in a process of their own."""
    with one_thread():
        return [simulate_one(experiment, entropy, index, draws) for index in indices]

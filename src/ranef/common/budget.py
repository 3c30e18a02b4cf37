"""How much time and memory single computations may take before they are thinned, split or refused.

Seconds are foretold by a count of operations (`Structure.cost`), not read off a clock: the same
data and seed give the same draws on a busy machine and on an idle one. Numbers have eight bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import IntArray

__all__ = ["Budget", "evenly"]


@dataclass(frozen=True)
class Budget:
    """Limits of one computation.

    Attributes
    ----------
    seconds
        That it may take in all.
    numbers
        That it may hold in all.
    least
        Draws that are used however long they take: fewer would tell too little.
    block
        Numbers that it works on at once.
    most
        Items that it works on at once.
    evaluations
        Evaluations of the likelihood that it takes.
    """

    seconds: float = np.inf
    numbers: float = np.inf
    least: int = 1
    block: float = np.inf
    most: float = np.inf
    evaluations: int = 1

    def affords(self, cost: float, times: int = 1) -> bool:
        """Whether the evaluations, at so many seconds each, are done in time, so many times."""
        return cost * self.evaluations * times <= self.seconds

    def draws(self, n: int, *, seconds: float = 0.0, numbers: float = 0.0) -> IntArray:
        """Which of n draws to use, at so many seconds and numbers each: all, or evenly spaced.

        Examples
        --------
        >>> Budget(seconds=1.0, least=2).draws(9, seconds=0.3).tolist()
        [0, 4, 8]
        """
        most = min(
            self.seconds / seconds if seconds else np.inf,
            self.numbers / numbers if numbers else np.inf,
        )
        return evenly(n, int(np.clip(most, min(self.least, n), n)))

    def blocks(self, n: int, each: float = 1) -> list[slice]:
        """Split n items of so many numbers each into blocks, of one item at least.

        Examples
        --------
        >>> Budget(block=10).blocks(5, 4)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
        """
        step = max(1, int(min(self.block / each, self.most, n)))
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def evenly(n: int, count: int) -> IntArray:
    """Positions of `count` of n items, from the first to the last."""
    return np.linspace(0, n - 1, count).astype(np.intp)


# Means and SDs of effects. Every fit pays them, so they may not show beside the draws themselves;
# moments given the variance parameters vary little, so that sixteen of them are enough.
EFFECT_MOMENTS = Budget(seconds=4.0, numbers=2e7, least=16, block=2e6)
# Joint draws of all effects where a question needs them; fewer than 400 draws are no posterior.
JOINT_EFFECTS = Budget(seconds=10.0, least=400, block=2e6)
# Draws of effects for predictions, at most so many at a time whatever the rows, so that these do
# not change the stream; and integrating coefficients out of predictions, beyond which their draws
# are used: so many rows leave little uncertainty.
PREDICTED_EFFECTS = Budget(seconds=20.0, numbers=1e8, least=400, block=8e6, most=500)
PREDICTED_ROWS = Budget(seconds=20.0, block=8e6)
# Data sets replicated at once.
REPLICATED_DATA = Budget(block=4e6)
# Fitted values of many draws, in all for Bayesian R2, and at once.
BAYESIAN_R2 = Budget(numbers=1e8, least=200)
FITTED_VALUES = Budget(block=2e6)
# Log densities of left-out units, a minute and 320 MB; beyond so many units not even the least
# draws of them fit into memory.
LEAVE_ONE_OUT = Budget(seconds=60.0, numbers=4e7, least=200, block=4e6)
LEFT_OUT_UNITS = 1_000_000
# Fits without single units, and a second attempt at a fit: two minutes of unasked work. An adapted
# proposal takes so many evaluations, the adaptation included; draws of a fit without a unit more.
FITS_WITHOUT_UNITS = Budget(seconds=120.0, evaluations=50_000)
SECOND_ATTEMPT = Budget(seconds=120.0, evaluations=25_000)
# Proposals from a rough interpolation, accepted by the likelihood itself: as many evaluations again
# complete the draws.
CORRECTION = Budget(seconds=600.0, evaluations=8200)
# Annealing particles to 4,000 draws.
ANNEALING = Budget(seconds=600.0, evaluations=100_000)
# Evaluations that a sampler asks of the likelihood itself; of one that costs more a polynomial.
DIRECT_EVALUATIONS = Budget(seconds=4.0, evaluations=8000)
# Likelihoods for power-scaling: of draws at once, and draws used.
POWER_SCALING = Budget(seconds=10.0, least=500, block=2000)
# Combinations of levels in a grid of marginal means: larger tables are read by nobody.
MARGINAL_MEANS = 100_000
# Pairs of levels up to which rows are counted for a sign of nesting; far more are none.
NESTED_PAIRS = 4_000_000

# Blocks that stay in the processor's cache between two uses.
QUANTILES = Budget(block=200_000)
CLASSES = Budget(block=200_000)
DENSE_BATCH = Budget(block=2e6)
GROUP_SIZES = Budget(block=2e6)
INTERCEPTS = Budget(block=32_768)
INTERCEPT_MOMENTS = Budget(block=4096)
TABLE_ROWS = Budget(block=4096)

# Effects beside the largest factor's, up to which draws are worked on in batches; more of them pay
# where the largest factor has few classes, whose products are held in memory.
BATCHED_EFFECTS, MOST_BATCHED_EFFECTS, CLASS_PRODUCTS = 64, 150, 25_000_000
# Columns of a Schur complement beyond which it is factored as a sparse matrix: half a gigabyte.
DENSE_COLUMNS = 8000
# Products between remaining effects that are listed ahead, at some 40 bytes each.
LISTED_PRODUCTS = 10_000_000

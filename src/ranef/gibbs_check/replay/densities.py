"""Level 0: log densities of draws, by the update and by the log joint density.

If an update draws from the full conditional, then for any two of its values
log q(v1) - log q(v2) = log p(v1, rest) - log p(v2, rest), to rounding error (mathematics.md, 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.replay.update_map import NotReplayable, UpdateMap

__all__ = ["Comparison", "compare", "compared", "draws_of"]

# Draws in place of one that underflowed.
_TRIES = 50


@dataclass(frozen=True)
class Comparison:
    """Log densities of the same draws, by the update and by the log joint density.

    Attributes
    ----------
    log_q, log_p
        Of each draw relative to the first, shape (draws - 1,).
    worst
        Largest absolute difference.
    limit
        What rounding could explain.
    """

    log_q: Array
    log_p: Array
    worst: float
    limit: float

    @property
    def excess(self) -> float:
        """Largest difference in units of what rounding could explain."""
        return self.worst / max(self.limit, 1e-300)


def compare(update: UpdateMap, draws: int = 4) -> Comparison:
    """Compare log q with the log joint density at several draws of one block, the rest fixed.

    Raises
    ------
    NotReplayable
        If the draws use different random numbers.
    """
    _, log_q, log_p = draws_of(update, draws)
    return compared(log_q, log_p)


def compared(log_q: Array, log_p: Array) -> Comparison:
    """Compare two log densities of the same values, both up to a constant, shape (draws,)."""
    size = float(np.abs(log_p).max())
    with np.errstate(invalid="ignore"):
        delta_q, delta_p = log_q[1:] - log_q[0], log_p[1:] - log_p[0]
    if not np.isfinite(log_p).all():
        return Comparison(delta_q, delta_p, np.inf, 0.0)
    # Rounding of the differences, and of the log joint density itself; far below any wrong formula.
    limit = 1e-6 * (1.0 + float(np.abs(np.append(delta_q, delta_p)).max())) + 1e-12 * size
    return Comparison(delta_q, delta_p, float(np.abs(delta_q - delta_p).max()), limit)


def draws_of(update: UpdateMap, count: int) -> tuple[Array, Array, Array]:
    """Draw one block at a fixed state; values, log q and log joint of each, up to constants.

    Raises
    ------
    NotReplayable
        If the draws use different random numbers.
    """
    recorder = update.recorder
    pattern = [(e.kind, e.values.size) for e in update.script]
    values = np.empty((count, len(update.value)))
    log_q, log_p = np.empty(count), np.empty(count)
    base = None
    for r in range(count):
        for _ in range(_TRIES):
            recorder.record()
            values[r] = update.sampler.draw(update.name, update.state, recorder)
            if recorder.signature != pattern:
                raise NotReplayable("draws a varying number of random numbers")
            # Gamma variables of small shape underflow to zero, where no density can be compared.
            if update.discrete or (values[r] != 0).all() or (update.value == 0).any():
                break
        u = recorder.coordinates()
        log_q[r] = recorder.log_density()
        # The Jacobian of an affine map is the same for all draws and cancels.
        if len(u) and not update.affine:
            base, log_volume = update.log_volume(u, base)
            log_q[r] -= log_volume
        log_p[r] = update.log_joint(values[r])
    return values, log_q, log_p

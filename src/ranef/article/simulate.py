"""The article's data, number for number: R's Mersenne Twister and inversion normals.

R's `set.seed` and `rnorm` are documented in R's help page `?RNG`; the state that a seed gives is
the one in R's source, `src/main/RNG.c`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from ranef.common.arguments import number, whole_number

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = ["simulate"]

_BIG = 134217728  # 2^27: R joins two uniforms to one of 53 bits


class _RNormals:
    """R's default normal generator after `set.seed(seed)`."""

    def __init__(self, seed: int) -> None:
        state = np.empty(625, dtype=np.uint64)
        value = seed & 0xFFFFFFFF
        for _ in range(50):
            value = (69069 * value + 1) & 0xFFFFFFFF
        for i in range(625):
            value = (69069 * value + 1) & 0xFFFFFFFF
            state[i] = value
        self._bits = np.random.MT19937(0)
        self._bits.state = {
            "bit_generator": "MT19937",
            "state": {"key": state[1:].astype(np.uint32), "pos": 624},
        }

    def sample(self, n: int) -> Array:
        """Give the next n of R's `rnorm(n)`."""
        raw = np.asarray(self._bits.random_raw(2 * n), dtype=np.float64)
        tiny = 2.328306437080797e-10
        uniform = np.clip(raw * 2.3283064365386963e-10, 0.5 * tiny, 1.0 - 0.5 * tiny)
        joined = np.floor(_BIG * uniform[0::2]) + uniform[1::2]
        return np.asarray(ndtri(joined / _BIG))


def simulate(
    n: int = 100,
    *,
    replicates: int = 2,
    sigma2_e: float = 3.0,
    sigma2_x: float = 5.0,
    mean: float = 0.0,
    seed: int = 47403,
) -> Array:
    """Simulate `W_ij = X_i + E_ij` as the article's R code does.

    Parameters
    ----------
    n
        Number of signals.
    replicates
        Measurements of each.
    sigma2_e, sigma2_x
        Noise and signal variance.
    mean
        Mean of the signals.
    seed
        As in R's `set.seed`; 47403 gives the article's own numbers.

    Returns
    -------
    numpy.ndarray
        W, shape (n, replicates).

    Raises
    ------
    DataError
        If a size is not positive or a variance is negative.

    Examples
    --------
    >>> simulate()[0].round(6)
    array([-2.72595 , -1.003254])
    """
    n, replicates = whole_number("n", n), whole_number("replicates", replicates)
    sigma2_e, sigma2_x = number("sigma2_e", sigma2_e, 0), number("sigma2_x", sigma2_x, 0)
    mean = number("mean", mean)
    normals = _RNormals(whole_number("seed", seed, -(2**31)))
    # R fills a matrix by columns.
    E = math.sqrt(sigma2_e) * normals.sample(n * replicates).reshape(replicates, n).T
    X = mean + math.sqrt(sigma2_x) * normals.sample(n)
    return np.ascontiguousarray(X[:, None] + E)

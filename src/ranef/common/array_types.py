"""Names for the array types that the numerics take and give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "IntArray", "Seed"]

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]
Seed = int | np.random.Generator | None

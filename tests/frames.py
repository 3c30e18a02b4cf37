"""A small data set that several test files share."""

from __future__ import annotations

import numpy as np
import pandas as pd


def make_frame(seed: int = 0, groups: int = 8) -> pd.DataFrame:
    """Make unbalanced groups with a covariate, one constant within groups, and a factor."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rng.integers(3, 8, size=groups))
    n = len(g)
    x, z = rng.normal(size=n), rng.normal(size=groups)[g]
    f = np.array(["a", "b", "c"])[rng.permutation(n) % 3]
    y = 10 + 2 * x - z + (f == "b") + 1.5 * rng.normal(size=groups)[g] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "z": z, "f": f, "g": g})

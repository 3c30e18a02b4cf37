"""Coverage of prediction intervals, on data whose parameters are drawn from the priors.

There an exact interval covers with exactly its probability, on average over data sets. One new
observation from a new group and one from a group of the data are compared with their intervals.

    python benchmarks/predictions.py --simulations 1000
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from scipy import stats

import ranef as rf

PRIORS = {"1|g": "variance(invgamma(2, scale=3))", "sigma": "variance(invgamma(2, scale=2))"}
LEVELS = (0.5, 0.8, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    # Unbalanced: five groups of one to five rows, and a covariate.
    g = np.repeat(np.arange(5), [1, 2, 3, 4, 5])
    hits = np.zeros((2, len(LEVELS)), int)
    started = time.perf_counter()
    for k in range(asked.simulations):
        sd_b, sd_e = np.sqrt(stats.invgamma.rvs(2, scale=[3, 2], random_state=rng))
        b, x = sd_b * rng.normal(size=6), rng.normal(size=15)
        frame = pd.DataFrame({"y": 3 + x + b[g] + sd_e * rng.normal(size=15), "x": x, "g": g})
        fit = rf.fit("y ~ x + (1|g)", frame, priors=PRIORS, draws=asked.draws, seed=k)
        new = pd.DataFrame({"x": rng.normal(size=2), "g": [5, 1]})
        y = 3 + new["x"] + b[new["g"]] + sd_e * rng.normal(size=2)
        for j, level in enumerate(LEVELS):
            made = fit.predict(new, "response", "new", level)
            hits[:, j] += ((made.lower <= y) & (y <= made.upper)).to_numpy()
    print(f"{asked.simulations} data sets in {time.perf_counter() - started:.0f} s")
    for name, row in zip(("new group", "group of the data"), hits, strict=True):
        for level, count in zip(LEVELS, row, strict=True):
            p = stats.binomtest(int(count), asked.simulations, level).pvalue
            print(
                f"{name:18} {level:.0%} interval covers {count / asked.simulations:.1%}, p {p:.2f}"
            )


if __name__ == "__main__":
    main()

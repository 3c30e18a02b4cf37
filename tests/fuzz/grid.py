"""Posteriors of small models by summing a fine grid, written apart from the package.

`y = X beta + b_g + e` with flat coefficients, half-t priors on the two SDs and the covariance of
all rows written out: NumPy and SciPy alone. Known errors leave one SD. Numbers are of log SDs,
whose tails are light where those of SDs, with few groups, have no variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

# Grids of log SDs, relative to the response's SD.
STEP, BELOW, ABOVE = 0.04, 14.0, 7.0
LARGEST_LOG_RATIO = 14.0


@dataclass(frozen=True)
class SmallDesign:
    """A table for `y ~ x + (1|g)`, the kind of its errors, and (scale, df) of the half-t priors."""

    seed: int
    kind: str
    table: dict[str, np.ndarray]
    priors: dict[str, tuple[float, int]]

    formula = "y ~ x + (1|g)"

    @property
    def options(self):
        """What `ranef.fit` is told of the errors."""
        return {} if self.kind == "plain" else {self.kind: "w"}

    def __str__(self):
        return f"seed {self.seed}: {self.kind}, {len(self.table['y'])} rows, priors {self.priors}"


def draw_small_design(seed):
    """Draw one design."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["plain", "weights", "se"]))
    groups = int(rng.integers(3, 9))
    g = np.concatenate([np.arange(groups), rng.integers(0, groups, int(rng.integers(10, 30)))])
    n, unit = len(g), 10.0 ** rng.integers(-3, 4)
    x = rng.normal(size=n)
    w = rng.uniform(0.3, 3, n)
    effect = np.exp(rng.normal()) * rng.normal(size=groups)
    noise = {"plain": np.ones(n), "weights": w**-0.5, "se": w}[kind]
    y = unit * (1 + x + effect[g] + noise * rng.normal(size=n))
    table = {"y": y, "x": x, "g": g, "w": unit * w if kind == "se" else w}
    names = ["1|g"] if kind == "se" else ["sigma", "1|g"]
    priors = {
        name: (float(f"{unit * np.exp(rng.normal()):.3g}"), int(rng.integers(1, 8)))
        for name in names
    }
    return SmallDesign(seed, kind, table, priors)


def grid_posterior(design):
    """Mean, SD, 10% and 90% quantile of log sigma and of the log group SD, by name."""
    t = design.table
    X = np.column_stack([np.ones(len(t["y"])), t["x"]])
    same = np.equal.outer(t["g"], t["g"])
    steps = np.arange(-BELOW, ABOVE, STEP)
    if design.kind == "se":
        # One dimension alone affords a longer grid, and standard errors may be far from the SD.
        log_group = np.log(np.std(t["y"])) + np.arange(-2 * BELOW, ABOVE, STEP)
        V = np.diag(t["w"] ** 2) + np.exp(2 * log_group)[:, None, None] * same
        log_det, rest = _integrated(V, X, t["y"])
        log_p = -0.5 * (log_det + rest) + _prior(design, "1|g", log_group)
        return {"1|g": _moments(log_group, log_p)}
    # V = sigma^2 (W^-1 + ratio^2 ZZ'): one factorisation for all pairs of one ratio.
    noise = 1 / t["w"] if design.kind == "weights" else np.ones(len(t["y"]))
    log_sigma = log_group = np.log(np.std(t["y"])) + steps
    difference = np.subtract.outer(np.arange(len(steps)), np.arange(len(steps)))
    log_ratio = STEP * np.arange(1 - len(steps), len(steps))
    ratio = np.exp(2 * np.minimum(log_ratio, LARGEST_LOG_RATIO))
    log_det, rest = _integrated(np.diag(noise) + ratio[:, None, None] * same, X, t["y"])
    at = difference + len(steps) - 1  # group SDs are rows, sigmas columns
    freedom = len(X) - X.shape[1]
    log_p = -freedom * log_sigma - 0.5 * (log_det[at] + np.exp(-2 * log_sigma) * rest[at])
    log_p[log_ratio[at] > LARGEST_LOG_RATIO] = -np.inf  # residuals far below those there are
    log_p += _prior(design, "sigma", log_sigma) + _prior(design, "1|g", log_group)[:, None]
    return {
        "sigma": _moments(log_sigma, np.logaddexp.reduce(log_p, axis=0)),
        "1|g": _moments(log_group, np.logaddexp.reduce(log_p, axis=1)),
    }


def _integrated(V, X, y):
    """log|V| + log|X'V^-1X| and the generalised residual sum of squares of each covariance."""
    root = np.linalg.cholesky(V)
    white = np.linalg.solve(root, np.column_stack([X, y]))
    T = np.linalg.qr(white)[1]
    size = np.log(np.abs(np.einsum("nii->ni", T)[:, :-1])).sum(axis=1)
    return 2 * (np.log(np.einsum("nii->ni", root)).sum(axis=1) + size), T[:, -1, -1] ** 2


def _prior(design, name, log_sd):
    """Log density of a log SD: a half-t with the Jacobian."""
    scale, df = design.priors[name]
    return stats.t.logpdf(np.exp(log_sd) / scale, df) + log_sd


def _moments(at, log_p):
    """Mean, SD and two quantiles of a density on evenly spaced points."""
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    if max(p[0], p[-1]) > 1e-4 * p.max():
        raise ValueError("The grid cuts the posterior off.")
    mean = p @ at
    below = np.cumsum(p)
    q10, q90 = np.interp([0.1, 0.9], below, at + STEP / 2)
    return {"mean": mean, "sd": np.sqrt(p @ (at - mean) ** 2), "q10": q10, "q90": q90}

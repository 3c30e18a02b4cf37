"""What the statistical tests share: reference values, dense likelihoods, Monte Carlo errors.

Monte Carlo errors come in two kinds. `errors_of` compares draws with reference numbers through
effective sample sizes; `batch_scores` compares expectations of plain functions of the draws with
their exact values through the spread of the chains' means.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from scipy import stats
from scipy.special import ndtr

from ranef.common import budget
from ranef.likelihood.random_intercept import RandomIntercept

DATA = Path(__file__).parent / "reference"
QUANTILES = {"q025": 0.025, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q975": 0.975}
CROSSED = "y ~ 1 + (1|g) + (1|h)"
# Hard walls in the midst of the likelihood: t distributions on log SDs run against them.
WALLS = {"1|g": stats.uniform(0, 0.7), "1|h": stats.uniform(0, 0.6), "sigma": "half_t(2)"}


@cache
def load_json(name):
    """Read a file of reference values."""
    return json.loads((DATA / f"{name}.json").read_text())


@cache
def load_w(scenario):
    """Read the data of one of the article's scenarios, as R wrote them, shape (n, 2)."""
    W = np.loadtxt(DATA / f"W{scenario}.csv", delimiter=",", skiprows=1)
    W.flags.writeable = False
    return W


def limit(monkeypatch, name, **limits):
    """Change limits of one of the package's budgets for a test."""
    monkeypatch.setattr(budget, name, replace(getattr(budget, name), **limits))


# -- draws against reference numbers


def ess(draws, method="mean", prob=None):
    """Effective sample size of one functional of draws, shape (chains, draws)."""
    return float(array_stats.ess(np.atleast_2d(draws), method=method, prob=prob))


def errors_of(draws, reference, reference_ess=np.inf):
    """Differences between draws and reference values in combined Monte Carlo errors.

    Parameters
    ----------
    draws
        Shape (draws,) or (chains, draws).
    reference
        Mapping with `mean`, `sd`, and some of `q025`, `q10`, `q50`, `q90`, `q975`.
    reference_ess
        Effective sample size behind the reference; inf where it is exact.

    Returns
    -------
    dict
        One z-score for each key of the reference. The error of a mean is sd/sqrt(ess), that of an
        sd is sd sqrt((kurtosis - 1) / (4 ess)), and quantiles are compared by the share p of draws
        below the reference's, whose error is sqrt(p (1 - p) / ess): all three asymptotic, each
        with the ess of its own functional on the side of the draws.
    """
    draws = np.atleast_2d(draws)
    sd = draws.std()
    kurtosis = float(stats.kurtosis(draws, axis=None, fisher=False))
    z = {"mean": (draws.mean() - reference["mean"]) / (sd * _root(ess(draws), reference_ess))}
    z["sd"] = (sd / reference["sd"] - 1) / (
        np.sqrt((kurtosis - 1) / 4) * _root(ess(draws, "sd"), reference_ess)
    )
    for key, p in QUANTILES.items():
        if key in reference:
            share = float((draws <= reference[key]).mean())
            known = ess(draws, "quantile", p)
            z[key] = (share - p) / (np.sqrt(p * (1 - p)) * _root(known, reference_ess))
    return {k: float(v) for k, v in z.items()}


def _root(*sizes):
    return np.sqrt(sum(1 / s for s in sizes))


def worst(z):
    """Largest absolute score in a mapping of scores, of mappings, or of arrays."""
    if isinstance(z, dict):
        return max(worst(v) for v in z.values())
    return float(np.max(np.abs(z)))


def batch_scores(values, expected):
    """Scores of the mean of values (chains, draws) against its exact expectation.

    The chains' means are independent whatever the autocorrelation within chains, so their spread
    gives the error: the score is t distributed with chains - 1 degrees of freedom.

    Returns
    -------
    score : float
    size : float
        Effective sample size that this spread amounts to.
    """
    means = values.mean(axis=1)
    error = means.std(ddof=1) / np.sqrt(len(means))
    if error == 0:
        return (0.0 if means[0] == expected else np.inf), np.inf
    return float((means.mean() - expected) / error), float(values.var() / error**2)


def bonferroni(comparisons, freedom, alpha=1e-3):
    """Threshold for |t| that `comparisons` correct results pass all with probability 1 - alpha."""
    return float(stats.t.isf(alpha / comparisons / 2, freedom))


# -- likelihoods by brute force


@dataclass(frozen=True)
class Dense:
    """y = X beta + Z b + e with everything of size N, in the user's units.

    Attributes
    ----------
    y, X, codes
        Response, fixed-effect columns, group of each row.
    mean, sd
        Normal priors on the coefficients; sd is inf where flat.
    """

    y: np.ndarray
    X: np.ndarray
    codes: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    def covariance(self, rho, tau):
        """V of y given the coefficients, shape (N, N)."""
        same = self.codes[:, None] == self.codes
        return np.exp(2 * tau) * (np.eye(len(self.y)) + np.exp(rho) * same)

    def _white(self, V):
        """[X y] with V turned to the identity, and log|V|."""
        L = np.linalg.cholesky(V)
        white = np.linalg.solve(L, np.column_stack([self.X, self.y]))
        return white[:, :-1], white[:, -1], 2 * np.log(np.diag(L)).sum()

    def ml(self, rho, tau):
        """Log likelihood at the generalised least-squares coefficients."""
        X, y, log_det = self._white(self.covariance(rho, tau))
        rest = y - X @ np.linalg.lstsq(X, y)[0]
        return -0.5 * (len(y) * np.log(2 * np.pi) + log_det + rest @ rest)

    def reml(self, rho, tau):
        """Log likelihood with the coefficients integrated over their priors."""
        proper = np.isfinite(self.sd)
        Xp, flat = self.X[:, proper], self.X[:, ~proper]
        V = self.covariance(rho, tau) + (Xp * self.sd[proper] ** 2) @ Xp.T
        moved = Dense(
            self.y - Xp @ self.mean[proper], flat, self.codes, self.mean[~proper], self.sd[~proper]
        )
        X, y, log_det = moved._white(V)
        if X.shape[1]:
            Q, R = np.linalg.qr(X)
            y = y - Q @ (Q.T @ y)
            log_det += 2 * np.log(np.abs(np.diag(R))).sum()
        k = len(y) - X.shape[1]
        return -0.5 * (k * np.log(2 * np.pi) + log_det + y @ y)

    def coefficients(self, rho, tau):
        """Mean and covariance of the coefficients given the variances."""
        X, y, _ = self._white(self.covariance(rho, tau))
        precision = np.where(np.isfinite(self.sd), self.sd**-2.0, 0.0)
        C = np.linalg.inv(X.T @ X + np.diag(precision))
        return C @ (X.T @ y + precision * self.mean), C

    def effects(self, rho, tau):
        """Mean and covariance of the group effects given the variances, coefficients out."""
        p, G = self.X.shape[1], self.codes.max() + 1
        XZ = np.column_stack([self.X, np.eye(G)[self.codes]])
        precision = np.where(np.isfinite(self.sd), self.sd**-2.0, 0.0)
        prior = np.append(precision, np.full(G, np.exp(-rho - 2 * tau)))
        C = np.linalg.inv(XZ.T @ XZ * np.exp(-2 * tau) + np.diag(prior))
        pull = XZ.T @ self.y * np.exp(-2 * tau) + prior * np.append(self.mean, np.zeros(G))
        return (C @ pull)[p:], C[p:, p:]


def dense_of(rows, model):
    """Brute-force counterpart of a model."""
    mean = np.array([c.mean for c in model.coefficients])
    sd = np.array([c.sd for c in model.coefficients])
    return Dense(rows.y, rows.X, rows.codes[0], mean, sd)


# -- posteriors by brute force


@dataclass(frozen=True)
class Grid:
    """The posterior of (log sigma_b, log sigma) on a fine tensor grid.

    Attributes
    ----------
    log_group, log_sigma, weight
        Nodes and their shares of the mass, shape (k,).
    log_mass
        Logarithm of the integral over both.
    edges, below
        For each of the two, ends of panels and the exact share of the mass below each.
    """

    target: RandomIntercept
    log_group: np.ndarray
    log_sigma: np.ndarray
    weight: np.ndarray
    log_mass: float
    edges: tuple[np.ndarray, np.ndarray]
    below: tuple[np.ndarray, np.ndarray]

    def quantile(self, axis, p):
        """End of a panel near the quantile p, and the exact share below it."""
        i = int(np.argmin(np.abs(self.below[axis] - p)))
        return float(self.edges[axis][i]), float(self.below[axis][i])

    def coefficients(self):
        """Mean, sd, and three (value, share below) pairs of each coefficient."""
        design = self.target.design
        keep = self.weight > 1e-10
        w = self.weight[keep] / self.weight[keep].sum()
        tau = self.log_sigma[keep]
        profile = self.target.profile(2 * (self.log_group[keep] - tau))
        mean, root = self.target.coefficient_moments(profile, tau)
        mean = self.target.model.response.beta_ls + mean @ design.T.T
        sd = np.sqrt(np.einsum("nij->ni", (design.T @ root) ** 2))
        out = []
        for j in range(design.p):
            center = w @ mean[:, j]
            spread = np.sqrt(w @ (sd[:, j] ** 2 + (mean[:, j] - center) ** 2))
            at = center + spread * np.array([-1.7, 0.1, 1.9])
            below = [float(w @ ndtr((a - mean[:, j]) / sd[:, j])) for a in at]
            out.append((float(center), float(spread), list(zip(at, below, strict=True))))
        return out


def posterior_grid(model, panels=32, order=7):
    """Integrate a model's posterior over log sigma_b and log sigma by plain tensor quadrature."""
    target = RandomIntercept(model)
    design = model.design

    def log_f(u, v):
        shape = np.broadcast_shapes(u.shape, v.shape)
        rho, tau = np.broadcast_to(2 * (u - v), shape), np.broadcast_to(v, shape)
        return target.log_density(rho.ravel(), tau.ravel()).reshape(shape) + np.log(2.0)

    total = model.response.square + design.count @ model.response.mean**2
    middle = 0.5 * np.log(total / design.N)
    with np.errstate(divide="ignore"):
        bounds = np.log([target.group.support, target.family.sigma.support])
    boxes = np.clip(np.array([[middle - 40, middle + 20]] * 2), bounds[:, :1], bounds[:, 1:])
    axes = [np.linspace(*box, 241) for box in boxes]
    f = log_f(axes[0][1:-1, None], axes[1][1:-1])
    boxes = []
    for axis in (0, 1):
        live = np.flatnonzero(f.max(axis=1 - axis) > f.max() - 32)
        boxes.append((axes[axis][live[0]], axes[axis][live[-1] + 2]))
    edges = [np.linspace(*box, panels + 1) for box in boxes]
    for _ in range(2):  # the second time with the panels where the mass is
        (u, wu), (v, wv) = (_panel_nodes(e, order) for e in edges)
        f = log_f(u[:, None], v)
        mass = wu[:, None] * wv * np.exp(f - f.max())
        total = mass.sum()
        shares = mass / total
        marginal = shares.sum(axis=1), shares.sum(axis=0)
        used = edges
        edges = []
        for (low, high), x, w in zip(boxes, (u, v), marginal, strict=True):
            center = w @ x
            sd = np.sqrt(w @ (x - center) ** 2)
            ends = np.arcsinh(np.array([low - center, high - center]) / sd)
            edges.append(np.clip(center + sd * np.sinh(np.linspace(*ends, panels + 1)), low, high))
    below = tuple(np.append(0.0, np.cumsum(w.reshape(panels, order).sum(axis=1))) for w in marginal)
    uu, vv = np.broadcast_arrays(u[:, None], v)
    return Grid(
        target,
        uu.ravel(),
        vv.ravel(),
        shares.ravel(),
        float(f.max() + np.log(total)),
        tuple(used),
        below,
    )


def _panel_nodes(edges, order):
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half = 0.5 * np.diff(edges)
    x = (edges[:-1] + half)[:, None] + half[:, None] * nodes
    return x.ravel(), (half[:, None] * weights).ravel()


def crossed_frame(seed: int = 4) -> pd.DataFrame:
    """Three hundred rows of twelve by six levels, with few effects beside much noise."""
    rng = np.random.default_rng(seed)
    n = 300
    g, h = rng.integers(0, 12, n), rng.integers(0, 6, n)
    y = 1 + rng.normal(size=12)[g] + 0.5 * rng.normal(size=6)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "g": g, "h": h})

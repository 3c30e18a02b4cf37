"""Leave-one-out densities of sleepstudy against fitting again without every row and every subject.

    python benchmarks/loo.py

The refits share nothing with the formulas for what is left out: a row's density is the average over
draws of coefficients and effects of N(y; x'beta + z'b, sigma^2), a subject's that over draws of
coefficients and covariances of N(y; X beta, Z S Z' + sigma^2 I).
"""

from __future__ import annotations

import sys
import time

import numpy as np
from scipy.special import logsumexp

import ranef as rf

FORMULA = "Reaction ~ Days + (Days|Subject)"
NAMES = ["1|Subject", "Days|Subject"]


def log_mean(log_p):
    """Log of the mean of exp(log_p), and its standard error."""
    value = float(logsumexp(log_p) - np.log(len(log_p)))
    p = np.exp(log_p - value)
    return value, float(p.std() / np.sqrt(len(p)))


def normal(y, mean, sd):
    return -0.5 * np.log(2 * np.pi) - np.log(sd) - 0.5 * ((y - mean) / sd) ** 2


def row_density(fit, row):
    """Log predictive density of one row under draws fitted to others."""
    post = fit.draws["posterior"].to_dataset()
    at = {"Subject__factor_dim": str(row.Subject)}
    intercept, slope = (post[n].sel(at).to_numpy().ravel() for n in NAMES)
    mean = post["Intercept"].to_numpy().ravel() + intercept
    mean = mean + (post["Days"].to_numpy().ravel() + slope) * row.Days
    return log_mean(normal(row.Reaction, mean, post["sigma"].to_numpy().ravel()))


def subject_density(fit, rows):
    """Log predictive density of a new subject's rows under draws fitted to others."""
    post = fit.draws["posterior"].to_dataset()
    value = {
        n: post[n].to_numpy().ravel()
        for n in ["Intercept", "Days", "sigma", *(f"{n}_sigma" for n in NAMES), "Days|Subject_corr"]
    }
    days, y = rows.Days.to_numpy(float), rows.Reaction.to_numpy(float)
    u, v = value["1|Subject_sigma"], value["Days|Subject_sigma"]
    S = np.array([[u**2, value["Days|Subject_corr"] * u * v]] * 2).transpose(2, 0, 1)
    S[:, 1, 1], S[:, 1, 0] = v**2, S[:, 0, 1]
    Z = np.column_stack([np.ones_like(days), days])
    V = Z @ S @ Z.T + value["sigma"][:, None, None] ** 2 * np.eye(len(y))
    rest = y - value["Intercept"][:, None] - value["Days"][:, None] * days
    L = np.linalg.cholesky(V)
    z = np.linalg.solve(L, rest[:, :, None])[:, :, 0]
    log_det = np.log(np.einsum("nii->ni", L)).sum(axis=1)
    return log_mean(-0.5 * (z**2).sum(axis=1) - log_det - 0.5 * len(y) * np.log(2 * np.pi))


def compare(fit, data, cases, unit, density, draws):
    """Print how far ArviZ's values lie from those of refits, in errors of the refits."""
    began = time.perf_counter()
    elpd = fit.loo(unit)
    seconds = time.perf_counter() - began
    raw = fit.loo(unit, refit=False)
    k = raw.pareto_k.to_numpy()
    began, found = time.perf_counter(), []
    for label, out in cases:
        again = rf.fit(
            FORMULA,
            data[~out],
            priors=PRIORS,
            draws=draws,
            effects="draws" if unit == "row" else "moments",
            seed=len(found),
        )
        found.append((label, *density(again, out)))
    took = time.perf_counter() - began
    values = np.array([f[1] for f in found])
    errors = np.array([f[2] for f in found])
    gap = elpd.elpd_i.to_numpy() - values
    # Of the importance weights, as if of the effective number of draws; cases that were fitted
    # again count as exact.
    weight = np.exp(elpd.log_weights.to_numpy().reshape(-1, elpd.n_samples))
    own = np.sqrt(((weight - 1 / elpd.n_samples) ** 2).sum(axis=1)) * (k <= 0.7)
    own /= np.sqrt(fit.certificate.ess / elpd.n_samples)
    z = gap / np.hypot(errors, own)
    plain = raw.elpd_i.to_numpy() - values
    print(f"{unit}: {len(found)} cases, loo {seconds:.2f} s, refits {took:.0f} s")
    print(
        f"  elpd {elpd.elpd:.3f} by loo, {values.sum():.3f} by refits, "
        f"error of the refits' sum {np.sqrt((errors**2).sum()):.3f}"
    )
    print(
        f"  largest difference {np.abs(gap).max():.4f} nats, "
        f"root mean square z {np.sqrt((z**2).mean()):.2f}, largest |z| {np.abs(z).max():.2f}"
    )
    print(
        f"  Pareto k before refits: largest {k.max():.2f}, {np.sum(k > 0.7)} above 0.7; "
        f"without refits the largest difference is {np.abs(plain).max():.4f} nats"
    )


if __name__ == "__main__":
    import json
    import warnings

    warnings.simplefilter("ignore")
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    data = rf.datasets.load("sleepstudy")
    whole = rf.fit(FORMULA, data, seed=1)
    PRIORS = json.loads(whole.draws.attrs["priors"])
    subjects = data.Subject.astype(str)
    every = np.arange(len(data))
    compare(
        whole,
        data,
        [(i, every == i) for i in every],
        "row",
        lambda fit, out: row_density(fit, next(data[out].itertuples())),
        draws,
    )
    levels = sorted(subjects.unique())
    compare(
        whole,
        data,
        [(s, (subjects == s).to_numpy()) for s in levels],
        "Subject",
        lambda fit, out: subject_density(fit, data[out]),
        draws,
    )

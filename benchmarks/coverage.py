"""Coverage of equal-tailed intervals for shares of variance and group effects, by simulation.

`python benchmarks/coverage.py --simulations 1000`. Parameters are drawn from the priors, data from
the model, intervals from the posterior. An exact posterior's intervals then hold the truth with
their probability, on average over the prior; at one fixed truth they need not. One line for each
quantity: share of intervals that held it, and its distance from nominal in binomial errors. Effects
of one data set share their parameters, so their error is that of means over data sets. Exit code 1
if any distance is beyond 4.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import click
import numpy as np
import pandas as pd

import ranef as rf
from ranef.answers.variance_components import fitted_variance, observed_rows, variance_parts
from ranef.answers.variance_shares import bayes_r2, shares
from ranef.calibration.simulate import sample_parameters, sample_response, with_response
from ranef.common.progress import track
from ranef.mixed_model.model import build_model
from ranef.numerics.correlations import partial_correlations
from ranef.posterior.source import Source
from ranef.posterior.tree import to_tree
from ranef.samplers import SAMPLERS
from ranef.samplers.sample import SamplerSettings

DESIGNS = {
    "random intercept": (
        "y ~ 1 + (1|g)",
        {"1|g": "half_t(2)", "sigma": "half_t(1)"},
    ),
    "slopes": (
        "y ~ x + (x|g)",
        {
            "Intercept": "norm(0, 2)",
            "x": "norm(0, 1)",
            "1|g": "half_t(1)",
            "x|g": "half_t(1)",
            "sigma": "half_t(1)",
        },
    ),
}


def coverage(design, simulations, prob=0.95, draws=2000, seed=1):
    """Count how often intervals hold the truth.

    Returns
    -------
    dict
        By quantity an array of one number for each data set: whether its interval held the truth,
        or, for effects, the share of levels whose interval did.
    """
    formula, priors = DESIGNS[design]
    rng = np.random.default_rng(seed)
    g, row = np.divmod(np.arange(60), 5)
    frame = pd.DataFrame({"y": rng.normal(size=60), "x": row - 1.5, "g": g})
    model, rows = build_model(formula, frame, priors)
    request = SamplerSettings(draws, 1, 0, (), False)
    held: dict[str, list[float]] = {}
    for _ in track(range(simulations), design):
        truth = sample_parameters(model, rng)
        y = sample_response(model, rows, truth, rng)
        made = with_response(model, rows, y)
        sample = SAMPLERS["exact"](made, request, rng)
        tree = to_tree(made, sample, response=y, attributes={})
        fit = rf.Fit(tree, Source(made, replace(rows, y=y)))
        table = fit.variance_shares(prob=prob, k=3).table()
        for name, value in true_shares(made, rows, truth).items():
            low, high = table.loc[name].iloc[[2, 4]]
            held.setdefault(name, []).append(float(low <= value <= high))
        for name, values in truth.effects.items():
            ends = fit.effects(name, prob).iloc[:, 2:4].to_numpy()
            inside = (ends[:, 0] <= values[0]) & (values[0] <= ends[:, 1])
            held.setdefault(name, []).append(float(inside.mean()))
    return {name: np.array(values) for name, values in held.items()}


def true_shares(model, rows, truth):
    """Shares of variance at the parameters that made the data."""
    eta = np.empty((1, model.parameters.size))
    for term, (log_sd, z) in zip(model.parameters.terms, model.parameters.split(eta), strict=True):
        log_sd[:] = np.log([[truth.scales[n][0] for n in term.names]])
        if term.correlations:
            R = np.eye(len(term.names))[None].copy()
            i, j = np.tril_indices(len(term.names), -1)
            R[:, i, j] = R[:, j, i] = truth.correlations[term.label]
            z[:] = partial_correlations(R)
    eta[:, -1] = np.log(truth.sigma)
    parts = variance_parts(model, observed_rows(model, rows), eta, truth.beta)
    out = shares(parts, [3])
    if not model.prior_precision.any():
        # Coefficients without a proper prior have no truth to average over.
        return {name: value[0] for name, value in out.items()}
    total = parts.fixed + parts.between + parts.residual
    out["R2_marginal"] = parts.fixed / total
    out["R2_conditional"] = (parts.fixed + parts.between) / total
    effects = [np.empty((1, f.levels, len(f.columns))) for f in model.design.factors]
    for term in model.parameters.terms:
        for place, name in zip(term.place, term.names, strict=True):
            effects[term.factor][:, :, place] = truth.effects[name]
    fitted = fitted_variance(model, rows, truth.beta, effects)
    out["R2_bayes"] = bayes_r2(fitted, parts.residual)
    return {name: value[0] for name, value in out.items()}


def distance(held, prob=0.95):
    """Distance of a coverage from nominal in standard errors under exact intervals."""
    several = not np.isin(held, (0.0, 1.0)).all()
    error = held.std(ddof=1) if several else np.sqrt(prob * (1 - prob))
    return float((held.mean() - prob) / (error / np.sqrt(len(held))))


@click.command()
@click.option("--simulations", default=1000, help="Data sets per design.")
@click.option("--seed", default=1)
def main(simulations, seed):
    worst = 0.0
    for design in DESIGNS:
        started = time.perf_counter()
        held = coverage(design, simulations, seed=seed)
        print(f"{design}: {simulations} data sets in {time.perf_counter() - started:.0f} s")
        for name, values in held.items():
            z = distance(values)
            worst = max(worst, abs(z))
            print(f"  {name:28} {values.mean():.3f}  z = {z:+.1f}")
    sys.exit(int(worst > 4))


if __name__ == "__main__":
    main()

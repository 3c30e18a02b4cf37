"""Exact draws against Gibbs': two algorithms that share no more than the model.

`python tests/fuzz/two_samplers.py --seed 0` compares them on every structure of grouping factors
under every kind of prior, on rows of that seed, and prints where they disagree. The tests compare
designs that differ in what the samplers do.
"""

from __future__ import annotations

import warnings

import click
import numpy as np
import pandas as pd
from arviz_stats.base import array_stats

from ranef.mixed_model.model import build_model
from ranef.samplers import SAMPLERS
from ranef.samplers.sample import PosteriorSample, SamplerSettings

STRUCTURES = {
    "correlated": "y ~ x + (x|g)",
    "independent": "y ~ x + (x||g)",
    "slope alone": "y ~ x + (0 + x|g)",
    "crossed": "y ~ x + (1|g) + (1|h)",
    "nested": "y ~ 1 + (1|h/g)",
    "factor": "y ~ f + (f|g)",
    "both": "y ~ x + (x|g) + (1|h)",
    "zero mean": "y ~ 0 + (1|g) + (1|h)",
}
PRIORS = {
    "half_t": {"sigma": "half_t(2)"},
    "inverse gamma": {
        "sigma": "variance(invgamma(2, scale=2))",
        "*": "variance(invgamma(2, scale=1))",
    },
    "expon": {"sigma": "expon(scale=2)", "*": "expon(scale=1)"},
    "shares": {"total_sigma": "half_t(3)", "shares": "dirichlet(1.5)"},
    "normal coefficients": {"sigma": "half_t(2)", "x": "norm(0.5, 0.3)", "Intercept": "norm(0, 2)"},
}
# An inverse Wishart needs a term with several correlated columns.
DESIGNS = [(s, p) for s in STRUCTURES for p in PRIORS]
DESIGNS += [(s, "wishart") for s in ("correlated", "factor", "both")]
# Keeps the chance of any false alarm among some 600 looks below 1%.
LIMIT = 4.5


def random_frame(seed: int) -> pd.DataFrame:
    """Rows of two grouping factors, a covariate and a factor."""
    rng = np.random.default_rng(seed)
    n = 120
    g, h = rng.integers(0, 12, n), rng.integers(0, 5, n)
    x = rng.normal(size=n)
    f = rng.choice(["a", "b"], n)
    y = 1 + 0.5 * x + rng.normal(size=12)[g] + 0.7 * rng.normal(size=5)[h] + rng.normal(size=n)
    y += 0.6 * rng.normal(size=12)[g] * x
    return pd.DataFrame({"y": y, "x": x, "f": f, "g": g, "h": h})


def sampled(structure: str, prior: str, seed: int = 0) -> tuple[PosteriorSample, PosteriorSample]:
    """Exact draws and Gibbs' of one design."""
    frame = random_frame(seed + _hash_of(structure, prior))
    formula = STRUCTURES[structure]
    label = "f|g" if structure == "factor" else "x|g"
    wishart = {"sigma": "half_t(2)", label: "invwishart(4, scale=[[2, 0.5], [0.5, 1]])"}
    given = dict(PRIORS.get(prior, wishart))
    names = build_model(formula, frame)[0]
    every = given.pop("*", None)
    if every:
        given |= {n: every for t in names.parameters.terms for n in t.names}
    given = {k: v for k, v in given.items() if k not in ("x", "Intercept") or k in names.names}
    model, _ = build_model(formula, frame, given)
    effects = tuple(n for t in model.parameters.terms for n in t.names)
    # A sweep of many chains takes hardly longer than one of few.
    few, many = (6000, 4, 0, (), False), (8000, 16, 400, effects, False)
    return (
        SAMPLERS["exact"](model, SamplerSettings(*few), np.random.default_rng(1)),
        SAMPLERS["gibbs"](model, SamplerSettings(*many), np.random.default_rng(2)),
    )


def quantities(sample: PosteriorSample) -> dict[str, np.ndarray]:
    """Every parameter but the effects, shape (chains, draws) each."""
    out = {"sigma": sample.sigma, **sample.scales}
    for name, values in sample.correlations.items():
        out |= {f"{name}{i}": values[..., i] for i in range(values.shape[2])}
    return out | {f"beta {j}": sample.beta[..., j] for j in range(sample.beta.shape[2])}


def gaps(exact: PosteriorSample, gibbs: PosteriorSample) -> dict[str, float]:
    """Differences of quantiles, and of effects' means and SDs, in Monte Carlo errors."""
    out, theirs = {}, quantities(gibbs)
    for name, draws in quantities(exact).items():
        pair = (draws, theirs[name])
        for prob in (0.1, 0.5, 0.9):
            errors = [
                array_stats.mcse(v, chain_axis=0, draw_axis=1, method="quantile", prob=prob)
                for v in pair
            ]
            ours, other = (np.quantile(v, prob) for v in pair)
            out[f"{name}, {prob:g} quantile"] = abs(ours - other) / np.hypot(*errors)
    for name, (mean, sd) in exact.moments.items():
        for level in range(0, len(mean), 4):
            draws = gibbs.effects[name][..., level]
            for ours, other, method in ((mean, draws.mean(), "mean"), (sd, draws.std(), "sd")):
                error = array_stats.mcse(draws, chain_axis=0, draw_axis=1, method=method)
                # Beside Gibbs's error, that of averaging over 6,000 draws of the variances.
                error = np.hypot(error, sd[level] / 50)
                out[f"{name}[{level}], {method}"] = abs(ours[level] - other) / error
    return {k: float(v) for k, v in out.items()}


def disagreements(exact: PosteriorSample, gibbs: PosteriorSample) -> list[str]:
    """What is further apart than chance allows."""
    return [f"{k}: {v:.1f} errors" for k, v in gaps(exact, gibbs).items() if v >= LIMIT]


def _hash_of(*words: str) -> int:
    return sum((i + 1) * ord(c) for i, c in enumerate("".join(words))) % 10_000


@click.command()
@click.option("--seed", default=0, show_default=True)
def main(seed: int) -> None:
    """Compare the samplers on every design and print where they disagree."""
    failed = 0
    warnings.simplefilter("ignore")
    for structure, prior in DESIGNS:
        found = disagreements(*sampled(structure, prior, seed))
        failed += bool(found)
        for line in found:
            click.echo(f"{structure}, {prior}: {line}")
    click.echo(f"{failed} of {len(DESIGNS)} designs failed.")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()

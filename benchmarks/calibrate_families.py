"""Simulation-based calibration of the families of `family=`.

`python benchmarks/calibrate_families.py --simulations 1000` draws parameters from priors, data from
the model, and ranks the truth among thinned draws of the posterior (Talts et al. 2018,
arXiv:1804.06788), for each family with one factor, with two crossed ones, and with slopes of their
own. Under exact draws ranks are uniform; the p-values are of chi-square tests in ten bins, one for
each coefficient, SD and parameter of the family. A negative control ranks the parameters that made
other data.
"""

from __future__ import annotations

import time
import warnings

import click
import numpy as np
import pandas as pd
from scipy import stats

import ranef as rf
from ranef.families.table import FAMILIES, find_family
from ranef.priors import parse_prior

PRIORS = {"Intercept": "norm(0, 1)", "x": "norm(0, 1)"}
SDS = {"1|g": "half_t(0.7, df=7)", "1|h": "half_t(0.7, df=7)", "x|g": "half_t(0.5, df=7)"}
STRUCTURES = {
    "one factor": ("y ~ x + (1|g)", ("1|g",)),
    "crossed": ("y ~ x + (1|g) + (1|h)", ("1|g", "1|h")),
    "slopes": ("y ~ x + (x||g)", ("1|g", "x|g")),
}
RANKED, BINS = 99, 10


def simulate(family, effects: tuple[str, ...], rng: np.random.Generator):
    """Data of 8 groups of 6 rows and what they were made with."""
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 6), "h": np.tile(np.arange(6), 8)})
    frame["x"] = rng.permutation(np.tile([-1.0, 0.0, 1.0], 16))
    truth = {name: float(rng.standard_normal()) for name in PRIORS}
    eta = truth["Intercept"] + truth["x"] * frame.x.to_numpy()
    for name in effects:
        prior = parse_prior(SDS[name])
        sd = float(prior.rvs(random_state=rng))
        b = sd * rng.standard_normal(8)
        column, factor = name.split("|")
        eta = eta + b[frame[factor]] * (frame.x if column == "x" else 1.0)
        truth[f"{name}_sigma"] = sd
    own = ()
    for name in family.dispersions:
        truth[name] = float(parse_prior("lognorm(0.7, scale=3)").rvs(random_state=rng))
        own += (np.array([truth[name]]),)
    n = np.full((48, 1), 4.0 if family.takes_trials else 1.0)
    frame["y"] = family.draw(np.asarray(eta)[:, None], n, own, rng)[:, 0]
    frame["n"] = 4
    return frame, truth


def ranks_of(family, formula: str, effects: tuple[str, ...], seed: int) -> dict[str, int]:
    """Rank of each parameter, and of one of other data, among thinned draws."""
    rng = np.random.default_rng(seed)
    frame, truth = simulate(family, effects, rng)
    _, other = simulate(family, effects, rng)
    priors = PRIORS | {name: SDS[name] for name in effects}
    priors |= dict.fromkeys(family.dispersions, "lognorm(0.7, scale=3)")
    trials = "n" if family.takes_trials else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rf.fit(
            formula,
            frame,
            family=family.name,
            trials=trials,
            priors=priors,
            draws=1000,
            seed=seed,
            progress=False,
        )
    posterior = fit.draws["posterior"]
    out = {}
    for name, value in truth.items():
        drawn = posterior[name].to_numpy().ravel()
        thin = drawn[:: len(drawn) // RANKED][:RANKED]
        out[name] = int((thin < value).sum())
        out[f"{name} (control)"] = int((thin < other[name]).sum())
    out["trusted"] = int(fit.certificate.trusted)
    return out


@click.command()
@click.option("--simulations", default=1000)
@click.option("--families", default=",".join(FAMILIES))
@click.option("--structures", default=",".join(STRUCTURES))
def main(simulations: int, families: str, structures: str) -> None:
    """Rank, test and print a line for each family and structure."""
    for name in families.split(","):
        for structure in structures.split(","):
            begin = time.process_time()
            formula, effects = STRUCTURES[structure]
            family = find_family(name)
            rows = [ranks_of(family, formula, effects, seed) for seed in range(simulations)]
            table = pd.DataFrame(rows)
            trusted = int(table.pop("trusted").sum())
            p = {}
            for column in table:
                count = np.bincount(table[column] * BINS // (RANKED + 1), minlength=BINS)
                p[column] = stats.chisquare(count).pvalue
            own = {k: v for k, v in p.items() if "control" not in k}
            control = min(v for k, v in p.items() if "control" in k)
            click.echo(
                f"{name}, {structure}: {simulations} simulations, {trusted} trusted, smallest p "
                f"{min(own.values()):.3f} of {len(own)} ({min(own, key=own.get)}), control "
                f"{control:.1e}, {time.process_time() - begin:.0f} s"
            )


if __name__ == "__main__":
    main()

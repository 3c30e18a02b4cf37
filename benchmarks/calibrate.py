"""Calibrate every engine on every structure of the package, under every family of priors.

`make calibrate`, or `python benchmarks/calibrate.py --simulations 1000 --processes 2`. One line for
each cell of the grid, with the processor time of this process and its workers; exit code 1 if any
sampler fails. The article's sampler as printed comes last and has to fail. With `--folder` an
interrupted run goes on where it stopped. By default each structure meets two families of priors and
each family several structures; `--full` runs them all.
Gibbs' chains start at the truth, which makes ranks exactly uniform after a few sweeps; that their
own starts and warm-ups lead to the same draws is for the tests. `--only "exact hard"` runs exact
draws of the structures with several factors or columns, which are moved on, or annealed, where
proposals fall short.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

import ranef as rf
from ranef.article import gibbs
from ranef.samplers import SAMPLERS


@dataclass(frozen=True)
class Cell:
    """One structure under one family of priors."""

    structure: str
    family: str


STRUCTURES = {
    "zero mean": "y ~ 0 + (1|g)",
    "random intercept": "y ~ 1 + (1|g)",
    "covariates": "y ~ x + f + (1|g)",
    "weights": "y ~ x + (1|g)",
    "correlated slopes": "y ~ x + (x|g)",
    "independent slopes": "y ~ x + (x||g)",
    "factor by group": "y ~ f + (f|g)",
    "nested": "y ~ 1 + (1|h/g)",
    "crossed, small rest": "y ~ x + (1|g) + (1|h)",
    "crossed, Schur": "y ~ 1 + (1|a) + (1|b)",
    "known errors": "y ~ x + (1|g)",
}
FAMILIES = {
    "half_t": lambda s: f"half_t({s})",
    "inverse gamma": lambda s: f"variance(invgamma(3, scale={2 * s * s}))",
    "exponential": lambda s: f"expon(scale={s})",
    "lognormal": lambda s: f"lognorm(0.7, scale={s})",
    "uniform": lambda s: f"uniform(0, {2 * s})",
    "half-normal": lambda s: f"halfnorm(scale={s})",
    "gamma": lambda s: f"gamma(2, scale={s / 2})",
}
# Each structure under two families, each family under several structures.
GRID = [
    Cell(structure, list(FAMILIES)[(i + step) % len(FAMILIES)])
    for i, structure in enumerate(STRUCTURES)
    for step in (0, 3)
]
FULL = [Cell(structure, family) for structure in STRUCTURES for family in FAMILIES]
# Priors that join several standard deviations.
JOINT = [
    Cell("random intercept", "shares"),
    Cell("correlated slopes", "shares"),
    Cell("crossed, small rest", "shares"),
    Cell("correlated slopes", "wishart"),
]
# Structures of up to eleven variance parameters, each under one family.
HARD = {
    "hard (x|g)": "y ~ x + (x|g)",
    "hard (x|g) + (1|h)": "y ~ x + (x|g) + (1|h)",
    "hard (x||g) + (x||h)": "y ~ x + (x||g) + (x||h)",
    "hard (x + z|g)": "y ~ x + z + (x + z|g)",
    "hard (x * z|g) + (1|h)": "y ~ x * z + (x * z|g) + (1|h)",
    "hard known errors": "y ~ x + (x|g) + (1|h)",
}
MANY = [Cell(structure, "half_t") for structure in HARD]
MANY += [Cell("hard (x|g) + (1|h)", family) for family in ("uniform", "shares")]
GRID, FULL = GRID + JOINT + MANY, FULL + JOINT + MANY
# Draws among which the truth is ranked; every sampler of the package has to be here.
DRAWS = {"exact": 99, "gibbs": 19}


def frame(structure: str) -> pd.DataFrame:
    """Make an unbalanced design; the response only has to exist."""
    rng = np.random.default_rng(8)
    n = 300 if structure == "crossed, Schur" else 90 if structure in HARD else 60
    data = {
        "g": rng.integers(0, 9, n),
        "h": rng.integers(0, 5, n),
        "a": rng.integers(0, 80, n),
        "b": rng.integers(0, 70, n),
        "x": 0.3 + rng.normal(size=n),
        "f": rng.choice(["u", "v"], n),
        "w": rng.uniform(0.5, 3, n),
        "y": rng.normal(size=n),
        "z": rng.normal(size=n),
    }
    return pd.DataFrame(data)


def model_of(cell: Cell) -> rf.MixedModel:
    """Make the model of a cell, with normal priors on coefficients in half of them."""
    formula, data = (STRUCTURES | HARD)[cell.structure], frame(cell.structure)
    prior = FAMILIES.get(cell.family, FAMILIES["half_t"])
    rows: dict[str, str] = {}
    if "known errors" in cell.structure:
        rows = {"se": "w"}
    elif cell.structure == "weights":
        rows = {"weights": "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rf.IdentifiabilityWarning)
        warnings.simplefilter("ignore", rf.NestingWarning)
        bare = rf.model(formula, data, **rows).priors
        if cell.family == "shares":
            given = {"total_sigma": "half_t(2)", "shares": "dirichlet(1.5)"}
            return rf.model(formula, data, priors=given, **rows)
        if cell.family == "wishart":
            given = {"sigma": "half_t(1)", "x|g": "invwishart(5, scale=[[3, 0.5], [0.5, 2]])"}
            return rf.model(formula, data, priors=given, **rows)
        priors: dict[str, Any] = {} if "se" in rows else {"sigma": prior(1)}
        priors |= {name: prior(1.5) for name in bare if "|" in name and not name.endswith("_corr")}
        priors |= {name: "lkj(2)" for name in bare if name.endswith("_corr")}
        if cell.family in ("half_t", "exponential", "uniform"):
            priors |= {n: "norm(0.5, 1)" for n in bare if n != "sigma" and "|" not in n}
        return rf.model(formula, data, priors=priors, **rows)


def processor_time() -> float:
    """Seconds that this process and the workers that have ended have worked."""
    return float(sum(os.times()[:4]))


ARTICLE = {"a_sigma_e": 3.0, "b_sigma_e": 2.0, "a_sigma_x": 2.0, "b_sigma_x": 4.0}


def simulate_article(rng: np.random.Generator) -> tuple[dict[str, float], np.ndarray]:
    """Variances from proper inverse-gamma priors; 20 signals, two measurements of each."""
    e, x = 2 / rng.gamma(3), 4 / rng.gamma(2)
    signal = rng.normal(0, np.sqrt(x), (20, 1))
    return {"sigma2_e": e, "sigma2_x": x}, signal + rng.normal(0, np.sqrt(e), (20, 2))


def fit_printed(W: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Run the sampler as the article prints it."""
    return _fit_article(W, rng, "printed")


def fit_corrected(W: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Run the sampler with the conditional that follows from the model."""
    return _fit_article(W, rng, "corrected")


def _fit_article(W: np.ndarray, rng: np.random.Generator, conditional: Any) -> dict[str, Any]:
    made = gibbs(W, conditional, draws=1200, burn_in=210, seed=rng, progress=False, **ARTICLE).draws
    return {k: made[k].to_numpy()[0] for k in ("sigma2_e", "sigma2_x")}


def article_log_likelihood(parameters: dict[str, float], W: np.ndarray) -> float:
    """Log likelihood of the two variances, signals integrated out."""
    e, x = parameters["sigma2_e"], parameters["sigma2_x"]
    mean, half = W.mean(axis=1), W[:, 0] - W[:, 1]
    wide = x + e / 2
    fit = (mean @ mean) / wide + (half @ half) / (2 * e)
    return float(-0.5 * len(W) * np.log(wide * e) - 0.5 * fit)


@click.command()
@click.option("--simulations", default=1000, show_default=True)
@click.option("--processes", default=2, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--only", default="", help="Cells whose line holds this text.")
@click.option("--full", is_flag=True, help="Every structure under every family.")
@click.option("--folder", type=click.Path(path_type=Path), default=None, help="For checkpoints.")
def main(
    simulations: int, processes: int, seed: int, only: str, full: bool, folder: Path | None
) -> None:
    """Print one line for each cell: processor seconds, smallest p-value, verdict."""
    cells = [(method, c) for method in SAMPLERS for c in (FULL if full else GRID)]
    # One error rate for the whole grid.
    share = 0.01 / (len(cells) + 1)
    wrong = 0

    def report(line: str, right: bool, start: float, made: rf.Calibration) -> None:
        seconds = processor_time() - start
        message = "passed" if made.passed else "FAILED" if not right else "failed, as it has to"
        click.echo(f"{line:60s} {seconds:6.1f} s  p {made.adjusted.min():.4f}  {message}")
        if not right:
            click.echo(f"    {made.verdict}")

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    for method, cell in cells:
        line = f"{method} {cell.structure}, {cell.family}"
        if only not in line:
            continue
        start = processor_time()
        try:
            made = rf.calibrate(
                model_of(cell), simulations, method=method, draws=DRAWS[method],
                start="own" if method == "exact" else "truth", error_rate=share,
                processes=processes, seed=seed,
                file=None if folder is None else folder / f"{line}.npz", progress=False,
            )  # fmt: skip
        except Exception as error:
            wrong += 1
            notes = " ".join(getattr(error, "__notes__", []))
            click.echo(f"{line:60s} {type(error).__name__}: {error}. {notes}")
            continue
        wrong += not made.passed
        report(line, made.passed, start, made)
    for fit, passes in ((fit_corrected, True), (fit_printed, False)):
        if only not in fit.__name__:
            continue
        start = processor_time()
        made = rf.calibrate(
            fit, min(simulations, 100), simulate=simulate_article, seed=seed, error_rate=share,
            log_likelihood=article_log_likelihood, processes=processes, progress=False,
        )  # fmt: skip
        wrong += made.passed != passes
        report(f"article {fit.__name__}, 100 simulations", made.passed == passes, start, made)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

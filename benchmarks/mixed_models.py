"""Time exact posteriors of mixed models beside lme4's point estimates, and brms, in one run.

`python benchmarks/mixed_models.py DATA`, DATA a folder with sleepstudy.csv, Penicillin.csv,
Pastes.csv and InstEval.csv as lme4 ships them, and, where it has them, reaction_times.csv with the
columns rt, x, SOA, Congruency, Group, subj, Item and Accuracy. lme4 takes part where Rscript and it
are installed (Debian: r-cran-lme4), brms on one model with `--brms` (r-cran-brms, r-cran-bh, g++;
minutes). Each fit of ours is 4,000 draws with the means and SDs of all effects. Seconds are the
processor's, medians of fits in turn with lme4's; ESS are the smallest of bulk and of tails.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd

import ranef as rf
from ranef.data.tables import read_table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One model of one data set: so many fits in each round."""

    data: str
    formula: str
    factors: tuple[str, ...]
    fits: int = 5
    rounds: int = 3
    reml: bool = True


CASES = (
    Case("sleepstudy", "Reaction ~ Days + (1|Subject)", ("Subject",)),
    Case("sleepstudy", "Reaction ~ Days + (Days||Subject)", ("Subject",)),
    Case("sleepstudy", "Reaction ~ Days + (Days|Subject)", ("Subject",)),
    Case("Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)", ("plate", "sample")),
    Case("Pastes", "strength ~ 1 + (1|batch/cask)", ("batch", "cask")),
    Case(
        "InstEval",
        "y ~ service + (1|s) + (1|d) + (1|dept:service)",
        ("s", "d", "dept", "service"),
        fits=1,
        rounds=1,
        reml=False,
    ),
)
REACTION = tuple(
    Case("reaction_times", formula, ("subj", "Item"), fits=1)
    for formula in (
        "rt ~ x * SOA + (x * SOA|subj) + (1|Item)",
        "rt ~ x * SOA + (x * SOA||subj) + (x||Item)",
        "rt ~ Congruency + (Congruency|subj) + (1|Item)",
        "rt ~ Congruency * SOA + Group + (Congruency|subj) + (1|Item)",
        "rt ~ A * B + (A * B|subj) + (A * B|Item)",
    )
)


def read(case: Case, folder: Path) -> pd.DataFrame:
    """The data of a case; of reaction times the right answers, both conditions as -.5 and .5."""
    frame = read_table(folder / f"{case.data}.csv")
    if case.data == "reaction_times":
        frame = frame[frame["Accuracy"] == 1].dropna()
        frame["A"], frame["B"] = frame["x"], np.where(frame["SOA"] == frame["SOA"].min(), -0.5, 0.5)
    for name in case.factors:
        frame[name] = frame[name].astype(str).astype("category")
    return frame


def ours(case: Case, frame: pd.DataFrame, seeds: range) -> list[tuple[float, rf.Fit]]:
    """Processor seconds of fits whose data are in memory, and the fits."""
    out = []
    for seed in seeds:
        start = time.process_time()
        fit = rf.fit(case.formula, frame, seed=seed, progress=False)
        out.append((time.process_time() - start, fit))
    return out


def rscript(script: str, *arguments: str) -> list[float]:
    """The numbers in the last line that an R script prints; none without R or its packages."""
    if shutil.which("Rscript") is None:
        return []
    call = ["Rscript", str(HERE / script), *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() if done.returncode == 0 else []
    return [float(word) for word in lines[-1].split()] if lines else []


def compare(case: Case, folder: Path) -> str:
    """One line: ours and lmer's, in turn."""
    frame, times, fits, theirs = read(case, folder), [], [], []
    if case.fits > 1:
        rf.fit(case.formula, frame, seed=0, progress=False)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "data.csv"
        frame.to_csv(file, index=False)
        for i in range(case.rounds):
            for seconds, fit in ours(case, frame, range(i * case.fits, (i + 1) * case.fits)):
                times.append(seconds)
                fits.append(fit.certificate)
            theirs += rscript(
                "mixed_models.R", str(file), case.formula, str(case.fits),
                ",".join(case.factors), str(case.reml).upper(),
            )  # fmt: skip
    mine = statistics.median(times)
    bulk, tail = min(c.ess for c in fits), min(c.ess_tail for c in fits)
    trusted = sum(c.trusted for c in fits)
    name = f"{case.data}: {case.formula}"
    line = f"{name:76s} {mine:8.3f} {bulk:6.0f} {tail:6.0f} {min(bulk, tail) / mine:8.0f}"
    line += f" {trusted:3d}/{len(fits):<3d}"
    if theirs:
        other = statistics.median(theirs)
        line += f" {other:8.3f} {mine / other:6.2f}"
    return line


def brms(case: Case, folder: Path) -> str:
    """One line: brms with its own priors, chains and compilation."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "data.csv"
        read(case, folder).to_csv(file, index=False)
        numbers = rscript("brms.R", str(file), case.formula, ",".join(case.factors))
    if not numbers:
        return "brms: not installed, or no compiler (Debian: r-cran-brms, r-cran-bh, g++)"
    total, sampling, bulk, tail = numbers
    least = min(bulk, tail)
    return (
        f"brms on {case.formula}: {total:.0f} s in all, {sampling:.0f} s without compilation; "
        f"ESS {bulk:.0f} bulk, {tail:.0f} tail; ESS/s {least / total:.1f} in all, "
        f"{least / sampling:.1f} without compilation"
    )


def many_groups(groups: int = 100_000) -> tuple[float, rf.Fit]:
    """A million rows, 100,000 groups, a random slope."""
    rng = np.random.default_rng(1)
    count = rng.integers(5, 16, groups)
    g = np.repeat(np.arange(groups), count)
    x = rng.normal(size=len(g))
    b = rng.multivariate_normal([0, 0], [[1, 0.3], [0.3, 0.5]], groups)
    y = 2 + x + b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    frame = pd.DataFrame({"y": y, "x": x, "g": g})
    start = time.process_time()
    fit = rf.fit("y ~ x + (x|g)", frame, seed=1, progress=False)
    return time.process_time() - start, fit


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--brms", "with_brms", is_flag=True, help="Fit the first reaction-time model by it.")
def main(folder: Path, with_brms: bool) -> None:
    """Print one line for each model: seconds, ESS, trusted fits, lmer's seconds, their ratio."""
    header = f"{'ranef s':>8s} {'bulk':>6s} {'tail':>6s} {'ESS/s':>8s} {'trusted':>7s}"
    click.echo(f"{'model':76s} {header} {'lmer s':>8s} {'ratio':>6s}")
    reaction = REACTION if (folder / "reaction_times.csv").exists() else ()
    for case in (*CASES, *reaction):
        click.echo(compare(case, folder))
    if with_brms and reaction:
        click.echo(brms(reaction[0], folder))
    seconds, fit = many_groups()
    click.echo(f"100,000 groups, a million rows: y ~ x + (x|g): {seconds:.3f} s, {fit.certificate}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    click.echo(f"peak memory of this process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()

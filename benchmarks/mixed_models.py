"""Time exact posteriors of mixed models beside lme4's point estimates, in one run.

`python benchmarks/mixed_models.py DATA`, DATA a folder with sleepstudy.csv, Penicillin.csv,
Pastes.csv and InstEval.csv as lme4 ships them. lme4 takes part where Rscript and it are installed
(Debian: r-cran-lme4). Each fit of ours is 4,000 draws with the means and SDs of all effects.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
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
    """One model of one data set."""

    data: str
    formula: str
    factors: tuple[str, ...]
    repeats: int
    reml: bool = True


CASES = (
    Case("sleepstudy", "Reaction ~ Days + (1|Subject)", ("Subject",), 20),
    Case("sleepstudy", "Reaction ~ Days + (Days||Subject)", ("Subject",), 20),
    Case("sleepstudy", "Reaction ~ Days + (Days|Subject)", ("Subject",), 20),
    Case("Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)", ("plate", "sample"), 20),
    Case("Pastes", "strength ~ 1 + (1|batch/cask)", ("batch", "cask"), 20),
    Case(
        "InstEval",
        "y ~ service + (1|s) + (1|d) + (1|dept:service)",
        ("s", "d", "dept", "service"),
        1,
        reml=False,
    ),
)


def ours(case: Case, folder: Path) -> tuple[float, rf.Fit]:
    """Median seconds of a fit whose data are in memory, and the last fit."""
    frame = read_table(folder / f"{case.data}.csv")
    for name in case.factors:
        frame[name] = frame[name].astype(str).astype("category")
    times = []
    if case.repeats > 1:
        rf.fit(case.formula, frame, seed=0)
    for i in range(case.repeats):
        start = time.perf_counter()
        fit = rf.fit(case.formula, frame, seed=i)
        times.append(time.perf_counter() - start)
    return statistics.median(times), fit


def lmer(case: Case, folder: Path) -> float | None:
    """Median seconds of lmer on the same data, or None without R."""
    if shutil.which("Rscript") is None:
        return None
    done = subprocess.run(
        [
            "Rscript", str(HERE / "mixed_models.R"), str(folder / f"{case.data}.csv"), case.formula,
            str(case.repeats), ",".join(case.factors), str(case.reml).upper(),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return float(done.stdout.split()[-1]) if done.returncode == 0 and done.stdout else None


def many_groups(groups: int = 100_000) -> tuple[float, rf.Fit]:
    """A million rows, 100,000 groups, a random slope."""
    rng = np.random.default_rng(1)
    count = rng.integers(5, 16, groups)
    g = np.repeat(np.arange(groups), count)
    x = rng.normal(size=len(g))
    b = rng.multivariate_normal([0, 0], [[1, 0.3], [0.3, 0.5]], groups)
    y = 2 + x + b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    frame = pd.DataFrame({"y": y, "x": x, "g": g})
    start = time.perf_counter()
    fit = rf.fit("y ~ x + (x|g)", frame, seed=1)
    return time.perf_counter() - start, fit


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Print one line per model: ours, lmer, ratio, and the certificate."""
    click.echo(f"{'model':62s} {'ranef':>9s} {'lmer':>9s} {'ratio':>6s}  certificate")
    for case in CASES:
        mine, fit = ours(case, folder)
        theirs = lmer(case, folder)
        ratio = "" if theirs is None else f"{mine / theirs:.2f}"
        other = "none" if theirs is None else f"{theirs:.3f} s"
        name = f"{case.data}: {case.formula}"
        click.echo(f"{name:62s} {mine:7.3f} s {other:>9s} {ratio:>6s}  {fit.certificate}")
    seconds, fit = many_groups()
    click.echo(f"{'100,000 groups, a million rows: y ~ x + (x|g)':62s} {seconds:7.3f} s")
    click.echo(f"{'':62s} {fit.certificate}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    click.echo(f"peak memory of this process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()

"""Other families beside rstanarm: effective draws per second of the worst parameter.

`python benchmarks/families.py DATA` with a folder of the CSV files in `tests/reference/families/`.
Needs R with rstanarm; each fit of ours in this process, each of rstanarm's (four chains of 2,000
sweeps, half of them warm-up, one core, its compiled model) in one of its own, R's start left out.
Priors of coefficients are the same; on covariances rstanarm has its own.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

import ranef as rf

HERE = Path(__file__).parent


def cbpp(data: Path) -> tuple[pd.DataFrame, str, str, str]:
    frame = pd.read_csv(data / "cbpp.csv")
    for period in (2, 3, 4):
        frame[f"p{period}"] = 1.0 * (frame.period == period)
    fixed = "p2 + p3 + p4 + (1|herd)"
    r = f"cbind(incidence, size - incidence) ~ {fixed}"
    return frame, f"p(incidence, size) ~ {fixed}", r, "binomial"


def epil(data: Path) -> tuple[pd.DataFrame, str, str, str]:
    frame = pd.read_csv(data / "epil.csv")
    frame["lb"] = np.log(frame.base / 4) - np.log(frame.base / 4).mean()
    frame["la"] = np.log(frame.age) - np.log(frame.age).mean()
    frame["progabide"] = 1.0 * (frame.trt == "progabide")
    formula = "y ~ lb * progabide + la + V4 + (1|subject)"
    return frame, formula, formula, "poisson"


def epil_nb(data: Path) -> tuple[pd.DataFrame, str, str, str]:
    return *epil(data)[:3], "negativebinomial"


def contraception(data: Path) -> tuple[pd.DataFrame, str, str, str]:
    frame = pd.read_csv(data / "contraception.csv")
    frame["y"], frame["u"] = 1.0 * (frame.use == "Y"), 1.0 * (frame.urban == "Y")
    frame["a"], frame["children"] = frame.age / 10, 1.0 * (frame.livch != "0")
    formula = "y ~ a + I(a^2) + u + children + (1|district)"
    return frame, formula.replace("^", "**"), formula, "bernoulli"


def salamander(data: Path) -> tuple[pd.DataFrame, str, str, str]:
    frame = pd.read_csv(data / "salamander.csv")
    for cross in ("R/W", "W/R", "W/W"):
        frame[cross.replace("/", "")] = 1.0 * (frame.Cross == cross)
    formula = "Mate ~ RW + WR + WW + (1|Female) + (1|Male)"
    return frame, formula, formula, "bernoulli"


def toenail(data: Path) -> tuple[pd.DataFrame, str, str, str]:
    frame = pd.read_csv(data / "toenail.csv")
    frame["terbinafine"] = 1.0 * (frame.treatment == "terbinafine")
    frame["y"] = 1.0 * (frame.outcome == "moderate or severe")
    formula = "y ~ terbinafine * time + (1|patientID)"
    return frame, formula, formula, "bernoulli"


CASES = {f.__name__: f for f in (cbpp, epil, epil_nb, contraception, salamander, toenail)}


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--which", default=",".join(CASES))
def main(data: Path, which: str) -> None:
    """Fit each data set by both and print a line."""
    for name in which.split(","):
        frame, ours, theirs, family = CASES[name](data)
        rf.fit(ours, frame, family=family, draws=100, seed=0, progress=False)  # imports done
        begin = time.perf_counter()
        fit = rf.fit(ours, frame, family=family, seed=1, progress=False)
        seconds = time.perf_counter() - begin
        ess = fit.certificate.ess
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.csv"
            frame.to_csv(path, index=False)
            done = subprocess.run(
                ["Rscript", str(HERE / "families.R"), str(path), theirs, family],
                capture_output=True,
                text=True,
                check=True,
            )
        other, their_ess = map(float, done.stdout.split()[-2:])
        click.echo(
            f"{name}: ranef {seconds:.2f} s, ESS {ess:.0f}, {ess / seconds:.0f} a second; "
            f"rstanarm {other:.1f} s, ESS {their_ess:.0f}, {their_ess / other:.1f} a second; "
            f"ratio {ess / seconds / (their_ess / other):.0f}"
        )


if __name__ == "__main__":
    main()

"""Times the article's model: exact draws, the Gibbs sampler, R, JAGS and the start of Python."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy import stats

import ranef
from ranef.article import exact, gibbs, simulate
from ranef.mixed_model.model import build_model
from ranef.samplers.exact import sample_exact
from ranef.samplers.sample import SamplerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ranef.mixed_model.model import ModelSpec

    Array = NDArray[np.float64]
    Parameter = Literal["sigma2_e", "sigma2_x"]
    Calls = dict[str, Callable[[], Any]]
    Times = dict[str, list[float]]
    # What an R file printed: a word and its numbers, line by line.
    Printed = dict[str, list[float]]

HERE = Path(__file__).parent
DRAWS = 10_000
PARAMETERS: tuple[Parameter, ...] = ("sigma2_e", "sigma2_x")
INSTALL = "apt-get install jags r-cran-rjags"
FIRST_DRAWS = "from ranef.article import exact, simulate; exact(simulate())"
# How much longer n = 100,000 may take than n = 100 and still be called the same: about what
# medians of such short times differ by from run to run.
SAME = 1.25


@dataclass(frozen=True)
class Claim:
    """A target beside what was measured, both as a number; measured is None where it was not."""

    text: str
    target: float
    measured: float | None
    show: Callable[[float], str]
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None where nothing was measured."""
        if self.measured is None:
            return None
        return self.measured >= self.target if self.at_least else self.measured <= self.target


# -- measuring ---------------------------------------------------------------------------------


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def take_turns(calls: Calls, repeats: int) -> Times:
    """Time every call `repeats` times, after one round that does not count.

    The calls take turns, so that a busy moment of the machine falls on all of them.
    """
    for call in calls.values():
        call()
    times: Times = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return times


def measurements(n: int) -> Array:
    """Simulate the article's first scenario with n signals, row by row in memory as users have."""
    return np.ascontiguousarray(simulate(n))


def compressed(W: Array) -> ModelSpec:
    """Build the article's model from a long table, so that drawing can be timed alone."""
    n, J = W.shape
    prior = ranef.variance(stats.invgamma(0.1, scale=1))
    table = {"W": W.ravel(), "i": np.repeat(np.arange(n), J)}
    return build_model("W ~ 0 + (1|i)", table, {"sigma": prior, "1|i": prior})[0]


def posterior_calls(sizes: Sequence[int]) -> Calls:
    """Whole posterior of both variances from the data matrix."""
    return {
        f"exact, from the data, n = {n:,}": partial(exact, measurements(n), draws=DRAWS, seed=1)
        for n in sizes
    }


def drawing_calls(sizes: Sequence[int]) -> Calls:
    """Whole posterior of both variances from a model that has already seen the data."""
    request = SamplerSettings(
        draws=DRAWS, chains=1, warmup=0, effects=(), progress=False, moments=False
    )
    rng = np.random.default_rng(1)
    return {
        f"exact, drawing alone, n = {n:,}": partial(
            sample_exact, compressed(measurements(n)), request, rng
        )
        for n in sizes
    }


def signal_calls(n: int) -> Calls:
    """All draws of all signals, beside nothing but that many normal numbers."""
    numbers = np.empty(DRAWS * n)
    rng = np.random.default_rng(1)
    return {
        f"exact, every X, n = {n:,}": partial(exact, measurements(n), draws=DRAWS, X=True, seed=1),
        f"floor: {DRAWS * n:,} normals": partial(rng.standard_normal, out=numbers),
    }


def gibbs_calls(sizes: Sequence[int]) -> Calls:
    return {
        f"Gibbs in NumPy, {conditional}, n = {n:,}": partial(
            gibbs, measurements(n), conditional, draws=DRAWS, seed=1, progress=False
        )
        for n in sizes
        for conditional in ("printed", "corrected")
    }


def start_calls() -> tuple[Calls, list[str]]:
    """Commands that start Python, and a note for each that does not run."""
    commands = {
        "python, nothing imported": [sys.executable, "-c", "pass"],
        "import ranef": [sys.executable, "-c", "import ranef"],
        "import ranef.article": [sys.executable, "-c", "import ranef.article"],
        "import and first exact draws": [sys.executable, "-c", FIRST_DRAWS],
    }
    notes = []
    script = shutil.which("ranef", path=str(Path(sys.executable).parent))
    if script is None:
        notes.append("ranef --help was not measured: no ranef script beside this Python.")
    elif not runs([script, "--help"]):
        notes.append("ranef --help was not measured: it ends with an error.")
    else:
        commands["ranef --help"] = [script, "--help"]
    return {name: partial(runs, command) for name, command in commands.items()}, notes


def runs(command: Sequence[str]) -> bool:
    """Run a command without its output and tell whether it succeeded."""
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0


# -- R and JAGS --------------------------------------------------------------------------------


def run_r(script: str, csv: Path) -> Printed:
    """Run one of the R files beside this one and read the lines meant for this script."""
    done = subprocess.run(
        ["Rscript", "--vanilla", str(HERE / script), str(csv), str(DRAWS)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"{script} failed:\n{done.stderr.strip()}")
    lines = [line.split() for line in done.stdout.splitlines()]
    expected = ("seconds", "unkept", *PARAMETERS)
    return {w[0]: [float(v) for v in w[1:]] for w in lines if w and w[0] in expected}


def available_r() -> tuple[dict[str, str], list[str]]:
    """R files that can run here, by name, and a note for each that cannot."""
    if shutil.which("Rscript") is None:
        return {}, [f"R and JAGS were not measured: Rscript was not found ({INSTALL})."]
    scripts = {"R, the article's code": "article_gibbs.R"}
    if runs(["Rscript", "--vanilla", "-e", "library(rjags)"]):
        return {**scripts, "JAGS, every X": "article_jags.R"}, []
    return scripts, [f"JAGS was not measured: rjags does not load ({INSTALL})."]


def measure_r(
    scripts: dict[str, str], sizes: Sequence[int], repeats: int
) -> tuple[Times, dict[str, Printed]]:
    """Time R's side inside R; what each printed last comes along for its means."""
    times: Times = {}
    last: dict[str, Printed] = {}
    with tempfile.TemporaryDirectory() as folder:
        for n in sizes:
            csv = Path(folder) / f"W{n}.csv"
            # 17 digits give every number back exactly.
            np.savetxt(
                csv, measurements(n), fmt="%.17g", delimiter=",", header="W1,W2", comments=""
            )
            for _ in range(repeats):
                for name, script in scripts.items():
                    key = f"{name}, n = {n:,}"
                    last[key] = run_r(script, csv)
                    times.setdefault(key, []).extend(last[key]["seconds"])
                    if "unkept" in last[key]:
                        times.setdefault(f"JAGS, no X kept, n = {n:,}", []).extend(
                            last[key]["unkept"]
                        )
    return times, last


# -- showing -----------------------------------------------------------------------------------


def duration(value: float) -> str:
    return f"{value * 1e3:.2f} ms" if value < 0.1 else f"{value:.3f} s"


def factor(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def plain_table(title: str, *columns: str) -> Table:
    """Make a table with text on the left of the first column and numbers on the right."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def times_table(times: Times) -> Table:
    table = plain_table(f"Wall time, {DRAWS:,} draws or sweeps", "", "median", "fastest", "runs")
    for name, values in times.items():
        table.add_row(name, duration(median(values)), duration(min(values)), str(len(values)))
    return table


def ratio(times: Times, above: str, below: str) -> float | None:
    """Ratio of two medians; None where one was not measured."""
    if above not in times or below not in times:
        return None
    return median(times[above]) / median(times[below])


def ratios_table(times: Times) -> Table:
    """Every ratio whose two sides were measured."""
    table = plain_table("Ratios of medians", "", "ratio")
    floor = next(name for name in times if name.startswith("floor"))
    pairs = [
        ("exact, from the data, n = 100,000", "exact, from the data, n = 100"),
        ("exact, drawing alone, n = 100,000", "exact, drawing alone, n = 100"),
        ("exact, every X, n = 1,000", floor),
        ("JAGS, every X, n = 1,000", "exact, every X, n = 1,000"),
        # Unequal on purpose: JAGS keeps no draw of X here, so no cost of storing is in its time.
        ("JAGS, no X kept, n = 1,000", "exact, every X, n = 1,000"),
        ("R, the article's code, n = 100", "Gibbs in NumPy, printed, n = 100"),
        ("R, the article's code, n = 1,000", "Gibbs in NumPy, printed, n = 1,000"),
    ]
    for above, below in pairs:
        value = ratio(times, above, below)
        if value is not None:
            table.add_row(f"{above} / {below}", factor(value))
    return table


def means_table(jags: dict[str, Printed], sizes: Sequence[int]) -> Table:
    """JAGS's means beside the exact ones, and how many Monte Carlo errors they are apart."""
    table = plain_table(
        "Posterior means", "", "JAGS", "Monte Carlo error", "exact, by quadrature", "errors apart"
    )
    for n in sizes:
        true = exact(measurements(n), seed=1)
        for parameter in PARAMETERS:
            got, error = jags[f"JAGS, every X, n = {n:,}"][parameter]
            mean = true.mean(parameter)
            table.add_row(
                f"{parameter}, n = {n:,}",
                f"{got:.4f}",
                f"{error:.4f}",
                f"{mean:.4f}",
                f"{(got - mean) / error:+.1f}",
            )
    return table


def claims(times: Times) -> list[Claim]:
    """Put each target beside its measurement."""

    def of(name: str) -> float | None:
        return median(times[name]) if name in times else None

    found = [
        Claim(f"{name}", 5e-3, of(name), duration)
        for name in (f"exact, from the data, n = {n:,}" for n in (100, 1_000, 100_000))
    ]
    found += [
        Claim(
            f"{way}, n = 100,000 / n = 100",
            SAME,
            ratio(times, f"{way}, n = 100,000", f"{way}, n = 100"),
            factor,
        )
        for way in ("exact, from the data", "exact, drawing alone")
    ]
    for n, target in ((100, 0.4), (1_000, 0.7)):
        for conditional in ("printed", "corrected"):
            name = f"Gibbs in NumPy, {conditional}, n = {n:,}"
            found.append(Claim(name, target, of(name), duration))
    above, below = "JAGS, every X, n = 1,000", "exact, every X, n = 1,000"
    found.append(Claim(f"{above} / exact", 10.0, ratio(times, above, below), factor, at_least=True))
    found.append(Claim("import ranef", 0.4, of("import ranef"), duration))
    found.append(Claim("ranef --help", 0.3, of("ranef --help"), duration))
    return found


def verdict_table(found: Sequence[Claim]) -> Table:
    table = plain_table("Verdict", "claim", "target", "measured", "met")
    words = {True: "yes", False: "NO", None: "-"}
    for claim in found:
        sign = "at least" if claim.at_least else "at most"
        measured = "not measured" if claim.measured is None else claim.show(claim.measured)
        table.add_row(claim.text, f"{sign} {claim.show(claim.target)}", measured, words[claim.met])
    return table


def setting() -> str:
    return (
        f"ranef {ranef.__version__}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    )


def load() -> str:
    """Say how busy the machine is: short times suffer most where other programs run beside."""
    if not hasattr(os, "getloadavg"):
        return "not known"
    return f"{os.getloadavg()[0]:.1f}"


@click.command()
@click.option(
    "--repeats",
    default=15,
    show_default=True,
    type=click.IntRange(min=1),
    help="Runs of everything in Python; R and JAGS get a fifth of them.",
)
@click.option("--quick", is_flag=True, help="Three runs in Python, one in R and JAGS.")
def main(repeats: int, quick: bool) -> None:
    """Time the article's model in one run and say which targets are met."""
    repeats = 3 if quick else repeats
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    console.print(setting())
    console.print(f"Load average before: {load()}")
    times: Times = {}
    with console.status("Timing the posterior of the variances"):
        # From the data first: building models of long tables leaves memory behind that the
        # allocator hands out again without asking the system, which a fresh process has not.
        times |= take_turns(posterior_calls((100, 1_000, 100_000)), repeats)
        times |= take_turns(drawing_calls((100, 1_000, 100_000)), repeats)
    with console.status("Timing every X"):
        times |= take_turns(signal_calls(1_000), repeats)
    with console.status("Timing the Gibbs sampler"):
        times |= take_turns(gibbs_calls((100, 1_000)), repeats)
    scripts, notes = available_r()
    with console.status("Timing R and JAGS"):
        r_times, last = measure_r(scripts, (100, 1_000), math.ceil(repeats / 5))
    starts, start_notes = start_calls()
    with console.status("Timing the start"):
        times |= r_times | take_turns(starts, repeats)
    console.print(f"Load average after: {load()}")
    console.print(times_table(times))
    console.print(ratios_table(times))
    if "JAGS, every X" in scripts:
        console.print(means_table(last, (100, 1_000)))
    for note in notes + start_notes:
        console.print(note)
    console.print(verdict_table(claims(times)))


if __name__ == "__main__":
    main()

"""The command line: `ranef fit`, `predict`, `gauge`, `plan`, `calibrate`, …. No statistics here.

Every error is one line on standard error and exit code 2. Libraries are imported inside the
commands, so that `ranef --help` answers at once.
"""

from __future__ import annotations

import re
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import click

from ranef.common.progress import status
from ranef.errors import DataError, PriorError, RanefError
from ranef.version import __version__

__all__ = ["main"]

_PRIOR_HELP = (
    "Prior of one parameter, repeatable: 'sigma=half_t(50)', "
    "'1|g=variance(invgamma(0.1, scale=1))', 'x=norm(0, 10)', 'x=flat'."
)
_CALIBRATION_FILES = ("calibration.csv", "calibration.png")
_FIT_FILES = ("draws.nc", "summary.csv", "report.html")
_GAUGE_FILES = ("gauge.csv", "gauge.png")
_PLAN_FILES = ("plan.csv", "plan.png")
_FOLDER = click.Path(file_okay=False, path_type=Path)


class _Command(click.Command):
    """A command whose errors name options as they are typed, not Python's arguments."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RanefError as error:
            raise click.ClickException(_as_typed(str(error), self.params)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ranef")
def cli() -> None:
    """Bayesian random-effects models, drawn exactly."""


cli.command_class = _Command


@cli.command("fit")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("formula")
@click.option("--prior", "priors", multiple=True, metavar="NAME=DIST", help=_PRIOR_HELP)
@click.option("--se", default=None, metavar="COLUMN", help="Known standard errors, by row.")
@click.option(
    "--aliased",
    type=click.Choice(["refuse", "drop"]),
    default="refuse",
    show_default=True,
    help="Fixed-effect columns that are combinations of others.",
)
@click.option(
    "--method", type=click.Choice(["exact", "gibbs", "nuts"]), default="exact", show_default=True
)
@click.option("--draws", type=click.IntRange(min=16), default=4000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="For the same draws again.")
@click.option(
    "--out",
    type=_FOLDER,
    default=Path("ranef-out"),
    show_default=True,
    help="Folder for draws.nc, summary.csv and report.html.",
)
def fit_command(
    file: Path,
    formula: str,
    priors: tuple[str, ...],
    se: str | None,
    aliased: str,
    method: Literal["exact", "gibbs", "nuts"],
    draws: int,
    seed: int | None,
    out: Path,
) -> None:
    """Fit FORMULA to the CSV or Parquet FILE.

    Example: ranef fit Dyestuff.csv "Yield ~ 1 + (1|Batch)"
    """
    # Gibbs has a bar of its own, and a terminal holds one live line.
    with status(f"Fitting {formula}") if method == "exact" else nullcontext():
        from ranef.fitting.fit import fit
        from ranef.report import check_writable, fit_page, write_files

        check_writable(out, _FIT_FILES)
        made = fit(
            formula,
            file,
            priors=_priors(priors),
            method=method,
            draws=draws,
            se=se,
            aliased="drop" if aliased == "drop" else "refuse",
            seed=seed,
        )
    click.echo(str(made))
    with status("Writing the report"):
        written = write_files(
            out,
            dict(
                zip(_FIT_FILES, (made.save, made.summary().to_csv(), fit_page(made)), strict=True)
            ),
        )
    click.echo(f"\nWritten: {', '.join(map(str, written))}")


@cli.command("predict")
@click.argument("draws", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["mean", "response"]),
    default="mean",
    show_default=True,
    help="The expected value of a row, or a new observation.",
)
@click.option(
    "--groups",
    type=click.Choice(["conditional", "marginal", "new"]),
    default="conditional",
    show_default=True,
    help="Groups of the data; the population; groups not seen before, too.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Probability of the equal-tailed interval.",
)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="For the same draws again.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="CSV file to write; else printed."
)
def predict_command(
    draws: Path,
    new: Path,
    kind: Literal["mean", "response"],
    groups: Literal["conditional", "marginal", "new"],
    interval: float,
    seed: int | None,
    out: Path | None,
) -> None:
    """Predict the rows of the CSV or Parquet file NEW from DRAWS, which `ranef fit` wrote.

    Example: ranef predict ranef-out/draws.nc new.csv --groups new --out predictions.csv
    """
    with status(f"Reading {draws}"):
        from ranef.fitting.result import load
        from ranef.report import write_files

        fit = load(draws)
    made = fit.predict(new, kind, groups, interval, seed=seed)
    text = made.full_table().to_csv(index=False)
    if out is None:
        click.echo(text, nl=False)
        return
    write_files(out.parent, {out.name: text})
    click.echo(f"Written: {out}")


@cli.command("calibrate")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("formula")
@click.option("--prior", "priors", multiple=True, metavar="NAME=DIST", help=_PRIOR_HELP)
@click.option(
    "--method", type=click.Choice(["exact", "gibbs", "nuts"]), default="exact", show_default=True
)
@click.option(
    "--start",
    type=click.Choice(["own", "truth"]),
    default="own",
    show_default=True,
    help="Where chains of gibbs and nuts begin; ten times faster from the truth.",
)
@click.option("--simulations", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option(
    "--draws", type=click.IntRange(min=1), default=99, show_default=True, help="Of each posterior."
)
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="For the same ranks again.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    default=None,
    help="File from which an interrupted run goes on.",
)
@click.option(
    "--out", type=_FOLDER, default=None, help="Folder for calibration.csv and calibration.png."
)
def calibrate_command(
    file: Path,
    formula: str,
    priors: tuple[str, ...],
    method: str,
    start: str,
    simulations: int,
    draws: int,
    processes: int,
    seed: int | None,
    checkpoint: Path | None,
    out: Path | None,
) -> int:
    """Check the sampler of FORMULA by simulation on the design of FILE.

    Exit code 1 if it is not calibrated.

    Example: ranef calibrate Dyestuff.csv "Yield ~ 1 + (1|Batch)" --processes 2
    """
    from ranef.calibration.sbc import calibrate
    from ranef.fitting.model import model
    from ranef.report import check_writable, write_files

    if out is not None:
        check_writable(out, _CALIBRATION_FILES)
    made = calibrate(
        model(formula, file, priors=_priors(priors)),
        simulations,
        method=method,
        start=start,
        draws=draws,
        processes=processes,
        file=checkpoint,
        seed=seed,
    )
    click.echo(str(made))
    if out is not None:
        table = made.table().to_csv()
        picture = made.plot().savefig
        files = dict(zip(_CALIBRATION_FILES, (table, picture), strict=True))
        click.echo(f"\nWritten: {', '.join(map(str, write_files(out, files)))}")
    return 0 if made.passed else 1


@cli.command("gauge")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("value")
@click.argument("part")
@click.argument("operator")
@click.option("--tolerance", type=float, default=None, help="Width of the specification.")
@click.option("--study", type=float, default=6.0, show_default=True, help="SDs of the process.")
@click.option(
    "--prior",
    "priors",
    multiple=True,
    metavar="NAME=DIST",
    help="Prior on the SD of repeatability, operator, interaction or part, repeatable: "
    "'operator=half_t(0.2)'.",
)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="For the same draws again.")
@click.option("--out", type=_FOLDER, default=None, help="Folder for gauge.csv and gauge.png.")
def gauge_command(
    file: Path,
    value: str,
    part: str,
    operator: str,
    tolerance: float | None,
    study: float,
    priors: tuple[str, ...],
    seed: int | None,
    out: Path | None,
) -> None:
    """Gauge R&R of the columns VALUE, PART and OPERATOR of FILE.

    Example: ranef gauge gauge_aiag.csv measurement part operator --tolerance 8
    """
    with status(f"Gauge R&R of {value}"):
        from ranef.gauge.study import gauge_rr
        from ranef.report import check_writable, write_files

        if out is not None:
            check_writable(out, _GAUGE_FILES)
        made = gauge_rr(
            file, value, part, operator, tolerance, _priors(priors), study=study, seed=seed
        )
    click.echo(str(made))
    if out is not None:
        contents = (made.table().to_csv(), made.plot().savefig)
        files = dict(zip(_GAUGE_FILES, contents, strict=True))
        click.echo(f"\nWritten: {', '.join(map(str, write_files(out, files)))}")


@cli.command("plan")
@click.argument("goal")
@click.option("--sigma", default="1", show_default=True, help="Plausible residual SD.")
@click.option("--group-sd", default="0.5", show_default=True, help="Plausible SD between groups.")
@click.option("--slope", default=None, help="Plausible slope over the covariate's whole range.")
@click.option("--slope-sd", default=None, help="Plausible SD of slopes between groups.")
@click.option("--groups", default="5,10,20,40", show_default=True, help="Numbers to consider.")
@click.option("--replicates", default="2,3,5,10", show_default=True, help="Numbers to consider.")
@click.option("--assurance", type=float, default=0.8, show_default=True)
@click.option("--simulations", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--cost-per-group", type=float, default=0.0, show_default=True)
@click.option("--cost-per-measurement", type=float, default=1.0, show_default=True)
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="For the same plan again.")
@click.option("--out", type=_FOLDER, default=None, help="Folder for plan.csv and plan.png.")
def plan_command(goal: str, groups: str, replicates: str, out: Path | None, **options: Any) -> int:
    """Find how many groups and replicates reach GOAL.

    Plausible values are numbers or distributions, 'lognorm(0.3, scale=0.5)'. Exit code 1 if no
    design considered reaches the goal.

    Example: ranef plan "icc width < 0.3" --sigma 1 --group-sd 0.8 --groups 10,20,40
    """
    from ranef.planning.designs import plan
    from ranef.report import check_writable, write_files

    if out is not None:
        check_writable(out, _PLAN_FILES)
    made = plan(
        goal,
        groups=_whole_numbers("--groups", groups),
        replicates=_whole_numbers("--replicates", replicates),
        **options,
    )
    click.echo(str(made))
    if out is not None:
        contents = (made.table().to_csv(), made.plot().savefig)
        files = dict(zip(_PLAN_FILES, contents, strict=True))
        click.echo(f"\nWritten: {', '.join(map(str, write_files(out, files)))}")
    return 0 if made.recommended else 1


@cli.command("article")
@click.option(
    "--scenario", type=click.IntRange(1, 8), default=None, help="One scenario; default all eight."
)
@click.option("--draws", type=click.IntRange(min=200), default=10_000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=47403, show_default=True)
@click.option("--out", type=_FOLDER, default=None, help="Folder for report.html with pictures.")
@click.option("--check", is_flag=True, help="Check the sampler's updates instead of running it.")
def article_command(
    scenario: int | None, draws: int, seed: int, out: Path | None, check: bool
) -> None:
    """Run the article's scenarios: as printed, corrected, and exactly."""
    if check:
        _check_article(scenario)
        return
    from ranef.article import study
    from ranef.article.story import tell
    from ranef.cli.console import print_study
    from ranef.report import study_page, write_files

    made = study(None if scenario is None else [scenario], draws=draws, seed=seed)
    print_study(made)
    if scenario is not None:
        click.echo("\n" + " ".join(tell(made.results[0])))
    if out is not None:
        (page,) = write_files(out, {"report.html": study_page(made)})
        click.echo(f"\nWritten: {page}")


def _check_article(scenario: int | None) -> None:
    """Replay the article's updates, as printed and corrected."""
    from ranef.article import SCENARIOS
    from ranef.article.check import check_article

    for name, made in check_article(SCENARIOS[(scenario or 1) - 1].data()).items():
        click.echo(f"The sampler, {name}\n\n{made}\n")


@cli.command("simulate")
@click.option("--n", type=click.IntRange(min=1), default=100, show_default=True, help="Signals.")
@click.option("--replicates", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--sigma2-e", type=float, default=3.0, show_default=True, help="Noise variance.")
@click.option("--sigma2-x", type=float, default=5.0, show_default=True, help="Signal variance.")
@click.option("--mean", type=float, default=0.0, show_default=True, help="Mean of the signals.")
@click.option("--seed", type=int, default=47403, show_default=True, help="As in R's set.seed.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="CSV file to write.")
def simulate_command(
    n: int,
    replicates: int,
    sigma2_e: float,
    sigma2_x: float,
    mean: float,
    seed: int,
    out: Path | None,
) -> None:
    """Simulate the article's data as a CSV with columns signal, replicate and W."""
    from ranef.article import simulate
    from ranef.report import write_files

    W = simulate(
        n, replicates=replicates, sigma2_e=sigma2_e, sigma2_x=sigma2_x, mean=mean, seed=seed
    )
    lines = ["signal,replicate,W"]
    lines += [f"{i + 1},{j + 1},{float(W[i, j])!r}" for i in range(n) for j in range(replicates)]
    text = "\n".join(lines) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    write_files(out.parent, {out.name: text})
    click.echo(f"Written: {out}")


def _priors(given: tuple[str, ...]) -> dict[str, str]:
    """Split NAME=DIST at the first '='; names hold none."""
    priors = {}
    for text in given:
        name, equals, distribution = text.partition("=")
        if not (equals and name.strip() and distribution.strip()):
            raise PriorError(
                f"Option --prior {text!r}: NAME=DIST is expected, e.g. 'sigma=half_t(50)'."
            )
        if name.strip() in priors:
            raise PriorError(f"Option --prior names {name.strip()!r} twice.")
        priors[name.strip()] = distribution.strip()
    return priors


def _whole_numbers(option: str, text: str) -> list[int]:
    """Split numbers at commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise DataError(
            f"Option {option} {text!r}: whole numbers with commas between are expected, e.g. 5,10."
        ) from None


def _as_typed(text: str, params: list[click.Parameter]) -> str:
    """Rewrite a message in the options of the command line: `se='x'` becomes `--se x`."""
    text = re.sub(r"priors=\{'([^']+)': '?(?:rf\.)?([^'}]*)'?\}", r"--prior '\1=\2'", text)
    for param in params:
        name = str(param.name)
        if isinstance(param, click.Argument):
            text = re.sub(rf"^{name} is ", f"Argument {name.upper()} is ", text)
            continue
        option = param.opts[-1]
        text = re.sub(rf"^{name}(?:\[\d+\])?(:| is) ", rf"Option {option}\1 ", text)
        text = re.sub(rf"(?<![\w.-]){name}='([^']*)'", rf"{option} \1", text)
        text = re.sub(rf"(?<![\w.-]){name}=(?=\w)", f"{option} ", text)
        text = re.sub(rf"(?<![\w.-]){name}=", option, text)
        text = text.replace(f"leave {name} out", f"leave {option} out")
    return text


def _show_warning(message: Warning | str, *_: object) -> None:
    """One line on standard error for each warning."""
    context = click.get_current_context(silent=True)
    params = [] if context is None else context.command.params
    click.echo(f"ranef: warning: {_as_typed(str(message), params)}", err=True)


def main() -> None:
    """Run the command line; errors are one line and exit code 2."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("ranef: interrupted", err=True)
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"ranef: {' '.join(error.format_message().split())}", err=True)
        sys.exit(2)
    except RanefError as error:
        click.echo(f"ranef: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)

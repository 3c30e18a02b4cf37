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
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ranef.common.progress import status
from ranef.errors import DataError, PriorError, RanefError
from ranef.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["main"]

_F = TypeVar("_F", bound="Callable[..., Any]")

_PRIOR_HELP = (
    "Prior of one parameter, repeatable: 'sigma=half_t(50)', "
    "'1|g=variance(invgamma(0.1, scale=1))', 'x=norm(0, 10)', 'x=flat'."
)
_FIT_FILES = ("draws.nc", "summary.csv", "report.html")
_FOLDER = click.Path(file_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)
_COUNT = click.IntRange(min=1)


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


# -- options of several commands -----------------------------------------------------------------

_file = click.argument("file", type=_PATH)
_formula = click.argument("formula")
_prior = click.option("--prior", "priors", multiple=True, metavar="NAME=DIST", help=_PRIOR_HELP)
_method = click.option(
    "--method", type=click.Choice(["exact", "gibbs"]), default="exact", show_default=True
)
_processes = click.option("--processes", type=_COUNT, default=1, show_default=True)
_csv = click.option("--out", type=_PATH, default=None, help="CSV file to write; else printed.")


def _seed(result: str) -> Callable[[_F], _F]:
    """Option for the same random numbers."""
    text = f"For the same {result} again."
    return click.option("--seed", type=click.IntRange(min=0), default=None, help=text)


# -- commands ------------------------------------------------------------------------------------


@cli.command("fit")
@_file
@_formula
@_prior
@click.option("--se", default=None, metavar="COLUMN", help="Known standard errors, by row.")
@click.option(
    "--family",
    default="gaussian",
    show_default=True,
    help="What the response is: gaussian, bernoulli, binomial, poisson, negativebinomial.",
)
@click.option("--link", default=None, help="Link of the family; its usual one by default.")
@click.option("--trials", default=None, metavar="COLUMN", help="Numbers of trials, for binomial.")
@click.option("--exposure", default=None, metavar="COLUMN", help="Exposures of counts.")
@click.option(
    "--aliased",
    type=click.Choice(["refuse", "drop"]),
    default="refuse",
    show_default=True,
    help="Fixed-effect columns that are combinations of others.",
)
@_method
@click.option("--draws", type=click.IntRange(min=16), default=4000, show_default=True)
@_seed("draws")
@click.option(
    "--out",
    type=_FOLDER,
    default=Path("ranef-out"),
    show_default=True,
    help="Folder for draws.nc, summary.csv and report.html.",
)
def fit_command(
    file: Path, formula: str, priors: tuple[str, ...], out: Path, **options: Any
) -> None:
    """Fit FORMULA to the CSV or Parquet FILE.

    Example: ranef fit Dyestuff.csv "Yield ~ 1 + (1|Batch)"
    """
    # Gibbs has a bar of its own, and a terminal holds one live line.
    with status(f"Fitting {formula}") if options["method"] == "exact" else nullcontext():
        from ranef.fitting.fit import fit
        from ranef.report import check_writable, fit_page

        check_writable(out, _FIT_FILES)
        result = fit(formula, file, priors=_priors(priors), **options)
    click.echo(str(result))
    with status("Writing the report"):
        contents = (result.save, result.summary().to_csv(), fit_page(result))
        _write(out, dict(zip(_FIT_FILES, contents, strict=True)))


@cli.command("predict")
@click.argument("draws", type=_PATH)
@click.argument("new", type=_PATH)
@click.option(
    "--kind",
    type=click.Choice(["mean", "linear", "response"]),
    default="mean",
    show_default=True,
    help="The expected value of a row, its linear predictor, or a new observation.",
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
@_seed("draws")
@_csv
def predict_command(draws: Path, new: Path, out: Path | None, **options: Any) -> None:
    """Predict the rows of the CSV or Parquet file NEW from DRAWS, which `ranef fit` wrote.

    Example: ranef predict ranef-out/draws.nc new.csv --groups new --out predictions.csv
    """
    with status(f"Reading {draws}"):
        from ranef.fitting.load import load

        fit = load(draws)
    _print_or_write(fit.predict(new, **options).full_table().to_csv(index=False), out)


@cli.command("calibrate")
@_file
@_formula
@_prior
@_method
@click.option(
    "--start",
    type=click.Choice(["own", "truth"]),
    default="own",
    show_default=True,
    help="Where chains of gibbs begin; ten times faster from the truth.",
)
@click.option("--simulations", type=_COUNT, default=1000, show_default=True)
@click.option("--draws", type=_COUNT, default=99, show_default=True, help="Of each posterior.")
@_processes
@_seed("ranks")
@click.option(
    "--checkpoint",
    type=_PATH,
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
    checkpoint: Path | None,
    out: Path | None,
    **options: Any,
) -> int:
    """Check the sampler of FORMULA by simulation on the design of FILE.

    Exit code 1 if it is not calibrated.

    Example: ranef calibrate Dyestuff.csv "Yield ~ 1 + (1|Batch)" --processes 2
    """
    from ranef.calibration.sbc import calibrate
    from ranef.fitting.model import model

    show = _output("calibration", out)
    result = calibrate(model(formula, file, priors=_priors(priors)), file=checkpoint, **options)
    show(result)
    return 0 if result.passed else 1


@cli.command("gauge")
@_file
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
@_seed("draws")
@click.option("--out", type=_FOLDER, default=None, help="Folder for gauge.csv and gauge.png.")
def gauge_command(
    file: Path, value: str, priors: tuple[str, ...], out: Path | None, **options: Any
) -> None:
    """Gauge R&R of the columns VALUE, PART and OPERATOR of FILE.

    Example: ranef gauge gauge_aiag.csv measurement part operator --tolerance 8
    """
    with status(f"Gauge R&R of {value}"):
        from ranef.gauge.study import gauge_rr

        show = _output("gauge", out)
        result = gauge_rr(file, value, priors=_priors(priors), **options)
    show(result)


@cli.command("plan")
@click.argument("goal")
@click.option("--sigma", default="1", show_default=True, help="Plausible residual SD.")
@click.option("--group-sd", default="0.5", show_default=True, help="Plausible SD between groups.")
@click.option("--slope", default=None, help="Plausible slope over the covariate's whole range.")
@click.option("--slope-sd", default=None, help="Plausible SD of slopes between groups.")
@click.option("--groups", default="5,10,20,40", show_default=True, help="Numbers to consider.")
@click.option("--replicates", default="2,3,5,10", show_default=True, help="Numbers to consider.")
@click.option("--assurance", type=float, default=0.8, show_default=True)
@click.option("--simulations", type=_COUNT, default=200, show_default=True)
@click.option("--cost-per-group", type=float, default=0.0, show_default=True)
@click.option("--cost-per-measurement", type=float, default=1.0, show_default=True)
@_processes
@_seed("plan")
@click.option("--out", type=_FOLDER, default=None, help="Folder for plan.csv and plan.png.")
def plan_command(goal: str, groups: str, replicates: str, out: Path | None, **options: Any) -> int:
    """Find how many groups and replicates reach GOAL.

    Plausible values are numbers or distributions, 'lognorm(0.3, scale=0.5)'. Exit code 1 if no
    design considered reaches the goal.

    Example: ranef plan "icc width < 0.3" --sigma 1 --group-sd 0.8 --groups 10,20,40
    """
    from ranef.planning.designs import plan

    show = _output("plan", out)
    result = plan(
        goal,
        groups=_whole_numbers("--groups", groups),
        replicates=_whole_numbers("--replicates", replicates),
        **options,
    )
    show(result)
    return 0 if result.recommended else 1


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
    from ranef.report import study_page

    result = study(None if scenario is None else [scenario], draws=draws, seed=seed)
    print_study(result)
    if scenario is not None:
        click.echo("\n" + " ".join(tell(result.results[0])))
    if out is not None:
        _write(out, {"report.html": study_page(result)})


def _check_article(scenario: int | None) -> None:
    """Replay the article's updates, as printed and corrected."""
    from ranef.article import SCENARIOS
    from ranef.article.check import check_article

    for name, report in check_article(SCENARIOS[(scenario or 1) - 1].data()).items():
        click.echo(f"The sampler, {name}\n\n{report}\n")


@cli.command("simulate")
@click.option("--n", type=_COUNT, default=100, show_default=True, help="Signals.")
@click.option("--replicates", type=_COUNT, default=2, show_default=True)
@click.option("--sigma2-e", type=float, default=3.0, show_default=True, help="Noise variance.")
@click.option("--sigma2-x", type=float, default=5.0, show_default=True, help="Signal variance.")
@click.option("--mean", type=float, default=0.0, show_default=True, help="Mean of the signals.")
@click.option("--seed", type=int, default=47403, show_default=True, help="As in R's set.seed.")
@_csv
def simulate_command(out: Path | None, **options: Any) -> None:
    """Simulate the article's data as a CSV with columns signal, replicate and W."""
    from ranef.article import simulate

    lines = ["signal,replicate,W"]
    for i, row in enumerate(simulate(**options), 1):
        lines += [f"{i},{j},{float(w)!r}" for j, w in enumerate(row, 1)]
    _print_or_write("\n".join(lines) + "\n", out)


# -- input and output ----------------------------------------------------------------------------


def _output(name: str, out: Path | None) -> Callable[[Any], None]:
    """Check a folder before the work; return what prints a result and writes table and figure."""
    from ranef.report import check_writable

    if out is not None:
        check_writable(out, (f"{name}.csv", f"{name}.png"))

    def show(result: Any) -> None:
        click.echo(str(result))
        if out is not None:
            table, figure = result.table().to_csv(), result.plot().savefig
            _write(out, {f"{name}.csv": table, f"{name}.png": figure})

    return show


def _write(out: Path, files: Mapping[str, str | Callable[[Path], None]]) -> None:
    """Write files into a folder and say so."""
    from ranef.report import write_files

    click.echo(f"\nWritten: {', '.join(map(str, write_files(out, files)))}")


def _print_or_write(text: str, out: Path | None) -> None:
    """Print text, or write it to a file and say so."""
    if out is None:
        click.echo(text, nl=False)
        return
    from ranef.report import write_files

    write_files(out.parent, {out.name: text})
    click.echo(f"Written: {out}")


def _priors(options: tuple[str, ...]) -> dict[str, str]:
    """Split NAME=DIST at the first '='; names hold none."""
    priors = {}
    for text in options:
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

"""`make demo`: the article's study and a fit of real data, on the screen and as one page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ranef.fitting.result import Fit

__all__ = ["dyestuff", "main"]


def dyestuff() -> tuple[Fit, str]:
    """Fit Dyestuff and say how much of the variance is between batches.

    Returns
    -------
    fit : Fit
    answer : str
        One sentence with the share's posterior mean and 95% interval.
    """
    import numpy as np

    from ranef.datasets import load
    from ranef.fitting.fit import fit as fit_model

    fit = fit_model("Yield ~ 1 + (1|Batch)", load("Dyestuff"), seed=47403)
    draws = fit.draws["posterior"]
    between = draws["1|Batch_sigma"].to_numpy() ** 2
    share = between / (between + draws["sigma"].to_numpy() ** 2)
    low, high = np.quantile(share, [0.025, 0.975])
    return fit, (
        f"How much of the variance of the yield is between batches? {share.mean():.0%}, with a 95% "
        f"interval from {low:.0%} to {high:.0%}: six batches leave it open whether to mend the "
        "intermediate product or the step after it."
    )


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("demo"))
def main(out: Path) -> None:
    """Run the article's scenarios and a real data set; write OUT/report.html."""
    started = time.perf_counter()
    from ranef.article import study
    from ranef.cli.console import print_study
    from ranef.report import study_page, write_files

    result = study()
    print_study(result)
    fit, answer = dyestuff()
    click.echo(f"\n{fit}\n\n{answer}\n")
    (page,) = write_files(out, {"report.html": study_page(result, fit, answer)})
    click.echo(f"{page} written in {time.perf_counter() - started:.1f} s.")


if __name__ == "__main__":
    main()

"""Tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranef.article.study import WAYS
from ranef.article.table import study_rows

if TYPE_CHECKING:
    from ranef.article.study import Study

__all__ = ["print_study"]


def print_study(study: Study) -> None:
    """Print truth against every way; intervals that miss the truth are marked and red.

    Parameters
    ----------
    study
        From `ranef.article.study`.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="The article's scenarios: posterior mean [95% interval]",
        caption="✗ interval misses the true value",
    )
    table.add_column("", justify="right")
    table.add_column("")
    table.add_column("truth", justify="right")
    for text in WAYS.values():
        table.add_column(text, justify="right")
    for row in study_rows(study):
        cells = [
            Text(c.text + ("  " if c.holds_truth else " ✗"), style="" if c.holds_truth else "red")
            for c in row.cells
        ]
        symbol = "σe²" if row.parameter == "sigma2_e" else "σx²"
        table.add_row(
            str(row.scenario), symbol, row.truth, *cells, end_section=row.parameter == "sigma2_x"
        )
    console = Console()
    # Piped output has no width of its own; a table cut to 80 columns would lose its numbers.
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)

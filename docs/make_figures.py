"""Draw the pictures of docs/article.md from the study itself: `make figures`."""

from __future__ import annotations

from pathlib import Path

from ranef.article import study
from ranef.article.figures import density_figure, trace_figure

FOLDER = Path(__file__).parent / "figures"


def main() -> None:
    """Write one density and, for scenario 1, one trace picture per scenario shown."""
    FOLDER.mkdir(exist_ok=True)
    for result in study([1, 2, 3, 6, 8]).results:
        number = result.scenario.number
        density_figure(result).savefig(FOLDER / f"scenario-{number}-density.png", dpi=110)
        if number == 1:
            trace_figure(result).savefig(FOLDER / f"scenario-{number}-trace.png", dpi=110)


if __name__ == "__main__":
    main()

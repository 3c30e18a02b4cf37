"""The page of the article's study, with a fit of real data at its end if one is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from ranef.article.figures import density_figure, trace_figure
from ranef.article.story import tell
from ranef.article.study import WAYS
from ranef.article.table import study_rows
from ranef.common.progress import track
from ranef.report.fit_page import fit_section
from ranef.report.page import render
from ranef.report.picture import inline_png, inline_svg

if TYPE_CHECKING:
    from ranef.article.study import Study
    from ranef.fitting.result import Fit

__all__ = ["study_page"]


def study_page(
    study: Study, fit: Fit | None = None, answer: str = "", *, progress: bool = True
) -> str:
    """Make a self-contained HTML page of the article's study.

    Parameters
    ----------
    study
        From `ranef.article.study`.
    fit
        A fit of real data to show after it.
    answer
        What that fit says, in a sentence or two.
    progress
        Show a bar on anything longer than a second.

    Returns
    -------
    str
        HTML; pictures are inline, nothing is loaded from elsewhere.
    """
    scenarios = []
    for result in track(study.results, "Pictures", show=progress):
        number = result.scenario.number
        what, why = tell(result)
        scenarios.append(
            {
                "scenario": result.scenario,
                "what": what,
                "why": why,
                "trace": Markup(inline_png(trace_figure(result), f"Traces of scenario {number}")),
                "density": Markup(
                    inline_svg(density_figure(result), f"Densities of scenario {number}")
                ),
            }
        )
    return render(
        "study.html.j2",
        scenarios=scenarios,
        ways=WAYS,
        table=study_rows(study),
        draws=study.results[0].printed.draws.sizes["draw"],
        fit=None if fit is None else fit_section(fit),
        answer=answer,
    )

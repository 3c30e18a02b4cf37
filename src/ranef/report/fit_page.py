"""The page of one fit: table, certificate, priors, pictures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from markupsafe import Markup

from ranef.posterior.summary import count_levels, decimals, model_notes, shown
from ranef.report.page import render
from ranef.report.picture import inline_png, inline_svg

if TYPE_CHECKING:
    from ranef.fitting.result import Fit

__all__ = ["fit_page", "fit_section"]


def fit_page(fit: Fit) -> str:
    """Make a self-contained HTML page of a fit.

    Parameters
    ----------
    fit
        From `ranef.fit`.

    Returns
    -------
    str
        HTML; pictures are inline, nothing is loaded from elsewhere.
    """
    return render("fit.html.j2", **fit_section(fit))


def fit_section(fit: Fit) -> dict[str, object]:
    """Collect what the template of a fit shows.

    Parameters
    ----------
    fit
        From `ranef.fit`.

    Returns
    -------
    dict
        Attributes, table rows, certificate and pictures.
    """
    table = fit.summary()
    rows = []
    for name, row in table.iterrows():
        digits = decimals(row["sd"])
        cells = [shown(row[c], digits, ",") for c in table.columns[:5]]
        cells.append(f"{row['ess']:,.0f}")
        if "r_hat" in table:
            cells.append(f"{row['r_hat']:.3f}")
        rows.append((name, cells))
    return {
        "attrs": fit.draws.attrs,
        "groups": count_levels(json.loads(fit.draws.attrs["groups"])),
        "columns": list(table.columns),
        "rows": rows,
        "notes": model_notes(fit.draws.attrs),
        "priors": json.loads(fit.draws.attrs["priors"]),
        "certificate": fit.certificate,
        "density": Markup(inline_svg(fit.plot.density(), "Posterior densities")),
        "effects": Markup(inline_svg(fit.plot.effects(), "Group effects")),
        "trace": Markup(inline_png(fit.plot.trace(), "Traces", dpi=80)),
    }

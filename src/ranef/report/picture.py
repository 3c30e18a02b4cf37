"""Figures as text inside a page: SVG, or PNG where SVG would hold thousands of points."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline_png", "inline_svg"]


def inline_svg(figure: Figure, alternative: str) -> str:
    """Write a figure as an SVG element.

    Parameters
    ----------
    figure
        Any figure with few points.
    alternative
        What it shows, for people who do not see it.

    Returns
    -------
    str
        `<svg …>…</svg>`, with ids made unique so that several can stand in one page.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    salt = re.sub(r"\W", "", alternative)
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Matplotlib numbers its groups alike in every figure (figure_1, axes_1, …).
    text = re.sub(r'<g id="[a-z0-9]+_\d+"', "<g", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{alternative}"', 1)


def inline_png(figure: Figure, alternative: str, dpi: int = 110) -> str:
    """Write a figure as an image element that holds its own data.

    Parameters
    ----------
    figure
        Any figure.
    alternative
        What it shows.
    dpi
        Dots per inch.

    Returns
    -------
    str
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{alternative}" src="data:image/png;base64,{data}">'

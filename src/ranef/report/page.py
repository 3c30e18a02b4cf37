"""Templates to pages: one style, no scripts, nothing fetched from anywhere."""

from __future__ import annotations

from typing import Any

__all__ = ["render"]


def render(template: str, **content: Any) -> str:
    """Fill a template of `report/templates`.

    Parameters
    ----------
    template
        Its file name.
    **content
        What it asks for; text is escaped, pictures are passed as `markupsafe.Markup`.

    Returns
    -------
    str
        A complete HTML page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ranef.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)

"""Names as DataTree and NetCDF hold them: a slash would be read as a path."""

from __future__ import annotations

__all__ = ["stored_name"]


def stored_name(name: str) -> str:
    """Put the division slash in a slash's place, for terms such as `I(x / 2)`.

    Examples
    --------
    >>> stored_name("a/b")
    'a∕b'
    """
    return name.replace("/", "\u2215")

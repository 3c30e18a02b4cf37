"""What `^` and `**` mean: a power inside a call, as in R, and crossing of terms outside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bare_powers", "python_powers"]


def python_powers(text: str, plain: Sequence[tuple[int, str]], *, inside: bool = False) -> str:
    """Write Python's `**` for R's `^` inside calls; Python would take `x^2` for "x xor 2".

    Parameters
    ----------
    text
        Part of a formula.
    plain
        (position, character) of what stands outside backticks and string quotes.
    inside
        Whether the whole text is an expression, as that of an offset is.

    Examples
    --------
    >>> python_powers("(a + b)^2 + I(x^2)", list(enumerate("(a + b)^2 + I(x^2)")))
    '(a + b)^2 + I(x**2)'
    """
    places = [i for i, char, depth in _depths(text, plain) if char == "^" and (inside or depth)]
    out = text
    for i in reversed(places):
        out = f"{out[:i]}**{out[i + 1 :]}"
    return out


def bare_powers(text: str, plain: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
    """List bases and exponents of powers outside calls that do nothing, the base being no sum.

    Examples
    --------
    >>> bare_powers("x^2 + (a + b)**2 + I(z^2)", list(enumerate("x^2 + (a + b)**2 + I(z^2)")))
    [('x', '2')]
    """
    found = []
    signs = _depths(text, plain)
    for k, (i, char, depth) in enumerate(signs):
        first = char == "^" or (char == "*" and text[i : i + 2] == "**")
        exponent = re.match(r"(?:\^|\*\*)\s*(\d+)", text[i:])
        if not first or depth or exponent is None:
            continue
        base = _operand(text[:i].rstrip(), [s for s in signs[:k] if s[1] in "()"])
        inner = base[1:-1].strip() if base.startswith("(") else base
        if inner and not inner[0].isdigit() and (inner == base or not re.search(r"[+*/]", inner)):
            found.append((inner, exponent[1]))
    return found


def _depths(text: str, plain: Sequence[tuple[int, str]]) -> list[tuple[int, str, int]]:
    """Give each plain character the number of calls that it stands in."""
    out, calls = [], [False]
    for i, char in plain:
        if char == "(":
            calls.append(calls[-1] or (i > 0 and (text[i - 1].isalnum() or text[i - 1] in "_`")))
        elif char == ")" and len(calls) > 1:
            calls.pop()
        out.append((i, char, int(calls[-1])))
    return out


def _operand(left: str, brackets: Sequence[tuple[int, str, int]]) -> str:
    """What stands directly before a power sign: a name, a call, or something in parentheses."""
    start = len(left)
    if left.endswith(")"):
        depth = 0
        for i, char, _ in reversed(brackets):
            depth += (char == ")") - (char == "(")
            if depth == 0:
                start = i
                break
    name = re.search(r"(`[^`]*`|[\w.]+)$", left[:start])
    return left[name.start() if name else start :]

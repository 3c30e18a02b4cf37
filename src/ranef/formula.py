"""Formula text to its parts: response ~ fixed effects + (1 | grouping factor)."""

from __future__ import annotations

from dataclasses import dataclass

from ranef.errors import FormulaError

__all__ = ["Formula", "GroupTerm", "parse_formula"]


@dataclass(frozen=True)
class GroupTerm:
    """One group term `(expression | factor)`.

    Attributes
    ----------
    expression
        What varies by group; `"1"` is a random intercept.
    factor
        Name of the grouping column, without backticks.
    """

    expression: str
    factor: str

    @property
    def label(self) -> str:
        """The term's name in priors and draws, as Bambi writes it: `1|g`."""
        return f"{self.expression}|{self.factor}"


@dataclass(frozen=True)
class Formula:
    """A parsed model formula; it knows no data.

    Attributes
    ----------
    text
        The formula as the user wrote it.
    response
        Left-hand side: a column or an expression such as `log(y)`.
    fixed
        Right-hand side without group terms, in formulaic's grammar, always with an explicit
        `1` or `0` for the intercept when the user wrote no other fixed term.
    groups
        The group terms, in order.
    """

    text: str
    response: str
    fixed: str
    groups: tuple[GroupTerm, ...]


def parse_formula(text: str) -> Formula:
    """Split a formula into response, fixed part and group terms.

    Parameters
    ----------
    text
        For example `"y ~ 1 + x + (1|g)"`. Names that are not Python names stand in backticks:
        ``"`reaction time (ms)` ~ 1 + (1|`subject no`)"``.

    Returns
    -------
    Formula

    Raises
    ------
    FormulaError
        With the position of what cannot be read. Braces are refused, because formulaic would
        run them as Python; so is bare arithmetic before `~`, which it would not compute.

    Examples
    --------
    >>> parse_formula("Yield ~ 1 + (1|Batch)").groups[0].label
    '1|Batch'
    """
    _check_characters(text)
    response, right, start = _split_sides(text)
    fixed_parts, groups = _split_terms(text, right, start)
    return Formula(text.strip(), response, _join_fixed(fixed_parts), tuple(groups))


def _fail(text: str, position: int, problem: str) -> FormulaError:
    """Build the error that points at 0-based `position` of the formula."""
    return FormulaError(
        f"Formula {text!r}, character {position + 1}: {problem}",
        text=text,
        position=position + 1,
    )


def _check_characters(text: str) -> None:
    """Refuse what no formula may hold, and unbalanced parentheses and backticks."""
    if not text.strip():
        raise FormulaError("The formula is empty; expected for example 'y ~ 1 + (1|g)'.", text=text)
    opened: list[int] = []
    for i, char in _outside_quotes(text):
        if char in "{}":
            raise _fail(
                text,
                i,
                f"{char!r} is not allowed, braces run code; compute the column in your table.",
            )
        if char == "(":
            opened.append(i)
        elif char == ")":
            if not opened:
                raise _fail(text, i, "this ')' closes nothing.")
            opened.pop()
    if opened:
        raise _fail(text, opened[-1], "this '(' is never closed.")


def _outside_quotes(text: str) -> list[tuple[int, str]]:
    """List (position, character) for all characters outside backticks and string quotes."""
    out: list[tuple[int, str]] = []
    quote, opened = "", 0
    for i, char in enumerate(text):
        if quote:
            if char == quote:
                quote = ""
        elif char in "`'\"":
            quote, opened = char, i
        else:
            out.append((i, char))
    if quote:
        raise _fail(text, opened, f"this {quote} is never closed.")
    return out


def _split_sides(text: str) -> tuple[str, str, int]:
    """Return response, right-hand side and the position where the right-hand side starts."""
    tildes = [i for i, char in _outside_quotes(text) if char == "~"]
    if not tildes:
        raise FormulaError(
            f"Formula {text!r} has no '~'; expected 'response ~ terms', e.g. 'y ~ 1 + (1|g)'.",
            text=text,
        )
    if len(tildes) > 1:
        raise _fail(text, tildes[1], "a second '~'; one is expected.")
    response, right = text[: tildes[0]].strip(), text[tildes[0] + 1 :]
    if not response:
        raise _fail(text, tildes[0], "nothing stands before '~'; name the response there.")
    if not right.strip():
        raise _fail(text, tildes[0], "nothing stands after '~'; expected e.g. '1 + (1|g)'.")
    _check_response(text, tildes[0], response)
    return response, right, tildes[0] + 1


def _check_response(text: str, end: int, response: str) -> None:
    """Refuse operators outside function calls: formulaic would read `y - x` as y without x."""
    calls: list[bool] = []
    for i, char in _outside_quotes(text):
        if i >= end:
            return
        if char == "(":
            calls.append(i > 0 and (text[i - 1].isalnum() or text[i - 1] in "_`"))
        elif char == ")":
            calls.pop()
        elif char in "+-*/:^%|" and not any(calls):
            raise _fail(
                text,
                i,
                "arithmetic with the response stands in I(), e.g. 'I(y - x) ~ 1 + (1|g)'; "
                f"{response!r} came.",
            )


def _split_terms(text: str, right: str, start: int) -> tuple[list[str], list[GroupTerm]]:
    """Cut the right-hand side at top-level signs; sort terms into fixed parts and group terms."""
    depth, begin = 0, 0
    pieces: list[tuple[int, str]] = []
    for i, char in _outside_quotes(right):
        depth += (char == "(") - (char == ")")
        if depth == 0 and char in "+-" and i > begin:
            pieces.append((begin, right[begin:i]))
            begin = i
    pieces.append((begin, right[begin:]))

    fixed: list[str] = []
    groups: list[GroupTerm] = []
    for offset, piece in pieces:
        sign = piece.strip()[:1] if piece.strip()[:1] in ("+", "-") else ""
        body = piece.strip()[len(sign) :].strip()
        where = start + offset + len(piece) - len(piece.lstrip())
        if not body:
            if piece.strip() or fixed or groups:
                raise _fail(text, where, f"{sign or '+'!r} is followed by no term.")
            continue
        bars = [i for i, char in _outside_quotes(body) if char == "|"]
        if not bars:
            fixed.append(f"{sign or '+'} {body}")
        elif not (body.startswith("(") and body.endswith(")")):
            raise _fail(text, where, f"a group term stands in parentheses: '({body})'.")
        elif sign == "-":
            raise _fail(text, where, "a group term cannot be subtracted.")
        else:
            groups.append(_group_term(text, start + offset + piece.index("("), body[1:-1]))
    return fixed, groups


def _group_term(text: str, position: int, inside: str) -> GroupTerm:
    """Read the inside of `(expression | factor)`."""
    bars = [i for i, char in _outside_quotes(inside) if char == "|"]
    bar = bars[0]
    expression, factor = inside[:bar].strip(), inside[bar + 1 :].strip()
    if not expression or not factor:
        raise _fail(text, position, "a group term needs both sides of '|', e.g. '(1|g)'.")
    if len(bars) > 1 or expression != "1":
        raise _fail(
            text,
            position,
            f"({inside}) is not a random intercept; this version fits one term '(1|g)'.",
        )
    if factor.startswith("`") and factor.endswith("`") and factor.count("`") == 2:
        factor = factor[1:-1]
    elif not factor.isidentifier():
        raise _fail(
            text,
            position + 1 + bar + 1,
            f"{factor!r} is not a column name; put names with other characters in backticks.",
        )
    return GroupTerm(expression, factor)


def _join_fixed(parts: list[str]) -> str:
    """Join the fixed terms; an empty list means the intercept alone, as everywhere in R."""
    if not parts:
        return "1"
    joined = " ".join(parts)
    return joined[2:] if joined.startswith("+ ") else joined

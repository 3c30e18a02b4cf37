"""Formula text to its parts: response ~ fixed effects + (columns | grouping factor) + …."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ranef.errors import FormulaError, FormulaWarning, warn
from ranef.formula.powers import bare_powers, python_powers

__all__ = ["Formula", "GroupTerm", "canonical_label", "parse_formula"]


# What brms writes after a bar beside the response, and where it belongs here.
_ADDITIONS = {
    "": "'|' stands in group terms, such as (1|g), not beside the response.",
    "se": "known standard errors are an argument here, fit(…, se='column').",
    "weights": "weights are an argument here, fit(…, weights='column').",
    **dict.fromkeys(
        ("trunc", "cens", "trials", "cat", "dec", "rate", "mi", "thres", "subset"),
        "responses are normal here, neither truncated nor censored nor counted; "
        "leave what stands after '|' out if that is right.",
    ),
}


@dataclass(frozen=True)
class GroupTerm:
    """One group term `(expression | factor)`.

    Attributes
    ----------
    expression
        What varies by group, in formulaic's grammar: `1`, `Days` (with an intercept, as in R),
        `0 + x`.
    factors
        Columns whose combination is the grouping factor: one, or several for `a:b`. Names stand
        without backticks.
    correlated
        Whether the columns' effects are correlated, `|`, or independent, `||`.
    """

    expression: str
    factors: tuple[str, ...]
    correlated: bool = True

    @property
    def factor(self) -> str:
        """Name of the grouping factor: `g` or `a:b`."""
        return ":".join(self.factors)

    @property
    def label(self) -> str:
        """The term as priors, values and tables name it, without backticks: `1|g`, `x||g`."""
        expression = self.expression.replace("`", "")
        return f"{expression}{'|' if self.correlated else '||'}{self.factor}"


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
        Right-hand side without group terms and offsets, in formulaic's grammar.
    groups
        The group terms, in order, nesting written out: `(1|a/b)` is `(1|a) + (1|a:b)`.
    offsets
        Expressions inside `offset(…)`, added to the mean with coefficient one.
    nested
        Pairs of outer and inner factor that the formula declares nested by `/`.
    """

    text: str
    response: str
    fixed: str
    groups: tuple[GroupTerm, ...]
    offsets: tuple[str, ...] = ()
    nested: tuple[tuple[str, ...], ...] = ()

    @property
    def response_name(self) -> str:
        """The left-hand side as tables and figures name it: a column without its backticks."""
        return self.response.strip("`")


def canonical_label(label: str) -> str:
    """Bring a group term's label to one spelling, so that users may write it their way.

    Examples
    --------
    >>> canonical_label("1 + Days | Subject"), canonical_label("0 + x|g"), canonical_label("1|b:a")
    ('Days|Subject', '0+x|g', '1|a:b')
    """
    plain = label.replace(" ", "").replace("`", "").replace("^", "**")
    left, bar, right = plain.partition("|")
    if right.startswith("|"):
        bar, right = "||", right[1:]
    if left.startswith("1+"):
        left = left[2:]
    return f"{left}{bar}{':'.join(sorted(right.split(':')))}"


def parse_formula(text: str) -> Formula:
    """Split a formula into response, fixed part, group terms and offsets.

    Parameters
    ----------
    text
        For example `"y ~ 1 + x + (x|g) + (1|a/b) + offset(z)"`. Names that are not Python names
        stand in backticks: ``"`reaction time (ms)` ~ 1 + (1|`subject no`)"``.

    Returns
    -------
    Formula

    Raises
    ------
    FormulaError
        With the position of what cannot be read. Braces are refused, because formulaic would
        run them as Python; so is bare arithmetic before `~`, which it would not compute.

    Warns
    -----
    FormulaWarning
        Of `x^2` or `x**2` outside a call, which is `x`, as in R. Inside calls both mean powers.

    Examples
    --------
    >>> [g.label for g in parse_formula("y ~ x + (x|g) + (1|a/b)").groups]
    ['x|g', '1|a', '1|a:b']
    """
    if not isinstance(text, str):
        raise FormulaError(
            f"The formula is a {type(text).__name__}; text such as 'y ~ 1 + (1|g)' is expected."
        )
    if wrapped := re.match(r"\s*(bf|brmsformula|formula|as\.formula)\s*\(", text):
        raise _fail(text, 0, f"the formula stands alone here, without {wrapped[1]}(…).")
    _check_characters(text)
    response, right, start = _split_sides(text)
    fixed: list[str] = []
    groups: list[GroupTerm] = []
    offsets: list[str] = []
    nested: list[tuple[str, ...]] = []
    for sign, body, where in _pieces(text, right, start):
        at = text.rindex(sign, 0, where) if sign else where
        if any(char == "|" for _, char in _outside_quotes(body)):
            if not (body.startswith("(") and body.endswith(")")):
                raise _fail(text, at, f"a group term stands in parentheses: '({body})'.")
            if sign == "-":
                raise _fail(text, at, "a group term cannot be subtracted.")
            terms = _group_terms(text, where, body[1:-1])
            if len(terms) > 1:
                nested.append(tuple(t.factor for t in terms))
            groups.extend(terms)
        elif body.startswith("offset(") and body.endswith(")"):
            if sign == "-":
                raise _fail(text, at, "an offset cannot be subtracted; write offset(-x).")
            offsets.append(_powers(body[len("offset(") : -1].strip(), inside=True))
        else:
            fixed.append(f"{sign or '+'} {_powers(body)}")
    _warn_of_powers(text, [*fixed, *(g.expression for g in groups)])
    labels = [canonical_label(g.label) for g in groups]
    for i, label in enumerate(labels):
        if label in labels[:i]:
            raise FormulaError(
                f"Formula {text!r} has the group term ({groups[i].label}) twice.", text=text
            )
    return Formula(
        text.strip(),
        _powers(response),
        _join_fixed(fixed),
        tuple(groups),
        tuple(offsets),
        tuple(nested),
    )


def _powers(text: str, *, inside: bool = False) -> str:
    """Write powers inside calls as Python does."""
    return python_powers(text, _outside_quotes(text), inside=inside)


def _warn_of_powers(text: str, parts: list[str]) -> None:
    """Warn of powers that leave a column as it is."""
    found = [power for part in parts for power in bare_powers(part, _outside_quotes(part))]
    for base, exponent in dict.fromkeys(found):
        warn(
            f"Formula {text!r}: a power outside a call crosses terms, as in R, so that of {base!r} "
            f"is {base!r} itself; write I({base}**{exponent}) for the power.",
            FormulaWarning,
        )


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
        joined = re.search(r"[\w.)\]`]$", text[:i]) or re.match(r"[\w.]", text[i + 1 :])
        if char == "." and not joined:
            raise _fail(
                text,
                i,
                "'.' does not stand for all other columns here; name them, e.g. 'y ~ x + z'.",
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


def _called(text: str) -> str:
    """Name of the function that a text begins with a call of."""
    match = re.match(r"\s*(\w+)\s*\(", text)
    return match[1] if match else ""


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
        elif char == "|" and not any(calls):
            raise _fail(text, i, _ADDITIONS.get(_called(text[i + 1 : end]), _ADDITIONS[""]))
        elif char in "+-*/:^%" and not any(calls):
            if re.search(r"[\w)]\s+[\w(\[]|\[", response):
                raise _fail(
                    text,
                    i,
                    f"names with spaces, brackets or signs stand in backticks: '`{response}` ~ …'.",
                )
            raise _fail(
                text,
                i,
                "arithmetic with the response stands in I(), e.g. 'I(y - x) ~ 1 + (1|g)'; "
                f"{response!r} came.",
            )


def _pieces(text: str, right: str, start: int) -> list[tuple[str, str, int]]:
    """Cut the right-hand side at top-level signs: (sign, term, position of the term)."""
    depth, begin = 0, 0
    cuts: list[tuple[int, str]] = []
    for i, char in _outside_quotes(right):
        depth += (char == "(") - (char == ")")
        if depth == 0 and char in "+-" and i > begin:
            cuts.append((begin, right[begin:i]))
            begin = i
    cuts.append((begin, right[begin:]))
    out: list[tuple[str, str, int]] = []
    for offset, piece in cuts:
        stripped = piece.strip()
        sign = stripped[:1] if stripped[:1] in ("+", "-") else ""
        body = stripped[len(sign) :].strip()
        if not body:
            if stripped or out:
                at = start + offset + len(piece) - len(piece.lstrip())
                raise _fail(text, at, f"{sign or '+'!r} is followed by no term.")
            continue
        out.append((sign, body, start + offset + piece.index(body)))
    return out


def _group_terms(text: str, position: int, inside: str) -> list[GroupTerm]:
    """Read the inside of `(expression | factor)`; nesting gives several terms."""
    bars = [i for i, char in _outside_quotes(inside) if char == "|"]
    double = len(bars) == 2 and bars[1] == bars[0] + 1
    if len(bars) > 1 and not double:
        raise _fail(text, position + 1 + bars[1], "a second '|' in one group term.")
    expression, right = inside[: bars[0]].strip(), inside[bars[-1] + 1 :]
    if not expression or not right.strip():
        raise _fail(text, position, "a group term needs both sides of '|', e.g. '(1|g)'.")
    expression = _powers(" ".join(expression.split()))
    where = position + 1 + bars[-1] + 1
    levels = [_interaction(text, where, part) for part in _cut(right, "/")]
    return [
        GroupTerm(
            expression, tuple(name for level in levels[: i + 1] for name in level), not double
        )
        for i in range(len(levels))
    ]


def _interaction(text: str, position: int, part: str) -> tuple[str, ...]:
    """Read `a` or `a:b`, with or without backticks."""
    names = []
    for piece in _cut(part, ":"):
        name = piece.strip()
        if name.startswith("`") and name.endswith("`") and name.count("`") == 2:
            name = name[1:-1]
        elif not name.isidentifier():
            raise _fail(
                text,
                position,
                f"{name!r} is not a column name; put names with other characters in backticks.",
            )
        names.append(name)
    return tuple(names)


def _cut(text: str, separator: str) -> list[str]:
    """Split at a separator outside quotes."""
    at = [i for i, char in _outside_quotes(text) if char == separator]
    begins, ends = [0, *[i + 1 for i in at]], [*at, len(text)]
    return [text[b:e] for b, e in zip(begins, ends, strict=True)]


def _join_fixed(parts: list[str]) -> str:
    """Join the fixed terms; an empty list means the intercept alone, as everywhere in R."""
    if not parts:
        return "1"
    joined = " ".join(parts)
    return joined[2:] if joined.startswith("+ ") else joined

"""Probability of a statement about parameters: the share of draws in which it holds.

A statement is arithmetic and comparisons on names as the summary prints them. Names are replaced by
placeholders before Python's grammar reads the text, and only the kinds of nodes listed here are
evaluated; nothing in a statement can call or look up anything else.
"""

from __future__ import annotations

import ast
import operator
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ranef.common.array_types import Array

__all__ = ["Probability", "Statement", "read_statement"]

_ARITHMETIC: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARISONS: dict[type, Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "min": lambda *values: np.minimum.reduce(np.broadcast_arrays(*values)),
    "max": lambda *values: np.maximum.reduce(np.broadcast_arrays(*values)),
}
_MARK = "_ranef_"
_PLACEHOLDER = _MARK + "{}_"


@dataclass(frozen=True)
class Probability:
    """Probability of a statement, from `Fit.probability`; `float()` gives the number.

    Attributes
    ----------
    statement
        As it was asked.
    value
        Share of draws in which it holds.
    error
        Monte Carlo standard error of value. A share of zero or one, too, has an error: that of one
        draw more or less.
    draws
        Effective number of draws behind it.
    """

    statement: str
    value: float
    error: float
    draws: float

    def __float__(self) -> float:
        """The probability."""
        return self.value

    def __str__(self) -> str:
        """The sentence a statistician would paste."""
        digits = int(np.clip(np.ceil(-np.log10(self.error)), 2, 6))
        return (
            f"P({self.statement}) = {self.value:.{digits}f} "
            f"(Monte Carlo error {self.error:.1g}, {self.draws:,.0f} effective draws)"
        )

    __repr__ = __str__


@dataclass(frozen=True)
class Statement:
    """A parsed statement.

    Attributes
    ----------
    text
        As it was asked.
    names
        The names in it: parameters, and levels of effects as (effect, level).
    tree
        Its expression, names replaced by placeholders in the order of `names`.
    """

    text: str
    names: tuple[str | tuple[str, str], ...]
    tree: ast.expr

    def holds(self, values: Sequence[Array]) -> Array:
        """Where the statement is true, shape (draws,).

        Parameters
        ----------
        values
            Draws of each of `names`, shape (draws,).

        Raises
        ------
        DataError
            If a side of a comparison is no number in some draw.
        """
        bound = {_PLACEHOLDER.format(i): v for i, v in enumerate(values)}
        with np.errstate(all="ignore"):
            return np.asarray(_evaluate(self.tree, bound, self.text), dtype=bool)


def read_statement(
    text: str, parameters: Sequence[str], effects: Mapping[str, Sequence[str]]
) -> Statement:
    """Parse a statement.

    Parameters
    ----------
    text
        For example `"x - 2 * f[b] > 0"` or `"1|g[a] > 1|g[b]"`. Operators + - * / **, comparisons
        < <= > >= (chained too), `and`, `or`, `not`, functions abs, sqrt, exp, log, min, max.
        Backticks set a name apart from arithmetic.
    parameters
        Names of coefficients, SDs and correlations.
    effects
        Levels of each group effect by its name.

    Returns
    -------
    Statement

    Raises
    ------
    DataError
        If a name is unknown, something else than the above stands in the statement, or nothing is
        compared.

    Examples
    --------
    >>> read_statement("abs(x) < 1|g_sigma", ["x", "1|g_sigma"], {}).names
    ('x', '1|g_sigma')
    """
    if not isinstance(text, str):
        raise DataError(f"A statement is text, e.g. 'x > 0'; type {type(text).__name__} came.")
    known = [*parameters, *(f"{e}[{v}]" for e, levels in effects.items() for v in levels)]
    if _MARK in text:
        raise _unknown(_MARK, text, known)
    names: list[str | tuple[str, str]] = []
    coded = _encode(text, parameters, {k: frozenset(v) for k, v in effects.items()}, names).strip()
    try:
        _check_spelling(coded, text)
        tree = ast.parse(coded, mode="eval").body
        _check(tree, coded, text, names, known)
    except DataError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        if (part := _unread(coded, names)) is not None:
            raise _unknown(part, text, known) from None
        raise DataError(
            f"Statement {text[:80]!r} cannot be read; a comparison of parameters is expected, e.g. "
            f"'{parameters[0]} > 0'."
        ) from None
    if not _is_truth(tree):
        raise DataError(
            f"Statement {text!r} compares nothing; add a comparison, e.g. '{text.strip()} > 0'."
        )
    return Statement(text, tuple(names), tree)


# What other languages write, and what a statement does.
_SPELLINGS = (
    (r"&+|\bAND\b", "and"),
    (r"\bOR\b", "or"),
    (r"!(?!=)|\bNOT\b", "not"),
    (r"=>|≥", ">="),
    (r"=<|≤", "<="),
    (r"\^", "**"),
)


def _check_spelling(coded: str, text: str) -> None:
    """Refuse operators of other languages, and say what to write instead."""
    parts = coded.split("|")
    # A bar between comparisons; elsewhere it is part of a name that was not recognised.
    if len(parts) > 1 and all(re.search("[<>]", part) for part in parts if part.strip()):
        raise DataError(f"Statement {text!r} has '|'; write 'or' instead.")
    for pattern, right in _SPELLINGS:
        if (found := re.search(pattern, coded)) is not None:
            raise DataError(f"Statement {text!r} has {found[0]!r}; write {right!r} instead.")
    if re.search(r"(?<![<>=!:])=(?!=)", coded):
        raise _equality(text)


def _equality(text: str) -> DataError:
    """Make the error for a statement that asks whether two numbers are the same."""
    return DataError(
        f"Statement {text!r} asks for equality, which has probability zero; ask how near, e.g. "
        "'abs(a - b) < 1'."
    )


def _encode(
    text: str,
    parameters: Sequence[str],
    effects: Mapping[str, frozenset[str]],
    names: list[str | tuple[str, str]],
) -> str:
    """Replace every known name by a placeholder, the longest name first."""
    ordered = sorted(parameters, key=len, reverse=True)
    out: list[str] = []
    at = 0

    def put(name: str | tuple[str, str], end: int) -> int:
        if name not in names:
            names.append(name)
        out.append(f" {_PLACEHOLDER.format(names.index(name))} ")
        return end

    while at < len(text):
        quoted = text[at] == "`"
        close = text.find("`", at + 1)
        if quoted and close > 0 and text[at : close + 1] not in ordered:
            found = _match(text[at + 1 : close], 0, ordered, effects)
            if found is None or found[1] != close - at - 1:
                raise _unknown(text[at + 1 : close], text, [*parameters, *effects])
            at = put(found[0], close + 1)
            continue
        found = None
        if at == 0 or not _in_word(text[at - 1]):
            found = _match(text, at, ordered, effects)
        if found is None:
            out.append(text[at])
            at += 1
        else:
            at = put(*found)
    return "".join(out)


def _match(
    text: str, at: int, ordered: Sequence[str], effects: Mapping[str, frozenset[str]]
) -> tuple[str | tuple[str, str], int] | None:
    """Find the longest name that starts here, and where it ends."""
    best: tuple[str | tuple[str, str], int] | None = None
    for name in ordered:
        if not text.startswith(name, at):
            continue
        end = at + len(name)
        if end == len(text) or not (_in_word(text[end - 1]) and _in_word(text[end])):
            best = (name, end)
            break
    for effect, levels in effects.items():
        if not text.startswith(f"{effect}[", at):
            continue
        start = at + len(effect) + 1
        end = text.find("]", start)
        while end >= 0:
            if text[start:end] in levels and (best is None or end + 1 > best[1]):
                best = ((effect, text[start:end]), end + 1)
            end = text.find("]", end + 1)
    return best


def _in_word(letter: str) -> bool:
    """Whether a letter can be part of a name or number."""
    return letter.isalnum() or letter in "_."


def _check(
    node: ast.expr,
    coded: str,
    text: str,
    names: Sequence[str | tuple[str, str]],
    known: Sequence[str],
) -> None:
    """Refuse everything but arithmetic, comparisons, logic, listed functions and known names."""

    def written(part: ast.AST) -> str:
        return _decode(ast.get_source_segment(coded, part) or "", names)

    places = {_PLACEHOLDER.format(i) for i in range(len(names))}

    def visit(part: ast.expr) -> None:
        inner: list[ast.expr]
        if isinstance(part, ast.Constant):
            if type(part.value) not in (int, float):
                raise DataError(f"Statement {text!r} holds {part.value!r}; numbers are expected.")
            if isinstance(part.value, int) and part.value > sys.float_info.max:
                raise DataError(
                    f"Statement {text[:80]!r} holds a number above 1e308; smaller ones are "
                    "expected."
                )
            return
        if isinstance(part, ast.Name):
            if part.id not in places:
                raise _unknown(part.id, text, known)
            return
        if isinstance(part, ast.UnaryOp):
            inner = [part.operand]
        elif isinstance(part, ast.BinOp) and type(part.op) in _ARITHMETIC:
            inner = [part.left, part.right]
        elif isinstance(part, ast.BoolOp):
            inner = part.values
        elif isinstance(part, ast.Compare):
            for kind in part.ops:
                if isinstance(kind, (ast.Eq, ast.NotEq)):
                    raise _equality(text)
                if type(kind) not in _COMPARISONS:
                    raise DataError(f"Statement {text!r}: expected comparisons are < <= > >=.")
            inner = [part.left, *part.comparators]
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and not part.keywords:
            if part.func.id not in _FUNCTIONS:
                raise DataError(
                    f"Statement {text!r} calls {part.func.id!r}. "
                    f"{nearest(part.func.id, _FUNCTIONS)}"
                )
            several = part.func.id in ("min", "max")
            if not part.args or (len(part.args) > 1 and not several):
                raise DataError(
                    f"Statement {text!r}: {part.func.id} takes "
                    f"{'one or more values' if several else 'one value'}."
                )
            inner = part.args
        else:
            raise _unknown(written(part), text, known)
        for child in inner:
            if not isinstance(part, ast.BoolOp) and not _is_not(part) and _is_truth(child):
                raise DataError(
                    f"Statement {text!r} calculates with a comparison; use 'and', 'or'."
                )
            if (isinstance(part, ast.BoolOp) or _is_not(part)) and not _is_truth(child):
                raise DataError(
                    f"Statement {text!r}: {written(child)!r} is no comparison; 'and', 'or' and "
                    "'not' join comparisons."
                )
            visit(child)

    visit(node)


def _decode(source: str, names: Sequence[str | tuple[str, str]]) -> str:
    """Put names back in place of placeholders."""
    for i, name in enumerate(names):
        shown = name if isinstance(name, str) else f"{name[0]}[{name[1]}]"
        source = source.replace(_PLACEHOLDER.format(i), shown)
    return " ".join(source.split())


def _unread(coded: str, names: Sequence[str | tuple[str, str]]) -> str | None:
    """Find the side of a comparison that Python's grammar does not read: a name with spaces."""
    for side in re.split(r"[<>]=?|\band\b|\bor\b", coded):
        try:
            ast.parse(side.strip() or "0", mode="eval")
        except SyntaxError:
            return _decode(side, names)
        except (ValueError, RecursionError, MemoryError):
            return None
    return None


def _unknown(name: str, text: str, known: Sequence[str]) -> DataError:
    """Make the error for what is no name of the fit."""
    return DataError(
        f"Statement {text!r} names {name!r}, which the fit does not have. {nearest(name, known)}"
    )


def _is_not(node: ast.AST) -> bool:
    """Whether a node negates."""
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _is_truth(node: ast.AST) -> bool:
    """Whether a node is true or false rather than a number."""
    return isinstance(node, (ast.Compare, ast.BoolOp)) or _is_not(node)


def _evaluate(node: ast.expr, bound: Mapping[str, Array], text: str) -> Any:
    """Evaluate a checked expression."""
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return bound[node.id]
    if isinstance(node, ast.UnaryOp):
        value = _evaluate(node.operand, bound, text)
        return np.logical_not(value) if _is_not(node) else _ARITHMETIC[type(node.op)](value)
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left, bound, text), _evaluate(node.right, bound, text)
        # NumPy's division, so that 1 / 0 is infinite for constants as it is for draws.
        return _ARITHMETIC[type(node.op)](np.float64(1.0) * left, right)
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return join.reduce(np.broadcast_arrays(*(_evaluate(v, bound, text) for v in node.values)))
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return _FUNCTIONS[node.func.id](*(_evaluate(a, bound, text) for a in node.args))
    assert isinstance(node, ast.Compare)
    sides = [_evaluate(v, bound, text) for v in (node.left, *node.comparators)]
    if any(np.isnan(side).any() for side in sides):
        raise DataError(
            f"Statement {text!r} is no number in some draws, such as the log or root of a negative "
            "one; ask for something that is defined everywhere."
        )
    conditions = [
        _COMPARISONS[type(kind)](a, b)
        for kind, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True)
    ]
    return np.logical_and.reduce(np.broadcast_arrays(*conditions))

"""The formula's expressions, in formulaic's language: parsed, their columns listed, evaluated."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import FormulaError

if TYPE_CHECKING:
    import pandas as pd

    from ranef.formula.parse import Formula

__all__ = ["model_matrix", "parse_side", "variables"]


def parse_side(side: str, formula: Formula, *, intercept: bool) -> Any:
    """Parse one side with formulaic, telling its syntax errors in one plain line."""
    from formulaic import Formula as FormulaicFormula
    from formulaic.errors import FormulaicError
    from formulaic.parser import DefaultFormulaParser

    parser = DefaultFormulaParser(include_intercept=intercept)
    try:
        return FormulaicFormula(side, _parser=parser)
    except FormulaicError as error:
        raise _plain(error, side, formula) from None
    except Exception:  # what its parser does not foresee: Python syntax, stray brackets and points
        raise FormulaError(
            f"Formula {formula.text!r}: {side!r} cannot be read; expected columns and function "
            "calls joined by '+'.",
            text=formula.text,
        ) from None


def variables(parsed: Any, formula: Formula, frame: pd.DataFrame) -> set[str]:
    """List the columns that the terms of one side read.

    formulaic's own list leaves out what stands inside `poly()`, `scale()` and the like, columns
    that share a name with one of its functions, and all of a name after a point.
    """
    from formulaic.parser.types import Factor
    from formulaic.transforms import TRANSFORMS

    names: set[str] = set()
    for factor in {f for term in parsed for f in term.factors}:
        if factor.eval_method is Factor.EvalMethod.LOOKUP:
            names.add(str(factor.expr))
        elif factor.eval_method is Factor.EvalMethod.PYTHON:
            values, functions = _names_in(str(factor.expr), formula)
            names |= {n for n in values if n not in TRANSFORMS or n in frame.columns}
            names |= functions - set(TRANSFORMS)
    return names


def model_matrix(parsed: Any, formula: Formula, rows: pd.DataFrame) -> Any:
    """Evaluate formulaic terms; failures in the user's expressions become one line."""
    from formulaic.errors import FormulaicError

    try:
        # What a transform makes of a bad value (log of zero) is told by the finiteness checks.
        with np.errstate(all="ignore"):
            return parsed.get_model_matrix(rows, context={}, na_action="ignore")
    except (FormulaicError, TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FormulaError(f"Formula {formula.text!r}: {reason}", text=formula.text) from None


def _names_in(expression: str, formula: Formula) -> tuple[set[str], set[str]]:
    """Names that a Python expression uses as values, and as functions or modules."""
    quoted: list[str] = []

    def alias(match: re.Match[str]) -> str:
        quoted.append(match[1])
        return f" _quoted_{len(quoted) - 1}_ "

    try:
        tree = ast.parse(re.sub("`([^`]*)`", alias, expression).strip(), mode="eval")
    except SyntaxError:
        raise FormulaError(
            f"Formula {formula.text!r}: {expression!r} is no Python expression; a function call "
            "such as 'log(x)' is expected.",
            text=formula.text,
        ) from None
    unquoted = {f"_quoted_{i}_": name for i, name in enumerate(quoted)}
    nodes = list(ast.walk(tree))
    heads = {id(n.func) for n in nodes if isinstance(n, ast.Call)}
    heads |= {id(n.value) for n in nodes if isinstance(n, ast.Attribute)}
    values: set[str] = set()
    functions: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            name = unquoted.get(node.id, node.id)
            (functions if id(node) in heads else values).add(name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Q":
            values |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    return values, functions


def _plain(error: Exception, side: str, formula: Formula) -> FormulaError:
    """Turn formulaic's message with colour marks into one line with a position."""
    message = str(error)
    marked = re.search(r"⧛\[1;31m(.*?)⧛?\[0m⧚", message, re.DOTALL) or re.search(
        r"\x1b\[1;31m(.*?)\x1b\[0m", message, re.DOTALL
    )
    reason = message.splitlines()[0].replace("insuffient", "insufficient")
    position = -1
    if marked is not None:
        token = marked.group(1).replace("⧚", "").replace("⧛", "")
        position = formula.text.find(token, max(formula.text.find(side), 0))
    where = f", character {position + 1}" if position >= 0 else ""
    return FormulaError(
        f"Formula {formula.text!r}{where}: {reason}",
        text=formula.text,
        position=position + 1 if position >= 0 else None,
    )

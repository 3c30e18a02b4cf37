"""The formula's expressions, in formulaic's language: parsed, their columns listed, evaluated."""

from __future__ import annotations

import ast
import datetime
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import DataError, FormulaError

if TYPE_CHECKING:
    import pandas as pd

    from ranef.formula.parse import Formula

__all__ = ["model_matrix", "parse_side", "refuse_dates", "refuse_foreign", "variables"]

# What R, brms, mgcv and lme4 users write, and what it is called here.
_SPLINE = "bs(x, df=4) or cr(x, df=4), splines of fixed flexibility"
_FOREIGN = {
    **dict.fromkeys(("factor", "as.factor", "ordered", "as.character"), "C(x)"),
    **dict.fromkeys(("ns", "s", "te", "ti", "t2", "gp", "smooth"), _SPLINE),
    **dict.fromkeys(
        ("sqrt", "abs", "sin", "cos", "tan", "sign", "floor", "ceil", "log1p", "expm1", "tanh"),
        "np.{}(x)",
    ),
    **dict.fromkeys(("pow", "power"), "I(x**2)"),
    "as.numeric": "a numeric column in your table",
    "ifelse": "np.where(x > 0, 1, 0)",
    "round": "np.round(x)",
    "pmax": "np.maximum(x, 0)",
    "pmin": "np.minimum(x, 0)",
    "cut": "a column made by pandas.cut in your table",
    "cbind": "one response; fit each by itself",
    "mvbind": "one response; fit each by itself",
    "mo": "C(x), a coefficient for each level",
    "bf": "the formula alone, 'y ~ x + (1|g)'",
}


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
        known = [n for n in re.findall(r"([A-Za-z][\w.]*)\s*\(", side) if "." in n]
        for name in known:
            _refuse_call(name, formula)
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


def refuse_foreign(parsed: Any, formula: Formula, frame: pd.DataFrame) -> None:
    """Refuse calls of functions that other packages know, naming what stands for them here.

    A column that is called like one of them is no function.
    """
    from formulaic.parser.types import Factor
    from formulaic.transforms import TRANSFORMS

    for factor in sorted({f for term in parsed for f in term.factors}, key=lambda f: str(f.expr)):
        if factor.eval_method is not Factor.EvalMethod.PYTHON:
            continue
        tree, _ = _tree(str(factor.expr), formula)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                name = ast.unparse(node.func)
                if name not in TRANSFORMS:
                    _refuse_call(name, formula)
                if name in frame.columns and name not in TRANSFORMS:
                    raise FormulaError(
                        f"Formula {formula.text!r}: {name!r} is a column and no function; write "
                        f"{name}:x for a product with x.",
                        text=formula.text,
                    )


def _refuse_call(name: str, formula: Formula) -> None:
    """Refuse a function by the name that another package gives it."""
    if name in _FOREIGN:
        raise FormulaError(
            f"Formula {formula.text!r}: there is no function {name!r} here; write "
            f"{_FOREIGN[name].format(name)}.",
            text=formula.text,
        )


def refuse_dates(what: str, parsed: Any, formula: Formula, rows: pd.DataFrame) -> None:
    """Refuse dates, times and complex numbers that would become a coefficient for each value.

    `C()` around a date asks for just that, and `day.dt.dayofweek` computes a number of it.
    """
    from formulaic.parser.types import Factor

    for factor in sorted({f for term in parsed for f in term.factors}, key=lambda f: str(f.expr)):
        text = str(factor.expr)
        names = {text} if factor.eval_method is Factor.EvalMethod.LOOKUP else set()
        if factor.eval_method is Factor.EvalMethod.PYTHON:
            tree, quoted = _tree(text, formula)
            if any(isinstance(node, ast.Attribute) for node in ast.walk(tree)):
                continue
            names = _computed(tree, quoted)
        for name in sorted(names & set(rows.columns)):
            kind = _no_number(rows[name])
            if kind:
                raise DataError(
                    f"{what} {name!r} holds {kind} values; numbers, text or categories are "
                    "expected. Turn it into numbers first, e.g. days since a date, or write "
                    f"C({name}) for a coefficient of each value.",
                    column=name,
                )


def _no_number(values: pd.Series[Any]) -> str:
    """Type of dates, times and complex numbers in a column; empty for what a formula can use."""
    if values.dtype.kind in "mMc":
        return str(values.dtype)
    if values.dtype != object:
        return ""
    odd = (datetime.date, datetime.time, datetime.timedelta, complex)
    found = [type(v).__name__ for v in values if isinstance(v, odd)]
    return found[0] if found else ""


def model_matrix(parsed: Any, formula: Formula, rows: pd.DataFrame) -> Any:
    """Evaluate formulaic terms; failures in the user's expressions become one line.

    All that a formula computes passes here, for the data as for new rows, so here numbers become
    float64: the square of an int8 would overflow, the sum of two truth values be one of them.
    """
    from formulaic.errors import FormulaicError

    terms = getattr(parsed, "formula", parsed)
    rows = _as_floats(rows, terms, formula)
    try:
        # What a transform makes of a bad value (log of zero) is told by the finiteness checks.
        with np.errstate(all="ignore"):
            return parsed.get_model_matrix(rows, context={}, na_action="ignore")
    except (FormulaicError, TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FormulaError(f"Formula {formula.text!r}: {reason}", text=formula.text) from None


def _as_floats(rows: pd.DataFrame, terms: Any, formula: Formula) -> pd.DataFrame:
    """Turn numbers that are computed with into float64, and truth values inside expressions.

    Whole numbers that stand bare in `C()` and nowhere else in the terms are labels and stay, as do
    truth values under `&`.
    """
    from formulaic.parser.types import Factor

    numbers: set[str] = set()
    truths: set[str] = set()
    kept: set[str] = set()
    for factor in {f for term in terms for f in term.factors}:
        text = str(factor.expr)
        if factor.eval_method is Factor.EvalMethod.LOOKUP:
            numbers.add(text)
        elif factor.eval_method is Factor.EvalMethod.PYTHON:
            tree, quoted = _tree(text, formula)
            found = _computed(tree, quoted)
            numbers |= found
            logical = any(isinstance(n, (ast.BitAnd, ast.Invert)) for n in ast.walk(tree))
            (kept if logical else truths).update(found)
    out = rows.copy(deep=False)
    for name in numbers & set(rows.columns):
        kind = rows[name].dtype.kind
        if kind in "iuf" or (kind == "b" and name in truths - kept):
            out[name] = rows[name].astype(np.float64)
    return out


def _computed(tree: ast.Expression, quoted: dict[str, str]) -> set[str]:
    """Columns that an expression computes with: all but what stands bare in `C()`."""
    call, label = tree.body, None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "C":
        label = call.args[0] if call.args else None
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n is not label]
    return {quoted.get(n.id, n.id) for n in nodes} | _looked_up(tree)


def _looked_up(tree: ast.Expression) -> set[str]:
    """Columns that an expression names in `Q("…")`."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "Q"]
    return {str(a.value) for call in calls for a in call.args if isinstance(a, ast.Constant)}


def _tree(expression: str, formula: Formula) -> tuple[ast.Expression, dict[str, str]]:
    """Parse a Python expression; give the columns behind its backticks by their stand-ins."""
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
    return tree, {f"_quoted_{i}_": name for i, name in enumerate(quoted)}


def _names_in(expression: str, formula: Formula) -> tuple[set[str], set[str]]:
    """Names that a Python expression uses as values, and as functions or modules."""
    tree, unquoted = _tree(expression, formula)
    nodes = list(ast.walk(tree))
    heads = {id(n.func) for n in nodes if isinstance(n, ast.Call)}
    heads |= {id(n.value) for n in nodes if isinstance(n, ast.Attribute)}
    values: set[str] = set()
    functions: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            name = unquoted.get(node.id, node.id)
            (functions if id(node) in heads else values).add(name)
    return values | _looked_up(tree), functions


def _plain(error: Exception, side: str, formula: Formula) -> FormulaError:
    """Turn formulaic's message with colour marks into one line with a position."""
    message = str(error)
    marked = re.search(r"⧛\[1;31m(.*?)⧛?\[0m⧚", message, re.DOTALL) or re.search(
        r"\x1b\[1;31m(.*?)\x1b\[0m", message, re.DOTALL
    )
    reason = message.splitlines()[0].replace("insuffient", "insufficient")
    if reason.startswith("Missing operator"):
        reason = f"{reason.rstrip('.')}; names with spaces or signs stand in backticks."
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

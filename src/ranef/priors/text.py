"""Priors as text: read without evaluating anything but numbers, and written back."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from ranef.errors import PriorError, nearest
from ranef.priors.stated import (
    dirichlet,
    flat,
    half_t,
    jeffreys,
    lkj,
    variance,
)

if TYPE_CHECKING:
    pass

__all__ = [
    "frozen_parameters",
    "parse_prior",
    "prior_text",
]


# What Stan, brms, PyMC and R call a distribution, and the same here.
_ELSEWHERE = {
    **dict.fromkeys(("exponential", "exp", "dexp"), "expon(scale=1 / rate)"),
    **dict.fromkeys(("normal", "Normal", "gaussian", "dnorm"), "norm(mean, sd)"),
    **dict.fromkeys(("half_normal", "HalfNormal", "halfnormal"), "halfnorm(scale=sd)"),
    **dict.fromkeys(("half_cauchy", "HalfCauchy"), "halfcauchy(scale=s)"),
    **dict.fromkeys(("student_t", "StudentT", "student"), "t(df, mean, scale)"),
    **dict.fromkeys(("half_student_t", "HalfStudentT"), "half_t(scale, df=3)"),
    **dict.fromkeys(
        ("inv_gamma", "inverse_gamma", "InverseGamma", "igamma"), "invgamma(a, scale=b)"
    ),
    **dict.fromkeys(
        ("log_normal", "lognormal", "LogNormal", "dlnorm"), "lognorm(sd, scale=median)"
    ),
    **dict.fromkeys(("unif", "dunif", "Uniform"), "uniform(low, high - low)"),
    **dict.fromkeys(("Gamma", "dgamma"), "gamma(shape, scale=1 / rate)"),
}


def parse_prior(text: str) -> Any:
    """Read a prior written as text, e.g. on the command line.

    Parameters
    ----------
    text
        `half_t(50)`, `variance(invgamma(0.1, scale=1))`, `norm(0, 10)`, `flat`, `jeffreys`, or
        any other continuous `scipy.stats` distribution with numbers as arguments.

    Returns
    -------
    frozen distribution, Variance or Power

    Raises
    ------
    PriorError
        Saying what cannot be read, and where.

    Examples
    --------
    >>> parse_prior("jeffreys").name
    'jeffreys'
    """
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        position = max(error.offset or 1, 1)
        raise PriorError(
            f"Prior {text!r}, character {position}: {error.msg}; expected "
            "for example 'half_t(50)' or 'variance(invgamma(0.1, scale=1))'.",
            text=text,
            position=position,
        ) from None
    return _build(tree, text)


def _build(node: ast.expr, text: str) -> Any:
    """Make the prior that a syntax tree names; nothing is evaluated but numbers."""
    where = f"Prior {text!r}, character {node.col_offset + 1}"
    call = node if isinstance(node, ast.Call) else None
    head = call.func if call is not None else node
    if not isinstance(head, ast.Name):
        raise PriorError(f"{where}: a distribution's name is expected, e.g. 'half_t(50)'.")
    if head.id in ("flat", "jeffreys"):
        if call is not None and (call.args or call.keywords):
            raise PriorError(f"{where}: {head.id} takes no arguments.")
        return flat() if head.id == "flat" else jeffreys()
    if call is None:
        raise PriorError(f"{where}: {head.id!r} needs arguments, e.g. '{head.id}(scale=1)'.")
    if head.id == "variance":
        if len(call.args) != 1 or call.keywords:
            raise PriorError(f"{where}: variance takes one distribution.")
        return variance(_build(call.args[0], text))
    if head.id in ("dirichlet", "invwishart"):
        return _multivariate(head.id, call, where)
    arguments = [_number(a, text) for a in call.args]
    named = {str(k.arg): _number(k.value, text) for k in call.keywords}
    own: dict[str, Any] = {"half_t": half_t, "lkj": lkj}
    family = own[head.id] if head.id in own else _family(head.id, where)
    try:
        return family(*arguments, **named)
    except TypeError as error:
        raise PriorError(f"{where}: {head.id}: {str(error).split('() ')[-1]}.") from None


def _multivariate(name: str, call: ast.Call, where: str) -> Any:
    """Make a prior whose arguments are lists or mappings of numbers."""
    try:
        arguments = [ast.literal_eval(a) for a in call.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        if name == "dirichlet":
            return dirichlet(*arguments, **named)
        from scipy import stats

        return stats.invwishart(*arguments, **named)
    except PriorError:
        raise
    except (TypeError, ValueError) as error:
        raise PriorError(f"{where}: {name}: {error}.") from None


def _family(name: str, where: str) -> Any:
    """Find a continuous scipy.stats family by name."""
    from scipy import stats

    family = getattr(stats, name, None)
    if not isinstance(family, stats.rv_continuous):
        families = [n for n in dir(stats) if isinstance(getattr(stats, n), stats.rv_continuous)]
        own = ["half_t", "flat", "jeffreys", "lkj", "variance", "dirichlet", "invwishart"]
        known = [*own, *families]
        if name in _ELSEWHERE:
            raise PriorError(
                f"{where}: no distribution is called {name!r}; names and arguments are those of "
                f"scipy.stats, so write {_ELSEWHERE[name]}."
            )
        raise PriorError(f"{where}: no distribution is called {name!r}. {nearest(name, known)}")
    return family


def _number(node: ast.expr, text: str) -> float:
    """Read a number, with or without a sign."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PriorError(
            f"Prior {text!r}, character {node.col_offset + 1}: a number is expected.",
            text=text,
            position=node.col_offset + 1,
        )
    return value


def frozen_parameters(frozen: Any) -> tuple[tuple[float, ...], float, float]:
    """Shapes, location and scale of a frozen distribution."""
    shape, location, scale = frozen.dist._parse_args(*frozen.args, **frozen.kwds)
    return tuple(float(s) for s in shape), float(location), float(scale)


def prior_text(frozen: Any) -> str:
    """Write a frozen distribution as a call that `parse_prior` reads back."""
    if frozen.dist.name == "half_t":
        shape, _, scale = frozen_parameters(frozen)
        return f"half_t({scale:.12g}, df={shape[0]:.12g})"
    # Adding zero turns -0.0, which would not read back as the same text, into 0.
    arguments = [f"{a + 0.0:.12g}" for a in frozen.args]
    arguments += [f"{k}={v + 0.0:.12g}" for k, v in frozen.kwds.items()]
    return f"{frozen.dist.name}({', '.join(arguments)})"

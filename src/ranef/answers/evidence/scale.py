"""Bayes factors in words and as a picture (Kass and Raftery 1995, JASA 90, 773)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.common.figures import finish, panels, wrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_evidence", "in_words", "ratio", "shown"]

# Characters of a model's name in a line.
_LINE = 85
# Bayes factors from which on the evidence is called so.
_SCALE = (
    (1.0, "not worth more than a bare mention"),
    (3.0, "positive"),
    (20.0, "strong"),
    (150.0, "very strong"),
)


def in_words(log_value: float) -> str:
    """Kass and Raftery's word for a Bayes factor and its inverse alike.

    Parameters
    ----------
    log_value
        Natural logarithm of the Bayes factor.

    Examples
    --------
    >>> in_words(np.log(30)), in_words(-np.log(2))
    ('strong', 'not worth more than a bare mention')
    """
    size = abs(log_value)
    return [word for least, word in _SCALE if size >= np.log(least)][-1]


def ratio(log_value: float) -> float:
    """A Bayes factor from its logarithm: zero or infinity where it leaves double precision."""
    with np.errstate(over="ignore"):
        return float(np.exp(log_value))


def shown(log_value: float) -> str:
    """Write a Bayes factor, of any size.

    Examples
    --------
    >>> shown(np.log(31.4)), shown(400.0)
    ('31.4', 'exp(400.0)')
    """
    return f"{np.exp(log_value):.3g}" if abs(log_value) < np.log(1e5) else f"exp({log_value:.1f})"


def draw_evidence(log_value: float, error: float, numerator: str, denominator: str) -> Figure:
    """A Bayes factor on a logarithmic axis, over the ranges that words stand for.

    Parameters
    ----------
    log_value, error
        Natural logarithm of the Bayes factor and its standard error.
    numerator, denominator
        Names of the two models.

    Returns
    -------
    matplotlib.figure.Figure
    """
    left, right = wrap(f"\u2190 {denominator}", _LINE), wrap(f"{numerator} \u2192", _LINE)
    lines = left.count("\n") + right.count("\n") + 2
    figure, (axes,) = panels(size=(7.0, 2.0 + 0.16 * lines))
    center, reach = log_value / np.log(10), max(3.0, abs(log_value) / np.log(10) + 0.5)
    edges = [*(np.log10(least) for least, _ in _SCALE), reach]
    for k, (_, word) in enumerate(_SCALE):
        for sign in (-1, 1):
            low, high = sorted((sign * edges[k], sign * edges[k + 1]))
            axes.axvspan(low, high, color="0.35", alpha=0.06 + 0.1 * k, lw=0)
            if k and high - low > 0.06 * 2 * reach:
                axes.text(0.5 * (low + high), 0.72, word, ha="center", fontsize=8)
    if 2 * edges[1] > 0.06 * 2 * reach:
        axes.text(0, 0.6, "hardly\nany", ha="center", fontsize=8)
    axes.errorbar(center, 0, xerr=2 * error / np.log(10), fmt="o", color="C0", capsize=3)
    axes.set(xlim=(-reach, reach), ylim=(-1, 1), yticks=[])
    axes.set_xlabel("log10 Bayes factor (bar: 2 standard errors of its computation)")
    # One above the other, so that long formulas do not meet.
    axes.set_title(right + "\n" * (left.count("\n") + 1), loc="right", fontsize=9)
    axes.set_title(left, loc="left", fontsize=9)
    return finish(figure)

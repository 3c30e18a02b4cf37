"""Labels that start anew: a nested factor written as if it were crossed."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget
from ranef.errors import NestingWarning, warn

if TYPE_CHECKING:
    from ranef.common.array_types import IntArray
    from ranef.formula.grouping import Factor
    from ranef.formula.parse import Formula

    Coded = tuple[Factor, IntArray]

__all__ = ["check_nesting"]

# Share of the incomplete outer levels in which the labels must start anew, and of the pairs that a
# nearly complete crossing has.
_MOST = 0.9
# Share of the outer levels that must lack some label: fewer are gaps in a crossed design.
_LACKING = 0.2
# How seldom gaps at random would leave the first labels only, as a log probability.
_BY_CHANCE = math.log(0.01)


def check_nesting(
    formula: Formula, factors: tuple[Factor, ...], codes: tuple[IntArray, ...]
) -> None:
    """Warn of a factor whose labels are used again in every level of another.

    Casks a, b, c in every batch may be three casks that all batches went through (crossed) or other
    casks each time (nested), and the formulas differ: `(1|batch) + (1|cask)` and `(1|batch/cask)`.
    Where every batch has every cask, or nearly, the data look the same and nothing is said: most
    such tables are experiments in which each subject saw each item. Where batches have different
    numbers of casks, each those that come first, labels were counted anew in each, and it is asked
    whether nesting is meant. It is asked where

    - the two stand alone as grouping factors and no term combines them, so that nobody has said
      how they relate;
    - the inner factor's labels are generic: single letters, or whole numbers in an unbroken run
      from 0 or 1, but not 0 and 1 alone, which are a no and a yes;
    - at least one pair in ten does not occur, and at least one in five outer levels lacks labels;
    - in nine of ten of these, those seen are the first of the run, as many as there are, which
      would happen in one case of a hundred at most if each had lost as many at random;
    - most of the pairs that occur have two rows or more. With one row each (every plate tests
      every sample once) an effect for each pair could not be told from the residual, so nesting
      cannot be meant.

    Where it could be asked either way round, the factor with fewer levels is taken to be the inner.

    Parameters
    ----------
    formula
        Its group terms.
    factors, codes
        From `ranef.formula.grouping.grouping_factors`.

    Warns
    -----
    NestingWarning
        Once for each such pair.
    """
    together = {frozenset(p) for t in formula.groups for p in combinations(t.factors, 2)}
    alone = {t.factor for t in formula.groups if len(t.factors) == 1}
    coded = [f for f in zip(factors, codes, strict=True) if f[0].name in alone]
    for pair in combinations(coded, 2):
        if frozenset(factor.name for factor, _ in pair) in together:
            continue
        outer, inner = sorted(pair, key=lambda f: -len(f[0].levels))
        if not (_starts_anew(outer, inner) or _starts_anew(inner, outer)):
            continue
        if not _starts_anew(outer, inner):
            outer, inner = inner, outer
        (a, b), levels = (outer[0].name, inner[0].name), inner[0].levels
        shown = ", ".join(levels[:3]) + ("" if len(levels) <= 3 else ", …")
        warn(
            f"The levels of {b!r} ({shown}) start anew in every level of {a!r}, which have "
            f"different numbers of them. If each belongs to one {a!r} alone, write "
            f"(1|{_quoted(a)}/{_quoted(b)}). If the same {b!r} goes with every {a!r}, nothing is "
            f"wrong; (1|{_quoted(a)}:{_quoted(b)}) beside the two lets them interact and ends this "
            "warning.",
            NestingWarning,
        )


def _starts_anew(outer: Coded, inner: Coded) -> bool:
    """Whether generic labels of `inner` are used again from the first in the levels of `outer`."""
    order = _run(inner[0].levels)
    A, B = len(outer[0].levels), len(inner[0].levels)
    if order is None or A < 2 or B < 2 or A * B > budget.NESTED_PAIRS:
        return False
    count = _table(outer, inner)[:, order]
    if np.mean(count[count > 0] > 1) <= 0.5:
        return False
    seen = count > 0
    number = seen.sum(axis=1)
    first = (seen == (np.arange(B) < number[:, None])).all(axis=1)
    lacking = number < B
    if np.mean(seen) >= _MOST or np.mean(lacking) < _LACKING:
        return False
    if np.mean(number > 1) <= 0.5 or np.mean(first[lacking]) < _MOST:
        return False
    chance = -sum(math.log(math.comb(B, int(k))) for k in number[lacking & first])
    return chance <= _BY_CHANCE


def _quoted(name: str) -> str:
    """A column's name as a formula takes it."""
    return name if name.isidentifier() else f"`{name}`"


def _table(outer: Coded, inner: Coded) -> IntArray:
    """Rows of each pair of levels, shape (outer levels, inner levels)."""
    A, B = len(outer[0].levels), len(inner[0].levels)
    counted = np.bincount(outer[1] * B + inner[1], minlength=A * B)
    return np.asarray(counted.reshape(A, B), dtype=np.intp)


def _run(levels: tuple[str, ...]) -> IntArray | None:
    """Order of labels that are single letters or a run of numbers from 0 or 1; None for others."""
    if all(len(v) == 1 and v.isalpha() for v in levels):
        return np.argsort(np.array(levels))
    if not all(v.isdecimal() for v in levels):
        return None
    numbers = np.array([int(v) for v in levels])
    if set(levels) == {"0", "1"}:
        return None
    order = np.argsort(numbers)
    run = numbers[order] - numbers.min()
    return order if numbers.min() <= 1 and np.array_equal(run, np.arange(len(levels))) else None

"""Rows with equal predictors merged into one, sorted by group: what other families need of data.

A Bernoulli row depends on its predictors alone, so that a designed experiment's many rows cost what
its few cells cost (mathematics.md, 4.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ranef.errors import DataError
from ranef.numerics.linear_dependence import aliased_columns

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray
    from ranef.formula.rows import Rows

__all__ = ["KeptEffects", "MergedRows", "merge_rows"]


@dataclass(frozen=True)
class KeptEffects:
    """A column whose effects stand among the coefficients.

    Attributes
    ----------
    place
        Position among `DesignSpec.effect_columns`.
    levels
        Number of its effects.
    codes
        Level of each merged row, shape (R,).
    column
        What multiplies them, shape (R,).
    """

    place: int
    levels: int
    codes: IntArray
    column: Array


@dataclass(frozen=True)
class MergedRows:
    """R merged rows of N, sorted by the level of the factor whose effects are integrated out.

    Attributes
    ----------
    N
        Number of rows before.
    y, n
        Response and trials, or the number of rows that were merged, shape (R, 1).
    offset
        Shape (R, 1).
    X
        Fixed-effect columns in internal coordinates, orthogonal with mean square one over the rows
        as they came, shape (R, p).
    T
        From internal to the user's coefficients, beta = T beta~, shape (p, p).
    place
        Position among `DesignSpec.effect_columns` of the one whose effects are integrated out.
    Z
        What multiplies these effects, shape (R, 1).
    codes
        Their level in each merged row, shape (R,), ascending.
    first
        Position of each level's first row, shape (G,). Every level has one.
    kept
        The others.
    """

    N: int
    y: Array
    n: Array
    offset: Array
    X: Array
    T: Array
    place: int
    Z: Array
    codes: IntArray
    first: IntArray
    kept: tuple[KeptEffects, ...] = ()

    @property
    def constant_effect(self) -> bool:
        """Whether an effect adds the same to all rows of its group."""
        return bool(np.all(self.Z == 1.0))

    @property
    def linear(self) -> int:
        """Number of coefficients and kept effects together."""
        return int(self.X.shape[1]) + sum(kept.levels for kept in self.kept)

    @cached_property
    def design(self) -> Array:
        """Columns of coefficients and of kept effects, shape (R, linear)."""
        blocks = [self.X]
        for kept in self.kept:
            block = np.zeros((len(self.codes), kept.levels))
            block[np.arange(len(block)), kept.codes] = kept.column
            blocks.append(block)
        return np.hstack(blocks)

    @cached_property
    def places_of_kept(self) -> IntArray:
        """Place of each kept effect's column, in their order."""
        return np.concatenate(
            [np.zeros(0, dtype=np.intp), *(np.full(k.levels, k.place) for k in self.kept)]
        )

    def internal(self, beta: Array) -> Array:
        """Coefficients (n, p) of the user's coordinates in internal ones."""
        return np.asarray(np.linalg.solve(self.T, beta.T).T) if len(self.T) else beta


def merge_rows(rows: Rows, trials: Array | None, *, sums: bool) -> MergedRows:
    """Merge rows of a model whose effects are independent of each other.

    Parameters
    ----------
    rows
        From `ranef.formula.rows.evaluate`.
    trials
        Trials of each row, shape (N,); None where the family has none.
    sums
        Whether rows with equal predictors merge whatever their response; else equal responses are
        needed.

    Returns
    -------
    MergedRows
        Sorted by the factor with most levels.

    Raises
    ------
    DataError
        If fixed-effect columns are combinations of others.
    """
    N, effects = len(rows.y), rows.spec.effect_columns
    X, T = _internal(rows)
    columns = np.column_stack([np.ones(N), rows.slopes])
    levels = [len(rows.spec.factors[g.factor].levels) for g in effects]
    main = int(np.argmax(levels))
    Z = [columns[:, e.column] for e in effects]
    codes = [rows.codes[e.factor] for e in effects]
    offset = np.zeros(N) if rows.offset is None else rows.offset
    keys = [codes[main], *codes, *rows.X.T, *Z, offset, *([] if sums else [rows.y])]
    order = np.lexsort(keys[::-1])
    fresh = np.zeros(N, dtype=bool)
    fresh[0] = True
    for key in keys:
        fresh[1:] |= key[order][1:] != key[order][:-1]
    start = np.flatnonzero(fresh)
    at = order[start]
    n = np.ones(N) if trials is None else trials
    y = np.add.reduceat(rows.y[order], start) if sums else rows.y[at]
    own = codes[main][at]
    return MergedRows(
        N=N,
        y=y[:, None],
        n=np.add.reduceat(n[order], start)[:, None],
        offset=offset[at][:, None],
        X=X[at],
        T=T,
        place=main,
        Z=Z[main][at][:, None],
        codes=own,
        first=np.flatnonzero(np.diff(own, prepend=-1)),
        kept=tuple(
            KeptEffects(j, levels[j], codes[j][at], Z[j][at])
            for j in range(len(effects))
            if j != main
        ),
    )


def _internal(rows: Rows) -> tuple[Array, Array]:
    """Columns that are orthogonal over rows, and the way back to the user's coefficients."""
    N, p = rows.X.shape
    if not p:
        return rows.X, np.empty((0, 0))
    if found := aliased_columns(rows.X):
        raise DataError(
            f"Fixed-effect column {rows.spec.fixed.names[found[0]]!r} is a combination of those "
            "before it, so its coefficient is not determined; leave it out, or use aliased='drop'."
        )
    R = np.linalg.qr(rows.X, mode="r")
    T = np.linalg.inv(R) * np.sqrt(N)
    return rows.X @ T, T

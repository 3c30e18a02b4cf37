"""What is left out at a time, rows or groups, and whether the rest still has a posterior.

With flat coefficients the density of left-out rows exists only where the other rows determine
every one of those coefficients: with Q an orthonormal basis of the weighted columns, where
`I - Q_j'Q_j` is not singular (mathematics.md, 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.cells.from_rows import compress
from ranef.cells.orthonormal import orthonormalize
from ranef.common.arguments import brief, is_name
from ranef.errors import DataError, ImproperPosteriorError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ranef.common.array_types import Array, IntArray
    from ranef.formula.rows import Rows
    from ranef.mixed_model.model import ModelSpec

__all__ = [
    "Units",
    "internal_rows",
    "products_by_unit",
    "refuse_undetermined",
    "units_of",
    "with_copy",
    "without_rows",
]

# What is left of a direction of the coefficients once a unit is out, as a share of its squares.
_NOTHING = 1e-9


@dataclass(frozen=True)
class Units:
    """A partition of the rows.

    Attributes
    ----------
    factor
        Position of the grouping factor whose levels are left out; None for single rows.
    name
        `row`, or the factor's name.
    labels
        One for each unit, shape (U,).
    codes
        Unit of each row, shape (N,).
    """

    factor: int | None
    name: str
    labels: NDArray[Any]
    codes: IntArray

    @property
    def plural(self) -> str:
        """What the units are, for messages."""
        return "rows" if self.factor is None else f"levels of {self.name}"


def units_of(rows: Rows, unit: str) -> Units:
    """Resolve what a user wants left out.

    Parameters
    ----------
    rows
        The rows.
    unit
        `"row"`, `"group"` where there is one grouping factor, or the name of a factor.

    Returns
    -------
    Units

    Raises
    ------
    DataError
        If there is no such factor, or `"group"` could mean several.
    """
    names = [f.name for f in rows.spec.factors]
    if not is_name(unit, ["row", "group", *names]):
        raise DataError(
            f"unit is {brief(unit)}; 'row', 'group' or a grouping factor is expected. "
            f"{nearest(unit, ['row', 'group', *names])}"
        )
    if unit == "group" and unit not in names:
        if len(names) > 1:
            raise DataError(
                f"unit='group' came, and there are {len(names)} grouping factors; name one of "
                f"them: {', '.join(map(repr, names))}."
            )
        unit = names[0]
    if unit in names:
        at = names.index(unit)
        return Units(at, unit, np.array(rows.spec.factors[at].levels), rows.codes[at])
    every = np.arange(len(rows.y))
    return Units(None, "row", every, every)


def internal_rows(rows: Rows, model: ModelSpec) -> tuple[Array, Array]:
    """Rows [x~ y~] in the design's internal coordinates (N, p + 1), and their weights (N,)."""
    rest = rows.response - rows.X @ model.response.beta_ls
    w = np.ones(len(rest)) if rows.weights is None else rows.weights
    return np.column_stack([rows.X @ model.design.T, rest]), w


def products_by_unit(V: Array, w: Array, units: Units) -> Array:
    """Weighted cross-products V_j'V_j of each unit's rows, shape (U, P, P)."""
    order = np.argsort(units.codes, kind="stable")
    starts = np.searchsorted(units.codes[order], np.arange(len(units.labels)))
    V, w = V[order], w[order]
    out = np.empty((len(units.labels), V.shape[1], V.shape[1]))
    for i in range(V.shape[1]):
        out[:, i] = np.add.reduceat((w * V[:, i])[:, None] * V, starts)
    return out


def without_rows(model: ModelSpec, rows: Rows, out: NDArray[np.bool_]) -> ModelSpec:
    """The same model, priors included, of the data without the rows that are `out`, shape (N,).

    Levels that lost all their rows are gone, and the others numbered anew, in the same order.
    """
    rest = rows.take(np.flatnonzero(~out))
    return _model_of(model, rest, rest.codes)


def with_copy(model: ModelSpec, rows: Rows, units: Units, j: int) -> ModelSpec:
    """The same model with one more group, whose rows and responses are those of group j of `units`.

    Levels of other factors that occur in this group alone, as casks do in a batch, get copies too;
    those that occur elsewhere are shared.
    """
    again = np.flatnonzero(units.codes == j)
    codes = []
    for factor, code in zip(rows.spec.factors, rows.codes, strict=True):
        G, copied = len(factor.levels), code[again]
        own = np.bincount(copied, minlength=G) == np.bincount(code, minlength=G)
        codes.append(np.concatenate([code, copied + G * own[copied]]))
    both = rows.take(np.concatenate([np.arange(len(units.codes)), again]))
    return _model_of(model, both, codes)


def _model_of(model: ModelSpec, rows: Rows, codes: Sequence[IntArray]) -> ModelSpec:
    """The same model of other rows, whose levels, copies included, are numbered anew, in order."""
    taken = [np.unique(code, return_inverse=True) for code in codes]
    spec = replace(
        rows.spec,
        factors=tuple(
            replace(f, labels=(), levels=tuple(f.levels[j % len(f.levels)] for j in seen))
            for f, (seen, _) in zip(rows.spec.factors, taken, strict=True)
        ),
    )
    cells = compress(replace(rows, spec=spec, codes=tuple(code for _, code in taken)))
    factors = tuple(
        replace(at, levels=len(own.levels), codes=level)
        for at, own, level in zip(model.design.factors, spec.factors, cells.level, strict=True)
    )
    design, response = orthonormalize(cells, model.names, factors)
    return replace(model, spec=spec, design=design, response=response)


def refuse_undetermined(rows: Rows, model: ModelSpec, units: Units) -> None:
    """Refuse to leave out what alone determines a coefficient.

    Parameters
    ----------
    rows, model
        The data.
    units
        What is left out at a time.

    Raises
    ------
    ImproperPosteriorError
        If a flat coefficient is open without some unit.
    DataError
        If one with a normal prior is open without some group: its density exists, but the formula
        for groups does not give it.
    """
    flat = model.prior_precision == 0
    asked = flat if units.factor is None else np.ones_like(flat)
    if not asked.any():
        return
    X = rows.X[:, asked]
    w = np.ones(len(X)) if rows.weights is None else rows.weights
    # Columns of one length, so that their units do not matter.
    X = X / np.sqrt(w @ X**2)
    Q = np.linalg.qr(np.sqrt(w)[:, None] * X)[0]
    if units.factor is None:
        left = 1 - np.einsum("ni,ni->n", Q, Q)
    else:
        left = 1 - np.linalg.eigvalsh(products_by_unit(Q, np.ones(len(Q)), units))[:, -1]
    bad = np.flatnonzero(left < _NOTHING)
    if not len(bad):
        return
    first = units.labels[bad[0]]
    others = units.codes != bad[0]
    direction = np.abs(np.linalg.svd(np.sqrt(w[others])[:, None] * X[others])[2][-1])
    names = [n for n, is_asked in zip(model.names, asked, strict=True) if is_asked]
    free = [n for n, d in zip(names, direction, strict=True) if d > 0.1 * direction.max()]
    what = f"row {first}" if units.factor is None else f"{first!r} of {units.name}"
    more = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
    said = f"Without {what}{more} nothing in the data determines {', '.join(free)}"
    details = {"unit": first, "coefficients": tuple(free)}
    if any(is_flat for n, is_flat in zip(model.names, flat, strict=True) if n in free):
        raise ImproperPosteriorError(
            f"{said}, so under a flat prior what was left out has no predictive density. Give "
            "normal priors and leave out rows, or leave out something else.",
            **details,
        )
    raise DataError(
        f"{said} but the prior, which leaving out groups does not support; leave out rows "
        "instead, unit='row', or drop the coefficient from the formula.",
        **details,
    )

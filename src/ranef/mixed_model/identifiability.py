"""What the data cannot tell of variances, so only priors would answer (mathematics.md, 8.2)."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import IdentifiabilityError, IdentifiabilityWarning, warn
from ranef.mixed_model.parameters import correlation_label
from ranef.numerics.linear_dependence import aliased_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from ranef.cells.cells import Cells
    from ranef.cells.orthonormal import FactorLayout, OrthonormalCells
    from ranef.common.array_types import Array
    from ranef.mixed_model.parameters import ParameterVector, TermPrior

    # What is told, and the parameters that need a stated prior; none makes it a warning only.
    Lack = tuple[str, tuple[str, ...]]

__all__ = ["check_identified", "free_basis"]

# Share of a column's squares within levels under which it is constant there, and outside of what
# the fixed effects span under which they take it up.
_CONSTANT = 1e-24
_OUTSIDE = 1e-9


def check_identified(
    design: OrthonormalCells,
    parameters: ParameterVector,
    free: NDArray[np.bool_],
    cells: Cells,
    stated: Mapping[str, Any],
) -> None:
    """Refuse, under default priors, what only the prior could answer; warn under stated ones.

    Parameters
    ----------
    design
        The data.
    parameters
        The group terms.
    free
        Which coefficients are flat, shape (p,).
    cells
        The same data as rows see them.
    given
        Priors that were stated, by parameter.

    Raises
    ------
    IdentifiabilityError
        If a parameter is not identified and its prior was not stated.

    Warns
    -----
    IdentifiabilityWarning
        If a parameter is not identified under stated priors, or is identified by nothing but how
        the spread between rows or levels changes.
    """
    found = [f for t in parameters.terms for f in _of_term(design, parameters, t, free, cells)]
    found += [f for i in range(len(design.factors)) for f in _of_columns(design, parameters, i)]
    for a, b in combinations(range(len(design.factors)), 2):
        found += _of_factors(design, parameters, a, b)
    for message, needed in found:
        message = f"{message[0].upper()}{message[1:]}."
        missing = [n for n in needed if n not in stated]
        if missing:
            raise IdentifiabilityError(
                f"{message} State a prior for {' and '.join(map(repr, missing))} to go on all the "
                "same, or bring repeated measurements of more groups.",
                parameters=needed,
            )
        warn(message, IdentifiabilityWarning)


def free_basis(design: OrthonormalCells, free: NDArray[np.bool_]) -> Array:
    """Orthonormal basis of what the flat columns of X span, in internal coordinates.

    Parameters
    ----------
    design
        The data.
    free
        Which coefficients are flat, shape (p,).

    Returns
    -------
    numpy.ndarray
        Shape (p, number of flat coefficients); units of the columns don't matter.
    """
    if free.all():
        return np.eye(design.p)
    return np.asarray(np.linalg.qr(np.linalg.inv(design.T)[:, free])[0])


def _of_term(
    design: OrthonormalCells,
    parameters: ParameterVector,
    term: TermPrior,
    free: NDArray[np.bool_],
    cells: Cells,
) -> Iterator[Lack]:
    """Say what one term lacks by itself: levels, rows, or room beside the fixed effects."""
    factor = design.factors[term.factor]
    effects = factor.levels * len(term.place)
    rows = cells.size
    if len(design.factors) > 1:
        rows = np.bincount(factor.codes, cells.size, minlength=factor.levels)
    alone = rows.max() == 1 and term.names == (f"1|{factor.name}",)
    if factor.levels == 1:
        yield (
            f"{factor.name!r} has a single level, so the data say nothing of "
            f"{_sds(term.names)}: {_posterior_is_prior(term.names)}",
            term.names,
        )
        return
    if names := _taken(design, term, free):
        yield (
            f"the fixed effects hold a coefficient for every level of {factor.name!r}, so the data "
            f"say nothing of {_sds(names)}: {_posterior_is_prior(names)}",
            names,
        )
    elif not parameters.family.dispersions:  # then a single row shows its level's spread
        return
    elif alone and _level_weights_equal(factor, cells):
        yield (
            f"every level of {factor.name!r} has one row, so only the sum sigma^2 + "
            f"{term.label}_sigma^2 is identified, not the two apart: their ratio follows the "
            "prior",
            ("sigma", *term.names),
        )
    elif alone:
        yield (
            f"every level of {factor.name!r} has one row, so sigma and {term.label}_sigma are told "
            "apart by nothing but how the spread of the rows changes with their weights",
            (),
        )
    elif effects >= design.N:
        yield (
            f"({term.label}) has {effects} effects for {design.N} rows, so its variances and sigma "
            "are hardly told apart",
            ("sigma", *term.names),
        )


def _sds(names: tuple[str, ...]) -> str:
    return " and ".join(f"{n}_sigma" for n in names)


def _posterior_is_prior(names: tuple[str, ...]) -> str:
    its = "its" if len(names) == 1 else "their"
    return f"{its} posterior is {its} prior"


def _level_weights_equal(factor: FactorLayout, cells: Cells) -> bool:
    """Whether all levels have the same sum of weights."""
    weight = np.bincount(factor.codes, cells.count, minlength=factor.levels)
    return bool(np.ptp(weight) <= 1e-12 * weight.max())


def _taken(design: OrthonormalCells, term: TermPrior, free: NDArray[np.bool_]) -> tuple[str, ...]:
    """Name the effects whose columns of Z all lie in what the flat fixed effects span."""
    factor = design.factors[term.factor]
    G, codes = factor.levels, factor.codes
    if free.sum() < G:
        return ()
    basis = free_basis(design, free)
    found = []
    for place, name in zip(term.place, term.names, strict=True):
        k = factor.columns[place] - 1
        if k < 0:
            square, cross = design.count, design.count[:, None] * design.mean
        else:
            z = design.slopes[:, k]
            square = design.count * z**2 + design.slope_slope[:, k, k]
            cross = (design.count * z)[:, None] * design.mean + design.slope_x[:, k]
        length = np.bincount(codes, square, minlength=G)
        inside = np.stack([np.bincount(codes, c, minlength=G) for c in cross.T], axis=1) @ basis
        if np.all(length - (inside**2).sum(axis=1) <= _OUTSIDE * length):
            found.append(name)
    return tuple(found)


def _of_columns(design: OrthonormalCells, parameters: ParameterVector, f: int) -> Iterator[Lack]:
    """Say which columns of a factor are constant within each of its levels.

    A level then shows one combination of their effects, with variance sum_ij S_ij z_i z_j at the
    level's values z: what is identified of S is what this tells as z changes from level to level.
    """
    factor = design.factors[f]
    terms = [t for t in parameters.terms if t.factor == f]
    if parameters.family.dispersions and factor.levels * len(factor.columns) >= design.N:
        return  # told already
    codes, G = factor.codes, factor.levels
    weight = np.bincount(codes, design.count, minlength=G)
    values, names, owner = [], [], []
    for t in terms:
        for place, name in zip(t.place, t.names, strict=True):
            k = factor.columns[place] - 1
            if k < 0:
                value, spread, size = np.ones(G), 0.0, 1.0
            else:
                z = design.slopes[:, k]
                value = np.bincount(codes, design.count * z, minlength=G) / weight
                within = float(design.slope_slope[:, k, k].sum())
                spread = within + float(design.count @ (z - value[codes]) ** 2)
                size = within + float(design.count @ z**2)
            if spread <= _CONSTANT * size:
                values.append(value)
                names.append(name)
                owner.append(t)
    pairs = list(combinations(range(len(values)), 2))
    correlated = [(i, j) for i, j in pairs if owner[i] is owner[j] and owner[i].correlations]
    if not pairs or not (correlated or any(np.any(values[i] * values[j]) for i, j in pairs)):
        return
    parts = [v**2 for v in values] + [values[i] * values[j] for i, j in correlated]
    finding = (
        f"{' and '.join(names)} do not vary within any level of {factor.name!r}, so a level shows "
        "only their sum"
    )
    if aliased_columns(np.column_stack(parts)):
        corr = dict.fromkeys(correlation_label(owner[i].label) for i, _ in correlated)
        yield (
            f"{finding}, and their variances{' and correlations' if corr else ''} are not told "
            "apart by the few values they have",
            (*names, *corr),
        )
    else:
        yield (
            f"{finding}; their variances are told apart by nothing but how the spread between "
            "levels changes with them",
            (),
        )


def _of_factors(
    design: OrthonormalCells, parameters: ParameterVector, a: int, b: int
) -> Iterator[Lack]:
    """Say where two factors with an intercept each put the same rows together."""
    first, second = design.factors[a], design.factors[b]
    names = [
        name
        for f, factor in ((a, first), (b, second))
        for t in parameters.terms
        if t.factor == f
        for place, name in zip(t.place, t.names, strict=True)
        if factor.columns[place] == 0
    ]
    if first.levels != second.levels or len(names) < 2:
        return
    pairs = np.unique(first.codes.astype(np.int64) * second.levels + second.codes)
    if len(pairs) == first.levels:
        yield (
            f"{first.name!r} and {second.name!r} put the same rows together, so only the sum "
            f"{names[0]}_sigma^2 + {names[1]}_sigma^2 is identified, not the two apart",
            tuple(names),
        )

"""Model = design + priors, and whether its posterior can exist at all."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.cells import compress
from ranef.columns import FixedTerm, evaluate
from ranef.design import build_design
from ranef.errors import (
    DataError,
    IdentifiabilityError,
    IdentifiabilityWarning,
    ImproperPosteriorError,
    PriorError,
    nearest,
)
from ranef.formula import parse_formula
from ranef.priors import (
    CoefficientPrior,
    coefficient_prior,
    default_scale,
    flat,
    half_t,
    scale_prior,
)
from ranef.table import read_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ranef.cells import Cells
    from ranef.columns import Columns
    from ranef.design import Design
    from ranef.formula import Formula
    from ranef.priors import ScalePrior
    from ranef.types import Array

__all__ = ["Model", "build_model", "model_from_cells"]


@dataclass(frozen=True)
class Model:
    """A random-intercept model, complete: y = X beta + b[g] + e with priors.

    Attributes
    ----------
    formula
        The parsed formula.
    names
        Name of each fixed-effect column.
    terms
        The same columns by term.
    levels
        Names of the groups.
    design
        What the likelihood sees of the data.
    sigma
        Prior on the residual standard deviation.
    group
        Prior on the standard deviation of the group effects.
    coefficients
        One prior per fixed-effect column.
    dropped
        Rows left out because a value was missing.
    """

    formula: Formula
    names: tuple[str, ...]
    terms: tuple[FixedTerm, ...]
    levels: tuple[str, ...]
    design: Design
    sigma: ScalePrior
    group: ScalePrior
    coefficients: tuple[CoefficientPrior, ...]
    dropped: int = 0

    @property
    def prior_precision(self) -> Array:
        """Prior precision of each coefficient, shape (p,); zero where flat."""
        return np.array([c.precision for c in self.coefficients])

    @property
    def prior_mean(self) -> Array:
        """Prior mean of each coefficient, shape (p,)."""
        return np.array([c.mean for c in self.coefficients])

    @property
    def label(self) -> str:
        """Name of the group term: `1|g`."""
        return self.formula.groups[0].label

    def prior_texts(self) -> dict[str, str]:
        """Every prior by parameter, as text that `parse_prior` reads back."""
        texts = {n: c.text for n, c in zip(self.names, self.coefficients, strict=True)}
        return {**texts, self.label: self.group.text, "sigma": self.sigma.text}


def build_model(
    formula: str, data: Any, priors: Mapping[str, Any] | None = None
) -> tuple[Model, Columns]:
    """Read the data once and join them with priors.

    Parameters
    ----------
    formula
        For example `"y ~ 1 + x + (1|g)"`.
    data
        Any table that `read_table` takes.
    priors
        By parameter name; what is left out gets the default.

    Returns
    -------
    model : Model
    columns : Columns
        The rows as read, for the record of observed data.

    Raises
    ------
    RanefError
        One line that says what is wrong with formula, data or priors.
    """
    parsed = parse_formula(formula)
    columns = evaluate(parsed, read_table(data))
    model = model_from_cells(
        parsed, compress(columns), columns.names, columns.terms, columns.levels, priors
    )
    if columns.dropped:
        model = replace(model, dropped=columns.dropped)
    return model, columns


def model_from_cells(
    formula: Formula,
    cells: Cells,
    names: tuple[str, ...],
    terms: tuple[FixedTerm, ...],
    levels: tuple[str, ...],
    priors: Mapping[str, Any] | None = None,
) -> Model:
    """Join compressed data with priors and refuse what has no proper posterior.

    Parameters
    ----------
    formula, names, terms, levels
        What the cells were made from.
    cells
        The compressed data.
    priors
        By parameter name.

    Returns
    -------
    Model
    """
    label = formula.groups[0].label
    _check_names(terms, label, formula.groups[0].factor)
    given = dict(priors or {})
    by_column = _spread_terms(given, names, terms, label)

    def scale(name: str) -> ScalePrior:
        prior = given[name] if name in given else half_t(default_scale(cells.mad))
        return scale_prior(prior, name)

    model = Model(
        formula=formula,
        names=names,
        terms=terms,
        levels=levels,
        design=build_design(cells, names),
        sigma=scale("sigma"),
        group=scale(label),
        coefficients=tuple(coefficient_prior(by_column.get(n, flat()), n) for n in names),
    )
    _check_identified(model, given)
    _check_proper(model)
    return model


def _check_names(terms: Sequence[FixedTerm], label: str, factor: str) -> None:
    """Refuse fixed effects that would overwrite another variable or dimension of the draws."""
    taken = {label, f"{label}_sigma", "sigma", "chain", "draw", f"{factor}__factor_dim"}
    taken |= {f"{t.name}_dim" for t in terms if t.levels}
    for term in terms:
        if term.name in taken:
            raise DataError(
                f"A fixed effect cannot be called {term.name!r}, which names something else in "
                "the draws; rename the column.",
                column=term.name,
            )
        taken.add(term.name)


def _spread_terms(
    given: Mapping[str, Any], names: Sequence[str], terms: Sequence[FixedTerm], label: str
) -> dict[str, Any]:
    """Give each column the prior of its term or its own; refuse names that mean nothing."""
    columns = {t.name: [names[i] for i in t.columns] for t in terms}
    known = dict.fromkeys(["sigma", label, *columns, *names])
    for name in given:
        if name not in known:
            raise PriorError(
                f"A prior was given for {name!r}, which the model does not have. "
                f"{nearest(name, known)}",
                parameter=name,
            )
    spread = {c: given[t] for t, owned in columns.items() if t in given for c in owned}
    return {**spread, **{n: given[n] for n in names if n in given}}


def _check_identified(model: Model, given: Mapping[str, Any]) -> None:
    """Refuse, under default priors, what only the prior could answer; warn under stated ones."""
    design, label = model.design, model.label
    if design.G == 1:
        told = (
            f"{model.formula.groups[0].factor!r} has a single level, so the data say nothing of "
            f"{label}_sigma: its posterior is its prior"
        )
        needed = [label]
    elif design.size[-1] == 1:
        told = (
            f"every level of {model.formula.groups[0].factor!r} has one row, so only the sum "
            f"sigma^2 + {label}_sigma^2 is identified, not the two apart: their ratio follows "
            "the prior"
        )
        needed = ["sigma", label]
    else:
        return
    missing = [n for n in needed if n not in given]
    if missing:
        raise IdentifiabilityError(
            f"{told[0].upper()}{told[1:]}. State a prior for {' and '.join(map(repr, missing))} to "
            "go on all the same, or bring repeated measurements of more groups.",
            parameters=tuple(needed),
        )
    warnings.warn(f"{told[0].upper()}{told[1:]}.", IdentifiabilityWarning, stacklevel=2)


def _check_proper(model: Model) -> None:
    """Refuse improper posteriors (Hobert and Casella 1996; Gelman 2006; mathematics.md, 8.4)."""
    design, label = model.design, model.label
    flat_count = int(np.sum(model.prior_precision == 0))
    k = design.N - flat_count
    group, sigma = model.group.power, model.sigma.power
    if group is not None:
        # Directions between groups that the flat coefficients leave to the group effects.
        t = design.G - _between_rank(design, model.prior_precision == 0)
        if group >= 1:
            raise ImproperPosteriorError(
                f"The posterior is improper: prior {model.group.text} on {label} has infinite "
                "mass near zero, where the likelihood does not vanish. Use a proper prior such "
                "as half_t, or flat on the SD."
            )
        if group + t <= 1:
            raise ImproperPosteriorError(
                f"The posterior is improper: prior {model.group.text} on {label} needs more than "
                f"{1 - group:g} free directions between groups, the data have {t}. Use a proper "
                "prior such as half_t."
            )
    if sigma is not None and k + sigma + (group or 0.0) <= (1 if group is None else 2):
        raise ImproperPosteriorError(
            f"The posterior is improper: prior {model.sigma.text} on sigma with {k} residual "
            "degrees of freedom. Use a proper prior such as half_t."
        )
    within, degrees = _within_residual(design)
    if within == 0 and degrees + _power_at_zero(model.sigma) >= 1:
        raise ImproperPosteriorError(
            "The posterior is improper: the response does not vary within groups, so sigma = 0 "
            f"fits perfectly and the prior {model.sigma.text} has mass there. Use a prior that "
            "vanishes at zero, such as variance(invgamma(a, scale=b)), or check the data."
        )


def _between_rank(design: Design, free: Any) -> int:
    """Rank that the flat coefficients take from the space between groups."""
    if not free.any():
        return 0
    # What the flat columns of X span, in an orthonormal basis, so that units don't matter; the
    # group space loses the directions they span exactly, those without spread within groups.
    basis = np.eye(design.p)
    if not free.all():
        basis = np.linalg.qr(np.linalg.inv(design.T)[:, free])[0]
    spread = basis.T @ design.within[:-1, :-1] @ basis
    means = design.mean[:, :-1] @ basis
    null = np.linalg.eigh(spread)
    constant = null.eigenvectors[:, null.eigenvalues <= 1e-12]
    return int(np.linalg.matrix_rank(means @ constant)) if constant.size else 0


def _within_residual(design: Design) -> tuple[float, int]:
    """Sum of squares within groups that X does not explain, and its degrees of freedom."""
    W = design.within
    xx, xy, yy = W[:-1, :-1], W[:-1, -1], float(W[-1, -1])
    rank = int(np.linalg.matrix_rank(xx, tol=1e-12, hermitian=True)) if design.p else 0
    rest = yy - float(xy @ np.linalg.pinv(xx, rcond=1e-12, hermitian=True) @ xy) if rank else yy
    degrees = design.N - design.G - rank
    return (0.0 if rest <= 1e-13 * yy else rest), degrees


def _power_at_zero(prior: ScalePrior) -> float:
    """Exponent c of the density's behaviour sigma^(-c) as sigma goes to zero."""
    if prior.power is not None:
        return prior.power
    if prior.support[0] > 0:
        return -np.inf
    start = np.log(prior.median or 1.0) - 20.0
    near = prior.log_density(np.array([start, start - 1.0]))
    if not np.isfinite(near).all():
        return -np.inf
    return 1.0 - float(near[0] - near[1])

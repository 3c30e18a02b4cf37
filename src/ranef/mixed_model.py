"""Model = design + priors, and whether its posterior can exist at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.cells import compress
from ranef.columns import FixedTerm, evaluate
from ranef.design import FactorLayout, build_design
from ranef.errors import (
    DataError,
    IdentifiabilityError,
    IdentifiabilityWarning,
    ImproperPosteriorError,
    PriorError,
    nearest,
    warn,
)
from ranef.formula import parse_formula
from ranef.parameters import Layout, TermPrior
from ranef.priors import (
    CoefficientPrior,
    coefficient_prior,
    default_scale,
    flat,
    half_t,
    lkj_shape,
    scale_prior,
)
from ranef.table import read_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ranef.cells import Cells
    from ranef.columns import Columns, GroupColumns
    from ranef.design import Design
    from ranef.formula import Formula
    from ranef.priors import ScalePrior
    from ranef.types import Array

__all__ = ["Model", "build_model", "model_from_cells"]


@dataclass(frozen=True)
class Model:
    """A Gaussian mixed model, complete: y = X beta + sum_k Z_k b_k + e with priors.

    Attributes
    ----------
    formula
        The parsed formula.
    names
        Name of each fixed-effect column.
    terms
        The same columns by term.
    levels
        Names of the levels of each grouping factor.
    design
        What the likelihood sees of the data.
    layout
        Group terms and residual SD with their priors, and where each stands among the parameters.
    coefficients
        One prior per fixed-effect column.
    dropped
        Rows left out because a value was missing.
    """

    formula: Formula
    names: tuple[str, ...]
    terms: tuple[FixedTerm, ...]
    levels: tuple[tuple[str, ...], ...]
    design: Design
    layout: Layout
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
    def random_intercept(self) -> bool:
        """Whether the only random effect is one factor's intercept: sections 1 and 2."""
        factors = self.design.factors
        return len(factors) == 1 and factors[0].columns == (0,)

    @property
    def proper(self) -> bool:
        """Whether all priors are proper, so that the marginal likelihood means something."""
        scales = [self.layout.sigma, *(s for t in self.layout.terms for s in t.scales)]
        return all(s.power is None for s in scales) and not np.any(self.prior_precision == 0)

    def prior_texts(self) -> dict[str, str]:
        """Every prior by parameter, as text that `parse_prior` reads back."""
        texts = {n: c.text for n, c in zip(self.names, self.coefficients, strict=True)}
        for term in self.layout.terms:
            texts |= {n: s.text for n, s in zip(term.names, term.scales, strict=True)}
            if term.correlations:
                texts[f"{term.label}_corr"] = f"lkj({term.eta:g})"
        return {**texts, "sigma": self.layout.sigma.text}


def build_model(
    formula: str, data: Any, priors: Mapping[str, Any] | None = None, weights: str | None = None
) -> tuple[Model, Columns]:
    """Read the data once and join them with priors.

    Parameters
    ----------
    formula
        For example `"y ~ 1 + x + (x|g)"`.
    data
        Any table that `read_table` takes.
    priors
        By parameter name; what is left out gets the default.
    weights
        Column of precision weights.

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
    columns = evaluate(parsed, read_table(data), weights)
    model = model_from_cells(
        parsed,
        compress(columns),
        columns.names,
        columns.terms,
        columns.groups,
        tuple((f.name, f.levels) for f in columns.factors),
        priors,
        columns.dropped,
    )
    return model, columns


def model_from_cells(
    formula: Formula,
    cells: Cells,
    names: tuple[str, ...],
    terms: tuple[FixedTerm, ...],
    groups: tuple[GroupColumns, ...],
    factors: tuple[tuple[str, tuple[str, ...]], ...],
    priors: Mapping[str, Any] | None = None,
    dropped: int = 0,
) -> Model:
    """Join compressed data with priors and refuse what has no proper posterior.

    Parameters
    ----------
    formula, names, terms, groups
        What the cells were made from.
    cells
        The compressed data.
    factors
        Name and level names of each grouping factor; empty level names where nobody asks.
    priors
        By parameter name.
    dropped
        Rows left out before.

    Returns
    -------
    Model
    """
    _check_names(terms, groups, [name for name, _ in factors])
    given = dict(priors or {})
    by_name = _spread(given, names, terms, groups)

    def scale(name: str) -> ScalePrior:
        prior = by_name[name] if name in by_name else half_t(default_scale(cells.mad))
        return scale_prior(prior, name)

    blocks: list[list[int]] = [[] for _ in factors]
    group_terms = []
    for group in groups:
        block = blocks[group.factor]
        place = tuple(range(len(block), len(block) + len(group.columns)))
        block.extend(group.columns)
        correlated = group.correlated and len(place) > 1
        corr = f"{group.label}_corr"
        group_terms.append(
            TermPrior(
                group.label,
                group.factor,
                place,
                group.names,
                tuple(scale(n) for n in group.names),
                lkj_shape(by_name.get(corr, 1.0), corr) if correlated else None,
            )
        )
    layouts = tuple(
        FactorLayout(name, int(cells.level[i].max()) + 1, cells.level[i], tuple(blocks[i]))
        for i, (name, _) in enumerate(factors)
    )
    model = Model(
        formula=formula,
        names=names,
        terms=terms,
        levels=tuple(levels for _, levels in factors),
        design=build_design(cells, names, layouts),
        layout=Layout(tuple(group_terms), scale("sigma"), tuple(len(b) for b in blocks)),
        coefficients=tuple(coefficient_prior(by_name.get(n, flat()), n) for n in names),
        dropped=dropped,
    )
    _check_identified(model, cells, by_name)
    _check_proper(model)
    return model


def _check_names(
    terms: Sequence[FixedTerm], groups: Sequence[GroupColumns], factors: Sequence[str]
) -> None:
    """Refuse fixed effects that would overwrite another variable or dimension of the draws."""
    taken = {"sigma", "chain", "draw", *(f"{f}__factor_dim" for f in factors)}
    for group in groups:
        taken |= {f"{group.label}_corr", *group.names, *(f"{n}_sigma" for n in group.names)}
    taken |= {f"{t.name}_dim" for t in terms if t.levels}
    for term in terms:
        if term.name in taken:
            raise DataError(
                f"A fixed effect cannot be called {term.name!r}, which names something else in "
                "the draws; rename the column.",
                column=term.name,
            )
        taken.add(term.name)


def _spread(
    given: Mapping[str, Any],
    names: Sequence[str],
    terms: Sequence[FixedTerm],
    groups: Sequence[GroupColumns],
) -> dict[str, Any]:
    """Give each parameter the prior of its term or its own; refuse names that mean nothing."""
    columns = {t.name: [names[i] for i in t.columns] for t in terms}
    for group in groups:
        for name in group.names:
            # Tables call its standard deviation so.
            columns[f"{name}_sigma"] = [name]
            # `f[b]|g` and its siblings can be named together, `f|g`.
            left, _, factor = name.rpartition("|")
            columns.setdefault(f"{left.partition('[')[0]}|{factor}", []).append(name)
    own = ["sigma", *names, *(n for g in groups for n in g.names)]
    own += [f"{g.label}_corr" for g in groups if g.correlated and len(g.columns) > 1]
    known = dict.fromkeys([*own, *columns])
    for name in given:
        if name not in known:
            raise PriorError(
                f"A prior was given for {name!r}, which the model does not have. "
                f"{nearest(name, known)}",
                parameter=name,
            )
    spread = {c: given[t] for t, owned in columns.items() if t in given for c in owned}
    return {**spread, **{n: given[n] for n in own if n in given}}


def _check_identified(model: Model, cells: Cells, given: Mapping[str, Any]) -> None:
    """Refuse, under default priors, what only the prior could answer; warn under stated ones."""
    for term in model.layout.terms:
        factor = model.design.factors[term.factor]
        rows = cells.size
        if len(model.design.factors) > 1:
            rows = np.bincount(factor.codes, cells.size, minlength=factor.levels)
        needed = list(term.names)
        if factor.levels == 1:
            its = "its" if len(term.names) == 1 else "their"
            told = (
                f"{factor.name!r} has a single level, so the data say nothing of "
                f"{' and '.join(f'{n}_sigma' for n in term.names)}: {its} posterior is {its} prior"
            )
        elif rows.max() == 1 and term.names == (f"1|{factor.name}",):
            told = (
                f"every level of {factor.name!r} has one row, so only the sum sigma^2 + "
                f"{term.label}_sigma^2 is identified, not the two apart: their ratio follows the "
                "prior"
            )
            needed.insert(0, "sigma")
        elif factor.levels * len(term.place) >= model.design.N:
            told = (
                f"({term.label}) has {factor.levels * len(term.place)} effects for "
                f"{model.design.N} rows, so its variances and sigma are hardly told apart"
            )
            needed.insert(0, "sigma")
        else:
            continue
        told = f"{told[0].upper()}{told[1:]}."
        missing = [n for n in needed if n not in given]
        if missing:
            raise IdentifiabilityError(
                f"{told} State a prior for {' and '.join(map(repr, missing))} to go on all the "
                "same, or bring repeated measurements of more groups.",
                parameters=tuple(needed),
            )
        warn(told, IdentifiabilityWarning)


def _check_proper(model: Model) -> None:
    """Refuse improper posteriors (Hobert and Casella 1996; Gelman 2006; mathematics.md, 8.4)."""
    design, layout = model.design, model.layout
    free = model.prior_precision == 0
    k = design.N - int(free.sum())
    powers = 0.0
    for term in layout.terms:
        factor = design.factors[term.factor]
        for name, scale in zip(term.names, term.scales, strict=True):
            if scale.power is None:
                continue
            if scale.power >= 1:
                raise ImproperPosteriorError(
                    f"The posterior is improper: prior {scale.text} on {name} has infinite mass "
                    "near zero, where the likelihood does not vanish. Use a proper prior such as "
                    "half_t, or flat on the SD."
                )
            if term.correlations:
                raise ImproperPosteriorError(
                    f"Prior {scale.text} on {name}: an improper prior on the SDs of correlated "
                    "effects is not supported; use a proper one such as half_t."
                )
            # Directions between groups that the flat coefficients leave to the group effects;
            # with several terms the others may take as many more.
            others = sum(
                design.factors[t.factor].levels * len(t.place)
                for t in layout.terms
                if t is not term and design.factors[t.factor].levels < factor.levels
            )
            t = factor.levels - others
            t -= _between_rank(design, free) if model.random_intercept else int(free.sum())
            if scale.power + t <= 1:
                raise ImproperPosteriorError(
                    f"The posterior is improper: prior {scale.text} on {name} needs more than "
                    f"{1 - scale.power:g} free directions between groups, the data have "
                    f"{max(t, 0)}. Use a proper prior such as half_t."
                )
            powers += scale.power - 1
    sigma = layout.sigma
    if sigma.power is not None and k + sigma.power + powers <= 1:
        raise ImproperPosteriorError(
            f"The posterior is improper: prior {sigma.text} on sigma with {k} residual "
            "degrees of freedom. Use a proper prior such as half_t."
        )
    if not model.random_intercept:
        return
    within, degrees = _within_residual(design)
    if within == 0 and degrees + power_at_zero(sigma) >= 1:
        raise perfect_fit(sigma)


def perfect_fit(sigma: ScalePrior) -> ImproperPosteriorError:
    """Make the error for data that sigma = 0 fits perfectly."""
    return ImproperPosteriorError(
        "The posterior is improper: the response does not vary within groups, so sigma = 0 "
        f"fits perfectly and the prior {sigma.text} has mass there. Use a prior that "
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
    degrees = design.N - len(design.count) - rank
    return (0.0 if rest <= 1e-13 * yy else rest), degrees


def power_at_zero(prior: ScalePrior) -> float:
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

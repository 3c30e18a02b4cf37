"""Model = design + priors, and whether its posterior can exist at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.cells.cells import compress
from ranef.cells.orthonormal import FactorLayout, column_sizes, orthonormalize
from ranef.common.arguments import mapping
from ranef.data.tables import read_table
from ranef.errors import (
    DataError,
    ImproperPosteriorError,
    PriorError,
    RanefError,
)
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate
from ranef.mixed_model.assign_priors import SHARES, TOTAL, sort_priors
from ranef.mixed_model.identifiability import check_identified, free_basis
from ranef.mixed_model.parameters import ParameterVector
from ranef.priors import (
    CoefficientPrior,
    coefficient_prior,
    flat,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ranef.cells.cells import Cells
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.common.array_types import Array
    from ranef.formula.fixed_effects import FixedTerm
    from ranef.formula.grouping import GroupColumns
    from ranef.formula.parse import Formula
    from ranef.formula.rows import Rows
    from ranef.priors import ScalePrior

__all__ = ["ModelSpec", "build_model", "model_from_cells"]


@dataclass(frozen=True)
class ModelSpec:
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
    parameters
        Group terms and residual SD with their priors, and where each stands among the parameters.
    coefficients
        One prior per fixed-effect column.
    dropped
        Rows left out because a value was missing.
    aliased
        Fixed-effect columns left out because others determine them.
    """

    formula: Formula
    names: tuple[str, ...]
    terms: tuple[FixedTerm, ...]
    levels: tuple[tuple[str, ...], ...]
    design: OrthonormalCells
    parameters: ParameterVector
    coefficients: tuple[CoefficientPrior, ...]
    dropped: int = 0
    aliased: tuple[str, ...] = ()

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
        """Whether all is one factor's intercept with priors of its own: sections 1 and 2."""
        factors = self.design.factors
        single = len(factors) == 1 and factors[0].columns == (0,)
        return single and self.parameters.shares is None

    @property
    def proper(self) -> bool:
        """Whether all priors are proper, so that the marginal likelihood means something."""
        scales = [s for t in self.parameters.terms for s in t.scales]
        scales += [] if self.parameters.sigma is None else [self.parameters.sigma]
        return all(s.power is None for s in scales) and not np.any(self.prior_precision == 0)

    def prior_texts(self) -> dict[str, str]:
        """Every prior by parameter, as text that `parse_prior` reads back."""
        texts = {n: c.text for n, c in zip(self.names, self.coefficients, strict=True)}
        shares = self.parameters.shares
        for term in self.parameters.terms:
            if term.wishart is not None:
                texts[term.label] = term.wishart.text
                continue
            if shares is None:
                texts |= {n: s.text for n, s in zip(term.names, term.scales, strict=True)}
            if term.correlations:
                texts[f"{term.label}_corr"] = f"lkj({term.lkj_eta:g})"
        if shares is not None:
            return {**texts, TOTAL: shares.total.text, SHARES: shares.text}
        if self.parameters.sigma is not None:
            texts["sigma"] = self.parameters.sigma.text
        return texts


def build_model(
    formula: str,
    data: Any,
    priors: Mapping[str, Any] | None = None,
    weights: str | None = None,
    *,
    se: str | None = None,
    aliased: str = "refuse",
) -> tuple[ModelSpec, Rows]:
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
    se
        Column of known standard errors.
    aliased
        Whether to `"refuse"` or `"drop"` fixed-effect columns that others determine.

    Returns
    -------
    model : ModelSpec
    columns : Rows
        The rows as read, for the record of observed data.

    Raises
    ------
    RanefError
        One line that says what is wrong with formula, data or priors.
    """
    parsed = parse_formula(formula)
    _check_priors(priors, se)
    columns = evaluate(parsed, read_table(data), weights, se=se, aliased=aliased)
    model = model_from_cells(
        parsed,
        compress(columns),
        columns.names,
        columns.terms,
        columns.groups,
        tuple((f.name, f.levels) for f in columns.factors),
        priors,
        columns.dropped,
        columns.aliased,
        columns.sigma,
    )
    return model, columns


def _check_priors(priors: Any, se: str | None) -> None:
    """Refuse what is no mapping of priors, before the data are read."""
    if priors is not None:
        mapping("priors", priors, "{'sigma': 'half_t(50)'}", error=PriorError)
    if se is not None and priors and "sigma" in priors:
        raise PriorError(
            f"A prior was given for 'sigma', but se={se!r} makes the residual SD of every row "
            "known; leave one of them out.",
            parameter="sigma",
        )


def model_from_cells(
    formula: Formula,
    cells: Cells,
    names: tuple[str, ...],
    terms: tuple[FixedTerm, ...],
    groups: tuple[GroupColumns, ...],
    factors: tuple[tuple[str, tuple[str, ...]], ...],
    priors: Mapping[str, Any] | None = None,
    dropped: int = 0,
    aliased: tuple[str, ...] = (),
    sigma: float | None = None,
) -> ModelSpec:
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
    dropped, aliased
        Rows and fixed-effect columns left out before.
    sigma
        The residual SD of a row of weight one where it is known; None makes it a parameter.

    Returns
    -------
    ModelSpec
    """
    _check_names(terms, groups, [name for name, _ in factors])
    stated = sort_priors(priors or {}, names, terms, groups, mad=cells.mad, known=sigma is not None)
    blocks: list[list[int]] = [[] for _ in factors]
    group_terms = []
    for group in groups:
        block = blocks[group.factor]
        place = tuple(range(len(block), len(block) + len(group.columns)))
        block.extend(group.columns)
        group_terms.append(stated.term(group, place))
    layouts = tuple(
        FactorLayout(name, int(cells.level[i].max()) + 1, cells.level[i], tuple(blocks[i]))
        for i, (name, _) in enumerate(factors)
    )
    design = orthonormalize(cells, names, layouts)
    sizes = column_sizes(design)
    model = ModelSpec(
        formula=formula,
        names=names,
        terms=terms,
        levels=tuple(levels for _, levels in factors),
        design=design,
        parameters=ParameterVector(
            tuple(group_terms),
            stated.residual() if sigma is None else None,
            tuple(len(b) for b in blocks),
            0.0 if sigma is None else float(np.log(sigma)),
            stated.joint(group_terms, [sizes[b] for b in blocks]),
        ),
        coefficients=tuple(coefficient_prior(stated.by_name.get(n, flat()), n) for n in names),
        dropped=dropped,
        aliased=aliased,
    )
    check_identified(
        model.design, model.parameters, model.prior_precision == 0, cells, stated.by_name
    )
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


def _check_proper(model: ModelSpec) -> None:
    """Refuse improper posteriors (Hobert and Casella 1996; Gelman 2006; mathematics.md, 8.4)."""
    design, parameters = model.design, model.parameters
    free = model.prior_precision == 0
    k = design.N - int(free.sum())
    powers = 0.0
    for term in parameters.terms:
        factor = design.factors[term.factor]
        # A joint prior on the term's SDs is proper; it has no scales of its own.
        for name, scale in zip(term.names, term.scales, strict=False):
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
                for t in parameters.terms
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
    sigma = parameters.sigma
    if sigma is None:
        return
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


def perfect_fit(sigma: ScalePrior | None) -> RanefError:
    """Make the error for data that sigma = 0 fits perfectly, or nearly so where it is known."""
    if sigma is None:
        return DataError(
            "The group effects are more than 100,000 times as large as the known standard errors, "
            "beyond what double precision can weigh; check the units of both, or leave se= out."
        )
    return ImproperPosteriorError(
        "The posterior is improper: the response does not vary within groups, so sigma = 0 "
        f"fits perfectly and the prior {sigma.text} has mass there. Use a prior that "
        "vanishes at zero, such as variance(invgamma(a, scale=b)), or check the data."
    )


def _between_rank(design: OrthonormalCells, free: Any) -> int:
    """Rank that the flat coefficients take from the space between groups."""
    if not free.any():
        return 0
    # The group space loses the directions that they span exactly, those without spread within.
    basis = free_basis(design, free)
    spread = basis.T @ design.within[:-1, :-1] @ basis
    means = design.mean[:, :-1] @ basis
    null = np.linalg.eigh(spread)
    constant = null.eigenvectors[:, null.eigenvalues <= 1e-12]
    return int(np.linalg.matrix_rank(means @ constant)) if constant.size else 0


def _within_residual(design: OrthonormalCells) -> tuple[float, int]:
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

"""Design and priors, joined to one model (mathematics.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.cells.from_rows import compress
from ranef.cells.orthonormal import FactorLayout, column_sizes, orthonormalize
from ranef.common.arguments import mapping
from ranef.data.tables import read_table
from ranef.errors import (
    DataError,
    PriorError,
    ReliabilityWarning,
    warn,
)
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate
from ranef.mixed_model.assign_priors import sort_priors
from ranef.mixed_model.family import Gaussian, KnownGaussian
from ranef.mixed_model.identifiability import check_identified
from ranef.mixed_model.parameters import ParameterVector, correlation_label
from ranef.mixed_model.propriety import check_proper
from ranef.priors import (
    CoefficientPrior,
    coefficient_prior,
    flat,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ranef.cells.cells import Cells
    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.cells.response import Response
    from ranef.common.array_types import Array
    from ranef.formula.rows import Rows
    from ranef.formula.spec import DesignSpec
    from ranef.mixed_model.assign_priors import Stated
    from ranef.mixed_model.parameters import TermPrior

__all__ = ["ModelSpec", "build_model", "check_names", "model_from_cells"]


@dataclass(frozen=True)
class ModelSpec:
    """A Gaussian mixed model, complete: y = X beta + sum_k Z_k b_k + e with priors.

    Attributes
    ----------
    spec
        Formula, names and levels: what is known without the data.
    design, response
        What the likelihood sees of the data.
    parameters
        Group terms and residual SD with their priors, and where each stands among the parameters.
    coefficients
        One prior per fixed-effect column.
    """

    spec: DesignSpec
    design: OrthonormalCells
    response: Response
    parameters: ParameterVector
    coefficients: tuple[CoefficientPrior, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each fixed-effect column."""
        return self.spec.fixed.names

    def with_response(self, response: Response) -> ModelSpec:
        """Put another response into the model: same design, same priors."""
        return replace(self, response=response)

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

    def improper(self) -> dict[str, str]:
        """The improper priors by parameter, as text; with any, there is no marginal likelihood."""
        priors = self.parameters.scale_priors().items()
        flat = zip(self.names, self.coefficients, strict=True)
        texts = {name: c.text for name, c in flat if c.precision == 0}
        return texts | {name: prior.text for name, prior in priors if prior.power is not None}

    def prior_texts(self) -> dict[str, str]:
        """Every prior by parameter, as text that `parse_prior` reads back."""
        texts = {n: c.text for n, c in zip(self.names, self.coefficients, strict=True)}
        return texts | self.parameters.prior_texts()


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
    rows : Rows
        The rows as read, for the record of observed data.

    Raises
    ------
    RanefError
        One line that says what is wrong with formula, data or priors.
    """
    parsed = parse_formula(formula)
    _check_priors(priors, se)
    rows = evaluate(parsed, read_table(data), weights, se=se, aliased=aliased)
    return model_from_cells(rows.spec, compress(rows), priors), rows


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
    spec: DesignSpec, cells: Cells, priors: Mapping[str, Any] | None = None
) -> ModelSpec:
    """Join compressed data with priors and refuse what has no proper posterior.

    Parameters
    ----------
    spec
        What the cells were made from.
    cells
        The compressed data, wherever they come from.
    priors
        By parameter name.

    Returns
    -------
    ModelSpec
    """
    check_names(spec, Gaussian.dispersions)
    sigma = spec.sigma
    kind = Gaussian if sigma is None else KnownGaussian
    stated = sort_priors(
        priors or {},
        spec.fixed.names,
        spec.fixed.terms,
        spec.groups,
        kind.dispersions,
        mad=cells.mad or cells.sd,
    )
    blocks: list[list[int]] = [[] for _ in spec.factors]
    group_terms = []
    for group in spec.groups:
        block = blocks[group.factor]
        place = tuple(range(len(block), len(block) + len(group.columns)))
        block.extend(group.columns)
        group_terms.append(stated.term(group, place))
    layouts = tuple(
        FactorLayout(factor.name, int(codes.max()) + 1, codes, tuple(block))
        for factor, codes, block in zip(spec.factors, cells.level, blocks, strict=True)
    )
    _warn_of_scale(cells, group_terms, stated)
    design, response = orthonormalize(cells, spec.fixed.names, layouts)
    sizes = column_sizes(design)
    model = ModelSpec(
        spec=spec,
        design=design,
        response=response,
        parameters=ParameterVector(
            tuple(group_terms),
            Gaussian(stated.residual()) if sigma is None else KnownGaussian(float(np.log(sigma))),
            tuple(len(b) for b in blocks),
            stated.joint(group_terms, [sizes[b] for b in blocks]),
        ),
        coefficients=tuple(
            coefficient_prior(stated.by_name.get(n, flat()), n) for n in spec.fixed.names
        ),
    )
    check_identified(
        model.design, model.parameters, model.prior_precision == 0, cells, stated.by_name
    )
    check_proper(model)
    return model


def _warn_of_scale(cells: Cells, terms: Sequence[TermPrior], stated: Stated) -> None:
    """Warn where default priors rest on the response's SD, because its MAD is zero."""
    names = [name for term in terms for name in term.names]
    if cells.mad or cells.sd <= 2.5 or all(name in stated.by_name for name in names):
        return
    warn(
        "More than half of the response is one and the same number, so its median absolute "
        f"deviation is zero; default priors take its standard deviation, {cells.sd:.3g}, as their "
        "scale instead. State priors, or check that the response is as it should be.",
        ReliabilityWarning,
    )


def check_names(spec: DesignSpec, dispersions: Sequence[str]) -> None:
    """Refuse fixed effects that would overwrite another variable or dimension of the draws."""
    taken = {*dispersions, "chain", "draw", *(f"{f.name}__factor_dim" for f in spec.factors)}
    for group in spec.groups:
        taken |= {correlation_label(group.label), *group.names}
        taken |= {f"{name}_sigma" for name in group.names}
    taken |= {f"{t.name}_dim" for t in spec.fixed.terms if t.levels}
    for term in spec.fixed.terms:
        if term.name in taken:
            raise DataError(
                f"A fixed effect cannot be called {term.name!r}, which names something else in "
                "the draws; rename the column.",
                column=term.name,
            )
        taken.add(term.name)

"""Models of responses that are not normal: data, family and priors (mathematics.md, 4.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.cells.merged import merge_rows
from ranef.data.tables import read_table
from ranef.errors import FormulaError, IdentifiabilityError, PriorError
from ranef.formula.counted import counted_response
from ranef.formula.parse import canonical_label, parse_formula
from ranef.formula.rows import evaluate
from ranef.mixed_model.assign_priors import sort_priors
from ranef.mixed_model.coefficient_priors import assign_coefficient_priors
from ranef.mixed_model.family import Generalized
from ranef.mixed_model.model import check_names
from ranef.mixed_model.parameters import ParameterVector
from ranef.priors import scale_prior

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ranef.cells.merged import MergedRows
    from ranef.families.response import ResponseFamily
    from ranef.formula.rows import Rows
    from ranef.formula.spec import DesignSpec
    from ranef.mixed_model.coefficient_priors import CoefficientPriors

__all__ = ["GeneralizedModel", "build_generalized"]


# Effects beside those of the largest term, which are drawn with the coefficients.
_MOST_KEPT = 300


@dataclass(frozen=True)
class GeneralizedModel:
    """A mixed model of independent effects: the mean of y is a function of X beta + Z b.

    Attributes
    ----------
    spec
        Formula, names and levels.
    response
        The family.
    rows
        The data, merged and sorted by group.
    parameters
        Group terms and the family's own parameters with their priors.
    coefficients
        Priors of the fixed effects.
    constant
        What the log likelihood holds beside all parameters.
    location
        Linear predictor that all rows have together.
    success
        What counts as one where the response was text or truth values; else None.
    """

    spec: DesignSpec
    response: ResponseFamily
    rows: MergedRows
    parameters: ParameterVector
    coefficients: CoefficientPriors
    constant: float
    location: float
    success: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each fixed-effect column."""
        return self.spec.fixed.names

    def improper(self) -> dict[str, str]:
        """The improper priors by parameter, as text: none, they are refused."""
        return {}

    def prior_texts(self) -> dict[str, str]:
        """Every prior by parameter, as tables show it."""
        return {**self.coefficients.texts, **self.parameters.prior_texts()}

    def stated_texts(self) -> dict[str, str]:
        """Priors that build the same model again: stated coefficients, and all scales."""
        return {**self.coefficients.stated, **self.parameters.prior_texts()}


def build_generalized(
    formula: str,
    data: Any,
    family: ResponseFamily,
    priors: Mapping[str, Any] | None = None,
    *,
    trials: str | None = None,
    exposure: str | None = None,
    aliased: str = "refuse",
) -> tuple[GeneralizedModel, Rows]:
    """Read the data once and join them with a family and priors.

    Parameters
    ----------
    formula, data, priors, trials, exposure, aliased
        As in `ranef.fit`.
    family
        From `ranef.families.table.find_family`.

    Returns
    -------
    model : GeneralizedModel
    rows : Rows
        The rows as read.

    Raises
    ------
    RanefError
        One line that says what is wrong with formula, data or priors.
    """
    text, frame, counted = counted_response(formula, read_table(data), family, trials, exposure)
    parsed = parse_formula(text)
    rows = evaluate(parsed, frame, aliased=aliased, trials=counted.trials, counted=True)
    spec = rows.spec
    check_names(spec, family.dispersions)
    _check_structure(formula, family, spec)
    family.check(parsed.response_name, rows.y, rows.trials)
    merged = merge_rows(rows, rows.trials, sums=family.merges)
    offset = np.zeros(len(rows.y)) if rows.offset is None else rows.offset
    n = np.ones(len(rows.y)) if rows.trials is None else rows.trials
    location = family.location(rows.y, n, offset)
    _check_identified(family, merged, spec, priors)
    stated = sort_priors(
        priors or {}, spec.fixed.names, spec.fixed.terms, spec.groups, family.dispersions, mad=0.0
    )
    if stated.shares is not None:
        raise PriorError(
            f"Shares of a total variance need a residual SD, which family={family.name!r} lacks."
        )
    widths = [0] * len(spec.factors)
    terms = []
    for group in spec.groups:
        begin, width = widths[group.factor], len(group.columns)
        terms.append(stated.term(group, tuple(range(begin, begin + width))))
        widths[group.factor] += width
    for term in terms:
        for name, scale in zip(term.names, term.scales, strict=False):
            if scale.power is not None:
                raise PriorError(
                    f"Prior {scale.text} for {name!r} is improper; with family={family.name!r} "
                    "a proper one is expected, such as half_t(2.5).",
                    parameter=name,
                )
    scales = {
        name: scale_prior(stated.by_name.get(name, family.default_priors[name]), name)
        for name in family.dispersions
    }
    model = GeneralizedModel(
        spec=spec,
        response=family,
        rows=merged,
        parameters=ParameterVector(tuple(terms), Generalized(family, scales), tuple(widths)),
        coefficients=assign_coefficient_priors(stated.by_name, spec.fixed.names, rows.X, location),
        constant=float(family.constants(rows.y, n).sum()),
        location=location,
        success=counted.success,
    )
    return model, rows


def _check_structure(formula: str, family: ResponseFamily, spec: DesignSpec) -> None:
    """Refuse group terms that are not drawn yet."""
    for group in spec.groups:
        if group.correlated and len(group.columns) > 1:
            raise FormulaError(
                f"Formula {formula!r}: with family={family.name!r} effects are drawn that are "
                f"independent of each other so far; write ({group.label.replace('|', '||')}) for "
                f"({group.label}).",
                text=formula,
            )
    levels = sorted(len(spec.factors[column.factor].levels) for column in spec.effect_columns)
    if sum(levels[:-1]) > _MOST_KEPT:
        raise FormulaError(
            f"Formula {formula!r}: beside the factor with most levels there are "
            f"{sum(levels[:-1])} effects, and with family={family.name!r} up to {_MOST_KEPT} are "
            "drawn so far.",
            text=formula,
        )


def _check_identified(
    family: ResponseFamily,
    rows: MergedRows,
    spec: DesignSpec,
    priors: Mapping[str, Any] | None,
) -> None:
    """Refuse an SD of group effects that only its default prior would tell."""
    if len(spec.effect_columns) > 1:
        return
    (factor,), (column,) = spec.factors, spec.effect_columns
    name = column.name
    if priors and any(canonical_label(str(k)) == canonical_label(name) for k in priors):
        return
    why = ""
    if len(rows.first) == 1:
        why = "has one level, so the SD of its effects cannot be told"
    elif family.merges and not family.exponential and np.add.reduceat(rows.n, rows.first).max() < 2:
        why = "has one trial in every level, so its effects cannot be told from chance"
    if why:
        raise IdentifiabilityError(
            f"Grouping factor {factor.name!r} {why}. State a prior for {name!r} to go on all the "
            "same, or bring repeated measurements of more groups."
        )

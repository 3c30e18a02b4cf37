"""What is known of a model's data without a single row: names, levels, transforms, known SD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ranef.formula.fixed_effects import FixedTerm
from ranef.formula.grouping import Factor, GroupColumns, level_names
from ranef.formula.parse import parse_formula

if TYPE_CHECKING:
    import pandas as pd

    from ranef.common.array_types import Array
    from ranef.formula.parse import Formula

__all__ = ["ColumnType", "DesignSpec", "column_type", "intercept_spec"]


@dataclass(frozen=True)
class ColumnType:
    """What a column of the data held, so that new values are read alike.

    Attributes
    ----------
    kind
        numpy's letter: `"i"`, `"u"`, `"f"` for numbers, `"b"` for truth values, others for labels.
    values
        The values by the text that names them; empty for numbers.
    """

    kind: str
    values: Mapping[str, Any]

    @property
    def number(self) -> bool:
        """Whether it holds numbers."""
        return self.kind in "iuf"


@dataclass(frozen=True)
class DesignSpec:
    """The model's columns, and how they are made from rows.

    Attributes
    ----------
    formula
        The parsed formula.
    names
        One name per fixed-effect column, for priors: `Intercept`, `x`, `f[b]`.
    terms
        The same columns by term, for draws.
    groups
        The group terms.
    factors
        The grouping factors.
    aliased
        Names of fixed-effect columns that were left out as combinations of others.
    sigma
        The residual SD of a row of weight one, in the units of the response, where standard errors
        are known: that of row i is sigma / sqrt(weights[i]). None where it is a parameter.
    weights, se
        Names of the table's columns of weights and of standard errors.
    fixed
        formulaic's specification of the fixed part, with what its transforms and contrasts learnt.
    kept
        Which of its columns are the model's.
    dependence
        Combinations of all its columns that are zero in the data, one for each that was left out,
        whose largest value counts as one; shape (columns, left out).
    offsets
        Specifications of the offset terms.
    columns
        What the table's columns held that the formula's right-hand side reads, by name.
    fixed_names, group_names, offset_names
        Those that the fixed part, the left sides of group terms and the offsets read.
    """

    formula: Formula
    names: tuple[str, ...]
    terms: tuple[FixedTerm, ...]
    groups: tuple[GroupColumns, ...]
    factors: tuple[Factor, ...]
    aliased: tuple[str, ...] = ()
    sigma: float | None = None
    weights: str | None = None
    se: str | None = None
    fixed: Any = None
    kept: tuple[int, ...] = ()
    dependence: Array | None = None
    offsets: tuple[Any, ...] = ()
    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    fixed_names: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    offset_names: tuple[str, ...] = ()


def column_type(values: pd.Series[Any]) -> ColumnType:
    """Record what a column without missing values holds."""
    import pandas as pd

    categorical = isinstance(values.dtype, pd.CategoricalDtype)
    kind = "O" if categorical else values.dtype.kind
    if kind in "iuf":
        return ColumnType(kind, {})
    uniques = values.unique()
    return ColumnType(kind, dict(zip(level_names(uniques), uniques, strict=True)))


def intercept_spec(formula: str) -> DesignSpec:
    """Specify a random intercept of groups that need no names, with or without a mean.

    Examples
    --------
    >>> intercept_spec("y ~ 0 + (1|g)").names, intercept_spec("y ~ 1 + (1|g)").names
    ((), ('Intercept',))
    """
    parsed = parse_formula(formula)
    (term,) = parsed.groups
    constant = int(parsed.fixed != "0")
    return DesignSpec(
        formula=parsed,
        names=("Intercept",) * constant,
        terms=(FixedTerm("Intercept", (0,)),) * constant,
        groups=(GroupColumns(term.label, 0, (0,), (term.label,), correlated=True),),
        factors=(Factor(term.factor),),
    )

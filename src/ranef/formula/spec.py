"""What is known of a model's data without a single row: names, levels, transforms, known SD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ranef.formula.fixed_effects import FixedEffects, FixedTerm
from ranef.formula.grouping import Factor, GroupColumns
from ranef.formula.labels import level_names
from ranef.formula.parse import parse_formula

if TYPE_CHECKING:
    import pandas as pd

    from ranef.formula.parse import Formula

__all__ = ["ColumnType", "DesignSpec", "EffectColumn", "column_type", "intercept_spec"]


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
    fixed
        The fixed part.
    groups
        The group terms.
    factors
        The grouping factors.
    sigma
        The residual SD of a row of weight one, in the units of the response, where standard errors
        are known: that of row i is sigma / sqrt(weights[i]). None where it is a parameter.
    weights, se, trials
        Names of the table's columns of weights, of standard errors and of numbers of trials.
    offsets
        Specifications of the offset terms.
    columns
        What the table's columns held that the formula's right-hand side reads, by name.
    fixed_names, group_names, offset_names
        Those that the fixed part, the left sides of group terms and the offsets read.
    """

    formula: Formula
    fixed: FixedEffects
    groups: tuple[GroupColumns, ...]
    factors: tuple[Factor, ...]
    sigma: float | None = None
    weights: str | None = None
    se: str | None = None
    trials: str | None = None
    offsets: tuple[Any, ...] = ()
    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    fixed_names: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    offset_names: tuple[str, ...] = ()

    @property
    def effect_columns(self) -> tuple[EffectColumn, ...]:
        """Every column of every group term, in order."""
        used = [0] * len(self.factors)
        out = []
        for group in self.groups:
            for name, column in zip(group.names, group.columns, strict=True):
                out.append(EffectColumn(name, group.factor, column, used[group.factor]))
                used[group.factor] += 1
        return tuple(out)


@dataclass(frozen=True)
class EffectColumn:
    """One column that varies by one factor.

    Attributes
    ----------
    name
        Of its effects: `1|g`, `x|g`.
    factor
        Position of the factor.
    column
        Position among the constant and the columns that vary by group.
    place
        Position among the factor's own columns.
    """

    name: str
    factor: int
    column: int
    place: int


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
    >>> intercept_spec("y ~ 0 + (1|g)").fixed.names, intercept_spec("y ~ 1 + (1|g)").fixed.names
    ((), ('Intercept',))
    """
    parsed = parse_formula(formula)
    (term,) = parsed.groups
    intercept = (FixedTerm("Intercept", (0,)),) if parsed.fixed != "0" else ()
    return DesignSpec(
        formula=parsed,
        fixed=FixedEffects(tuple(term.name for term in intercept), intercept),
        groups=(GroupColumns(term.label, 0, (0,), (term.label,), correlated=True),),
        factors=(Factor(term.factor),),
    )

"""Linear combinations of coefficients, from their draws: contrasts and marginal means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations as pairs_of
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.answers.reference_grid import FixedPart, hold
from ranef.common import budget
from ranef.common.arguments import brief, is_number, mapping, names_list, number
from ranef.common.figures import interval_figure
from ranef.errors import AliasedWarning, DataError, nearest, warn
from ranef.formula.labels import level_names
from ranef.posterior.draws import read_coefficients
from ranef.posterior.summary import check_prob, describe, format_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ranef.common.array_types import Array
    from ranef.formula.fixed_effects import FixedTerm
    from ranef.mixed_model.model import ModelSpec
    from ranef.posterior.posterior import Posterior

__all__ = ["Combinations", "contrast", "marginal_means"]


@dataclass(frozen=True)
class Combinations:
    """Posterior of linear combinations of coefficients, in units of the response.

    Attributes
    ----------
    labels
        Name of each of the m combinations.
    weights
        Weight of each coefficient, shape (m, p).
    constant
        What is added, shape (m,): the mean offset for means, zero for contrasts.
    beta
        Draws of the coefficients, shape (n, p).
    prob
        Probability of the equal-tailed intervals.
    title
        What the index of the table is called.
    response
        The response, as tables and figures name it.
    compares
        Whether they are differences or contrasts, which at zero say that nothing differs.
    """

    labels: tuple[str, ...]
    weights: Array
    constant: Array
    beta: Array
    prob: float
    title: str
    response: str
    compares: bool = False

    def table(self) -> pd.DataFrame:
        """Mean, sd, median, equal-tailed interval and share of draws above zero of each."""
        import pandas as pd

        draws = self.beta @ self.weights.T + self.constant
        rows = [describe(d, self.prob) | {"P(> 0)": float(np.mean(d > 0))} for d in draws.T]
        return pd.DataFrame(rows, index=pd.Index(self.labels, name=self.title))

    def pairs(self) -> Combinations:
        """Differences of all pairs, the later less the earlier."""
        pairs = list(pairs_of(range(len(self.labels)), 2))
        if not pairs:
            raise DataError("There is one combination, so no pair to compare.")
        first, second = np.array(pairs).T
        labels = tuple(f"{self.labels[b]} - {self.labels[a]}" for a, b in pairs)
        return Combinations(
            labels,
            self.weights[second] - self.weights[first],
            self.constant[second] - self.constant[first],
            self.beta,
            self.prob,
            "difference",
            self.response,
            compares=True,
        )

    def plot(self) -> Figure:
        """Posterior medians and intervals, with zero marked for differences and contrasts."""
        table = self.table()
        what = f"{self.title} in {self.response}" if self.compares else self.response
        return interval_figure(
            self.labels,
            *(table.iloc[:, i].to_numpy() for i in (3, 2, 4)),
            xlabel=f"{what} (median, {self.prob:.0%} interval)",
            ylabel=self.title,
            zero=self.compares,
        )

    def __str__(self) -> str:
        """The table a statistician would paste."""
        return format_rows(self.table())

    __repr__ = __str__


def contrast(fit: Posterior, weights: Mapping[str, Any], prob: float = 0.95) -> Combinations:
    """Posterior of linear combinations of coefficients.

    Parameters
    ----------
    weights
        Weight by coefficient, `{"f[b]": 1, "f[c]": -1}`, or several such by a name of yours.
    prob
        Probability of the equal-tailed interval.

    Returns
    -------
    ranef.answers.contrasts.Combinations
        With `.table()`, `.plot()` and `.pairs()`.

    Raises
    ------
    DataError
        If a name is no coefficient, a weight no number, or prob not between 0 and 1.

    Notes
    -----
    From the stored draws, so that a contrast of one coefficient is its row of `summary()`.
    """
    check_prob(prob)
    model = fit.source.model
    if not isinstance(weights, Mapping) or not weights:
        raise DataError(
            f"A contrast is {brief(weights)}; weights by coefficient are expected, e.g. "
            "{'f[b]': 1, 'f[c]': -1}, or several such by name."
        )
    nested = [isinstance(v, Mapping) for v in weights.values()]
    if any(nested) and not all(nested):
        raise DataError("A contrast mixes weights and named contrasts; give one kind.")
    several = dict(weights) if all(nested) else {_spelled(weights): weights}
    known = coefficient_names(model)
    L = np.zeros((len(several), len(model.names)))
    for row, one in zip(L, several.values(), strict=True):
        for name, weight in one.items():
            if name not in known:
                raise DataError(
                    f"The contrast names {name!r}, no coefficient. {nearest(name, known)} "
                    "(A factor's first level has none: it is what the others are compared with.)"
                )
            row[known[name]] += number(f"The weight of {name!r}", weight)
    labels = tuple(str(k) for k in several)
    response = model.spec.formula.response_name
    return Combinations(
        labels,
        L,
        np.zeros(len(L)),
        read_coefficients(fit.draws, model),
        prob,
        "contrast",
        response,
        compares=True,
    )


def marginal_means(
    fit: Posterior,
    names: str | Sequence[str],
    at: Mapping[str, Any] | None = None,
    prob: float = 0.95,
) -> Combinations:
    """Mean response by level of a factor, all else balanced (estimated marginal means).

    Parameters
    ----------
    names
        A factor among the fixed effects, or several for their combinations.
    at
        Values at which other columns are held, `{"age": 40, "sex": "f"}`. Otherwise covariates
        are at their mean over rows and other factors' levels weigh equally.
    prob
        Probability of the equal-tailed interval.

    Returns
    -------
    ranef.answers.contrasts.Combinations
        With `.table()`, `.plot()`, and `.pairs()` for the differences.

    Raises
    ------
    DataError
        If a name is no factor of the fixed part, a value does not fit its column, or prob is
        not between 0 and 1.

    Notes
    -----
    Searle, Speed and Milliken (1980), The American Statistician 34; as R's emmeans. Group
    effects are at their mean, zero; offsets at their mean over rows.
    """
    import pandas as pd

    check_prob(prob)
    source = fit.source
    fixed = FixedPart(source)
    wanted = [names] if isinstance(names, str) else names_list("names", names, "['f']")
    if not wanted or len(set(wanted)) < len(wanted):
        raise DataError(
            f"names is {brief(names)}; a factor, or several different ones, is expected."
        )
    for name in wanted:
        if name in fixed.used and name not in fixed.categorical:
            raise DataError(
                f"{name!r} holds numbers, so it has no levels to average at; hold it with "
                f"at={{{name!r}: …}}, or ask for its coefficient."
            )
        if name not in fixed.categorical:
            raise DataError(
                f"There is no factor {name!r} in the fixed part. "
                f"{nearest(name, sorted(fixed.categorical))}"
            )
    held = {} if at is None else dict(mapping("at", at, "at={'age': 40}"))
    both = [n for n in wanted if n in held]
    if both:
        raise DataError(f"at holds {both[0]!r}, whose means are asked for; leave it out.")
    rows = fixed.rows
    base = hold(rows, held, fixed.used).iloc[[0]]
    levels = {}
    for name in [*wanted, *sorted(fixed.categorical - set(wanted) - set(held))]:
        values = rows[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            levels[name] = list(values.cat.categories)
        else:
            levels[name] = sorted(values.unique(), key=lambda v: (str(type(v)), v))
    size = int(np.prod([len(v) for v in levels.values()]))
    if size > budget.MARGINAL_MEANS:
        raise DataError(
            f"The factors have {size:,} combinations of levels, more than "
            f"{budget.MARGINAL_MEANS:,}; hold some with at=."
        )
    cells = list(product(*levels.values()))
    grid = pd.DataFrame(index=np.arange(size))
    for name in sorted(fixed.used):
        if name in levels:
            own = [cell[list(levels).index(name)] for cell in cells]
            grid[name] = pd.Series(own, dtype=rows[name].dtype)
        elif name in held:
            grid[name] = pd.Series([base[name].iloc[0]] * size, dtype=base[name].dtype)
        else:
            grid[name] = float(rows[name].to_numpy(dtype=float).mean())
    X, lost = fixed.encode(grid)
    count = int(np.prod([len(levels[n]) for n in wanted]))
    weights = X.reshape(count, size // count, -1).mean(axis=1)
    named = [", ".join(level_names(cell)) for cell in product(*(levels[n] for n in wanted))]
    known = np.asarray(~lost.reshape(count, -1).any(axis=1))
    _warn_of_lost(named, known, source.model.spec.fixed.aliased)
    labels, weights = tuple(n for n, k in zip(named, known, strict=True) if k), weights[known]
    offset = source.rows.offset
    constant = np.full(len(labels), 0.0 if offset is None else float(offset.mean()))
    beta = read_coefficients(fit.draws, source.model)
    title, response = ", ".join(wanted), source.model.spec.formula.response_name
    return Combinations(labels, weights, constant, beta, prob, title, response)


def _warn_of_lost(named: Sequence[str], known: NDArray[np.bool_], aliased: Sequence[str]) -> None:
    """Name the means that rest on combinations of levels without rows; refuse if all do."""
    lost = [name for name, k in zip(named, known, strict=True) if not k]
    if not lost:
        return
    why = (
        f"they rest on combinations of levels without rows, because of which {', '.join(aliased)} "
        "had to be left out of the model"
    )
    if len(lost) == len(named):
        raise DataError(
            f"The data tell none of the {len(named)} means: {why}. Leave the interaction out, or "
            "hold the other factor at a level with at=."
        )
    shown = ", ".join(map(repr, lost[:4])) + (
        "" if len(lost) <= 4 else f" and {len(lost) - 4} more"
    )
    warn(
        f"The data do not tell {len(lost)} of {len(named)} means, {shown}, which are left out: "
        f"{why}.",
        AliasedWarning,
    )


def coefficient_names(model: ModelSpec) -> dict[str, int]:
    """Position of each coefficient by the names that draws and priors know it by."""

    def shown(term: FixedTerm) -> list[str]:
        return [f"{term.name}[{v}]" for v in term.levels] if term.levels else [term.name]

    out = {
        n: j
        for term in model.spec.fixed.terms
        for n, j in zip(shown(term), term.columns, strict=True)
    }
    return out | {n: j for j, n in enumerate(model.names)}


def _spelled(weights: Mapping[str, Any]) -> str:
    """Write a contrast: `f[b] - f[c]`."""
    parts = []
    for name, weight in weights.items():
        plain = is_number(weight)
        sign = "-" if plain and weight < 0 else "+"
        size = f"{abs(weight):g} " if plain and abs(weight) != 1 else ""
        parts.append(f"{sign} {size}{name}")
    text = " ".join(parts)
    return text[2:] if text.startswith("+ ") else text.replace("- ", "-", 1)

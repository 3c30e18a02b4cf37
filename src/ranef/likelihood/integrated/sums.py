"""Log densities of groups as functions of their effects, each family's in its cheapest form.

A binomial row with a logit link and a negative binomial one have log densities
`a eta - w log(1 + exp(eta - s))`, a Poisson row `a eta - w exp(eta)`. An effect b that all rows of
a group share then multiplies exponentials that are at hand, and a Poisson group needs only their
sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from ranef.cells.merged import MergedRows
    from ranef.common.array_types import Array
    from ranef.families.response import Own, ResponseFamily

__all__ = ["GroupSums", "group_sums"]

# Rows of a group up to which their factors are multiplied before a logarithm is taken.
_MULTIPLIED = 64


class GroupSums(Protocol):
    """Log density of each group's rows, given all but the effects."""

    def log_density(self, b: Array) -> Array:
        """At effects b (G, S), shape (G, S)."""
        ...

    def slopes(self, b: Array) -> tuple[Array, Array]:
        """First derivative by b and minus the second, shape (G, S) each."""
        ...

    def scores(self, b: Array) -> Array:
        """Derivative of each row's log density by its linear predictor, shape (R, S)."""
        ...


def group_sums(rows: MergedRows, response: ResponseFamily, eta: Array, own: Own) -> GroupSums:
    """The cheapest form that family and design allow.

    Parameters
    ----------
    rows
        The data.
    response
        The family.
    eta
        Linear predictor without effects, shape (R, S).
    own
        The family's own parameters, shape (S,) each.
    """
    if not rows.constant_effect:
        return _RowSums(rows, response, eta, own)
    if response.exponential:
        return _ExponentialSums.of(rows, eta)
    if (parts := response.softplus(rows.y, rows.n, own)) is not None:
        slope, weight, shift = parts
        return _SoftplusSums(rows, eta, slope, weight, np.exp(eta - shift))
    return _RowSums(rows, response, eta, own)


def _total(rows: MergedRows, values: Array) -> Array:
    return np.asarray(np.add.reduceat(values, rows.first, axis=0))


@dataclass(frozen=True)
class _RowSums:
    """Any family, row by row."""

    rows: MergedRows
    response: ResponseFamily
    eta: Array
    own: Own

    def _at(self, b: Array) -> Array:
        return np.asarray(self.eta + self.rows.Z * b[self.rows.codes])

    def log_density(self, b: Array) -> Array:
        rows = self.rows
        return _total(rows, self.response.log_density(self._at(b), rows.y, rows.n, self.own))

    def slopes(self, b: Array) -> tuple[Array, Array]:
        rows = self.rows
        first, second = self.response.slopes(self._at(b), rows.y, rows.n, self.own)
        return _total(rows, rows.Z * first), _total(rows, rows.Z**2 * second)

    def scores(self, b: Array) -> Array:
        return self.response.slopes(self._at(b), self.rows.y, self.rows.n, self.own)[0]


@dataclass(frozen=True)
class _SoftplusSums:
    """Rows `slope eta - weight log(1 + odds exp(b))`."""

    rows: MergedRows
    eta: Array
    slope: Array
    weight: Array
    odds: Array

    @cached_property
    def _without(self) -> tuple[Array, Array]:
        """The linear part at b = 0 and its slope by b."""
        return _total(self.rows, self.slope * self.eta), _total(self.rows, self.slope)

    @cached_property
    def _multiplies(self) -> bool:
        few = int(np.diff(self.rows.first, append=len(self.odds)).max()) <= _MULTIPLIED
        return few and self.weight.shape[1] == 1 and bool(np.all(self.weight == 1))

    def log_density(self, b: Array) -> Array:
        constant, slope = self._without
        odds = self.odds * np.exp(b)[self.rows.codes]
        if self._multiplies:
            product = np.multiply.reduceat(1 + odds, self.rows.first, axis=0)
            if np.isfinite(product).all():
                return np.asarray(constant + slope * b - np.log(product))
        # Weights may be far larger than one, and odds far smaller.
        rest = _total(self.rows, self.weight * np.log1p(odds))
        return np.asarray(constant + slope * b - rest)

    def slopes(self, b: Array) -> tuple[Array, Array]:
        odds = self.odds * np.exp(b)[self.rows.codes]
        rest = 1 / (1 + odds)
        expected = np.where(odds < np.inf, self.weight * odds * rest, self.weight)
        first = self._without[1] - _total(self.rows, expected)
        return first, _total(self.rows, expected * rest)

    def scores(self, b: Array) -> Array:
        odds = self.odds * np.exp(b)[self.rows.codes]
        # One less the rest keeps its digits where it matters here, among other rows' scores.
        return np.asarray(self.slope - self.weight * (1 - 1 / (1 + odds)))


@dataclass(frozen=True)
class _ExponentialSums:
    """Groups `constant + slope b - rate exp(b)`, shape (G, S) or (G, 1) each."""

    rows: MergedRows
    means: Array
    constant: Array
    slope: Array
    rate: Array

    @classmethod
    def of(cls, rows: MergedRows, eta: Array) -> _ExponentialSums:
        """Sum all that does not depend on b."""
        means = rows.n * np.exp(eta)
        return cls(
            rows, means, _total(rows, rows.y * eta), _total(rows, rows.y), _total(rows, means)
        )

    def log_density(self, b: Array) -> Array:
        return np.asarray(self.constant + self.slope * b - self.rate * np.exp(b))

    def slopes(self, b: Array) -> tuple[Array, Array]:
        expected = self.rate * np.exp(b)
        return self.slope - expected, expected

    def scores(self, b: Array) -> Array:
        return np.asarray(self.rows.y - self.means * np.exp(b)[self.rows.codes])

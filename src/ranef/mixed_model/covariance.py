"""Covariance between the levels of a factor: so far independent (mathematics.md, section 3).

A term's effects have covariance `A (x) Sigma`: Sigma between its columns, estimated, and A between
its levels, known. Identity is the one row of the table; a pedigree or a spatial matrix is another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = ["COVARIANCES", "IDENTITY", "Identity", "LevelCovariance"]


class LevelCovariance(Protocol):
    """A known covariance between levels, up to the variance that is estimated.

    Attributes
    ----------
    name
        As users will write it.
    """

    name: ClassVar[str]

    def correlate(self, effects: Array) -> Array:
        """Turn independent effects (n, G, q) into ones with this covariance between levels."""
        ...


@dataclass(frozen=True)
class Identity:
    """Independent levels."""

    name: ClassVar[str] = "identity"

    def correlate(self, effects: Array) -> Array:
        """Leave the effects as they are."""
        return effects


IDENTITY = Identity()
COVARIANCES: tuple[LevelCovariance, ...] = (IDENTITY,)

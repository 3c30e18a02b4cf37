"""What a structure of grouping factors answers, the table of structures, and the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ranef.likelihood.structures.crossed import Crossed
from ranef.likelihood.structures.one_factor import OneFactor
from ranef.likelihood.structures.small_remainder import SmallRemainder

if TYPE_CHECKING:
    import numpy as np

    from ranef.cells.orthonormal import OrthonormalCells
    from ranef.cells.response import Response
    from ranef.common.array_types import Array, IntArray
    from ranef.likelihood.structures.level_classes import ClassSums

__all__ = ["STRUCTURES", "Structure", "choose_structure"]


class Structure(Protocol):
    """A way to integrate the group effects out of a design.

    Arguments in common: `roots`, for each factor in the design's order n Cholesky factors L with
    sigma^2 L L' the covariance of a level's q effects, shape (n, q, q). Results are relative to
    sigma, for P = p + 1 columns [X~ y~].

    Attributes
    ----------
    name
        What it does, for people.
    """

    name: str

    def __init__(self, design: OrthonormalCells, response: Response) -> None: ...

    @classmethod
    def suits(cls, design: OrthonormalCells) -> bool:
        """Whether it can evaluate the design, and at little cost."""
        ...

    @property
    def by_level(self) -> ClassSums | None:
        """Sums by level where levels are independent given the coefficients: of one factor."""
        ...

    @property
    def cost(self) -> float:
        """Rough seconds for one evaluation."""
        ...

    def reweighted(self, weights: Array) -> Structure:
        """The structure of the same rows, where each cell's cross-products count so many times.

        Parameters
        ----------
        weights
            Not negative, shape (C,).

        Raises
        ------
        DataError
            If cells hold several different rows, whose cross-products are pooled over all cells.
        """
        ...

    def sums(self, roots: list[Array]) -> tuple[Array, Array]:
        """Integrate the effects out.

        Returns
        -------
        log_det : numpy.ndarray
            log|V| - N log sigma^2, shape (n,).
        U : numpy.ndarray
            [X~ y~]'V^-1[X~ y~] sigma^2, shape (n, P, P).
        """
        ...

    def solve(self, roots: list[Array]) -> tuple[list[Array], list[Array]]:
        """Posterior of the effects given variance parameters, per factor.

        Returns
        -------
        response : list of numpy.ndarray
            B with mean effects B [-beta~; 1], shape (n, G, q, P).
        covariance : list of numpy.ndarray
            Their conditional covariance given coefficients / sigma^2, by level, (n, G, q, q).
        """
        ...

    def at_rows(
        self, roots: list[Array], codes: list[IntArray], Z: list[Array]
    ) -> tuple[Array, Array]:
        """Posterior of what the effects of all factors add to rows, given variance parameters.

        Parameters
        ----------
        roots
            As above.
        codes
            For each factor the level of each row, shape (r,).
        Z
            For each factor the columns of each row, shape (r, q).

        Returns
        -------
        response : numpy.ndarray
            B with mean B [-beta~; 1] of the sum of z'b over factors, shape (n, r, P).
        variance : numpy.ndarray
            Its conditional variance given coefficients / sigma^2, shape (n, r).
        """
        ...

    def second_moments(self, roots: list[Array], W: Array) -> list[Array]:
        """Sum over levels of E[b b'] / sigma^2, per factor, shape (n, q, q) each.

        Parameters
        ----------
        roots
            As above.
        W
            Second moments of [-beta~; 1] / sigma, shape (n, P, P).
        """
        ...

    def draw(
        self, roots: list[Array], c: Array, log_sigma: Array, rng: np.random.Generator
    ) -> list[Array]:
        """Draw the effects given variance parameters and coefficients, per factor, (n, G, q).

        Parameters
        ----------
        roots
            As above.
        c
            [-beta~; 1], shape (n, P).
        log_sigma
            log sigma, shape (n,).
        rng
            Source of random numbers.
        """
        ...


# In order of preference: the first that suits a design evaluates it.
STRUCTURES: tuple[type[Structure], ...] = (OneFactor, SmallRemainder, Crossed)


def choose_structure(design: OrthonormalCells, response: Response) -> Structure:
    """Choose the cheapest way to evaluate a design."""
    suited = next(structure for structure in STRUCTURES if structure.suits(design))
    return suited(design, response)

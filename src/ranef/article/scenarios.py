"""The article's eight scenarios: true values, priors, size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ranef.article.simulate import simulate

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = ["SCENARIOS", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """One scenario of the article.

    Attributes
    ----------
    number
        1 to 8, in the article's order.
    sigma2_e, sigma2_x
        True noise and signal variance.
    n
        Number of signals X_i.
    mean
        True mean of the X_i.
    a_sigma_e, b_sigma_e, a_sigma_x, b_sigma_x
        Shapes and scales of the inverse-gamma priors on the two variances.
    question
        What the article asks with it.
    """

    number: int
    sigma2_e: float
    sigma2_x: float
    n: int
    mean: float
    a_sigma_e: float
    b_sigma_e: float
    a_sigma_x: float
    b_sigma_x: float
    question: str

    @property
    def hyperparameters(self) -> dict[str, float]:
        """The prior's four numbers, by the names that `gibbs` and `exact` take."""
        return {
            "a_sigma_e": self.a_sigma_e,
            "b_sigma_e": self.b_sigma_e,
            "a_sigma_x": self.a_sigma_x,
            "b_sigma_x": self.b_sigma_x,
        }

    def data(self) -> Array:
        """Simulate the article's own data, shape (n, 2)."""
        return simulate(
            n=self.n, sigma2_e=self.sigma2_e, sigma2_x=self.sigma2_x, mean=self.mean, seed=47403
        )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(1, 3, 5, 100, 0, 0.1, 1, 0.1, 1, "Noise 3, signal 5: are both found?"),
    Scenario(2, 1, 100, 100, 0, 0.1, 1, 0.1, 1, "What if the signal is far larger?"),
    Scenario(3, 1, 100, 1000, 0, 0.1, 1, 0.1, 1, "Do ten times more data help?"),
    Scenario(4, 1, 100, 100, 0, 2, 2, 2, 200, "Do informative priors help?"),
    Scenario(5, 1, 100, 1000, 0, 2, 2, 2, 200, "Informative priors and more data?"),
    Scenario(6, 100, 1, 100, 0, 2, 200, 2, 2, "What if the noise is far larger?"),
    Scenario(7, 100, 1, 100, 50, 2, 200, 2, 2, "And if the signals have mean 50?"),
    Scenario(8, 100, 1, 100, 1000, 2, 200, 2, 2, "And if they have mean 1000?"),
)

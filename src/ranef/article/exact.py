"""The true posterior of the article's model: independent draws, moments and densities."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from ranef.article.gibbs import check_hyperparameters, check_measurements, to_dataset
from ranef.cells.cells import balanced_cells
from ranef.common import budget
from ranef.common.arguments import generator, whole_number
from ranef.errors import DataError
from ranef.formula.spec import intercept_spec
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.mixed_model.model import model_from_cells
from ranef.priors import variance
from ranef.samplers.exact import sample_exact
from ranef.samplers.sample import SamplerSettings

if TYPE_CHECKING:
    import xarray as xr

    from ranef.common.array_types import Array, Seed
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import Points

__all__ = ["ExactResult", "exact"]


@dataclass(frozen=True)
class ExactResult:
    """The exact posterior of the article's model.

    Attributes
    ----------
    draws
        As in `GibbsResult`, but the draws are independent; `X` only if it was asked for.
    seconds
        Run time, data to draws.
    points
        Quadrature nodes of the log variance ratio.
    shape, rate
        sigma2_e given node k is inverse gamma (shape, rate[k]); sigma2_x is r_k times that.
    """

    draws: xr.Dataset
    seconds: float
    points: Points
    shape: float
    rate: Array

    def density(self, parameter: Literal["sigma2_e", "sigma2_x"], at: Array) -> Array:
        """Exact marginal posterior density, a mixture of inverse gammas over the nodes.

        Parameters
        ----------
        parameter
            Which variance.
        at
            Positive values, shape (k,).

        Returns
        -------
        numpy.ndarray
            Shape (k,).
        """
        scale = self._scale(parameter)
        density = stats.invgamma(self.shape, scale=scale[:, None]).pdf(np.asarray(at))
        return np.asarray(self.points.weight @ density)

    def mean(self, parameter: Literal["sigma2_e", "sigma2_x"]) -> float:
        """Posterior mean of a variance by quadrature, without Monte Carlo error."""
        if self.shape <= 1:
            return float("inf")
        return float(self.points.weight @ self._scale(parameter) / (self.shape - 1))

    def _scale(self, parameter: str) -> Array:
        if parameter not in ("sigma2_e", "sigma2_x"):
            raise DataError(f"parameter is {parameter!r}; 'sigma2_e' or 'sigma2_x' is expected.")
        return self.rate * (np.exp(self.points.log_ratio) if parameter == "sigma2_x" else 1.0)


def exact(
    W: Any,
    *,
    mean: bool = False,
    draws: int = 10_000,
    X: bool = False,
    a_sigma_e: float = 0.1,
    b_sigma_e: float = 1.0,
    a_sigma_x: float = 0.1,
    b_sigma_x: float = 1.0,
    seed: Seed = None,
) -> ExactResult:
    """Draw independently from the true posterior of the article's model.

    Parameters
    ----------
    W
        Measurements, shape (n, J).
    mean
        False: signals have mean zero. True: mean mu with a flat prior.
    draws
        Number of independent draws.
    X
        Whether to draw the n signals too (draws x n numbers).
    a_sigma_e, b_sigma_e, a_sigma_x, b_sigma_x
        Shapes and scales of the inverse-gamma priors.
    seed
        Integer or `numpy.random.Generator`.

    Returns
    -------
    ExactResult

    Raises
    ------
    DataError, PriorError
        As `gibbs`.

    Examples
    --------
    >>> from ranef.article import SCENARIOS
    >>> round(exact(SCENARIOS[0].data(), seed=1).mean("sigma2_x"), 4)
    3.3898
    """
    W = check_measurements(W)
    check_hyperparameters(a_sigma_e, b_sigma_e, a_sigma_x, b_sigma_x)
    rng, draws = generator(seed), whole_number("draws", draws)
    started = time.perf_counter()
    model = _model(W, mean, (a_sigma_e, b_sigma_e), (a_sigma_x, b_sigma_x))
    request = SamplerSettings(draws, 1, 0, ("1|i",) if X else (), progress=False, moments=False)
    sample = sample_exact(model, request, rng)
    arrays = {
        "sigma2_e": sample.sigma[0] ** 2,
        "sigma2_x": sample.scales["1|i"][0] ** 2,
    }
    if mean:
        arrays["mu"] = sample.beta[0, :, 0]
    if X:
        arrays["X"] = sample.effects["1|i"][0]
        if mean:
            arrays["X"] += arrays["mu"][:, None]
    seconds = time.perf_counter() - started
    points = sample.points
    assert points is not None
    target = RandomIntercept(model)
    shape, rate = target.residual_variance(points.log_ratio, target.profile(points.log_ratio))
    return ExactResult(to_dataset(arrays), seconds, points, shape, rate)


def _model(
    W: Array, mean: bool, noise: tuple[float, float], signal: tuple[float, float]
) -> ModelSpec:
    """Make the model from row means and the sum of squares within rows."""
    n, J = W.shape
    row_mean = W @ np.full(J, 1 / J)
    # In blocks that stay in the cache: fresh memory for n rows costs more than the arithmetic.
    within = 0.0
    for part in budget.TABLE_ROWS.blocks(n):
        rest = W[part] - row_mean[part, None]
        within += float(np.vdot(rest, rest))
    cells = balanced_cells(row_mean, within, rows=n * J, weight=J, size=J, constant=mean)
    priors = {
        "sigma": variance(stats.invgamma(noise[0], scale=noise[1])),
        "1|i": variance(stats.invgamma(signal[0], scale=signal[1])),
    }
    return model_from_cells(intercept_spec(f"W ~ {int(mean)} + (1|i)"), cells, priors)

"""The article's Gibbs sampler, as printed and corrected: two lines that differ in one term."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ranef.common.arguments import choice, generator, positive, whole_number
from ranef.common.progress import track
from ranef.errors import DataError, PriorError

if TYPE_CHECKING:
    import xarray as xr

    from ranef.common.array_types import Array, Seed

__all__ = ["GibbsResult", "check_measurements", "gibbs"]


@dataclass(frozen=True)
class GibbsResult:
    """What the article's function returns.

    Attributes
    ----------
    draws
        `xarray.Dataset` with `sigma2_e`, `sigma2_x`, `X` (one for each signal) and, in the model
        with a mean, `mu`; dimensions chain (one), draw and signal. Burn-in is removed.
    seconds
        Run time of the sweeps.
    sweeps
        Number of sweeps, burn-in included.
    """

    draws: xr.Dataset
    seconds: float
    sweeps: int

    def __repr__(self) -> str:
        kept = self.draws.sizes["draw"]
        means = ", ".join(
            f"{name} {float(self.draws[name].mean()):.4g}"
            for name in ("sigma2_e", "sigma2_x", "mu")
            if name in self.draws
        )
        return (
            f"{self.sweeps:,} sweeps in {self.seconds:.2f} s, {kept:,} draws kept\n"
            f"posterior means: {means}"
        )


def gibbs(
    W: Any,
    conditional: Literal["printed", "corrected"] = "printed",
    *,
    mean: bool = False,
    draws: int = 10_000,
    burn_in: int = 100,
    a_sigma_e: float = 0.1,
    b_sigma_e: float = 1.0,
    a_sigma_x: float = 0.1,
    b_sigma_x: float = 1.0,
    seed: Seed = None,
    progress: bool = True,
) -> GibbsResult:
    """Run the article's sampler of `W_ij = X_i + E_ij`.

    Parameters
    ----------
    W
        Measurements, shape (n, J): one row per signal, J >= 2 replicates.
    conditional
        `"printed"`: X given the rest has variance 1/(J/sigma2_x + 1/sigma2_e), as the article
        prints it for J = 2, and the stationary distribution is not the posterior.
        `"corrected"`: 1/(1/sigma2_x + J/sigma2_e), which follows from the model (docs/article.md).
    mean
        False: signals have mean zero, as in the article. True: mean mu with a flat prior.
    draws
        Number of sweeps.
    burn_in
        Sweeps left out at the start.
    a_sigma_e, b_sigma_e, a_sigma_x, b_sigma_x
        Shapes and scales of the inverse-gamma priors; the article's defaults.
    seed
        Integer or `numpy.random.Generator`.
    progress
        Show a bar on anything longer than a second.

    Returns
    -------
    GibbsResult

    Raises
    ------
    DataError, PriorError
        If W is no finite matrix with two columns or more, or a prior's number is not positive.

    Notes
    -----
    Starting values as in the article: mean of the row variances, variance of the row means, row
    means. The gamma shapes never change, so all gamma variables are drawn ahead; so are the
    normals, into the memory that ends up holding X.

    Examples
    --------
    >>> result = gibbs(np.array([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]]), draws=200, seed=1)
    >>> sorted(result.draws)
    ['X', 'sigma2_e', 'sigma2_x']
    """
    W = check_measurements(W)
    choice("conditional", conditional, ("printed", "corrected"))
    draws, burn_in = whole_number("draws", draws), whole_number("burn_in", burn_in, 0)
    if not 0 <= burn_in < draws:
        raise DataError(f"burn_in={burn_in}, draws={draws} came; 0 <= burn_in < draws is expected.")
    check_hyperparameters(a_sigma_e, b_sigma_e, a_sigma_x, b_sigma_x)
    n, J = W.shape
    rng = generator(seed)
    started = time.perf_counter()

    W_mean = W.mean(axis=1)
    W_sum = W.sum(axis=1)
    within = float(((W - W_mean[:, None]) ** 2).sum())
    sigma2_e = float(W.var(axis=1, ddof=1).mean())
    sigma2_x = float(W_mean.var(ddof=1))
    mu = float(W.mean()) if mean else 0.0

    X = np.empty((draws, n))
    out_e, out_x, out_mu = np.empty(draws), np.empty(draws), np.empty(draws)
    gamma_x = rng.standard_gamma(n / 2 + a_sigma_x, draws)
    gamma_e = rng.standard_gamma(n * J / 2 + a_sigma_e, draws)
    z_mu = rng.standard_normal(draws) / np.sqrt(n)
    scratch = np.empty(n)
    for s in track(range(draws), f"Gibbs, {conditional}", show=progress):
        if conditional == "printed":
            V = 1 / (J / sigma2_x + 1 / sigma2_e)
        else:
            V = 1 / (1 / sigma2_x + J / sigma2_e)
        x = X[s]
        rng.standard_normal(out=x)
        x *= V**0.5
        np.multiply(W_sum, V / sigma2_e, out=scratch)
        x += scratch
        if mean:
            x += V * mu / sigma2_x
            mu = float(x.mean()) + sigma2_x**0.5 * z_mu[s]
            np.subtract(x, mu, out=scratch)
            squares = scratch @ scratch
        else:
            squares = x @ x
        sigma2_x = (b_sigma_x + squares / 2) / gamma_x[s]
        np.subtract(W_mean, x, out=scratch)
        sigma2_e = (b_sigma_e + (within + J * (scratch @ scratch)) / 2) / gamma_e[s]
        out_e[s], out_x[s], out_mu[s] = sigma2_e, sigma2_x, mu
    seconds = time.perf_counter() - started
    kept = {"sigma2_e": out_e, "sigma2_x": out_x, **({"mu": out_mu} if mean else {}), "X": X}
    return GibbsResult(to_dataset({k: v[burn_in:] for k, v in kept.items()}), seconds, draws)


def check_measurements(W: Any) -> Array:
    """Return W as a finite float matrix with at least two rows and two columns, or raise."""
    try:
        matrix: Array = np.ascontiguousarray(W, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("W must be a matrix of numbers, one row per signal.") from None
    if matrix.ndim != 2 or matrix.shape[0] < 2 or matrix.shape[1] < 2:
        raise DataError(
            f"W has shape {matrix.shape}; two signals (rows) and two replicates (columns) or more "
            "are expected."
        )
    if not np.isfinite(matrix).all():
        raise DataError("W holds missing or infinite values; the article's sampler needs all.")
    if np.all(matrix == matrix[0, 0]):
        raise DataError(f"W is constant ({matrix[0, 0]:g}); there is no variation to model.")
    return matrix


def check_hyperparameters(
    a_sigma_e: float, b_sigma_e: float, a_sigma_x: float, b_sigma_x: float
) -> None:
    """Raise unless all four numbers of the priors are positive."""
    named = {
        "a_sigma_e": a_sigma_e,
        "b_sigma_e": b_sigma_e,
        "a_sigma_x": a_sigma_x,
        "b_sigma_x": b_sigma_x,
    }
    for name, value in named.items():
        positive(name, value, error=PriorError, parameter=name)


def to_dataset(arrays: dict[str, Array]) -> xr.Dataset:
    """Label one chain of draws."""
    import xarray as xr

    variables = {}
    for name, values in arrays.items():
        dims = ("chain", "draw") if values.ndim == 1 else ("chain", "draw", "signal")
        variables[name] = (dims, values[None])
    first = next(iter(arrays.values()))
    coords: dict[str, Any] = {"chain": [0], "draw": np.arange(len(first))}
    if "X" in arrays:
        coords["signal"] = np.arange(1, arrays["X"].shape[1] + 1)
    return xr.Dataset(variables, coords=coords)

"""Geweke's joint test of one sweep of a sampler, with independent chains and exact p-values.

Two simulators draw parameters and data jointly: parameters from the prior and then data from the
model, or a chain that alternates between a sweep of the sampler and fresh data (Geweke 2004, JASA
99, 799). If the sweep leaves the posterior as it is, both have one distribution. A single long
chain needs a standard error for its correlated draws, and z-tests with a poor one reject correct
samplers. Here many short chains start from exact joint draws: under the hypothesis each is an
exact joint draw after any number of sweeps, and independent of all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.calibration.exact_tests import two_sample_p_value
from ranef.calibration.report import JointTest
from ranef.common.arguments import brief, function, generator, one_number, share, whole_number
from ranef.common.progress import track
from ranef.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Seed

__all__ = ["geweke"]


def geweke(
    draw_parameters: Callable[[np.random.Generator], Any],
    draw_data: Callable[[Any, np.random.Generator], Any],
    update: Callable[[Any, Any, np.random.Generator], Any],
    quantities: Callable[[Any, Any], Mapping[str, float]],
    *,
    chains: int = 1000,
    sweeps: int = 20,
    error_rate: float = 0.01,
    seed: Seed = None,
    progress: bool = True,
) -> JointTest:
    """Test whether one sweep of a sampler leaves the joint distribution as it is.

    Parameters
    ----------
    draw_parameters
        `draw_parameters(rng)`: everything that a sweep changes, latent variables included, from
        the prior. Any object; it is handed on as it is.
    draw_data
        `draw_data(parameters, rng)`: data from the model.
    update
        `update(parameters, data, rng)`: the parameters after one sweep. It must leave what it is
        given unchanged.
    quantities
        `quantities(parameters, data)`: numbers by name to be compared. Put the log likelihood
        among them, and products of parameters with data.
    chains
        Number of chains, and of exact joint draws to compare them with.
    sweeps
        Sweeps of each chain, with fresh data between them. More let a wrong update drift further.
    error_rate
        Chance that a correct update fails (Holm's adjustment over the quantities). The p-values
        are exact, so it holds for any model and any number of chains.
    seed
        Integer or `numpy.random.Generator`.
    progress
        Show a bar on anything that takes more than a second.

    Returns
    -------
    JointTest
        `passed`, `verdict`, `table()`, `raise_if_failed()`.

    Raises
    ------
    DataError
        If the numbers make no sense, or a quantity is not a number.

    Notes
    -----
    The test looks at what a sweep preserves. A sweep that changes nothing passes, so convergence
    is a question of its own; `ranef.calibrate` asks it.

    Examples
    --------
    A mean with a N(0, 1) prior and one observation of variance 1, drawn from its posterior:

    >>> result = geweke(
    ...     lambda rng: rng.normal(),
    ...     lambda mu, rng: rng.normal(mu),
    ...     lambda mu, y, rng: rng.normal(y / 2, 0.5**0.5),
    ...     lambda mu, y: {"mu": mu, "mu y": mu * y},
    ...     chains=200, seed=1)
    >>> result.passed
    True
    """
    chains, sweeps = whole_number("chains", chains, 2), whole_number("sweeps", sweeps)
    error_rate = share("error_rate", error_rate, 0.01)
    function("draw_parameters", draw_parameters, "draw_parameters(rng)")
    function("draw_data", draw_data, "draw_data(parameters, rng)")
    function("update", update, "update(parameters, data, rng)")
    function("quantities", quantities, "quantities(parameters, data)")
    streams = generator(seed).spawn(2 * chains + 1)
    fresh, swept = [], []
    for i in track(range(chains), "Joint test", show=progress):
        rng = streams[2 * i]
        parameters = _returned("draw_parameters", draw_parameters(rng))
        data = _returned("draw_data", draw_data(parameters, rng))
        fresh.append(_by_name(quantities(parameters, data)))
        rng = streams[2 * i + 1]
        parameters = draw_parameters(rng)
        data = draw_data(parameters, rng)
        for sweep in range(sweeps):
            if sweep:
                data = draw_data(parameters, rng)
            parameters = _returned("update", update(parameters, data, rng))
        # With the data that the last update saw, not with fresh ones: an update that ignores its
        # data would have the right law together with data drawn from its own result.
        swept.append(_by_name(quantities(parameters, data)))
    names = tuple(fresh[0])
    for found in (*fresh, *swept):
        if found.keys() != fresh[0].keys():
            raise DataError(
                f"quantities gave {', '.join(found)} once and {', '.join(names)} first; the same "
                "names are expected each time."
            )
    first, second = (np.array([[q[n] for n in names] for q in joint]) for joint in (fresh, swept))
    broken = np.isnan(first).any(axis=0) | np.isnan(second).any(axis=0)
    if broken.any():
        raise DataError(f"Quantity {names[int(broken.argmax())]!r} is not a number.")
    p = [two_sample_p_value(a, b, streams[-1]) for a, b in zip(first.T, second.T, strict=True)]
    return JointTest(names, first, second, np.array(p), sweeps, error_rate)


def _returned(name: str, value: Any) -> Any:
    """Return what a user's function gave, or raise where it gave nothing."""
    if value is None:
        raise DataError(f"{name} returned None; does it end with a return statement?")
    return value


def _by_name(values: Any) -> dict[str, float]:
    """Read the quantities, which are numbers by name."""
    if not isinstance(values, Mapping) or not values:
        raise DataError(
            f"quantities gave {brief(values)}; numbers by name are expected, e.g. {{'mu': 0.3}}."
        )
    return {str(name): one_number(f"Quantity {name!r}", value) for name, value in values.items()}

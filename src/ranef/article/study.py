"""All scenarios: the sampler as printed, corrected, corrected with a mean, and exactly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.article.exact import ExactResult, exact
from ranef.article.gibbs import GibbsResult, gibbs
from ranef.article.scenarios import SCENARIOS, Scenario
from ranef.common.arguments import brief, whole_number
from ranef.common.progress import track
from ranef.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import xarray as xr

__all__ = ["ScenarioResult", "Study", "study"]

WAYS = {
    "printed": "as printed",
    "corrected": "corrected",
    "corrected_mean": "corrected, with a mean",
    "exact": "exact, with a mean",
    "exact_zero": "exact, mean zero",
}


@dataclass(frozen=True)
class ScenarioResult:
    """One scenario, every way.

    Attributes
    ----------
    scenario
        Its true values and priors.
    printed, corrected, corrected_mean
        Gibbs: the article's conditional; the right one; the right one and an unknown mean.
    exact
        The true posterior of the model with a mean.
    exact_zero
        The true posterior of the article's own model, mean zero.
    """

    scenario: Scenario
    printed: GibbsResult
    corrected: GibbsResult
    corrected_mean: GibbsResult
    exact: ExactResult
    exact_zero: ExactResult

    def draws(self, way: str) -> xr.Dataset:
        """Draws by the name of the way, a key of `WAYS`."""
        result: GibbsResult | ExactResult = getattr(self, way)
        return result.draws

    def interval(self, parameter: str, way: str = "exact") -> tuple[float, float]:
        """Central 95% of a variance's draws."""
        low, high = np.quantile(self.draws(way)[parameter].to_numpy(), [0.025, 0.975])
        return float(low), float(high)


@dataclass(frozen=True)
class Study:
    """The article's scenarios, every way.

    Attributes
    ----------
    results
        One for each scenario.
    """

    results: tuple[ScenarioResult, ...]

    @property
    def table(self) -> pd.DataFrame:
        """Long table: scenario, parameter, truth, way, mean, sd, q025, q50, q975, seconds."""
        import pandas as pd

        rows = []
        for result in self.results:
            for way in WAYS:
                run: GibbsResult | ExactResult = getattr(result, way)
                for parameter in ("sigma2_e", "sigma2_x"):
                    values = run.draws[parameter].to_numpy().ravel()
                    low, middle, high = np.quantile(values, [0.025, 0.5, 0.975])
                    rows.append(
                        {
                            "scenario": result.scenario.number,
                            "parameter": parameter,
                            "truth": getattr(result.scenario, parameter),
                            "way": way,
                            "mean": values.mean(),
                            "sd": values.std(ddof=1),
                            "q025": low,
                            "q50": middle,
                            "q975": high,
                            "seconds": run.seconds,
                        }
                    )
        return pd.DataFrame(rows)


def study(
    scenarios: Sequence[int] | None = None,
    *,
    draws: int = 10_000,
    burn_in: int = 100,
    seed: int = 47403,
    progress: bool = True,
) -> Study:
    """Run the article's scenarios four ways, the exact one under both models.

    Parameters
    ----------
    scenarios
        Numbers 1 to 8; None for all.
    draws, burn_in
        Sweeps of each sampler, and how many of them are left out.
    seed
        Each run gets its own stream spawned from this.
    progress
        Show a bar on anything longer than a second.

    Returns
    -------
    Study

    Raises
    ------
    DataError
        If a number names no scenario.

    Examples
    --------
    >>> one = study([1], draws=500, progress=False)
    >>> one.table["way"].unique().tolist()
    ['printed', 'corrected', 'corrected_mean', 'exact', 'exact_zero']
    """
    seed = whole_number("seed", seed, 0)
    known = [s.number for s in SCENARIOS]
    if scenarios is not None and (
        isinstance(scenarios, str) or not isinstance(scenarios, Iterable)
    ):
        raise DataError(f"scenarios is {brief(scenarios)}; a list is expected, e.g. [1, 3].")
    numbers = known if scenarios is None else list(scenarios)
    for number in numbers:
        if not isinstance(number, (int, np.integer)) or number not in known:
            raise DataError(
                f"Scenario {brief(number)} does not exist; 1 to {len(SCENARIOS)} are there."
            )
    results = []
    for number in track(numbers, "Scenarios", show=progress):
        scenario = SCENARIOS[number - 1]
        # One stream per scenario and run, whichever scenarios are asked for.
        streams = [
            np.random.default_rng(s) for s in np.random.SeedSequence([seed, number]).spawn(5)
        ]
        W: Any = scenario.data()
        priors: dict[str, Any] = dict(scenario.hyperparameters)
        run = partial(gibbs, W, draws=draws, burn_in=burn_in, progress=False, **priors)
        true = partial(exact, W, draws=draws, **priors)
        results.append(
            ScenarioResult(
                scenario,
                run(conditional="printed", seed=streams[0]),
                run(conditional="corrected", seed=streams[1]),
                run(conditional="corrected", mean=True, seed=streams[2]),
                true(mean=True, seed=streams[3]),
                true(seed=streams[4]),
            )
        )
    return Study(tuple(results))

"""Simulation-based calibration: the rank of the truth among posterior draws is uniform.

Cook, Gelman and Rubin (2006), Talts et al. (2018, arXiv:1804.06788); with a test quantity that
depends on the data, Modrák et al. (2023, Bayesian Analysis).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.calibration.checkpoint import State, load_state, save_state
from ranef.calibration.experiments import ModelExperiment, OwnExperiment
from ranef.calibration.report import Calibration
from ranef.calibration.simulate import check_drawable
from ranef.calibration.workers import run_simulations
from ranef.common.arguments import choice, file_path, function, generator, share, whole_number
from ranef.common.progress import track
from ranef.errors import DataError
from ranef.fitting.model import MixedModel
from ranef.samplers import check_method

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from ranef.calibration.experiments import Experiment
    from ranef.common.array_types import Seed

__all__ = ["calibrate"]

# Places where chains begin, and sweeps before a draw counts.
_WARMUP: dict[str, dict[str, int]] = {"own": {}, "truth": {"gibbs": 30}}
# Seconds between two writings of the checkpoint.
_SAVE_EVERY = 5.0


def calibrate(
    model: MixedModel | Callable[..., Mapping[str, Any]],
    simulations: int = 1000,
    *,
    method: str = "exact",
    start: str = "own",
    draws: int = 99,
    warmup: int | None = None,
    simulate: Callable[..., tuple[Mapping[str, Any], Any]] | None = None,
    log_likelihood: Callable[..., float] | None = None,
    error_rate: float = 0.01,
    processes: int = 1,
    file: str | os.PathLike[str] | None = None,
    seed: Seed = None,
    progress: bool = True,
) -> Calibration:
    """Check a sampler by simulation: the truth should rank uniformly among its posterior draws.

    Each simulation draws parameters from the prior, data from the model at these parameters, and
    fits the data. If the draws follow the posterior, the rank of each true value among them is
    uniform. An exact test says whether it is, for all quantities together at one error rate.

    Parameters
    ----------
    model
        From `ranef.model`: design and priors are used, the response only for default priors. Or a
        function of your own, `fit(data, rng) -> {name: draws}`, with draws along the first axis;
        then `simulate` says where data come from.
    simulations
        How many data sets to simulate. 1,000 find draws that are off by a fifth of a posterior
        SD, or that spread a fifth too much or too little; 100 find half an SD (docs/calibrate.md).
    method
        The sampler, `"exact"` or `"gibbs"`; only with a model.
    start
        Where Gibbs' chains begin. `"own"`: where a fit begins them, so that ranks judge warm-up
        and mixing too. `"truth"`: a few sweeps back from the true parameters, which are a draw from
        the posterior; ranks are then exactly uniform for a correct sampler, however slowly it
        mixes, and a simulation costs a tenth or less.
    draws
        Posterior draws among which the truth is ranked, L. Ranks run from 0 to L; 99 make round
        coverages.
    warmup
        Sweeps of Gibbs before a draw counts. Every draw ends a chain of its own. Without a number
        500, which is none too many for a chain's own start; from the truth 30, in which an error of
        the sampler leads far enough away to be seen.
    simulate
        `simulate(rng) -> (parameters, data)`, parameters by name, each a number or an array.
    log_likelihood
        `log_likelihood(parameters, data)`, a number, as a further test quantity. Without one that
        looks at the data a sampler that ignores them would pass. Models have their own.
    error_rate
        Chance that a correct sampler fails (Holm's adjustment over all quantities).
    processes
        How many simulations run side by side; 1 stays in this process. Results do not depend on
        it.
    file
        A checkpoint, written every few seconds. If it exists the run goes on where it stopped,
        and ends as if it had never stopped; with more `simulations` than before it adds the rest.
    seed
        Integer or `numpy.random.Generator`. Without one, that of `file` if it exists.
    progress
        Show a bar on anything that takes more than a second.

    Returns
    -------
    Calibration
        `passed`, `verdict`, `table()`, `plot()`, `ranks`, `pit`, `raise_if_failed()`, `save()`.

    Raises
    ------
    PriorError
        If a standard deviation has an improper prior, from which nothing can be drawn.
    DataError
        If arguments do not fit together, a fit gives fewer draws than asked for, or `file` belongs
        to another calibration.

    Notes
    -----
    *Flat coefficients.* A coefficient with a flat prior cannot be drawn and is held at its
    least-squares value. Ranks are uniform all the same: shifting the data by X d shifts the
    posterior of beta by d and nothing else, so neither the posterior of the SDs, correlations and
    effects nor that of beta minus its true value depends on where beta is.

    *Test quantities.* Coefficients, SDs, correlations, `sigma`, the first level of each effect,
    the log likelihood, and two derived ones, `total_variance` and `group_share`. For random
    intercepts fitted by quadrature the rows marked `(exact)` use the posterior distribution
    function itself instead of draws.

    *Your own Markov chain.* Correlated draws make ranks pile up at both ends. Thin the chain until
    its draws are nearly independent; more than `draws` of them are thinned evenly. Draws worth
    L / k independent ones raise the variance of the ranks by a share of about 2 (k - 1) / L.

    Examples
    --------
    >>> import ranef as rf
    >>> model = rf.model("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"))
    >>> result = rf.calibrate(model, simulations=20, seed=1)
    >>> result.passed
    True
    """
    choice("start", start, _WARMUP)
    check_method(method)
    if warmup is None:
        warmup = _WARMUP[start].get(method, 500)
    warmup = whole_number("warmup", warmup, 0)
    simulations, draws = whole_number("simulations", simulations), whole_number("draws", draws)
    processes = whole_number("processes", processes)
    error_rate = share("error_rate", error_rate, 0.01)
    if file is not None:
        file = file_path("file", file, "calibration.npz")
    if start == "truth":
        _check_chain(model, method, warmup)
    experiment = _experiment(model, method, start, warmup, simulate, log_likelihood)
    settings = experiment.description() | {"draws": draws}
    state = _begin(settings, seed, file).resized(simulations)
    entropy = int(state.settings["seed"])
    todo = [int(i) for i in np.flatnonzero(~state.done[:simulations])]
    fresh = []
    saved = time.perf_counter()
    outcomes = run_simulations(experiment, entropy, todo, draws, processes)
    try:
        for _ in track(todo, "Calibrating", show=progress):
            fresh.append(next(outcomes))
            if file is not None and time.perf_counter() - saved > _SAVE_EVERY:
                state, fresh = state.with_outcomes(fresh), []
                save_state(state, file)
                saved = time.perf_counter()
    finally:
        outcomes.close()
        state = state.with_outcomes(fresh)
        if file is not None:
            save_state(state, file)
    return Calibration(
        names=state.names,
        ranks=state.ranks[:simulations],
        pit=state.pit[:simulations],
        settings=state.settings,
        error_rate=error_rate,
    )


def _experiment(
    model: Any,
    method: str,
    start: str,
    warmup: int,
    simulate: Callable[..., tuple[Mapping[str, Any], Any]] | None,
    log_likelihood: Callable[..., float] | None,
) -> Experiment:
    """Make the experiment that the arguments mean."""
    if isinstance(model, MixedModel):
        if simulate is not None or log_likelihood is not None:
            raise DataError(
                "simulate and log_likelihood came with a model, which has its own; give them with "
                "a function instead."
            )
        check_drawable(model.inner)
        return ModelExperiment(model.inner, model.rows, method, warmup, start)
    if not callable(model):
        raise DataError(
            f"model is a {type(model).__name__}; rf.model(formula, data) is expected, or a "
            "function fit(data, rng) with simulate=."
        )
    if simulate is None:
        raise DataError(
            "A function came without simulate=; simulate(rng) -> (parameters, data) is expected."
        )
    function("simulate", simulate, "simulate(rng) -> (parameters, data)")
    if log_likelihood is not None:
        function("log_likelihood", log_likelihood, "log_likelihood(parameters, data)")
    return OwnExperiment(model, simulate, log_likelihood)


def _check_chain(model: Any, method: str, warmup: int) -> None:
    """Refuse a start at the truth where there is no chain to start, or it would not move."""
    if not isinstance(model, MixedModel):
        raise DataError(
            "start='truth' came with a function; where its chains begin is up to the function, so "
            "leave start out."
        )
    if method not in _WARMUP["truth"]:
        raise DataError(
            f"start='truth' came with method={method!r}, whose draws are independent and start "
            "nowhere; leave start out, or choose method='gibbs'."
        )
    if warmup == 0:
        raise DataError("warmup is 0; with start='truth' at least 1 is expected.")


def _begin(settings: dict[str, Any], seed: Seed, file: str | os.PathLike[str] | None) -> State:
    """Read the checkpoint if there is one and it belongs to this calibration, else start afresh."""
    if file is None or not Path(file).exists():
        state = State.empty(settings | {"seed": _entropy(seed)})
        if file is not None:
            # Before the work whose result is to be written.
            save_state(state, file)
        return state
    state = load_state(file)
    wanted = settings | {"seed": state.settings.get("seed") if seed is None else _entropy(seed)}
    for name in wanted.keys() | state.settings.keys():
        if wanted.get(name) != state.settings.get(name):
            raise DataError(
                f"File '{file}' belongs to another calibration: its {name} is "
                f"{state.settings.get(name)!r}, here it is {wanted.get(name)!r}. Choose another "
                "file, or delete this one."
            )
    return state


def _entropy(seed: Seed) -> int:
    """Turn a seed into the number from which every simulation's streams come."""
    rng = generator(seed)
    if seed is None or isinstance(seed, (int, np.integer)):
        entropy = np.random.SeedSequence(None if seed is None else int(seed)).entropy
        return int(entropy)  # type: ignore[arg-type]
    return int(rng.integers(2**63))

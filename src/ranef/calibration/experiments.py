"""One simulation: parameters from the prior, data from the model, draws from the posterior."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ranef.calibration.exact_pit import exact_pit
from ranef.calibration.from_truth import sample_from_truth
from ranef.calibration.quantities import of_sample, quantities
from ranef.calibration.simulate import sample_parameters, sample_response, with_response
from ranef.common.arguments import brief, one_number
from ranef.errors import DataError, nearest
from ranef.samplers import SAMPLERS
from ranef.samplers.sample import SamplerSettings
from ranef.version import __version__

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.formula.rows import Rows
    from ranef.mixed_model.model import ModelSpec

__all__ = ["Comparison", "Experiment", "ModelExperiment", "OwnExperiment"]

# Of each chain's draws after warm-up the last of so many counts: what is left of a rejection
# sampler's repetitions is then too little to change a rank.
_THIN = 4


@dataclass(frozen=True)
class Comparison:
    """Truth against posterior in one simulation.

    Attributes
    ----------
    truth
        True value of each test quantity.
    draws
        Posterior draws of each, shape (L,).
    exact
        Posterior probability of lying below the truth, where it is known without draws.
    """

    truth: dict[str, float]
    draws: dict[str, Array]
    exact: dict[str, float]


class Experiment(Protocol):
    """Something that can be simulated and fitted; it can be pickled if processes share the work."""

    def compare(
        self, draws: int, simulating: np.random.Generator, fitting: np.random.Generator
    ) -> Comparison:
        """Simulate once, fit, and put truth beside draws."""
        ...

    def description(self) -> dict[str, Any]:
        """What was simulated and fitted, as JSON; two experiments with equal ones are the same."""
        ...


@dataclass(frozen=True)
class ModelExperiment:
    """A model of this package on its own design, fitted by one of its samplers.

    Attributes
    ----------
    model, rows
        Design and priors; the response is not used.
    method
        Name in `ranef.samplers.SAMPLERS`.
    warmup
        Sweeps before a chain's draw counts.
    start
        Where chains begin: `"own"` for the sampler's own places, `"truth"`.
    """

    model: ModelSpec
    rows: Rows
    method: str
    warmup: int
    start: str = "own"

    def compare(
        self, draws: int, simulating: np.random.Generator, fitting: np.random.Generator
    ) -> Comparison:
        """Simulate once, fit with as many chains as draws, and keep the last draw of each."""
        model, rows = self.model, self.rows
        truth = sample_parameters(model, simulating)
        y = sample_response(model, rows, truth, simulating)
        fitted = with_response(model, rows, y)
        if self.start == "truth":
            sample = sample_from_truth(fitted, self.method, truth, draws, self.warmup, fitting)
        else:
            names = tuple(n for t in model.parameters.terms for n in t.names)
            request = SamplerSettings(
                _THIN * draws, draws, self.warmup, names, progress=False, moments=False
            )
            sample = SAMPLERS[self.method](fitted, request, fitting)
        true = quantities(model, rows, y, truth)
        exact = {}
        if sample.points is not None:
            exact = exact_pit(fitted, sample.points, truth)
        return Comparison(
            truth={name: float(value[0]) for name, value in true.items()},
            draws=quantities(model, rows, y, of_sample(sample)),
            exact={f"{name} (exact)": value for name, value in exact.items()},
        )

    def description(self) -> dict[str, Any]:
        """Formula, priors, sampler, version, and a digest of the design."""
        rows = self.rows
        digest = hashlib.sha256()
        arrays = [rows.X, rows.slopes, *rows.codes]
        for array in arrays if rows.weights is None else [*arrays, rows.weights]:
            digest.update(np.ascontiguousarray(array).tobytes())
        flat = [
            n
            for n, c in zip(self.model.names, self.model.coefficients, strict=True)
            if not c.precision
        ]
        return {
            "model": self.model.spec.formula.text,
            "priors": self.model.prior_texts(),
            "held": flat,
            "method": self.method,
            "start": self.start,
            "warmup": self.warmup,
            "design": digest.hexdigest()[:16],
            "version": __version__,
        }


@dataclass(frozen=True)
class OwnExperiment:
    """The user's own simulator and sampler.

    Attributes
    ----------
    fit
        `fit(data, rng)` gives posterior draws by name, shape (n, ...).
    simulate
        `simulate(rng)` gives true parameters by name, and data.
    log_likelihood
        `log_likelihood(parameters, data)` gives a number; None for no such test quantity.
    """

    fit: Callable[..., Mapping[str, Any]]
    simulate: Callable[..., tuple[Mapping[str, Any], Any]]
    log_likelihood: Callable[..., float] | None

    def compare(
        self, draws: int, simulating: np.random.Generator, fitting: np.random.Generator
    ) -> Comparison:
        """Simulate once, fit, and thin the draws evenly to the number asked for."""
        pair = self.simulate(simulating)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise DataError(f"simulate gave {brief(pair)}; a pair (parameters, data) is expected.")
        parameters, data = pair
        truth = _arrays("simulate", parameters)
        fitted = _arrays("The fit", self.fit(data, fitting))
        for name in fitted:
            if name not in truth:
                raise DataError(
                    f"The fit gives {name!r}, which the simulation does not. {nearest(name, truth)}"
                )
        thinned = {k: _thin(k, v, draws) for k, v in fitted.items()}
        for name, values in thinned.items():
            if values.shape[1:] != truth[name].shape:
                raise DataError(
                    f"Draws of {name!r} have shape {values.shape[1:]}, its true value "
                    f"{truth[name].shape}; draws come along the first axis."
                )
        flat_truth: dict[str, float] = {}
        flat_draws: dict[str, Array] = {}
        for name, values in thinned.items():
            for place in np.ndindex(truth[name].shape):
                label = f"{name}[{', '.join(map(str, place))}]" if place else name
                flat_truth[label] = float(truth[name][place])
                flat_draws[label] = values[(slice(None), *place)]
        if self.log_likelihood is not None:
            of, name = self.log_likelihood, "log_likelihood"
            flat_truth[name] = one_number(name, of({k: truth[k][()] for k in truth}, data))
            rows = [{k: v[i] for k, v in thinned.items()} for i in range(draws)]
            flat_draws[name] = np.array([one_number(name, of(row, data)) for row in rows])
        return Comparison(flat_truth, flat_draws, {})

    def description(self) -> dict[str, Any]:
        """Names of the functions: all that can be told of them."""
        functions = {
            "fit": self.fit, "simulate": self.simulate, "log_likelihood": self.log_likelihood
        }  # fmt: skip
        return {k: _name(f) for k, f in functions.items() if f is not None}


def _arrays(giver: str, values: Any) -> dict[str, Array]:
    """Read what a user's function gave by name."""
    if not isinstance(values, Mapping) or not values:
        raise DataError(
            f"{giver} gave {brief(values)}; numbers or arrays by name are expected, e.g. "
            "{'mu': …}."
        )
    out = {}
    for name, value in values.items():
        try:
            out[str(name)] = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise DataError(
                f"{giver} gave {brief(value)} for {name!r}; numbers are expected."
            ) from None
    return out


def _thin(name: str, values: Array, draws: int) -> Array:
    """Take evenly spaced draws, the last among them."""
    n = len(values) if values.ndim else 0
    if n < draws:
        raise DataError(
            f"The fit gives {n} draws of {name!r}; at least draws={draws} are expected."
        )
    return values[np.arange(1, draws + 1) * n // draws - 1]


def _name(function: Any) -> str:
    """Name a function, or the class of a callable object."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))

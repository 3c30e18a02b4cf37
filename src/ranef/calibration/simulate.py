"""Parameters from the priors, and data from the model, on the user's own design."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ranef.calibration.quantities import Parameters, covariance, predictor
from ranef.cells.from_rows import compress
from ranef.cells.orthonormal import orthonormalize
from ranef.errors import PriorError
from ranef.fitting.model import draw_prior

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.formula.rows import Rows
    from ranef.mixed_model.model import ModelSpec

__all__ = ["check_drawable", "sample_parameters", "sample_response", "with_response"]


def check_drawable(model: ModelSpec) -> None:
    """Refuse improper priors on standard deviations, from which nothing can be drawn.

    Raises
    ------
    PriorError
        Naming them.
    """
    flat = set(model.names)
    improper = {name: text for name, text in model.improper().items() if name not in flat}
    if improper:
        stated = ", ".join(f"{text} on {name}" for name, text in improper.items())
        name = next(iter(improper))
        raise PriorError(
            f"Calibration draws standard deviations from their priors, and nothing can be drawn "
            f"from an improper one ({stated}); state a proper one, e.g. "
            f"priors={{{name!r}: rf.half_t(10)}}.",
            parameter=name,
        )


def sample_parameters(model: ModelSpec, rng: np.random.Generator) -> Parameters:
    """Draw all parameters and effects once from the priors.

    Parameters
    ----------
    model
        Priors and design. Coefficients with a flat prior are held at their least-squares values:
        the posterior of everything else, and of the coefficients relative to the truth, does not
        depend on where they are.
    rng
        Source of random numbers.

    Returns
    -------
    ranef.calibration.quantities.Parameters
        n is one.
    """
    drawn = draw_prior(model, 1, rng)
    beta = np.array(
        [
            [
                drawn[n][0] if n in drawn else model.response.beta_ls[j]
                for j, n in enumerate(model.names)
            ]
        ]
    )
    terms = model.parameters.terms
    bare = Parameters(
        sigma=drawn.get("sigma", np.full(1, np.exp(model.parameters.family.log_sd))),
        scales={n: drawn[f"{n}_sigma"] for t in terms for n in t.names},
        correlations={
            t.label: np.column_stack([drawn[n] for n in t.correlation_names])
            for t in terms
            if t.correlations
        },
        beta=beta.reshape(1, len(model.names)),
        effects={},
    )
    effects: dict[str, Array] = {}
    for term in terms:
        values, vectors = np.linalg.eigh(covariance(term, bare)[0])
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        levels = model.design.factors[term.factor].levels
        z = term.covariance.correlate(rng.standard_normal((1, levels, len(term.names))))
        b = z @ root.T
        effects |= {name: b[:, :, j] for j, name in enumerate(term.names)}
    return replace(bare, effects=effects)


def sample_response(
    model: ModelSpec, rows: Rows, truth: Parameters, rng: np.random.Generator
) -> Array:
    """Draw a response from the model at given parameters.

    Parameters
    ----------
    model, rows
        Design.
    truth
        From `sample_parameters`.
    rng
        Source of random numbers.

    Returns
    -------
    numpy.ndarray
        Shape (N,), offsets already taken off.
    """
    mean = predictor(model, rows, truth, slice(None))[0]
    noise = truth.sigma[0] * rng.standard_normal(len(mean))
    return np.asarray(mean + (noise if rows.weights is None else noise / np.sqrt(rows.weights)))


def with_response(model: ModelSpec, rows: Rows, y: Array) -> ModelSpec:
    """Put another response (N,) into a model of these rows: same design, formula not read again."""
    cells = compress(replace(rows, y=y, offset=None))
    return model.with_response(orthonormalize(cells, model.names, model.design.factors)[1])

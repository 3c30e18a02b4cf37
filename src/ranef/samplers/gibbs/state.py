"""The state of the chains between two steps, and where it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.priors import ScalePrior
    from ranef.samplers.gibbs.products import Products
    from ranef.samplers.sample import InitialState

__all__ = ["State", "at_start", "dispersed"]


@dataclass(frozen=True)
class State:
    """Everything a sweep carries on, of all chains.

    Attributes
    ----------
    theta
        Vector of `ranef.mixed_model.parameters.ParameterVector`, shape (chains, d).
    beta
        Coefficients in the coordinates of `Products`, shape (chains, p).
    effects
        Effects of each factor, shape (chains, G, q).
    roots
        Relative Cholesky factors at theta, once a step has needed them; None from when theta moves.
    """

    theta: Array
    beta: Array
    effects: tuple[Array, ...]
    roots: list[Array] | None = None


def dispersed(products: Products, chains: int, rng: np.random.Generator) -> State:
    """Start around the data's spread, every chain elsewhere, so that R-hat sees slow mixing.

    Parameters
    ----------
    products
        Data and priors.
    chains
        How many chains.
    rng
        Source of random numbers.

    Returns
    -------
    State
        Effects and coefficients are zero.
    """
    parameters = products.model.parameters
    spread = products.gram[-1, -1] / products.model.design.count.sum()
    theta = np.zeros((chains, parameters.size))
    for j, prior in enumerate(parameters.family.scales.values(), parameters.ratios):
        theta[:, j] = _inside(prior, 0.5 * np.log(spread) + rng.normal(0, 0.25, chains))
    for term, (log_sd, _) in zip(parameters.terms, parameters.split(theta), strict=True):
        ZZ = products.blocks[term.factor].ZZ
        sizes = np.array([_column_size(ZZ, j) for j in term.place])
        log_sd[:] = 0.5 * np.log(spread) - np.log(sizes) + rng.normal(-0.7, 0.7, log_sd.shape)
        for j, prior in enumerate(term.scales):
            log_sd[:, j] = _inside(prior, log_sd[:, j])
    effects = tuple(np.zeros((chains, *block.ZZ.shape[:2])) for block in products.blocks)
    return State(theta, np.zeros((chains, products.p)), effects)


def at_start(products: Products, chains: int, start: InitialState) -> State:
    """Start every chain where the request says.

    Parameters
    ----------
    products
        Data and priors.
    chains
        How many chains.
    start
        A state for each chain, or one for all.

    Returns
    -------
    State
    """
    apart = (start.beta - products.model.response.beta_ls).T
    beta = np.asarray(np.linalg.solve(products.turn, apart).T) if products.p else start.beta

    def every(values: Array) -> Array:
        return np.broadcast_to(values, (chains, *values.shape[1:])).copy()

    return State(every(start.theta), every(beta), tuple(every(b) for b in start.effects))


def _column_size(ZZ: Array, j: int) -> float:
    """Root mean square of a group column, to start its SD in the right units."""
    return float(np.sqrt(ZZ[:, j, j].sum() / max(ZZ[:, 0, 0].sum(), 1e-300))) or 1.0


def _inside(prior: ScalePrior, log_sd: Array) -> Array:
    """Move starting values into the prior's support, which Metropolis steps never leave."""
    low, high = prior.support
    margin = 1e-3 * (high - low if np.isfinite(high) else low)
    return np.asarray(np.log(np.clip(np.exp(log_sd), low + margin, high - margin)))

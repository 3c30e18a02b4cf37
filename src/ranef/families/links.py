"""Links of proportions: log probabilities of success and failure, and their derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, log_ndtr, ndtri

if TYPE_CHECKING:
    from collections.abc import Callable

    from ranef.common.array_types import Array

__all__ = ["PROPORTIONS", "ProportionLink"]


@dataclass(frozen=True)
class ProportionLink:
    """A link of a probability.

    Attributes
    ----------
    log_success, log_failure
        Logarithms of the probability and of what it lacks of one, at eta.
    slopes
        Derivative of these two, at eta.
    mean
        The probability at eta.
    inverse
        The linear predictor of a probability.
    variance
        Variance of the latent variable whose sign is the response.
    """

    log_success: Callable[[Array], Array]
    log_failure: Callable[[Array], Array]
    slopes: Callable[[Array], tuple[Array, Array]]
    mean: Callable[[Array], Array]
    inverse: Callable[[float], float]
    variance: float


def _softplus(eta: Array) -> Array:
    """log(1 + exp(eta)), at a third of the time of numpy's logaddexp."""
    return np.asarray(np.maximum(eta, 0.0) + np.log1p(np.exp(-np.abs(eta))))


def _probit_slopes(eta: Array) -> tuple[Array, Array]:
    log_density = -0.5 * eta * eta - 0.5 * np.log(2 * np.pi)
    return np.exp(log_density - log_ndtr(eta)), -np.exp(log_density - log_ndtr(-eta))


def _exp(eta: Array) -> Array:
    # Beyond e^500 no probability and no mean is different from its limit.
    return np.asarray(np.exp(np.minimum(eta, 500.0)))


def _cloglog_log_success(eta: Array) -> Array:
    rate = _exp(eta)
    with np.errstate(divide="ignore"):
        return np.where(eta < -30, eta, np.log(-np.expm1(-rate)))


def _cloglog_slopes(eta: Array) -> tuple[Array, Array]:
    rate = _exp(eta)
    with np.errstate(over="ignore", invalid="ignore"):
        success = rate / np.expm1(rate)
    return np.where(eta < -30, 1.0, np.where(rate > 600, 0.0, success)), -rate


PROPORTIONS = {
    "logit": ProportionLink(
        lambda eta: -_softplus(-eta),
        lambda eta: -_softplus(eta),
        lambda eta: (expit(-eta), -expit(eta)),
        expit,
        lambda p: float(np.log(p / (1 - p))),
        np.pi**2 / 3,
    ),
    "probit": ProportionLink(
        log_ndtr,
        lambda eta: log_ndtr(-eta),
        _probit_slopes,
        lambda eta: np.exp(log_ndtr(eta)),
        lambda p: float(ndtri(p)),
        1.0,
    ),
    "cloglog": ProportionLink(
        _cloglog_log_success,
        lambda eta: -_exp(eta),
        _cloglog_slopes,
        lambda eta: -np.expm1(-_exp(eta)),
        lambda p: float(np.log(-np.log1p(-p))),
        np.pi**2 / 6,
    ),
}

"""The article's three full conditionals, printed and corrected, as one plain function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ranef.article.gibbs import check_hyperparameters, check_measurements
from ranef.errors import DataError

__all__ = ["article_log_joint", "article_state", "article_updates"]

State = dict[str, Any]
Update = Callable[[State, np.random.Generator], Any]


def article_updates(
    W: Any,
    conditional: Literal["printed", "corrected"] = "printed",
    *,
    mean: bool = False,
    a_sigma_e: float = 0.1,
    b_sigma_e: float = 1.0,
    a_sigma_x: float = 0.1,
    b_sigma_x: float = 1.0,
) -> dict[str, Update]:
    """Write the article's updates as functions of state and generator.

    Parameters
    ----------
    W
        Measurements, shape (n, J).
    conditional
        Precision of X given the rest: `"printed"` J/sigma2_x + 1/sigma2_e, `"corrected"`
        1/sigma2_x + J/sigma2_e.
    mean
        Whether the signals have an unknown mean mu with a flat prior.
    a_sigma_e, b_sigma_e, a_sigma_x, b_sigma_x
        Shapes and scales of the inverse-gamma priors.

    Returns
    -------
    dict
        `X`, `mu` if there is one, `sigma2_x`, `sigma2_e`, in the article's order of updates. Each
        takes `(state, rng)` and returns the block's new value.

    Raises
    ------
    DataError, PriorError
        As `ranef.article.gibbs`.

    Examples
    --------
    >>> updates = article_updates(np.array([[1.0, 2.0], [3.0, 5.0]]))
    >>> list(updates)
    ['X', 'sigma2_x', 'sigma2_e']
    """
    W = check_measurements(W)
    check_hyperparameters(a_sigma_e, b_sigma_e, a_sigma_x, b_sigma_x)
    if conditional not in ("printed", "corrected"):
        raise DataError(f"conditional is {conditional!r}; 'printed' or 'corrected' is expected.")
    n, J = W.shape
    W_sum = W.sum(axis=1)

    def update_x(state: State, rng: np.random.Generator) -> Any:
        sigma2_x, sigma2_e = state["sigma2_x"], state["sigma2_e"]
        if conditional == "printed":
            V = 1 / (J / sigma2_x + 1 / sigma2_e)
        else:
            V = 1 / (1 / sigma2_x + J / sigma2_e)
        center = V * (W_sum / sigma2_e + state.get("mu", 0.0) / sigma2_x)
        return rng.normal(center, np.sqrt(V))

    def update_mu(state: State, rng: np.random.Generator) -> Any:
        return rng.normal(state["X"].mean(), np.sqrt(state["sigma2_x"] / n))

    def update_sigma2_x(state: State, rng: np.random.Generator) -> Any:
        squares = ((state["X"] - state.get("mu", 0.0)) ** 2).sum()
        return 1 / rng.gamma(n / 2 + a_sigma_x, 1 / (b_sigma_x + squares / 2))

    def update_sigma2_e(state: State, rng: np.random.Generator) -> Any:
        squares = ((W - state["X"][:, None]) ** 2).sum()
        return 1 / rng.gamma(n * J / 2 + a_sigma_e, 1 / (b_sigma_e + squares / 2))

    middle = {"mu": update_mu} if mean else {}
    return {"X": update_x, **middle, "sigma2_x": update_sigma2_x, "sigma2_e": update_sigma2_e}


def article_log_joint(
    W: Any,
    *,
    a_sigma_e: float = 0.1,
    b_sigma_e: float = 1.0,
    a_sigma_x: float = 0.1,
    b_sigma_x: float = 1.0,
) -> Callable[[State], float]:
    """Write the log joint density of W, X and both variances, up to a constant.

    Parameters
    ----------
    W
        Measurements, shape (n, J).
    a_sigma_e, b_sigma_e, a_sigma_x, b_sigma_x
        Shapes and scales of the inverse-gamma priors.

    Returns
    -------
    callable
        From a state with `X`, `sigma2_x`, `sigma2_e`, and `mu` (flat prior) if the model has one.

    Raises
    ------
    DataError, PriorError
        As `ranef.article.gibbs`.

    Examples
    --------
    >>> f = article_log_joint(np.array([[1.0, 2.0], [3.0, 5.0]]))
    >>> round(f({"X": np.zeros(2), "sigma2_x": 1.0, "sigma2_e": 1.0}), 6)
    -21.5
    """
    W = check_measurements(W)
    check_hyperparameters(a_sigma_e, b_sigma_e, a_sigma_x, b_sigma_x)
    n, J = W.shape

    def log_joint(state: State) -> float:
        sigma2_x, sigma2_e = state["sigma2_x"], state["sigma2_e"]
        if sigma2_x <= 0 or sigma2_e <= 0:
            return -np.inf
        signal = ((state["X"] - state.get("mu", 0.0)) ** 2).sum()
        noise = ((W - state["X"][:, None]) ** 2).sum()
        return float(
            -(n / 2 + a_sigma_x + 1) * np.log(sigma2_x)
            - (b_sigma_x + signal / 2) / sigma2_x
            - (n * J / 2 + a_sigma_e + 1) * np.log(sigma2_e)
            - (b_sigma_e + noise / 2) / sigma2_e
        )

    return log_joint


def article_state(W: Any, *, mean: bool = False) -> State:
    """The article's starting values: row means, variance of the row means, mean row variance.

    Parameters
    ----------
    W
        Measurements, shape (n, J).
    mean
        Whether the state has a mean mu.

    Returns
    -------
    dict

    Examples
    --------
    >>> state = article_state(np.array([[1.0, 2.0], [3.0, 5.0]]))
    >>> state["X"].tolist(), state["sigma2_x"], state["sigma2_e"]
    ([1.5, 4.0], 3.125, 1.25)
    """
    W = check_measurements(W)
    X = W.mean(axis=1)
    middle = {"mu": float(W.mean())} if mean else {}
    return {
        "X": X,
        **middle,
        "sigma2_x": float(X.var(ddof=1)),
        "sigma2_e": float(W.var(axis=1, ddof=1).mean()),
    }

"""Exact recognition of small formulas from their values at many states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.sampler import State

__all__ = ["express", "linear_terms", "precision_terms", "same"]

# Relative residual below which a formula is exact: far above rounding, far below coincidence.
_EXACT = 1e-7


def same(a: Array, b: Array) -> bool:
    """Whether two quantities agree at every state, but for rounding of numerical derivatives."""
    return bool((np.abs(a - b) <= 1e-6 * np.maximum(np.abs(a), np.abs(b)) + 1e-12).all())


def precision_terms(states: list[State], name: str) -> list[dict[str, Array]]:
    """Candidate terms of a precision, from few to more: `{"/sigma2_x": 1/sigma2_x, "": 1}`, ...

    Terms are written so that a coefficient can stand in front of them.
    """
    scalars = {k: v for k, v in _scalars(states, name).items() if (v > 0).all()}
    one = {"": np.ones(len(states))}
    first = {f"/{k}": 1 / v for k, v in scalars.items()}
    direct = {f"·{k}": v for k, v in scalars.items()}
    squares = {f"/{k}²": 1 / v**2 for k, v in scalars.items()}
    squares |= {f"·{k}²": v**2 for k, v in scalars.items()}
    return [
        first,
        first | one,
        direct | one,
        first | direct | one,
        first | _entries(states, name) | one,
        first | direct | squares | one,
    ]


def linear_terms(states: list[State], name: str) -> list[dict[str, Array]]:
    """Candidate terms of precision times mean: data, other means and sums, over variances."""
    scalars = _scalars(states, name)
    means = {"": np.ones(len(states))} | {f"·{k}": v for k, v in scalars.items()}
    for k, v in states[0].items():
        if k != name and np.size(v) > 1 and np.asarray(v).dtype.kind == "f":
            means[f"·sum({k})"] = np.array([np.sum(s[k]) for s in states])
    scales = {f"/{k}": 1 / v for k, v in scalars.items() if (v > 0).all()}
    over = {m + s: a * b for m, a in means.items() for s, b in scales.items() if m != f"·{s[1:]}"}
    times = {
        m + f"·{k}": a * v
        for m, a in means.items()
        for k, v in scalars.items()
        if (v > 0).all() and m != f"·{k}"
    }
    return [over, over | means, times | means]


def express(values: Array, candidates: list[dict[str, Array]]) -> str | None:
    """Write values as a sum of candidate terms if that is exact at every state, else None.

    Parameters
    ----------
    values
        The quantity at each state, shape (S,).
    candidates
        Lists of terms to try in turn, each with its values, shape (S,).

    Examples
    --------
    >>> s = np.array([0.3, 1.1, 2.0, 4.1, 0.7, 5.2])
    >>> express(2 / s + 3, [{"/s": 1 / s, "": np.ones(6)}])
    '2/s + 3'
    """
    for terms in candidates:
        names = list(terms)
        if not names or len(names) + 3 > len(values):
            continue
        A = np.array([terms[k] for k in names]).T
        size = np.abs(A).max(axis=0)
        used = size > 0
        coefficient = np.zeros(len(names))
        coefficient[used] = np.linalg.lstsq(A[:, used] / size[used], values)[0] / size[used]
        rest = values - A @ coefficient
        if (np.abs(rest) <= _EXACT * np.abs(values).max()).all():
            return _write(dict(zip(names, coefficient, strict=True)), terms, values)
    return None


def number(value: float) -> str:
    """Six digits, whole numbers as such."""
    near = round(value)
    return f"{near:d}" if abs(value - near) < 1e-6 * max(1, abs(value)) else f"{value:.6g}"


def _write(
    coefficients: Mapping[str, float], terms: Mapping[str, Array], values: Array
) -> str | None:
    scale = np.abs(values).max()
    parts = []
    for name, c in coefficients.items():
        if np.abs(c * terms[name]).max() <= 1e-6 * scale:
            continue
        text = number(abs(c))
        shown = name[1:] if name.startswith("·") and text == "1" else text + name
        parts.append(f"{'-' if c < 0 else '+'} {shown}")
    if not parts:
        return "0"
    joined = " ".join(parts)
    return joined[2:] if joined.startswith("+") else "-" + joined[2:]


def _entries(states: list[State], name: str) -> dict[str, Array]:
    """Elements of small covariance matrices in the state, and of their inverses."""
    found = {}
    for key, value in states[0].items():
        shape = np.shape(value)
        if key == name or len(shape) != 2 or shape[0] != shape[1] or not 1 < shape[0] <= 3:
            continue
        matrices = np.array([s[key] for s in states], dtype=float)
        if (np.abs(np.linalg.det(matrices)) < 1e-12).any():
            continue
        inverses = np.linalg.inv(matrices)
        for i in range(shape[0]):
            for j in range(i + 1):
                found[f"·{key}[{i}, {j}]"] = matrices[:, i, j]
                found[f"·inv({key})[{i}, {j}]"] = inverses[:, i, j]
    return found


def _scalars(states: list[State], name: str) -> dict[str, Array]:
    """Scalar variables that vary between the states, but the block's own."""
    found = {}
    for key, value in states[0].items():
        if key != name and np.size(value) == 1:
            values = np.array([float(np.asarray(s[key]).item()) for s in states])
            if np.ptp(values) > 0:
                found[key] = values
    return found

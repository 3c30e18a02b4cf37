"""Parameters of a density along one element of a block: by the update, and by the log joint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.explain.formulas import express, linear_terms, number, precision_terms, same
from ranef.gibbs_check.replay.update_map import UpdateMap
from ranef.gibbs_check.sampler import State

__all__ = ["by_element", "different"]

# Points along an element, in units of the spread of its random number.
_SHIFTS = np.array([-1.5, -1.0, -0.6, -0.2, 0.0, 0.3, 0.7, 1.1, 1.6])


# Elements looked at for one that differs.
_ELEMENTS = 50


@dataclass(frozen=True)
class Slice:
    """Log densities along one element of a block, the others fixed, shape (points,) each."""

    values: Array
    log_q: Array
    log_p: Array


def _slice(update: UpdateMap, i: int) -> Slice:
    values, log_q, log_p = (np.empty(len(_SHIFTS)) for _ in range(3))
    axis = np.eye(len(update.point))[i]
    start = 0.0 if update.affine else update.point[i]
    for r, shift in enumerate(_SHIFTS):
        u = update.point + (start - update.point[i] + shift * _scale(update, i)) * axis
        value = update.at(u)
        values[r] = value[i]
        log_q[r] = update.log_density(u) - np.log(abs(update.gradient(u, axis)[i]))
        log_p[r] = update.log_joint(value)
    return Slice(values, log_q, log_p)


def _scale(update: UpdateMap, i: int) -> float:
    """Spread of coordinate i: one for normals, that of log G(a) for gamma variables."""
    before = 0
    for entry in update.script:
        if before + entry.values.size > i:
            if entry.kind == "log_gamma":
                a = float(
                    np.broadcast_to(entry.parameters[0], entry.values.shape).ravel()[i - before]
                )
                return float(1 / np.sqrt(a))
            return 1.0
        before += entry.values.size
    return 1.0


_FAMILIES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "normal": (lambda v: v * v, lambda v: v),
    "inverse-gamma": (np.log, lambda v: 1 / v),
    "gamma": (np.log, lambda v: v),
    "beta": (np.log, lambda v: np.log1p(-v)),
}


def _family(values: Array, log_density: Array) -> tuple[str, float, float] | None:
    """Recognise a density; precision and precision × mean, shape and rate, or both shapes."""
    for family, (first, second) in _FAMILIES.items():
        if family != "normal" and (values <= 0).any():
            continue
        if family == "beta" and (values >= 1).any():
            continue
        A = np.column_stack([first(values), second(values), np.ones(len(values))])
        size = np.abs(A).max(axis=0)
        c = np.linalg.lstsq(A / size, log_density)[0] / size
        rest = np.abs(A @ c - log_density).max()
        if rest <= 1e-7 * (1 + np.ptp(log_density)) + 1e-11 * np.abs(log_density).max():
            if family == "normal":
                if -c[0] * np.ptp(values) ** 2 < 1e-6:
                    continue  # a straight line: exponential
                return family, -2 * c[0], c[1]
            if family == "inverse-gamma":
                return family, -c[0] - 1, -c[1]
            if family == "gamma":
                return family, c[0] + 1, -c[1]
            return family, c[0] + 1, c[1] + 1
    return None


def by_element(maps: list[UpdateMap]) -> list[str]:
    """Compare the densities along the first element where they differ, at every state."""
    name, states = maps[0].name, [m.state for m in maps]
    size = len(maps[0].value)
    first = None
    for i in range(min(size, _ELEMENTS)):
        s = _slice(maps[0], i)
        if not np.isfinite(s.log_p).all():
            return [f"draws values where log_joint is not finite, e.g. {s.values[0]:.4g}"]
        delta = (s.log_q - s.log_q[0]) - (s.log_p - s.log_p[0])
        if np.abs(delta).max() > 1e-6 * (1 + np.ptp(s.log_q)):
            first = i
            break
    if first is None:
        return ["draws its elements independently, which log_joint does not"] if size > 1 else []
    slices = [_slice(m, first) for m in maps]
    q, Q = _one_family([_family(s.values, s.log_q) for s in slices])
    p, P = _one_family([_family(s.values, s.log_p) for s in slices])
    if q != p:
        return [f"draws {_article(q)}; log_joint implies {_article(p)}"]
    if q == "normal":
        return _normal(name, f"[{first}]" if size > 1 else "", Q, P, states)
    if q == "beta":
        return [
            f"uses {label} {number(Q[0, j])} of its beta; log_joint implies {number(P[0, j])}"
            for j, label in enumerate(("a", "b"))
            if not same(Q[:, j], P[:, j])
        ]
    return _gamma(q, Q, P) if q else []


def _one_family(fits: list[tuple[str, float, float] | None]) -> tuple[str, Array]:
    """The family that all states share, or none, with its parameters, shape (states, 2)."""
    known = [f for f in fits if f]
    if len(known) < len(fits) or len({f[0] for f in known}) > 1:
        return "", np.empty((0, 2))
    return known[0][0], np.array([f[1:] for f in known])


def _article(family: str) -> str:
    if not family:
        return "none of the families known here"
    return f"an {family}" if family[0] in "aeiou" else f"a {family}"


def _normal(name: str, where: str, Q: Array, P: Array, states: list[State]) -> list[str]:
    precision_q, precision_p = Q[:, 0], P[:, 0]
    found = []
    mean_right = same(Q[:, 1] / precision_q, P[:, 1] / precision_p)
    if not same(precision_q, precision_p):
        found.append(
            _mistaken_spread(precision_q, precision_p)
            or different("precision", precision_q, precision_p, precision_terms(states, name))
        )
        if found[0].startswith("uses") and not mean_right and same(Q[:, 1], P[:, 1]):
            return found  # the mean is right but for that precision
    if mean_right:
        return found
    # With the precision wrong, the mean the update gives is set against the right precision.
    linear_q = Q[:, 1] / precision_q * precision_p if found else Q[:, 1]
    terms = linear_terms(states, name)
    a, b = express(linear_q, terms), express(P[:, 1], terms)
    ratio = Q[:, 1] / precision_q / (P[:, 1] / precision_p)
    if a is not None and b is not None:
        found.append(f"uses precision × mean{where} = {a}; log_joint implies {b}")
    elif np.ptp(ratio) < 1e-6 * abs(ratio[0]):
        found.append(f"has a mean {number(float(ratio[0]))} times what log_joint implies")
    else:
        mean = Q[0, 1] / precision_q[0], P[0, 1] / precision_p[0]
        found.append(
            f"uses mean{where} {mean[0]:.6g}; log_joint implies {mean[1]:.6g} at that state"
        )
    return found


def _mistaken_spread(q: Array, p: Array) -> str:
    """Name the slip behind a precision q where p is right, if it is a common one."""
    if same(q, p**2):
        return "passes the variance where the standard deviation belongs"
    if same(q, 1 / p):
        return "passes the precision where the variance belongs"
    if same(q, p**-2):
        return "passes the precision where the standard deviation belongs"
    if (p > 0).all() and same(q, np.sqrt(p)):
        return "passes the standard deviation where the variance belongs"
    return ""


def different(label: str, q: Array, p: Array, terms: list[dict[str, Array]]) -> str:
    """State two values of a quantity as formulas, as a ratio, or at one state."""
    a, b = express(q, terms), express(p, terms)
    if a is not None and b is not None and a != b:
        return f"uses {label} {a}; log_joint implies {b}"
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = q / p
    if np.isfinite(ratio).all() and np.ptp(ratio) < 1e-6 * abs(ratio[0]):
        return f"uses {number(float(ratio[0]))} times the {label} that log_joint implies"
    return f"uses {label} {q[0]:.6g}; log_joint implies {p[0]:.6g} at the same state"


def _gamma(family: str, Q: Array, P: Array) -> list[str]:
    found = []
    if not same(Q[:, 0], P[:, 0]):
        off = Q[0, 0] - P[0, 0]
        found.append(
            f"uses shape {number(Q[0, 0])} of its {family}; log_joint implies {number(P[0, 0])}"
            f" (too {'large' if off > 0 else 'small'} by {number(abs(off))})"
        )
    if not same(Q[:, 1], P[:, 1]):
        found.append(_rate(Q[:, 1], P[:, 1]))
    return found


def _rate(q: Array, p: Array) -> str:
    """Relate the rate used to the one implied: a factor, a constant, both, or the inverse."""
    if same(q * p, np.ones_like(q)):
        return "passes the rate where the scale belongs"
    A = np.column_stack([np.ones_like(p), p])
    size = np.abs(A).max(axis=0)
    a, b = np.linalg.lstsq(A / size, q)[0] / size
    if np.abs(A @ np.array([a, b]) - q).max() > 1e-6 * np.abs(q).max():
        return f"uses rate {q[0]:.6g}; log_joint implies {p[0]:.6g} at the same state"
    if abs(b - 1) < 1e-5:
        return f"uses a rate too {'large' if a > 0 else 'small'} by {number(abs(a))}"
    if abs(a) < 1e-5 * np.abs(q).max():
        return f"uses {number(b)} times the rate that log_joint implies"
    if abs(b) < 1e-6:
        return f"uses the fixed rate {number(a)}; the rate that log_joint implies varies"
    fixed = a / (1 - b)
    return (
        f"uses rate {number(fixed)} + {number(b)} S where log_joint implies {number(fixed)} + S "
        "(S is what the state adds)"
    )

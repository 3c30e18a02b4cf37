"""Parameters of multivariate normal, Wishart and Dirichlet draws, set against the log joint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ranef.common.array_types import Array
from ranef.gibbs_check.explain.elements import different
from ranef.gibbs_check.explain.formulas import express, linear_terms, number, precision_terms, same
from ranef.gibbs_check.replay.densities import draws_of
from ranef.gibbs_check.replay.update_map import UpdateMap
from ranef.gibbs_check.states import structure

__all__ = ["constrained", "multivariate"]


def multivariate(maps: list[UpdateMap]) -> list[str]:
    """Compare precision and mean of a dense normal block with those that log_joint implies."""
    Q, P, bq, bp = (np.array(each) for each in zip(*map(_both, maps), strict=True))
    states, name = [m.state for m in maps], maps[0].name
    found = []
    wrong = [(i, j) for i in range(Q.shape[1]) for j in range(i + 1) if not _close(Q, P, i, j)]
    if wrong:
        inverse = np.linalg.inv(P)
        if all(_close(Q, inverse, i, j) for i, j in wrong):
            return ["passes the precision where the covariance belongs"]
        if same(np.linalg.eigvalsh(Q).ravel(), np.linalg.eigvalsh(P).ravel()):
            return [
                "has a covariance of the right eigenvalues and wrong axes: is a Cholesky factor "
                "transposed?"
            ]
        if all(_close(Q, P @ P, i, j) for i, j in wrong):
            return ["multiplies by the covariance where its root belongs"]
        i, j = max(wrong, key=lambda ij: float(np.abs(Q - P)[:, ij[0], ij[1]].max()))
        label = f"precision[{i}, {j}]"
        found.append(different(label, Q[:, i, j], P[:, i, j], precision_terms(states, name)))
    mean_q, mean_p = (np.linalg.solve(A, b[..., None])[..., 0] for A, b in ((Q, bq), (P, bp)))
    if _near(bq, bp) or _near(mean_q, mean_p):
        return found
    k = int(np.argmax(np.abs(mean_q - mean_p)[0]))
    terms = linear_terms(states, name)
    used, implied = express(bq[:, k], terms), express(bp[:, k], terms)
    if not wrong and used is not None and implied is not None and used != implied:
        found.append(f"uses (precision × mean)[{k}] = {used}; log_joint implies {implied}")
    else:
        found.append(
            f"uses mean[{k}] {mean_q[0, k]:.6g}; log_joint implies {mean_p[0, k]:.6g} at that state"
        )
    return found


def _both(update: UpdateMap) -> tuple[Array, Array, Array, Array]:
    """Precision by the update and by log_joint, then precision times mean by each."""
    J = update.jacobian(update.point, affine=True)
    mean = update.at(np.zeros_like(update.point))
    covariance = J @ J.T
    Q = np.linalg.inv(covariance)
    P, b = _quadratic(update.log_joint, mean, np.sqrt(np.diag(covariance)))
    return np.asarray(Q), P, np.asarray(Q @ mean), b


def _close(A: Array, B: Array, i: int, j: int) -> bool:
    scale = np.sqrt(np.abs(B[:, i, i] * B[:, j, j]))
    return bool((np.abs(A[:, i, j] - B[:, i, j]) <= 1e-6 * scale).all())


def _near(a: Array, b: Array) -> bool:
    return bool(np.abs(a - b).max() <= 1e-6 * np.abs(b).max())


def _quadratic(f: Callable[[Array], float], center: Array, step: Array) -> tuple[Array, Array]:
    """Precision P and P × mean of exp(f), from second differences, exact if f is quadratic."""
    m = len(center)
    E = np.diag(step)
    f0 = f(center)
    up = np.array([f(center + e) for e in E])
    down = np.array([f(center - e) for e in E])
    H = np.diag((up - 2 * f0 + down) / step**2)
    for i in range(m):
        for j in range(i):
            both = f(center + E[i] + E[j]) - up[i] - up[j] + f0
            H[i, j] = H[j, i] = both / (step[i] * step[j])
    return -H, (up - down) / (2 * step) - H @ center


def _wishart_terms(size: tuple[int, ...]) -> dict[str, Callable[[Array], Array]]:
    """Sufficient statistics of (inverse) Wishart matrices, given as their elements in a row."""
    upper = np.triu_indices(size[0])

    def with_log_det(v: Array, matrix: Array) -> Array:
        return np.append(np.linalg.slogdet(v.reshape(size))[1], matrix[upper])

    return {
        "inverse Wishart": lambda v: with_log_det(v, np.linalg.inv(v.reshape(size))),
        "Wishart": lambda v: with_log_det(v, v.reshape(size)),
    }


def constrained(update: UpdateMap) -> list[str]:
    """Recognise (inverse) Wishart and Dirichlet densities from draws at one state."""
    size = np.shape(update.state[update.name])
    symmetric = structure(update.own, size) == "symmetric"
    known = _wishart_terms(size) if symmetric else {"Dirichlet": np.log}
    values, log_q, log_p = draws_of(update, 3 * len(update.value) + 10)
    for family, terms in known.items():
        A = np.array([np.append(terms(v), 1.0) for v in values])
        scale = np.abs(A).max(axis=0)
        fits = [np.linalg.lstsq(A / scale, f)[0] / scale for f in (log_q, log_p)]
        rest = [
            np.abs(A @ c - f).max() / (1 + np.ptp(f))
            for c, f in zip(fits, (log_q, log_p), strict=True)
        ]
        if max(rest) > 1e-6:
            continue
        q, p = fits
        if family == "Dirichlet":
            return [
                f"uses weight[{i}] {number(q[i] + 1)} of its Dirichlet; "
                f"log_joint implies {number(p[i] + 1)}"
                for i in np.flatnonzero(np.abs(q - p)[:-1] > 1e-5)[:1]
            ]
        dims = size[0]
        df = [
            -2 * c[0] - dims - 1 if family == "inverse Wishart" else 2 * c[0] + dims + 1
            for c in fits
        ]
        found = []
        if abs(df[0] - df[1]) > 1e-4:
            found.append(
                f"uses {number(round(df[0], 5))} degrees of freedom of its {family}; "
                f"log_joint implies {number(round(df[1], 5))}"
            )
        wrong = np.flatnonzero(np.abs(q - p)[1:-1] > 1e-5 * np.abs(p[1:-1]).max())
        if len(wrong):
            i, j = (int(index[wrong[0]]) for index in np.triu_indices(dims))
            factor = -2.0 if i == j else -1.0
            found.append(
                f"uses scale[{i}, {j}] {factor * q[1 + wrong[0]]:.6g} of its {family}; "
                f"log_joint implies {factor * p[1 + wrong[0]]:.6g} at the same state"
            )
        return found
    return []

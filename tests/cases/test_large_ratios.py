"""Effects a hundred thousand times and more as large as the residuals: no digit cancels away."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import ranef as rf

RATIOS = [1e3, 1e5, 1e8, 1e13]


def table():
    """Five groups of four rows and three other levels across them."""
    rng = np.random.default_rng(14)
    g, h = np.repeat(np.arange(5), 4), np.arange(20) % 3
    x = rng.normal(size=20)
    y = 2 + x + rng.normal(size=5)[g] + rng.normal(size=5)[g] * x + rng.normal(size=20)
    return {"y": y, "x": x, "g": g, "h": h}


def exact_log_likelihood(y, X, V, *, reml):
    """Log likelihood from Gaussian elimination in whole fractions, which round nothing.

    Eliminating V from [[V, A], [A', 0]], A = [X y], leaves -A'V^-1 A, and eliminating X from that
    the generalised residual sum of squares.
    """
    n, p = X.shape
    M = np.zeros((n + p + 1, n + p + 1), dtype=object)
    M[:n, :n] = V
    M[:n, n:] = np.array([[Fraction(v) for v in row] for row in np.column_stack([X, y]).tolist()])
    M[n:, :n] = M[:n, n:].T
    for k in range(n + p):
        M[k + 1 :, k:] -= np.outer(M[k + 1 :, k] / M[k, k], M[k, k:])
    logs = [math.log(abs(M[k, k].numerator)) - math.log(M[k, k].denominator) for k in range(n + p)]
    value = -0.5 * (math.fsum(logs[:n]) + float(-M[-1, -1]))
    if reml:
        return value - 0.5 * math.fsum(logs[n:]) - 0.5 * (n - p) * math.log(2 * math.pi)
    return value - 0.5 * n * math.log(2 * math.pi)


def covariance(data, ratio, sigma, terms):
    """Covariance of all rows in whole fractions; SDs are ratio times sigma times the terms'."""
    n, square = len(data["y"]), Fraction(sigma) ** 2
    V = np.diag([square] * n)
    for factor, columns, S in terms:
        Z = np.array([[Fraction(v) for v in data.get(c, np.ones(n)).tolist()] for c in columns]).T
        S = np.array([[Fraction(v) for v in row] for row in S])
        same = np.equal.outer(data[factor], data[factor])
        V = V + np.where(same, square * Fraction(ratio) ** 2 * (Z @ S @ Z.T), Fraction(0))
    return V


MODELS = {
    "y ~ x + (1|g)": [("g", ["1"], [[1.0]])],
    "y ~ x + (x|g)": [("g", ["1", "x"], [[1.0, 0.5], [0.5, 2.0]])],
    "y ~ x + (x||g)": [("g", ["1", "x"], [[1.0, 0.0], [0.0, 4.0]])],
    "y ~ 1 + (0 + x|g)": [("g", ["x"], [[1.0]])],
}


CROSSED = {
    "y ~ x + (x|g) + (1|h)": [*MODELS["y ~ x + (x|g)"], ("h", ["1"], [[4.0]])],
    "y ~ x + (1|g) + (1|h)": [*MODELS["y ~ x + (1|g)"], ("h", ["1"], [[4.0]])],
    "y ~ x + (0 + x|g) + (1|h)": [("g", ["x"], [[1.0]]), ("h", ["1"], [[4.0]])],
}


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("formula", MODELS)
def test_log_likelihoods_are_those_of_whole_fractions(formula, ratio, reml):
    here, expected = both(formula, MODELS[formula], ratio, reml=reml)
    assert here == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize(("ratio", "rel"), [(1e3, 1e-10), (1e5, 1e-11), (1e8, 1e-8)])
@pytest.mark.parametrize("formula", CROSSED)
def test_crossed_effects_that_cancel_cost_digits_in_proportion(formula, ratio, rel, reml):
    """A shift of all of g against all of h changes nothing but the effects themselves."""
    here, expected = both(formula, CROSSED[formula], ratio, reml=reml)
    assert here == pytest.approx(expected, rel=rel)


def both(formula, terms, ratio, *, reml):
    """Log likelihood of the package and in whole fractions."""
    data, sigma = table(), 0.5
    values = {"sigma": sigma}
    for factor, columns, S in terms:
        S = np.array(S) * (ratio * sigma) ** 2
        if len(columns) == 2 and "||" not in formula:
            values[f"x|{factor}"] = S
        else:
            values |= {f"{c}|{factor}": np.sqrt(S[i, i]) for i, c in enumerate(columns)}
    X = np.column_stack([np.ones(20), data["x"]])[:, : 2 if "~ x" in formula else 1]
    V = covariance(data, ratio, sigma, terms)
    expected = exact_log_likelihood(data["y"], X, V, reml=reml)
    return rf.model(formula, data).log_likelihood(values, reml=reml), expected

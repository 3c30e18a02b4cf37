"""Mixed models by dense matrices, written apart from the package: NumPy and SciPy alone.

`y = X beta + Z b + e` with `b ~ N(0, B)`, `e ~ N(0, S)` and flat coefficients. Every number comes
from the covariance of all rows written out, so it is slow, plain, and shares no step with ranef.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg


@dataclass(frozen=True)
class Term:
    """Random effects of one factor: columns, level of each row, covariance of a level's effects."""

    columns: np.ndarray
    codes: np.ndarray
    covariance: np.ndarray

    def matrix(self):
        """Z, one block of columns for each level."""
        levels = int(self.codes.max()) + 1
        q = self.columns.shape[1]
        Z = np.zeros((len(self.codes), levels * q))
        for i, level in enumerate(self.codes):
            Z[i, level * q : (level + 1) * q] = self.columns[i]
        return Z, linalg.block_diag(*[self.covariance] * levels)


@dataclass(frozen=True)
class Oracle:
    """One model at given variance parameters; `noise` is each row's residual variance."""

    y: np.ndarray
    X: np.ndarray
    noise: np.ndarray
    terms: tuple[Term, ...]

    def __post_init__(self):
        parts = [t.matrix() for t in self.terms]
        Z, B = np.hstack([z for z, _ in parts]), linalg.block_diag(*[b for _, b in parts])
        V = Z @ B @ Z.T + np.diag(self.noise)
        # Rows in units of their own SD, so that weights of any size are as good.
        size = np.sqrt(np.diag(V))
        root = linalg.cholesky(V / np.outer(size, size), lower=True)
        columns = np.column_stack([self.X, self.y]) / size[:, None]
        white = linalg.solve_triangular(root, columns, lower=True)
        Q, T = np.zeros((len(V), 0)), np.eye(0)
        if self.X.shape[1]:
            Q, T = np.linalg.qr(white[:, :-1])
        object.__setattr__(self, "parts", (Z, B, size, root, white, Q, T))

    def log_likelihood(self, *, reml):
        """Log density of y, coefficients at their maximum or integrated over the whole line."""
        _, _, size, root, white, Q, T = self.parts
        n, p = self.X.shape
        rest = white[:, -1] - Q @ (Q.T @ white[:, -1])
        value = -np.log(size).sum() - np.log(np.diag(root)).sum() - 0.5 * rest @ rest
        if reml:
            return value - 0.5 * (n - p) * np.log(2 * np.pi) - np.log(np.abs(np.diag(T))).sum()
        return value - 0.5 * n * np.log(2 * np.pi)

    def left_out(self):
        """Log density of each row given all others, and the share of its noise in what is open.

        With P the precision of all rows, coefficients integrated out, row i given the others is
        normal about y_i - (Py)_i / P_ii with variance 1 / P_ii.
        """
        _, _, size, root, white, Q, _ = self.parts
        inverse = linalg.solve_triangular(root, np.eye(len(size)), lower=True)
        own = inverse - Q @ (Q.T @ inverse)
        precision = np.sum(own**2, axis=0) / size**2
        score = own.T @ (white[:, -1] - Q @ (Q.T @ white[:, -1])) / size
        with np.errstate(divide="ignore", invalid="ignore"):
            density = 0.5 * (np.log(precision / (2 * np.pi)) - score**2 / precision)
        return density, precision * self.noise

    def coefficients(self):
        """Posterior mean and covariance of the coefficients."""
        *_, white, Q, T = self.parts
        inverse = np.linalg.inv(T)
        return inverse @ (Q.T @ white[:, -1]), inverse @ inverse.T

    def linear(self, x, z):
        """Posterior mean and variance of x'beta + z'b for rows x (m, p) and z (m, effects)."""
        Z, B, size, root, _, _, _ = self.parts
        beta, covariance = self.coefficients()

        def half(A):
            return linalg.solve_triangular(root, A / size[:, None], lower=True)

        gain = half(Z @ B @ z.T).T @ half(np.column_stack([self.X, self.y]))
        open_x = x - gain[:, :-1]
        mean = open_x @ beta + gain[:, -1]
        through = half(Z @ B @ z.T)
        variance = np.einsum("ij,jk,ik->i", z, B, z) - np.einsum("ji,ji->i", through, through)
        return mean, variance + np.einsum("ij,jk,ik->i", open_x, covariance, open_x)

    def effects(self):
        """Posterior mean and variance of every effect, factor by factor, level by level."""
        count = self.parts[0].shape[1]
        return self.linear(np.zeros((count, self.X.shape[1])), np.eye(count))

    def fitted(self):
        """Posterior mean and variance of each row's linear predictor."""
        return self.linear(self.X, self.parts[0])

"""Eliminate one factor from any cross-products, groups with the same Z'Z together.

With `Z_j = Q_j R_j`, `a_j = Q_j'A_j` and `W_j = (I + R_j L L'R_j')^-1` the cross-products `A'V^-1A`
are those outside the span of Z, which do not depend on L, and `sum_j a_j' W_j a_j`. Groups with
equal Z'Z share W, so their products are contracted once and an evaluation costs classes, not groups
(mathematics.md, 3.4).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ranef.common import budget
from ranef.likelihood.structures.level_bases import root_outside
from ranef.numerics.batched_linalg import lower_root, solve_lower

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray

__all__ = ["ClassSums", "effects_given", "find_classes", "square", "weights_left"]

# Weights of a draw from which on a product is worth more than taking its place twice.
_PACKED = 48
# Numbers in one block of many small Gram-Schmidt runs: half a megabyte, so that they stay close.
_CLOSE = 65_536


class ClassSums:
    """A'V^-1A and log|V| for one factor and any columns A.

    Parameters
    ----------
    R
        R_j of each group, shape (G, q, q).
    coordinates
        Q_j'A_j, shape (G, q, M).
    outside
        A'(I - QQ')A, shape (M, M).

    Attributes
    ----------
    kind
        Class of each group, shape (G,).
    R
        R of each class, shape (D, q, q).
    coordinates, outside
        As above.
    """

    def __init__(self, R: Array, coordinates: Array, outside: Array) -> None:
        q, M = coordinates.shape[1:]
        first, self.kind = find_classes(R)
        self.R = R[first]
        self.coordinates = coordinates
        self.outside = outside
        self.groups = np.bincount(self.kind).astype(float)
        self._products = np.zeros((len(first), q, q, M, M))
        if len(first) == 1:
            self._products[0] = np.einsum("gai,gbj->abij", coordinates, coordinates, optimize=True)
        else:
            order = np.argsort(self.kind, kind="stable")
            begins = np.concatenate([[0], np.cumsum(self.groups).astype(int)[:-1]])
            for a in range(q):
                for b in range(q):
                    for i in range(M):
                        rows = coordinates[order, a, i, None] * coordinates[order, b]
                        self._products[:, a, b, i] = np.add.reduceat(rows, begins)
        # W is symmetric: one product for each pair of its columns.
        lower, upper = np.tril_indices(q)
        folded = self._products[:, lower, upper] + self._products[:, upper, lower]
        folded[:, lower == upper] *= 0.5
        folded = folded.swapaxes(0, 1).reshape(-1, M * M)
        # So are the products: where they cost more than unpacking, half of them will do.
        self._unpack = _unpacking(M) if len(folded) >= _PACKED else np.arange(M * M)
        kept = np.unique(self._unpack, return_index=True)[1]
        self._folded = np.ascontiguousarray(folded[:, kept])

    @property
    def cost(self) -> float:
        """Rough seconds for one evaluation."""
        classes, q = len(self.R), int(self.R.shape[1])
        return 1e-6 + 5e-8 * classes * q * q + 1.5e-10 * self._folded.size

    def sums(self, L: Array) -> tuple[Array, Array]:
        """Evaluate at n relative Cholesky factors (n, q, q).

        Returns
        -------
        log_det : numpy.ndarray
            log|V| - N log sigma^2, shape (n,).
        U : numpy.ndarray
            A'V^-1A sigma^2, shape (n, M, M).
        """
        n, M = len(L), len(self.outside)
        log_det, U = np.empty(n), np.empty((n, M, M))
        packed = self._folded.shape[1] < M * M
        for part in budget.CLASSES.blocks(n, len(self.R)):
            W, logs = weights_left(L[part], self.R)
            log_det[part] = logs @ self.groups
            inside = W.reshape(len(W), -1) @ self._folded
            if packed:
                inside = np.take(inside, self._unpack, axis=1)
            np.add(self.outside, inside.reshape(-1, M, M), out=U[part])
        return log_det, U

    def root(self, L: Array) -> Array:
        """Rows B with B'B = A'V^-1A sigma^2, which lose no digits to squares; (n, k, M)."""
        half = _inverse(lower_root((self.R @ L[:, None]).reshape(-1, *L.shape[1:])))
        half = half.reshape(len(L), *self.R.shape)[:, self.kind]
        inside = (half @ self.coordinates).reshape(len(L), -1, len(self.outside))
        outside = np.broadcast_to(self._outside_root, (len(L), *self._outside_root.shape))
        return np.concatenate([outside, inside], axis=1)

    @cached_property
    def _outside_root(self) -> Array:
        """Rows whose products are those outside, with nothing in directions inside the span."""
        return root_outside(self.outside, self.coordinates)

    def of_levels(self, L: Array, level: IntArray) -> tuple[Array, Array]:
        """`effects_given` of single levels, shapes (n, k, q, q)."""
        classes, place = np.unique(self.kind[level], return_inverse=True)
        maps, half = effects_given(L, self.R[classes])
        return maps[:, place], half[:, place]

    def shares(self, L: Array, level: IntArray) -> tuple[Array, Array]:
        """Shares of single levels in log|V|, (n, k), and in A'V^-1A inside the span, (n, k, M, M).

        To the latter a level adds what `spanned` leaves of its own A'A.
        """
        classes, place = np.unique(self.kind[level], return_inverse=True)
        W, logs = weights_left(L, self.R[classes])
        own = self.coordinates[level]
        inside = own.swapaxes(1, 2) @ square(W)[:, place] @ own
        return logs[:, place], inside

    def spanned(self, level: IntArray) -> Array:
        """A'QQ'A of single levels, shape (k, M, M)."""
        a = self.coordinates[level]
        return np.asarray(a.swapaxes(1, 2) @ a)

    def second_moments(self, L: Array, W: Array) -> Array:
        """Sum of E[b b'] over the groups, where the effects b have mean K Z'A a and covariance K.

        Parameters
        ----------
        L
            Relative Cholesky factors, shape (n, q, q).
        W
            Second moments of a, shape (n, M, M); everything relative to sigma^2.

        Returns
        -------
        numpy.ndarray
            Shape (n, q, q).
        """
        n, M = len(L), len(self.outside)
        D, q = self.R.shape[:2]
        out = np.empty((n, q, q))
        flat = self._products.reshape(-1, M * M).T
        for part in budget.CLASSES.blocks(n, D):
            maps, half = effects_given(L[part], self.R)
            score = (W[part].reshape(-1, M * M) @ flat).reshape(-1, D, q, q)
            spread = maps @ score @ maps.swapaxes(2, 3)
            spread += self.groups[:, None, None] * (half.swapaxes(2, 3) @ half)
            out[part] = spread.sum(axis=1)
        return out

    def draw(self, L: Array, a: Array, sigma: Array, rng: np.random.Generator) -> Array:
        """Draw the effects, of mean K Z'A a and covariance sigma^2 K, shape (n, G, q)."""
        maps, half = (m[:, self.kind] for m in effects_given(L, self.R))
        score = np.einsum("gbk,nk->ngb", self.coordinates, a)
        noise = rng.standard_normal(score.shape) * sigma[:, None, None]
        mean = np.einsum("ngab,ngb->nga", maps, score)
        return np.asarray(mean + np.einsum("ngka,ngk->nga", half, noise))


def find_classes(R: Array) -> tuple[IntArray, IntArray]:
    """Number the groups by equal R, and so by equal Z'Z = R'R.

    Parameters
    ----------
    R
        Shape (G, q, q).

    Returns
    -------
    first : numpy.ndarray
        One group of each class, shape (D,).
    kind : numpy.ndarray
        Class of each group, shape (G,).
    """
    # Equal up to rounding, because sums of the same numbers in another order differ in the last
    # digits. A number's rounding is relative to itself and to its own column in its own group:
    # others may be larger by any power of ten, as weights and units are.
    length = np.sqrt(np.einsum("gab,gab->gb", R, R))[:, None]
    step = np.maximum(np.abs(R) * 2.0**-37, length * 2.0**-47)
    step = np.exp2(np.ceil(np.log2(np.where(step > 0, step, 1.0))))
    keys = (np.round(R / step) * step).reshape(len(R), -1) + 0.0
    _, first, kind = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, kind.ravel()


def weights_left(L: Array, R: Array) -> tuple[Array, Array]:
    """W = (I + R L L'R')^-1 and -log|W|, for every draw and class.

    Parameters
    ----------
    L
        Relative roots, shape (n, q, q).
    R
        Shape (D, q, q).

    Returns
    -------
    W : numpy.ndarray
        Entries on and below the diagonal, row by row, shape (n, q (q + 1) / 2, D).
    log_det : numpy.ndarray
        Shape (n, D).
    """
    n, q = L.shape[:2]
    D = len(R)
    if q == 1:
        inner = 1 + np.square(L[:, 0, 0, None] * R[:, 0, 0])
        return (1 / inner)[:, None], np.log(inner)
    if q == 2:
        # det(I + MM') = 1 + |M|^2 + det(M)^2: sums of squares, of which nothing cancels.
        rows = [[L[:, 0, b, None] * R[:, a, 0] for b in (0, 1)] for a in (0, 1)]
        for a in (0, 1):
            for b in (0, 1):
                rows[a][b] += L[:, 1, b, None] * R[:, a, 1]
        (m, k), (c, d) = rows
        first, second = 1 + m * m + k * k, 1 + c * c + d * d
        det = first + second - 1
        det += np.square(_det(L)[:, None] * _det(R))
        W = np.empty((n, 3, D))
        W[:, 0], W[:, 1], W[:, 2] = second / det, (m * c + k * d) / -det, first / det
        return W, np.log(det)
    W, log_det = np.empty((n, q * (q + 1) // 2, D)), np.empty((n, D))
    step = max(1, _CLOSE // (q * (3 * q + 1) // 2 * D))
    for start in range(0, n, step):
        part = slice(start, start + step)
        _weights_by_rows(L[part], R, W[part], log_det[part])
    return W, log_det


def _weights_by_rows(L: Array, R: Array, W: Array, log_det: Array) -> None:
    """`weights_left` by Gram-Schmidt on the rows of [M I], M = R L, all draws and classes at once.

    With F F' = I + M M' the orthonormal rows are F^-1 [M I], so their right half is the root of W,
    and nothing is squared that would swallow the ones.
    """
    n, q = L.shape[:2]
    D = len(R)
    columns = np.ascontiguousarray(L.transpose(2, 0, 1)).reshape(q * n, q)
    rows = []
    for i in range(q):
        row = np.empty((q + i + 1, n, D))
        row[:q] = (columns @ R[:, i].T).reshape(q, n, D)
        row[q:-1], row[-1] = 0.0, 1.0
        rows.append(row)
    log_det[:] = 0.0
    for i, row in enumerate(rows):
        length = np.einsum("knd,knd->nd", row, row)
        log_det += np.log(length)
        row /= np.sqrt(length)
        for other in rows[i + 1 :]:
            own = other[: len(row)]
            own -= np.einsum("knd,knd->nd", own, row) * row
    for p, (a, b) in enumerate(zip(*np.tril_indices(q), strict=True)):
        W[:, p] = sum(row[q + a] * row[q + b] for row in rows[a:])


def _unpacking(M: int) -> IntArray:
    """Where each entry of a symmetric matrix stands among those on and below its diagonal."""
    i, j = np.indices((M, M))
    high, low = np.maximum(i, j), np.minimum(i, j)
    return np.asarray(high * (high + 1) // 2 + low).ravel()


def square(W: Array) -> Array:
    """Symmetric matrices (n, D, q, q) from the entries that `weights_left` gives."""
    n, pairs, D = W.shape
    q = int(np.sqrt(2 * pairs))
    out = np.empty((n, D, q, q))
    for k, (i, j) in enumerate(zip(*np.tril_indices(q), strict=True)):
        out[:, :, i, j] = out[:, :, j, i] = W[:, k]
    return out


def _det(A: Array) -> Array:
    """Determinants of (n, 2, 2)."""
    return np.asarray(A[:, 0, 0] * A[:, 1, 1] - A[:, 0, 1] * A[:, 1, 0])


def effects_given(L: Array, R: Array) -> tuple[Array, Array]:
    """What effects are given data A: b = B Q'A on average, with covariance K = H'H.

    Parameters
    ----------
    L
        Relative roots, shape (n, q, q).
    R
        Shape (D, q, q).

    Returns
    -------
    B : numpy.ndarray
        L L'R'(I + R L L'R')^-1, shape (n, D, q, q).
    H : numpy.ndarray
        Root of K = L (I + L'R'R L)^-1 L', shape (n, D, q, q).
    """
    n, q = L.shape[:2]
    D = len(R)
    M = (R @ L[:, None]).reshape(n * D, q, q)
    turned = M.swapaxes(1, 2)
    # (I + M'M)^-1 M' through the factor of either: what is far above one stays in the solution.
    half = _inverse(lower_root(turned))
    inverse = _inverse(lower_root(M))
    inner = (turned @ inverse.swapaxes(1, 2)) @ inverse
    shape = (n, D, q, q)
    B = L[:, None] @ inner.reshape(shape)
    return B, half.reshape(shape) @ L[:, None].swapaxes(2, 3)


def _inverse(F: Array) -> Array:
    """Inverses of lower factors (n, q, q)."""
    units = np.eye(F.shape[1])
    return np.stack([solve_lower(F, np.broadcast_to(e, F.shape[:2])) for e in units], axis=2)

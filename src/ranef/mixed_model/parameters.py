"""The unconstrained parameter vector: log standard deviations, correlations, log sigma.

A term with q columns has q log SDs and, where its columns are correlated, q (q - 1) / 2 canonical
partial correlations on the inverse-tanh scale (`ranef.numerics.correlations`). The residual's log
SD comes last, unless it is known (mathematics.md, 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.mixed_model.covariance import IDENTITY
from ranef.numerics.correlations import correlation_root, draw_lkj, log_lkj, partial_correlations
from ranef.priors.joint import SHARES, TOTAL
from ranef.priors.scale import derivative

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ranef.common.array_types import Array
    from ranef.mixed_model.covariance import LevelCovariance
    from ranef.mixed_model.family import Family
    from ranef.priors import ScalePrior
    from ranef.priors.joint import InverseWishart, Shares

__all__ = ["ParameterVector", "TermPrior", "correlation_label"]


def correlation_label(term: str) -> str:
    """What a term's correlations are called together: `x|g_corr` for `x|g`."""
    return f"{term}_corr"


@dataclass(frozen=True)
class TermPrior:
    """One group term's covariance: columns of a factor and their priors.

    Attributes
    ----------
    label
        As written: `Days|Subject`.
    factor
        Position of the grouping factor in the design.
    place
        Positions of the term's columns in the factor's block, shape (q,).
    names
        The columns' names in draws: `1|Subject`, `Days|Subject`.
    scales
        Prior of each column's standard deviation; none where a joint prior covers them.
    lkj_eta
        LKJ shape of the correlation matrix; None where the columns are independent.
    wishart
        Prior on the whole covariance matrix, in place of scales and LKJ.
    covariance
        How levels are related.
    """

    label: str
    factor: int
    place: tuple[int, ...]
    names: tuple[str, ...]
    scales: tuple[ScalePrior, ...]
    lkj_eta: float | None
    wishart: InverseWishart | None = None
    covariance: LevelCovariance = IDENTITY

    @property
    def correlations(self) -> int:
        """Number of correlations."""
        q = len(self.place)
        return 0 if self.lkj_eta is None else q * (q - 1) // 2

    @property
    def pairs(self) -> list[str]:
        """Pairs of its correlated columns, `1, x`, in the order (2,1), (3,1), (3,2), …."""
        columns = [name.rpartition("|")[0] for name in self.names]
        i, j = np.tril_indices(len(columns) if self.correlations else 0, -1)
        return [f"{columns[b]}, {columns[a]}" for a, b in zip(i, j, strict=True)]

    @property
    def correlation_names(self) -> list[str]:
        """Name of each correlation, `x|g_corr[1, x]`; where there is one, `x|g_corr`."""
        label = correlation_label(self.label)
        return [label] if self.correlations == 1 else [f"{label}[{pair}]" for pair in self.pairs]

    def correlation_matrices(self, z: Array) -> Array:
        """Correlation matrices from unconstrained partial correlations (n, c), shape (n, q, q)."""
        L = correlation_root(z, len(self.place))
        return np.asarray(L @ L.transpose(0, 2, 1))

    def log_correlation_prior(self, z: Array) -> Array:
        """Log density of the unconstrained partial correlations (n, c), shape (n,)."""
        return (
            np.zeros(len(z)) if self.lkj_eta is None else log_lkj(z, len(self.place), self.lkj_eta)
        )

    def correlation_prior_gradient(self, z: Array) -> Array:
        """Derivative of `log_correlation_prior`, shape (n, c) as z."""
        if self.lkj_eta is None or z.shape[1] == 0:
            return np.zeros_like(z)
        q = len(self.place)
        column = np.tril_indices(q, -1)[1]
        return np.asarray(-2 * (self.lkj_eta + (q - 2 - column) / 2) * np.tanh(z))

    def log_prior(self, log_sd: Array, z: Array) -> Array:
        """Log prior density of the term's log SDs (n, q) and correlations (n, c), shape (n,)."""
        if self.wishart is not None:
            return self.wishart.log_density(log_sd, z)
        out = self.log_correlation_prior(z)
        for j, prior in enumerate(self.scales):
            out = out + prior.log_density(log_sd[:, j])
        return np.asarray(out)

    def draw_prior(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        """Draw log SDs (n, q) and unconstrained correlations (n, c) from the term's own priors."""
        if self.wishart is not None:
            return self.wishart.draw(rng, n)
        log_sd = np.full((n, len(self.place)), np.nan)
        for j, prior in enumerate(self.scales):
            log_sd[:, j] = np.log(prior.draw(rng, n))
        if self.lkj_eta is None:
            return log_sd, np.empty((n, 0))
        return log_sd, draw_lkj(len(self.place), self.lkj_eta, rng, n)


@dataclass(frozen=True)
class ParameterVector:
    """Where each parameter stands in the vector.

    Attributes
    ----------
    terms
        The group terms.
    family
        Of the response: its dispersion parameters come last in the vector.
    widths
        Number of columns of each factor's block.
    shares
        Joint prior on all SDs as shares of a total variance, in place of one for each.
    """

    terms: tuple[TermPrior, ...]
    family: Family
    widths: tuple[int, ...]
    shares: Shares | None = None

    @property
    def ratios(self) -> int:
        """Number of parameters beside log sigma."""
        return sum(len(t.place) + t.correlations for t in self.terms)

    @property
    def size(self) -> int:
        """Length of the vector, d."""
        return self.ratios + len(self.family.dispersions)

    def scale_priors(self) -> dict[str, ScalePrior]:
        """Prior of each standard deviation that has one of its own, and of the total, by name."""
        # A joint prior on a term's SDs is proper, and leaves it without scales of its own.
        out = {n: s for t in self.terms for n, s in zip(t.names, t.scales, strict=False)}
        if self.shares is not None:
            return {**out, TOTAL: self.shares.total}
        return out | dict(self.family.scales)

    def prior_texts(self) -> dict[str, str]:
        """Priors of SDs, correlations and the family's own, as text that `parse_prior` reads."""
        texts: dict[str, str] = {}
        for term in self.terms:
            if term.wishart is not None:
                texts[term.label] = term.wishart.text
                continue
            # Where shares of a total cover them, SDs have no priors of their own.
            texts |= {n: s.text for n, s in zip(term.names, term.scales, strict=False)}
            if term.correlations:
                texts[correlation_label(term.label)] = f"lkj({term.lkj_eta:g})"
        if self.shares is not None:
            return {**texts, TOTAL: self.shares.total.text, SHARES: self.shares.text}
        return texts | {name: s.text for name, s in self.family.scales.items()}

    def log_sigma(self, theta: Array) -> Array:
        """Log sigma at vectors (..., d), known or not, shape (...)."""
        return self.family.log_sigma(theta)

    def split(self, theta: Array) -> list[tuple[Array, Array]]:
        """For each term its log SDs (..., q) and unconstrained correlations (..., c)."""
        out, at = [], 0
        for term in self.terms:
            q, c = len(term.place), term.correlations
            out.append((theta[..., at : at + q], theta[..., at + q : at + q + c]))
            at += q + c
        return out

    def relative(self, theta: Array) -> Array:
        """Log SDs less log sigma, and correlations as they are, shape (n, ratios)."""
        out = theta[:, : self.ratios].copy()
        for log_sd, _ in self.split(out):
            log_sd -= self.log_sigma(theta)[:, None]
        return out

    def absolute(self, relative: Array, log_sigma: Array) -> Array:
        """The inverse of `relative`: vectors (n, d) from ratios (n, ratios) and log_sigma (n,)."""
        own = len(self.family.dispersions)
        out = np.column_stack([relative, np.reshape(log_sigma, (-1, 1))[:, :own]])
        for log_sd, _ in self.split(out):
            log_sd += log_sigma[:, None]
        return out

    def roots(self, theta: Array) -> list[Array]:
        """For each factor the relative Cholesky factor L: sigma^2 L L' is a level's covariance.

        Parameters
        ----------
        theta
            Shape (n, d).

        Returns
        -------
        list of numpy.ndarray
            Shape (n, q, q) each.
        """
        n = len(theta)
        out = [np.zeros((n, w, w)) for w in self.widths]
        log_sigma = self.log_sigma(theta)
        for term, (log_sd, z) in zip(self.terms, self.split(theta), strict=True):
            sd = np.exp(log_sd - log_sigma[:, None])
            place = np.array(term.place)
            root = sd[:, :, None] * correlation_root(z, len(place))
            out[term.factor][:, place[:, None], place] = root
        return out

    def log_prior(self, theta: Array) -> Array:
        """Log prior density of the vector, Jacobians included, shape (n,)."""
        parts = self.split(theta)
        out = np.zeros(len(theta))
        if self.shares is not None:
            out += self.shares.log_density(
                np.column_stack([*(a for a, _ in parts), self.log_sigma(theta)])
            )
            for term, (_, z) in zip(self.terms, parts, strict=True):
                out += term.log_correlation_prior(z)
            return out
        for j, prior in enumerate(self.family.scales.values(), self.ratios):
            out += prior.log_density(theta[:, j])
        for term, (log_sd, z) in zip(self.terms, parts, strict=True):
            out += term.log_prior(log_sd, z)
        return out

    def log_prior_gradient(self, theta: Array) -> Array:
        """Gradient of `log_prior`, shape (n, d); joint priors on several SDs are differenced."""
        if self.shares is not None or any(t.wishart is not None for t in self.terms):
            each, d = theta[:, None], theta.shape[1]
            return derivative(
                lambda h: self.log_prior((each + h * np.eye(d)).reshape(-1, d)).reshape(-1, d)
            )
        out = np.zeros_like(theta)
        for j, prior in enumerate(self.family.scales.values(), self.ratios):
            out[:, j] = prior.log_density_gradient(theta[:, j])
        for term, here, (log_sd, z) in zip(
            self.terms, self.split(out), self.split(theta), strict=True
        ):
            for j, prior in enumerate(term.scales):
                here[0][:, j] = prior.log_density_gradient(log_sd[:, j])
            here[1][:] = term.correlation_prior_gradient(z)
        return out

    def draw_prior(self, rng: np.random.Generator, n: int) -> Array:
        """Draw vectors (n, d) from the prior.

        Raises
        ------
        PriorError
            If a prior is improper.
        """
        theta = np.empty((n, self.size))
        for term, (log_sd, z) in zip(self.terms, self.split(theta), strict=True):
            log_sd[:], z[:] = term.draw_prior(rng, n)
        if self.shares is not None:
            logs, at = self.shares.draw(rng, n), 0
            for log_sd, _ in self.split(theta):
                log_sd[:] = logs[:, at : at + log_sd.shape[1]]
                at += log_sd.shape[1]
            theta[:, -1] = logs[:, -1]
            return theta
        for j, prior in enumerate(self.family.scales.values(), self.ratios):
            theta[:, j] = np.log(prior.draw(rng, n))
        return theta

    def vectors(
        self,
        scales: Mapping[str, Array],
        correlations: Mapping[str, Array],
        dispersions: Sequence[Array],
    ) -> Array:
        """Vectors (n, d) from SDs and correlations: the inverse of `scales` and `correlations`.

        Parameters
        ----------
        scales
            SD of each group effect by name, shape (n,) each.
        correlations
            By label, shape (n, pairs) each, pairs in the order (2,1), (3,1), (3,2), ….
        dispersions
            Those of the family, shape (n,) each: the residual SD, unless it is known.
        """
        theta = np.empty((len(next(iter(scales.values()))), self.size))
        for term, (log_sd, z) in zip(self.terms, self.split(theta), strict=True):
            for j, name in enumerate(term.names):
                log_sd[:, j] = np.log(scales[name])
            if term.correlations:
                q = len(term.place)
                R = np.tile(np.eye(q), (len(theta), 1, 1))
                row, column = np.tril_indices(q, -1)
                R[:, row, column] = R[:, column, row] = correlations[term.label]
                z[:] = partial_correlations(R)
        for j, values in enumerate(dispersions, self.ratios):
            theta[:, j] = np.log(values)
        return theta

    def scales(self, theta: Array) -> dict[str, Array]:
        """SD of each group effect by name at vectors (..., d), shape (...) each."""
        out: dict[str, Array] = {}
        for term, (log_sd, _) in zip(self.terms, self.split(theta), strict=True):
            out |= {name: np.exp(log_sd[..., j]) for j, name in enumerate(term.names)}
        return out

    def correlations(self, theta: Array) -> dict[str, Array]:
        """Correlations of each term that has any, by label, shape (..., pairs) each.

        Pairs in the order (2,1), (3,1), (3,2), ….
        """
        out = {}
        for term, (_, z) in zip(self.terms, self.split(theta), strict=True):
            if term.correlations:
                R = term.correlation_matrices(z.reshape(-1, term.correlations))
                i, j = np.tril_indices(len(term.place), -1)
                out[term.label] = R[:, i, j].reshape(z.shape)
        return out

    def named(self, theta: Array) -> dict[str, Array]:
        """SDs and correlations, term by term, by the names that tables give them, shape (...)."""
        scales, correlations = self.scales(theta), self.correlations(theta)
        out: dict[str, Array] = {}
        for term in self.terms:
            out |= {f"{name}_sigma": scales[name] for name in term.names}
            for j, name in enumerate(term.correlation_names):
                out[name] = correlations[term.label][..., j]
        for j, name in enumerate(self.family.dispersions, self.ratios):
            out[name] = np.exp(theta[..., j])
        return out

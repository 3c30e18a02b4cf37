"""The posterior of coefficients and variance parameters, group effects integrated out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ranef.likelihood.integrated.group_integrals import Fan, GroupIntegrals, Peaks, Rule
from ranef.likelihood.integrated.sums import group_sums

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ranef.common.array_types import Array
    from ranef.families.response import Own
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.mixed_model.parameters import ParameterVector

__all__ = ["Block", "IntegratedPosterior", "first_guess"]

# Numbers of a block of rows and draws: some of these arrays have to stay near the processor.
_BLOCK = 60_000
# Logarithms of SDs and of the family's parameters beyond which no data say anything.
_FAR = 40.0
# Of differences by the family's own parameters, on the log scale.
_STEP = 1e-4
# Nodes that are tried in turn.
_NODES = (9, 11, 13, 15, 17, 21, 25, 31, 41, 51, 71, 101, 151, 201, 301)


@dataclass(frozen=True)
class Block:
    """Some draws, as the integrals take them.

    Attributes
    ----------
    part
        Which draws.
    eta
        Linear predictor without group effects, shape (R, S).
    own
        The family's own parameters, shape (S,) each.
    integrals
        Those of all groups.
    """

    part: slice
    eta: Array
    own: Own
    integrals: GroupIntegrals


@dataclass(frozen=True)
class IntegratedPosterior:
    """Log density of vectors v = (internal coefficients, kept effects, theta), shape (n, k + d).

    Effects of one group term are integrated out. Those of others are kept, in units of their SD, so
    that they are standard normal beforehand; with p coefficients they make k numbers.

    Attributes
    ----------
    model
        Data and priors.
    rule
        Where nodes lie.
    anchor
        Effects of groups from where modes are searched, shape (G, 1).
    """

    model: GeneralizedModel
    rule: Rule
    anchor: Array

    @property
    def parameters(self) -> ParameterVector:
        """What theta holds."""
        return self.model.parameters

    @property
    def structure(self) -> str:
        """How the likelihood is evaluated, for the certificate."""
        return f"group effects integrated out at {self.rule.nodes} nodes each"

    def split(self, v: Array) -> tuple[Array, Array]:
        """Coefficients in the user's coordinates (n, p), and theta (n, d)."""
        p, k = len(self.model.names), self.model.rows.linear
        return v[:, :p] @ self.model.rows.T.T, v[:, k:]

    def scales(self, theta: Array) -> Array:
        """What multiplies coefficients, one, and kept effects, their SDs; shape (n, k)."""
        p, rows = len(self.model.names), self.model.rows
        out = np.ones((len(theta), rows.linear))
        out[:, p:] = np.exp(theta[:, rows.places_of_kept])
        return out

    def blocks(self, v: Array, rows_beside: int = 0) -> Iterator[Block]:
        """Cut vectors into blocks that fit into the processor's memory, and so many rows beside."""
        rows, k = self.model.rows, self.model.rows.linear
        size = max(1, _BLOCK // max(rows_beside, len(rows.codes)))
        ratios = self.parameters.ratios
        for begin in range(0, len(v), size):
            part = slice(begin, begin + size)
            theta = v[part, k:]
            own = tuple(np.exp(theta[:, ratios:]).T)
            eta = rows.offset + rows.design @ (v[part, :k] * self.scales(theta)).T
            sums = group_sums(rows, self.model.response, eta, own)
            yield Block(part, eta, own, GroupIntegrals(sums, np.exp(theta[:, rows.place])))

    def log_density(self, v: Array) -> Array:
        """Log joint density of v and the data, every constant included; shape (n,)."""
        out = np.full(len(v), -np.inf)
        here = self._within(v)
        if here.any():
            some = v[here]
            with np.errstate(all="ignore"):
                value = self._log_likelihood(some) + self._log_prior(some)
            out[here] = np.where(np.isnan(value), -np.inf, value)
        return out

    def gradient(self, v: Array) -> tuple[Array, Array]:
        """Log density (n,) and its derivative (n, p + d); NaN where the density vanishes."""
        value, slope = np.full(len(v), -np.inf), np.full_like(v, np.nan)
        p, k, ratios = len(self.model.names), self.model.rows.linear, self.parameters.ratios
        here = np.flatnonzero(self._within(v))
        if not len(here):
            return value, slope
        some, out = v[here], np.zeros((len(here), v.shape[1]))
        likelihood = np.empty(len(here))
        with np.errstate(all="ignore"):
            for block in self.blocks(some):
                part = self._value_and_slopes(block, some[block.part])
                likelihood[block.part], out[block.part, : k + ratios] = part
            for j in range(k + ratios, v.shape[1]):
                shift = np.zeros(v.shape[1])
                shift[j] = _STEP
                rise = self._log_likelihood(some + shift) - self._log_likelihood(some - shift)
                out[:, j] = rise / (2 * _STEP)
            beta, theta = self.split(some)
            out[:, :p] += self.model.coefficients.gradient(beta) @ self.model.rows.T
            out[:, p:k] -= some[:, p:k]
            out[:, k:] += self.parameters.log_prior_gradient(theta)
            total = likelihood + self.model.constant + self._log_prior(some)
        there = np.isfinite(total)
        value[here[there]], slope[here[there]] = total[there], out[there]
        return value, slope

    def refined(self, v: Array, tolerance: float) -> IntegratedPosterior:
        """The same with as few nodes as the log likelihood at points v (n, p + d) allows.

        Parameters
        ----------
        v
            Points from where the posterior lies.
        tolerance
            In nats.
        """
        # Points may lie where the posterior is not, and tell nothing there.
        v = v[np.isfinite(self.log_density(v))]
        if not len(v):
            return self
        left, right = (np.zeros(len(self.model.rows.first)) for _ in range(2))
        anchor = np.zeros(len(left))
        for block in self.blocks(v):
            with np.errstate(over="ignore", invalid="ignore"):
                peaks = self._peaks(block)
                reach = block.integrals.reach(peaks)
            left, right = np.fmax(left, reach[0]), np.fmax(right, reach[1])
            anchor += (block.integrals.sd * peaks.mode).sum(axis=1) / len(v)
        ends = left[:, None], right[:, None]
        anchored = replace(self, anchor=anchor[:, None])
        best = replace(anchored, rule=Rule(1.4 * ends[0], 1.4 * ends[1], _NODES[-1]))
        truth = best._log_likelihood(v)
        for nodes in _NODES:
            tried = replace(anchored, rule=Rule(*ends, nodes))
            if np.abs(tried._log_likelihood(v) - truth).max() < tolerance:
                return tried
        return best

    def quadrature_error(self, v: Array) -> float:
        """Largest difference at v, in nats, from a rule that is wider and has thrice the nodes."""
        rule = self.rule
        finer = replace(self, rule=Rule(1.4 * rule.left, 1.4 * rule.right, 4 * rule.nodes))
        gap = finer._log_likelihood(v) - self._log_likelihood(v)
        return float(np.abs(gap).max())

    def _within(self, v: Array) -> Array:
        theta = v[:, self.model.rows.linear :]
        return np.asarray(np.all(np.abs(theta) < _FAR, axis=1) & np.isfinite(v).all(axis=1))

    def _log_prior(self, v: Array) -> Array:
        beta, theta = self.split(v)
        scale = float(np.linalg.slogdet(self.model.rows.T)[1]) if beta.shape[1] else 0.0
        prior = self.model.coefficients.log_density(beta) + self.parameters.log_prior(theta)
        z = v[:, beta.shape[1] : self.model.rows.linear]
        return np.asarray(prior + scale - 0.5 * (z * z + np.log(2 * np.pi)).sum(axis=1))

    def fan(self, block: Block) -> Fan:
        """Nodes of all groups and log integrands there."""
        with np.errstate(over="ignore", invalid="ignore"):
            return block.integrals.fan(self._peaks(block), self.rule)

    def _peaks(self, block: Block) -> Peaks:
        """Climb from the anchor's effects, or nearer to zero where SDs are small."""
        begin = np.clip(self.anchor / block.integrals.sd, -3.0, 3.0)
        return block.integrals.peaks(begin, float(np.abs(self.model.rows.Z).max()))

    def _log_likelihood(self, v: Array) -> Array:
        out, rows = np.empty(len(v)), self.model.rows
        for block in self.blocks(v):
            fan = self.fan(block)
            rest = self.model.response.log_rest(rows.y, rows.n, block.own)
            out[block.part] = fan.log_integrals().sum(axis=0) + rest
        return out + self.model.constant

    def _value_and_slopes(self, block: Block, v: Array) -> tuple[Array, Array]:
        """Log likelihood (S,) and its derivative by all but the family's own, (S, k + ratios)."""
        rows, fan = self.model.rows, self.fan(block)
        sd = block.integrals.sd
        score, by_sd = np.zeros_like(block.eta), np.zeros(len(sd))
        for u, weight in zip(fan.u, fan.weights(), strict=True):
            b = sd * u
            first = block.integrals.sums.scores(b)
            first *= weight[rows.codes]
            score += first
            by_sd += (first * rows.Z * b[rows.codes]).sum(axis=0)
        k, p = rows.linear, len(self.model.names)
        linear = (score.T @ rows.design) * self.scales(v[:, k:])
        by_log_sd = np.zeros((len(sd), self.parameters.ratios))
        by_log_sd[:, rows.place] = by_sd
        np.add.at(by_log_sd.T, rows.places_of_kept, (linear[:, p:] * v[:, p:k]).T)
        rest = self.model.response.log_rest(rows.y, rows.n, block.own)
        return fan.log_integrals().sum(axis=0) + rest, np.column_stack([linear, by_log_sd])

    def curvature(self, v: Array) -> Array:
        """Negative Hessian by coefficients and kept effects at one point v (k + d,), (k, k).

        With the expected information of a row where links are not canonical.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return self._curvature(v)

    def _curvature(self, v: Array) -> Array:
        rows, k = self.model.rows, self.model.rows.linear
        (block,) = self.blocks(v[None])
        fan = self.fan(block)
        sd, information = block.integrals.sd, np.zeros_like(block.eta)
        middle, square = np.zeros((len(rows.first), k)), np.zeros((k, k))
        for u, weight in zip(fan.u, fan.weights(), strict=True):
            added = rows.Z * (sd * u)[rows.codes]
            first, second = self.model.response.slopes(block.eta + added, rows.y, rows.n, block.own)
            information += weight[rows.codes] * second
            score = np.add.reduceat(first * rows.design, rows.first, axis=0)
            middle += weight * score
            square += (weight * score).T @ score
        inner = (information * rows.design).T @ rows.design - square + middle.T @ middle
        scale = self.scales(v[None, k:])[0]
        out = inner * np.outer(scale, scale)
        p = len(self.model.names)
        beta, _ = self.split(v[None])
        out[:p, :p] += rows.T.T @ self.model.coefficients.precision(beta[0]) @ rows.T
        out[range(p, k), range(p, k)] += 1.0
        return np.asarray(out)


def first_guess(
    model: GeneralizedModel, reach: float = 8.0, nodes: int = 31
) -> IntegratedPosterior:
    """The posterior with a rule that is good enough to find modes by."""
    groups = len(model.rows.first)
    wide = np.full((groups, 1), reach)
    return IntegratedPosterior(model, Rule(wide, wide, nodes), np.zeros((groups, 1)))

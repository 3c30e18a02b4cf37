"""Annealed particles against quadrature, closed forms and Gibbs, and where they take over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from scipy import stats
from scipy.special import logsumexp

import ranef as rf
import ranef.samplers.annealed.sampler as annealed_module
from helpers import CROSSED, WALLS, crossed_frame, limit
from ranef.likelihood.posterior import MarginalPosterior
from ranef.mixed_model.model import build_model
from ranef.samplers.annealed.adapt import adapt
from ranef.samplers.annealed.fit_proposal import WIDE, fit_proposal, proposal_at
from ranef.samplers.annealed.particles import Particles, anneal, move
from ranef.samplers.annealed.proposal import Part, Proposal, Reach
from ranef.samplers.sample import SamplerSettings
from ranef.samplers.search import explore


def bent(n: int = 4000, d: int = 6, seed: int = 1) -> np.ndarray:
    """Correlated points, skewed in one direction and long-tailed in another."""
    z = np.random.default_rng(seed).standard_normal((n, d)) @ np.triu(np.full((d, d), 0.4)) + 1.0
    z[:, 0] = np.exp(0.4 * z[:, 0])
    z[:, 1] = np.sinh(z[:, 1])
    return z


def fitted(y: np.ndarray) -> Proposal:
    """One part, fitted to even points."""
    d = y.shape[1]
    return fit_proposal(y, None, proposal_at([(np.zeros(d), np.eye(d))]))


def two_parts(d: int, gap: float = 6.0) -> Proposal:
    """Around zero and around (gap, ..., gap)."""
    centers = (np.zeros(d), np.full(d, gap))
    parts = tuple(Part.straight(c, 1.3 * np.eye(d)) for c in centers)
    return Proposal(Reach(12.0, 0.3, 2.0), np.array([0.5, 0.5]), parts)


@pytest.mark.parametrize("kind", ["bent", "two parts"])
def test_a_proposal_is_a_density_and_draws_from_it(kind):
    proposal = fitted(bent(d=2)) if kind == "bent" else two_parts(2)
    many = proposal.draw(200_000, np.random.default_rng(2))
    low, high = many.min(axis=0), many.max(axis=0)
    rng = np.random.default_rng(3)
    # Importance sampling from a uniform distribution on a box that holds nearly everything.
    box = rng.uniform(low, high, size=(400_000, 2))
    weight = np.exp(proposal.log_density(box)) * np.prod(high - low)
    assert weight.mean() == pytest.approx(1.0, abs=5 * weight.std() / np.sqrt(len(weight)))
    drawn = proposal.draw(50_000, rng)
    for column, values in zip(box.T, drawn.T, strict=True):
        for p in (0.1, 0.5, 0.9):
            at = np.quantile(values, p)
            share = weight * (column < at)
            error = np.hypot(share.std() / np.sqrt(len(share)), np.sqrt(p * (1 - p) / 50_000))
            assert abs(share.mean() - p) < 5 * error


@pytest.mark.parametrize("kind", ["bent", "two parts"])
@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
def test_steps_leave_the_proposal_as_it_is_and_can_be_undone(rho, kind):
    proposal = fitted(bent(d=3)) if kind == "bent" else two_parts(3, gap=3.0)
    rng = np.random.default_rng(5)
    before = proposal.draw(100_000, rng)
    after = proposal.step(before, rho, rng)
    for x, y in zip(before.T, after.T, strict=True):
        assert stats.ks_2samp(x, y).pvalue > 1e-4
        # Reversible: pairs (before, after) and (after, before) have one distribution.
        cut = np.median(x)
        forth, back = np.mean((x < cut) & (y > cut + 0.3)), np.mean((y < cut) & (x > cut + 0.3))
        assert abs(forth - back) < 5 * np.sqrt((forth + back) / len(x))
        assert np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1] > rho - 0.25


def two_bumps(y: np.ndarray) -> np.ndarray:
    """Seven tenths around zero, the rest around (6, ..., 6)."""
    return np.logaddexp(
        np.log(0.7) - 0.5 * (y**2).sum(axis=1), np.log(0.3) - 0.5 * ((y - 6) ** 2).sum(axis=1)
    )


def test_two_modes_are_held_in_proportion():
    d, rng = 4, np.random.default_rng(1)
    start = two_parts(d)
    y = start.draw(4000, rng)
    particles = Particles(y, two_bumps(y), start.log_density(y))
    proposal, particles = anneal(two_bumps, start, particles, rng, WIDE)
    share = np.mean(particles.y[:, 0] > 3)
    assert abs(share - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 2000)
    # The proposal has both, so that a single step leads from one to the other.
    weights = proposal.weight[np.argsort([part.place[0] for part in proposal.parts])]
    assert weights == pytest.approx([0.7, 0.3], abs=0.05)
    near = particles.y[particles.y[:, 0] < 3]
    assert np.abs(near.mean(axis=0)).max() < 5 / np.sqrt(1500)
    assert np.abs(near.std(axis=0) - 1).max() < 0.1


def test_moves_leave_the_target_as_it_is():
    rng = np.random.default_rng(7)

    def log_f(y: np.ndarray) -> np.ndarray:
        return -0.5 * (y**2).sum(axis=1)

    y = rng.standard_normal((20_000, 5))
    wrong = fitted(1.5 * rng.standard_normal((2000, 5)) + 0.3)
    rhos = (0.0, 0.5, 0.8, 0.95)
    particles = move(Particles.of_posterior(y, log_f(y)), log_f, None, wrong, rng, rhos)[-1]
    assert np.mean(particles.y != y) > 0.5
    for column in particles.y.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4


def narrow_proposals(patch: pytest.MonkeyPatch) -> None:
    """Let the proposal be what a failed adaptation may leave: far too narrow."""

    def failed(*arguments: Any, annealing: bool = False) -> tuple[Proposal, Particles | None]:
        if annealing:
            return adapt(*arguments, annealing=True)
        good, _ = adapt(*arguments)
        parts = tuple(replace(part, root=0.2 * part.root) for part in good.parts)
        return replace(good, parts=parts), None

    patch.setattr(annealed_module, "adapt", failed)


@pytest.fixture(scope="module")
def walled() -> rf.Fit:
    with pytest.MonkeyPatch.context() as patch:
        narrow_proposals(patch)
        return rf.fit(CROSSED, crossed_frame(), priors=WALLS, seed=1)


def test_walls_within_the_likelihood_need_no_particles():
    certificate = rf.fit(CROSSED, crossed_frame(), priors=WALLS, seed=1).certificate
    assert certificate.acceptance > 0.6
    assert certificate.memory is None
    assert certificate.trusted


def test_particles_take_over_where_proposals_fall_short(walled):
    certificate = walled.certificate
    assert certificate.method == "exact"
    assert certificate.acceptance is None
    assert certificate.trusted
    assert certificate.r_hat < 1.01
    assert min(certificate.ess, certificate.ess_tail) > 2000
    assert certificate.memory < 0.03
    assert "draws moved on" in str(certificate)
    assert "4,000 draws, effective" in str(walled)


def test_what_particles_draw_there_is_the_posterior(walled):
    """A tensor grid over the three log SDs, up to the walls, shares nothing but the density."""
    target = MarginalPosterior(build_model(CROSSED, crossed_frame(), WALLS)[0])
    g, h = (np.linspace(1e-3, 1, 80) * wall for wall in (0.7, 0.6))
    sigma = np.linspace(0.8, 1.3, 60)
    G, H, S = (a.ravel() for a in np.meshgrid(g, h, sigma, indexing="ij"))
    theta = np.log(np.column_stack([G, H, S]) * (1 - 1e-12))
    log_w = target.log_density(theta) - theta.sum(axis=1)
    # Half a cell at the ends.
    ends = [np.isin(a, edges) for a, edges in ((G, g[[-1]]), (H, h[[-1]]))]
    log_w += np.log(0.5) * (ends[0].astype(float) + ends[1])
    w = np.exp(log_w - logsumexp(log_w))
    posterior = walled.draws["posterior"]
    off = []
    for name, grid in (("1|g_sigma", G), ("1|h_sigma", H), ("sigma", S)):
        draws = posterior[name].to_numpy()
        error = float(array_stats.mcse(draws, chain_axis=0, draw_axis=1))
        assert abs(draws.mean() - w @ grid) < 4 * error, name
        off.append(abs(draws.mean() + 0.3 * draws.std() - w @ grid) / error)
        for p in (0.1, 0.5, 0.9):
            at = grid[np.argsort(grid)][np.searchsorted(np.cumsum(w[np.argsort(grid)]), p)]
            share = (draws <= at) * 1.0
            error = float(array_stats.mcse(share, chain_axis=0, draw_axis=1))
            # A grid value carries the mass of its cell: 1/80 of the range at most.
            cell = w[np.isclose(grid, at)].sum()
            assert abs(share.mean() - p) < 4 * error + cell, (name, p)
    assert min(off) > 4  # negative control: draws off by three tenths of their sd


def test_where_particles_would_take_too_long_the_proposals_stand_marked(monkeypatch):
    narrow_proposals(monkeypatch)
    limit(monkeypatch, "ANNEALING", seconds=0.0)
    with pytest.warns(rf.ReliabilityWarning, match="Compare with method='gibbs'"):
        poor = rf.fit(CROSSED, crossed_frame(), priors=WALLS, seed=1)
    assert poor.certificate.acceptance < 0.5
    assert str(poor).startswith("DO NOT TRUST")


def test_draws_that_remember_where_they_began_are_not_trusted(monkeypatch):
    narrow_proposals(monkeypatch)
    monkeypatch.setattr(annealed_module, "move", lambda particles, *_: [particles])
    with pytest.warns(rf.ReliabilityWarning, match="remember where they began"):
        stuck = rf.fit(CROSSED, crossed_frame(), priors=WALLS, seed=1)
    assert stuck.certificate.memory > 0.9


def maximal() -> pd.DataFrame:
    """Twenty people, each in two by two conditions six times, with four effects each."""
    rng = np.random.default_rng(11)
    s, r = np.repeat(np.arange(20), 24), np.tile(np.arange(24), 20)
    a, b = (r % 2) - 0.5, (r // 2 % 2) - 0.5
    Z = np.column_stack([np.ones(480), a, b, a * b])
    effects = rng.normal(size=(20, 4)) * [1.0, 0.8, 0.8, 1.0]
    y = 3 + a + np.einsum("nq,nq->n", Z, effects[s]) + rng.normal(size=480)
    return pd.DataFrame({"y": y, "a": a, "b": b, "s": s})


def test_eleven_parameters_agree_with_independent_proposals():
    model, _ = build_model("y ~ a * b + (a * b|s)", maximal())
    settings = SamplerSettings(4000, 4, 0, (), False, moments=False)
    landscape = explore(model, settings)
    ours = annealed_module.sample_by_proposals(landscape, settings, np.random.default_rng(1))
    assert ours.memory < 0.03
    many = replace(settings, draws=40_000)
    theirs = annealed_module.sample_by_proposals(
        landscape, many, np.random.default_rng(2), moving=False
    )
    assert theirs.accepted.mean() > 0.2
    error = np.hypot(ours.log_mass_error, theirs.log_mass_error)
    assert abs(ours.log_mass - theirs.log_mass) < 4 * error
    assert error < 0.1
    for j in range(ours.theta.shape[2]):
        for f in (np.asarray, np.exp):
            x, y = f(ours.theta[..., j]), f(theirs.theta[..., j])
            error = np.hypot(
                *(float(array_stats.mcse(v, chain_axis=0, draw_axis=1)) for v in (x, y))
            )
            assert abs(x.mean() - y.mean()) < 4.5 * error
            if f is np.asarray:
                assert abs(x.mean() + 0.3 * x.std() - y.mean()) > 4.5 * error  # negative control

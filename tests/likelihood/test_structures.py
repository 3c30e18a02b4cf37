"""Every structure's likelihood, effects and draws against dense matrices.

A structure that joins the table `STRUCTURES` is tested on all the formulas that it suits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

from ranef.cells.response import Response
from ranef.common import budget
from ranef.errors import DataError
from ranef.likelihood.posterior import MarginalPosterior
from ranef.likelihood.structures.crossed import Crossed
from ranef.likelihood.structures.one_factor import OneFactor
from ranef.likelihood.structures.small_remainder import SmallRemainder
from ranef.likelihood.structures.structure import STRUCTURES, choose_structure
from ranef.mixed_model.model import build_model
from ranef.numerics.correlations import correlation_root

# Labels 0, 1, 2 of crossed factors look like those of nested ones.
pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.NestingWarning")

FORMULAS = {
    "intercept": "y ~ x + (1|g)",
    "correlated": "y ~ x + (x|g)",
    "independent": "y ~ x + z + (x||g)",
    "three columns": "y ~ 1 + (x + z|g)",
    "crossed": "y ~ x + (1|g) + (1|h)",
    "crossed slopes": "y ~ x + (x|g) + (0 + z|h) + (1|k)",
    "slopes on both": "y ~ x + (x|g) + (x + z|h)",
    "nested": "y ~ 0 + x + (1|h/k)",
    "no fixed effects": "y ~ 0 + (x|g) + (1|h)",
}


@dataclass(frozen=True)
class Dense:
    """A model with its matrices written out: all factors' columns Z, V = [X~ y~], slopes."""

    model: Any
    Z: np.ndarray
    V: np.ndarray
    weights: np.ndarray
    codes: list[np.ndarray]
    slopes: np.ndarray

    def covariance(self, roots: list[np.ndarray]) -> np.ndarray:
        """Covariance of all effects / sigma^2, for one draw's roots."""
        return linalg.block_diag(
            *[
                np.kron(np.eye(f.levels), root @ root.T)
                for f, root in zip(self.model.design.factors, roots, strict=True)
            ]
        )

    def conditional(self, roots: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Response B of all effects and their covariance given coefficients, one draw's roots."""
        G = self.covariance(roots)
        M = G @ self.Z.T @ np.linalg.inv(np.diag(1 / self.weights) + self.Z @ G @ self.Z.T)
        return M @ self.V, G - M @ self.Z @ G

    def row_cells(self) -> tuple[Any, Any]:
        """Design and response with a cell for each row."""
        design, (N, k), p = self.model.design, self.slopes.shape, self.model.design.p
        by_row = replace(
            design,
            factors=tuple(
                replace(f, codes=codes) for f, codes in zip(design.factors, self.codes, strict=True)
            ),
            count=self.weights,
            mean=self.V[:, :p],
            within=np.zeros((p, p)),
            slopes=self.slopes,
            slope_slope=np.zeros((N, k, k)),
            slope_x=np.zeros((N, k, p)),
        )
        mean, beta_ls = self.V[:, p], self.model.response.beta_ls
        return by_row, Response(mean, np.zeros(p), 0.0, np.zeros((N, k)), beta_ls)


def dense(formula: str, weighted: bool, seed: int = 1) -> Dense:
    rng = np.random.default_rng(seed)
    n = 70
    frame = pd.DataFrame(
        {
            "y": 50 + rng.normal(size=n),
            "x": 2 + rng.normal(size=n),
            "z": rng.normal(size=n),
            "g": rng.integers(0, 9, n),
            "h": rng.integers(0, 4, n),
            "k": rng.integers(0, 3, n),
            "w": rng.uniform(0.5, 2, n),
        }
    )
    priors = dict.fromkeys(("sigma",), "half_t(2)")
    model, rows = build_model(formula, frame, priors, "w" if weighted else None)
    parts = []
    for factor, codes in zip(model.design.factors, rows.codes, strict=True):
        z = np.column_stack([np.ones(n), rows.slopes])[:, list(factor.columns)]
        for level in range(factor.levels):
            parts.append(z * (codes == level)[:, None])
    V = np.column_stack([rows.X @ model.design.T, rows.response - rows.X @ model.response.beta_ls])
    w = rows.weights if rows.weights is not None else np.ones(n)
    return Dense(model, np.hstack(parts), V, w, list(rows.codes), rows.slopes)


def some_roots(model: Any, rng: np.random.Generator, n: int = 2) -> list[np.ndarray]:
    widths = model.parameters.widths
    return [np.tril(rng.normal(size=(n, q, q))) for q in widths]


def structures(model: Any) -> list[Any]:
    suited = [structure for structure in STRUCTURES if structure.suits(model.design)]
    return [structure(model.design, model.response) for structure in suited]


def choice_of(model: Any) -> Any:
    return choose_structure(model.design, model.response)


def check_sums(structure: Any, made: Dense, roots: list[np.ndarray]) -> None:
    """Compare log|V| and [X~ y~]'V^-1[X~ y~] with the dense ones."""
    log_det, U = structure.sums(roots)
    for i in range(len(roots[0])):
        G = made.covariance([r[i] for r in roots])
        C = np.diag(1 / made.weights) + made.Z @ G @ made.Z.T
        expected = np.linalg.slogdet(C)[1] + np.log(made.weights).sum()
        assert log_det[i] == pytest.approx(expected, rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(
            U[i], made.V.T @ np.linalg.solve(C, made.V), rtol=1e-9, atol=1e-9
        )


@pytest.fixture(params=["dense", "dense, pairs not listed", "sparse"])
def remainder(request, monkeypatch):
    """Run crossed designs with each way to form and factor the Schur complement."""
    if request.param == "sparse":
        monkeypatch.setattr(budget, "DENSE_COLUMNS", -1)
    elif "not listed" in request.param:
        monkeypatch.setattr(budget, "LISTED_PRODUCTS", -1)


@pytest.mark.usefixtures("remainder")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_likelihood_parts_equal_a_dense_normal(name, weighted):
    made = dense(FORMULAS[name], weighted)
    roots = some_roots(made.model, np.random.default_rng(2))
    assert len(structures(made.model)) == (1 if len(made.model.design.factors) == 1 else 2)
    for structure in structures(made.model):
        check_sums(structure, made, roots)


@pytest.mark.usefixtures("remainder")
@pytest.mark.parametrize("name", FORMULAS)
def test_a_reweighted_structure_is_that_of_the_weighted_rows(name):
    made = dense(FORMULAS[name], weighted=True)
    (design, response), rng = made.row_cells(), np.random.default_rng(9)
    roots = some_roots(made.model, rng)
    first, second = rng.uniform(0.2, 5, (2, 70))
    second[::5] = 1e-200  # rows may drop out
    for kind in STRUCTURES:
        if not kind.suits(design):
            continue
        structure = kind(design, response)
        check_sums(structure, made, roots)
        # Again and again, as iterations do.
        for weights in (first, second):
            made = replace(made, weights=made.weights * weights)
            with pytest.raises(AssertionError):  # the control: other weights are seen
                check_sums(structure, made, roots)
            structure = structure.reweighted(weights)
            check_sums(structure, made, roots)
            solved = [b[0].reshape(-1, design.p + 1) for b in structure.solve(roots)[0]]
            expected = made.conditional([r[0] for r in roots])[0]
            np.testing.assert_allclose(np.concatenate(solved), expected, atol=1e-9)
        made = replace(made, weights=design.count)


def test_cells_of_different_rows_have_no_weights_of_their_own():
    made = dense(FORMULAS["crossed"], weighted=False)
    for structure in structures(made.model):
        with pytest.raises(DataError, match="several different rows"):
            structure.reweighted(np.ones(len(made.model.design.count)))


@pytest.mark.usefixtures("remainder")
@pytest.mark.parametrize("name", FORMULAS)
def test_effects_have_their_dense_conditional_mean_and_covariance(name):
    made = dense(FORMULAS[name], weighted=True)
    roots = some_roots(made.model, np.random.default_rng(3))
    for structure in structures(made.model):
        response, covariance = structure.solve(roots)
        for i in range(2):
            (B, S), at = made.conditional([r[i] for r in roots]), 0
            for f, factor in enumerate(made.model.design.factors):
                q = len(factor.columns)
                stop = at + factor.levels * q
                np.testing.assert_allclose(
                    response[f][i].reshape(-1, B.shape[1]), B[at:stop], atol=1e-9
                )
                for level in range(factor.levels):
                    own = slice(at + level * q, at + level * q + q)
                    np.testing.assert_allclose(covariance[f][i, level], S[own, own], atol=1e-9)
                at = stop


@pytest.mark.usefixtures("remainder")
@pytest.mark.parametrize("name", FORMULAS)
def test_rows_have_their_dense_sum_of_effects(name):
    made, rng = dense(FORMULAS[name], weighted=True), np.random.default_rng(8)
    roots = some_roots(made.model, rng)
    factors = made.model.design.factors
    # Rows of any columns, three for each combination of levels: they tell all of a covariance.
    codes = [np.repeat(rng.integers(0, f.levels, 40), 3) for f in factors]
    Z = [rng.normal(size=(120, len(f.columns))) for f in factors]
    rows = np.zeros((120, made.Z.shape[1]))
    starts = np.cumsum([0, *(f.levels * len(f.columns) for f in factors)])
    for start, code, z in zip(starts[:-1], codes, Z, strict=True):
        at = start + code[:, None] * z.shape[1] + np.arange(z.shape[1])
        np.put_along_axis(rows, at, z, axis=1)
    for structure in structures(made.model):
        response, variance = structure.at_rows(roots, codes, Z)
        for i in range(2):
            B, S = made.conditional([r[i] for r in roots])
            np.testing.assert_allclose(response[i], rows @ B, atol=1e-9)
            np.testing.assert_allclose(variance[i], np.diag(rows @ S @ rows.T), atol=1e-9)


@pytest.mark.parametrize("name", FORMULAS)
def test_levels_that_are_independent_have_shares_of_their_own(name):
    made = dense(FORMULAS[name], weighted=True)
    roots = some_roots(made.model, np.random.default_rng(10))
    S = made.conditional([r[0] for r in roots])[1]
    for structure in structures(made.model):
        widths = [len(f.columns) for f in made.model.design.factors for _ in range(f.levels)]
        apart = linalg.block_diag(*[np.ones((q, q)) for q in widths]) == 0
        assert (structure.by_level is not None) == bool(np.abs(S[apart]).max() < 1e-9)
        if structure.by_level is None:
            continue
        log_det, U = structure.sums(roots)
        total = made.V.T @ (made.V * made.weights[:, None])
        every = np.arange(made.model.design.factors[0].levels)
        logs, inside = structure.by_level.shares(roots[0], every)
        spanned = structure.by_level.spanned(every)
        np.testing.assert_allclose(logs.sum(axis=1), log_det, rtol=1e-9)
        np.testing.assert_allclose(total + (inside - spanned).sum(axis=1), U, atol=1e-9)
        # One level's own rows, alone.
        own = made.codes[0] == 3
        C = (
            np.diag(1 / made.weights[own])
            + made.Z[own] @ made.covariance([r[1] for r in roots]) @ made.Z[own].T
        )
        alone = np.linalg.slogdet(C)[1] + np.log(made.weights[own]).sum()
        assert logs[1, 3] == pytest.approx(alone, rel=1e-9)
        V = made.V[own]
        np.testing.assert_allclose(
            V.T @ (V * made.weights[own, None]) - spanned[3] + inside[1, 3],
            V.T @ np.linalg.solve(C, V),
            atol=1e-9,
        )


@pytest.mark.usefixtures("remainder")
@pytest.mark.parametrize(
    "name", ["correlated", "crossed", "crossed slopes", "slopes on both", "nested"]
)
def test_drawn_effects_have_their_joint_conditional_distribution(name):
    made = dense(FORMULAS[name], weighted=False)
    rng = np.random.default_rng(4)
    roots = some_roots(made.model, rng, 1)
    c = np.append(rng.normal(size=made.model.design.p), 1.0)
    G = made.covariance([r[0] for r in roots])
    M = G @ made.Z.T @ np.linalg.inv(np.eye(len(made.V)) + made.Z @ G @ made.Z.T)
    mean, spread = M @ made.V @ c, 4.0 * (G - M @ made.Z @ G)
    for structure in structures(made.model):
        n = 500 if isinstance(structure, Crossed) else 5000
        blocks = structure.draw(
            [np.repeat(r, n, axis=0) for r in roots],
            np.repeat(c[None], n, axis=0),
            np.full(n, np.log(2.0)),
            rng,
        )
        draws = np.concatenate([b.reshape(n, -1) for b in blocks], axis=1)
        z = (draws.mean(axis=0) - mean) / np.sqrt(np.diag(spread) / n)
        assert np.abs(z).max() < 4.5
        for _ in range(8):
            a = rng.normal(size=len(mean))
            ratio = (draws @ a).var() / (a @ spread @ a)
            assert abs(ratio - 1) < 4.5 * np.sqrt(2 / n)
            # The check sees a covariance that is a fifth too wide.
            assert abs(1.44 * ratio - 1) > 4.5 * np.sqrt(2 / n) or n == 500


def test_the_structure_fits_the_design():
    assert isinstance(choice_of(dense(FORMULAS["correlated"], False).model), OneFactor)
    assert isinstance(choice_of(dense(FORMULAS["crossed"], False).model), SmallRemainder)
    rng = np.random.default_rng(0)
    draw = {c: rng.integers(0, k, 900) for c, k in (("a", 200), ("b", 100), ("c", 190))}
    frame = pd.DataFrame({"y": rng.normal(size=900), "x": rng.normal(size=900), **draw})
    for formula in ("y ~ 1 + (1|a) + (1|b)", "y ~ 1 + (x|a) + (1|b)"):
        few_classes, _ = build_model(formula, frame)
        assert isinstance(choice_of(few_classes), SmallRemainder)
    for formula in ("y ~ 1 + (x|a) + (1|c)", "y ~ 1 + (1|a) + (1|c)"):
        model, _ = build_model(formula, frame)
        assert isinstance(choice_of(model), Crossed)


def test_groups_with_equal_cross_products_share_one_class():
    x = np.tile(np.arange(5.0), 40)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"y": rng.normal(size=200), "x": x, "g": np.repeat(np.arange(40), 5)})
    balanced, _ = build_model("y ~ x + (x|g)", frame)
    assert "1 classes" in OneFactor(balanced.design, balanced.response).name
    uneven, _ = build_model("y ~ x + (x|g)", frame.iloc[:-1])
    assert "2 classes" in OneFactor(uneven.design, uneven.response).name


def test_zero_and_huge_variance_ratios_stay_finite():
    made = dense(FORMULAS["crossed slopes"], weighted=False)
    for scale in (0.0, 1e-6, 1e6):
        roots = [scale * r for r in some_roots(made.model, np.random.default_rng(5))]
        parts = [s.sums(roots) for s in structures(made.model)]
        assert all(np.isfinite(a).all() and np.isfinite(U).all() for a, U in parts)
        # Two crossed factors share the constant; what tells them apart there is 1 / ratio beside
        # numbers of order one, so digits go with the ratio: 1e12 leaves 1e-16 * 1e12 of them.
        np.testing.assert_allclose(parts[0][0], parts[1][0], atol=max(1e-9, 1e-14 * scale**2))
        if scale == 0.0:
            np.testing.assert_allclose(parts[0][1][0], made.V.T @ made.V, atol=1e-9)


def test_partial_correlations_give_correlation_matrices_under_lkj():
    rng = np.random.default_rng(6)
    z = np.arctanh(2 * rng.beta(1.5, 1.5, size=(50_000, 3)) - 1)
    z[:, 2] = np.arctanh(2 * rng.beta(1.0, 1.0, size=50_000) - 1)
    L = correlation_root(z, 3)
    R = L @ L.transpose(0, 2, 1)
    np.testing.assert_allclose(np.einsum("nii->ni", R), 1.0)
    assert np.linalg.eigvalsh(R).min() > 0
    # Under LKJ(1) in three dimensions each correlation is beta(3/2, 3/2) on (-1, 1): variance 1/4.
    for i, j in ((1, 0), (2, 0), (2, 1)):
        assert R[:, i, j].var() == pytest.approx(0.25, abs=4 * 0.25 * np.sqrt(2 / 50_000))


def test_the_density_of_the_parameters_integrates_the_priors():
    """Prior of the unconstrained vector: one correlated term, by quadrature over each part."""
    model = dense(FORMULAS["correlated"], weighted=False).model
    eta = np.zeros((400, model.parameters.size))
    grid = np.linspace(-12, 12, 400)
    base = model.parameters.log_prior(np.zeros((1, model.parameters.size)))[0]
    for j in range(model.parameters.size):
        eta[:] = 0.0
        eta[:, j] = grid
        profile = np.exp(model.parameters.log_prior(eta) - base)
        total = profile.sum() * (grid[1] - grid[0])
        at_zero = np.exp(_own_density(model, j))
        assert total * at_zero == pytest.approx(1.0, rel=2e-3)


def _own_density(model: Any, j: int) -> float:
    """Log prior density of the j-th parameter alone at zero."""
    zero = np.zeros(1)
    term = model.parameters.terms[0]
    if j < 2:
        return float(term.scales[j].log_density(zero)[0])
    if j == 2:
        return float(term.log_correlation_prior(np.zeros((1, 1)))[0])
    return float(model.parameters.family.sigma.log_density(zero)[0])


def test_the_mixed_target_is_likelihood_plus_prior():
    made = dense(FORMULAS["crossed slopes"], weighted=True).model
    target = MarginalPosterior(made)
    eta = np.random.default_rng(7).normal(size=(5, made.parameters.size)) * 0.5
    parts = target.log_likelihood(made.parameters.roots(eta), eta[:, -1], reml=True)
    np.testing.assert_allclose(target.log_density(eta), parts + made.parameters.log_prior(eta))
    far = eta.copy()
    far[0, 0] = 400.0
    assert target.log_density(far)[0] == -np.inf

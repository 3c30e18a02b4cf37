"""Rows to cells and design: exact sums whatever the offset, and coordinates that map back."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import ranef as rf
from frames import make_frame
from ranef.cells.from_rows import compress
from ranef.cells.orthonormal import FactorLayout, orthonormalize
from ranef.errors import DataError
from ranef.formula.fixed_effects import FixedEffects, FixedTerm
from ranef.formula.grouping import Factor, GroupColumns
from ranef.formula.parse import parse_formula
from ranef.formula.rows import Rows, evaluate
from ranef.formula.spec import DesignSpec
from ranef.likelihood.random_intercept import RandomIntercept
from ranef.mixed_model.model import build_model

FORMULAS = [
    "y ~ 1 + (1|g)",
    "y ~ 0 + (1|g)",
    "y ~ x + z + (1|g)",
    "y ~ 0 + x + (1|g)",
    "y ~ f + (1|g)",
    "y ~ 0 + f + (1|g)",
    "y ~ 0 + f + x + (1|g)",
    "y ~ 0 + x + f + (1|g)",
    "y ~ f*x + z + (1|g)",
]


def eighths(seed=3, groups=6):
    """Data in eighths, which an offset of 1e12 and factors of two leave exact."""
    data = make_frame(seed, groups)
    for name in "yxz":
        data[name] = np.round(8 * data[name]) / 8
    return data


def columns(formula, data):
    return evaluate(parse_formula(formula), data)


def cells_of(formula, data):
    return compress(columns(formula, data))


def design_of(formula, data):
    return coordinates_of(formula, data)[0]


def coordinates_of(formula, data):
    """Design and response."""
    made = columns(formula, data)
    cells = compress(made)
    (factor,) = made.spec.factors
    layout = FactorLayout(factor.name, len(factor.levels), cells.level[0], (0,))
    return orthonormalize(cells, made.spec.fixed.names, (layout,))


def target_of(formula, data):
    return RandomIntercept(build_model(formula, data)[0])


def plain(y, X, codes, levels):
    """Counts, means and within cross-products of [X y] by a loop over groups, in fractions."""
    rows = [[Fraction(v) for v in (*a, b)] for a, b in zip(X.tolist(), y, strict=True)]
    width = len(rows[0])
    within = [[Fraction(0)] * width for _ in range(width)]
    count, mean = [], []
    for level in range(levels):
        own = [r for r, c in zip(rows, codes, strict=True) if c == level]
        middle = [sum(column) / len(own) for column in zip(*own, strict=True)]
        rest = [[v - m for v, m in zip(r, middle, strict=True)] for r in own]
        for i in range(width):
            for j in range(i + 1):
                within[i][j] += sum(r[i] * r[j] for r in rest)
                within[j][i] = within[i][j]
        count.append(len(own))
        mean.append(middle)
    return count, mean, np.array([[float(v) for v in row] for row in within])


# -- cells -----------------------------------------------------------------------------------------

NUMBER = st.integers(-80, 80).map(lambda k: k / 8)


@given(
    st.lists(st.tuples(NUMBER, NUMBER, st.integers(0, 3)), min_size=2, max_size=14),
    st.booleans(),
    st.sampled_from([0.0, 1e6, -1e12]),
)
def test_counts_means_and_within_products_are_those_of_a_plain_loop(rows, intercept, offset):
    y, x, codes = (np.array(v) for v in zip(*rows, strict=True))
    y = y + offset
    codes = np.unique(codes, return_inverse=True)[1]
    X = np.column_stack([np.ones(len(y)), x]) if intercept else x[:, None]
    names = ("Intercept", "x") if intercept else ("x",)
    levels = tuple(str(k) for k in range(codes.max() + 1))
    spec = DesignSpec(
        formula=parse_formula(f"y ~ {int(intercept)} + x + (1|g)"),
        fixed=FixedEffects(names, tuple(FixedTerm(n, (j,)) for j, n in enumerate(names))),
        groups=(GroupColumns("1|g", 0, (0,), ("1|g",), True),),
        factors=(Factor("g", levels=levels),),
    )
    made = compress(
        Rows(
            spec=spec,
            y=y,
            offset=None,
            weights=None,
            X=X,
            slopes=np.empty((len(y), 0)),
            codes=(codes,),
            dropped=0,
            frame=pd.DataFrame(index=range(len(y))),
        )
    )
    # What covariates explain within cells may have been taken from the response first.
    taken = [
        [
            (Fraction(v) - Fraction(m)) * Fraction(b)
            for v, m, b in zip(r, made.shift, made.explained, strict=False)
        ]
        for r in X.tolist()
    ]
    left = [Fraction(v) - sum(part) for v, part in zip(y.tolist(), taken, strict=True)]
    count, mean, within = plain(left, X, codes, len(levels))
    assert made.count.tolist() == made.size.tolist() == count
    assert made.level.tolist() == [list(range(len(levels)))]
    assert made.log_weights == 0
    assert made.rows == len(y)
    found = [
        [Fraction(m) + Fraction(s) for m, s in zip(r, made.shift, strict=True)] for r in made.mean
    ]
    for a, b in zip(found, mean, strict=True):
        for u, v in zip(a, b, strict=True):
            # Relative to the spread when a constant takes up the offset, else to the size.
            assert abs(u - v) <= 1e-13 * (20 if made.ones is not None else abs(v) + 1)
    size = [*np.abs(X).max(axis=0).tolist(), 20.0 if made.ones is not None else np.abs(y).max()]
    np.testing.assert_array_less(np.abs(made.within - within), 1e-12 * np.outer(size, size) + 1e-13)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("formula", ["y ~ x + (z|g) + (1|f)", "y ~ x + (0 + x + z||f/g)"])
def test_cells_of_several_factors_hold_the_weighted_sums_of_their_rows(formula, weights):
    data = eighths(4)
    data = data.assign(w=np.random.default_rng(8).uniform(0.2, 3, len(data)))
    made = evaluate(parse_formula(formula), data, weights)
    cells = compress(made)
    codes = np.array(made.codes)
    assert len({tuple(c) for c in cells.level.T}) == cells.level.shape[1] < len(data)
    w = np.ones(len(data)) if weights is None else data["w"].to_numpy()
    u, s = np.column_stack([made.X, made.y]) - cells.shift, made.slopes
    within = np.zeros((3, 3))
    for c, level in enumerate(cells.level.T):
        own = np.all(codes == level[:, None], axis=0)
        v = w[own]
        du, ds = (a[own] - np.average(a[own], axis=0, weights=v) for a in (u, s))
        assert cells.size[c] == own.sum()
        assert cells.count[c] == pytest.approx(v.sum(), rel=1e-14)
        np.testing.assert_allclose(cells.mean[c], v @ u[own] / v.sum(), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(cells.slopes[c], v @ s[own] / v.sum(), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(cells.slope_slope[c], (ds.T * v) @ ds, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(cells.slope_u[c], (ds.T * v) @ du, rtol=1e-12, atol=1e-12)
        within += (du.T * v) @ du
    np.testing.assert_allclose(cells.within, within, rtol=1e-12, atol=1e-12)
    assert (cells.rows, cells.size.sum()) == (len(data), len(data))
    assert cells.log_weights == pytest.approx(np.log(w).sum(), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("replicates", [21, 201, 2001])
@pytest.mark.parametrize("offset", [0.0, 1e6, 1e8, 1e12])
def test_sums_of_squares_are_exact_at_every_offset(replicates, offset):
    # As NIST's SmLs01 to SmLs09: nine treatments, values offset + one decimal.
    treatment = np.tile(np.arange(9), replicates)
    up_and_down = np.repeat((np.arange(replicates) % 2) * 0.2 + 0.2, 9)
    y = offset + 0.1 * (treatment + 1) + up_and_down
    made = cells_of("y ~ 1 + (1|g)", pd.DataFrame({"y": y, "g": treatment}))
    exact = [Fraction(float(v)) for v in y]
    grand = sum(exact) / len(exact)
    within = between = Fraction(0)
    for k in range(9):
        own = exact[k::9]
        middle = sum(own) / len(own)
        within += sum((v - middle) ** 2 for v in own)
        between += len(own) * (middle - grand) ** 2
        error = Fraction(made.mean[k, 1]) + Fraction(made.shift[1]) - middle
        assert abs(error) < 1e-15
    assert made.within[1, 1] == pytest.approx(float(within), rel=1e-13)
    means = made.mean[:, 1] - made.mean[:, 1].mean()
    assert replicates * float(means @ means) == pytest.approx(float(between), rel=1e-13)


@pytest.mark.parametrize("ulps", [0, 1])
@pytest.mark.parametrize("offset", [0.1, 1e9])
def test_what_is_constant_within_groups_up_to_rounding_has_no_within_products(ulps, offset):
    data = eighths()
    z = np.random.default_rng(0).normal(size=6)[data["g"]] / 3 + offset
    z = z + ulps * (np.arange(len(z)) % 2) * np.spacing(z)
    made = cells_of("y ~ x + z + (1|g)", data.assign(z=z))
    assert np.all(made.within[2] == 0)
    assert np.all(made.within[0] == 0)
    assert made.within[1, 1] > 1


def test_small_variation_within_groups_is_kept():
    data = eighths()
    z = 1e3 + np.arange(len(data)) % 2 * 1e-9
    assert cells_of("y ~ z + (1|g)", data.assign(z=z)).within[1, 1] > 1e-18


@pytest.mark.parametrize(
    ("formula", "ones", "shifted"),
    [
        ("y ~ x + (1|g)", [1, 0], [False, True, True]),
        ("y ~ 0 + x + (1|g)", None, [False, False]),
        ("y ~ 0 + (1|g)", None, [False]),
        ("y ~ 0 + f + (1|g)", [1, 1, 1], [False, False, False, True]),
        ("y ~ 0 + f + x + (1|g)", [1, 1, 1, 0], [False, False, False, True, True]),
        ("y ~ 0 + x + f + (1|g)", [0, 1, 1, 1], [True, False, False, False, True]),
        ("y ~ 0 + one + (1|g)", [1], [False, True]),
        ("y ~ 0 + x + one + (1|g)", [0, 1], [True, False, True]),
        ("y ~ 0 + share + rest + (1|g)", [1, 1], [False, False, True]),
    ],
)
def test_offset_is_taken_up_wherever_the_fixed_part_holds_a_constant(formula, ones, shifted):
    data = eighths()
    share = np.arange(len(data)) % 4 / 4
    data = data.assign(one=1.0, share=share, rest=1 - share)
    made = columns(formula, data)
    cells = compress(made)
    if ones is None:
        assert cells.ones is None
    else:
        np.testing.assert_array_equal(cells.ones, ones)
        np.testing.assert_array_equal(made.X @ cells.ones, 1.0)
    expected = np.append(made.X.mean(axis=0), made.y.mean())
    np.testing.assert_array_equal(cells.shift, np.where(shifted, expected, 0.0))


def test_median_and_mad_are_of_the_response_in_users_units():
    data = make_frame()
    made = cells_of("y ~ x + (1|g)", data)
    assert made.median == np.median(data["y"])
    mad = stats.median_abs_deviation(data["y"])
    assert made.mad == pytest.approx(1.4826 * mad, rel=1e-14)


# -- design ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", FORMULAS)
def test_internal_columns_are_orthonormal_and_coefficients_are_least_squares(formula):
    data = make_frame(5)
    made, (design, response) = columns(formula, data), coordinates_of(formula, data)
    p = made.X.shape[1]
    assert (design.N, design.p, design.factors[0].levels) == (len(data), p, 8)
    internal = made.X @ design.T
    np.testing.assert_allclose(internal.T @ internal, np.eye(p), atol=1e-13)
    best = np.linalg.lstsq(made.X, made.y, rcond=None)[0]
    np.testing.assert_allclose(response.beta_ls, best, rtol=1e-11, atol=1e-12)
    assert design.log_det_T == pytest.approx(-0.5 * np.linalg.slogdet(made.X.T @ made.X)[1])


@pytest.mark.parametrize("formula", FORMULAS)
def test_blocks_are_those_of_the_rows_in_internal_coordinates(formula):
    data = make_frame(6)
    made, (design, response) = columns(formula, data), coordinates_of(formula, data)
    rows = np.column_stack([made.X @ design.T, made.y - made.X @ response.beta_ls])
    target, codes = target_of(formula, data), made.codes[0]
    sizes = np.bincount(codes)
    assert len(set(sizes)) > 2
    np.testing.assert_array_equal(design.count, sizes)
    np.testing.assert_array_equal(design.factors[0].codes, np.arange(8))
    np.testing.assert_array_equal(target.size, np.unique(sizes))
    np.testing.assert_array_equal(target.size[target.size_index], sizes)
    means = np.array([rows[codes == k].mean(axis=0) for k in range(8)])
    rest = rows - means[codes]
    mean, within = response.beside(design)
    np.testing.assert_allclose(mean, means, atol=1e-13)
    np.testing.assert_allclose(target.mean, means, atol=1e-13)
    np.testing.assert_allclose(within, rest.T @ rest, atol=1e-12)
    size = np.sqrt((rows[:, -1] ** 2).mean())
    assert response.spread(design.count) == pytest.approx(size, rel=1e-12)
    for d, size in enumerate(target.size):
        own = means[sizes == size]
        assert target.groups[d] == len(own)
        np.testing.assert_allclose(target.between[d], own.T @ own, atol=1e-12)


@pytest.mark.parametrize(
    "formula",
    ["y ~ x + z + (1|g)", "y ~ 0 + f + (1|g)", "y ~ 0 + f + x + (1|g)", "y ~ f*x + (1|g)"],
)
@pytest.mark.parametrize("offset", [1e6, 1e8, 1e12])
def test_offsets_cost_no_digits(formula, offset):
    data = eighths()
    plain_design, plain_response = coordinates_of(formula, data)
    moved, response = coordinates_of(formula, data.assign(y=data["y"] + offset))
    expected = plain_response.beside(plain_design)[1]
    np.testing.assert_allclose(response.beside(moved)[1], expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(
        target_of(formula, data.assign(y=data["y"] + offset)).between,
        target_of(formula, data).between,
        rtol=1e-11,
        atol=1e-12,
    )
    np.testing.assert_allclose(moved.T, plain_design.T, rtol=1e-12)


@pytest.mark.parametrize("offset", [1e6, 1e8, 1e10])
def test_offset_of_a_covariate_leaves_its_slope(offset):
    data = eighths()
    slope = coordinates_of("y ~ x + z + (1|g)", data)[1].beta_ls[1:]
    _, moved = coordinates_of("y ~ x + z + (1|g)", data.assign(x=data["x"] + offset))
    np.testing.assert_allclose(moved.beta_ls[1:], slope, rtol=1e-12)


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_design_is_the_same_whatever_the_response(formula):
    data = make_frame(7)
    other = data.assign(y=np.random.default_rng(4).gamma(2.0, size=len(data)))
    (one, own), (two, new) = coordinates_of(formula, data), coordinates_of(formula, other)
    for part in ("count", "mean", "within", "slopes", "slope_slope", "slope_x", "T"):
        np.testing.assert_array_equal(getattr(one, part), getattr(two, part))
    assert one.log_weights == two.log_weights
    assert abs(own.square - new.square) > 0.1
    assert np.abs(own.mean - new.mean).max() > 0.1


@pytest.mark.parametrize(
    ("fixed", "extra", "aliased"),
    [
        ("x + w", lambda d: 2 * d.x + 3, ("w",)),
        ("x + z + w", lambda d: d.x - d.z, ("w",)),
        ("f + w", lambda d: (d.f == "b") * 4.0, ("w",)),
        ("0 + f + w", lambda d: d.x * 0 + 7.0, ("w",)),
        ("w + x", lambda d: d.x * 1e-9, ("x",)),
        ("x + w", lambda d: d.x + 1e9, ("w",)),
        ("C(g) + w", lambda d: d.z, ("w",)),
        ("x + w", lambda d: d.x * 0 + 5.0, ("w",)),
        ("x + w", lambda d: d.x * 0 + 0.1, ("w",)),
        ("0 + x + w", lambda d: d.x * 0, ("w",)),
        ("x + w + I(w / 3)", lambda d: 3 * d.x, ("w", "I(w / 3)")),
    ],
)
def test_aliased_columns_are_named(fixed, extra, aliased):
    data = eighths()
    with pytest.raises(DataError) as caught:
        design_of(f"y ~ {fixed} + (1|g)", data.assign(w=extra(data)))
    assert caught.value.aliased == aliased
    assert f"Fixed-effect columns {', '.join(aliased)} are" in str(caught.value)
    assert "drop them" in str(caught.value)


def test_nearly_aliased_columns_are_kept():
    data = eighths()
    noise = np.random.default_rng(1).normal(size=len(data)) * 1e-5
    made = design_of("y ~ x + w + (1|g)", data.assign(w=data["x"] + noise))
    assert made.p == 3


@pytest.mark.filterwarnings("ignore::ranef.errors.SingleRowWarning")
def test_as_many_coefficients_as_rows_are_refused():
    data = pd.DataFrame({"y": [1.0, 2, 4, 3], "i": [0, 1, 2, 3], "g": [0, 0, 1, 1]})
    with pytest.raises(DataError, match="4 fixed-effect columns came with 4 rows; fewer columns"):
        design_of("y ~ C(i) + (1|g)", data)


@pytest.mark.parametrize(
    ("formula", "still"),
    [
        ("y ~ 1 + (1|g)", 1),
        ("y ~ x + z + (1|g)", 2),
        ("y ~ 0 + x + (1|g)", 0),
        ("y ~ 0 + f + (1|g)", 1),
        ("y ~ 0 + f + x + (1|g)", 1),
        ("y ~ 0 + x + f + z + (1|g)", 2),
        ("y ~ 0 + f + f:z + (1|g)", 2),
        ("y ~ C(g) + x + (1|g)", 8),
    ],
)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::ranef.errors.IdentifiabilityWarning")
def test_directions_without_spread_within_groups_have_exact_zeros(formula, still, seed):
    # Rounding there would stand in for information at a large variance ratio.
    data = make_frame(seed)
    design, response = coordinates_of(formula, data)
    zero = np.all(response.beside(design)[1] == 0, axis=0)
    assert zero[:still].all()
    assert zero.sum() == still
    rest = np.linalg.eigvalsh(design.within[still:, still:])
    assert np.all(rest > 1e-6)
    target = RandomIntercept(build_model(formula, data, {"1|g": "half_t(2.5)"})[0])
    profile = target.profile(np.array([-690.0, -50.0, 0.0, 30.0, 38.0, 50.0, 690.0]))
    assert np.isfinite(profile.log_det).all()
    assert np.all(profile.rest > 0)


# -- what units and offsets do to the posterior ----------------------------------------------------

PRIORS = {
    "half t": lambda unit: {"sigma": rf.half_t(2 * unit), "1|g": rf.half_t(3 * unit)},
    "inverse gamma": lambda unit: {
        "sigma": rf.variance(stats.invgamma(0.5, scale=unit**2)),
        "1|g": rf.variance(stats.invgamma(1.5, scale=2 * unit**2)),
    },
    "mixed": lambda unit: {"sigma": rf.jeffreys(), "1|g": stats.expon(scale=3 * unit)},
}


def draws(formula, data, priors):
    made = rf.fit(formula, data, priors=priors, draws=1000, seed=21, effects="draws")
    return made.draws["posterior"].to_dataset(), made.effects()


@cache
def plain_draws(formula, prior):
    """Draws from the data as they are."""
    return draws(formula, eighths(), PRIORS[prior](1.0))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(
    ("shift_y", "unit_y", "shift_x", "unit_x"),
    [
        (1e8, 1.0, 0.0, 1.0),
        (1e12, 1.0, 0.0, 1.0),
        (0.0, 1.0, 1e8, 1.0),
        (0.0, 1024.0, 0.0, 2.0**-20),
        (0.0, 2.0**-30, 0.0, 2.0**30),
        (-1e6, 0.25, 1e6, 4.0),
    ],
)
def test_posterior_follows_shifts_and_units(prior, shift_y, unit_y, shift_x, unit_x):
    data = eighths()
    moved = data.assign(y=data["y"] * unit_y + shift_y, x=data["x"] * unit_x + shift_x)
    formula = "y ~ x + z + (1|g)"
    a, effects_a = plain_draws(formula, prior)
    b, effects_b = draws(formula, moved, PRIORS[prior](unit_y))
    for name in ("sigma", "1|g_sigma", "1|g", "z"):
        np.testing.assert_allclose(b[name] / unit_y, a[name], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(b["x"] * unit_x / unit_y, a["x"], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(effects_b / unit_y, effects_a, rtol=1e-7, atol=1e-8)
    if shift_x == 0:
        # What the intercept can show of itself at its size.
        digits = 1e-7 + 4e-16 * abs(shift_y) / unit_y
        np.testing.assert_allclose((b["Intercept"] - shift_y) / unit_y, a["Intercept"], atol=digits)


@pytest.mark.parametrize("unit", [2.0**-10, 2.0**10])
def test_posterior_under_a_normal_prior_follows_units(unit):
    data = eighths()
    priors = {**PRIORS["half t"](1.0), "x": stats.norm(1, 0.5), "Intercept": stats.norm(8, 2)}
    moved = {
        **PRIORS["half t"](unit),
        "x": stats.norm(1, 0.5),
        "Intercept": stats.norm(8 * unit, 2 * unit),
    }
    a, _ = draws("y ~ x + (1|g)", data, priors)
    b, _ = draws("y ~ x + (1|g)", data.assign(y=data["y"] * unit, x=data["x"] * unit), moved)
    np.testing.assert_allclose(b["x"], a["x"], rtol=1e-7)
    np.testing.assert_allclose(b["Intercept"] / unit, a["Intercept"], rtol=1e-7)
    np.testing.assert_allclose(b["sigma"] / unit, a["sigma"], rtol=1e-7)


def test_ways_to_write_the_same_fixed_part_give_the_same_variances():
    a, _ = draws("y ~ f + x + (1|g)", make_frame(9), PRIORS["half t"](1.0))
    for other in ("0 + f + x", "0 + x + f", "C(f, Sum) + I(2 * x)"):
        b, _ = draws(f"y ~ {other} + (1|g)", make_frame(9), PRIORS["half t"](1.0))
        np.testing.assert_allclose(b["sigma"], a["sigma"], rtol=1e-8)
        np.testing.assert_allclose(b["1|g_sigma"], a["1|g_sigma"], rtol=1e-8)


@pytest.mark.parametrize("formula", ["y ~ 0 + f + x + (1|g)", "y ~ f*x + z + (1|g)"])
def test_order_of_rows_does_not_matter(formula):
    data = make_frame(9)
    a, effects_a = draws(formula, data, PRIORS["half t"](1.0))
    b, effects_b = draws(formula, data.sample(frac=1, random_state=1), PRIORS["half t"](1.0))
    for name in a.data_vars:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(effects_b, effects_a, rtol=1e-8, atol=1e-10)

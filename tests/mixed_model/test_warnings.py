"""Input that fits but hardly means what the formula says: what is refused, what is warned of."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, stats

import ranef as rf
from frames import make_frame
from helpers import DATA
from ranef.errors import (
    AliasedWarning,
    DataError,
    IdentifiabilityError,
    IdentifiabilityWarning,
    NestingWarning,
    PriorError,
    SingleRowWarning,
)
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate
from ranef.mixed_model.model import build_model
from ranef.numerics.linear_dependence import aliased_columns
from ranef.posterior.summary import count_levels


def phrase(formula, data, **arguments):
    """Texts of the warnings that reading data by a formula gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluate(parse_formula(formula), data, **arguments)
    return [(w.category, str(w.message)) for w in caught]


def groups(count=8, rows=5, seed=1):
    """Groups with a response, a covariate within and one between them."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(count), rows)
    y = rng.normal(size=len(g)) + rng.normal(size=count)[g]
    x, between = rng.normal(size=len(g)), rng.normal(size=count)[g]
    return pd.DataFrame({"y": y, "x": x, "between": between, "g": g})


# -- aliased fixed effects -------------------------------------------------------------------------


def lm_pivot(X):
    """Positions that a sequence of least-squares fits finds explained by earlier columns."""
    out, kept = [], []
    X = X / np.maximum(np.abs(X).max(axis=0), 1e-300)
    for j in range(X.shape[1]):
        others = X[:, kept]
        rest = X[:, j] - (others @ linalg.lstsq(others, X[:, j])[0] if kept else 0.0)
        if np.linalg.norm(rest) <= 1e-7 * np.linalg.norm(X[:, j]):
            out.append(j)
        else:
            kept.append(j)
    return tuple(out)


@pytest.mark.parametrize("seed", range(20))
def test_aliased_columns_are_those_that_earlier_ones_explain(seed):
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(40, 4))
    columns = [np.ones(40)] if seed % 2 else []
    for _ in range(9):
        some = rng.random(4) < 0.5
        columns.append(basis[:, some] @ rng.integers(-2, 3, some.sum()).astype(float))
    X = np.column_stack(columns) * 10.0 ** rng.integers(-6, 6, len(columns))
    found = aliased_columns(X)
    assert found == lm_pivot(X)
    left = np.delete(X, found, axis=1)
    unit = X / np.maximum(np.abs(X).max(axis=0), 1e-300)
    assert np.linalg.matrix_rank(unit) == left.shape[1]


def test_large_offsets_alias_nothing_and_multiples_do():
    x = np.arange(30.0)
    one = np.ones(30)
    assert aliased_columns(np.column_stack([one, x + 1e8, x**2 + 1e8])) == ()
    assert aliased_columns(np.column_stack([one, x + 1e8, 3 * x - 1e8])) == (2,)
    assert aliased_columns(np.column_stack([one, one * 7, x])) == (1,)
    assert aliased_columns(np.zeros((30, 1))) == (0,)
    assert aliased_columns(np.empty((30, 0))) == ()


def aliased_frame():
    data = make_frame()
    return data.assign(x2=2 * data["x"] - 3, f2=data["f"].str.upper(), one=4.0)


@pytest.mark.parametrize(
    ("full", "left", "names"),
    [
        ("x + x2", "x", ["x2"]),
        ("x2 + x + one", "x2", ["x", "one"]),
        ("f + x + f2", "f + x", ["f2[B]", "f2[C]"]),
        ("0 + one + f", "0 + one + C(f)", ["f[c]"]),
        ("0 + f + f2 + x", "0 + f + x", ["f2[B]", "f2[C]"]),
        ("poly(x, 2) + x", "poly(x, 2)", ["x"]),
    ],
)
def test_dropped_columns_leave_the_model_without_them(full, left, names):
    data = aliased_frame()
    with pytest.raises(DataError, match=r"let aliased='drop' leave them out"):
        build_model(f"y ~ {full} + (1|g)", data)
    with pytest.warns(AliasedWarning, match="of earlier ones and left out") as caught:
        made, _ = build_model(f"y ~ {full} + (1|g)", data, aliased="drop")
    assert ", ".join(names) in str(caught[0].message)
    assert made.spec.fixed.aliased == tuple(names)
    assert sorted(i for t in made.spec.fixed.terms for i in t.columns) == list(
        range(len(made.names))
    )
    values = {"1|g": 1.0, "sigma": 1.0}
    with pytest.warns(AliasedWarning):
        model = rf.model(f"y ~ {full} + (1|g)", data, aliased="drop")
    if "one" not in left:
        other = rf.model(f"y ~ {left} + (1|g)", data)
        assert model.inner.names == other.inner.names
        assert model.log_likelihood(values, reml=True) == pytest.approx(
            other.log_likelihood(values, reml=True), abs=1e-9
        )


def test_nothing_is_dropped_and_nothing_said_where_nothing_is_aliased():
    data = make_frame()
    assert phrase("y ~ x + f + z + (1|g)", data, aliased="drop") == []
    with pytest.raises(DataError, match="aliased is 'ignore'; 'refuse' or 'drop' is expected"):
        rf.fit("y ~ x + (1|g)", data, aliased="ignore")


def test_fit_tells_what_was_dropped(tmp_path):
    with pytest.warns(AliasedWarning, match="column x2 is a combination"):
        made = rf.fit("y ~ x + x2 + f + (1|g)", aliased_frame(), aliased="drop", seed=1)
    assert json.loads(made.draws.attrs["aliased"]) == ["x2"]
    assert "Left out     x2, determined by other columns" in str(made)
    assert list(made.summary().index[:4]) == ["Intercept", "x", "f[b]", "f[c]"]
    made.save(tmp_path / "fit.nc")
    assert str(rf.load(tmp_path / "fit.nc")) == str(made)
    assert "Left out" not in str(rf.fit("y ~ x + (1|g)", make_frame(), seed=1))


def test_command_line_drops_aliased_columns(tmp_path):
    aliased_frame().to_csv(tmp_path / "d.csv", index=False)
    command = [sys.executable, "-c", "from ranef.cli.commands import main; main()", "fit"]
    command += [str(tmp_path / "d.csv"), "y ~ x + x2 + (1|g)", "--out", str(tmp_path / "o")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "x2" in refused.stderr
    command += ["--aliased", "drop"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "warning: Fixed-effect column x2 is a combination of earlier ones" in made.stderr
    assert "Left out     x2" in made.stdout


# -- aliased and constant group effects ------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("(one|g)", "one|g"),
        ("(one||g)", "one|g"),
        ("(1|g) + (0 + one|g)", "one|g"),
        ("(x + x2|g)", "x2|g"),
        ("(0 + x + x3||g)", "x3|g"),
        ("(0 + x|g) + (0 + x3|g)", "x3|g"),
        ("(0 + none|g)", "none|g"),
    ],
)
def test_group_effects_of_which_only_a_sum_is_seen_are_refused(term, name):
    data = groups().assign(one=3.0, none=0.0)
    data = data.assign(x2=data["x"] - 1, x3=2 * data["x"])
    with pytest.raises(DataError, match="Group effect") as caught:
        build_model(f"y ~ 1 + {term}", data)
    assert repr(name) in str(caught.value)
    assert caught.value.aliased == (name,)


@pytest.mark.parametrize(
    "term", ["(0 + f|g)", "(1|g) + (0 + f||g)", "(f|g)", "(0 + one|g)", "(x|g)", "(x + x2||g)"]
)
def test_group_effects_that_can_be_told_apart_are_fitted_quietly(term):
    data = groups().assign(one=3.0, f=list("abcab") * 8)
    data = data.assign(x2=data["x"] - 1)
    assert build_model(f"y ~ 1 + {term}", data)[0].parameters.ratios >= 1


def test_slope_of_what_is_constant_within_groups_is_told():
    data = groups()
    for term in ("(between|g)", "(between||g)", "(1|g) + (0 + between|g)"):
        with pytest.warns(IdentifiabilityWarning, match="do not vary within any level of 'g'"):
            made = build_model(f"y ~ 1 + {term}", data)[0]
        assert made.parameters.ratios in (2, 3)
    build_model("y ~ 1 + (x|g)", data)  # quietly
    build_model("y ~ 1 + (0 + between|g)", data)
    mixed = data.assign(between=data["between"].where(data.index != 3, 9.0))
    build_model("y ~ 1 + (between|g)", mixed)


def test_correlation_that_two_values_cannot_tell_is_refused():
    # Variances of two kinds of groups are two numbers; SDs and a correlation are three.
    data = groups().assign(kind=lambda d: d["g"] % 2)
    with pytest.raises(IdentifiabilityError, match="not told apart by the few values") as caught:
        build_model("y ~ kind + (kind|g)", data)
    assert caught.value.parameters == ("1|g", "kind|g", "kind|g_corr")
    stated = {"1|g": "half_t(1)", "kind|g": "half_t(1)", "kind|g_corr": "lkj(2)"}
    with pytest.warns(IdentifiabilityWarning, match="correlations are not told apart"):
        build_model("y ~ kind + (kind|g)", data, stated)
    with pytest.warns(IdentifiabilityWarning, match="nothing but how the spread between levels"):
        build_model("y ~ kind + (kind||g)", data)
    # Each kind with a variance of its own is identified.
    data["kind"] = np.where(data["kind"] == 0, "a", "b")
    build_model("y ~ kind + (0 + kind||g)", data)


# -- grouping columns ------------------------------------------------------------------------------


def test_measurements_are_no_grouping_factor():
    data = groups()
    with pytest.raises(DataError, match=r"'x' holds 40 different decimal numbers in 40 rows") as c:
        rf.fit("y ~ 1 + (1|x)", data)
    assert "Did you mean a slope, '(x|g)', or a fixed effect, '+ x'?" in str(c.value)
    assert (c.value.column, c.value.levels) == ("x", 40)
    labels = data.assign(x=(data["g"] + 0.5).astype(str))
    assert build_model("y ~ 1 + (1|x)", labels)[0].spec.factors[0].levels[0] == "0.5"
    category = data.assign(x=pd.Categorical(data["g"] + 0.5))
    assert len(build_model("y ~ 1 + (1|x)", category)[0].spec.factors[0].levels) == 8
    whole = data.assign(x=data["g"].astype(float))
    assert build_model("y ~ 1 + (1|x)", whole)[0].spec.factors[0].levels[:2] == ("0", "1")


def test_levels_of_fixed_factors_in_one_row_are_told():
    data = groups().assign(f=["a", "b", "c", "c"] * 10)
    assert phrase("y ~ f + (1|g)", data) == []
    for name, row in (("z", 5), ("0", 5)):  # another level, the first level
        frame = data.assign(f=data["f"].where(data.index != row, name))
        for formula in ("y ~ f + (1|g)", "y ~ 0 + f + (1|g)", "y ~ C(f) + (1|g)"):
            ((category, message),) = phrase(formula, frame)
            assert category is SingleRowWarning
            assert message.startswith(f"Level {name!r} of ")
            assert "is seen in a single row" in message
    two = data.assign(f=[*data["f"][:-2], "y", "z"])
    ((_, message),) = phrase("y ~ f + (1|g)", two)
    assert message.startswith("Levels 'y' of 'f', 'z' of 'f' are seen in a single row each")
    dummy = data.assign(d=(data.index == 3).astype(float))
    assert phrase("y ~ d + poly(x, 2) + (1|g)", dummy) == []


# -- nesting ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pastes():
    return pd.read_csv(DATA / "Pastes.csv")


@pytest.mark.parametrize(
    ("formula", "asked"),
    [
        ("strength ~ 1 + (1|batch) + (1|cask)", True),
        ("strength ~ 1 + (1|cask) + (1|batch)", True),
        ("strength ~ 1 + (1|batch/cask)", False),
        ("strength ~ 1 + (1|batch) + (1|sample)", False),
        ("strength ~ 1 + (1|batch) + (1|cask) + (1|batch:cask)", False),
        ("strength ~ 1 + (1|cask)", False),
    ],
)
def test_casks_of_the_same_name_in_batches_of_different_numbers_are_asked_about(
    formula, asked, pastes
):
    few = pastes["batch"].isin(list("BDFHI")) & (pastes["cask"] == "c")
    found = phrase(formula, pastes[~few].reset_index(drop=True))
    assert len(found) == asked
    if asked:
        assert found[0][0] is NestingWarning
        assert "The levels of 'cask' (a, b, c) start anew in every level of 'batch'" in found[0][1]
        assert "write (1|batch/cask)" in found[0][1]


def test_crossed_designs_with_one_row_for_each_pair_are_not_asked_about():
    penicillin = pd.read_csv(DATA / "Penicillin.csv")
    assert phrase("diameter ~ 1 + (1|plate) + (1|sample)", penicillin) == []


def test_partly_crossed_labels_are_not_asked_about():
    # As students and lecturers: numbers in a run, but every pair is one of many.
    rng = np.random.default_rng(1)
    s, d = rng.integers(1, 200, 4000), rng.integers(1, 60, 4000)
    data = pd.DataFrame({"y": rng.normal(size=4000), "s": s, "d": d, "dept": d % 5})
    data = pd.concat([data, data])
    assert phrase("y ~ 1 + (1|s) + (1|d)", data) == []
    assert phrase("y ~ 1 + (1|d) + (1|dept)", data) == []


def pupils(rng, label=lambda k: k + 1):
    """Classes of unequal size whose pupils are numbered anew, three rows each."""
    rows = [(c, label(k)) for c in range(12) for k in range(rng.integers(4, 11)) for _ in range(3)]
    data = pd.DataFrame(rows, columns=["cls", "pupil"])
    return data.assign(y=rng.normal(size=len(data)))


def test_pupils_numbered_anew_in_each_class_are_asked_about():
    rng = np.random.default_rng(1)
    ((_, message),) = phrase("y ~ 1 + (1|cls) + (1|pupil)", pupils(rng))
    assert "The levels of 'pupil' (1, 2, 3, …) start anew in every level of 'cls'" in message
    named = pupils(rng, label=lambda k: f"name {k}")
    named["cls"] = [f"class {c}" for c in named["cls"]]
    assert phrase("y ~ 1 + (1|cls) + (1|pupil)", named) == []
    yes_and_no = named.assign(pupil=lambda d: np.arange(len(d)) % 2)
    assert phrase("y ~ 1 + (1|cls) + (1|pupil)", yes_and_no) == []


def test_nesting_warning_can_be_silenced(pastes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", rf.NestingWarning)
        build_model(
            "strength ~ 1 + (1|batch) + (1|cask)", pastes.drop(index=[4, 5, 16, 17, 28, 29])
        )


# -- fixed effects that leave nothing to the groups ------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        ("y ~ C(g) + (1|g)", ("1|g",)),
        ("y ~ x + 0 + C(g) + (1|g)", ("1|g",)),
        ("y ~ C(g) + (1|g) + (1|h)", ("1|g",)),
        ("y ~ C(g) + (x|g)", ("1|g",)),
        ("y ~ C(g)*x + (x||g)", ("1|g", "x|g")),
        ("y ~ C(g):x + (0 + x|g)", ("x|g",)),
        ("y ~ C(g):C(h) + (1|g)", ("1|g",)),
    ],
)
def test_a_coefficient_for_every_level_leaves_its_effect_to_the_prior(formula, names):
    data = groups().assign(h=list("uvwuv") * 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingleRowWarning)
        warnings.simplefilter("ignore", NestingWarning)
        with pytest.raises(IdentifiabilityError, match="hold a coefficient for every level") as c:
            build_model(formula, data)
        assert c.value.parameters == names
        stated = dict.fromkeys(names, "half_t(1)")
        with pytest.warns(IdentifiabilityWarning, match="hold a coefficient for every level"):
            build_model(formula, data, stated)


def test_posterior_of_an_effect_that_fixed_effects_take_is_its_prior():
    """What the refusal says is so; and not where a coefficient is missing."""
    data, prior = groups(count=4), stats.halfnorm(scale=2)
    with pytest.warns(IdentifiabilityWarning):
        made = rf.fit("y ~ C(g) + (1|g)", data, priors={"1|g": prior}, draws=20_000, seed=1)
    draws = made.draws["posterior"]["1|g_sigma"].to_numpy().ravel()
    for p in (0.1, 0.5, 0.9):
        share = np.mean(draws <= prior.ppf(p))
        assert abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / 18_000)
    data["most"] = np.minimum(data["g"], 2)
    other = rf.fit("y ~ C(most) + (1|g)", data, priors={"1|g": prior}, draws=20_000, seed=1)
    share = np.mean(other.draws["posterior"]["1|g_sigma"].to_numpy() <= prior.ppf(0.5))
    assert abs(share - 0.5) > 10 * 0.5 / np.sqrt(18_000)


def test_proper_coefficients_leave_the_effect_something():
    data = groups()
    priors = {"C(g)": "norm(0, 1)"}
    assert build_model("y ~ C(g) + (1|g)", data, priors)[0].names[1] == "C(g)[1]"


def test_single_rows_of_unequal_weight_are_told_apart_by_their_spread():
    data = groups(rows=1, count=30).assign(w=np.linspace(0.5, 4, 30), v=2.0)
    with pytest.raises(IdentifiabilityError, match="so only the sum sigma"):
        build_model("y ~ 1 + (1|g)", data)
    with pytest.raises(IdentifiabilityError, match="so only the sum sigma"):
        build_model("y ~ 1 + (1|g)", data, weights="v")
    with pytest.warns(IdentifiabilityWarning, match="how the spread of the rows changes with thei"):
        build_model("y ~ 1 + (1|g)", data, weights="w")


# -- words and arguments ---------------------------------------------------------------------------


def test_one_level_is_one_level():
    assert count_levels({"g": 1}) == "1 level of g"
    assert count_levels({"g": 1200, "h": 2}) == "1,200 levels of g, 2 levels of h"
    with pytest.warns(IdentifiabilityWarning, match="has a single level"):
        model = rf.model("y ~ 1 + (1|g)", groups(count=1), priors={"1|g": "half_t(1)"})
    assert "5 rows, 1 level of g\n" in str(model)


@pytest.mark.parametrize("priors", [["a"], "half_t(3)", 3, {"sigma"}])
def test_priors_that_are_no_mapping_are_refused_before_the_data_are_read(priors):
    with pytest.raises(PriorError, match=r"priors is .*; a mapping is expected"):
        rf.fit("y ~ 1 + (1|g)", "no file", priors=priors)

"""A loaded fit holds the same model, rows and draws as the one that was saved."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef as rf
from ranef.common.stored_names import stored_name
from ranef.posterior.draws import posterior_draws

CASES = {
    "slopes": ("`reaction/ms` ~ x + f + (x|g)", {}),
    "shares": ("y ~ x + (1|g) + (0 + x|h/k)", {"priors": {"shares": 1}}),
    "weights": ("y ~ poly(x, 2) + offset(z) + (1|g)", {"weights": "w"}),
    "errors": ("y ~ x + (1|g)", {"se": "w"}),
    "aliased": ("y ~ x + double + (1|g)", {"aliased": "drop", "priors": {"x": "norm(0, 3)"}}),
    "wishart": ("y ~ b + (x|g)", {"priors": {"x|g": "invwishart(5, scale=[[2, 0], [0, 1]])"}}),
}


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = 120
    g = rng.integers(0, 10, n)
    x = rng.normal(size=n)
    y = 1 + x + rng.normal(size=10)[g] + rng.normal(size=n)
    return pd.DataFrame(
        {
            "y": np.where(np.arange(n) == 3, np.nan, y),
            "reaction/ms": y,
            "x": x,
            "z": rng.normal(size=n),
            "double": 2 * x,
            "w": rng.uniform(0.5, 2, n),
            "b": rng.random(n) < 0.4,
            "f": pd.Categorical(rng.choice(["low", "high", "mid"], n), ["low", "mid", "high"]),
            "g": g,
            "h": rng.choice(["u", "v", "w", "t", "s"], n),
            "k": rng.integers(0, 4, n),
        }
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_a_loaded_fit_has_the_same_model_and_draws(case, tmp_path):
    formula, options = CASES[case]
    fit = rf.fit(formula, frame(), seed=1, draws=400, **options)
    fit.save(tmp_path / "fit.nc")
    again = rf.load(tmp_path / "fit.nc")
    assert again.source.model.names == fit.source.model.names
    assert again.source.model.spec.factors == fit.source.model.spec.factors
    assert again.source.model.prior_texts() == fit.source.model.prior_texts()
    np.testing.assert_array_equal(again.source.rows.X, fit.source.rows.X)
    ours, theirs = (posterior_draws(f.draws, f.source.model) for f in (fit, again))
    np.testing.assert_array_equal(ours.theta, theirs.theta)
    np.testing.assert_array_equal(ours.beta, theirs.beta)
    # What the sampler drew is kept; a loaded fit reads it off the labels, to rounding.
    kept = fit.posterior_draws
    assert kept is fit.posterior_draws
    np.testing.assert_allclose(kept.theta, theirs.theta, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(again.posterior_draws.theta, theirs.theta)
    for name, values in fit.source.model.parameters.scales(kept.theta).items():
        stored = fit.draws["posterior"][stored_name(f"{name}_sigma")].to_numpy()
        np.testing.assert_array_equal(values, stored.ravel())
    log_f = ours.target.log_density(ours.theta)
    np.testing.assert_allclose(theirs.target.log_density(theirs.theta), log_f, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_vectors_read_from_the_tree_have_the_recorded_density():
    fit = rf.fit("y ~ x + (x + z|g)", frame(), seed=1, draws=400)
    drawn = posterior_draws(fit.draws, fit.source.model)
    recorded = fit.draws["sample_stats"]["lp"].to_numpy().ravel()
    np.testing.assert_allclose(drawn.target.log_density(drawn.theta), recorded, rtol=1e-9)
    X, rows = drawn.target.model.design.T, fit.source.rows
    fitted = rows.X @ (fit.source.model.response.beta_ls + drawn.internal @ X.T).T
    np.testing.assert_allclose(fitted, rows.X @ drawn.beta.T, rtol=1e-9)


def test_a_file_without_rows_says_so(tmp_path):
    fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    with pytest.raises(rf.DataError, match="without its rows"):
        rf.Fit(fit.draws).save(tmp_path / "fit.nc")

"""Known errors, crossed factors and slopes on nine rows, which ended in a failed factorisation."""

import numpy as np
import pytest

import ranef as rf

DATA = {
    "y": [0.26, -1.98, -1.99, 2.36, -1.78, 0.17, -0.85, -3.43, -0.37],
    "x": [-1.53, 0.56, 0.3, -1.69, 0.68, -1.43, 0.47, 0.5, -0.43],
    "g": [0, 0, 1, 1, 1, 2, 3, 4, 5],
    "h": [0, 1, 2, 3, 0, 3, 0, 1, 2],
    "s": [1.07, 0.55, 1.07, 1.7, 1.44, 0.83, 0.8, 1.7, 0.78],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", [2, 3, 5, 7])
def test_every_seed_gives_finite_draws(seed):
    fit = rf.fit("y ~ x + (x|g) + (1|h)", DATA, se="s", seed=seed)
    summary = fit.summary()
    assert np.isfinite(summary.to_numpy()).all()
    # Nine rows tell little: the coefficients' posterior lies around least squares, far within.
    first = rf.fit("y ~ x + (x|g) + (1|h)", DATA, se="s", seed=1).summary()
    gap = (summary["mean"] - first["mean"]).loc[["Intercept", "x"]]
    ess = np.minimum(summary["ess"], first["ess"]).loc[["Intercept", "x"]]
    error = first["sd"].loc[["Intercept", "x"]] * np.sqrt(2 / ess)
    assert (abs(gap) < 4 * error).all()

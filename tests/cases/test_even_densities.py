"""Leave-one-out densities that do not depend on the draws have equal weights, not none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import ranef as rf


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("s", [np.full(9, 0.5), np.linspace(0.4, 0.6, 9)])
def test_rows_that_fixed_effects_and_known_errors_predict_alone(s):
    """Level u of f sits in group a alone, so what its rows say of each other is no group's effect.

    Of equal errors the densities of rows 1 and 2 are -0.7404 and -0.5140.
    """
    y = np.random.default_rng(1).normal(size=9)
    data = {"y": y, "g": list("aaabbbccc"), "f": list("uuuvwvwvw"), "s": s}
    loo = rf.fit("y ~ f + (1|g)", data, se="s", seed=1, progress=False).loo()
    for i in range(3):
        others = np.setdiff1d(np.arange(3), i)
        w = s[others] ** -2
        mean, sd = y[others] @ w / w.sum(), np.sqrt(1 / w.sum() + s[i] ** 2)
        assert float(loo.elpd_i[i]) == pytest.approx(stats.norm(mean, sd).logpdf(y[i]), abs=1e-6)
    assert np.isfinite(loo.elpd_i).all()
    assert float(loo.elpd) == pytest.approx(float(loo.elpd_i.sum()))
    if np.ptp(s) == 0:
        np.testing.assert_allclose(loo.elpd_i[1:3], [-0.7404, -0.5140], atol=5e-5)

"""Files of fits by a sampler that the package no longer has."""

from __future__ import annotations

from pathlib import Path

import pytest

import ranef as rf
from ranef.report import fit_page


@pytest.fixture(scope="module")
def chains() -> rf.Fit:
    return rf.fit(
        "Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), method="gibbs", draws=8000, seed=1
    )


def saved(fit: rf.Fit, path: Path, divergences: int) -> Path:
    """Write a fit as one by NUTS was written."""
    tree = fit.draws.copy()
    tree.attrs.update(method="nuts", divergences=divergences)
    rf.Fit(tree, fit.source).save(path)
    return path


def test_a_fit_by_nuts_still_answers(chains, tmp_path):
    loaded = rf.load(saved(chains, tmp_path / "fit.nc", 0))
    assert loaded.certificate.method == "nuts"
    assert loaded.certificate.r_hat == chains.certificate.r_hat
    assert loaded.certificate.trusted
    assert "8,000 draws, effective" in str(loaded)
    assert loaded.summary().equals(chains.summary())
    assert str(loaded.variance_shares()) == str(chains.variance_shares())
    assert "effective" in fit_page(loaded)


def test_a_fit_by_nuts_that_was_not_to_be_trusted_is_refused(chains, tmp_path):
    path = saved(chains, tmp_path / "fit.nc", 3)
    with pytest.raises(rf.DataError) as error:
        rf.load(path)
    assert str(error.value) == (
        f"File '{path}' holds draws by NUTS with 3 divergent trajectories, not to be trusted; fit "
        "again with method='exact'."
    )

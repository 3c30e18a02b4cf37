"""Fixtures that several test files share; pictures are drawn without a screen."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import pytest
from hypothesis import settings

import ranef as rf
from frames import make_frame

mpl.use("Agg")
# The first example of a test pays for imports, and machines differ: no limit on time.
settings.register_profile("ranef", deadline=None, derandomize=True)
settings.load_profile("ranef")


@pytest.fixture
def frame() -> pd.DataFrame:
    """Give each test its own copy, which it may change."""
    return make_frame()


@pytest.fixture(scope="session")
def fitted() -> rf.Fit:
    """Fit a factor, a covariate and effects, drawn exactly."""
    return rf.fit("y ~ x + f + (1|g)", make_frame(), draws=2000, effects="draws", seed=11)

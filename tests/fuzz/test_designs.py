"""A few random designs against the dense oracle; `make fuzz` goes through as many as asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fuzz.designs import TOLERANCE, compare, draw_design, failures, oracle_of


@pytest.mark.parametrize("first", [0, 10, 20, 30, 827, 2299])
def test_random_designs_agree_with_dense_matrices(first):
    for seed in range(first, first + (1 if first > 100 else 10)):
        design = draw_design(seed)
        assert not failures(design), str(design)


def test_the_comparison_sees_a_wrong_design():
    """Residual variances off by a thousandth show in every quantity."""
    design = draw_design(3)
    dense = oracle_of(design)
    errors = compare(design, replace(dense, noise=1.001 * dense.noise))
    assert min(errors.values()) > TOLERANCE

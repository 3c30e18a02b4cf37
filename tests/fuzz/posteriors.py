"""Draws of ranef against posteriors summed on a grid, in Monte Carlo standard errors."""

from __future__ import annotations

import warnings

import numpy as np

import ranef as rf
from fuzz.grid import draw_small_design, grid_posterior
from helpers import errors_of

# No single score is beyond the first; the root mean square of many right ones is within the others.
LARGEST, SPREAD = 4.5, (0.85, 1.15)


def log_draws(design):
    """Draws of the log SDs by name, shape (chains, draws)."""
    priors = {name: rf.half_t(scale, df) for name, (scale, df) in design.priors.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rf.fit(
            design.formula,
            design.table,
            priors=priors,
            seed=design.seed,
            progress=False,
            **design.options,
        )
    names = {"sigma": "sigma", "1|g": "1|g_sigma"}
    draws = fit.draws["posterior"]
    return {name: np.log(draws[names[name]].to_numpy()) for name in design.priors}


def scores(seed):
    """A design and its errors by parameter and functional, in Monte Carlo standard errors."""
    design = draw_small_design(seed)
    truth, draws = grid_posterior(design), log_draws(design)
    return design, {name: errors_of(draws[name], truth[name]) for name in draws}


def too_large(errors):
    """What is wrong with one design: lines of text, none where all is well."""
    return [
        f"{functional} of log {name} off by {z:.1f} standard errors"
        for name, found in errors.items()
        for functional, z in found.items()
        if not abs(z) < LARGEST
    ]


def root_mean_square(errors):
    """Of all scores of many designs."""
    z = [z for each in errors for found in each.values() for z in found.values()]
    return float(np.sqrt(np.mean(np.square(z))))

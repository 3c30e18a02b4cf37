"""The same design written another way: rows permuted, columns renamed, units of powers of two.

The log likelihood changes by the units alone, and so do the draws of a small model.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import numpy as np

import ranef as rf
from fuzz.designs import FIXED, draw_design, model_of
from fuzz.grid import draw_small_design

TOLERANCE, DRAWS_TOLERANCE = 1e-9, 1e-6
NAMES = {c: f"{c}_2" for c in "yxzghkwo"}


def renamed(text):
    """A formula or name with the columns' new names."""
    return re.sub(r"\b[yxzghkwo]\b", lambda found: NAMES[found[0]], text)


def powers(rng):
    """Units of the response and the covariates."""
    return {name: 2.0 ** rng.integers(-12, 13) for name in "yxz"}


def rewritten_table(table, units, response_like, rng):
    """Columns in other units, under other names, rows in another order."""
    order = rng.permutation(len(table["y"]))
    units = units | dict.fromkeys(response_like, units["y"])
    return {NAMES[name]: (v * units.get(name, 1))[order] for name, v in table.items()}


def likelihoods(design, values):
    """Log likelihoods of a design at values, ML and REML; None where it is refused in words."""
    priors = {name: "half_t(1)" for name in values if np.ndim(values[name]) == 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model_of(design, priors)
        if model is None:
            return None
        return [model.log_likelihood(values, reml=reml) for reml in (False, True)]


def likelihood_change(seed):
    """Relative change of the log likelihoods beyond that of the units, 0 where both are refused."""
    design, rng = draw_design(seed), np.random.default_rng([seed, 1])
    units = powers(rng)
    like = ["o", "w"] if "se" in design.options else ["o"]
    values, scale = (
        {},
        {"1": units["y"], "x": units["y"] / units["x"], "z": units["y"] / units["z"]},
    )
    for name, value in design.values.items():
        if name == "sigma":
            values[name] = value * units["y"]
        elif np.ndim(value) == 2:
            (columns,) = [c for f, c, S in design.terms if S is value]
            size = np.array([scale[c] for c in columns])
            values[name.replace("x+z|", "x + z|")] = value * np.outer(size, size)
        else:
            values[name] = value * scale[name.partition("|")[0]]
    other = replace(
        design,
        formula=renamed(design.formula),
        table=rewritten_table(design.table, units, like, rng),
        options={k: renamed(v) for k, v in design.options.items()},
    )
    here = likelihoods(design, {k.replace("x+z|", "x + z|"): v for k, v in design.values.items()})
    there = likelihoods(other, {k if k == "sigma" else renamed(k): v for k, v in values.items()})
    if here is None or there is None:
        return 0.0 if here is there else np.inf
    used = {"y", *FIXED[design.fixed], *(c for _, cs, _ in design.terms for c in cs if c != "1")}
    n = np.all([np.isfinite(design.table[c]) for c in used], axis=0).sum()
    columns = [units[c] for c in FIXED[design.fixed]]
    columns += [units["x"] * units["z"]] if "*" in design.fixed else []
    p = len(columns) + (not design.fixed.startswith("0"))
    y = np.log(units["y"])
    expected = [here[0] - n * y, here[1] - (n - p) * y - np.sum(np.log(columns))]
    return max(abs(a - b) / (1 + abs(b)) for a, b in zip(there, expected, strict=True))


def draws_change(seed):
    """Largest change of draws of a small model, relative to each parameter's SD, beyond units."""
    design, rng = draw_small_design(seed), np.random.default_rng([seed, 1])
    units = powers(rng)
    like = ["w"] if design.kind == "se" else []
    priors = {k: rf.half_t(s, df) for k, (s, df) in design.priors.items()}
    scaled = {
        k if k == "sigma" else renamed(k): rf.half_t(s * units["y"], df)
        for k, (s, df) in design.priors.items()
    }
    table = rewritten_table(design.table, units, like, rng)
    options = {k: renamed(v) for k, v in design.options.items()}
    worst = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same = {"draws": 400, "seed": seed, "progress": False}
        here = rf.fit(design.formula, design.table, priors=priors, **design.options, **same)
        there = rf.fit(renamed(design.formula), table, priors=scaled, **options, **same)
    for name in ("Intercept", "x", "1|g_sigma", *([] if design.kind == "se" else ["sigma"])):
        size = units["y"] / (units["x"] if name == "x" else 1)
        ours = here.draws["posterior"][name].to_numpy()
        other = name if name in ("Intercept", "sigma") else renamed(name.removesuffix("_sigma"))
        other += "_sigma" if name.endswith("g_sigma") else ""
        gap = there.draws["posterior"][other].to_numpy() / size - ours
        worst = max(worst, float(np.abs(gap).max() / ours.std()))
    return worst


def likelihood_failures(seed):
    """A design and what is wrong with it: lines of text, none where all is well."""
    change = likelihood_change(seed)
    wrong = [] if change < TOLERANCE else [f"log likelihood changes by {change:.2g}"]
    return draw_design(seed), wrong


def draws_failures(seed):
    """The same of a small model's draws."""
    change = draws_change(seed)
    wrong = [] if change < DRAWS_TOLERANCE else [f"draws change by {change:.2g} of their SDs"]
    return draw_small_design(seed), wrong

"""Random designs, each from one seed, and what ranef says of them against the dense oracle.

Unbalanced, crossed and nested factors, slopes, weights, known standard errors, offsets, units,
groups of one row, missing rows. `compare` gives the largest errors by quantity, in units in which
one is large: nats, SDs of effects, SDs of the response.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import ranef as rf
from fuzz.oracle import Oracle, Term
from ranef.answers.leave_one_out.rows import row_densities
from ranef.errors import RanefError

# What a right answer may differ by; the oracle's own rounding grows with the variance ratios.
TOLERANCE = 2e-6

GROUPS = {
    "(1|g)": [("g", ("1",), False)],
    "(x|g)": [("g", ("1", "x"), True)],
    "(x||g)": [("g", ("1", "x"), False)],
    "(0 + x|g)": [("g", ("x",), False)],
    "(x + z|g)": [("g", ("1", "x", "z"), True)],
    "(1|g) + (1|h)": [("g", ("1",), False), ("h", ("1",), False)],
    "(x|g) + (1|h)": [("g", ("1", "x"), True), ("h", ("1",), False)],
    "(x|g) + (x|h)": [("g", ("1", "x"), True), ("h", ("1", "x"), True)],
    "(1|g) + (0 + z|h) + (1|k)": [("g", ("1",), False), ("h", ("z",), False), ("k", ("1",), False)],
    "(1|h/k)": [("h", ("1",), False), ("h:k", ("1",), False)],
}
FIXED = {"1": (), "x": ("x",), "x + z": ("x", "z"), "0 + x": ("x",), "0": (), "x*z": ("x", "z")}


@dataclass
class Design:
    """A table, a formula, and values of the variance parameters."""

    seed: int
    formula: str
    table: dict[str, np.ndarray]
    values: dict[str, Any]
    options: dict[str, str]
    terms: list[tuple[str, tuple[str, ...], np.ndarray]] = field(default_factory=list)
    fixed: str = "1"

    def __str__(self):
        return f"seed {self.seed}: {self.formula!r} {self.options} {len(self.table['y'])} rows"


def draw_design(seed):
    """Draw one design."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(8, 60))
    units = 10.0 ** rng.integers(-9, 10, 4) if rng.random() < 0.5 else np.ones(4)
    x_unit, z_unit, y_unit, w_unit = units
    levels = {name: int(rng.integers(2, 9)) for name in "ghk"}
    table = {name: rng.integers(0, count, n) for name, count in levels.items()}
    if rng.random() < 0.1:
        table["g"] = np.arange(n)  # one row per group
    if rng.random() < 0.3:
        table["g"] = np.minimum(rng.geometric(0.3, n), 8)  # very unbalanced
    shift = rng.choice([0.0, 3.0, 300.0])
    spread = np.exp(rng.normal(size=n)) if rng.random() < 0.3 else 1.0
    table["x"] = x_unit * (shift + spread * rng.normal(size=n))
    if rng.random() < 0.3:
        table["x"] = x_unit * (shift + rng.integers(0, 4, n))
    table["z"] = z_unit * rng.normal(size=n)
    table["y"] = y_unit * (rng.choice([0.0, 50.0]) + rng.normal(size=n) * rng.choice([1.0, 5.0]))
    groups, fixed = rng.choice(list(GROUPS)), rng.choice(list(FIXED))
    formula, options = f"y ~ {fixed} + {groups}", {}
    kind = rng.choice(["plain", "weights", "se"])
    if kind == "weights":
        table["w"] = w_unit * np.exp(rng.normal(size=n) * rng.choice([0.5, 3.0]))
        options["weights"] = "w"
    if kind == "se":
        table["w"] = y_unit * rng.uniform(0.3, 3, n)
        options["se"] = "w"
    if rng.random() < 0.3:
        table["o"] = y_unit * rng.normal(size=n)
        formula += " + offset(o)"
    if rng.random() < 0.3:
        for name in ("x", "y"):
            table[name] = np.where(rng.random(n) < 0.1, np.nan, table[name])
    sigma = y_unit * np.exp(rng.normal()) * (np.sqrt(w_unit) if kind == "weights" else 1.0)
    values, terms = {} if kind == "se" else {"sigma": sigma}, []
    unit = {"1": 1.0, "x": x_unit * max(1.0, shift), "z": z_unit}
    for factor, columns, correlated in GROUPS[groups]:
        sd = y_unit * 10.0 ** rng.uniform(-2, 2, len(columns)) / [unit[c] for c in columns]
        A = rng.normal(size=(len(sd), len(sd) + 1))
        S = A @ A.T
        S /= np.sqrt(np.outer(np.diag(S), np.diag(S)))
        S = (S if correlated else np.eye(len(sd))) * np.outer(sd, sd)
        terms.append((factor, columns, S))
        if correlated:
            values["+".join(c for c in columns if c != "1") + f"|{factor}"] = S
        else:
            values |= {f"{c}|{factor}": s for c, s in zip(columns, sd, strict=True)}
    return Design(seed, formula, table, values, options, terms, fixed)


def oracle_of(design):
    """The dense model of a design's complete rows, and these."""
    named = {c for _, columns, _ in design.terms for c in columns} | set(FIXED[design.fixed])
    used = ["y", *(c for c in ("x", "z") if c in named)]
    keep = np.all([np.isfinite(design.table[c]) for c in used], axis=0)
    t = {k: v[keep] for k, v in design.table.items()}
    n = int(keep.sum())
    X = [t[c] for c in FIXED[design.fixed]] + ([t["x"] * t["z"]] if "*" in design.fixed else [])
    X = ([] if design.fixed.startswith("0") else [np.ones(n)]) + X
    # Under se= and weights= the residual variances are known multiples.
    if "se" in design.options:
        noise = t["w"] ** 2
    else:
        noise = design.values["sigma"] ** 2 / (
            t["w"] if "weights" in design.options else np.ones(n)
        )
    terms = []
    for factor, columns, S in design.terms:
        labels = np.column_stack([t[f] for f in factor.split(":")])
        key = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
        Z = np.column_stack([np.ones(n) if c == "1" else t[c] for c in columns])
        terms.append(Term(Z, key, S))
    y = t["y"] - t.get("o", 0.0)
    return Oracle(y, np.column_stack(X) if X else np.empty((n, 0)), noise, tuple(terms))


def model_of(design, priors):
    """The package's model of a design; None where it is refused in words."""
    try:
        return rf.model(design.formula, design.table, priors=priors, **design.options)
    except RanefError:
        return None


def compare(design, dense=None):
    """Largest errors by quantity; None where the package refuses the design in words."""
    priors = {"sigma": "half_t(1)"} if "sigma" in design.values else {}
    for factor, columns, S in design.terms:
        priors |= {f"{c}|{factor}": "half_t(1)" for c in columns}
        if len(columns) > 1 and S[0, 1]:
            priors["+".join(c for c in columns if c != "1") + f"|{factor}_corr"] = "lkj(1)"
    priors = {k.replace("x+z|", "x + z|"): v for k, v in priors.items()}
    values = {k.replace("x+z|", "x + z|"): v for k, v in design.values.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model_of(design, priors)
        if model is None:
            return None
        dense = dense or oracle_of(design)
        errors = {}
        for reml in (False, True):
            here, there = model.log_likelihood(values, reml=reml), dense.log_likelihood(reml=reml)
            errors[f"log likelihood, reml={reml}"] = abs(here - there) / (1 + abs(there))
        errors |= _given(model, design, dense)
    return {k: float(v) for k, v in errors.items()}


def _given(model, design, dense):
    """Errors of coefficients, effects, fitted rows and left-out rows at the same parameters."""
    inner, target = model.inner, model._target
    parameters = inner.parameters
    scales, correlations = {}, {}
    for term, (_, _, S) in zip(parameters.terms, design.terms, strict=True):
        sd = np.sqrt(np.diag(S))
        scales |= {name: sd[j : j + 1] for j, name in enumerate(term.names)}
        i, j = np.tril_indices(len(sd), -1)
        correlations[term.label] = (S / np.outer(sd, sd))[i, j][None]
    sigma = [np.array([design.values["sigma"]])] if "sigma" in design.values else []
    theta = parameters.vectors(scales, correlations, sigma)
    log_sigma, roots = parameters.log_sigma(theta), parameters.roots(theta)
    mean, root = target.coefficients.moments(target.profile(theta), log_sigma)
    beta = inner.response.beta_ls + inner.design.T @ mean[0]
    expected, covariance = dense.coefficients()
    errors = {}
    if len(beta):
        sd = np.sqrt(np.diag(covariance))
        own = np.sqrt(np.sum((inner.design.T @ root[0]) ** 2, axis=1))
        errors["coefficients"] = np.max(np.abs(beta - expected) / (sd + np.abs(expected)))
        errors["their SDs"] = np.max(np.abs(own / sd - 1))
    B, C = target.structure.solve(roots)
    c, square = np.append(-mean[0], 1.0), np.exp(2 * log_sigma[0])
    effect, variance = dense.effects()
    each = [np.tile(np.diag(t.covariance), t.codes.max() + 1) for t in dense.terms]
    prior = np.sqrt(np.concatenate(each))
    got, spread = np.empty(0), np.empty(0)
    for term in parameters.terms:
        at = list(term.place)
        b = (B[term.factor][0] @ c)[:, at]
        carried = np.sum((B[term.factor][0][:, :, :-1] @ root[0]) ** 2, axis=2)[:, at]
        own = square * np.einsum("gaa->ga", C[term.factor][0])[:, at] + carried
        got, spread = np.append(got, b.ravel()), np.append(spread, own.ravel())
    size = prior + np.abs(effect)
    errors["effects"] = np.max(np.abs(got - effect) / size)
    errors["their variances"] = np.max(np.abs(spread - variance) / (prior**2 + variance))
    rows = model.rows
    left_out, _ = row_densities(target, rows, np.arange(len(dense.y)), theta)
    there, share = dense.left_out()
    # The package takes a row's fitted variance from its noise: where that is all but the whole, or
    # effects of several factors all but cancel, so do digits. Rows of full leverage have none.
    spread = (np.abs(dense.parts[0]) @ np.sqrt(np.diag(dense.parts[1]))) ** 2
    lost = np.finfo(float).eps * (1 + spread / dense.noise) / np.maximum(share, 1e-300)
    open_ = share > 1e-9
    gap = np.abs(left_out[0] - there) / ((10 + np.abs(there)) * (1 + lost / TOLERANCE))
    errors["left-out rows"] = np.max(gap[open_], initial=0.0)
    return errors


def failures(design):
    """What is wrong with a design: lines of text, none where all is well."""
    try:
        errors = compare(design)
    except Exception as error:  # whatever it is, it is a finding
        return [f"{type(error).__name__}: {error}"]
    if errors is None:
        return []
    return [f"{name} off by {e:.2g}" for name, e in errors.items() if not e <= TOLERANCE]

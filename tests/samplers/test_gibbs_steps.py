"""The package's own Gibbs sampler under the package's own check: each step by replay.

The log joint density is written from the model, with scipy and rows of data, and shares nothing
with the steps, which work on cross-products.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef as rf
from ranef.samplers.gibbs import linear_steps, variance_steps
from ranef.samplers.gibbs.products import products_of
from ranef.samplers.gibbs.state import State

IG = "variance(invgamma(3, scale=2))"
STRUCTURES = {
    "random intercept": ("y ~ x + (1|g)", {}),
    "weights": ("y ~ x + (1|g)", {"weights": "w"}),
    "known errors": ("y ~ x + (1|g)", {"se": "w"}),
    "independent slopes": ("y ~ x + (x||g)", {}),
    "crossed": ("y ~ x + (1|g) + (1|h)", {}),
    "crossed slopes": ("y ~ 0 + (x||g) + (1|h)", {}),
}


def rows():
    rng = np.random.default_rng(11)
    n = 24
    data = {
        "g": rng.integers(0, 4, n),
        "h": rng.integers(0, 3, n),
        "x": rng.normal(0.5, 1, n),
        "w": rng.uniform(0.5, 2, n),
    }
    return pd.DataFrame({**data, "y": rng.normal(2, 1.5, n)})


def problem(formula, options):
    """Updates, log joint density and a first state of a model's sampler."""
    data = rows()
    bare = rf.model(formula, data, **options).priors
    priors = {name: IG for name in bare if "|" in name or name == "sigma"}
    priors |= {name: "norm(0.5, 2)" for name in ("Intercept", "x") if name in bare}
    model = rf.model(formula, data, priors=priors, **options).inner
    products = products_of(model)
    layout, p = model.parameters, products.p

    def state_of(s):
        eta = np.array([[*s["eta"], s["tau"]] if layout.family.dispersions else s["eta"]])
        effects = (s[f"b{f}"][None] for f in range(len(products.blocks)))
        return State(eta, s["beta"][None], tuple(effects))

    def log_joint(s):
        y = data["y"].to_numpy()
        beta = model.response.beta_ls + products.turn @ s["beta"]
        columns = {"Intercept": np.ones(len(y)), "x": data["x"].to_numpy()}
        mean = sum((b * columns[name] for name, b in zip(model.names, beta, strict=True)), 0 * y)
        out, names = 0.0, [name for term in layout.terms for name in term.names]
        for f, factor in enumerate(dict.fromkeys(name.split("|")[1] for name in names)):
            codes = np.unique(data[factor], return_inverse=True)[1]
            own = [name for name in names if name.endswith(f"|{factor}")]
            for j, name in enumerate(own):
                b = s[f"b{f}"][:, j]
                column = columns["Intercept" if name[0] == "1" else "x"]
                mean = mean + b[codes] * column
                log_sd = s["eta"][names.index(name)]
                out += stats.norm.logpdf(b, 0, np.exp(log_sd)).sum()
                # A variance by its log SD: dv is 2 v dlog(sd).
                out += stats.invgamma.logpdf(np.exp(2 * log_sd), 3, scale=2) + 2 * log_sd
        sd = np.exp(s["tau"]) if "tau" in s else 1.0
        if "se" in options:
            sd = data["w"].to_numpy()
        elif "weights" in options:
            sd = sd / np.sqrt(data["w"].to_numpy())
        if "tau" in s:
            out += stats.invgamma.logpdf(np.exp(2 * s["tau"]), 3, scale=2) + 2 * s["tau"]
        out += stats.norm.logpdf(beta, 0.5, 2).sum()
        return out + stats.norm.logpdf(y, mean, sd).sum()

    def effects(f):
        def update(s, rng):
            return linear_steps.draw_effects(products, f, state_of(s), rng).effects[f][0]

        return update

    def scales(s, rng):
        state = state_of(s)
        for term in range(len(layout.terms)):
            state = variance_steps.draw_term(products, term, state, rng)
        return state.theta[0, : layout.ratios]

    updates = {f"b{f}": effects(f) for f in range(len(products.blocks))}
    updates["eta"] = scales
    state = {f"b{f}": np.ones(block.ZZ.shape[:2]) for f, block in enumerate(products.blocks)}
    state |= {"eta": np.zeros(layout.ratios), "beta": np.ones(p)}
    if p:
        updates["beta"] = lambda s, rng: linear_steps.draw_coefficients(
            products, state_of(s), rng
        ).beta[0]
    if layout.family.dispersions:
        state["tau"] = 0.0
        updates["tau"] = lambda s, rng: float(
            variance_steps.draw_residual(products, state_of(s), rng).theta[0, -1]
        )
    return updates, log_joint, state


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_conditional_is_right_by_replay(name):
    updates, log_joint, state = problem(*STRUCTURES[name])
    report = rf.check_gibbs(updates, log_joint, state, rng=1, progress=False)
    report.raise_if_failed()
    assert {block.level for block in report.blocks} == {0}
    assert max(block.difference for block in report.blocks) < 1e-8


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_wrong_prior_is_found_in_the_block_it_belongs_to(name):
    updates, log_joint, state = problem(*STRUCTURES[name])
    wrong = {"eta": 0.3, "tau": 0.3, "b0": 0.4} if "tau" in state else {"eta": 0.3, "b0": 0.4}
    for block, size in wrong.items():

        def moved(s, block=block, size=size):
            return log_joint(s) - size * float(np.sum(np.square(s[block])))

        report = rf.check_gibbs(updates, moved, state, rng=1, progress=False)
        assert list(report.failures) == [block]


def test_moving_effects_and_coefficients_together_leaves_the_mean_and_has_the_right_law():
    data = rows()
    priors = {"x": "norm(0, 0.3)", "1|g": IG, "x|g": IG}
    model = rf.model("y ~ x + (x||g)", data, priors=priors).inner
    products, rng = products_of(model), np.random.default_rng(4)
    V, chains = products.moves[0], 4000
    state = State(
        np.tile([0.2, -0.3, 0.1], (chains, 1)),
        np.tile(rng.normal(size=products.p), (chains, 1)),
        (np.tile(rng.normal(size=(4, 2)), (chains, 1, 1)),),
    )
    made = linear_steps.translate(products, 0, state, rng)
    d = (state.effects[0] - made.effects[0])[:, 0]
    np.testing.assert_allclose(made.effects[0], state.effects[0] - d[:, None])
    np.testing.assert_allclose(made.beta, state.beta + d @ V.T)
    # Along d the density is that of the priors: its peak and curvature by differences.
    sd = np.exp(state.theta[0, :2])

    def log_prior(shift):
        b, beta = state.effects[0][0] - shift, state.beta[0] + V @ shift
        slope = (model.response.beta_ls + products.turn @ beta)[model.names.index("x")]
        return stats.norm.logpdf(b / sd).sum() + stats.norm.logpdf(slope, 0, 0.3)

    eye, step = np.eye(2), 1e-2
    curve = np.array(
        [
            [
                log_prior(step * (u + v)) - log_prior(step * (u - v))
                - log_prior(step * (v - u)) + log_prior(-step * (u + v))
                for u in eye
            ]
            for v in eye
        ]
    ) / (4 * step**2)  # fmt: skip
    slope = np.array([log_prior(step * u) - log_prior(-step * u) for u in eye]) / (2 * step)
    mean, covariance = np.linalg.solve(-curve, slope), np.linalg.inv(-curve)
    z = (d.mean(axis=0) - mean) / np.sqrt(np.diag(covariance) / chains)
    assert np.abs(z).max() < 4
    spread = np.cov(d.T)
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / chains)
    assert np.abs((spread - covariance) / error).max() < 4
    # The control: without the prior on the slope the law is another.
    assert np.abs((spread - np.diag(sd**2 / 4)) / error).max() > 4

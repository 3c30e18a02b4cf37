"""Right Gibbs samplers of four models in many styles, and errors planted in them.

Each model gives `updates`, `log_joint`, `state` and a right `sweep`. Each error replaces one update
(or the sweep) by a wrong one, as they are made in practice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from ranef import check_gibbs


@dataclass(frozen=True)
class ModelSpec:
    """A right sampler; `state` is as symmetric as the model allows."""

    name: str
    updates: dict
    log_joint: Callable
    state: dict

    def sweep(self, state, rng):
        """Run all updates in order, each given fresh values."""
        state = dict(state)
        for name, update in self.updates.items():
            state[name] = update(state, rng)
        return state


@dataclass(frozen=True)
class Planted:
    """One error: what is wrong, in which block, and the function that makes it."""

    model: str
    block: str
    what: str
    wrong: Callable
    level: int = 0
    tells: str = ""

    def arguments(self):
        """Arguments of check_gibbs."""
        model = MODELS[self.model]()
        if self.block == "sweep":
            return {
                "updates": model.updates,
                "log_joint": model.log_joint,
                "state": model.state,
                "sweep": self.wrong,
            }
        wrong = self.wrong() if isinstance(self.wrong, type) else {self.block: self.wrong}
        updates = {**model.updates, **wrong}
        return {"updates": updates, "log_joint": model.log_joint, "state": model.state}


# -- the article's model: W_ij = X_i + E_ij, sigma2_x ~ IG(2, 3), sigma2_e ~ IG(1.5, 0.7)

W = np.random.default_rng(7).normal(0.5, 1.5, size=(20, 2)) + np.linspace(-2, 3, 20)[:, None]
N, J = W.shape
AX, BX, AE, BE = 2.0, 3.0, 1.5, 0.7


def _article_joint(state):
    x, e = state["sigma2_x"], state["sigma2_e"]
    if x <= 0 or e <= 0:
        return -np.inf
    centered = state["X"] - state.get("mu", 0.0)
    return (
        stats.norm.logpdf(W, state["X"][:, None], np.sqrt(e)).sum()
        - 0.5 * N * np.log(x)
        - 0.5 * (centered @ centered) / x
        + stats.invgamma.logpdf(x, AX, scale=BX)
        + stats.invgamma.logpdf(e, AE, scale=BE)
    )


def draw_x(s, rng):
    V = 1 / (1 / s["sigma2_x"] + J / s["sigma2_e"])
    return rng.normal(V * W.sum(axis=1) / s["sigma2_e"], np.sqrt(V))


def draw_x_mean(s, rng):
    V = 1 / (1 / s["sigma2_x"] + J / s["sigma2_e"])
    center = V * (W.sum(axis=1) / s["sigma2_e"] + s["mu"] / s["sigma2_x"])
    return center + np.sqrt(V) * rng.standard_normal(N)


def draw_sigma2_x(s, rng):
    return 1 / rng.gamma(AX + N / 2, 1 / (BX + (s["X"] ** 2).sum() / 2))


def draw_sigma2_x_mean(s, rng):
    return (BX + ((s["X"] - s["mu"]) ** 2).sum() / 2) / rng.standard_gamma(AX + N / 2)


def draw_sigma2_e(s, rng):
    squares = ((W - s["X"][:, None]) ** 2).sum()
    return stats.invgamma.rvs(AE + N * J / 2, scale=BE + squares / 2, random_state=rng)


def draw_mu(s, rng):
    return rng.normal(s["X"].mean(), np.sqrt(s["sigma2_x"] / N))


@cache
def article():
    updates = {"X": draw_x, "sigma2_x": draw_sigma2_x, "sigma2_e": draw_sigma2_e}
    return ModelSpec(
        "article", updates, _article_joint, {"X": np.ones(N), "sigma2_x": 1.0, "sigma2_e": 1.0}
    )


@cache
def article_mean():
    updates = {
        "X": draw_x_mean,
        "mu": draw_mu,
        "sigma2_x": draw_sigma2_x_mean,
        "sigma2_e": draw_sigma2_e,
    }
    state = {"X": np.ones(N), "mu": 1.0, "sigma2_x": 1.0, "sigma2_e": 1.0}
    return ModelSpec("article, mean", updates, _article_joint, state)


def _x(precision=None, linear=None, spread=np.sqrt):
    """Update of X with another precision, linear term or spread."""

    def update(s, rng):
        x, e = s["sigma2_x"], s["sigma2_e"]
        V = 1 / (precision(x, e) if precision else 1 / x + J / e)
        return rng.normal(V * (linear(x, e) if linear else W.sum(axis=1) / e), spread(V))

    return update


def _sigma2_x(shape=AX + N / 2, rate=lambda ss: BX + ss / 2, mean=False, invert=True):
    def update(s, rng):
        r = rate(((s["X"] - (s["mu"] if mean else 0)) ** 2).sum())
        return 1 / rng.gamma(shape, 1 / r) if invert else rng.gamma(shape, 1 / r)

    return update


def _sigma2_e(shape=AE + N * J / 2, rate=lambda ss: BE + ss / 2, X=None):
    def update(s, rng):
        r = rate(((W - (s["X"] if X is None else X)[:, None]) ** 2).sum())
        return 1 / rng.gamma(shape, 1 / r)

    return update


def _shared_update(s, rng):
    s["sigma2_x"] = s["sigma2_x"] * 1.1
    return draw_x(s, rng)


class SharedResiduals(dict):
    """Updates of X and sigma2_e that pass the residuals on beside the state."""

    def __init__(self):
        kept = {"squares": 1.0}

        def x(s, rng):
            X = draw_x(s, rng)
            kept["squares"] = ((W - X[:, None]) ** 2).sum()
            return X

        def sigma2_e(s, rng):  # noqa: ARG001
            return 1 / rng.gamma(AE + N * J / 2, 1 / (BE + kept["squares"] / 2))

        super().__init__(X=x, sigma2_e=sigma2_e)


class Keeper:
    """An update that keeps the residual sum of squares of its first call."""

    def __init__(self):
        self.squares = None

    def __call__(self, s, rng):
        if self.squares is None:
            self.squares = ((W - s["X"][:, None]) ** 2).sum()
        return 1 / rng.gamma(AE + N * J / 2, 1 / (BE + self.squares / 2))


def _stale_sweep(s, rng):
    """Update both variances from the X of before."""
    X = draw_x(s, rng)
    return {"X": X, "sigma2_x": draw_sigma2_x(s, rng), "sigma2_e": draw_sigma2_e(s, rng)}


def _stale_noise_sweep(s, rng):
    """Compute the residuals once, before X moves."""
    squares = ((W - s["X"][:, None]) ** 2).sum()
    s["X"] = draw_x(s, rng)
    s["sigma2_x"] = draw_sigma2_x(s, rng)
    s["sigma2_e"] = stats.invgamma.rvs(AE + N * J / 2, scale=BE + squares / 2, random_state=rng)
    return s


def _short_sweep(s, rng):
    return {**s, "X": draw_x(s, rng), "sigma2_e": draw_sigma2_e(s, rng)}


def other_style_sweep(s, rng, stale=False):
    """A right sweep that draws in other ways than the updates do."""
    V = 1 / (1 / s["sigma2_x"] + J / s["sigma2_e"])
    x = np.array([rng.normal(V * w.sum() / s["sigma2_e"], np.sqrt(V)) for w in W])
    squares = ((W - (s["X"] if stale else x)[:, None]) ** 2).sum()
    sigma2_e = 1 / rng.gamma(AE + N * J / 2, 1 / (BE + squares / 2))
    return {"X": x, "sigma2_x": draw_sigma2_x({"X": x}, rng), "sigma2_e": sigma2_e}


def _other_style_stale_sweep(s, rng):
    """Compute the residuals too early."""
    return other_style_sweep(s, rng, stale=True)


def rejection_sigma2_x(s, rng, a=AX + N / 2):
    """Draw by rejection from a wider inverse gamma: the number of draws varies."""
    b = BX + (s["X"] ** 2).sum() / 2
    while True:
        v = 1 / rng.gamma(a, 1 / (0.95 * b))
        if np.log(rng.random()) < -0.05 * b / v:
            return v


def rejection_sigma2_x_wrong(s, rng):
    """Do the same with n - 4 for n."""
    return rejection_sigma2_x(s, rng, AX + (N - 4) / 2)


def metropolis_sigma2_x(s, rng, shape=AX + N / 2):
    """A right random-walk step on the log scale."""
    b = BX + (s["X"] ** 2).sum() / 2

    def log_density(t):
        return -shape * t - b * np.exp(-t)

    t = np.log(s["sigma2_x"])
    new = t + 0.8 * rng.standard_normal()
    return np.exp(new) if np.log(rng.random()) < log_density(new) - log_density(t) else np.exp(t)


def metropolis_sigma2_x_wrong(s, rng):
    """Forget the Jacobian of the log scale."""
    return metropolis_sigma2_x(s, rng, AX + 1 + N / 2)


# -- random slopes: y = X beta + b_g0 + b_g1 x + e, b_g ~ N(0, S), S ~ IW(5, D), beta ~ N(0, 25 I)

_slope_rng = np.random.default_rng(3)
GROUP = np.repeat(np.arange(6), [3, 4, 4, 5, 6, 4])
XX = np.column_stack([np.ones(len(GROUP)), _slope_rng.normal(1, 1, len(GROUP))])
Y = XX @ [2.0, -1.0] + _slope_rng.normal(size=(6, 2))[GROUP, 0] + _slope_rng.normal(size=len(GROUP))
DF, D = 5, np.array([[2.0, 0.3], [0.3, 1.0]])
A0, S0 = 4.0, 0.8


def _slopes_joint(s):
    if s["sigma2"] <= 0:
        return -np.inf
    fitted = XX @ s["beta"] + (XX * s["b"][GROUP]).sum(axis=1)
    rest = Y - fitted
    sign, log_det = np.linalg.slogdet(s["S"])
    if sign <= 0:
        return -np.inf
    inverse = np.linalg.inv(s["S"])
    return (
        -0.5 * len(Y) * np.log(s["sigma2"])
        - 0.5 * (rest @ rest) / s["sigma2"]
        - 0.5 * 6 * log_det
        - 0.5 * np.einsum("gi,ij,gj", s["b"], inverse, s["b"])
        - 0.5 * (DF + 3) * log_det
        - 0.5 * np.trace(D @ inverse)
        - 0.5 * (s["beta"] @ s["beta"]) / 25
        # scaled inverse chi-square, A0 degrees of freedom, scale S0
        - (A0 / 2 + 1) * np.log(s["sigma2"])
        - A0 * S0 / (2 * s["sigma2"])
    )


def _beta(prior=1 / 25, root=None, offset=True, covariance=None):
    def update(s, rng):
        P = XX.T @ XX / s["sigma2"] + prior * np.eye(2)
        rest = Y - (XX * s["b"][GROUP]).sum(axis=1) if offset else Y
        center = np.linalg.solve(P, XX.T @ rest / s["sigma2"])
        if root:
            return center + root(P) @ rng.standard_normal(2)
        cov = np.linalg.inv(P) if covariance is None else covariance(P)
        return rng.multivariate_normal(center, cov)

    return update


def _b(noise=lambda s: s["sigma2"], prior=lambda s: np.linalg.inv(s["S"]), root=None):
    root = root or (lambda P: np.linalg.cholesky(np.linalg.inv(P)))

    def update(s, rng):
        out = np.empty((6, 2))
        rest = Y - XX @ s["beta"]
        for g in range(6):
            Z = XX[g == GROUP]
            P = Z.T @ Z / noise(s) + prior(s)
            center = np.linalg.solve(P, Z.T @ rest[g == GROUP] / noise(s))
            out[g] = center + root(P) @ rng.standard_normal(2)
        return out

    return update


def _S(df=DF + 6, scale=lambda s: D + s["b"].T @ s["b"]):
    def update(s, rng):
        return stats.invwishart.rvs(df, scale(s), random_state=rng)

    return update


ROWS = len(Y)


def _sigma2(df=A0 + ROWS, effects=True, prior=A0 * S0):
    def update(s, rng):
        rest = Y - XX @ s["beta"] - effects * (XX * s["b"][GROUP]).sum(axis=1)
        return (prior + rest @ rest) / rng.chisquare(df)

    return update


@cache
def slopes():
    updates = {"beta": _beta(), "b": _b(), "S": _S(), "sigma2": _sigma2()}
    state = {"beta": np.ones(2), "b": np.ones((6, 2)), "S": np.eye(2), "sigma2": 1.0}
    return ModelSpec("random slopes", updates, _slopes_joint, state)


# -- counts and shares: y_i ~ Poisson(t_i lam_i), lam_i ~ G(3, beta), beta ~ G(2, 0.5);
#    k ~ Bin(30, theta), theta ~ Be(2, 3); c ~ Mult(w), w ~ Dir(1, 2, 3);
#    m_j ~ N(eta_j, 1), eta_j ~ N(0, tau2), tau ~ half-t(4, A) by tau2 ~ IG(2, 4/aux) and
#    aux ~ IG(1/2, 1/A²)

COUNTS, TIME = np.array([3, 7, 0, 12, 5]), np.array([1.0, 2.0, 0.5, 3.0, 1.5])
KNOWN, TRIALS = 11, 30
CELLS, ALPHA = np.array([4, 9, 2]), np.array([1.0, 2.0, 3.0])
MEASURED, NU, A = np.array([0.3, -1.2, 2.2, 0.9]), 4.0, 2.5


def _counts_joint(s):
    eta, tau2, aux, theta, w = s["eta"], s["tau2"], s["aux"], s["theta"], s["w"]
    if tau2 <= 0 or aux <= 0 or s["beta"] <= 0 or not 0 < theta < 1:
        return -np.inf
    if (s["lam"] <= 0).any() or (w <= 0).any():
        return -np.inf
    return (
        stats.poisson.logpmf(COUNTS, TIME * s["lam"]).sum()
        + stats.gamma.logpdf(s["lam"], 3, scale=1 / s["beta"]).sum()
        + stats.gamma.logpdf(s["beta"], 2, scale=2.0)
        + stats.binom.logpmf(KNOWN, TRIALS, theta)
        + stats.beta.logpdf(theta, 2, 3)
        + ((CELLS + ALPHA - 1) * np.log(w)).sum()
        + stats.norm.logpdf(MEASURED, eta, 1).sum()
        + stats.norm.logpdf(eta, 0, np.sqrt(tau2)).sum()
        + stats.invgamma.logpdf(tau2, NU / 2, scale=NU / aux)
        + stats.invgamma.logpdf(aux, 0.5, scale=1 / A**2)
    )


def _lam(shape=3.0, rate=lambda s: s["beta"] + TIME):
    return lambda s, rng: rng.gamma(shape + COUNTS, 1 / rate(s))


def _rate(shape=2 + 3 * 5, rate=lambda s: 0.5 + s["lam"].sum(), scale=False):
    return lambda s, rng: rng.gamma(shape, rate(s) if scale else 1 / rate(s))


def _theta(a=2 + KNOWN, b=3 + TRIALS - KNOWN):
    return lambda s, rng: rng.beta(a, b)  # noqa: ARG005


def _w(alpha=CELLS + ALPHA):
    return lambda s, rng: rng.dirichlet(alpha)  # noqa: ARG005


def _eta(spread=np.sqrt):
    def update(s, rng):
        V = 1 / (1 + 1 / s["tau2"])
        return np.array([rng.normal(V * m, spread(V)) for m in MEASURED])

    return update


def _tau2(shape=(NU + 4) / 2, rate=lambda s: NU / s["aux"] + (s["eta"] ** 2).sum() / 2):
    return lambda s, rng: stats.invgamma.rvs(shape, scale=rate(s), random_state=rng)


def _aux(shape=(NU + 1) / 2, rate=lambda s: NU / s["tau2"] + 1 / A**2):
    return lambda s, rng: rate(s) / rng.standard_gamma(shape)


@cache
def counts():
    updates = {
        "lam": _lam(),
        "beta": _rate(),
        "theta": _theta(),
        "w": _w(),
        "eta": _eta(),
        "tau2": _tau2(),
        "aux": _aux(),
    }
    state = {
        "lam": np.ones(5),
        "beta": 1.0,
        "theta": 0.5,
        "w": np.full(3, 1 / 3),
        "eta": np.ones(4),
        "tau2": 1.0,
        "aux": 1.0,
    }
    return ModelSpec("counts and half-t", updates, _counts_joint, state)


MODELS = {"article": article, "mean": article_mean, "slopes": slopes, "counts": counts}


class _Once(np.random.Generator):
    """Hand out one deviate where many are asked for."""

    def __init__(self, rng):
        super().__init__(rng.bit_generator)
        self.rng = rng

    def normal(self, loc=0.0, scale=1.0, size=None):  # noqa: ARG002
        return loc + scale * self.rng.normal()


ONES = np.ones(N)
SHAPE_X, SHAPE_E = AX + N / 2, AE + N * J / 2

PLANTED = [
    # the article's model
    Planted(
        "article",
        "X",
        "2 on the wrong variance, as printed",
        _x(lambda x, e: J / x + 1 / e),
        tells="uses precision 2/sigma2_x + 1/sigma2_e; log_joint implies 1/sigma2_x + 2/sigma2_e",
    ),
    Planted(
        "article",
        "X",
        "prior precision left out",
        _x(lambda _, e: J / e),
        tells="uses precision 2/sigma2_e; log_joint implies 1/sigma2_x + 2/sigma2_e",
    ),
    Planted(
        "article",
        "X",
        "replicates not counted",
        _x(lambda x, e: 1 / x + 1 / e),
        tells="uses precision 1/sigma2_x + 1/sigma2_e",
    ),
    Planted(
        "article",
        "X",
        "variance for standard deviation",
        _x(spread=lambda V: V),
        tells="passes the variance where the standard deviation belongs",
    ),
    Planted(
        "article",
        "X",
        "precision for variance",
        _x(spread=lambda V: np.sqrt(1 / V)),
        tells="passes the precision where the variance belongs",
    ),
    Planted(
        "article",
        "X",
        "mean of the row for its sum",
        _x(linear=lambda _, e: W.mean(axis=1) / e),
        tells="mean",
    ),
    Planted(
        "article",
        "X",
        "mean over the wrong variance",
        _x(linear=lambda x, _: W.sum(axis=1) / x),
        tells="precision × mean",
    ),
    Planted(
        "article",
        "X",
        "one deviate for all signals",
        lambda s, rng: draw_x(s, _Once(rng)),
        tells="random number",
    ),
    Planted(
        "article",
        "X",
        "changes sigma2_x in place",
        _shared_update,
        tells="changes 'sigma2_x' in the state",
    ),
    Planted(
        "article", "sigma2_x", "n for n/2 in the shape", _sigma2_x(AX + N), tells="too large by 10"
    ),
    Planted(
        "article",
        "sigma2_x",
        "one degree of freedom lost",
        _sigma2_x(AX + (N - 1) / 2),
        tells="too small by 0.5",
    ),
    Planted(
        "article", "sigma2_x", "prior shape left out", _sigma2_x(N / 2), tells="too small by 2"
    ),
    Planted(
        "article",
        "sigma2_x",
        "sum of squares not halved",
        _sigma2_x(rate=lambda ss: BX + ss),
        tells="uses rate 3 + 2 S",
    ),
    Planted(
        "article",
        "sigma2_x",
        "prior rate left out",
        _sigma2_x(rate=lambda ss: ss / 2),
        tells="too small by 3",
    ),
    Planted(
        "article",
        "sigma2_x",
        "scale for rate",
        _sigma2_x(rate=lambda ss: 1 / (BX + ss / 2)),
        tells="passes the rate where the scale belongs",
    ),
    Planted(
        "article",
        "sigma2_x",
        "gamma for inverse gamma",
        _sigma2_x(invert=False),
        tells="draws a gamma; log_joint implies an inverse-gamma",
    ),
    Planted(
        "article",
        "sigma2_x",
        "Jacobian of the log scale left out",
        _sigma2_x(SHAPE_X + 1),
        tells="too large by 1",
    ),
    Planted(
        "article",
        "sigma2_x",
        "sd of X for its sum of squares",
        _sigma2_x(rate=lambda ss: BX + np.sqrt(ss)),
        tells="rate",
    ),
    Planted(
        "article",
        "sigma2_e",
        "n for nJ/2 halved again",
        _sigma2_e(AE + N * J / 4),
        tells="too small by 10",
    ),
    Planted(
        "article",
        "sigma2_e",
        "X of the start, kept in a closure",
        _sigma2_e(X=ONES),
        tells="ignores 'X'",
    ),
    Planted(
        "article", "sigma2_e", "residuals kept from the first call", Keeper(), tells="ignores 'X'"
    ),
    Planted(
        "article", "sigma2_e", "row means for X", _sigma2_e(X=W.mean(axis=1)), tells="ignores 'X'"
    ),
    Planted(
        "article",
        "sigma2_e",
        "residuals passed on beside the state",
        SharedResiduals,
        tells="uses what that one keeps",
    ),
    # with a mean
    Planted("mean", "X", "mean left out of X", draw_x, tells="ignores 'mu'"),
    Planted(
        "mean",
        "mu",
        "variance not divided by n",
        lambda s, rng: rng.normal(s["X"].mean(), np.sqrt(s["sigma2_x"])),
        tells="uses precision 1/sigma2_x; log_joint implies 20/sigma2_x",
    ),
    Planted(
        "mean",
        "mu",
        "mean of W for mean of X",
        lambda s, rng: rng.normal(W.mean(), np.sqrt(s["sigma2_x"] / N)),
        tells="ignores 'X'",
    ),
    Planted(
        "mean",
        "mu",
        "noise variance for signal variance",
        lambda s, rng: rng.normal(s["X"].mean(), np.sqrt(s["sigma2_e"] / N)),
        tells="uses precision 20/sigma2_e; log_joint implies 20/sigma2_x",
    ),
    Planted("mean", "sigma2_x", "X not centred", _sigma2_x(mean=False), tells="ignores 'mu'"),
    Planted(
        "mean",
        "sigma2_x",
        "n - 1 though mu is known",
        _sigma2_x(AX + (N - 1) / 2, mean=True),
        tells="too small by 0.5",
    ),
    # random slopes
    Planted(
        "slopes", "beta", "group effects not taken off", _beta(offset=False), tells="ignores 'b'"
    ),
    Planted("slopes", "beta", "prior left out", _beta(prior=0.0), tells="uses precision["),
    Planted(
        "slopes",
        "beta",
        "precision for covariance",
        _beta(covariance=lambda P: P),
        tells="passes the precision where the covariance belongs",
    ),
    Planted(
        "slopes",
        "beta",
        "Cholesky factor transposed",
        _beta(root=lambda P: np.linalg.cholesky(np.linalg.inv(P)).T),
        tells="Cholesky factor transposed",
    ),
    Planted("slopes", "b", "prior covariance not inverted", _b(prior=lambda s: s["S"])),
    Planted(
        "slopes",
        "b",
        "standard deviation for variance of noise",
        _b(noise=lambda s: np.sqrt(s["sigma2"])),
    ),
    Planted(
        "slopes",
        "b",
        "inverse root of the precision not transposed",
        _b(root=lambda P: np.linalg.inv(np.linalg.cholesky(P))),
    ),
    Planted("slopes", "S", "one degree of freedom too few", _S(DF + 5)),
    Planted("slopes", "S", "prior scale halved", _S(scale=lambda s: D / 2 + s["b"].T @ s["b"])),
    Planted(
        "slopes", "S", "mean cross-product for sum", _S(scale=lambda s: D + s["b"].T @ s["b"] / 6)
    ),
    Planted(
        "slopes",
        "sigma2",
        "degrees of freedom less coefficients",
        _sigma2(A0 + len(Y) - 2),
        tells="too small by 1",
    ),
    Planted(
        "slopes",
        "sigma2",
        "group effects in the residual",
        _sigma2(effects=False),
        tells="ignores 'b'",
    ),
    Planted(
        "slopes",
        "sigma2",
        "prior scale not times its df",
        _sigma2(prior=S0),
        tells="too small by 1.2",
    ),
    # counts, shares, half-t
    Planted("counts", "lam", "exposure left out", _lam(rate=lambda s: s["beta"] + 1.0)),
    Planted("counts", "lam", "shape too large by one", _lam(shape=4.0), tells="too large by 1"),
    Planted(
        "counts",
        "beta",
        "rate for scale",
        _rate(scale=True),
        tells="passes the rate where the scale belongs",
    ),
    Planted(
        "counts",
        "beta",
        "mean for sum of rates",
        _rate(rate=lambda s: 0.5 + s["lam"].mean()),
        tells="uses rate 0.5 + 0.2 S",
    ),
    Planted(
        "counts", "theta", "successes counted as trials", _theta(b=3 + TRIALS), tells="of its beta"
    ),
    Planted("counts", "w", "prior left out", _w(CELLS)),
    Planted(
        "counts",
        "eta",
        "variance for standard deviation",
        _eta(lambda V: V),
        tells="passes the variance where",
    ),
    Planted(
        "counts",
        "tau2",
        "shape of the half-Cauchy",
        _tau2(shape=(1 + 4) / 2),
        tells="too small by 1.5",
    ),
    Planted(
        "counts",
        "tau2",
        "auxiliary for its inverse",
        _tau2(rate=lambda s: NU * s["aux"] + (s["eta"] ** 2).sum() / 2),
    ),
    Planted(
        "counts",
        "aux",
        "A for A squared",
        _aux(rate=lambda s: NU / s["tau2"] + 1 / A),
        tells="too large by 0.24",
    ),
    # where replay sees nothing, or a sweep is at fault
    Planted(
        "article", "sigma2_x", "rejection sampler, n - 4 for n", rejection_sigma2_x_wrong, level=1
    ),
    Planted(
        "article", "sigma2_x", "Metropolis without its Jacobian", metropolis_sigma2_x_wrong, level=2
    ),
    Planted(
        "article",
        "sweep",
        "both variances from the old X",
        _stale_sweep,
        tells="gives update 'sigma2_x' the value of 'X' from before",
    ),
    Planted(
        "article",
        "sweep",
        "residuals computed before X moves",
        _stale_noise_sweep,
        tells="gives update 'sigma2_e' the value of 'X' from before",
    ),
    Planted(
        "article",
        "sweep",
        "a variance is never updated",
        _short_sweep,
        tells="never updates 'sigma2_x'",
    ),
    Planted(
        "article",
        "sweep",
        "old residuals, other style than the updates",
        _other_style_stale_sweep,
        level=2,
    ),
]


def found(error, seed=0):
    """Check one planted error; its block's entry and the names of all blocks that failed."""
    report = check_gibbs(**error.arguments(), rng=seed, progress=False)
    return {b.name: b for b in report.blocks}[error.block], list(report.failures)


def table_row(error, block):
    """One line of the table in docs/check-your-sampler.md."""
    said = block.diagnosis.split("; replay: ")[0]
    model = MODELS[error.model]().name
    return f"| {model} | `{error.block}` | {error.what} | {block.level} | {said} |"


def right_samplers():
    """Right samplers by name, as arguments of check_gibbs."""
    for model in (m() for m in MODELS.values()):
        yield (
            model.name,
            {
                "updates": model.updates,
                "log_joint": model.log_joint,
                "state": model.state,
                "sweep": model.sweep,
            },
        )


def unseen_samplers():
    """Right samplers with one block, or the sweep, that replay cannot see."""
    model = article()
    for name, update in (("rejection", rejection_sigma2_x), ("Metropolis", metropolis_sigma2_x)):
        updates = {"sigma2_x": update}
        yield name, {"updates": updates, "log_joint": model.log_joint, "state": model.state}
    yield (
        "sweep",
        {
            "updates": model.updates,
            "log_joint": model.log_joint,
            "state": model.state,
            "sweep": other_style_sweep,
        },
    )


def main():
    """Print the table, false alarms on right samplers and the time of level 0."""
    for error in PLANTED:
        print(table_row(error, found(error)[0]), flush=True)
    runs = alarms = 0
    worst = 0.0
    for _, arguments in right_samplers():
        for seed in range(250):
            report = check_gibbs(**arguments, rng=seed)
            runs, alarms = runs + 1, alarms + (not report.passed)
            worst = max([worst, *(b.difference / b.limit for b in report.blocks if b.difference)])
            if not report.passed:
                print(seed, report)
    print(f"level 0: {alarms} false alarms in {runs} runs, differences below {worst:.2g} limits")
    for name, arguments in unseen_samplers():
        runs = [check_gibbs(**arguments, rng=seed, progress=False) for seed in range(1000)]
        alarms = sum(not report.passed for report in runs)
        levels = max(block.level or 0 for report in runs for block in report.blocks)
        print(f"{name}: {alarms} false alarms in 1,000 runs at level {levels}", flush=True)


if __name__ == "__main__":
    main()

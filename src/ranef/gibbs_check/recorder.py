"""A random generator that writes its draws down as points u of known densities, and replays them.

Every distribution is reduced to few base distributions, each in an unconstrained coordinate u with
a density on the whole line: a normal deviate z, the logarithm of a standard gamma variable, the
logit of a beta variable. A function that draws through the generator is then a deterministic map of
u, which can be evaluated at any u.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaln, expit, gammaln, log_expit, xlog1py, xlogy

from ranef.common.array_types import Array

__all__ = ["Diverged", "Entry", "Recorder", "UnrecordedDraw", "coordinates"]

Shape = tuple[int, ...]


class UnrecordedDraw(Exception):  # noqa: N818 - not an error: replay then leaves the block to level 1
    """A method was called whose draws are not written down."""


class Diverged(Exception):  # noqa: N818
    """A replay asked for other draws than the recording."""


class Entry(NamedTuple):
    """One call of the generator.

    Attributes
    ----------
    kind
        Base distribution.
    parameters
        Its parameters: shape of a gamma, both shapes of a beta, ...
    values
        Coordinates u of a continuous distribution, values of a discrete one.
    """

    kind: str
    parameters: tuple[Any, ...]
    values: Array


_DISCRETE = {"poisson", "binomial", "geometric", "negative_binomial", "categorical"}


def coordinates(entries: list[Entry]) -> Array:
    """Coordinates of the continuous draws of some calls, shape (k,)."""
    parts = [e.values.ravel() for e in entries if e.kind not in _DISCRETE]
    return np.concatenate(parts) if parts else np.empty(0)


class Recorder(np.random.Generator):
    """Stand in for a generator: draw from it, write down, and replay.

    Parameters
    ----------
    source
        Generator that the draws come from while recording.

    Examples
    --------
    >>> recorder = Recorder(np.random.default_rng(1))
    >>> x = 3 + 2 * recorder.standard_normal(2)
    >>> u = recorder.coordinates()
    >>> recorder.replay(u + 1)
    >>> bool(np.allclose(3 + 2 * recorder.standard_normal(2), x + 2))
    True
    """

    def __init__(self, source: np.random.Generator) -> None:
        super().__init__(source.bit_generator)
        self.source = source
        self.entries: list[Entry] = []
        self._script: list[Entry] | None = None
        self._point: Array = np.empty(0)
        self._next = self._cursor = 0

    # -- recording and replaying

    def record(self) -> None:
        """Forget everything and write down from now on."""
        self.entries, self._script = [], None

    def replay(self, point: Array, script: list[Entry] | None = None) -> None:
        """Answer the coming calls with coordinates from `point`, shape (k,), in order.

        Parameters
        ----------
        point
            Coordinates of the continuous draws.
        script
            What was recorded, for the kinds of calls and the discrete values; None for the latest.
        """
        self._script = self.entries if script is None else script
        self._point = point
        self._next = self._cursor = 0
        self.entries = []

    def coordinates(self) -> Array:
        """All coordinates so far, shape (k,)."""
        return coordinates(self.entries)

    @property
    def signature(self) -> list[tuple[str, int]]:
        """Kind and number of the draws of each call."""
        return [(e.kind, e.values.size) for e in self.entries]

    @property
    def discrete(self) -> int:
        """Number of discrete values drawn."""
        return sum(e.values.size for e in self.entries if e.kind in _DISCRETE)

    @property
    def normal_only(self) -> bool:
        """Whether nothing but normal deviates was drawn."""
        return all(e.kind == "normal" for e in self.entries)

    def log_density(self) -> float:
        """Log density of all that was drawn, in the coordinates u."""
        return float(sum(_LOG[e.kind](e.values, *e.parameters).sum() for e in self.entries))

    def _take(self, kind: str, parameters: tuple[Any, ...], size: Any) -> Array:
        """Coordinates (or discrete values) of the next call, in the shape it asks for."""
        if size is None:
            shape = np.broadcast_shapes(*(np.shape(p) for p in parameters)) if parameters else ()
        else:
            shape = (int(size),) if np.ndim(size) == 0 else tuple(int(s) for s in size)
        if self._script is None:
            values = np.asarray(_DRAW[kind](self.source, shape, *parameters))
        else:
            if self._next >= len(self._script):
                raise Diverged("more draws than recorded")
            planned = self._script[self._next]
            count = int(np.prod(shape))
            if planned.kind != kind or planned.values.size != count:
                raise Diverged("other draws than recorded")
            if kind in _DISCRETE:
                values = planned.values.reshape(shape)
            else:
                values = self._point[self._cursor : self._cursor + count].reshape(shape)
                self._cursor += count
            self._next += 1
        self.entries.append(Entry(kind, parameters, values))
        return values

    # -- normal

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Standard normal deviates."""
        return _give(self._take("normal", (), _size(size, out)), dtype, out)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Normal deviates."""
        _at_least_zero("scale", scale)
        return loc + scale * _plain(self._take("normal", (), _size_of(size, loc, scale)))

    def lognormal(self, mean: Any = 0.0, sigma: Any = 1.0, size: Any = None) -> Any:
        """Exponentials of normal deviates."""
        return np.exp(self.normal(mean, sigma, size))

    def multivariate_normal(
        self,
        mean: Any,
        cov: Any,
        size: Any = None,
        check_valid: Any = "warn",
        tol: float = 1e-8,
        *,
        method: Any = "svd",  # noqa: ARG002 - any root of the covariance gives the same law
    ) -> Any:
        """Multivariate normal vectors."""
        mean, cov = np.asarray(mean, float), np.asarray(cov, float)
        if mean.ndim != 1 or cov.shape != (len(mean), len(mean)):
            raise ValueError(f"mean has shape {mean.shape} and cov has shape {cov.shape}")
        left, spread, right = np.linalg.svd(cov)
        if check_valid != "ignore" and not np.allclose((right.T * spread) @ right, cov, tol, tol):
            if check_valid == "raise":
                raise ValueError("covariance is not symmetric positive-semidefinite.")
            warnings.warn(
                "covariance is not symmetric positive-semidefinite.", RuntimeWarning, stacklevel=2
            )
        del left
        lead = () if size is None else (size,) if np.ndim(size) == 0 else tuple(size)
        z = self._take("normal", (), (*lead, len(mean)))
        return mean + (z * np.sqrt(spread)) @ right

    # -- gamma and its relatives

    def standard_gamma(
        self, shape: Any, size: Any = None, dtype: Any = np.float64, out: Any = None
    ) -> Any:
        """Gamma variables of scale one."""
        return _give(np.exp(self._log_gamma(shape, _size(size, out))), dtype, out)

    def gamma(self, shape: Any, scale: Any = 1.0, size: Any = None) -> Any:
        """Gamma variables."""
        _at_least_zero("scale", scale)
        return scale * _plain(np.exp(self._log_gamma(shape, _size_of(size, shape, scale))))

    def standard_exponential(
        self,
        size: Any = None,
        dtype: Any = np.float64,
        method: Any = "zig",  # noqa: ARG002
        out: Any = None,
    ) -> Any:
        """Exponential variables of mean one."""
        return _give(np.exp(self._log_gamma(1.0, _size(size, out))), dtype, out)

    def exponential(self, scale: Any = 1.0, size: Any = None) -> Any:
        """Exponential variables."""
        return self.gamma(1.0, scale, size)

    def chisquare(self, df: Any, size: Any = None) -> Any:
        """Chi-square variables."""
        return 2.0 * self.standard_gamma(np.divide(df, 2.0), size)

    def weibull(self, a: Any, size: Any = None) -> Any:
        """Weibull variables."""
        return self.exponential(1.0, _size_of(size, a)) ** np.divide(1.0, a)

    def rayleigh(self, scale: Any = 1.0, size: Any = None) -> Any:
        """Rayleigh variables."""
        return scale * np.sqrt(2.0 * self.exponential(1.0, _size_of(size, scale)))

    def pareto(self, a: Any, size: Any = None) -> Any:
        """Pareto variables of the second kind."""
        return np.expm1(self.exponential(1.0, _size_of(size, a)) / a)

    def gumbel(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Gumbel variables."""
        return loc - scale * _plain(self._log_gamma(1.0, _size_of(size, loc, scale)))

    def _log_gamma(self, shape: Any, size: Any) -> Array:
        _at_least_zero("shape", shape)
        return self._take("log_gamma", (np.asarray(shape, float),), size)

    # -- beta, uniform and their relatives

    def beta(self, a: Any, b: Any, size: Any = None) -> Any:
        """Beta variables."""
        return _plain(expit(self._logit(a, b, size)))

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Uniform variables on (0, 1)."""
        return _give(expit(self._logit(1.0, 1.0, _size(size, out))), dtype, out)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Uniform variables on (low, high)."""
        return low + (np.subtract(high, low)) * self.random(_size_of(size, low, high))

    def f(self, dfnum: Any, dfden: Any, size: Any = None) -> Any:
        """F variables: odds of a beta variable, scaled."""
        odds = np.exp(self._logit(np.divide(dfnum, 2.0), np.divide(dfden, 2.0), size))
        return _plain(odds * np.divide(dfden, dfnum))

    def logistic(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Logistic variables."""
        return loc + scale * _plain(self._logit(1.0, 1.0, _size_of(size, loc, scale)))

    def laplace(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Laplace variables."""
        u = self._logit(1.0, 1.0, _size_of(size, loc, scale))
        lower, upper = np.log(2) + log_expit(u), -np.log(2) - log_expit(-u)
        return loc + scale * _plain(np.where(u < 0, lower, upper))

    def dirichlet(self, alpha: Any, size: Any = None) -> Any:
        """Dirichlet vectors, by breaking a stick."""
        alpha = np.asarray(alpha, float)
        lead = () if size is None else (size,) if np.ndim(size) == 0 else tuple(size)
        rest = np.cumsum(alpha[::-1])[::-1][1:]
        u = self._logit(alpha[:-1], rest, (*lead, len(rest)))
        log_left = np.concatenate(
            [np.zeros((*lead, 1)), np.cumsum(log_expit(-u), axis=-1)], axis=-1
        )
        log_piece = np.concatenate([log_expit(u), np.zeros((*lead, 1))], axis=-1)
        return np.exp(log_left + log_piece)

    def _logit(self, a: Any, b: Any, size: Any) -> Array:
        _at_least_zero("a", a)
        _at_least_zero("b", b)
        return self._take("logit_beta", (np.asarray(a, float), np.asarray(b, float)), size)

    # -- others with a density of their own

    def standard_t(self, df: Any, size: Any = None) -> Any:
        """Student's t variables."""
        return _plain(self._take("student", (np.asarray(df, float),), size))

    def standard_cauchy(self, size: Any = None) -> Any:
        """Cauchy variables."""
        return self.standard_t(1.0, size)

    def wald(self, mean: Any, scale: Any, size: Any = None) -> Any:
        """Inverse Gaussian variables."""
        parameters = (np.asarray(mean, float), np.asarray(scale, float))
        return _plain(np.exp(self._take("log_wald", parameters, size)))

    # -- discrete

    def poisson(self, lam: Any = 1.0, size: Any = None) -> Any:
        """Poisson counts."""
        return _whole(self._take("poisson", (np.asarray(lam, float),), size))

    def binomial(self, n: Any, p: Any, size: Any = None) -> Any:
        """Binomial counts."""
        return _whole(self._take("binomial", (np.asarray(n), np.asarray(p, float)), size))

    def geometric(self, p: Any, size: Any = None) -> Any:
        """Geometric counts, from one."""
        return _whole(self._take("geometric", (np.asarray(p, float),), size))

    def negative_binomial(self, n: Any, p: Any, size: Any = None) -> Any:
        """Negative binomial counts of failures."""
        parameters = (np.asarray(n, float), np.asarray(p, float))
        return _whole(self._take("negative_binomial", parameters, size))

    def integers(
        self,
        low: Any,
        high: Any = None,
        size: Any = None,
        dtype: Any = np.int64,
        endpoint: bool = False,
    ) -> Any:
        """Uniform whole numbers."""
        if np.ndim(low) or np.ndim(high):
            raise UnrecordedDraw("rng.integers with bounds that are arrays")
        low, high = (0, low) if high is None else (low, high)
        count = int(high) - int(low) + bool(endpoint)
        share = np.full(count, 1.0 / count)
        return (low + _whole(self._take("categorical", (share,), _default(size)))).astype(dtype)

    def choice(
        self,
        a: Any,
        size: Any = None,
        replace: bool = True,
        p: Any = None,
        axis: int = 0,
        shuffle: bool = True,  # noqa: ARG002
    ) -> Any:
        """Elements of a, with replacement."""
        if not replace and size is not None:
            raise UnrecordedDraw("rng.choice without replacement")
        items = np.arange(a) if np.ndim(a) == 0 else np.asarray(a)
        count = items.shape[axis]
        share = np.full(count, 1.0 / count) if p is None else np.asarray(p, float)
        if not np.isclose(share.sum(), 1.0):
            raise ValueError("probabilities do not sum to 1")
        return np.take(items, _whole(self._take("categorical", (share,), _default(size))), axis)


def _unrecorded(method: str) -> Any:
    def call(self: Recorder, *_: Any, **__: Any) -> Any:  # noqa: ARG001
        raise UnrecordedDraw(f"rng.{method}")

    return call


for _method in [
    "bytes",
    "hypergeometric",
    "logseries",
    "multinomial",
    "multivariate_hypergeometric",
    "noncentral_chisquare",
    "noncentral_f",
    "permutation",
    "permuted",
    "power",
    "shuffle",
    "spawn",
    "triangular",
    "vonmises",
    "zipf",
]:
    setattr(Recorder, _method, _unrecorded(_method))


# -- the base distributions


def _wald_log_density(u: Array, mean: Array, scale: Array) -> Array:
    x = np.exp(u)
    return 0.5 * (np.log(scale) - u) - scale * (x - mean) ** 2 / (2 * mean**2 * x)


_DRAW: dict[str, Any] = {
    "normal": lambda g, size: g.standard_normal(size),
    # Small shapes underflow; log G(a) = log G(a + 1) + log(U)/a does not.
    "log_gamma": lambda g, size, a: (
        np.log(g.standard_gamma(a + 1.0, size)) - g.standard_exponential(size) / a
    ),
    "logit_beta": lambda g, size, a, b: (
        _DRAW["log_gamma"](g, size, a) - _DRAW["log_gamma"](g, size, b)
    ),
    "student": lambda g, size, df: g.standard_t(df, size),
    "log_wald": lambda g, size, mean, scale: np.log(g.wald(mean, scale, size)),
    "poisson": lambda g, size, lam: g.poisson(lam, size),
    "binomial": lambda g, size, n, p: g.binomial(n, p, size),
    "geometric": lambda g, size, p: g.geometric(p, size),
    "negative_binomial": lambda g, size, n, p: g.negative_binomial(n, p, size),
    "categorical": lambda g, size, p: g.choice(len(p), size, p=p),
}

_LOG: dict[str, Any] = {
    "normal": lambda z: -0.5 * z * z,
    "log_gamma": lambda u, a: a * u - np.exp(u) - gammaln(a),
    "logit_beta": lambda u, a, b: a * log_expit(u) + b * log_expit(-u) - betaln(a, b),
    "student": lambda t, df: (
        gammaln((df + 1) / 2)
        - gammaln(df / 2)
        - 0.5 * np.log(df)
        - (df + 1) / 2 * np.log1p(t * t / df)
    ),
    "log_wald": _wald_log_density,
    "poisson": lambda x, lam: xlogy(x, lam) - lam - gammaln(x + 1),
    "binomial": lambda x, n, p: (
        gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1) + xlogy(x, p) + xlog1py(n - x, -p)
    ),
    "geometric": lambda x, p: xlog1py(x - 1, -p) + np.log(p),
    "negative_binomial": lambda x, n, p: (
        gammaln(x + n) - gammaln(n) - gammaln(x + 1) + n * np.log(p) + xlog1py(x, -p)
    ),
    "categorical": lambda x, p: np.log(p[x]),
}


# -- arguments and results as NumPy has them


def _size(size: Any, out: Any) -> Any:
    """Shape of the result where parameters have none."""
    return size if out is None else np.shape(out)


def _default(size: Any) -> Any:
    return () if size is None else size


def _size_of(size: Any, *parameters: Any) -> Any:
    """Shape of the result: `size`, or what the parameters broadcast to."""
    return np.broadcast_shapes(*(np.shape(p) for p in parameters)) if size is None else size


def _at_least_zero(name: str, value: Any) -> None:
    low = value if isinstance(value, float) else np.min(value)
    if low < 0:
        raise ValueError(f"{name} < 0")


def _plain(values: Array) -> Any:
    """Give a float for shape ()."""
    return values if values.ndim else float(values)


def _whole(values: Array) -> Any:
    return values if values.ndim else np.int64(values)


def _give(values: Array, dtype: Any, out: Any) -> Any:
    if out is not None:
        out[...] = values
        return out
    return _plain(values) if dtype is np.float64 else values.astype(dtype)

"""Priors on standard deviations, variances and coefficients, as frozen scipy.stats distributions.

What the user writes (`Prior`) is kept as it is; `ScalePrior` and `CoefficientPrior` are what the
engine reads from it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import PriorError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ranef.types import Array

__all__ = [
    "LKJ",
    "CoefficientPrior",
    "Dirichlet",
    "Power",
    "ScalePrior",
    "Variance",
    "coefficient_prior",
    "default_scale",
    "dirichlet",
    "flat",
    "half_t",
    "jeffreys",
    "lkj",
    "lkj_shape",
    "parse_prior",
    "scale_prior",
    "variance",
]


@dataclass(frozen=True)
class Variance:
    """A distribution that is meant for the variance, not the standard deviation."""

    distribution: Any


@dataclass(frozen=True)
class Power:
    """The improper density proportional to sigma^(-exponent) on a standard deviation."""

    exponent: float
    name: str


def variance(distribution: Any) -> Variance:
    """Say that a prior is on a variance instead of a standard deviation.

    Parameters
    ----------
    distribution
        A frozen `scipy.stats` distribution on (0, inf), or `flat()`.

    Returns
    -------
    Variance
        To be given in `priors`.

    Raises
    ------
    PriorError
        If it is given anything else.

    Examples
    --------
    >>> from scipy import stats
    >>> scale_prior(variance(stats.invgamma(0.1, scale=1)), "sigma").text
    'variance(invgamma(0.1, scale=1))'
    """
    if not isinstance(distribution, Power) and not _is_frozen(distribution):
        raise PriorError(
            f"variance is given a {type(distribution).__name__}; expected a frozen continuous "
            "scipy.stats distribution such as scipy.stats.invgamma(1, scale=1), or flat()."
        )
    return Variance(distribution)


def flat() -> Power:
    """Return the improper uniform prior, for a coefficient or a standard deviation.

    On a group's standard deviation it gives a proper posterior only with enough groups
    (Gelman 2006, Bayesian Analysis 1, 515); where it does not, `fit` refuses.

    Returns
    -------
    Power

    Examples
    --------
    >>> flat().exponent
    0.0
    """
    return Power(0.0, "flat")


def jeffreys() -> Power:
    """Return the improper prior 1/sigma, uniform on the logarithm.

    Right for the residual standard deviation; on a group's it makes the posterior improper, which
    `fit` refuses (Hobert and Casella 1996, JASA 91, 1461).

    Returns
    -------
    Power

    Examples
    --------
    >>> jeffreys().exponent
    1.0
    """
    return Power(1.0, "jeffreys")


@cache
def _half_t_family() -> Any:
    """Make the half-t family; inside a function because scipy.stats is slow to import."""
    from scipy import stats

    class HalfT(stats.rv_continuous):  # type: ignore[misc]
        """Absolute value of a t variable."""

        def _pdf(self, x: Array, df: Array) -> Any:
            return 2 * stats.t.pdf(x, df)

        def _logpdf(self, x: Array, df: Array) -> Any:
            return np.log(2) + stats.t.logpdf(x, df)

        def _cdf(self, x: Array, df: Array) -> Any:
            return 2 * stats.t.cdf(x, df) - 1

        def _sf(self, x: Array, df: Array) -> Any:
            return 2 * stats.t.sf(x, df)

        def _ppf(self, q: Array, df: Array) -> Any:
            return stats.t.isf((1 - q) / 2, df)

        def _rvs(self, df: Array, size: Any = None, random_state: Any = None) -> Any:
            return np.abs(stats.t.rvs(df, size=size, random_state=random_state))

        def __reduce__(self) -> Any:
            # A class inside a function cannot be found by its name, so pickle asks the function.
            return _half_t_family, ()

    return HalfT(a=0.0, name="half_t", shapes="df")


def half_t(scale: float, df: float = 3) -> Any:
    """Return the half-t distribution, the usual weakly informative prior on a standard deviation.

    Parameters
    ----------
    scale
        In the units of the response; the median is 0.76 times this for df = 3.
    df
        Degrees of freedom; 3 as in brms, 1 is the half-Cauchy.

    Returns
    -------
    frozen scipy.stats distribution

    Raises
    ------
    PriorError
        If scale or df is not positive and finite.

    Examples
    --------
    >>> round(float(half_t(2.5).median()), 3)
    1.912
    """
    for name, value in (("scale", scale), ("df", df)):
        if isinstance(value, str) or not (np.isfinite(value) and value > 0):
            raise PriorError(f"half_t: {name} is {value!r}; a positive number is expected.")
    return _half_t_family()(df, scale=scale)


@dataclass(frozen=True)
class ScalePrior:
    """A prior on a standard deviation, ready for the engine.

    Attributes
    ----------
    given
        What the user gave.
    text
        The prior as `parse_prior` reads it back.
    on_variance
        Whether the distribution is on the variance.
    support
        Bounds of the standard deviation.
    inverse_gamma
        Shape a and scale b where the variance is IG(a, b); the fast conjugate path.
    power
        Exponent c where the density is sigma^(-c), improper; None for proper priors.
    """

    given: Any
    text: str
    on_variance: bool
    support: tuple[float, float]
    inverse_gamma: tuple[float, float] | None
    power: float | None

    def log_density(self, log_sigma: Array) -> Array:
        """Log density of log(sigma), at any array of log standard deviations."""
        if self.power is not None:
            return np.asarray((1 - self.power) * log_sigma)
        if self.inverse_gamma is not None:
            from scipy.special import gammaln

            a, b = self.inverse_gamma
            constant = a * np.log(b) - gammaln(a) + np.log(2)
            with np.errstate(over="ignore"):
                return np.asarray(constant - 2 * a * log_sigma - b * np.exp(-2 * log_sigma))
        if not self.on_variance and self.given.dist.name == "half_t":
            # The default prior; its closed form is five times faster than scipy's general path.
            from scipy.special import gammaln

            (df,), _, scale = _parameters(self.given)
            constant = (
                np.log(2 / scale)
                + gammaln((df + 1) / 2)
                - gammaln(df / 2)
                - 0.5 * np.log(df * np.pi)
            )
            with np.errstate(over="ignore"):
                ratio = np.exp(2 * (log_sigma - np.log(scale))) / df
            return np.asarray(constant + log_sigma - 0.5 * (df + 1) * np.log1p(ratio))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            power = 2.0 if self.on_variance else 1.0
            value = np.exp(power * log_sigma)
            out = self._distribution.logpdf(value) + power * log_sigma + np.log(power)
        # A scale that overflows or underflows lies outside of what any data can mean.
        return np.where(out < np.inf, out, -np.inf)

    @property
    def _distribution(self) -> Any:
        return self.given.distribution if self.on_variance else self.given

    @cached_property
    def median(self) -> float | None:
        """Median of the standard deviation; None for improper priors, or where it overflows."""
        if self.power is not None:
            return None
        with np.errstate(all="ignore"):
            middle = float(self._distribution.median())
        if not 0 < middle < np.inf:
            return None
        return float(np.sqrt(middle)) if self.on_variance else middle

    def draw(self, rng: np.random.Generator, size: int) -> Array:
        """Draw standard deviations; only proper priors have draws."""
        if self.power is not None:
            raise PriorError(f"The prior {self.text} is improper, so nothing can be drawn from it.")
        values = np.asarray(self._distribution.rvs(size=size, random_state=rng), dtype=float)
        return np.sqrt(values) if self.on_variance else values


@dataclass(frozen=True)
class CoefficientPrior:
    """Normal(mean, sd) on a fixed effect; a flat prior has sd = inf."""

    mean: float
    sd: float
    text: str

    @property
    def precision(self) -> float:
        """1 / sd^2; 0 for a flat prior."""
        return 0.0 if np.isinf(self.sd) else self.sd**-2


def scale_prior(prior: Any, name: str) -> ScalePrior:
    """Read a user's prior on a standard deviation or variance.

    Parameters
    ----------
    prior
        Frozen `scipy.stats` distribution on the SD, `variance(...)`, `flat()`, `jeffreys()`, or
        text such as `"half_t(50)"`.
    name
        The parameter, for error messages.

    Returns
    -------
    ScalePrior

    Raises
    ------
    PriorError
        If it is no continuous distribution on positive numbers, or its scale is not positive.

    Examples
    --------
    >>> scale_prior(half_t(50), "sigma").text
    'half_t(50, df=3)'
    """
    if isinstance(prior, str):
        prior = parse_prior(prior)
    if isinstance(prior, ScalePrior):
        return prior
    on_variance = isinstance(prior, Variance)
    inner = prior.distribution if isinstance(prior, Variance) else prior
    if isinstance(inner, Power):
        # A density f on v = sigma^2 is 2 sigma f(sigma^2) on sigma.
        exponent = 2 * inner.exponent - 1 if on_variance else inner.exponent
        text = f"variance({inner.name})" if on_variance else inner.name
        return ScalePrior(prior, text, on_variance, (0.0, np.inf), None, exponent)
    _require_frozen(inner, name)
    text = _text(inner)
    shape, location, scale = _parameters(inner)
    with np.errstate(all="ignore"):  # scipy warns on the way to its nan
        low, high = (float(v) for v in inner.support())
        middle = float(inner.median())
    # An infinite median alone is none: that of variance(invgamma(1e-4, scale=1e-4)) overflows.
    if np.isnan(middle) or not np.isfinite([*shape, location, scale]).all():
        raise PriorError(
            f"Prior {text} for {name!r}: its scale or shape is not a positive number.",
            parameter=name,
        )
    if low < 0:
        raise PriorError(
            f"Prior {text} for {name!r} has support ({low:g}, {high:g}); "
            f"a {'variance' if on_variance else 'standard deviation'} needs one on positive "
            "numbers, e.g. half_t or halfnorm.",
            parameter=name,
        )
    conjugate = None
    if on_variance:
        low, high = float(np.sqrt(low)), float(np.sqrt(high))
        if inner.dist.name == "invgamma" and location == 0:
            conjugate = (shape[0], scale)
    text = f"variance({text})" if on_variance else text
    return ScalePrior(prior, text, on_variance, (low, high), conjugate, None)


def coefficient_prior(prior: Any, name: str) -> CoefficientPrior:
    """Read a user's prior on a fixed effect: `stats.norm(mean, sd)` or `flat()`.

    Parameters
    ----------
    prior
        Frozen normal distribution, `flat()`, or text.
    name
        The coefficient, for error messages.

    Returns
    -------
    CoefficientPrior

    Raises
    ------
    PriorError
        For any other distribution: only these two integrate out exactly.

    Examples
    --------
    >>> coefficient_prior("norm(0, 10)", "x").sd
    10.0
    """
    if isinstance(prior, str):
        prior = parse_prior(prior)
    if isinstance(prior, CoefficientPrior):
        return prior
    if prior == flat():
        return CoefficientPrior(0.0, np.inf, "flat")
    if isinstance(prior, (Power, Variance)):
        raise PriorError(f"Prior for coefficient {name!r} must be normal or flat.", parameter=name)
    _require_frozen(prior, name)
    if prior.dist.name != "norm":
        raise PriorError(
            f"Prior {_text(prior)} for coefficient {name!r}: only norm(mean, sd) and flat "
            "integrate out exactly; choose one of them.",
            parameter=name,
        )
    with np.errstate(all="ignore"):
        mean, sd = float(prior.mean()), float(prior.std())
    if not (np.isfinite(mean) and np.isfinite(sd) and sd > 0):
        raise PriorError(
            f"Prior {_text(prior)} for {name!r}: its scale is not a positive number.",
            parameter=name,
        )
    return CoefficientPrior(mean, sd, _text(prior))


@dataclass(frozen=True)
class LKJ:
    """The LKJ prior on a correlation matrix."""

    eta: float


def lkj(eta: float) -> LKJ:
    """Return the LKJ prior on the correlations of a group term.

    Parameters
    ----------
    eta
        Density proportional to det(R)^(eta - 1); 1 is uniform over correlation matrices, larger
        values favour weak correlations (Lewandowski, Kurowicka and Joe 2009).

    Returns
    -------
    LKJ

    Raises
    ------
    PriorError
        If eta is not positive.

    Examples
    --------
    >>> lkj(2).eta
    2
    """
    if not (np.isfinite(eta) and eta > 0):
        raise PriorError(f"lkj: eta is {eta:g}; a positive number is expected.")
    return LKJ(eta)


def lkj_shape(prior: Any, name: str) -> float:
    """Read a user's prior on correlations: `lkj(eta)`, text, or the number eta itself."""
    if isinstance(prior, str):
        prior = parse_prior(prior)
    if isinstance(prior, LKJ):
        return float(prior.eta)
    if isinstance(prior, (int, float)):
        return float(lkj(prior).eta)
    raise PriorError(f"Prior for {name!r}: correlations take lkj(eta).", parameter=name)


@dataclass(frozen=True)
class Dirichlet:
    """Dirichlet on the shares of a total variance: one number for all, by name, or in order."""

    alpha: float | tuple[tuple[str, float], ...] | tuple[float, ...]

    @property
    def text(self) -> str:
        """The prior as `parse_prior` reads it back."""
        if isinstance(self.alpha, float):
            return f"dirichlet({self.alpha:.12g})"
        named = [a for a in self.alpha if isinstance(a, tuple)]
        if named:
            return f"dirichlet({{{', '.join(f'{n!r}: {v:.12g}' for n, v in named)}}})"
        return f"dirichlet([{', '.join(f'{a:.12g}' for a in self.alpha)}])"

    def parameters(self, names: Sequence[str]) -> Array:
        """One parameter for each name, shape (len(names),).

        Raises
        ------
        PriorError
            If a name is unknown, or the numbers are not as many as the names.
        """
        if isinstance(self.alpha, float):
            return np.full(len(names), self.alpha)
        named = dict(a for a in self.alpha if isinstance(a, tuple))
        if named:
            for name in named:
                if name not in names:
                    raise PriorError(
                        f"dirichlet names {name!r}, which is no share of the total variance. "
                        f"{nearest(name, names)}",
                        parameter=name,
                    )
            return np.array([named.get(n, 1.0) for n in names])
        if len(self.alpha) != len(names):
            raise PriorError(
                f"dirichlet has {len(self.alpha)} numbers for {len(names)} shares: "
                f"{', '.join(names)}."
            )
        return np.array(self.alpha, dtype=float)


def dirichlet(alpha: Any) -> Dirichlet:
    """Return the Dirichlet prior on the shares of a total variance.

    Stated as `priors={"shares": dirichlet(1), "total_sigma": half_t(50)}`: the total variance, and
    how it divides among group effects and residual, in place of a prior for each standard
    deviation. A slope's share counts what it brings at the root mean square of its column.

    Parameters
    ----------
    alpha
        One number for all shares (1 is uniform on the simplex), a mapping such as
        `{"1|g": 2, "sigma": 1}` (1 for what it leaves out), a list in the order of the group
        effects with the residual last, or a frozen `scipy.stats.dirichlet`.

    Returns
    -------
    Dirichlet

    Raises
    ------
    PriorError
        If a number is not positive.

    Examples
    --------
    >>> dirichlet({"1|g": 2}).parameters(["1|g", "sigma"])
    array([2., 1.])
    """
    if isinstance(alpha, Dirichlet):
        return alpha
    alpha = getattr(alpha, "alpha", alpha)  # of a frozen scipy.stats.dirichlet
    try:
        if isinstance(alpha, Mapping):
            made = Dirichlet(tuple((str(k), float(v)) for k, v in alpha.items()))
            values = [v for _, v in made.alpha]  # type: ignore[union-attr, misc]
        elif np.ndim(alpha):
            made = Dirichlet(tuple(float(v) for v in alpha))
            values = list(made.alpha)  # type: ignore[arg-type]
        else:
            made = Dirichlet(float(alpha))
            values = [float(alpha)]
    except (TypeError, ValueError):
        raise PriorError(
            f"dirichlet takes a positive number, a mapping or a list of them; {alpha!r} came."
        ) from None
    if not all(np.isfinite(v) and v > 0 for v in values):
        raise PriorError(f"dirichlet: {alpha!r} came; positive numbers are expected.")
    return made


def default_scale(mad: float) -> float:
    """Scale of the default half-t prior on every SD, as in brms: max(2.5, mad(y)), one decimal.

    Parameters
    ----------
    mad
        Median absolute deviation of the response times 1.4826.

    Returns
    -------
    float
        In the units of the response.

    Examples
    --------
    >>> default_scale(56.31), default_scale(0.2)
    (56.3, 2.5)
    """
    return max(2.5, round(mad, 1))


def parse_prior(text: str) -> Any:
    """Read a prior written as text, e.g. on the command line.

    Parameters
    ----------
    text
        `half_t(50)`, `variance(invgamma(0.1, scale=1))`, `norm(0, 10)`, `flat`, `jeffreys`, or
        any other continuous `scipy.stats` distribution with numbers as arguments.

    Returns
    -------
    frozen distribution, Variance or Power

    Raises
    ------
    PriorError
        Saying what cannot be read, and where.

    Examples
    --------
    >>> parse_prior("jeffreys").name
    'jeffreys'
    """
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        position = max(error.offset or 1, 1)
        raise PriorError(
            f"Prior {text!r}, character {position}: {error.msg}; expected "
            "for example 'half_t(50)' or 'variance(invgamma(0.1, scale=1))'.",
            text=text,
            position=position,
        ) from None
    return _build(tree, text)


def _build(node: ast.expr, text: str) -> Any:
    """Make the prior that a syntax tree names; nothing is evaluated but numbers."""
    where = f"Prior {text!r}, character {node.col_offset + 1}"
    call = node if isinstance(node, ast.Call) else None
    head = call.func if call is not None else node
    if not isinstance(head, ast.Name):
        raise PriorError(f"{where}: a distribution's name is expected, e.g. 'half_t(50)'.")
    if head.id in ("flat", "jeffreys"):
        if call is not None and (call.args or call.keywords):
            raise PriorError(f"{where}: {head.id} takes no arguments.")
        return flat() if head.id == "flat" else jeffreys()
    if call is None:
        raise PriorError(f"{where}: {head.id!r} needs arguments, e.g. '{head.id}(scale=1)'.")
    if head.id == "variance":
        if len(call.args) != 1 or call.keywords:
            raise PriorError(f"{where}: variance takes one distribution.")
        return variance(_build(call.args[0], text))
    if head.id in ("dirichlet", "invwishart"):
        return _multivariate(head.id, call, where)
    arguments = [_number(a, text) for a in call.args]
    named = {str(k.arg): _number(k.value, text) for k in call.keywords}
    own: dict[str, Any] = {"half_t": half_t, "lkj": lkj}
    family = own[head.id] if head.id in own else _family(head.id, where)
    try:
        return family(*arguments, **named)
    except TypeError as error:
        raise PriorError(f"{where}: {head.id}: {str(error).split('() ')[-1]}.") from None


def _multivariate(name: str, call: ast.Call, where: str) -> Any:
    """Make a prior whose arguments are lists or mappings of numbers."""
    try:
        arguments = [ast.literal_eval(a) for a in call.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        if name == "dirichlet":
            return dirichlet(*arguments, **named)
        from scipy import stats

        return stats.invwishart(*arguments, **named)
    except PriorError:
        raise
    except (TypeError, ValueError) as error:
        raise PriorError(f"{where}: {name}: {error}.") from None


def _family(name: str, where: str) -> Any:
    """Find a continuous scipy.stats family by name."""
    from scipy import stats

    family = getattr(stats, name, None)
    if not isinstance(family, stats.rv_continuous):
        families = [n for n in dir(stats) if isinstance(getattr(stats, n), stats.rv_continuous)]
        own = ["half_t", "flat", "jeffreys", "lkj", "variance", "dirichlet", "invwishart"]
        known = [*own, *families]
        raise PriorError(f"{where}: no distribution is called {name!r}. {nearest(name, known)}")
    return family


def _number(node: ast.expr, text: str) -> float:
    """Read a number, with or without a sign."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PriorError(
            f"Prior {text!r}, character {node.col_offset + 1}: a number is expected.",
            text=text,
            position=node.col_offset + 1,
        )
    return value


def _is_frozen(prior: Any) -> bool:
    """Whether `prior` is a frozen continuous scipy.stats distribution."""
    from scipy.stats.distributions import rv_frozen

    return isinstance(prior, rv_frozen) and hasattr(prior, "pdf")


def _require_frozen(prior: Any, name: str) -> None:
    """Raise unless `prior` is a frozen continuous scipy.stats distribution."""
    if not _is_frozen(prior):
        raise PriorError(
            f"Prior for {name!r} is a {type(prior).__name__}; expected a frozen continuous "
            "scipy.stats distribution such as scipy.stats.halfnorm(scale=10).",
            parameter=name,
        )
    if any(np.ndim(value) for value in (*prior.args, *prior.kwds.values())):
        raise PriorError(
            f"Prior for {name!r}: {prior.dist.name} has arrays as arguments; one number for each "
            "is expected.",
            parameter=name,
        )


def _parameters(frozen: Any) -> tuple[tuple[float, ...], float, float]:
    """Shapes, location and scale of a frozen distribution."""
    shape, location, scale = frozen.dist._parse_args(*frozen.args, **frozen.kwds)
    return tuple(float(s) for s in shape), float(location), float(scale)


def _text(frozen: Any) -> str:
    """Write a frozen distribution as a call that `parse_prior` reads back."""
    if frozen.dist.name == "half_t":
        shape, _, scale = _parameters(frozen)
        return f"half_t({scale:.12g}, df={shape[0]:.12g})"
    # Adding zero turns -0.0, which would not read back as the same text, into 0.
    given = [f"{a + 0.0:.12g}" for a in frozen.args]
    given += [f"{k}={v + 0.0:.12g}" for k, v in frozen.kwds.items()]
    return f"{frozen.dist.name}({', '.join(given)})"

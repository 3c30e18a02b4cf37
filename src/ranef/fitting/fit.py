"""fit(): the pipeline in one screen.

The module is not called `fit`, because importing it would then put the module where the function
`ranef.fit` belongs.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ranef.common.arguments import brief, generator, is_name, whole_number
from ranef.common.threads import one_thread
from ranef.errors import DataError, ReliabilityWarning, nearest, warn
from ranef.fitting.generalized import fit_generalized
from ranef.fitting.result import Fit
from ranef.mixed_model.model import build_model
from ranef.posterior.certificate import Certificate
from ranef.posterior.source import Source
from ranef.posterior.tree import to_tree
from ranef.samplers import SAMPLERS, check_method
from ranef.samplers.sample import SamplerSettings
from ranef.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ranef.common.array_types import Seed
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import PosteriorSample

__all__ = ["fit"]


def fit(
    formula: str,
    data: Any,
    *,
    priors: Mapping[str, Any] | None = None,
    method: Literal["exact", "gibbs"] = "exact",
    draws: int = 4000,
    chains: int = 4,
    warmup: int = 1000,
    effects: Literal["moments", "draws"] | Sequence[str] = "moments",
    weights: str | None = None,
    se: str | None = None,
    family: str = "gaussian",
    link: str | None = None,
    trials: str | None = None,
    exposure: str | None = None,
    aliased: Literal["refuse", "drop"] = "refuse",
    seed: Seed = None,
    progress: bool = True,
) -> Fit:
    """Draw from the posterior of a mixed model.

    Parameters
    ----------
    formula
        `"response ~ fixed effects + (x|group) + …"`. The intercept is implied, as in R; `0 +`
        leaves it out. Fixed effects are formulaic's language (factors, interactions, `log(x)`,
        `poly(x, 2)`). Group terms: `(1|g)`, `(x|g)` correlated, `(x||g)` independent, `(0 + x|g)`,
        `(f|g)`, `(1|a/b)` nested, `(1|a:b)`, and several of them. `offset(z)` adds z. Put odd
        column names in backticks. Formulas can call Python functions: never pass one from a source
        you do not trust.
    data
        A pandas, polars, pyarrow, DuckDB or other narwhals-compatible table, a mapping of
        columns, or the path of a CSV or Parquet file. Rows with a missing value in a used column
        are left out and counted in a warning.
    priors
        By parameter: `"sigma"`, `"1|g"`, `"x|g"` take a frozen `scipy.stats` distribution on the
        standard deviation, `variance(distribution)` for one on the variance, `flat()` or
        `jeffreys()`; coefficients (a term `"x"`, a column `"f[b]"`, `"Intercept"`) take
        `scipy.stats.norm(mean, sd)` or `flat()`. Text as on the command line works too:
        `"half_t(50)"`. `"x|g_corr"` takes `lkj(theta)`. Default: flat coefficients, `lkj(1)`
        (uniform over correlation matrices), and on all standard deviations
        `half_t(scale, df=3)` with scale max(2.5, mad(y)) rounded to one decimal, as in brms;
        where mad(y) is zero, sd(y) takes its place, with a warning. The
        intercept's prior is on the value at x = 0, not at the mean of x.
    method
        `"exact"`: independent draws. Where proposals do not cover the posterior, annealed
        particles draw instead, and the certificate says so. `"gibbs"`: a blocked Gibbs sampler,
        for comparison.
    draws
        Number of draws in all chains together.
    chains
        Exact draws are independent, so for them chains are only a layout.
    warmup
        Sweeps of Gibbs left out at the start of each chain.
    effects
        `"moments"`: exact posterior mean and sd of every group effect, no draws stored.
        `"draws"`: draws as well, as the variables `1|g`, `x|g`; draws x groups numbers of memory.
        A list: draws of the named effects (`"x|g"`), or of all effects of a factor (`"g"`).
    weights
        Name of a column of precision weights: the residual SD of a row is sigma / sqrt(weight).
    se
        Name of a column of known standard errors, as in a meta-analysis: the residual SD of a row
        is exactly that, so there is no `sigma`. Groups may then have one row each,
        `"effect ~ 1 + (1|study)"`. Instead of `weights`.
    family
        What the response is: `"gaussian"`, `"bernoulli"` (zeros and ones, truth values, or two
        levels of text, the second the success), `"binomial"` (with `trials`), `"poisson"`,
        `"negativebinomial"` (`alpha`, variance mu + mu^2 / alpha). All but the first take effects
        that are independent of each other: `(1|g)`, `(1|g) + (1|h)`, `(1|a/b)`, `(x||g)`.
    link
        `"logit"`, `"probit"` or `"cloglog"` of proportions, `"log"` of counts; the first by
        default.
    trials
        Column of numbers of trials, for `"binomial"`; or in the formula, as `p(y, n) ~ …`,
        `y | trials(n) ~ …` or `cbind(y, n - y) ~ …`.
    exposure
        Column of exposures of counts: its logarithm is an offset.
    aliased
        What to do with fixed-effect columns that are combinations of others: `"refuse"`, the
        default, names them in an error; `"drop"` leaves out the later ones, as R's `lm` does, with
        a warning.
    seed
        Integer or `numpy.random.Generator`, for the same draws again.
    progress
        Show a bar on anything that takes more than a second.

    Returns
    -------
    Fit
        Or `GeneralizedFit`, with the same questions, where the family is not Gaussian.

    Raises
    ------
    RanefError
        `FormulaError`, `DataError`, `PriorError`, `IdentifiabilityError` (one group, every group of
        size one, or a coefficient for every group, under default priors),
        `ImproperPosteriorError`.

    Warns
    -----
    MissingRowsWarning, AliasedWarning, SingleRowWarning, NestingWarning, IdentifiabilityWarning,
    ReliabilityWarning

    Notes
    -----
    Effects and coefficients are integrated out in closed form (Searle, Casella and McCulloch
    1992, Variance Components, ch. 3; Bates et al. 2015, Journal of Statistical Software 67). What
    remains, the SDs and correlations, is drawn from an interpolated quadrature rule (random
    intercepts) or a proposal fitted to the posterior (all else), and corrected by independence
    Metropolis, so that the draws are exact whatever the proposal. Where too few are accepted, all
    are moved on until they remember nothing of where they began.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> list(fit.summary().index)
    ['Intercept', '1|Batch_sigma', 'sigma']
    """
    started = time.perf_counter()
    _check_effects(effects)
    request = _request(method, draws, chains, warmup, progress)
    rng = generator(seed)
    if family != "gaussian":
        _refuse_gaussian_arguments(family, method, weights, se)
        other = fit_generalized(
            formula,
            data,
            lambda model: _with_effects(request, effects, model),
            rng,
            family=family,
            link=link,
            trials=trials,
            exposure=exposure,
            priors=priors,
            aliased=aliased,
            seed=_recorded(seed),
        )
        return _warned(other)
    _refuse_other_arguments(link, trials, exposure)
    with one_thread():
        model, rows = build_model(formula, data, priors, weights, se=se, aliased=aliased)
        request = _with_effects(request, effects, model)
        sample = SAMPLERS[method](model, request, rng)
    seconds = time.perf_counter() - started
    tree = to_tree(
        model,
        sample,
        response=rows.y,
        attributes={
            "ranef_version": __version__,
            "formula": model.spec.formula.text,
            "method": method,
            "rows": model.design.N,
            "dropped": rows.dropped,
            "groups": {f.name: f.levels for f in model.design.factors},
            "structure": sample.structure,
            **_optional(sample),
            "seconds": seconds,
            "seed": _recorded(seed),
            "priors": model.prior_texts(),
            "aliased": model.spec.fixed.aliased,
            **({} if se is None else {"se": se}),
            **({} if weights is None else {"weights": weights}),
        },
    )
    return _warned(Fit(tree, Source(model, rows)))


def _warned(result: Fit) -> Fit:
    """The fit, after a warning where its draws should not be trusted."""
    if not result.certificate.trusted:
        warn(
            f"The draws should not be trusted: {'; '.join(result.certificate.problems)}. "
            f"{_advice(result.certificate)}",
            ReliabilityWarning,
        )
    return result


def _refuse_gaussian_arguments(
    family: Any, method: str, weights: str | None, se: str | None
) -> None:
    """Refuse what has a meaning for normal responses alone."""
    if weights is not None or se is not None:
        raise DataError(
            f"{'weights' if se is None else 'se'} came with family={brief(family)}; both speak of "
            "residuals, which only family='gaussian' has. For proportions give trials=."
        )
    if method != "exact":
        raise DataError(f"method={method!r} came with family={brief(family)}; 'exact' is expected.")


def _refuse_other_arguments(link: Any, trials: Any, exposure: Any) -> None:
    """Refuse what has no meaning for normal responses."""
    for name, value in (("trials", trials), ("exposure", exposure)):
        if value is not None:
            raise DataError(
                f"{name}={brief(value)} came with family='gaussian'; name the family, such as "
                f"family={'binomial' if name == 'trials' else 'poisson'!r}."
            )
    if link not in (None, "identity"):
        raise DataError(f"link is {brief(link)}; family='gaussian' has the link 'identity'.")


def _optional(sample: PosteriorSample) -> dict[str, Any]:
    """What only some samplers know, as attributes of the tree."""
    record = {
        "surrogate_error": sample.surrogate_error,
        "memory": sample.memory,
        "log_mass": sample.log_mass,
        "log_mass_error": sample.log_mass_error,
    }
    return {k: v for k, v in record.items() if v is not None}


def _advice(certificate: Certificate) -> str:
    """What to do about draws that are not to be trusted."""
    if certificate.draws < 1000 or certificate.method == "gibbs":
        return "Take more draws or sweeps (draws=, warmup=)."
    return "Compare with method='gibbs' and look at the priors."


def _recorded(seed: Seed) -> int | str:
    """Write a seed as the file format can hold it: long numbers as text."""
    if not isinstance(seed, (int, np.integer)):
        return "not given as a number"
    return int(seed) if abs(int(seed)) < 2**63 else str(seed)


def _request(method: str, draws: int, chains: int, warmup: int, progress: bool) -> SamplerSettings:
    """Check the plain arguments of `fit`."""
    check_method(method)
    draws, chains = whole_number("draws", draws), whole_number("chains", chains)
    warmup = whole_number("warmup", warmup, 0)
    if draws < 4 * chains:
        raise DataError(
            f"draws={draws}, chains={chains} came; at least four draws for each chain are expected."
        )
    return SamplerSettings(draws // chains * chains, chains, warmup, (), progress)


def _check_effects(effects: object) -> None:
    """Refuse what can be neither a word nor a list of names, before the data are read."""
    names = isinstance(effects, (list, tuple)) and all(isinstance(n, str) for n in effects)
    if not names and not is_name(effects, ("moments", "draws")):
        raise DataError(
            f"effects is {brief(effects)}; 'moments' or 'draws' is expected, or a list of names "
            "such as ['1|g']."
        )


def _with_effects(
    request: SamplerSettings, effects: str | Sequence[str], model: ModelSpec | GeneralizedModel
) -> SamplerSettings:
    """Resolve which effects to draw: none, all, those of a factor, or those named."""
    if effects == "moments":
        return request
    names = [n for t in model.parameters.terms for n in t.names]
    by_factor: dict[str, list[str]] = {}
    for term in model.parameters.terms:
        by_factor.setdefault(model.spec.factors[term.factor].name, []).extend(term.names)
    if effects == "draws":
        return replace(request, effects=tuple(names))
    wanted: list[str] = []
    for name in effects:
        if name not in by_factor and name not in names:
            raise DataError(
                f"effects names {name!r}, which the model does not have. "
                f"{nearest(name, [*by_factor, *names])}"
            )
        wanted += by_factor.get(name, [name])
    return replace(request, effects=tuple(dict.fromkeys(wanted)))

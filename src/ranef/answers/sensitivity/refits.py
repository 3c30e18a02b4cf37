"""Prior sensitivity: the same data under other priors, refitted from the same cells.

A fit under another prior needs only what the data say, and that is at hand; so many priors cost
little more than one (mathematics.md, 5.3).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.answers.sensitivity.power_scaling import (
    log_likelihood_draws,
    log_prior_density,
    power_scaling_sensitivity,
)
from ranef.cells.from_rows import compress
from ranef.cells.orthonormal import column_sizes
from ranef.common import budget
from ranef.common.arguments import function, names_list, share, whole_number
from ranef.common.figures import panels, plot_rows, row_size, with_legend
from ranef.common.progress import track
from ranef.common.random_streams import split_stream
from ranef.errors import (
    DataError,
    IdentifiabilityWarning,
    ImproperPosteriorError,
    PriorError,
    nearest,
)
from ranef.mixed_model.assign_priors import joint_names_taken
from ranef.mixed_model.model import model_from_cells
from ranef.posterior.summary import decimals, shown
from ranef.priors import dirichlet, half_t, parse_prior, variance
from ranef.priors.joint import SHARES, TOTAL
from ranef.samplers import SAMPLERS
from ranef.samplers.proposal_quality import shortfall
from ranef.samplers.sample import SamplerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.common.array_types import Array, Seed
    from ranef.mixed_model.model import ModelSpec

    Quantity = Callable[[Mapping[str, Array]], Array]
    from ranef.posterior.posterior import Posterior

__all__ = ["FITTED", "Sensitivity", "default_alternatives", "sensitivity"]

# Name of the fit's own priors in tables.
FITTED = "as fitted"
# Power-scaling sensitivity from which a quantity counts as sensitive (Kallioinen et al. 2024).
_SENSITIVE = 0.05
# A median that moves by at most a quarter of a posterior SD, with an interval at most a quarter
# wider or narrower, reads the same; one that moves by a posterior SD or whose interval doubles or
# halves does not.
_SAME, _OTHER = (0.25, 1.25), (1.0, 2.0)


@dataclass(frozen=True)
class Sensitivity:
    """The result of `Fit.sensitivity`.

    Attributes
    ----------
    draws
        Posterior draws by prior and quantity, shape (n,) each; first the fit's own.
    priors
        What each prior says, as text by parameter.
    power_scaling
        Sensitivity of each quantity to powers of the prior and of the likelihood.
    failed
        Priors that gave no posterior to trust, and why.
    prob
        Probability of the intervals.
    """

    draws: dict[str, dict[str, Array]]
    priors: dict[str, dict[str, str]]
    power_scaling: pd.DataFrame
    failed: dict[str, str]
    prob: float

    def table(self) -> pd.DataFrame:
        """Each quantity under each prior.

        Returns
        -------
        pandas.DataFrame
            Indexed by quantity and prior; columns mean, sd, lower end, median, upper end, `shift`
            (of the median from that of the fit, in units of half the fit's central 68% interval,
            about a posterior SD) and `width` (of the interval, relative to the fit's).
        """
        import pandas as pd

        low, high = (1 - self.prob) / 2, (1 + self.prob) / 2
        rows = {}
        for name, base in self.draws[FITTED].items():
            lower, left, middle, right, upper = np.quantile(base, [low, 0.16, 0.5, 0.84, high])
            for prior, all_draws in self.draws.items():
                values = all_draws[name]
                a, b, c = np.quantile(values, [low, 0.5, high])
                rows[name, prior] = {
                    "mean": values.mean(),
                    "sd": values.std(ddof=1),
                    f"{100 * low:g}%": a,
                    "median": b,
                    f"{100 * high:g}%": c,
                    "shift": 2 * (b - middle) / (right - left),
                    "width": (c - a) / (upper - lower),
                }
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index = pd.MultiIndex.from_tuples(rows, names=["quantity", "prior"])
        return table

    @cached_property
    def verdicts(self) -> dict[str, str]:
        """One sentence for each quantity that says whose the answer is, the data's or the prior's.

        The data's: no prior moves the median by more than a quarter of a posterior SD or changes
        the interval's width by more than a quarter. The prior's: one moves it by a posterior SD, or
        doubles or halves the interval. In between: partly the prior's. Where power-scaling finds
        the fit's own prior sensitive (above 0.05), that is added.
        """
        table = self.table()
        return {name: self._verdict(name, table.loc[name]) for name in self.draws[FITTED]}

    def _verdict(self, name: str, rows: pd.DataFrame) -> str:
        """Say whose answer a quantity is."""
        digits = decimals(float(rows.loc[FITTED, "sd"]))
        low, high = rows["median"].idxmin(), rows["median"].idxmax()
        widest = float(np.exp(np.abs(np.log(rows["width"])).max()))
        furthest = float(rows["shift"].abs().max())
        whose = "partly the prior's"
        if furthest <= _SAME[0] and widest <= _SAME[1]:
            whose = "the data's"
        elif furthest >= _OTHER[0] or widest >= _OTHER[1]:
            whose = "the prior's"
        text = (
            f"{whose}: medians from {shown(rows.loc[low, 'median'], digits)} ({low}) to "
            f"{shown(rows.loc[high, 'median'], digits)} ({high}), at most {furthest:.2f} "
            f"posterior SD from the fit's; intervals up to {widest:.2f} times as wide or narrow"
        )
        prior, likelihood = self.power_scaling.loc[name, ["prior", "likelihood"]]
        if prior >= _SENSITIVE:
            weak = ": a strong prior beside a weak likelihood" if likelihood < _SENSITIVE else ""
            text += (
                f"; scaling the fit's own prior moves it too (power-scaling sensitivity "
                f"{prior:.2f} to the prior, {likelihood:.2f} to the data{weak})"
            )
        return f"{text}."

    def plot(self) -> Figure:
        """Median and interval of each quantity under each prior, the fit's own as a band.

        Returns
        -------
        matplotlib.figure.Figure
        """
        table, names = self.table(), list(self.draws[FITTED])
        priors = list(self.draws)[::-1]
        _, height = row_size(priors, 0.24)
        figure, axes = panels(len(names), size=(3.4, height + 0.1), most=3, sharey=True)
        for axis, name in zip(axes, names, strict=True):
            part = table.loc[name].loc[priors]
            low, high = (part[c].to_numpy() for c in table.columns[[2, 4]])
            axis.axvspan(low[-1], high[-1], color="0.9", label=f"interval {FITTED}")
            label = f"median, {self.prob:.0%} interval under each prior"
            plot_rows(axis, priors, part["median"].to_numpy(), low, high, label=label)
            axis.set_xlabel(name)
        return with_legend(figure)

    def __str__(self) -> str:
        """Medians and intervals under each prior, and the verdicts."""
        import pandas as pd

        table = self.table()
        ends = table.columns[[2, 4]]
        body = {}
        for name in self.draws[FITTED]:
            part = table.loc[name]
            digits = decimals(float(part.loc[FITTED, "sd"]))
            body[name] = {
                prior: f"{shown(row['median'], digits)} [{shown(row[ends[0]], digits)}, "
                f"{shown(row[ends[1]], digits)}]"
                for prior, row in part.iterrows()
            }
        lines = [f"Posterior medians and {self.prob:.0%} intervals under each prior", ""]
        lines += [v.rstrip() for v in pd.DataFrame(body).to_string().splitlines()]
        lines += ["", *[f"{name}: {text}" for name, text in self.verdicts.items()]]
        lines += [f"Left out, {name}: {text}" for name, text in self.failed.items()]
        return "\n".join(lines)

    __repr__ = __str__


def sensitivity(
    fit: Posterior,
    priors: Mapping[str, Mapping[str, Any]] | None = None,
    quantities: Sequence[str] | Mapping[str, Any] | None = None,
    *,
    prob: float = 0.95,
    draws: int = 4000,
    seed: Seed = None,
    progress: bool = True,
) -> Sensitivity:
    """Whether the answers are the data's or the prior's: refits under other priors.

    Parameters
    ----------
    priors
        Alternatives by name, each a mapping as `ranef.fit` takes it,
        `{"sceptical": {"1|g": "half_t(5)"}}`; what it leaves out stays as fitted. Default: the
        usual priors on all SDs, scaled to the data (half-t, half-Cauchy, exponential, uniform,
        inverse gamma, uniform variance shares; see
        `ranef.answers.sensitivity.refits.default_alternatives`).
    quantities
        Names of parameters as in `summary`, or functions of their draws by name,
        `{"ICC": lambda d: d["1|g_sigma"]**2 / (d["1|g_sigma"]**2 + d["sigma"]**2)}`.
        Default: all parameters.
    prob
        Probability of the equal-tailed intervals.
    draws
        Independent draws under each alternative.
    seed
        Integer or `numpy.random.Generator`; by default the fit's own, so that the same question
        gets the same answer.
    progress
        Show a bar if it takes more than a second.

    Returns
    -------
    Sensitivity
        `.table()`, `.plot()`, `.verdicts` (one sentence for each quantity), and
        `.power_scaling`, the sensitivity to powers of prior and likelihood (Kallioinen et al.
        2024) by arviz-stats.

    Raises
    ------
    PriorError, DataError, ImproperPosteriorError
        If an alternative or a quantity means nothing, or a stated alternative has no proper
        posterior; one of the default alternatives is then listed as left out.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> fit.sensitivity(seed=1).verdicts["sigma"].partition(":")[0]
    "the data's"
    """
    prob, draws, rng = share("prob", prob), whole_number("draws", draws, 100), fit.stream(seed)
    source, drawn = fit.source, fit.posterior_draws
    cells = compress(source.rows)
    own = source.model.prior_texts()
    checked = _check_priors(priors)
    stated = (
        default_alternatives(source.model, cells.mad or cells.sd) if checked is None else checked
    )
    base = _named(source.model, drawn.theta, drawn.beta)
    wanted = _quantities(quantities, base)
    results: dict[str, dict[str, Array]] = {FITTED: {n: f(base) for n, f in wanted.items()}}
    texts, failed = {FITTED: own}, {}
    request = SamplerSettings(draws, 1, 0, (), progress=False, moments=False)
    streams = split_stream(rng, len(stated))
    alternatives = list(zip(stated.items(), streams, strict=True))
    for (name, changes), rng in track(alternatives, "Refitting", show=progress):
        try:
            restated = {**_kept(own, changes, source.model), **changes}
            with warnings.catch_warnings():
                # What the data cannot tell was said when the model was fitted.
                warnings.simplefilter("ignore", IdentifiabilityWarning)
                model = model_from_cells(source.model.spec, cells, restated)
            sample = SAMPLERS["exact"](model, request, rng)
        except ImproperPosteriorError as error:
            if checked is not None:
                raise
            failed[name] = str(error)
            continue
        if (reason := shortfall(sample)) is not None:
            failed[name] = f"its draws should not be trusted ({reason})."
            continue
        texts[name] = model.prior_texts()
        values = _named(model, sample.theta, sample.beta)
        results[name] = {n: f(values) for n, f in wanted.items()}
    # Where an evaluation is expensive evenly spaced draws have to do.
    n = len(drawn.theta)
    seconds, limits = n * drawn.target.structure.cost, budget.POWER_SCALING
    step = max(1, min(n // limits.least, int(seconds / limits.seconds)))
    some = drawn.take(np.arange(0, n, step))
    scaling = power_scaling_sensitivity(
        {name: values[::step] for name, values in results[FITTED].items()},
        log_prior_density(source.model, some),
        log_likelihood_draws(some),
    )
    return Sensitivity(results, texts, scaling, failed, prob)


def default_alternatives(model: ModelSpec, mad: float) -> dict[str, dict[str, Any]]:
    """Make the usual priors on SDs, in the units of the data.

    Parameters
    ----------
    model
        Its group terms, and whether the residual SD is a parameter.
    mad
        Spread s of the response: its median absolute deviation times 1.4826.

    Returns
    -------
    dict
        Priors by name, each for all SDs; s is divided by the root mean square of the column for a
        slope.

        - `half-t`: half_t(s, df=3), brms' default.
        - `half-Cauchy`: half_t(s, df=1) (Gelman 2006).
        - `exponential`: mean s.
        - `uniform`: from 0 to 10 s.
        - `inverse gamma`: variance ~ IG(0.1, 0.1 s^2), which is the weight of 0.2 observations with
          variance s^2. The article's IG(0.1, 1) is that for a total variance of 10 in its units,
          and its data have 8; taken over as it stands to data in other units it would say something
          else.
        - `variance shares`: total SD half_t(s, df=3), shares uniform (Dirichlet(1)); not where
          a fixed effect bears the name of one of these priors.
    """
    from scipy import stats

    design, parameters = model.design, model.parameters
    if not mad > 0:
        mad = model.response.spread(design.count)
    sizes = column_sizes(design)
    scale = {
        name: mad / max(float(sizes[design.factors[term.factor].columns[place]]), 1e-300)
        for term in parameters.terms
        for place, name in zip(term.place, term.names, strict=True)
    }
    scale |= dict.fromkeys(parameters.family.dispersions, mad)
    families: dict[str, Callable[[float], Any]] = {
        "half-t": lambda s: half_t(s, 3),
        "half-Cauchy": lambda s: half_t(s, 1),
        "exponential": lambda s: stats.expon(scale=s),
        "uniform": lambda s: stats.uniform(0, 10 * s),
        "inverse gamma": lambda s: variance(stats.invgamma(0.1, scale=0.1 * s**2)),
    }
    out: dict[str, dict[str, Any]] = {
        name: {k: family(s) for k, s in scale.items()} for name, family in families.items()
    }
    if parameters.family.dispersions and not joint_names_taken(model.names, model.spec.fixed.terms):
        out["variance shares"] = {TOTAL: half_t(mad, 3), SHARES: dirichlet(1)}
    return out


def _check_priors(priors: Any) -> dict[str, dict[str, Any]] | None:
    """Refuse what is no mapping of names to priors."""
    if priors is None:
        return None
    if not isinstance(priors, Mapping) or not all(isinstance(p, Mapping) for p in priors.values()):
        raise PriorError(
            "priors should map a name for each alternative to its priors by parameter, e.g. "
            "{'sceptical': {'1|g': 'half_t(5)'}}; "
            f"{type(priors).__name__ if not isinstance(priors, Mapping) else 'other values'} came."
        )
    if FITTED in priors:
        raise PriorError(f"An alternative is called {FITTED!r}, the name of the fit's own priors.")
    return {str(k): {n: _parsed(p) for n, p in v.items()} for k, v in priors.items()}


def _parsed(prior: Any) -> Any:
    return parse_prior(prior) if isinstance(prior, str) else prior


def _kept(own: Mapping[str, str], changes: Mapping[str, Any], model: ModelSpec) -> dict[str, Any]:
    """Take the fit's own priors that the changes leave standing.

    An alternative for SDs replaces a joint prior on them, and the other way round.
    """
    parameters = model.parameters
    scales = {n for t in parameters.terms for n in t.names} | {"sigma"}
    named = {n.removesuffix("_sigma") for n in changes} & scales
    joint = {TOTAL, SHARES} & set(changes)
    gone = set(changes)
    if joint and parameters.shares is None:
        gone |= scales | {t.label for t in parameters.terms if t.wishart is not None}
    if named and parameters.shares is not None:
        gone |= {TOTAL, SHARES}
    for term in parameters.terms:
        if term.wishart is not None and named & set(term.names):
            gone.add(term.label)
    gone |= {n.removesuffix("_sigma") for n in changes}
    return {k: _parsed(v) for k, v in own.items() if k not in gone}


def _named(model: ModelSpec, theta: Array, beta: Array) -> dict[str, Array]:
    """Draws of every parameter by the name that the summary gives it, shape (n,) each."""
    theta = theta.reshape(-1, theta.shape[-1])
    # Without coefficients there is nothing from which to count the draws.
    beta = beta.reshape(len(theta), beta.shape[-1])
    last = {name for term in model.parameters.terms for name in term.correlation_names}
    named = model.parameters.named(theta)
    out = dict(zip(model.names, beta.T, strict=True))
    return out | dict(sorted(named.items(), key=lambda item: item[0] in last))


def _quantities(wanted: Any, base: Mapping[str, Array]) -> dict[str, Quantity]:
    """Say how to compute each quantity from the parameters' draws."""

    def parameter(name: str) -> Quantity:
        return lambda values: values[name]

    if wanted is None:
        return {name: parameter(name) for name in base}
    if isinstance(wanted, (Mapping, list, tuple)) and not wanted:
        raise DataError("quantities is empty; at least one is expected, e.g. ['sigma'].")
    if isinstance(wanted, Mapping):
        named = {str(name): quantity for name, quantity in wanted.items()}
        for name, quantity in named.items():
            function(f"quantities[{name!r}]", quantity, "of the draws")
            try:
                values = np.asarray(quantity(base))
            except KeyError as error:
                raise DataError(
                    f"quantities[{name!r}] asks for {error.args[0]!r}, which the model does not "
                    f"have. {nearest(str(error.args[0]), base)}"
                ) from None
            length = len(next(iter(base.values())))
            if values.shape != (length,):
                raise DataError(
                    f"quantities[{name!r}] gave shape {values.shape}; one number for each of "
                    f"{length} draws is expected."
                )
        return named
    wanted = names_list("quantities", wanted, "['sigma']")
    for name in wanted:
        if name not in base:
            raise DataError(
                f"quantities names {name!r}, which the model does not have. {nearest(name, base)}"
            )
    return {name: parameter(name) for name in wanted}

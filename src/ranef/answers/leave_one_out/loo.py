"""Leave-one-out densities averaged over the variance parameters alone, as ArviZ's ELPD.

`1 / p(y_j | y_-j) = E[1 / p(y_j | y_-j, theta) | y]`, theta the variance parameters: effects and
coefficients are integrated out in closed form, so the importance weights vary little and Pareto
k-hat stays small where the same weights over all parameters fail (mathematics.md, section 5;
Vehtari, Mononen, Tolvanen, Sivula and Winther 2016, Journal of Machine Learning Research 17, 103;
Vehtari, Simpson, Gelman, Yao and Gabry 2024, Journal of Machine Learning Research 25, 72).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_expit, logsumexp

from ranef.answers.leave_one_out.groups import group_densities
from ranef.answers.leave_one_out.rows import row_densities
from ranef.answers.leave_one_out.units import refuse_undetermined, units_of, without_rows
from ranef.common import budget
from ranef.common.arguments import whole_number
from ranef.common.progress import track
from ranef.common.stored_names import stored_name
from ranef.errors import DataError, ReliabilityWarning, warn
from ranef.samplers import SAMPLERS
from ranef.samplers.sample import SamplerSettings

if TYPE_CHECKING:
    from ranef.answers.leave_one_out.units import Units
    from ranef.common.array_types import Array, IntArray, Seed
    from ranef.formula.rows import Rows
    from ranef.likelihood.posterior import MarginalPosterior
    from ranef.posterior.draws import PosteriorDraws
    from ranef.posterior.posterior import Posterior

__all__ = ["bridge", "elpd_of", "loo"]

# Fewer draws than this have no tail of weights to smooth.
_FEWEST = 100
# Draws of a fit without one unit.
_REFIT = 4000
# Steps of the bridge's fixed-point iteration, which converges linearly.
_BRIDGE = 1000
# Nats over which a case's log densities spread, below which their weights are equal.
_EVEN = 1e-6


def loo(
    fit: Posterior,
    unit: str = "row",
    *,
    draws: int | None = None,
    refit: bool = True,
    seed: Seed = None,
) -> Any:
    """Predict each row, or each group, from all others: leave-one-out cross-validation.

    Parameters
    ----------
    unit
        What is left out at a time: `"row"`, `"group"` (all rows of a level of the one grouping
        factor), or the name of a grouping factor where there are several.
    draws
        How many draws to use, evenly spaced; by default as many as a minute and 320 MB allow.
    refit
        Fit again without each case that moves the variance parameters too far for importance
        weights (Pareto k-hat above ArviZ's limit, 0.7 or less with few draws), so that draws
        with it and without it are at hand. Where that would take more than two minutes, or with
        False, the estimate stays and a warning names the cases.
    seed
        For those fits; by default the fit's own.

    Returns
    -------
    arviz_stats.ELPDData
        `elpd`, the sum of log predictive densities in nats, with `se`; `elpd_i` by case; `p`,
        the effective number of parameters; `pareto_k`, zero where the case was refitted.
        `ranef.compare` and every ArviZ function take it.

    Raises
    ------
    DataError
        If there is no such unit, or leaving it out would take too long or too much memory.
    ImproperPosteriorError
        If a flat coefficient is determined by what is left out alone.

    Warns
    -----
    ReliabilityWarning
        Where Pareto k-hat is too large and the case was not refitted.

    Notes
    -----
    Given the variance parameters the density of what is left out has a closed form, so only
    these few parameters need importance weights. For rows, `p` counts coefficients and effects
    too, as ArviZ counts them; for groups, what a further group with the same rows tells.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> len(fit.loo().elpd_i), len(fit.loo("group").elpd_i)
    (30, 6)
    """
    source, posterior = fit.source, fit.posterior_draws
    rows, model, rng = source.rows, source.model, fit.stream(seed)
    units = units_of(rows, unit)
    refuse_undetermined(rows, model, units)
    at = _thinned(posterior, units, draws)
    every = np.arange(len(units.labels))
    left_out, seen = _densities(posterior.target, rows, units, every, posterior.theta[at])
    name = stored_name(model.spec.formula.response_name)
    elpd = elpd_of(left_out, units, name, _efficiency(posterior, len(at)))
    bad = np.flatnonzero(~(elpd.pareto_k.to_numpy() <= elpd.good_k))
    cost = posterior.target.structure.cost
    if len(bad) and refit and budget.FITS_WITHOUT_UNITS.affords(cost, len(bad)):
        for j in track(bad.tolist(), "Fitting again without single cases"):
            elpd.elpd_i[j] = _refitted(posterior.target, rows, units, j, left_out[:, j], rng)
            elpd.pareto_k[j] = 0.0
        _sum_up(elpd)
        elpd.warning = False
    elif len(bad):
        _tell(elpd, units, bad)
    # ArviZ would count what the variance parameters alone learn from a case.
    elpd.p = float(np.sum(logsumexp(seen, axis=0) - np.log(len(seen)) - elpd.elpd_i.to_numpy()))
    return elpd


def _densities(
    target: MarginalPosterior, rows: Rows, units: Units, which: IntArray, theta: Array
) -> tuple[Array, Array]:
    """Log densities of units given all others, and given all, shape (n, len(which)) each."""
    if units.factor is None:
        return row_densities(target, rows, which, theta)
    return group_densities(target, rows, units, which, theta)


def _refitted(
    target: MarginalPosterior,
    rows: Rows,
    units: Units,
    j: int,
    seen: Array,
    rng: np.random.Generator,
) -> float:
    """Log density of one unit from draws without it, and from those with it, of log density `seen`.

    Draws without an outlier seldom reach where it is likely, so their plain average is no better
    than the importance weights that failed; the two together are.
    """
    model = without_rows(target.model, rows, units.codes == j)
    sample = SAMPLERS["exact"](
        model, SamplerSettings(_REFIT, 4, 1000, (), False, moments=False), rng
    )
    theta = sample.theta.reshape(_REFIT, -1)
    return bridge(seen, _densities(target, rows, units, np.array([j]), theta)[0][:, 0])


def bridge(above: Array, below: Array) -> float:
    """Log ratio of two normalising constants from draws of both densities.

    Parameters
    ----------
    above, below
        Log ratio of the two unnormalised densities at draws from the numerator, shape (n,), and
        from the denominator, shape (m,).

    Returns
    -------
    float

    Notes
    -----
    The optimal bridge of Meng and Wong (1996), Statistica Sinica 6, 831; Bennett (1976), Journal of
    Computational Physics 22, 245.

    Examples
    --------
    >>> round(bridge(np.full(3, 2.0), np.full(5, 2.0)), 6)
    2.0
    """
    odds = np.log(len(above) / len(below))
    value = float(np.median(np.concatenate([above, below])))
    for _ in range(_BRIDGE):
        up = logsumexp(log_expit(below - value + odds)) - np.log(len(below)) - odds
        down = logsumexp(log_expit(value - above - odds)) - np.log(len(above))
        value, last = value + float(up - down), value
        if abs(value - last) < 1e-10:
            break
    return value


def _tell(elpd: Any, units: Units, bad: IntArray) -> None:
    """Warn of the cases for which importance weights fail."""
    k = elpd.pareto_k.to_numpy()
    shown = ", ".join(str(units.labels[j]) for j in bad[np.argsort(-k[bad])][:5])
    warn(
        f"Pareto k-hat exceeds {elpd.good_k:.2f} for {len(bad)} of {len(k)} {units.plural} "
        f"({shown}{', …' if len(bad) > 5 else ''}): the variance parameters without them are too "
        "far from those with them. Use more draws, or fit again without these cases.",
        ReliabilityWarning,
    )


def _thinned(posterior: PosteriorDraws, units: Units, draws: int | None) -> IntArray:
    """Positions of the draws to use."""
    n, U = len(posterior.theta), len(units.labels)
    structure, factors = posterior.target.structure, posterior.target.model.design.factors
    limits = budget.LEAVE_ONE_OUT
    if U > budget.LEFT_OUT_UNITS:
        raise DataError(
            f"{U:,} {units.plural} cannot be left out one by one, as their densities at "
            f"{limits.least} draws do not fit into memory; leave out groups instead, e.g. "
            f"unit={min(factors, key=lambda f: f.levels).name!r}."
        )
    if n < _FEWEST:
        raise DataError(
            f"The fit has {n} draws, and leaving out takes {_FEWEST} at least; fit with more draws."
        )
    if draws is not None:
        if whole_number("draws", draws, _FEWEST) > n:
            raise DataError(
                f"draws is {draws}; a whole number from {_FEWEST} to {n}, the draws of the fit, "
                "is expected."
            )
        return budget.evenly(n, draws)
    # The inverse of what the factorisation leaves costs some six times as much as the factor.
    each = structure.cost * (6 if units.factor is None else 2 * U)
    if structure.by_level is not None:
        each = structure.cost
    if limits.seconds / each < limits.least:
        raise DataError(
            f"Leaving out each of {U:,} {units.plural} would take about {each:.2g} s for one draw, "
            f"and {limits.least} draws are the least that tell anything. Ask for it with draws="
            f"{limits.least}, or leave out rows or the levels of another factor."
        )
    return limits.draws(n, seconds=each, numbers=U)


def _efficiency(posterior: PosteriorDraws, used: int) -> float:
    """Effective share of the draws used, from the variance parameters' sample sizes."""
    from arviz_stats.base import array_stats

    theta = posterior.theta.reshape(posterior.chains, -1, posterior.theta.shape[1])
    if theta.shape[1] < 4:
        return 1.0
    ess = [
        float(array_stats.ess(theta[:, :, j], chain_axis=0, draw_axis=1, method="mean"))
        for j in range(theta.shape[2])
    ]
    return min(1.0, sum(ess) / len(ess) / used)


def elpd_of(left_out: Array, units: Units, name: str, efficiency: float) -> Any:
    """Smooth the importance weights and sum up, by ArviZ.

    A density that does not depend on the variance parameters, as of a row that known standard
    errors and fixed effects alone predict, has equal weights: ArviZ finds no tail in them.
    """
    import xarray as xr
    from arviz_stats import loo

    dim = "__obs__" if units.factor is None else stored_name(f"{units.name}__factor_dim")
    values = xr.DataArray(
        left_out[None].copy(), dims=("chain", "draw", dim), coords={dim: units.labels}, name=name
    )
    tree = xr.DataTree.from_dict({"log_likelihood": values.to_dataset()})
    even = np.flatnonzero(np.ptp(left_out, axis=0) <= _EVEN)
    # Any tail will do: what ArviZ makes of these cases is replaced.
    values[0, :, even] = np.linspace(0, 1, len(left_out))[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said elsewhere, with the cases' names
        elpd = loo(tree, pointwise=True, reff=efficiency)
    if len(even):
        elpd.elpd_i[even] = left_out[:, even].mean(axis=0)
        elpd.pareto_k[even] = 0.0
        _sum_up(elpd)
        elpd.warning = bool(np.any(elpd.pareto_k.to_numpy() > elpd.good_k))
    return elpd


def _sum_up(elpd: Any) -> None:
    """Sum the cases' densities once more, after some of them were replaced, in place."""
    elpd.elpd = float(elpd.elpd_i.sum())
    elpd.se = float(np.sqrt(elpd.elpd_i.size * elpd.elpd_i.var()))

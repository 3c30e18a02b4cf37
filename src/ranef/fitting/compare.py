"""Several fits side by side: predictive densities of left-out data, and Bayes factors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.evidence.scale import draw_evidence, in_words, ratio, shown
from ranef.answers.leave_one_out.units import units_of
from ranef.errors import DataError, PriorError
from ranef.fitting.result import Fit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["BayesFactor", "bayes_factor", "compare"]


def compare(fits: Mapping[str, Fit], unit: str = "row", **options: object) -> pd.DataFrame:
    """Rank fits of the same responses by the predictive density of what is left out.

    Parameters
    ----------
    fits
        At least two fits by name.
    unit
        What is left out at a time, as in `Fit.loo`: `"row"`, `"group"` or a grouping factor, which
        all models must have.
    **options
        Passed on to `Fit.loo`.

    Returns
    -------
    pandas.DataFrame
        ArviZ's table, best model first: `elpd` (sum of log predictive densities, in nats), `p`,
        `elpd_diff` to the best and its standard error `dse`, `se`, and `weight`, the stacking
        weights of Yao et al. (2018, Bayesian Analysis 13, 917). `arviz_plots.plot_compare` draws
        it.

    Raises
    ------
    DataError
        If the fits differ in their responses, or in the groups that are left out.

    Examples
    --------
    >>> import ranef as rf
    >>> data = rf.datasets.load("sleepstudy")
    >>> fits = {
    ...     "line": rf.fit("Reaction ~ Days + (1|Subject)", data, seed=1),
    ...     "lines": rf.fit("Reaction ~ Days + (Days|Subject)", data, seed=1),
    ... }
    >>> list(rf.compare(fits).index)
    ['lines', 'line']
    """
    from arviz_stats import compare as compare_elpds

    if not isinstance(fits, Mapping) or len(fits) < 2:
        raise DataError(
            "compare takes a mapping of at least two names to fits, e.g. "
            "rf.compare({'a': fit_a, 'b': fit_b})."
        )
    first = next(iter(fits))
    for name, fit in fits.items():
        if not isinstance(fit, Fit):
            raise DataError(f"{name!r} is a {type(fit).__name__}; a fit is expected.")
        _same_responses(first, fits[first], name, fit)
    units_of(fits[first].source.rows, unit)
    if unit != "row":
        _same_groups(fits, unit)
    elpds = {name: fit.loo(unit, **options) for name, fit in fits.items()}  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, inside ArviZ
        return compare_elpds(elpds)


@dataclass(frozen=True)
class BayesFactor:
    """Evidence of the data for one model against another.

    Attributes
    ----------
    models
        Formulas of the two.
    log_value
        Natural logarithm of the Bayes factor: above zero the data speak for the first.
    error
        Its standard error, in nats.
    """

    models: tuple[str, str]
    log_value: float
    error: float

    @property
    def value(self) -> float:
        """The ratio of marginal likelihoods, first over second."""
        return ratio(self.log_value)

    @property
    def strength(self) -> str:
        """Kass and Raftery's (1995) word for it."""
        return in_words(self.log_value)

    def table(self) -> pd.DataFrame:
        """One row."""
        import pandas as pd

        row = {
            "bayes_factor": self.value,
            "log_bayes_factor": self.log_value,
            "error": self.error,
            "strength": self.strength,
        }
        return pd.DataFrame([row], index=[" against ".join(self.models)])

    def plot(self) -> Figure:
        """The Bayes factor on a logarithmic axis, with the usual words for its size."""
        return draw_evidence(self.log_value, self.error, *self.models)

    def __str__(self) -> str:
        better, worse = self.models if self.log_value >= 0 else self.models[::-1]
        return (
            f"Bayes factor {shown(abs(self.log_value))} for {better}\n"
            f"against {worse}: {self.strength} (log {self.log_value:.2f}, error {self.error:.1g})"
        )

    __repr__ = __str__


def bayes_factor(a: Fit, b: Fit) -> BayesFactor:
    """Ratio of the marginal likelihoods of two fits of the same responses.

    Parameters
    ----------
    a, b
        Fits with proper priors. Flat coefficients are allowed where both models have the same ones
        on the same columns: they put the same constant into both, which cancels.

    Returns
    -------
    BayesFactor

    Raises
    ------
    DataError
        If the responses differ.
    PriorError
        If a prior is improper that the two do not have in common.

    Examples
    --------
    >>> import ranef as rf
    >>> data = rf.datasets.load("sleepstudy")
    >>> a = rf.fit("Reaction ~ Days + (Days|Subject)", data, seed=1)
    >>> b = rf.fit("Reaction ~ Days + (1|Subject)", data, seed=1)
    >>> rf.bayes_factor(a, b).strength
    'very strong'
    """
    for name, fit in (("a", a), ("b", b)):
        if not isinstance(fit, Fit):
            raise DataError(f"{name} is a {type(fit).__name__}; a fit is expected.")
    _same_responses("a", a, "b", b)
    _proper_but_common(a, b)
    first, second = a.mass(), b.mass()
    return BayesFactor(
        (a.source.model.spec.formula.text, b.source.model.spec.formula.text),
        first.value - second.value,
        float(np.hypot(first.error, second.error)),
    )


def _same_responses(one: str, a: Fit, other: str, b: Fit) -> None:
    """Refuse fits of different responses."""
    y, z = a.source.rows.y, b.source.rows.y
    kinds = [fit.draws.attrs.get("family", "gaussian") for fit in (a, b)]
    if kinds.count("gaussian") == 1:
        raise DataError(
            f"{one!r} has family={kinds[0]!r} and {other!r} family={kinds[1]!r}; a density of a "
            "measurement and a probability of a count do not compare."
        )
    if len(y) != len(z):
        raise DataError(
            f"{one!r} was fitted to {len(y)} rows and {other!r} to {len(z)}; fits of the same rows "
            "are expected. Leave out rows with missing values before fitting either."
        )
    if not np.array_equal(y, z):
        at = int(np.flatnonzero(y != z)[0])
        raise DataError(
            f"{one!r} and {other!r} were fitted to different responses ({y[at]:g} and {z[at]:g} in "
            f"row {at + 1}); densities of different data or of transformed responses do not "
            "compare. Fit the same response in the same order of rows."
        )


def _same_groups(fits: Mapping[str, Fit], unit: str) -> None:
    """Refuse group-wise comparison over different groups."""
    codes = {}
    for name, fit in fits.items():
        names = [f.name for f in fit.source.model.spec.factors]
        at = names.index(unit) if unit in names else 0
        codes[name] = names[at], fit.source.rows.codes[at]
    first = next(iter(codes))
    for name, (factor, code) in codes.items():
        if not np.array_equal(code, codes[first][1]):
            raise DataError(
                f"The groups of {first!r} ({codes[first][0]}) and of {name!r} ({factor}) "
                "differ; name a factor that all models have, or leave out rows: unit='row'."
            )


def _proper_but_common(a: Fit, b: Fit) -> None:
    """Refuse improper priors, but for flat coefficients of the same columns."""
    models = a.source.model, b.source.model
    improper = [m.improper() for m in models]
    flats = [
        {n: fit.source.rows.X[:, i] for i, n in enumerate(m.names) if n in bad}
        for fit, m, bad in zip((a, b), models, improper, strict=True)
    ]
    common = {
        n for n in flats[0].keys() & flats[1].keys() if np.array_equal(flats[0][n], flats[1][n])
    }
    own = {n: t for bad in improper for n, t in bad.items() if n not in common}
    if own:
        raise PriorError(
            "A Bayes factor needs proper priors on all that the two models do not share, and these "
            f"are improper: {', '.join(f'{n} ~ {t}' for n, t in own.items())}. State proper ones.",
            parameters=tuple(own),
        )

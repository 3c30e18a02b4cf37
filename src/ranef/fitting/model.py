"""rf.model: a model before it is fitted, with its likelihood and prior draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ranef.common.arguments import brief, flag, generator, mapping, number, positive, whole_number
from ranef.errors import DataError, nearest
from ranef.formula.parse import canonical_label
from ranef.likelihood.posterior import MarginalPosterior
from ranef.mixed_model.model import build_model
from ranef.posterior.summary import count_levels

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from ranef.common.array_types import Array, Seed
    from ranef.formula.rows import Rows
    from ranef.mixed_model.model import ModelSpec
    from ranef.mixed_model.parameters import TermPrior

__all__ = ["MixedModel", "draw_prior", "model"]

# Numbers of a correlation matrix that were printed with eight digits.
_ROUNDING = 1e-8


def model(
    formula: str,
    data: Any,
    *,
    priors: Mapping[str, Any] | None = None,
    weights: str | None = None,
    se: str | None = None,
    aliased: Literal["refuse", "drop"] = "refuse",
) -> MixedModel:
    """Read data and priors into a model, without fitting it.

    Parameters
    ----------
    formula, data, priors, weights, se, aliased
        As in `ranef.fit`.

    Returns
    -------
    MixedModel

    Examples
    --------
    >>> import ranef as rf
    >>> model = rf.model("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"))
    >>> round(-2 * model.log_likelihood({"sigma": 2451.25**0.5, "1|Batch": 1764.05**0.5},
    ...                                 reml=True), 4)
    319.6543
    """
    return MixedModel(*build_model(formula, data, priors, weights, se=se, aliased=aliased))


class MixedModel:
    """A Gaussian mixed model of given data.

    Parameters
    ----------
    inner, rows
        From `ranef.mixed_model.model.build_model`.
    """

    def __init__(self, inner: ModelSpec, rows: Rows) -> None:
        self.inner = inner
        self.rows = rows
        self._target = MarginalPosterior(inner)

    @property
    def priors(self) -> dict[str, str]:
        """Every prior by parameter, as text."""
        return self.inner.prior_texts()

    @property
    def structure(self) -> str:
        """How the likelihood is evaluated."""
        return self._target.structure.name

    def log_likelihood(self, values: Mapping[str, Any], *, reml: bool = False) -> float:
        """Log marginal likelihood at given variance parameters, effects integrated out.

        Parameters
        ----------
        values
            `"sigma"`: the residual SD, unless `se` makes it known. Each group term as written,
            `"1|plate"` or `"Days|Subject"`: an SD for a single column, a covariance matrix for
            several. The columns of an independent term, `(Days||Subject)`, can also be given one by
            one as SDs: `"1|Subject"`, `"Days|Subject"`. SDs may be zero.
        reml
            False: coefficients at their maximum, as lme4's `logLik` of an ML fit. True:
            coefficients integrated over their priors; flat ones give the REML criterion.

        Returns
        -------
        float
            In nats.

        Raises
        ------
        DataError
            If a value is missing, unknown, negative, or no covariance matrix.
        """
        reml = flag("reml", reml)
        mapping("values", values, "{'sigma': 1.0, '1|g': 0.5}")
        left = {canonical_label(str(k)): v for k, v in values.items()}
        parameters = self.inner.parameters
        if parameters.family.dispersions:
            sigma = _positive(left.pop("sigma", None), "sigma")
        elif "sigma" in left:
            raise DataError("values names 'sigma', which known standard errors leave no room for.")
        else:
            sigma = float(np.exp(parameters.family.log_sd))
        roots = [np.zeros((1, w, w)) for w in parameters.widths]
        for term in parameters.terms:
            root = _root(term, left)
            place = np.array(term.place)
            roots[term.factor][:, place[:, None], place] = root / sigma
        if left:
            names = [
                *parameters.family.dispersions,
                *(t.label for t in parameters.terms),
            ]
            raise DataError(
                f"values names {next(iter(left))!r}, which the model does not have. "
                f"{nearest(next(iter(left)), names)}"
            )
        log_sigma = np.array([np.log(sigma)])
        return float(self._target.log_likelihood(roots, log_sigma, reml=reml)[0])

    def prior_draws(self, draws: int = 1000, seed: Seed = None) -> pd.DataFrame:
        """Draw standard deviations, correlations and coefficients from their priors.

        Parameters
        ----------
        draws
            Number of draws.
        seed
            Integer or `numpy.random.Generator`.

        Returns
        -------
        pandas.DataFrame
            One row per draw; flat coefficients have no prior to draw from and are left out.

        Raises
        ------
        PriorError
            If the prior of a standard deviation is improper.
        """
        import pandas as pd

        draws = whole_number("draws", draws)
        return pd.DataFrame(draw_prior(self.inner, draws, generator(seed)))

    def __repr__(self) -> str:
        design = self.inner.design
        groups = count_levels({f.name: f.levels for f in design.factors})
        priors = "\n".join(f"  {k} ~ {v}" for k, v in self.priors.items())
        return (
            f"{self.inner.spec.formula.text}\n{design.N:,} rows, {groups}\n"
            f"likelihood: {self.structure}\n{priors}"
        )


def draw_prior(model: ModelSpec, draws: int, rng: np.random.Generator) -> dict[str, Array]:
    """Draw standard deviations, correlations and coefficients from their priors.

    Parameters
    ----------
    model
        The priors.
    draws
        Number of draws.
    rng
        Source of random numbers.

    Returns
    -------
    dict of numpy.ndarray
        Shape (draws,) each; flat coefficients are left out.

    Raises
    ------
    PriorError
        If the prior of a standard deviation is improper.
    """
    columns: dict[str, Array] = {}
    for name, prior in zip(model.names, model.coefficients, strict=True):
        if prior.precision > 0:
            columns[name] = rng.normal(prior.mean, prior.sd, draws)
    return columns | model.parameters.named(model.parameters.draw_prior(rng, draws))


def _positive(value: Any, name: str) -> float:
    """Check a residual SD."""
    if value is None:
        raise DataError(f"values lacks {name!r}; a positive standard deviation is expected.")
    return positive(name, value)


def _root(term: TermPrior, left: dict[str, Any]) -> Array:
    """Root of a term's covariance matrix, taken out of what was given."""
    label, q = canonical_label(term.label), len(term.place)
    names = [canonical_label(n) for n in term.names]
    single = not term.correlations and label not in left and all(n in left for n in names)
    if single:
        sds = np.array([number(repr(n), left.pop(n), 0) for n in names])
    elif label in left and q == 1:
        sds = np.array([number(repr(label), left.pop(label), 0)])
    elif label in left:
        return _matrix_root(left.pop(label), term.label, q)
    elif q == 1 and names[0] in left:
        sds = np.array([number(repr(names[0]), left.pop(names[0]), 0)])
    else:
        what = "an SD" if q == 1 else f"a {q} x {q} covariance matrix"
        raise DataError(f"values lacks {term.label!r}; {what} is expected.")
    return np.diag(sds)


def _matrix_root(matrix: Any, label: str, q: int) -> Array:
    """Root of a covariance matrix that may be singular: estimates at the boundary are."""
    try:
        S = np.asarray(matrix, dtype=float)
    except (TypeError, ValueError):
        S = np.array(np.nan)
    if not np.isfinite(S).all():
        raise DataError(f"{label!r} is {brief(matrix)}; a {q} x {q} covariance matrix is expected.")
    if S.shape != (q, q):
        raise DataError(f"{label!r} has shape {S.shape}; a {q} x {q} matrix is expected.")
    variances = np.diag(S)
    if np.any(variances < 0):
        raise DataError(
            f"{label!r} has a negative variance, {variances.min():g}; a covariance matrix is "
            "expected."
        )
    # As correlations, because columns may differ in size by any power of ten.
    sd = np.sqrt(variances)
    unit = np.where(sd > 0, sd, 1.0)
    correlation = S / unit / unit[:, None]
    # A covariance beside a variance of zero stands at its own size, and is none.
    beside = np.any(S[sd == 0]) or np.any(S[:, sd == 0])
    if np.abs(correlation - correlation.T).max() > _ROUNDING:
        raise DataError(f"{label!r} is not symmetric; a covariance matrix is expected.")
    values, vectors = np.linalg.eigh(correlation)
    if beside or values[0] < -_ROUNDING:
        raise DataError(f"{label!r} has a negative eigenvalue; a covariance matrix is expected.")
    return np.asarray(sd[:, None] * vectors * np.sqrt(np.maximum(values, 0.0)))

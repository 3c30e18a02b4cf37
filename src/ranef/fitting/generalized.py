"""Fits with other families, and the questions that can be put to them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from ranef.answers.contrasts import contrast as _contrast
from ranef.answers.contrasts import marginal_means as _marginal_means
from ranef.answers.generalized.check import check as _check
from ranef.answers.generalized.effects import effects as _effects
from ranef.answers.generalized.evidence import log_marginal_likelihood as _log_marginal
from ranef.answers.generalized.evidence import recorded_mass as _recorded_mass
from ranef.answers.generalized.loo import loo as _loo
from ranef.answers.generalized.plots import GeneralizedPlots
from ranef.answers.generalized.predict import predict as _predict
from ranef.answers.generalized.variance_shares import variance_shares as _variance_shares
from ranef.answers.probability import probability as _probability
from ranef.common.threads import one_thread
from ranef.errors import DataError
from ranef.families.table import find_family
from ranef.fitting.result import Fit
from ranef.mixed_model.generalized import build_generalized
from ranef.posterior.generalized_posterior import GeneralizedPosterior
from ranef.posterior.source import Source
from ranef.posterior.tree import to_tree
from ranef.samplers.generalized.sampler import sample_generalized
from ranef.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.samplers.sample import SamplerSettings

__all__ = ["GeneralizedFit", "fit_generalized"]


def _not_yet(name: str) -> Callable[..., NoReturn]:
    """A question that is answered for normal responses alone."""

    def refuse(self: GeneralizedFit, *args: Any, **kwargs: Any) -> NoReturn:
        del args, kwargs
        raise DataError(
            f"{name}() is answered for family='gaussian' so far, and this fit has "
            f"family={self.draws.attrs['family']!r}."
        )

    refuse.__name__ = name
    refuse.__doc__ = "Answered for normal responses so far; raises DataError."
    return refuse


class GeneralizedFit(GeneralizedPosterior, Fit):
    """A posterior with another family, and the questions that can be put to it.

    Parameters
    ----------
    draws
        A DataTree as `ranef.fit` makes it.
    source
        Model and rows, or the stored rows to build them from when they are asked for.

    Attributes
    ----------
    draws
        `xarray.DataTree` in ArviZ's convention.
    """

    effects = _effects
    variance_shares = _variance_shares  # type: ignore[assignment]
    probability = _probability
    contrast = _contrast
    marginal_means = _marginal_means
    predict = _predict
    check = _check
    loo = _loo  # type: ignore[assignment]
    log_marginal_likelihood = _log_marginal
    mass = _recorded_mass
    residuals = _not_yet("residuals")
    sensitivity = _not_yet("sensitivity")
    no_group_effect = _not_yet("no_group_effect")

    @property
    def plot(self) -> GeneralizedPlots:
        """Pictures: `.trace()`, `.density(truth=...)`, `.effects()`."""
        return GeneralizedPlots(self, self.effects)


def fit_generalized(
    formula: Any,
    data: Any,
    settings: Callable[[GeneralizedModel], SamplerSettings],
    rng: np.random.Generator,
    *,
    family: Any,
    link: Any,
    trials: Any,
    exposure: Any,
    priors: Mapping[str, Any] | None,
    aliased: str,
    seed: Any,
) -> GeneralizedFit:
    """Draw from the posterior of a model of another family; arguments as of `ranef.fit`.

    Parameters
    ----------
    settings
        What the sampler is asked for, given the model.
    rng
        Source of random numbers.
    """
    started = time.perf_counter()
    response = find_family(family, link)
    with one_thread():
        model, rows = build_generalized(
            formula, data, response, priors, trials=trials, exposure=exposure, aliased=aliased
        )
        sample = sample_generalized(model, settings(model), rng)
    optional = {
        "memory": sample.memory,
        "trials": model.spec.trials,
        "success": model.success,
        "quadrature_error": sample.quadrature_error,
    }
    tree = to_tree(
        model,
        sample,
        response=rows.y,
        attributes={
            "ranef_version": __version__,
            "formula": model.spec.formula.text,
            "family": response.name,
            "link": response.link,
            "own_parameters": response.dispersions,
            "method": "exact",
            "rows": model.rows.N,
            "dropped": rows.dropped,
            "groups": {f.name: len(f.levels) for f in model.spec.factors},
            "structure": sample.structure,
            "log_mass": sample.log_mass,
            "log_mass_error": sample.log_mass_error,
            "log_mass_k": sample.log_mass_k,
            "seconds": time.perf_counter() - started,
            "seed": seed,
            "priors": model.prior_texts(),
            "stated": model.stated_texts(),
            "aliased": model.spec.fixed.aliased,
            **{k: v for k, v in optional.items() if v is not None},
        },
    )
    return GeneralizedFit(tree, Source(model, rows))

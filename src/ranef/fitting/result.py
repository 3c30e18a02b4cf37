"""Fit: a posterior, and every question that can be put to it."""

from __future__ import annotations

from ranef.answers.contrasts import contrast as _contrast
from ranef.answers.contrasts import marginal_means as _marginal_means
from ranef.answers.effects import effects as _effects
from ranef.answers.evidence.group_effect import no_group_effect as _no_group_effect
from ranef.answers.evidence.marginal_likelihood import log_marginal_likelihood as _log_marginal
from ranef.answers.evidence.marginal_likelihood import recorded_mass as _recorded_mass
from ranef.answers.leave_one_out.loo import loo as _loo
from ranef.answers.plots import FitPlots
from ranef.answers.prediction.check import check as _check
from ranef.answers.prediction.predict import fitted as _fitted
from ranef.answers.prediction.predict import predict as _predict
from ranef.answers.prediction.residuals import residuals as _residuals
from ranef.answers.probability import probability as _probability
from ranef.answers.sensitivity.refits import sensitivity as _sensitivity
from ranef.answers.variance_shares import variance_shares as _variance_shares
from ranef.posterior.posterior import Posterior

__all__ = ["Fit"]


class Fit(Posterior):
    """A posterior with its labels, and the questions that can be put to it.

    Parameters
    ----------
    draws
        A DataTree as `ranef.fit` makes it.
    source
        Model and rows, or the stored rows to build them from when they are asked for.

    Attributes
    ----------
    draws
        `xarray.DataTree` in ArviZ's convention; every `arviz_stats` and `arviz_plots` function
        takes it.
    """

    # Each is a function of the fit, in the file that answers it.
    effects = _effects
    variance_shares = _variance_shares
    probability = _probability
    contrast = _contrast
    marginal_means = _marginal_means
    predict = _predict
    fitted = _fitted
    residuals = _residuals
    check = _check
    sensitivity = _sensitivity
    loo = _loo
    log_marginal_likelihood = _log_marginal
    mass = _recorded_mass
    no_group_effect = _no_group_effect

    @property
    def plot(self) -> FitPlots:
        """Pictures: `.trace()`, `.density(truth=...)`, `.effects()`, `.shrinkage(name)`."""
        return FitPlots(self, self.effects)

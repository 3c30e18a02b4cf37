"""Probability that a group term's effects are zero: marginal likelihoods without it and with it.

The model without the term is the same model at standard deviations of zero, where the other
parameters keep their priors. A flat prior that both models have in common, on coefficients or on
the residual's SD, puts the same constant into both and cancels (Jeffreys 1961, Theory of
Probability, ch. 5); one on the term's own SD does not (mathematics.md, 5.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

from ranef.answers.evidence.marginal_likelihood import log_mass, recorded_mass
from ranef.answers.evidence.scale import draw_evidence, in_words, ratio, shown
from ranef.common.arguments import brief, share
from ranef.errors import DataError, PriorError, nearest
from ranef.formula.parse import canonical_label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.mixed_model.model import ModelSpec
    from ranef.posterior.posterior import Posterior

__all__ = ["NoGroupEffect", "no_group_effect"]


@dataclass(frozen=True)
class NoGroupEffect:
    """How likely it is that a group term is not there.

    Attributes
    ----------
    term
        The term, as written.
    log_bayes_factor
        Natural logarithm of the Bayes factor for the model without the term against the one with
        it: above zero the data speak for no effect.
    error
        Its standard error, in nats.
    prior_probability, probability
        Of no effect, before and after the data.
    """

    term: str
    log_bayes_factor: float
    error: float
    prior_probability: float
    probability: float

    @property
    def bayes_factor(self) -> float:
        """For no effect against an effect; its inverse speaks for the effect."""
        return ratio(self.log_bayes_factor)

    def table(self) -> pd.DataFrame:
        """One row."""
        import pandas as pd

        row = {
            "prior_probability": self.prior_probability,
            "probability": self.probability,
            "bayes_factor": self.bayes_factor,
            "log_bayes_factor": self.log_bayes_factor,
            "error": self.error,
        }
        return pd.DataFrame([row], index=[self.term])

    def plot(self) -> Figure:
        """The Bayes factor on a logarithmic axis, with the usual words for its size."""
        return draw_evidence(
            self.log_bayes_factor, self.error, "no effect", f"an effect of {self.term}"
        )

    def __str__(self) -> str:
        against = self.log_bayes_factor < 0
        what = "an effect" if against else "no effect"
        probability = f"{self.probability:.3g}" if self.probability else "below 1e-300"
        return (
            f"No effect of {self.term}: probability {probability}, "
            f"from {self.prior_probability:g} before the data\n"
            f"Bayes factor {shown(abs(self.log_bayes_factor))} for {what}, "
            f"{in_words(self.log_bayes_factor)} (log {self.log_bayes_factor:.2f}, error "
            f"{self.error:.1g}; the prior on the term's SD is part of the answer)"
        )

    __repr__ = __str__


def no_group_effect(
    fit: Posterior, term: str | None = None, *, prior_probability: float = 0.5
) -> NoGroupEffect:
    """Probability that a group term is not there, and its Bayes factor.

    Parameters
    ----------
    term
        The term as in the formula, such as `"1|Batch"`; None where there is one.
    prior_probability
        Of no effect, before the data.

    Returns
    -------
    NoGroupEffect

    Raises
    ------
    DataError
        If there is no such term, or the prior probability is not between 0 and 1.
    PriorError
        If the prior on the term's own SD is improper, or on shares of a total variance. Flat
        priors on coefficients, or on the residual SD, stand in both models and cancel.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> round(fit.no_group_effect("1|Batch").probability, 3)
    0.11
    """
    model = fit.source.model
    label = _term(model, term)
    prior_probability = share("prior_probability", prior_probability, 0.5)
    parameters = model.parameters
    if parameters.shares is not None:
        raise PriorError(
            "The priors are shares of a total variance, which say nothing of a model with one "
            f"share less. State a prior for each SD, e.g. priors={{{label!r}: 'half_t(50)'}}."
        )
    own = next(t for t in parameters.terms if t.label == label)
    for name, text in model.improper().items():
        if name in own.names:
            raise PriorError(
                f"Prior {text} on {name} is improper, so the evidence for the term has an "
                f"arbitrary factor. State a proper prior, e.g. priors={{{name!r}: 'half_t(50)'}}.",
                parameter=name,
            )
    kept = tuple(t for t in parameters.terms if t.label != label)
    # Columns of the factor stay in the design; without a term their SDs are zero.
    without = log_mass(replace(model, parameters=replace(parameters, terms=kept)))
    whole = recorded_mass(fit)
    log_value = without.value - whole.value
    return NoGroupEffect(
        term=label,
        log_bayes_factor=log_value,
        error=float(np.hypot(without.error, whole.error)),
        prior_probability=prior_probability,
        probability=float(expit(logit(prior_probability) + log_value)),
    )


def _term(model: ModelSpec, term: str | None) -> str:
    """The label of the term that is asked for."""
    labels = [t.label for t in model.parameters.terms]
    if term is None:
        if len(labels) > 1:
            raise DataError(
                f"The model has {len(labels)} group terms; name one of them: "
                f"{', '.join(map(repr, labels))}."
            )
        return labels[0]
    by_name = {canonical_label(label): label for label in labels}
    found = by_name.get(canonical_label(str(term)))
    if found is None:
        raise DataError(f"There is no group term {brief(term)}. {nearest(term, labels)}")
    return found

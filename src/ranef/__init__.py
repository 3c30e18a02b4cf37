"""Bayesian random-effects models, drawn exactly: independent draws with a certificate."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ranef.version import __version__

# Public names and the modules that hold them, imported at first use: numpy, scipy and ArviZ take
# seconds, and `ranef --help` or a plain import should not.
_HOMES = {
    "AliasedWarning": "errors",
    "Calibration": "calibration.report",
    "CalibrationError": "errors",
    "BayesFactor": "fitting.compare",
    "DataError": "errors",
    "Fit": "fitting.result",
    "FormulaError": "errors",
    "FormulaWarning": "errors",
    "GaugeStudy": "gauge.study",
    "IdentifiabilityError": "errors",
    "IdentifiabilityWarning": "errors",
    "ImproperPosteriorError": "errors",
    "MissingRowsWarning": "errors",
    "NestingWarning": "errors",
    "PriorError": "errors",
    "RanefError": "errors",
    "ReliabilityWarning": "errors",
    "SimilarLabelsWarning": "errors",
    "SingleRowWarning": "errors",
    "bayes_factor": "fitting.compare",
    "compare": "fitting.compare",
    "dirichlet": "priors",
    "check_gibbs": "gibbs_check.check",
    "calibrate": "calibration.sbc",
    "fit": "fitting.fit",
    "flat": "priors",
    "gauge_rr": "gauge.study",
    "geweke": "calibration.geweke",
    "half_t": "priors",
    "jeffreys": "priors",
    "lkj": "priors",
    "load": "fitting.load",
    "model": "fitting.model",
    "MixedModel": "fitting.model",
    "Plan": "planning.result",
    "Sensitivity": "answers.sensitivity.refits",
    "plan": "planning.designs",
    "variance": "priors",
}
_MODULES = {"article": "article", "datasets": "datasets", "goals": "planning.criteria"}

__all__ = [
    "AliasedWarning",
    "BayesFactor",
    "Calibration",
    "CalibrationError",
    "DataError",
    "Fit",
    "FormulaError",
    "FormulaWarning",
    "GaugeStudy",
    "IdentifiabilityError",
    "IdentifiabilityWarning",
    "ImproperPosteriorError",
    "MissingRowsWarning",
    "MixedModel",
    "NestingWarning",
    "Plan",
    "PriorError",
    "RanefError",
    "ReliabilityWarning",
    "Sensitivity",
    "SimilarLabelsWarning",
    "SingleRowWarning",
    "__version__",
    "article",
    "bayes_factor",
    "calibrate",
    "check_gibbs",
    "compare",
    "datasets",
    "dirichlet",
    "fit",
    "flat",
    "gauge_rr",
    "geweke",
    "goals",
    "half_t",
    "jeffreys",
    "lkj",
    "load",
    "model",
    "plan",
    "variance",
]

if TYPE_CHECKING:
    from ranef import article, datasets
    from ranef.answers.sensitivity.refits import Sensitivity
    from ranef.calibration.geweke import geweke
    from ranef.calibration.report import Calibration
    from ranef.calibration.sbc import calibrate
    from ranef.errors import (
        AliasedWarning,
        CalibrationError,
        DataError,
        FormulaError,
        FormulaWarning,
        IdentifiabilityError,
        IdentifiabilityWarning,
        ImproperPosteriorError,
        MissingRowsWarning,
        NestingWarning,
        PriorError,
        RanefError,
        ReliabilityWarning,
        SimilarLabelsWarning,
        SingleRowWarning,
    )
    from ranef.fitting.compare import BayesFactor, bayes_factor, compare
    from ranef.fitting.fit import fit
    from ranef.fitting.load import load
    from ranef.fitting.model import MixedModel, model
    from ranef.fitting.result import Fit
    from ranef.gauge.study import GaugeStudy, gauge_rr
    from ranef.gibbs_check.check import check_gibbs
    from ranef.planning import criteria as goals
    from ranef.planning.designs import plan
    from ranef.planning.result import Plan
    from ranef.priors import dirichlet, flat, half_t, jeffreys, lkj, variance


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"ranef.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"ranef.{_MODULES[name]}")
    raise AttributeError(f"module 'ranef' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

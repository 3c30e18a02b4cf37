"""Bayesian random-effects models, drawn exactly: independent draws with a certificate."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ranef.version import __version__

# Public names and the modules that hold them, imported at first use: numpy, scipy and ArviZ take
# seconds, and `ranef --help` or a plain import should not.
_HOMES = {
    "AliasedWarning": "errors",
    "Calibration": "verification.calibration_report",
    "CalibrationError": "errors",
    "BayesFactor": "fit_comparison",
    "DataError": "errors",
    "Fit": "fit_object",
    "FormulaError": "errors",
    "GaugeStudy": "gauge.study",
    "IdentifiabilityError": "errors",
    "IdentifiabilityWarning": "errors",
    "ImproperPosteriorError": "errors",
    "MissingRowsWarning": "errors",
    "NestingWarning": "errors",
    "PriorError": "errors",
    "RanefError": "errors",
    "ReliabilityWarning": "errors",
    "SingleRowWarning": "errors",
    "bayes_factor": "fit_comparison",
    "compare": "fit_comparison",
    "dirichlet": "priors",
    "check_gibbs": "verification.check",
    "calibrate": "verification.sbc",
    "fit": "fitting",
    "flat": "priors",
    "gauge_rr": "gauge.study",
    "geweke": "verification.geweke",
    "half_t": "priors",
    "jeffreys": "priors",
    "lkj": "priors",
    "load": "fit_object",
    "model": "modelling",
    "MixedModel": "modelling",
    "Plan": "planning.designs",
    "Sensitivity": "sensitivity.refits",
    "plan": "planning.designs",
    "variance": "priors",
}
_MODULES = ("article", "datasets", "goals")

__all__ = [
    "AliasedWarning",
    "BayesFactor",
    "Calibration",
    "CalibrationError",
    "DataError",
    "Fit",
    "FormulaError",
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
    from ranef import article, datasets, goals
    from ranef.errors import (
        AliasedWarning,
        CalibrationError,
        DataError,
        FormulaError,
        IdentifiabilityError,
        IdentifiabilityWarning,
        ImproperPosteriorError,
        MissingRowsWarning,
        NestingWarning,
        PriorError,
        RanefError,
        ReliabilityWarning,
        SingleRowWarning,
    )
    from ranef.fit_comparison import BayesFactor, bayes_factor, compare
    from ranef.fit_object import Fit, load
    from ranef.fitting import fit
    from ranef.gauge.study import GaugeStudy, gauge_rr
    from ranef.modelling import MixedModel, model
    from ranef.planning.designs import Plan, plan
    from ranef.priors import dirichlet, flat, half_t, jeffreys, lkj, variance
    from ranef.sensitivity.refits import Sensitivity
    from ranef.verification.calibration_report import Calibration
    from ranef.verification.check import check_gibbs
    from ranef.verification.geweke import geweke
    from ranef.verification.sbc import calibrate


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"ranef.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"ranef.{name}")
    raise AttributeError(f"module 'ranef' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

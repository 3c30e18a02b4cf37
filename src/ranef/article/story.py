"""Two sentences for each scenario: what happened, and why; the numbers are the run's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.article.study import ScenarioResult

__all__ = ["tell"]

_WHAT = {
    1: "As printed, the sampler gives the noise {pe} (true {te}) and the signal {px} (true {tx}), "
    "each outside what the data allow.",
    2: "As printed, the noise comes out at {pe} instead of {te} and the signal at {px} instead of "
    "{tx}: both inflated.",
    3: "Ten times more data make the wrong answer sharper, not better: noise {pe} (true {te}), "
    "signal {px} (true {tx}).",
    4: "Priors centred near the truth change almost nothing: noise {pe} (true {te}), signal {px} "
    "(true {tx}).",
    5: "More data on top of good priors still give noise {pe} (true {te}) and signal {px} (true "
    "{tx}).",
    6: "The noise looks right at {pe} (true {te}), but the signal variance is put at {px} with a "
    "95% interval of {pxi}, which excludes the true {tx}.",
    7: "With signals around 50 the printed sampler calls everything noise: {pe} (true {te}), "
    "signal {px} (true {tx}).",
    8: "With signals around 1000 the noise becomes {pe} (true {te}): the square of the mean that "
    "the model does not have.",
}
_WHY = {
    1: "Its precision for X, 2/σx² + 1/σe², counts the prior twice and the data once, so the "
    "signals are multiplied by {factor} instead of {right} and vanish; the exact posterior, {ee} "
    "{eei} and {ex} {exi}, holds both true values, so nothing was unidentifiable.",
    2: "With a large signal the same slip multiplies the row means by {factor}, where a posterior "
    "mean can only shrink them (rightly, {right}), and each overshoot counts as noise; the exact "
    "posterior gives {ee} {eei} and {ex} {exi}.",
    3: "The sampler's stationary distribution is not the posterior, so its error does not fade "
    "with n, while the exact posterior closes in on the truth: {ee} {eei} and {ex} {exi}.",
    4: "A hundred signals outweigh the priors, and the slip sits on the data's side; the exact "
    "posterior is {ee} {eei} and {ex} {exi} under the same priors.",
    5: "There is no variance inflation in the model to begin with: exactly drawn, it gives {ee} "
    "{eei} and {ex} {exi}.",
    6: "The signals have been multiplied by {factor}, so all variance goes to the noise, which "
    "here happens to be nearly true; the exact posterior says honestly that two replicates with "
    "this much noise leave the signal uncertain, {ex} {exi}.",
    7: "Two causes meet: the slip, and a model that pulls all signals to zero; the right sampler "
    "of that model calls the squared mean signal ({zx}), and with an unknown mean the exact "
    "posterior is {ee} {eei} and {ex} {exi}.",
    8: "As in scenario 7, adding the mean to the model and mending the slip is all that it takes: "
    "{ee} {eei} and {ex} {exi}, the same as with mean 50 and mean zero.",
}


def tell(result: ScenarioResult) -> tuple[str, str]:
    """Say what happened in a scenario and why.

    Parameters
    ----------
    result
        One scenario from `study`.

    Returns
    -------
    what, why : str
        One sentence each, with this run's numbers.
    """
    s = result.scenario
    printed_e, printed_x = (float(result.printed.draws[v].mean()) for v in _VARIANCES)
    r = printed_x / printed_e
    exact_e, exact_x = (float(result.exact.draws[v].mean()) for v in _VARIANCES)
    numbers = {
        "te": _short(s.sigma2_e),
        "tx": _short(s.sigma2_x),
        "pe": _short(printed_e),
        "px": _short(printed_x),
        "pxi": _interval(result.interval("sigma2_x", "printed")),
        "ee": _short(exact_e),
        "ex": _short(exact_x),
        "eei": _interval(result.interval("sigma2_e")),
        "exi": _interval(result.interval("sigma2_x")),
        "zx": _short(float(result.exact_zero.draws["sigma2_x"].mean())),
        # What multiplies a row mean: J V / sigma2_e, printed and right, J = 2.
        "factor": _short(2 * r / (r + 2)),
        "right": _short(2 * exact_x / (2 * exact_x + exact_e)),
    }
    return _WHAT[s.number].format(**numbers), _WHY[s.number].format(**numbers)


_VARIANCES = ("sigma2_e", "sigma2_x")


def _interval(ends: tuple[float, float]) -> str:
    return f"[{_short(ends[0])}, {_short(ends[1])}]"


def _short(value: float) -> str:
    """Three significant digits, without an exponent or trailing zeros."""
    if value == 0:
        return "0"
    digits = 2 - int(np.floor(np.log10(abs(value))))
    text = f"{round(value, digits):,.{max(0, digits)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

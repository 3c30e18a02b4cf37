"""What a design is to achieve, as one number of a posterior and the value it has to reach.

Every goal is a measure (an interval's width, a probability, a lower bound) and a threshold, so that
a plan can also say what is within reach where the goal is not (mathematics.md, 5.8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, ndtr, ndtri

from ranef.common.arguments import brief, choice, is_number
from ranef.errors import DataError, nearest

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.numerics.log_linear import LogLinear

__all__ = [
    "KNOWN",
    "Goal",
    "Posterior",
    "icc_width",
    "mean_width",
    "parse_goal",
    "reliability",
    "sd_within",
    "slope_sign",
    "slope_width",
]

# Each kind of goal as it is written, for messages.
KNOWN = (
    "icc width < 0.2",
    "mean width < 5",
    "slope width < 5",
    "group sd within 25%",
    "sigma within 25%",
    "slope sd within 25%",
    "slope sign 0.9",
    "reliability >= 0.8",
)
_SD = {"group": "group sd", "residual": "sigma", "slope": "slope sd"}


@dataclass(frozen=True)
class Posterior:
    """A posterior of a balanced one-factor design, as weighted points.

    Attributes
    ----------
    ratio
        Distribution of log_ratio, log-linear between nodes.
    log_ratio
        Log variance ratio, group over residual, shape (n,).
    log_sigma
        Log residual SD, shape (n, t).
    weight
        Shape (n, t), summing to one.
    best
        Best value of the coefficient in question, mean or slope.
    sd
        Its posterior SD at each point, shape (n, t).
    replicates
        Rows in each group.
    truth
        True value of the coefficient.
    """

    ratio: LogLinear
    log_ratio: Array
    log_sigma: Array
    weight: Array
    best: float
    sd: Array
    replicates: int
    truth: float


@dataclass(frozen=True)
class Goal:
    """A goal of `ranef.plan`.

    Attributes
    ----------
    kind
        `"icc width"`, `"mean width"`, `"slope width"`, `"group sd"`, `"sigma"`, `"slope sd"`,
        `"slope sign"` or `"reliability"`.
    threshold
        What the measure has to reach.
    prob
        Probability of the interval, or of the lower bound of a reliability.
    """

    kind: str
    threshold: float
    prob: float = 0.95

    @property
    def about_slope(self) -> bool:
        """Whether the goal is about a slope, so that the design needs one."""
        return self.kind.startswith("slope")

    @property
    def falls(self) -> bool:
        """Whether smaller is better."""
        return self.kind not in ("slope sign", "reliability")

    @property
    def text(self) -> str:
        """The goal in words that `parse_goal` reads back."""
        return self.at(self.threshold)

    def at(self, value: float) -> str:
        """Write the same goal with another threshold."""
        suffix = ""
        if self.prob != (0.9 if self.kind == "reliability" else 0.95):
            suffix = f" with probability {self.prob:g}"
        if self.kind.endswith("width"):
            return f"{self.kind} < {value:.4g}{suffix}"
        if self.kind == "slope sign":
            return f"slope sign {value:.4g}"
        if self.kind == "reliability":
            return f"reliability >= {value:.4g}{suffix}"
        return f"{self.kind} within {100 * value:.4g}%{suffix}"

    def reached(self, measure: Array) -> Array:
        """Whether each measure reaches the threshold."""
        short = measure < self.threshold if self.falls else measure >= self.threshold
        return np.asarray(short)

    def measure(self, posterior: Posterior) -> float:
        """Compute the goal's number from a posterior.

        Widths are those of equal-tailed intervals. An SD is known within a share s if half the
        interval's width is at most s times the posterior median. The reliability of a group's mean
        of m rows is m r / (1 + m r), r the variance ratio; its measure is the lower bound that it
        exceeds with probability `prob`. A slope's sign has the posterior probability of the true
        one.
        """
        low, high = (1 - self.prob) / 2, (1 + self.prob) / 2
        log_ratio, weight = posterior.log_ratio, posterior.weight
        if self.kind == "icc width":
            ends = posterior.ratio.draw(np.array([low, high]))[0]
            return float(np.diff(expit(ends))[0])
        if self.kind == "reliability":
            bound = posterior.ratio.draw(np.array([1 - self.prob]))[0]
            return float(expit(bound + np.log(posterior.replicates))[0])
        if self.kind == "slope sign":
            right = ndtr(np.sign(posterior.truth) * posterior.best / posterior.sd)
            return float((weight * right).sum())
        if self.kind.endswith("width"):
            return _mixture_width(posterior.sd, weight, self.prob)
        log_sd = posterior.log_sigma
        if self.kind != "sigma":
            log_sd = log_sd + 0.5 * log_ratio[:, None]
        ends = quantiles(log_sd.ravel(), weight.ravel(), np.array([low, 0.5, high]))
        a, b, c = np.exp(ends)
        return float((c - a) / (2 * b))


def quantiles(values: Array, weight: Array, at: Array) -> Array:
    """Quantiles of weighted points, linear between the middles of their weights.

    Parameters
    ----------
    values, weight
        Shape (n,).
    at
        Probabilities, shape (k,).

    Returns
    -------
    numpy.ndarray
        Shape (k,).
    """
    keep = weight > 1e-10
    values, weight = values[keep], weight[keep]
    order = np.argsort(values)
    w = weight[order]
    return np.interp(at, (np.cumsum(w) - 0.5 * w) / w.sum(), values[order])


def _mixture_width(sd: Array, weight: Array, prob: float) -> float:
    """Width of the interval of a mixture of normals with one mean."""
    keep = weight > 1e-9
    sd, weight = sd[keep], weight[keep] / weight[keep].sum()
    upper = (1 + prob) / 2
    least = float(ndtri(upper) * sd.min())
    half = float(ndtri(upper) * (weight @ sd))
    # Newton: the distribution function is concave above the mean, so after one step every iterate
    # lies below the root, and they rise to it.
    for _ in range(50):
        short = upper - float(weight @ ndtr(half / sd))
        density = float(weight @ (np.exp(-0.5 * (half / sd) ** 2) / sd)) / np.sqrt(2 * np.pi)
        half, before = max(half + short / density, least), half
        if abs(half - before) < 1e-7 * half:
            break
    return 2 * half


# -- what users write ----------------------------------------------------------------------------


def icc_width(width: float, prob: float = 0.95) -> Goal:
    """Return the goal that the intraclass correlation's interval is narrower than `width`.

    Examples
    --------
    >>> icc_width(0.2).text
    'icc width < 0.2'
    """
    return _goal("icc width", width, prob, most=1.0)


def mean_width(width: float, prob: float = 0.95) -> Goal:
    """Return the goal that the interval of the overall mean is narrower than `width`.

    Examples
    --------
    >>> mean_width(5).text
    'mean width < 5'
    """
    return _goal("mean width", width, prob)


def slope_width(width: float, prob: float = 0.95) -> Goal:
    """Return the goal that the slope's interval is narrower than `width`.

    Examples
    --------
    >>> slope_width(5).text
    'slope width < 5'
    """
    return _goal("slope width", width, prob)


def sd_within(share: float, of: str = "group", prob: float = 0.95) -> Goal:
    """Return the goal that an SD is known within a share of itself.

    Parameters
    ----------
    share
        0.25 for ±25%: half the interval's width over the posterior median.
    of
        `"group"`, `"residual"` or `"slope"`.
    prob
        Probability of the interval.

    Examples
    --------
    >>> sd_within(0.25).text
    'group sd within 25%'
    """
    of = choice("sd_within: of", of, _SD)
    if is_number(share) and share > 2:
        raise DataError(
            f"sd_within: share is {share:g}, {100 * share:g}% of the SD; a share such as 0.25 is "
            "expected, in text 'group sd within 25%'."
        )
    return _goal(_SD[of], share, prob)


def slope_sign(probability: float) -> Goal:
    """Return the goal that the true sign of the slope has this posterior probability.

    Examples
    --------
    >>> slope_sign(0.9).text
    'slope sign 0.9'
    """
    return _goal("slope sign", probability, 0.95, most=1.0)


def reliability(least: float, prob: float = 0.9) -> Goal:
    """Return the goal that a group's mean is shown to be this reliable.

    Parameters
    ----------
    least
        Least reliability of a group's mean: the share of its variance that is between groups.
    prob
        Posterior probability that the reliability is at least that.

    Examples
    --------
    >>> reliability(0.8).text
    'reliability >= 0.8'
    """
    return _goal("reliability", least, prob, most=1.0)


def _goal(kind: str, threshold: Any, prob: Any, most: float = np.inf) -> Goal:
    """Check the numbers of a goal."""
    for name, value, top in (("threshold", threshold, most), ("prob", prob, 1.0)):
        if not (is_number(value) and 0 < value < top):
            expected = "a positive number" if top == np.inf else f"a number between 0 and {top:g}"
            raise DataError(f"Goal {kind!r}: its {name} is {brief(value)}; {expected} is expected.")
    return Goal(kind, float(threshold), float(prob))


_NUMBER = r"(?P<number>\d*\.?\d+(?:e[+-]?\d+)?)"
_PATTERNS = (
    rf"(?P<kind>icc|mean|slope) (?:interval )?width (?:<=?|≤|below|under|less than) ?{_NUMBER}",
    rf"(?P<kind>icc|mean|slope) interval (?:narrower than|<=?) ?{_NUMBER}",
    rf"(?P<kind>group sd|sd|sigma|slope sd) (?:known )?within (?:±|\+-|\+/-)? ?{_NUMBER}"
    r" ?(?P<percent>%)?",
    rf"(?P<kind>slope sign) (?:(?:>=?|≥|at least|with probability) ?)?{_NUMBER}",
    rf"(?P<kind>reliability) (?:>=?|≥|at least) ?{_NUMBER}",
)
_WITH = r"(?: with (?:probability )?(?P<prob>0?\.\d+))?"


def parse_goal(goal: Any) -> Goal:
    """Read a goal written as text.

    Parameters
    ----------
    goal
        A `Goal`, or text such as those in `KNOWN`; `with probability 0.9` at its end sets the
        probability of the interval.

    Returns
    -------
    Goal

    Raises
    ------
    DataError
        Listing the goals that are known.

    Examples
    --------
    >>> parse_goal("ICC interval narrower than 0.2")
    Goal(kind='icc width', threshold=0.2, prob=0.95)
    """
    if isinstance(goal, Goal):
        return goal
    known = ", ".join(f"'{k}'" for k in KNOWN)
    if not isinstance(goal, str):
        raise DataError(f"goal is {brief(goal)}; one of these is expected: {known}.")
    text = " ".join(goal.lower().split())
    for pattern in _PATTERNS:
        found = re.fullmatch(pattern + _WITH, text)
        if found is None:
            continue
        parts = found.groupdict()
        kind, number = parts["kind"], float(parts["number"])
        options = {} if parts["prob"] is None else {"prob": float(parts["prob"])}
        if kind == "reliability":
            return reliability(number, **options)
        if kind == "slope sign":
            return slope_sign(number)
        if kind in ("icc", "mean", "slope"):
            width = {"icc": icc_width, "mean": mean_width, "slope": slope_width}[kind]
            return width(number, **options)
        of = {"group sd": "group", "sd": "group", "sigma": "residual", "slope sd": "slope"}[kind]
        return sd_within(number / 100 if parts["percent"] else number, of, **options)
    figure = re.search(r"\d*\.?\d+", text)
    # The hint keeps the number that came: it is the words that are wrong.
    written = [re.sub(r"[\d.]+", figure[0], k) if figure else k for k in KNOWN]
    close = nearest(text, written)
    hint = close if close.startswith("Did") else f"Known goals: {known}."
    raise DataError(f"Goal {goal!r} is not known. {hint}")

"""Calls of the public API with one argument replaced by something odd.

`python tests/fuzz/mutated_calls.py --number 500 --seed 0` prints every call that ends in anything
but an answer or one of ranef's own errors, in one line, with the seed that repeats it.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import pandas as pd
from scipy import stats

import ranef as rf

FORMULA = "y ~ f + x + (x|g)"


def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g, x = np.tile(np.arange(6), 10), rng.normal(size=60)
    f = np.array(["a", "b", "c"])[np.arange(60) // 20]
    y = x + rng.normal(size=6)[g] + rng.normal(size=60)
    return pd.DataFrame({"y": y, "x": x, "f": f, "g": g, "w": rng.uniform(0.5, 2, 60)})


def _fitted_in_silence(formula: str) -> rf.Fit:
    """A fit of few draws, whichever call is the first to need it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rf.fit(formula, table(), draws=200, seed=1)


@functools.cache
def fitted() -> rf.Fit:
    return _fitted_in_silence(FORMULA)


@functools.cache
def crossed() -> rf.Fit:
    return _fitted_in_silence("y ~ x + (1|g) + (1|f)")


def method(name: str, of: Callable[[], rf.Fit] = fitted) -> Callable[..., Any]:
    return lambda **arguments: getattr(of(), name)(**arguments)


# Function, and arguments with which it answers.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "fit": (
        rf.fit,
        {
            "formula": FORMULA, "data": table(), "priors": {"sigma": "half_t(2)"}, "draws": 40,
            "chains": 2, "warmup": 10, "method": "exact", "effects": ["1|g"], "weights": "w",
            "aliased": "refuse", "seed": 1, "progress": False,
        },
    ),
    "fit with errors": (
        rf.fit,
        {"formula": "y ~ x + (1|g)", "data": table(), "se": "w", "draws": 40, "seed": 1},
    ),
    "fit by Gibbs": (
        rf.fit,
        {"formula": "y ~ x + (1|g)", "data": table(), "method": "gibbs", "draws": 40, "seed": 1},
    ),
    "log_likelihood": (
        lambda values, reml: rf.model(FORMULA, table()).log_likelihood(values, reml=reml),
        {"values": {"sigma": 1.0, "x|g": [[1.0, 0.2], [0.2, 0.5]]}, "reml": False},
    ),
    "prior_draws": (
        lambda priors, draws, seed: rf.model("y ~ 0 + (1|g)", table(), priors=priors).prior_draws(
            draws, seed
        ),
        {"priors": {"sigma": "half_t(2)", "1|g": stats.expon()}, "draws": 5, "seed": 1},
    ),
    "summary": (method("summary"), {"prob": 0.9}),
    "effects": (
        method("effects", crossed),
        {
            "name": "1|g", "prob": 0.9, "threshold": 0.1, "compare": None,
            "highest": True, "seed": 1,
        },
    ),
    "compared": (method("effects"), {"compare": ("0", "1"), "prob": 0.9}),
    "probability": (method("probability", crossed), {"statement": "x > 0.1", "seed": 1}),
    "contrast": (method("contrast"), {"weights": {"f[b]": 1, "x": -1}}),
    "marginal_means": (
        method("marginal_means"),
        {"names": "f", "at": {"x": 1.0}, "prob": 0.9},
    ),
    "predict": (
        method("predict", crossed),
        {
            "new": table().iloc[:3], "kind": "response", "groups": "new",
            "interval": 0.9, "seed": 1, "draws": True,
        },
    ),
    "fitted": (method("fitted"), {"interval": 0.9, "seed": 1}),
    "residuals": (method("residuals", crossed), {"kind": "pit", "seed": 1}),
    "check": (
        method("check"),
        {"statistics": ["max"], "seed": 1},
    ),
    "variance_shares": (method("variance_shares"), {"prob": 0.9, "at": {"x": 1}}),
    "loo": (method("loo"), {"unit": "g", "seed": 1}),
    "gauge": (
        rf.gauge_rr,
        {
            "data": rf.datasets.load("gauge_aiag"), "value": "measurement", "part": "part",
            "operator": "operator", "tolerance": 4.0, "draws": 1000, "seed": 1,
        },
    ),
    "plan": (
        rf.plan,
        {"goal": "icc width < 0.9", "groups": 3, "replicates": 2, "simulations": 2, "seed": 1},
    ),
    "half_t": (rf.half_t, {"scale": 1.0, "df": 3.0}),
    "lkj": (rf.lkj, {"eta": 2.0}),
    "variance": (rf.variance, {"distribution": stats.invgamma(2, scale=1)}),
    "dirichlet": (rf.dirichlet, {"alpha": {"1|g": 1.0, "sigma": 2.0}}),
    "compare": (rf.compare, {"fits": {"one": "fitted", "two": "crossed"}}),
}  # fmt: skip

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 1.5, -0.5, 10**30, float("nan"), float("inf"), 1e-300, 1e300, 2j, "",
    " ", "x", "g", "y", "1|g", "sigma", "(", "`", "exact", "new", "nope", "é\u0000", "x" * 300,
    b"x",
    [], [1], ["x"], [None], [[1, 2], [3]], (), ("a", "b", "c"), {}, {"a": 1}, {"x": None}, {1: 2},
    {"x": "x"}, {"sigma": "half_t(-1)"}, {"sigma": 3}, {"1|g": "norm(0, 1)"}, {"x|g": np.eye(3)},
    {"x": np.inf}, set(), range(3), np.array([]), np.array(1.0), np.full(3, np.nan), np.eye(2),
    np.array(["a"]), np.str_("x"), np.float32(0.5), np.int8(1), np.bool_(True), object(), int,
    lambda: None, len, pd.DataFrame(), pd.DataFrame({"y": [1.0]}), pd.Series([1, 2]), pd.NA, pd.NaT,
    datetime.date(2020, 1, 1), decimal.Decimal("0.5"), np.random.default_rng(1), stats.norm(),
    stats.norm, stats.poisson(2), stats.invwishart(3, np.eye(2)), slice(None), Ellipsis,
)  # fmt: skip


def odd_column(rng: np.random.Generator, column: pd.Series[Any]) -> Any:
    """What a column may hold instead of its values."""
    n = len(column)
    choices: list[Callable[[], Any]] = [
        lambda: [None] * n,
        lambda: np.full(n, np.nan),
        lambda: np.zeros(n),
        lambda: np.full(n, 1e300),
        lambda: np.where(np.arange(n) == 0, np.inf, 1.0),
        lambda: ["z"] * n,
        lambda: [f"{i}" for i in range(n)],
        lambda: list(range(n)),
        lambda: [[1, 2]] * n,
        lambda: [{}] * n,
        lambda: np.arange(n) % 2 == 0,
        lambda: np.arange(n) * 1j,
        lambda: pd.date_range("2020", periods=n),
        lambda: [datetime.date(2020, 1, 1 + i % 28) for i in range(n)],
        lambda: pd.timedelta_range("1D", periods=n),
        lambda: [decimal.Decimal(i) / 7 for i in range(n)],
        lambda: pd.Categorical(np.arange(n) % 3),
        lambda: pd.cut(np.arange(n), 3),
        lambda: pd.array(np.arange(n) % 5, dtype="Int64"),
        lambda: pd.period_range("2020", periods=n, freq="D"),
        lambda: np.arange(n, dtype=np.int8),
        lambda: column.astype("string"),
        lambda: column.sample(frac=1, random_state=1).to_numpy(),
        lambda: column.where(np.arange(n) % 4 > 0).to_numpy(),
        lambda: [object()] * n,
        lambda: np.arange(n) * 1e-12,
        lambda: [b"x", b"y"] * (n // 2) + [b"z"] * (n % 2),
        lambda: ["a", 1, 2.5][: n % 3 or 3] * n,
    ]
    values = choices[rng.integers(len(choices))]()
    return values[:n]


def odd_table(rng: np.random.Generator, frame: pd.DataFrame) -> Any:
    """A table that is not what it was."""
    frame = frame.copy()
    name = frame.columns[rng.integers(frame.shape[1])]
    kind = rng.integers(8)
    if kind <= 3:
        frame[name] = odd_column(rng, frame[name])
    elif kind == 4:
        return frame.drop(columns=name)
    elif kind == 5:
        return frame.iloc[: rng.integers(4)]
    elif kind == 6:
        return pd.concat([frame, frame[[name]]], axis=1)
    else:
        return frame.rename(
            columns={name: rng.choice(["1", "", "a b", "x:y", "Intercept", "I(x)"])}
        )
    return frame


def odd_text(rng: np.random.Generator, text: str) -> str:
    """A text with a character dropped, doubled or put in."""
    at = int(rng.integers(len(text) + 1))
    extra = str(rng.choice(list("()|~+-*/:,.`'\"[]{}^ 0x\\ng=<>")))
    kind = rng.integers(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    return text[:at] + (extra if kind == 1 else text[at : at + 1] * 2) + text[at:]


@dataclass(frozen=True)
class Mutated:
    """One call, and what was changed."""

    name: str
    argument: str
    value: Any

    def run(self) -> None:
        function, arguments = CALLS[self.name]
        arguments = arguments | {self.argument: self.value}
        if self.name == "compare" and isinstance(arguments["fits"], dict):
            known = {"fitted": fitted(), "crossed": crossed()}
            arguments["fits"] = {
                k: known.get(v, v) if isinstance(v, str) else v
                for k, v in arguments["fits"].items()
            }
        function(**arguments)

    def __str__(self) -> str:
        shown = repr(self.value).replace("\n", " ")[:120]
        if isinstance(self.value, pd.DataFrame):
            shown = repr(self.value.dtypes.to_dict()).replace("\n", " ")[:300]
        return f"{self.name}({self.argument}={shown})"


def mutated(seed: int) -> Mutated:
    """The call of a seed."""
    rng = np.random.default_rng(seed)
    name = list(CALLS)[rng.integers(len(CALLS))]
    arguments = CALLS[name][1]
    argument = list(arguments)[rng.integers(len(arguments))]
    value = arguments[argument]
    if isinstance(value, pd.DataFrame) and rng.random() < 0.8:
        return Mutated(name, argument, odd_table(rng, value))
    if isinstance(value, str) and rng.random() < 0.6:
        return Mutated(name, argument, odd_text(rng, value))
    if isinstance(value, dict) and value and rng.random() < 0.6:
        key = list(value)[rng.integers(len(value))]
        if rng.random() < 0.5:
            return Mutated(name, argument, value | {key: ODD[rng.integers(len(ODD))]})
        rest = {k: v for k, v in value.items() if k != key}
        return Mutated(name, argument, rest | {odd_text(rng, key): value[key]})
    return Mutated(name, argument, ODD[rng.integers(len(ODD))])


def failures(seeds: range) -> Iterator[tuple[int, Mutated, BaseException]]:
    """Calls that end in something other than an answer or an error of ranef's own, in one line."""
    for seed in seeds:
        call = mutated(seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call.run()
        except rf.RanefError as error:
            if "\n" in str(error) or len(str(error)) > 1000:
                yield seed, call, error
        except BaseException as error:
            yield seed, call, error
            if isinstance(error, KeyboardInterrupt):
                raise


@click.command()
@click.option("--number", default=500, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(number: int, seed: int) -> None:
    """Run so many mutated calls and print those that fail."""
    count = 0
    for at, call, error in failures(range(seed, seed + number)):
        count += 1
        click.echo(f"{at}: {call}\n    {type(error).__name__}: {str(error)[:300]}")
    click.echo(f"{count} of {number} calls failed.")
    raise SystemExit(1 if count else 0)


if __name__ == "__main__":
    main()

"""A Gibbs sampler as functions: the update of each block and the log joint density."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.common.array_types import Array
from ranef.errors import DataError, nearest
from ranef.gibbs_check.recorder import Diverged, UnrecordedDraw

__all__ = ["Context", "GibbsSampler", "State", "UpdateError", "make_sampler"]

State = dict[str, Any]


class UpdateError(Exception):
    """An update failed at a state where the log joint density is finite; the text says how."""


@dataclass(frozen=True)
class GibbsSampler:
    """What is checked.

    Attributes
    ----------
    updates
        Function of each block.
    log_joint
        Log joint density up to a constant.
    state
        Where the user starts: floats and arrays, copied.
    data
        Handed to both kinds of functions after the state, unless None.
    discrete
        Blocks whose update returns whole numbers or booleans.
    """

    updates: Mapping[str, Callable[..., Any]]
    log_joint: Callable[..., Any]
    state: State
    data: Any
    discrete: frozenset[str] = frozenset()

    def joint(self, state: State) -> float:
        """Log joint density, minus infinity where it is undefined."""
        more = () if self.data is None else (self.data,)
        try:
            with np.errstate(all="ignore"):
                value = float(self.log_joint(state, *more))
        # TypeError: roots of negative floats; LookupError: an index beyond the last.
        except (ValueError, ArithmeticError, TypeError, LookupError, AssertionError):
            return -np.inf
        return -np.inf if np.isnan(value) else value

    def draw(self, name: str, state: State, rng: np.random.Generator) -> Array:
        """Run one update on a copy of the state; its value as floats, shape (size of the block,).

        Raises
        ------
        UpdateError
            If it raises, or returns another shape or a value that is not finite.
        """
        scratch = copied(state)
        more = () if self.data is None else (self.data,)
        try:
            with np.errstate(all="ignore"):
                value = self.updates[name](scratch, *more, rng)
        except (UnrecordedDraw, Diverged):
            raise
        except Exception as error:
            raise UpdateError(f"raises {type(error).__name__}: {error}") from error
        if np.shape(value) != np.shape(state[name]):
            raise UpdateError(
                f"returned shape {np.shape(value)}, the state holds {np.shape(state[name])}"
            )
        flat = np.asarray(value, dtype=float).ravel()
        if not np.isfinite(flat).all():
            raise UpdateError(f"returned {flat[~np.isfinite(flat)][0]:g}")
        return flat

    def place(self, state: State, name: str, flat: Array) -> State:
        """The same state with another value of one block."""
        old = state[name]
        value: Any = flat.reshape(np.shape(old))
        if name in self.discrete:
            kind = np.bool_ if np.asarray(old).dtype.kind == "b" else np.int64
            value = np.rint(value).astype(kind)
        if not isinstance(old, np.ndarray):
            # A NumPy scalar: the root of a negative one is nan, that of a Python float complex.
            value = value[()]
        return {**state, name: value}

    def joint_at(self, state: State, name: str, flat: Array) -> float:
        """Log joint density with one block moved."""
        return self.joint(self.place(state, name, flat))

    def value(self, state: State, name: str) -> Array:
        """One variable of the state as floats, shape (size,)."""
        return np.array(state[name], dtype=float).ravel()


@dataclass(frozen=True)
class Context:
    """A sampler under check, where, and with what randomness.

    Attributes
    ----------
    sampler
        The sampler and the model.
    states
        The user's own state first, then asymmetric ones.
    rng
        Source of random numbers.
    alpha
        Probability that a right block fails levels 1 and 2.
    invariant
        Blocks declared to leave their conditional invariant only.
    """

    sampler: GibbsSampler
    states: list[State]
    rng: np.random.Generator
    alpha: float
    invariant: frozenset[str]


def copied(state: State) -> State:
    """Copy the arrays of a state."""
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in state.items()}


def changed(before: State, after: State) -> list[str]:
    """Names whose values differ, gone or new ones included."""
    names = [k for k in before if k not in after or not np.array_equal(before[k], after[k])]
    return names + [k for k in after if k not in before]


def make_sampler(
    updates: Any, log_joint: Any, state: Any, data: Any, rng: np.random.Generator
) -> GibbsSampler:
    """Look at all arguments, run every function once, and put them together.

    Raises
    ------
    DataError
        In one line: what came and what is expected.
    """
    if not isinstance(updates, Mapping) or not updates:
        raise DataError(
            "updates must be a dict with one function for each block, e.g. {'mu': update_mu}."
        )
    if not callable(log_joint):
        raise DataError(
            f"log_joint is a {type(log_joint).__name__}; a function of the state is expected."
        )
    if not isinstance(state, Mapping) or not state:
        raise DataError("state must be a dict of numbers and arrays, e.g. {'mu': 0.0}.")
    start = {str(name): _number(str(name), value) for name, value in state.items()}
    for name, update in updates.items():
        if name not in start:
            raise DataError(f"updates names {name!r}, not in the state. {nearest(name, start)}")
        if not callable(update):
            raise DataError(
                f"updates[{name!r}] is a {type(update).__name__}; a function is expected."
            )
        if np.size(start[name]) == 0:
            raise DataError(f"state[{name!r}] is empty; a number or array is expected.")
        _check_signature(name, update, data)
    sampler = GibbsSampler(dict(updates), log_joint, start, data)
    _check_log_joint(sampler)
    discrete = {name for name in updates if _returns_integers(sampler, name, rng)}
    for name in set(sampler.updates) - discrete:  # a start such as 1 or np.array([0, 0])
        start[name] = np.asarray(start[name], dtype=float)[()]
    return GibbsSampler(sampler.updates, log_joint, start, data, frozenset(discrete))


def _number(name: str, value: Any) -> Any:
    """A float, or a float or whole-number array."""
    try:
        array = np.array(value)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        shown = "not finite" if array.dtype.kind in "fiub" else f"a {type(value).__name__}"
        raise DataError(f"state[{name!r}] is {shown}; a finite number or array is expected.")
    if array.ndim == 0:
        return value if isinstance(value, int | np.integer) else np.float64(array)
    return array


def _call_form(data: Any) -> str:
    return "(state, rng)" if data is None else "(state, data, rng)"


def _check_signature(name: str, update: Any, data: Any) -> None:
    try:
        signature = inspect.signature(update)
    except (TypeError, ValueError):  # some callables in C tell nothing
        return
    try:
        signature.bind(*range(2 if data is None else 3))
    except TypeError:
        raise DataError(
            f"updates[{name!r}] takes {signature}; it is called as {name}{_call_form(data)}."
        ) from None


def _check_log_joint(sampler: GibbsSampler) -> None:
    more = () if sampler.data is None else (sampler.data,)
    scratch = copied(sampler.state)
    try:
        with np.errstate(all="ignore"):
            value = sampler.log_joint(scratch, *more)
    except Exception as error:
        raise DataError(f"log_joint raises {type(error).__name__} at the state: {error}") from error
    if np.size(value) != 1 or np.asarray(value).dtype.kind not in "fiu":
        raise DataError(
            f"log_joint returned shape {np.shape(value)}; one number is expected, summed over data."
        )
    if not np.isfinite(value):
        raise DataError(
            f"log_joint is {float(value):g} at the state; start where the density is positive."
        )
    names = changed(sampler.state, scratch)
    if names:
        raise DataError(f"log_joint changes {names[0]!r} in the state; it must leave it alone.")


def _returns_integers(sampler: GibbsSampler, name: str, rng: np.random.Generator) -> bool:
    """Run an update at the user's own state and look at what comes back."""
    more = () if sampler.data is None else (copy.deepcopy(sampler.data),)
    scratch = copied(sampler.state)
    form = _call_form(sampler.data)
    try:
        with np.errstate(all="ignore"):
            value = sampler.updates[name](scratch, *more, rng)
    except Exception as error:
        raise DataError(
            f"update {name!r}, called as {name}{form}, raises {type(error).__name__}: {error}"
        ) from error
    expected = np.shape(sampler.state[name])
    if value is None:
        raise DataError(f"update {name!r} returned None; the block's new value is expected.")
    if isinstance(value, Mapping):
        raise DataError(f"update {name!r} returned a dict; the block's new value is expected.")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise DataError(f"update {name!r} returned a {type(value).__name__}; numbers are expected.")
    if array.shape != expected:
        raise DataError(
            f"update {name!r} returned shape {array.shape}; the state holds shape {expected}."
        )
    return array.dtype.kind in "iub"

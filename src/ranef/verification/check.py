"""Check the updates of a Gibbs sampler against the log joint density they are meant for."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.arguments import function, generator, names_list, share
from ranef.errors import DataError, nearest
from ranef.progress import track
from ranef.types import Array
from ranef.verification.conditional_pit import one_step_pit
from ranef.verification.diagnose_scan import tell_elements, which_elements
from ranef.verification.diagnosis import diagnose
from ranef.verification.gibbs_report import BlockCheck, GibbsReport
from ranef.verification.one_sweep import before_after, functionals, line_step
from ranef.verification.problem import Problem, State, UpdateError, changed, copied, make_problem
from ranef.verification.quadrature_line import Endless
from ranef.verification.recorder import Diverged, Recorder, Unseen
from ranef.verification.replay import Blind, Comparison, Map, compare, missed, read_map
from ranef.verification.single_site import compare_elements, read_scan
from ranef.verification.single_site_indicators import compare_indicators, scan_orders
from ranef.verification.states import asymmetric_states
from ranef.verification.support import off_surface, outside, wrong_outcomes
from ranef.verification.sweep_replay import Composition, SweepError, read_sweep, run_sweep

if TYPE_CHECKING:
    from ranef.types import Seed

__all__ = ["check_gibbs"]

# Asymmetric states besides the user's own. One finds an error with certainty; three make it sure
# that each term of a conditional is away from zero somewhere.
_STATES = 3
# States from which a failed block's formulas are recognised: more than there are candidate terms.
_FORMULA_STATES = 40
# Largest block of a Metropolis or slice step that is compared before and after.
_LARGEST_STEP = 20


def check_gibbs(
    updates: Mapping[str, Callable[..., Any]],
    log_joint: Callable[..., Any],
    state: Mapping[str, Any],
    data: Any = None,
    *,
    rng: Seed = None,
    sweep: Callable[..., Any] | None = None,
    invariant: Collection[str] = (),
    alpha: float = 1e-4,
    progress: bool = True,
) -> GibbsReport:
    """Check each update of a Gibbs sampler against the model's log joint density.

    Level 0 replays the random numbers of an update, has its density q by change of variables, and
    compares log q with the log joint density at several draws and several asymmetric states: a
    proof to rounding error, in milliseconds, with a diagnosis in the model's own terms. An update
    that loops over the elements of its block is replayed element by element. Where the
    random numbers cannot be followed (rejection samplers, `numpy.random.seed`), level 1 tests many
    draws against the conditional distribution function by quadrature. Steps that depend on the
    block's own value (Metropolis, slice) and sweeps that cannot be replayed are tested at level 2,
    before against after.

    Parameters
    ----------
    updates
        For each block a function `(state, rng) -> new value` that draws from `rng`, a
        `numpy.random.Generator`, in any style, `scipy.stats` with `random_state=rng` included.
    log_joint
        Function `(state) -> float`: log density of data and all unknowns, up to a constant.
        Outside the support minus infinity, nan or a ValueError.
    state
        Name to float or array; any state of positive density. It may be symmetric, such as all
        ones: the check moves away from it on its own. Whole numbers without an update stay.
    data
        If given, functions are called as `update(state, data, rng)`, `log_joint(state, data)` and
        `sweep(state, data, rng)`.
    rng
        Seed or generator.
    sweep
        Function `(state, rng) -> new state` that runs all updates: there stale values live. It is
        replayed too, and must equal the updates in some order, each given fresh values.
    invariant
        Blocks whose update only leaves the conditional invariant. Steps that depend on the block's
        own value are recognised; a step that draws from a generator of its own is not always.
    alpha
        Probability that a right sampler fails levels 1 and 2 anywhere, all tests taken together
        (Bonferroni). Level 0 has no false alarms of this kind.
    progress
        Show a bar on anything longer than a second.

    Returns
    -------
    GibbsReport

    Raises
    ------
    DataError
        In one line, if an argument cannot be used: an update that takes other arguments, raises or
        returns another shape at the state given; a log density that is not finite there; a name
        that is not in the state.

    Notes
    -----
    mathematics.md, section 7. The check is of conditionals. It says nothing of how fast the chain
    mixes or whether it reaches everything, and cannot find an error that log_joint and an update
    share.

    Examples
    --------
    The mean of three numbers with known variance; the update forgets to divide by n.

    >>> y = np.array([1.0, 2.0, 6.0])
    >>> def log_joint(state):
    ...     return -0.5 * ((y - state["mu"]) ** 2).sum()
    >>> def update_mu(state, rng):
    ...     return rng.normal(y.mean(), 1.0)
    >>> report = check_gibbs({"mu": update_mu}, log_joint, {"mu": 0.0}, rng=1)
    >>> report.failures["mu"]
    "update 'mu' uses precision 1; log_joint implies 3"
    """
    alpha = share("alpha", alpha, 1e-4)
    if sweep is not None:
        function("sweep", sweep, "sweep(state, rng)")
    source = generator(rng, "rng")
    problem = make_problem(updates, log_joint, state, data, source)
    invariant = names_list("invariant", invariant, "('mu',)")
    for name in invariant:
        if name not in problem.updates:
            raise DataError(f"invariant names {name!r}, no update. {nearest(name, updates)}")
    try:
        states = [problem.state, *asymmetric_states(problem, _STATES, source)]
    except UpdateError as error:
        raise DataError(f"An update {error} near the state; start elsewhere.") from error
    part = alpha / (len(problem.updates) + (sweep is not None))
    checker = _Checker(problem, states, source, part, frozenset(invariant))
    blocks = [
        checker.block(name) for name in track(list(problem.updates), "Checking", show=progress)
    ]
    if sweep is not None:
        blocks.append(checker.sweep(sweep, blocks))
    return GibbsReport(tuple(blocks), _not_checked(problem, sweep is not None), alpha)


def _not_checked(problem: Problem, with_sweep: bool) -> tuple[str, ...]:
    told = [
        "how fast the chain mixes and whether it reaches everything",
        "an error that log_joint and an update share",
    ]
    fixed = [repr(name) for name in problem.state if name not in problem.updates]
    if fixed:
        told.append(f"{', '.join(fixed)} (no update)")
    if not with_sweep:
        told.append("stale values in the sweep (none was given)")
    return tuple(told)


@dataclass(frozen=True)
class _Checker:
    """Everything that the levels share."""

    problem: Problem
    states: list[State]
    rng: np.random.Generator
    alpha: float
    invariant: frozenset[str]

    def block(self, name: str) -> BlockCheck:
        """Check one update at the first level that can see it."""
        started = time.perf_counter()
        try:
            made = self._meddling(name) or self._levels(name)
        except UpdateError as error:
            told = f"update {name!r} {error}, at a state where log_joint is finite"
            made = BlockCheck(name, 0, False, told)
        return replace(made, seconds=made.seconds or time.perf_counter() - started)

    def _levels(self, name: str) -> BlockCheck:
        if name in self.invariant:
            return self._step(name, "declared to be a step that leaves its conditional invariant")
        try:
            if self._own_value_shapes(name):
                raise Blind("depends on its own current value", kernel=True)
            return self._replay(name)
        except Blind as blind:
            reason, kernel = str(blind), blind.kernel
        if not kernel and self._own_value_matters(name):
            reason, kernel = f"{reason}, and depends on its own current value", True
        if kernel and self.problem.value(self.problem.state, name).size > 1:
            try:
                return self._elements(name)
            except Blind as blind:
                reason = str(blind)
        try:
            return self._step(name, reason) if kernel else self._pit(name, reason)
        except Endless:
            told = (
                f"not checked: it {reason}, and log_joint does not fall off as {name!r} grows or "
                "shrinks, or rises again beyond a valley; make it minus infinity outside the "
                "support (of an angle, one turn)"
            )
            return BlockCheck(name, None, None, told)

    # -- what it changes besides its block

    def _meddling(self, name: str) -> BlockCheck | None:
        """Look whether an update changes what is not its own."""
        problem = self.problem
        scratch = copied(self.states[-1])
        more = () if problem.data is None else (problem.data,)
        before = _frozen(problem.data)
        try:
            with np.errstate(all="ignore"):
                problem.updates[name](scratch, *more, self.rng)
        except Exception as error:
            raise UpdateError(f"raises {type(error).__name__}: {error}") from error
        others = [k for k in changed(self.states[-1], scratch) if k != name]
        # What the data computed about themselves on first use is no change.
        after = _frozen(problem.data)
        if any(after.get(key) != value for key, value in before.items()):
            return BlockCheck(name, 0, False, f"update {name!r} changes the data")
        if others:
            shown = ", ".join(repr(k) for k in others)
            told = f"update {name!r} changes {shown} in the state, not its own"
            return BlockCheck(name, 0, False, told)
        return None

    # -- level 0

    def _replay(self, name: str) -> BlockCheck:
        started = time.perf_counter()
        recorder = Recorder(self.rng)
        maps: list[Map] = []
        found: list[Comparison] = []
        for i, state in enumerate(self.states):
            other = self.problem.value(self.states[i - 1], name)
            maps.append(
                read_map(self.problem, name, state, other, recorder, maps[0] if maps else None)
            )
            found.append(compare(self.problem, name, state, maps[-1], recorder))
        told = self._memory(name, maps) or self._support(name, maps, recorder)
        worst = max(found, key=_excess)
        right = worst.worst <= worst.limit
        if right and not told:
            ends = (
                missed(self.problem, name, s, m) for s, m in zip(self.states, maps, strict=True)
            )
            told = next(filter(None, ends), "")
        seconds = time.perf_counter() - started
        if not right and not told:
            formulas = diagnose(self.problem, name, self._formula_states(), recorder)
            if not formulas:
                formulas = (
                    "draws values where log_joint is not finite"
                    if np.isinf(worst.worst)
                    else f"differs from the full conditional by {worst.worst:.2g} in log density"
                )
            told = formulas
        return BlockCheck(
            name,
            0,
            not told,
            f"update {name!r} {told}" if told else "",
            worst.worst,
            worst.limit,
            seconds=seconds,
            log_q=np.concatenate([c.log_q for c in found]),
            log_p=np.concatenate([c.log_p for c in found]),
        )

    def _support(self, name: str, maps: list[Map], recorder: Recorder) -> str:
        """Look at values that random draws seldom or never give."""
        problem, told = self.problem, off_surface(self.problem, name, self.states, maps)
        for state, made in zip(self.states[1:], maps[1:], strict=True):
            if not told and outside(problem, name, state, made):
                told = "draws values where log_joint is not finite"
            told = told or wrong_outcomes(problem, name, state, made, recorder)
        return told

    def _elements(self, name: str) -> BlockCheck:
        """Check an update that draws its elements one at a time, each given the newest values."""
        if name in self.problem.discrete:
            return self._indicators(name)
        recorder, states = Recorder(self.rng), self.states[1:]
        scan, made = read_scan(
            self.problem, name, states[0], self.problem.value(states[1], name), recorder
        )
        by_state = [compare_elements(self.problem, name, s, scan, recorder) for s in states]
        found = [max(of, key=_excess) for of in zip(*by_state, strict=True)]
        told = self._memory(name, [made])
        worst = max(found, key=_excess)
        if not told and worst.worst > worst.limit:
            told = tell_elements(self.problem, name, states[0], scan, found, recorder)
        return BlockCheck(
            name,
            0,
            not told,
            f"update {name!r} {told}" if told else "",
            worst.worst,
            worst.limit,
            log_q=np.concatenate([c.log_q for of in by_state for c in of]),
            log_p=np.concatenate([c.log_p for of in by_state for c in of]),
        )

    def _indicators(self, name: str) -> BlockCheck:
        """Do the same for zeros and ones; right if one of the possible orders is."""
        recorder, states = Recorder(self.rng), self.states[1:]
        number, orders = scan_orders(self.problem, name, states[0], recorder)
        tried = []
        for order in orders:
            by_state = [
                compare_indicators(self.problem, name, s, number, order, recorder) for s in states
            ]
            found = [max(of, key=_excess) for of in zip(*by_state, strict=True)]
            tried.append((max(found, key=_excess), order, found))
        worst, order, found = min(tried, key=lambda one: _excess(one[0]))
        right = worst.worst <= worst.limit
        if not right and len(orders) > 1:
            raise Blind("depends on its own current value, in an order that replay cannot see")
        told = "" if right else which_elements(self.problem, name, order, found)
        return BlockCheck(
            name,
            0,
            right,
            f"update {name!r} {told}" if told else "",
            worst.worst,
            worst.limit,
            log_q=np.concatenate([c.log_q for c in found]),
            log_p=np.concatenate([c.log_p for c in found]),
        )

    def _formula_states(self) -> list[State]:
        return asymmetric_states(self.problem, _FORMULA_STATES, self.rng)

    def _memory(self, name: str, maps: list[Map]) -> str:
        """Look whether an update gives something else once it or others ran elsewhere."""
        first = maps[0]
        if not np.array_equal(first.at(first.point), first.value):
            return (
                "gives another value at the same state after it ran at others: it keeps something"
            )
        for other in self.problem.updates:
            if other != name:
                with suppress(UpdateError):  # that one gets its own entry
                    self.problem.draw(other, self.states[-1], self.rng)
                if not np.array_equal(first.at(first.point), first.value):
                    return (
                        f"gives another value at the same state after update {other!r} ran "
                        "elsewhere: it uses what that one keeps, not the state"
                    )
        return ""

    # -- levels 1 and 2

    def _own_value_matters(self, name: str) -> bool:
        """Run with the same seed and another own value; False if the seed fixes nothing."""
        first = int(self.rng.integers(2**32))
        state = self.states[1]
        moved = self.problem.place(state, name, self._other(name))

        def run(where: State, seed: int = first) -> Any:
            return self.problem.draw(name, where, np.random.default_rng(seed))

        if not np.array_equal(run(state), run(state)):
            # A generator of its own: a step that stays where it is gives itself away.
            own = self.problem.value(state, name)
            return any(np.array_equal(run(state), own) for _ in range(200)) and (
                name not in self.problem.discrete
            )
        # A whole number comes out the same for most random numbers even where it depends.
        seeds = range(first, first + (100 if name in self.problem.discrete else 1))
        return any(not np.array_equal(run(state, s), run(moved, s)) for s in seeds)

    def _own_value_shapes(self, name: str) -> bool:
        """Whether the own value moves parameters of a draw: values may come out the same."""
        # A generator of its own, so that reports for a seed do not change.
        recorder = Recorder(np.random.default_rng(0))
        recorder.record()
        try:
            self.problem.draw(name, self.states[1], recorder)
            script, point = list(recorder.entries), recorder.coordinates()
            recorder.replay(point, script)
            moved = self.problem.place(self.states[1], name, self._other(name))
            self.problem.draw(name, moved, recorder)
        except (Diverged, Unseen, UpdateError):
            return False
        return any(
            not np.array_equal(p, q)
            for now, then in zip(recorder.entries, script, strict=False)
            for p, q in zip(now.parameters, then.parameters, strict=True)
        )

    def _other(self, name: str) -> Array:
        """Another value of a block, all zeros and ones turned if it is made of them."""
        own = self.problem.value(self.states[1], name)
        if name in self.problem.discrete and set(own) <= {0.0, 1.0}:
            return 1.0 - own
        return self.problem.value(self.states[2], name)

    def _pit(self, name: str, reason: str, *, kernel: bool = False) -> BlockCheck:
        """Test draws against the distribution function; of a kernel, a step from exact draws."""
        result = one_step_pit(
            self.problem, name, self.states[1:], self.rng, self.alpha, kernel=kernel
        )
        right = result.p_value >= self.alpha
        told = reason if right else f"update {name!r} {result.note}; replay: it {reason}"
        return BlockCheck(name, 1 + kernel, right, told, p_value=result.p_value)

    def _step(self, name: str, reason: str) -> BlockCheck:
        """Test a step that need only leave the full conditional invariant."""
        size = self.problem.value(self.problem.state, name).size
        if size == 1:
            return self._pit(name, reason, kernel=True)
        if size > _LARGEST_STEP or name in self.problem.discrete:
            return BlockCheck(
                name, None, None, f"not checked, a step in {size} values that {reason}"
            )
        count = 3000 // size
        outcome = before_after(
            line_step(self.problem, name, self.states[1:], self.rng),
            lambda s: self.problem.place(s, name, self.problem.draw(name, s, self.rng)),
            self.states[1],
            functionals(self.problem, [name]),
            self.alpha,
            (count // 4, count),
        )
        right = outcome.p_value >= self.alpha
        wrong = f"update {name!r} does not leave {outcome.where} as it was; replay: it {reason}"
        return BlockCheck(name, 2, right, reason if right else wrong, p_value=outcome.p_value)

    # -- the sweep

    def sweep(self, sweep: Callable[..., Any], blocks: list[BlockCheck]) -> BlockCheck:
        """Replay the sweep as a composition of updates, else compare before and after."""
        started = time.perf_counter()
        try:
            made = self._sweep_replay(sweep, blocks)
        except SweepError as error:
            made = BlockCheck("sweep", 0, False, f"the sweep {error}")
        except UpdateError as error:
            made = BlockCheck("sweep", None, None, f"not checked: an update {error}")
        return replace(made, seconds=time.perf_counter() - started)

    def _sweep_replay(self, sweep: Callable[..., Any], blocks: list[BlockCheck]) -> BlockCheck:
        recorder = Recorder(self.rng)
        told: list[str] = []
        for state in self.states[1:]:
            found = read_sweep(self.problem, sweep, state, recorder)
            if found.unmatched:
                return self._sweep_test(sweep, blocks, _told(found))
            told += [
                f"gives update {name!r} the value of {', '.join(map(repr, old))} from before"
                for name, old in found.stale.items()
            ]
            told += [f"never updates {name!r}" for name in found.unmoved]
        told = list(dict.fromkeys(told))
        return BlockCheck("sweep", 0, not told, f"the sweep {'; it '.join(told)}" if told else "")

    def _sweep_test(
        self, sweep: Callable[..., Any], blocks: list[BlockCheck], reason: str
    ) -> BlockCheck:
        if not all(b.passed for b in blocks):
            return BlockCheck(
                "sweep", None, None, f"not checked: it {reason}, and not all updates passed"
            )

        def reference(state: State) -> State:
            for name in self.problem.updates:
                state = self.problem.place(state, name, self.problem.draw(name, state, self.rng))
            return state

        outcome = before_after(
            reference,
            lambda s: run_sweep(self.problem, sweep, s, self.rng),
            self.problem.state,
            functionals(self.problem, list(self.problem.updates)),
            self.alpha,
        )
        right = outcome.p_value >= self.alpha
        told = f"it {reason}"
        if not right:
            told = f"the sweep changes the distribution of {outcome.where}; replay: {told}"
        return BlockCheck("sweep", 2, right, told, p_value=outcome.p_value)


def _told(found: Composition) -> str:
    """Why a sweep could not be replayed, and where the search stuck."""
    reason = "is no composition of these updates that replay can see"
    if not found.order:
        return reason
    if len(found.unmatched) == 1:
        return f"{reason}: it draws {found.unmatched[0]!r} in another way than its update does"
    return f"{reason}: it is one up to {found.order[-1]!r}, then draws in another way"


def _excess(found: Comparison) -> float:
    return found.worst / max(found.limit, 1e-300)


def _frozen(data: Any) -> dict[str, bytes]:
    """What the data hold, attribute by attribute where they have some."""
    parts = vars(data) if hasattr(data, "__dict__") else {"": data}
    out = {}
    for key, part in parts.items():
        with suppress(Exception):  # what cannot be pickled cannot be compared
            out[key] = pickle.dumps(part)
    return out

"""Check the updates of a Gibbs sampler against the log joint density they are meant for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from ranef.common.arguments import function, generator, names_list, share
from ranef.common.progress import track
from ranef.errors import DataError, nearest
from ranef.gibbs_check.block import check_block
from ranef.gibbs_check.report import GibbsReport
from ranef.gibbs_check.sampler import Context, GibbsSampler, UpdateError, make_sampler
from ranef.gibbs_check.states import asymmetric_states
from ranef.gibbs_check.sweep import check_sweep

if TYPE_CHECKING:
    from ranef.common.array_types import Seed

__all__ = ["check_gibbs"]

# Asymmetric states besides the user's own. One finds an error with certainty; three make it sure
# that each term of a conditional is away from zero somewhere.
_STATES = 3


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

    >>> import numpy as np
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
    sampler = make_sampler(updates, log_joint, state, data, source)
    invariant = names_list("invariant", invariant, "('mu',)")
    for name in invariant:
        if name not in sampler.updates:
            raise DataError(f"invariant names {name!r}, no update. {nearest(name, updates)}")
    try:
        states = [sampler.state, *asymmetric_states(sampler, _STATES, source)]
    except UpdateError as error:
        raise DataError(f"An update {error} near the state; start elsewhere.") from error
    part = alpha / (len(sampler.updates) + (sweep is not None))
    context = Context(sampler, states, source, part, frozenset(invariant))
    blocks = [
        check_block(context, name)
        for name in track(list(sampler.updates), "Checking", show=progress)
    ]
    if sweep is not None:
        blocks.append(check_sweep(context, sweep, blocks))
    return GibbsReport(tuple(blocks), _not_checked(sampler, sweep is not None), alpha)


def _not_checked(sampler: GibbsSampler, with_sweep: bool) -> tuple[str, ...]:
    gaps = [
        "how fast the chain mixes and whether it reaches everything",
        "an error that log_joint and an update share",
    ]
    fixed = [repr(name) for name in sampler.state if name not in sampler.updates]
    if fixed:
        gaps.append(f"{', '.join(fixed)} (no update)")
    if not with_sweep:
        gaps.append("stale values in the sweep (none was given)")
    return tuple(gaps)

"""What is wrong with an element-by-element update, in the user's terms."""

from __future__ import annotations

from ranef.common.array_types import Array
from ranef.gibbs_check.recorder import Recorder
from ranef.gibbs_check.replay.elementwise import Scan, label, normal_element
from ranef.gibbs_check.replay.update_map import Comparison
from ranef.gibbs_check.sampler import GibbsSampler, State

__all__ = ["tell_elements", "which_elements"]

_SAME = 1e-6


def tell_elements(
    sampler: GibbsSampler,
    name: str,
    state: State,
    scan: Scan,
    worst: list[Comparison],
    recorder: Recorder,
) -> str:
    """Name the elements that differ from their full conditional, and how the first one does.

    Parameters
    ----------
    sampler, name, state
        What is checked, and a state to say it at.
    scan
        Order of the elements.
    worst
        The largest difference of each element, over states.
    recorder
        Generator to record with.
    """
    told = which_elements(sampler, name, scan.order, worst)
    bad = [j for j in map(int, scan.order) if worst[j].worst > worst[j].limit]
    late = next((j for j in bad if j in scan.stale), None)
    if late is not None:
        old = ", ".join(label(sampler, name, i) for i in scan.stale[late][:3])
        old += ", ..." if len(scan.stale[late]) > 3 else ""
        return (
            f"{told}; for {label(sampler, name, late)} it uses the old value of {old}, where "
            "the new one is due"
        )
    how = _normal(normal_element(sampler, name, state, scan, bad[0], recorder))
    return f"{told}; {how.format(label(sampler, name, bad[0]))}" if how else told


def which_elements(sampler: GibbsSampler, name: str, order: Array, worst: list[Comparison]) -> str:
    """Name the elements that differ from their full conditional, in the order of the scan."""
    bad = [j for j in map(int, order) if worst[j].worst > worst[j].limit]
    shown = ", ".join(label(sampler, name, j) for j in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    each = "their full conditionals" if len(bad) > 1 else "its full conditional"
    return f"draws {shown}{more} from something else than {each}"


def _normal(parameters: tuple[Array, Array] | None) -> str:
    """Compare mean and SD of a normal element with those that log_joint implies."""
    if parameters is None:
        return ""
    (mean, sd), (due_mean, due_sd) = parameters
    if abs(sd - due_sd**2) < _SAME * sd and abs(sd - due_sd) > _SAME * sd:
        return "for {} it passes the variance where the standard deviation belongs"
    if abs(sd - due_sd) > _SAME * due_sd:
        return f"for {{}} it uses the SD {sd:.6g}; log_joint implies {due_sd:.6g} at the same state"
    if abs(mean - due_mean) > _SAME * (abs(due_mean) + due_sd):
        return (
            f"for {{}} it uses the mean {mean:.6g}; log_joint implies {due_mean:.6g} at the same "
            "state"
        )
    return ""

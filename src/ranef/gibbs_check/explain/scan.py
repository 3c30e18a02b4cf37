"""What is wrong with an element-by-element update, in the user's terms."""

from __future__ import annotations

from ranef.common.array_types import Array
from ranef.gibbs_check.replay.densities import Comparison
from ranef.gibbs_check.replay.elementwise import Scan, label, normal_element

__all__ = ["explain_elements"]

_SAME = 1e-6


def explain_elements(scan: Scan, worst: list[Comparison]) -> str:
    """Name the elements that differ from their full conditional, and how the first one does.

    Parameters
    ----------
    scan
        Order of the elements.
    worst
        The largest difference of each element, over states.

    Returns
    -------
    str
    """
    sampler, name = scan.update.sampler, scan.update.name
    bad = [j for j in map(int, scan.order) if worst[j].excess > 1.0]
    shown = ", ".join(label(sampler, name, j) for j in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    each = "their full conditionals" if len(bad) > 1 else "its full conditional"
    found = f"draws {shown}{more} from something else than {each}"
    late = next((j for j in bad if j in scan.stale), None)
    if late is not None:
        old = ", ".join(label(sampler, name, i) for i in scan.stale[late][:3])
        old += ", ..." if len(scan.stale[late]) > 3 else ""
        return (
            f"{found}; for {label(sampler, name, late)} it uses the old value of {old}, where "
            "the new one is due"
        )
    how = _normal(normal_element(scan, bad[0]))
    return f"{found}; {how.format(label(sampler, name, bad[0]))}" if how else found


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

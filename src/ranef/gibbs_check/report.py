"""What a check of Gibbs updates found: verdict by block, in text, as a table and as a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.array_types import Array
from ranef.common.figures import panels, with_legend

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["BlockCheck", "GibbsReport"]

_LEVELS = {0: "0 replay", 1: "1 PIT", 2: "2 one step"}


def _nothing() -> Array:
    return np.empty(0)


@dataclass(frozen=True)
class BlockCheck:
    """What was found about one update, or about the sweep.

    Attributes
    ----------
    name
        The block, or `sweep`.
    level
        0: replay of its random numbers; 1: probability integral transforms of many draws; 2: one
        step or sweep, before against after; None: not checked.
    passed
        Verdict; None where it was not checked.
    diagnosis
        What is wrong, or why replay was not possible; empty if neither.
    difference
        Level 0: largest difference between log q and the log joint density, in nats.
    limit
        Level 0: the difference that rounding explains.
    p_value
        Levels 1 and 2: smallest p-value, corrected for the number of tests within the block.
    seconds
        Time taken.
    log_q, log_p
        Level 0: the log densities that were compared, relative to one draw at each state.
    """

    name: str
    level: int | None
    passed: bool | None
    diagnosis: str = ""
    difference: float | None = None
    limit: float | None = None
    p_value: float | None = None
    seconds: float = 0.0
    log_q: Array = field(default_factory=_nothing)
    log_p: Array = field(default_factory=_nothing)

    @property
    def evidence(self) -> str:
        """The number behind the verdict, in words."""
        if self.level == 0 and self.difference is not None:
            if np.isinf(self.difference):
                return "log joint not finite at a draw"
            return f"log q and log joint differ by {self.difference:.1e}"
        if self.p_value is not None:
            return f"p = {self.p_value:.2g}"
        return ""


@dataclass(frozen=True)
class GibbsReport:
    """Outcome of `check_gibbs`.

    Attributes
    ----------
    blocks
        One entry for each update, in order, then the sweep if one was given.
    not_checked
        What this report says nothing about.
    alpha
        Probability that a right sampler fails levels 1 and 2 anywhere; level 0 has no such risk.
    """

    blocks: tuple[BlockCheck, ...]
    not_checked: tuple[str, ...]
    alpha: float

    @property
    def passed(self) -> bool:
        """True if every update, and the sweep, was checked and passed."""
        return all(b.passed is True for b in self.blocks)

    @property
    def failures(self) -> dict[str, str]:
        """Diagnosis of each block that failed."""
        return {b.name: b.diagnosis for b in self.blocks if b.passed is False}

    def raise_if_failed(self) -> None:
        """For tests: raise with the whole report unless everything passed.

        Raises
        ------
        AssertionError
            If a block failed or could not be checked.
        """
        if not self.passed:
            raise AssertionError(f"\n{self}")

    def table(self) -> pd.DataFrame:
        """One row for each block.

        Returns
        -------
        pandas.DataFrame
            Columns level, passed, difference (nats), p_value, ms, diagnosis.
        """
        import pandas as pd

        rows = [
            {
                "block": b.name,
                "level": b.level,
                "passed": b.passed,
                "difference": b.difference,
                "p_value": b.p_value,
                "ms": 1000 * b.seconds,
                "diagnosis": b.diagnosis,
            }
            for b in self.blocks
        ]
        return pd.DataFrame(rows).set_index("block").astype({"level": "Int64", "passed": "boolean"})

    def plot(self) -> Figure:
        """Log density by the update against the log joint, both relative to one draw at each state.

        Returns
        -------
        matplotlib.figure.Figure
            One panel for each block that was replayed; a right update lies on the line.

        Raises
        ------
        ValueError
            If no block was replayed.
        """
        shown = [b for b in self.blocks if b.log_q.size]
        if not shown:
            raise ValueError("No block could be replayed, so there is nothing to draw.")
        figure, axes = panels(len(shown), size=(3.2, 3.2), most=4)
        for axis, block in zip(axes, shown, strict=True):
            finite = np.isfinite(block.log_p)
            x, y = block.log_q[finite], block.log_p[finite]
            ends = [min(x.min(), y.min()), max(x.max(), y.max())] if len(x) else [-1.0, 1.0]
            line: dict[str, Any] = {"color": "0.4", "linewidth": 0.8, "zorder": 0}
            axis.plot(ends, ends, label="where a right update puts all draws", **line)
            color, verdict = ("C0", "right") if block.passed else ("tab:red", "wrong")
            axis.plot(x, y, "o", markersize=4, color=color, label=f"draw of a {verdict} update")
            axis.set_title(f"{block.name}: {'ok' if block.passed else 'FAIL'}")
            axis.set_xlabel("Δ log q of the update")
            axis.set_ylabel("Δ log joint")
        return with_legend(figure)

    def __str__(self) -> str:
        """Verdict, one line for each block, diagnoses, and what was not checked."""
        bad = [b for b in self.blocks if b.passed is False]
        open_ = [b for b in self.blocks if b.passed is None]
        if bad:
            verdict = f"FAILED: {', '.join(b.name for b in bad)}"
        elif open_:
            verdict = f"NOT ALL CHECKED: {', '.join(b.name for b in open_)}"
        else:
            verdict = "passed"
        lines = [f"Gibbs check {verdict}", ""]
        marks = {True: "ok", False: "FAIL", None: "?"}
        rows = [("block", "level", "", "evidence")] + [
            (
                b.name,
                _LEVELS.get(b.level, "-") if b.level is not None else "-",
                marks[b.passed],
                b.evidence,
            )
            for b in self.blocks
        ]
        widths = [max(len(r[i]) for r in rows) for i in range(3)]
        lines += [
            "  ".join([*(c.ljust(w) for c, w in zip(r[:3], widths, strict=True)), r[3]]).rstrip()
            for r in rows
        ]
        notes = [b.diagnosis for b in bad] + [
            f"{b.name}: {b.diagnosis}" for b in self.blocks if b.passed is not False and b.diagnosis
        ]
        if notes:
            lines += ["", *notes]
        return "\n".join([*lines, "", f"Not checked: {'; '.join(self.not_checked)}."])

    __repr__ = __str__

"""The state of a calibration: ranks of the simulations done so far, in memory and on disk."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import file_path
from ranef.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranef.calibration.workers import Outcome
    from ranef.common.array_types import Array, IntArray

__all__ = ["State", "load_state", "save_state"]


@dataclass(frozen=True)
class State:
    """Simulations done and to be done.

    Attributes
    ----------
    settings
        What was simulated and fitted, and with which seed; JSON.
    names
        The test quantities; empty before the first simulation.
    done
        Which simulations are done, shape (S,).
    ranks, pit
        As in `Outcome`, shape (S, Q); rows not done hold zeros.
    """

    settings: dict[str, Any]
    names: tuple[str, ...]
    done: NDArray[np.bool_]
    ranks: IntArray
    pit: Array

    @classmethod
    def empty(cls, settings: dict[str, Any]) -> State:
        """No simulations yet."""
        nothing = np.zeros((0, 0))
        return cls(settings, (), np.zeros(0, dtype=bool), nothing.astype(np.intp), nothing)

    def resized(self, simulations: int) -> State:
        """Make room for at least so many simulations."""
        more = max(0, simulations - len(self.done))
        return replace(
            self,
            done=np.append(self.done, np.zeros(more, dtype=bool)),
            ranks=np.pad(self.ranks, ((0, more), (0, 0))),
            pit=np.pad(self.pit, ((0, more), (0, 0))),
        )

    def with_outcomes(self, outcomes: list[Outcome]) -> State:
        """Add simulations.

        Raises
        ------
        DataError
            If they do not all hold the same quantities.
        """
        if not outcomes:
            return self
        names = self.names or outcomes[0].names
        # Before the first outcome there is no column.
        wider = ((0, 0), (0, len(names) - len(self.names)))
        done, ranks, pit = self.done.copy(), np.pad(self.ranks, wider), np.pad(self.pit, wider)
        for outcome in outcomes:
            if outcome.names != names:
                odd = sorted(set(outcome.names) ^ set(names)) or list(outcome.names)
                raise DataError(
                    f"Simulation {outcome.index} gives other quantities than the first "
                    f"({', '.join(odd[:3])}); every fit has to give the same, in the same order."
                )
            done[outcome.index] = True
            ranks[outcome.index], pit[outcome.index] = outcome.ranks, outcome.pit
        return replace(self, names=names, done=done, ranks=ranks, pit=pit)


def save_state(state: State, path: str | os.PathLike[str]) -> None:
    """Write a state to one file, whole or not at all.

    Parameters
    ----------
    state
        What to write.
    path
        The file; an existing one is replaced once the new one is complete.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    target = file_path("path", path, "calibration.npz")
    header = json.dumps({"settings": state.settings, "names": state.names})
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".ranef-")
    except OSError as error:
        raise DataError(f"'{target}' cannot be written: {error.strerror}.") from None
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, header=header, done=state.done, ranks=state.ranks, pit=state.pit)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except OSError as error:
        raise DataError(f"'{target}' cannot be written: {error.strerror}.") from None
    finally:
        Path(name).unlink(missing_ok=True)


def load_state(path: str | os.PathLike[str]) -> State:
    """Read what `save_state` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    State

    Raises
    ------
    DataError
        If the file is missing or holds no calibration.
    """
    if not file_path("path", path, "calibration.npz").is_file():
        what = "is a folder" if Path(path).is_dir() else "does not exist"
        raise DataError(f"File '{path}' {what}. Check the path.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(str(stored["header"]))
            return State(
                header["settings"],
                tuple(header["names"]),
                stored["done"],
                stored["ranks"].astype(np.intp),
                stored["pit"],
            )
    except (OSError, ValueError, KeyError, EOFError):
        raise DataError(
            f"File '{path}' holds no calibration; one that `calibrate(file=...)` or "
            "`Calibration.save` wrote is expected."
        ) from None

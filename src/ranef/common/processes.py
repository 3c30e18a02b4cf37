"""Work shared among processes that are started afresh."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, TypeVar

from ranef.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

__all__ = ["in_processes"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def in_processes(
    work: Callable[[_Part], _Result], parts: Sequence[_Part], processes: int
) -> Generator[tuple[_Part, _Result], None, None]:
    """Do the parts of a work, here if one process is asked for, else in others.

    Parameters
    ----------
    work
        What to do with a part; it can be pickled, as the parts and results can.
    parts
        Of the work.
    processes
        How many to run side by side.

    Yields
    ------
    part, result
        In the order in which they are done.

    Raises
    ------
    DataError
        If the processes cannot start, or end too early.
    """
    if processes == 1:
        for part in parts:
            yield part, work(part)
        return
    # A copy of this process would share the state of its threads.
    pool = ProcessPoolExecutor(min(processes, len(parts)), mp_context=get_context("spawn"))
    try:
        futures = {pool.submit(work, part): part for part in parts}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise DataError(
            "The other processes ended before their work was done. In a script, put the call below "
            "`if __name__ == '__main__':`; with functions defined in a notebook use processes=1; "
            "else they may have run out of memory: take fewer processes."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)

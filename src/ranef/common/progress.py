"""A progress bar for whatever turns out to take longer than a second, and silence otherwise."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["status", "track"]

_T = TypeVar("_T")


def track(items: Sequence[_T], description: str, *, show: bool = True) -> Iterator[_T]:
    """Yield the items, showing a bar on standard error once a second has passed.

    Parameters
    ----------
    items
        What to go through.
    description
        Shown beside the bar.
    show
        False for silence. Nothing is shown either where standard error is no terminal.

    Yields
    ------
    item
        Each of items, in order.

    Examples
    --------
    >>> list(track(range(3), "counting"))
    [0, 1, 2]
    """
    if not (show and sys.stderr.isatty()):
        yield from items
        return
    started = shown = time.perf_counter()
    bar = None
    try:
        for i, item in enumerate(items):
            yield item
            now = time.perf_counter()
            if bar is None and now - started > 1.0:
                from rich.console import Console
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True), transient=True)
                task = bar.add_task(description, total=len(items))
                bar.start()
            if bar is not None and now - shown > 0.1:
                bar.update(task, completed=i + 1)
                shown = now
    finally:
        if bar is not None:
            bar.stop()


def status(description: str) -> AbstractContextManager[Any]:
    """Show a spinner on a terminal's standard error for as long as the context lasts.

    Parameters
    ----------
    description
        What is going on, where no count of steps is known.

    Returns
    -------
    context manager
        One that does nothing where standard error is no terminal.
    """
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(description)

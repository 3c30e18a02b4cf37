"""Linear algebra on one thread: sums in the same order on every machine."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]


def one_thread() -> AbstractContextManager[object]:
    """Context in which BLAS and LAPACK use a single thread.

    With several the order of their sums, and so the last digits of draws, would depend on the
    machine; and on matrices as small as most here, threads wait for each other for longer than
    they work, the more so on a busy machine.

    Examples
    --------
    >>> with one_thread():
    ...     pass
    """
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    """The libraries behind NumPy and SciPy; to look for them takes some milliseconds."""
    import numpy as np  # noqa: F401 - each brings a library of its own
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

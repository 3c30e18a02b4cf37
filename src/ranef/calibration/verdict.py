"""What the results of several tests at one error rate have in common."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from ranef.calibration.exact_tests import holm
from ranef.errors import CalibrationError

if TYPE_CHECKING:
    from ranef.common.array_types import Array

__all__ = ["Judged"]


class Judged:
    """A result that passes unless a p-value, adjusted for their number, is too small.

    Classes that inherit have `p_values`, shape (Q,), an `error_rate` and a `verdict`.
    """

    # Attribute of the error that holds the result.
    role: ClassVar[str]
    error_rate: float

    if TYPE_CHECKING:

        @property
        def p_values(self) -> Array:
            """P-value of each quantity, shape (Q,)."""
            ...

        @property
        def verdict(self) -> str:
            """The result in one sentence."""
            ...

    @cached_property
    def adjusted(self) -> Array:
        """The p-values adjusted for their number by Holm's method, shape (Q,)."""
        return holm(self.p_values)

    @property
    def passed(self) -> bool:
        """Whether no adjusted p-value is as small as the error rate."""
        return bool(self.adjusted.min() > self.error_rate)

    def raise_if_failed(self) -> None:
        """Raise where something is wrong, for use in tests.

        Raises
        ------
        CalibrationError
            With the verdict.
        """
        if not self.passed:
            raise CalibrationError(self.verdict, **{self.role: self})

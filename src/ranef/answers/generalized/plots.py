"""Pictures of fits with other families."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranef.answers.plots import FitPlots
from ranef.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GeneralizedPlots"]


class GeneralizedPlots(FitPlots):
    """The plots of a fit with another family: `.trace()`, `.density()`, `.effects()`."""

    def shrinkage(self, name: str | None = None) -> Figure:
        """Refuse: a group without events has no raw estimate to be drawn from."""
        del name
        raise DataError(
            "shrinkage() compares with least squares within groups, which only family='gaussian' "
            "has; see plot.effects()."
        )

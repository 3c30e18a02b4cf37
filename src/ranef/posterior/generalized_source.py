"""A model of another family and its rows, built again from a saved fit."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ranef.families.table import find_family
from ranef.mixed_model.generalized import build_generalized
from ranef.posterior.source import Source, stored_priors, stored_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from ranef.mixed_model.generalized import GeneralizedModel

__all__ = ["read_generalized"]


def read_generalized(attrs: Mapping[Any, Any], rows: xr.Dataset | None) -> Source[GeneralizedModel]:
    """Build the model again from a saved fit.

    Parameters
    ----------
    attrs
        Attributes of the fit's tree.
    rows
        What `ranef.posterior.source.rows_of` wrote.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        If the file was written without its rows, or they cannot be read.
    """
    frame, stated = stored_rows(rows), stored_priors(attrs, "stated")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there was to say was said when it was fitted
        return Source(
            *build_generalized(
                str(attrs["formula"]),
                frame,
                find_family(attrs["family"], attrs["link"]),
                stated,
                trials=attrs.get("trials"),
                aliased="drop",
            )
        )

"""The rows behind a fit, kept so that a loaded fit can answer what a fresh one can."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from ranef.errors import DataError
from ranef.formula.grouping import group_codes
from ranef.formula.labels import level_name
from ranef.mixed_model.model import build_model
from ranef.priors import parse_prior

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import xarray as xr

    from ranef.formula.rows import Rows
    from ranef.mixed_model.model import ModelSpec

__all__ = ["GROUP", "Source", "read_source", "rows_of", "stored_priors", "stored_rows"]

# Group of the tree that holds the rows, by ArviZ's name for what is given.
GROUP = "constant_data"
# What goes wrong in files that something else has written to since.
_UNREADABLE = (KeyError, ValueError, TypeError, IndexError)


Model = TypeVar("Model")


@dataclass(frozen=True)
class Source(Generic[Model]):
    """A model, Gaussian or of another family, and the rows it was made from.

    Attributes
    ----------
    model
        Design and priors.
    rows
        The rows, evaluated.
    """

    model: Model
    rows: Rows


def rows_of(rows: Rows) -> xr.Dataset:
    """Write the used columns of the complete rows as a dataset that NetCDF can hold.

    Parameters
    ----------
    rows
        From `ranef.formula.rows.evaluate`.

    Returns
    -------
    xarray.Dataset
        One variable per column, `c0`, `c1`, …, whose attribute `column` is its name (a table's
        names may hold what NetCDF forbids) and whose attributes `categories` and `kind` say what
        NetCDF has no type for; and `index`, where the table's is of whole numbers.
    """
    import xarray as xr

    variables: dict[str, Any] = {}
    frame = rows.frame
    if frame.index.dtype.kind in "iu" and frame.index.nlevels == 1:
        variables["index"] = ("__obs__", frame.index.to_numpy(), {})
    for k, name in enumerate(frame.columns):
        array, attributes = _written(frame[name])
        variables[f"c{k}"] = ("__obs__", array, {"column": str(name), **attributes})
    return xr.Dataset(variables)


def read_source(attrs: Mapping[Any, Any], rows: xr.Dataset | None) -> Source[ModelSpec]:
    """Build the model again from a saved fit.

    Parameters
    ----------
    attrs
        Attributes of the fit's tree: formula, priors, weights.
    rows
        What `rows_of` wrote.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        If the file was written without its rows, or they cannot be read.
    """
    frame, priors = stored_rows(rows), stored_priors(attrs, "priors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there was to say was said when it was fitted
        return Source(
            *build_model(
                str(attrs["formula"]),
                frame,
                priors,
                attrs.get("weights"),
                se=attrs.get("se"),
                aliased="drop",
            )
        )


def stored_rows(rows: xr.Dataset | None) -> pd.DataFrame:
    """Read the columns that `rows_of` wrote.

    Raises
    ------
    DataError
        If there are none, or they cannot be read.
    """
    import pandas as pd

    if rows is None:
        raise DataError(
            "This fit was saved without its rows, so only its draws and tables are at hand; fit "
            "again for predictions and comparisons."
        )
    try:
        columns = {
            variable.attrs["column"]: _restored(variable)
            for key, variable in rows.data_vars.items()
            if key != "index"
        }
        index = rows["index"].to_numpy() if "index" in rows else np.arange(rows.sizes["__obs__"])
        return pd.DataFrame(columns).set_axis(index)
    except _UNREADABLE as error:
        raise _told(error) from None


def stored_priors(attrs: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """Read priors by parameter from an attribute of a fit's tree.

    Raises
    ------
    DataError
        If they cannot be read.
    """
    try:
        return {key: parse_prior(text) for key, text in json.loads(attrs[name]).items()}
    except _UNREADABLE as error:
        raise _told(error) from None


def _told(error: Exception) -> DataError:
    return DataError(
        f"The rows stored with this fit cannot be read ({type(error).__name__}), so only its "
        "draws and tables are at hand; fit again for predictions and comparisons."
    )


def _written(values: pd.Series[Any]) -> tuple[Any, dict[str, str]]:
    """Write a column as an array that NetCDF can hold, and what makes it the same column again.

    Levels keep their values and their order: a fit that is loaded numbers its groups by them.
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        levels = [_plain_level(v) for v in values.cat.categories]
        return values.cat.codes.to_numpy(dtype=np.int64), {"categories": json.dumps(levels)}
    if values.dtype.kind in "iuf":
        return values.to_numpy(), {}
    if values.dtype.kind == "b":
        return values.to_numpy(dtype=np.int8), {"kind": "bool"}
    if values.dtype.kind == "M" and getattr(values.dtype, "tz", None) is None:
        return np.array([v.isoformat() for v in values], dtype=str), {"kind": "datetime"}
    if pd.api.types.is_string_dtype(values.dtype) and all(isinstance(v, str) for v in values):
        return np.asarray(values.astype(str), dtype=str), {}
    codes, names = group_codes(values)
    return np.asarray(codes, dtype=np.int64), {"categories": json.dumps(list(names))}


def _plain_level(value: Any) -> Any:
    """A category as JSON can hold it: numbers stay numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (bool, int, float, str)) else level_name(value)


def _restored(variable: xr.DataArray) -> pd.Series[Any]:
    """Make the column again that `_written` wrote."""
    import pandas as pd

    values = pd.Series(variable.to_numpy())
    if variable.dtype.kind not in "iuf":
        values = values.astype(str)
    if "categories" in variable.attrs:
        levels = json.loads(variable.attrs["categories"])
        return pd.Series(pd.Categorical.from_codes(values.to_numpy(), levels))
    if variable.attrs.get("kind") == "bool":
        return values.astype(bool)
    if variable.attrs.get("kind") == "datetime":
        return pd.to_datetime(values, format="ISO8601")
    return values

"""The rows behind a fit, kept so that a loaded fit can answer what a fresh one can."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import DataError
from ranef.mixed_model.model import build_model
from ranef.priors import parse_prior

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from ranef.formula.rows import Rows
    from ranef.mixed_model.model import ModelSpec

__all__ = ["GROUP", "Source", "read_source", "rows_of"]

# Group of the tree that holds the rows, by ArviZ's name for what is given.
GROUP = "constant_data"


@dataclass(frozen=True)
class Source:
    """A model and the rows it was made from.

    Attributes
    ----------
    model
        Design and priors.
    rows
        The rows, evaluated.
    """

    model: ModelSpec
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
        names may hold what NetCDF forbids) and whose attribute `categories` keeps the order of a
        categorical's levels; and `index`, where the table's is of whole numbers.
    """
    import pandas as pd
    import xarray as xr

    variables: dict[str, Any] = {}
    frame = rows.frame
    if frame.index.dtype.kind in "iu" and frame.index.nlevels == 1:
        variables["index"] = ("__obs__", frame.index.to_numpy(), {})
    for k, name in enumerate(frame.columns):
        values = frame[name]
        attributes = {"column": str(name)}
        if isinstance(values.dtype, pd.CategoricalDtype):
            attributes["categories"] = json.dumps([str(c) for c in values.cat.categories])
            array = np.asarray(values.astype(str), dtype=str)
        elif values.dtype.kind in "iuf":
            array = values.to_numpy()
        elif values.dtype.kind == "b":
            attributes["kind"] = "bool"
            array = values.to_numpy(dtype=np.int8)
        else:
            array = np.asarray(values.astype(str), dtype=str)
        variables[f"c{k}"] = ("__obs__", array, attributes)
    return xr.Dataset(variables)


def read_source(attrs: Mapping[Any, Any], rows: xr.Dataset | None) -> Source:
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
        If the file was written without its rows.
    """
    import pandas as pd

    if rows is None:
        raise DataError(
            "This fit was saved without its rows, so only its draws and tables are at hand; fit "
            "again for predictions and comparisons."
        )
    columns = {}
    for key, variable in rows.data_vars.items():
        if key == "index":
            continue
        values = pd.Series(variable.to_numpy())
        if variable.dtype.kind not in "iuf":
            values = values.astype(str)
        if "categories" in variable.attrs:
            values = pd.Series(pd.Categorical(values, json.loads(variable.attrs["categories"])))
        if variable.attrs.get("kind") == "bool":
            values = values.astype(bool)
        columns[variable.attrs["column"]] = values
    priors = {name: parse_prior(text) for name, text in json.loads(attrs["priors"]).items()}
    index = rows["index"].to_numpy() if "index" in rows else np.arange(rows.sizes["__obs__"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there was to say was said when it was fitted
        return Source(
            *build_model(
                str(attrs["formula"]),
                pd.DataFrame(columns).set_axis(index),
                priors,
                attrs.get("weights"),
                se=attrs.get("se"),
                aliased="drop",
            )
        )

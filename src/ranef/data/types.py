"""One type for each kind of column: the many ways to store a number, a date or a category end here.

A computed column must not depend on how a number was stored: int8 squared overflows, text of a
float32 has other digits, a list of `Decimal` looks like labels.
"""

from __future__ import annotations

import datetime
import numbers
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["dictionary_levels", "holds_numbers", "infinite_values", "plain_types"]

_TRUTH = (bool, np.bool_)
_ENDS = (float("inf"), float("-inf"))


def plain_types(frame: pd.DataFrame) -> pd.DataFrame:
    """Bring columns without missing values to int64, float64, bool, datetime64, text or category.

    Parameters
    ----------
    frame
        Any columns that pandas can hold: small and nullable integers, Arrow types, objects.

    Returns
    -------
    pandas.DataFrame
        The same values. Integers stay integers, because they may be labels; intervals, such as
        `pandas.cut` gives, become the text that shows them.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"a": pd.array([1, 2], dtype="Int8"), "b": [Decimal("1.5"), 2]})
    >>> [str(t) for t in plain_types(frame).dtypes]
    ['int64', 'float64']
    """
    out = frame.copy(deep=False)
    for name in frame.columns:
        out[name] = _plain(frame[name])
    return out


def holds_numbers(values: pd.Series[Any]) -> bool:
    """Whether a column holds numbers or truth values, however stored; missing values may be there.

    Text that looks like numbers is text, and categories are categories.
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return False
    if values.dtype.kind in "fiub" or pd.api.types.is_numeric_dtype(values.dtype):
        return bool(values.dtype.kind != "c")
    if values.dtype != object or _is_text(values):
        return False
    kinds = {type(v) for v in values[values.notna()]}
    return bool(kinds) and all(issubclass(k, (numbers.Real, Decimal, *_TRUTH)) for k in kinds)


def infinite_values(values: pd.Series[Any]) -> NDArray[np.bool_]:
    """Mark the infinite numbers of a column, among missing values and however stored."""
    if values.dtype.kind == "f":
        return np.asarray(np.isinf(values.to_numpy(dtype=float, na_value=np.nan)))
    if values.dtype != object or not holds_numbers(values):
        return np.zeros(len(values), dtype=bool)
    return np.array([isinstance(v, (float, np.floating, Decimal)) and v in _ENDS for v in values])


def dictionary_levels(column: Any) -> pd.Categorical:
    """Turn a chunked Arrow array of dictionaries into categories, in the dictionary's order."""
    import pandas as pd

    chunks = column.unify_dictionaries().chunks
    known = chunks[0].dictionary.to_pylist() if chunks else []
    levels = list(dict.fromkeys(level for level in known if level is not None))
    return pd.Categorical(column.to_pylist(), levels)


def _is_text(values: pd.Series[Any]) -> bool:
    """Whether objects are text and nothing else, at the speed of C: most columns of objects are."""
    import pandas as pd

    return bool(pd.api.types.infer_dtype(values, skipna=True) == "string")


def _plain(values: pd.Series[Any]) -> pd.Series[Any]:
    """Bring one column to its plain type."""
    import pandas as pd

    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _plain_categories(values)
    if dtype.kind == "b":
        return values.astype(bool)
    if dtype.kind == "i" or (dtype.kind == "u" and not (values > np.iinfo(np.int64).max).any()):
        return values.astype(np.int64)
    if dtype.kind == "u":
        return values.astype(np.uint64)
    if dtype.kind == "f" or (dtype.kind != "c" and pd.api.types.is_numeric_dtype(dtype)):
        return values.astype(np.float64)
    if str(dtype).startswith("dictionary"):
        levels = dictionary_levels(values.array.__arrow_array__())
        return pd.Series(levels, index=values.index, name=values.name)
    if isinstance(dtype, pd.ArrowDtype) and not pd.api.types.is_string_dtype(dtype):
        values = values.astype(object)
    return _plain_objects(values) if values.dtype == object else values


def _plain_categories(values: pd.Series[Any]) -> pd.Series[Any]:
    """Write intervals as text: they compare with numbers, not with the levels of the fit."""
    categories = values.cat.categories
    if categories.dtype.kind == "O" and not all(isinstance(c, str) for c in categories):
        text = [c if isinstance(c, numbers.Number) else str(c) for c in categories]
        return values.cat.rename_categories(text)
    return values


def _plain_objects(values: pd.Series[Any]) -> pd.Series[Any]:
    """Read what the objects in a column are, if all are of one kind."""
    import pandas as pd

    if _is_text(values):
        return values
    kinds = {type(v) for v in values}
    if not kinds:
        return values
    if all(issubclass(k, _TRUTH) for k in kinds):
        return values.astype(bool)
    if any(issubclass(k, _TRUTH) for k in kinds):
        return values
    if all(issubclass(k, numbers.Integral) for k in kinds):
        try:
            return values.astype(np.int64)
        except OverflowError:  # labels of twenty digits: as floats several would be one
            return values
    if all(issubclass(k, (numbers.Real, Decimal)) for k in kinds):
        return values.astype(np.float64)
    if all(issubclass(k, (datetime.datetime, np.datetime64)) for k in kinds):
        return pd.Series(pd.DatetimeIndex(values), index=values.index, name=values.name)
    if all(issubclass(k, (datetime.timedelta, np.timedelta64)) for k in kinds):
        return pd.Series(pd.TimedeltaIndex(values), index=values.index, name=values.name)
    return values

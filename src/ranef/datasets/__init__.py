"""Small classic data sets that ship with the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from ranef.common.arguments import brief, is_name
from ranef.data.tables import read_table
from ranef.errors import DataError, nearest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SOURCES", "load"]

SOURCES = {
    "Dyestuff": (
        "Yield of dyestuff (grams of standard colour) of five preparations from each of six "
        "batches of an intermediate product. Davies and Goldsmith (1972), Statistical Methods in "
        "Research and Production, 4th ed., section 6.4."
    ),
    "cbpp": (
        "New cases of contagious bovine pleuropneumonia and animals at risk, in fifteen herds of "
        "zebu over up to four periods. Lesnoff et al. (2004), Preventive Veterinary Medicine 63, "
        "139-152."
    ),
    "epil": (
        "Seizures of 59 epileptics in four periods of two weeks, under progabide or placebo; base "
        "is their number in the eight weeks before. Thall and Vail (1990), Biometrics 46, 657-671."
    ),
    "gauge_aiag": (
        "Gauge R&R study: ten parts measured three times by each of three operators, in units "
        "about the nominal value. Automotive Industry Action Group, Measurement Systems Analysis "
        "Reference Manual, chapter III."
    ),
    "sleepstudy": (
        "Average reaction time (ms) per day of 18 subjects under sleep restriction. Belenky et "
        "al. (2003), Journal of Sleep Research 12, 1-12."
    ),
}


def load(name: str) -> pd.DataFrame:
    """Load a data set.

    Parameters
    ----------
    name
        A key of `SOURCES`, which tells what each holds and where it is from.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    DataError
        If there is no such data set.

    Examples
    --------
    >>> load("Dyestuff").shape
    (30, 2)
    """
    if not is_name(name, SOURCES):
        raise DataError(f"There is no data set {brief(name)}. {nearest(name, SOURCES)}")
    with as_file(files(__name__) / f"{name}.csv") as path:
        return read_table(path)

"""Saved fits back from their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranef.fitting.generalized import GeneralizedFit
from ranef.fitting.result import Fit
from ranef.posterior.source import GROUP
from ranef.posterior.tree import load_tree

if TYPE_CHECKING:
    import os

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Parameters
    ----------
    path
        The NetCDF file.

    Returns
    -------
    Fit

    Raises
    ------
    DataError
        If the file is missing or holds no fit.
    """
    tree = load_tree(path)
    rows = tree[GROUP].to_dataset() if GROUP in tree.children else None
    kind = GeneralizedFit if "family" in tree.attrs else Fit
    return kind(tree.filter(lambda node: node.name != GROUP), rows)

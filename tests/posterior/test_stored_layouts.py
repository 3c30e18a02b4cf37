"""A file of another layout is refused in one line that says which, never by another library."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ranef as rf
from ranef.errors import DataError
from ranef.posterior.tree import LAYOUT


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A saved fit of categories, as the tree that its file holds."""
    rng = np.random.default_rng(0)
    f = pd.Categorical(np.resize(["a", "b"], 24))
    data = pd.DataFrame({"y": rng.normal(size=24), "f": f, "g": np.arange(24) // 4})
    path = tmp_path_factory.mktemp("fit") / "fit.nc"
    rf.fit("y ~ f + (1|g)", data, draws=1000, seed=1).save(path)
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        return tree.load()


def category(tree):
    """Name of the stored column of categories."""
    (name,) = [k for k, v in tree["constant_data"].data_vars.items() if "categories" in v.attrs]
    return name


def replaced(tree, values):
    """The tree with other values of the stored column of categories."""
    rows, name = tree["constant_data"].to_dataset(), category(tree)
    rows = rows.assign({name: ("__obs__", values, rows[name].attrs)})
    return tree.assign({"constant_data": xr.DataTree(rows)})


def message(tree, path, ask=lambda fit: fit):
    """What loading a tree from a file says, and then asking."""
    tree.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(DataError) as caught:
        ask(rf.load(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_fits_write_is_read(stored, tmp_path):
    assert stored.attrs["ranef_layout"] == LAYOUT
    stored.to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    assert rf.load(tmp_path / "fit.nc").predict().table().shape[0] == 24


def test_categories_stored_as_text_are_the_layout_before(stored, tmp_path):
    tree = stored.copy(deep=True)
    del tree.attrs["ranef_layout"]
    column = tree["constant_data"][category(tree)]
    text = np.array(json.loads(column.attrs["categories"]))[column.to_numpy()]
    said = message(replaced(tree, text), tmp_path / "old.nc")
    assert f"was written by ranef {rf.__version__} in layout 1, " in said
    assert f"reads layout {LAYOUT}; load it with the ranef that wrote it, or fit again" in said


def test_layouts_to_come_are_told_with_their_version(stored, tmp_path):
    tree = stored.copy()
    tree.attrs |= {"ranef_layout": LAYOUT + 1, "ranef_version": "9.1"}
    assert f"by ranef 9.1 in layout {LAYOUT + 1}, " in message(tree, tmp_path / "new.nc")


@pytest.mark.parametrize("group", ["posterior", "sample_stats", "effects", "observed_data"])
def test_lost_groups_are_named(stored, group, tmp_path):
    tree = stored.filter(lambda node: node.name != group)
    assert f"lacks '{group}' of a fit" in message(tree, tmp_path / "lost.nc")


def test_lost_attributes_are_named(stored, tmp_path):
    tree = stored.copy()
    del tree.attrs["priors"], tree.attrs["formula"]
    assert "lacks 'formula', 'priors' of a fit" in message(tree, tmp_path / "lost.nc")


@pytest.mark.parametrize("kind", ["no name", "text for codes", "codes beyond", "no JSON"])
def test_rows_that_cannot_be_read_are_told_when_they_are_needed(stored, kind, tmp_path):
    tree = stored.copy(deep=True)
    if kind == "no name":
        del tree["constant_data"][category(tree)].attrs["column"]
    elif kind == "text for codes":
        tree = replaced(tree, np.full(24, "a"))
    elif kind == "codes beyond":
        tree = replaced(tree, np.full(24, 7))
    else:
        tree.attrs["priors"] = "{"
    said = message(tree, tmp_path / "rows.nc", lambda fit: fit.predict())
    assert said.startswith("The rows stored with this fit cannot be read")

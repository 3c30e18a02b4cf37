"""Draws to an ArviZ DataTree with Bambi's variable names, and to NetCDF and back."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import file_path
from ranef.common.stored_names import stored_name
from ranef.errors import DataError
from ranef.mixed_model.parameters import correlation_label
from ranef.version import __version__

if TYPE_CHECKING:
    import xarray as xr

    from ranef.common.array_types import Array
    from ranef.mixed_model.generalized import GeneralizedModel
    from ranef.mixed_model.model import ModelSpec
    from ranef.samplers.sample import PosteriorSample

__all__ = ["LAYOUT", "UNCONSTRAINED", "load_tree", "save_tree", "to_tree"]

# ArviZ's name for a group of draws on the whole real line.
UNCONSTRAINED = "unconstrained_posterior"
# How fits lie in files, as one number: it goes up when a file of before would be read wrong or not
# at all. Files without it held the levels of categories as text.
LAYOUT = 2
# What a file must hold for a fit to answer anything.
_GROUPS = ("posterior", "sample_stats", "observed_data", "effects")
_ATTRIBUTES = ("formula", "method", "priors", "effects", "names")


def to_tree(
    model: ModelSpec | GeneralizedModel,
    sample: PosteriorSample,
    *,
    response: Array,
    attributes: dict[str, Any],
) -> xr.DataTree:
    """Label the draws.

    Parameters
    ----------
    model
        Names and levels.
    sample
        What the sampler gave.
    response
        The observed response, shape (N,).
    attributes
        What to record on the root: texts, numbers, and mappings and tuples (kept as JSON).

    Returns
    -------
    xarray.DataTree
        Groups `posterior` (`Intercept`, coefficients by term, `sigma`, `1|g_sigma`, `x|g_corr`, and
        `1|g` where effects were drawn; dimensions chain, draw, and `f_dim` or `g__factor_dim` for
        levels; a slash in a name is stored as U+2215), `sample_stats` (`lp`; for exact draws also
        `accepted` and `log_weight`), `unconstrained_posterior` (`theta`, the vectors of
        `ranef.mixed_model.parameters.ParameterVector`), `effects` (exact mean and sd per level) and
        `observed_data`.
    """
    import xarray as xr

    names: dict[str, str] = {}

    def stored(written: str) -> str:
        name = stored_name(written)
        if name != written:
            names[name] = written
        return name

    posterior: dict[str, Array] = {}
    dims: dict[str, list[str]] = {}
    coords: dict[str, Any] = {}
    for term in model.spec.fixed.terms:
        name = stored(term.name)
        if term.levels:
            posterior[name] = sample.beta[:, :, list(term.columns)]
            dims[name] = [f"{name}_dim"]
            coords[f"{name}_dim"] = list(term.levels)
        else:
            posterior[name] = sample.beta[:, :, term.columns[0]]
    effects: dict[str, str] = {}
    moments: dict[str, Array] = {}
    for group in model.parameters.terms:
        factor = model.spec.factors[group.factor].name
        level_dim = stored(f"{factor}__factor_dim")
        # Arrays, not lists: from_dict copies a list level by level.
        coords[level_dim] = np.array(model.spec.factors[group.factor].levels)
        for name in group.names:
            posterior[stored(f"{name}_sigma")] = sample.scales[name]
            effects[stored(name)] = factor
            dims[stored(name)] = [level_dim]
            moments[stored(name)] = np.stack(sample.moments[name])
        if group.correlations:
            name, values = stored(correlation_label(group.label)), sample.correlations[group.label]
            posterior[name] = values if group.correlations > 1 else values[:, :, 0]
            if group.correlations > 1:
                dims[name] = [f"{name}_dim"]
                coords[f"{name}_dim"] = group.pairs
    for j, own in enumerate(model.parameters.family.dispersions, model.parameters.ratios):
        posterior[own] = np.exp(sample.theta[..., j])
    posterior |= {stored(name): values for name, values in sample.effects.items()}
    stats: dict[str, Array] = {"lp": sample.log_density}
    if sample.accepted is not None and sample.log_weight is not None:
        stats["accepted"], stats["log_weight"] = sample.accepted, sample.log_weight
    name = stored(model.spec.formula.response_name)
    observed = {name: response}
    coords["__obs__"] = np.arange(len(response))
    tree = xr.DataTree.from_dict(
        {
            "posterior": _dataset(posterior, dims, coords, ("chain", "draw")),
            "sample_stats": _dataset(stats, {}, coords, ("chain", "draw")),
            UNCONSTRAINED: _dataset(
                {"theta": sample.theta, **({} if sample.kept is None else {"z": sample.kept})},
                {"theta": ["theta_dim"], "z": ["z_dim"]},
                {},
                ("chain", "draw"),
            ),
            # Its own dimensions: a response may be called as a parameter is, such as sigma.
            "observed_data": _dataset(observed, {name: ["__obs__"]}, coords, ()),
            "effects": _dataset(
                moments, dims, coords | {"statistic": ["mean", "sd"]}, ("statistic",)
            ),
        }
    )
    tree.attrs.update(
        {k: json.dumps(v) if isinstance(v, (dict, tuple)) else v for k, v in attributes.items()},
        effects=json.dumps(effects),
        names=json.dumps(names),
        ranef_layout=LAYOUT,
    )
    return tree


def _dataset(
    variables: dict[str, Array],
    dims: dict[str, list[str]],
    coords: dict[str, Any],
    first: tuple[str, ...],
) -> xr.Dataset:
    """Label arrays in ArviZ's convention; its own converter takes ten times as long."""
    import xarray as xr
    from arviz_base import make_attrs

    labels = {name: (*first, *dims.get(name, ())) for name in variables}
    lengths = {
        d: size
        for name, values in variables.items()
        for d, size in zip(labels[name], values.shape, strict=True)
    }
    return xr.Dataset(
        {name: (labels[name], values) for name, values in variables.items()},
        coords={d: coords[d] if d in coords else np.arange(size) for d, size in lengths.items()},
        attrs=make_attrs(),
    )


def save_tree(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Write a NetCDF file, whole or not at all.

    Parameters
    ----------
    tree
        From `to_tree`.
    path
        The file; an existing one is replaced once the new one is complete.

    Raises
    ------
    DataError
        If the folder does not exist or cannot be written.
    """
    target = file_path("path", path, "fit.nc")
    if not target.parent.is_dir():
        raise DataError(f"Folder '{target.parent}' does not exist; create it first.")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".nc.part")
    except OSError as error:
        raise DataError(f"'{target}' cannot be written: {error.strerror}.") from None
    os.close(handle)
    try:
        tree.to_netcdf(name, engine="h5netcdf")
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except OSError as error:
        raise DataError(f"'{target}' cannot be written: {error.strerror or error}.") from None
    finally:
        Path(name).unlink(missing_ok=True)


def load_tree(path: str | os.PathLike[str]) -> xr.DataTree:
    """Read what `save_tree` wrote, into memory.

    Parameters
    ----------
    path
        The NetCDF file.

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    DataError
        If the file is missing, holds no ranef fit, or one that was written in another layout.
    """
    import xarray as xr

    if not file_path("path", path, "fit.nc").is_file():
        raise DataError(f"File '{path}' does not exist. Check the path.")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as stored:
            tree: xr.DataTree = stored.load()
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):  # whatever is in the file
        raise DataError(f"File '{path}' is no NetCDF file; expected one from fit.save().") from None
    if "ranef_version" not in tree.attrs:
        raise DataError(f"File '{path}' holds no ranef fit; expected one from fit.save().")
    layout = tree.attrs.get("ranef_layout", 1)
    if layout != LAYOUT:
        raise DataError(
            f"File '{path}' was written by ranef {tree.attrs['ranef_version']} in layout {layout}, "
            f"and this is ranef {__version__}, which reads layout {LAYOUT}; load it with the ranef "
            "that wrote it, or fit again.",
            layout=layout,
        )
    lost = [n for n in _GROUPS if n not in tree.children]
    lost += [n for n in _ATTRIBUTES if n not in tree.attrs]
    if lost:
        raise DataError(
            f"File '{path}' lacks {', '.join(map(repr, lost))} of a fit, as if something else had "
            "written it since; save the fit again.",
            lost=lost,
        )
    return tree

"""Tables of a posterior: a DataFrame to compute with, text to paste."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from ranef.certificate import Certificate
    from ranef.types import Array

__all__ = ["effects_table", "format_table", "summarise"]


def summarise(tree: xr.DataTree, prob: float = 0.95) -> pd.DataFrame:
    """Summarise coefficients and standard deviations.

    Parameters
    ----------
    tree
        Labelled draws.
    prob
        Probability of the equal-tailed interval.

    Returns
    -------
    pandas.DataFrame
        One row per scalar parameter (`Intercept`, `x`, `f[b]`, `1|g_sigma`, `sigma`); columns
        mean, sd, the lower quantile, median, the upper quantile, ess, and r_hat for Gibbs draws.

    Raises
    ------
    ValueError
        If prob is not between 0 and 1.
    """
    import pandas as pd
    from arviz_stats.base import array_stats

    if not 0 < prob < 1:
        raise ValueError(f"prob is {prob}; a number between 0 and 1 is expected, e.g. 0.95.")
    low, high = (1 - prob) / 2, (1 + prob) / 2
    exact = "accepted" in tree["sample_stats"]
    rows = {}
    for name, values in _scalars(tree).items():
        lower, middle, upper = np.quantile(values, [low, 0.5, high])
        ess = float(array_stats.ess(values, chain_axis=0, draw_axis=1, method="bulk"))
        row = {
            "mean": values.mean(),
            "sd": values.std(ddof=1),
            f"{100 * low:g}%": lower,
            "median": middle,
            f"{100 * high:g}%": upper,
            "ess": min(ess, values.size) if exact else ess,
        }
        if not exact:
            row["r_hat"] = float(array_stats.rhat(values, chain_axis=0, draw_axis=1))
        rows[name] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "parameter"
    return table


def effects_table(tree: xr.DataTree) -> pd.DataFrame:
    """Exact posterior mean and sd of every group effect, one row per level.

    Parameters
    ----------
    tree
        Labelled draws.

    Returns
    -------
    pandas.DataFrame
        Index: the levels; columns mean and sd, in units of the response.
    """
    import pandas as pd

    label = str(tree.attrs["group_label"])
    values = tree["effects"][label]
    levels = values.coords[values.dims[1]].to_numpy()
    index = pd.Index(levels, name=str(tree.attrs["group_factor"]))
    return pd.DataFrame(values.to_numpy().T, index=index, columns=["mean", "sd"])


def _scalars(tree: xr.DataTree) -> dict[str, Array]:
    """List every scalar parameter but the group effects, shape (chains, draws) each."""
    label = str(tree.attrs["group_label"])
    out: dict[str, Array] = {}
    posterior = tree["posterior"].to_dataset()
    last = [f"{label}_sigma", "sigma"]
    names = [str(n) for n in posterior.data_vars if n not in (label, *last)] + last
    written = json.loads(tree.attrs["names"])
    for stored in names:
        name = written.get(stored, stored)
        values = posterior[stored].transpose("chain", "draw", ...)
        if values.ndim == 2:
            out[name] = values.to_numpy()
        else:
            for j, level in enumerate(values.coords[values.dims[2]].to_numpy()):
                out[f"{name}[{level}]"] = values.to_numpy()[:, :, j]
    return out


def format_table(tree: xr.DataTree, certificate: Certificate) -> str:
    """Write the fit as text: what was fitted, the table, priors and certificate.

    Parameters
    ----------
    tree
        Labelled draws.
    certificate
        From `certify`.

    Returns
    -------
    str
    """
    attrs = tree.attrs
    table = summarise(tree)
    body = [["", *[c.replace("ess", "ESS").replace("r_hat", "R\u0302") for c in table.columns]]]
    coefficients = len(table) - 2
    if coefficients:
        body.append(["Fixed effects"])
    for i, (name, row) in enumerate(table.iterrows()):
        if i == coefficients:
            body.append(["Standard deviations"])
        digits = decimals(row["sd"])
        cells = [f"{row[c]:.{digits}f}" for c in table.columns[:5]]
        cells += [f"{row['ess']:,.0f}"]
        cells += [f"{row['r_hat']:.3f}"] if "r_hat" in table else []
        body.append([f"  {name}", *cells])
    widths = [max(len(r[j]) for r in body if len(r) > j) for j in range(len(body[0]))]
    lines = [
        "  ".join(
            [r[0].ljust(widths[0]), *[c.rjust(w) for c, w in zip(r[1:], widths[1:], strict=False)]]
        )
        for r in body
    ]
    dropped = f" ({attrs['dropped']:,} with missing values left out)" if attrs["dropped"] else ""
    priors = ", ".join(f"{k} ~ {v}" for k, v in json.loads(attrs["priors"]).items())
    how = "independent draws" if attrs["method"] == "exact" else "Gibbs draws"
    return "\n".join(
        [
            f"{attrs['formula']}",
            f"{attrs['rows']:,} rows{dropped}, {attrs['groups']:,} levels of "
            f"{attrs['group_factor']}; {certificate.draws:,} {how} in {attrs['seconds']:.2g} s",
            "",
            *[line.rstrip() for line in lines],
            "",
            f"Priors       {priors}",
            f"Certificate  {certificate}",
        ]
    )


def decimals(sd: float) -> int:
    """Decimals that show two significant digits of the posterior sd.

    Examples
    --------
    >>> decimals(24.2), decimals(0.031)
    (0, 3)
    """
    if not (np.isfinite(sd) and sd > 0):
        return 3
    return int(max(0, 1 - np.floor(np.log10(sd))))

"""Tables of a posterior: a DataFrame to compute with, text to paste."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.common.arguments import brief, is_name, share
from ranef.errors import DataError, nearest
from ranef.mixed_model.parameters import correlation_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import xarray as xr

    from ranef.common.array_types import Array
    from ranef.posterior.certificate import Certificate

__all__ = [
    "check_prob",
    "count_levels",
    "decimals",
    "describe",
    "effects_table",
    "format_rows",
    "format_table",
    "model_notes",
    "percent",
    "scalars",
    "shown",
    "summarise",
]


# Decimals beyond which a number is shown in scientific form.
_MOST_DECIMALS = 9


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
        mean, sd, the lower quantile, median, the upper quantile, ess, and r_hat for draws by Gibbs
        or particles.

    Raises
    ------
    DataError
        If prob is not between 0 and 1.
    """
    import pandas as pd
    from arviz_stats.base import array_stats

    check_prob(prob)
    exact = "accepted" in tree["sample_stats"]
    rows = {}
    for name, values in scalars(tree).items():
        ess = float(array_stats.ess(values, chain_axis=0, draw_axis=1, method="bulk"))
        row = describe(values, prob)
        row["ess"] = min(ess, values.size) if exact else ess
        if not exact:
            row["r_hat"] = float(array_stats.rhat(values, chain_axis=0, draw_axis=1))
        rows[name] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "parameter"
    return table


def check_prob(prob: Any) -> tuple[float, float]:
    """Ends of the equal-tailed interval of a probability, as probabilities.

    Raises
    ------
    DataError
        If prob is not between 0 and 1.
    """
    prob = share("prob", prob)
    return (1 - prob) / 2, (1 + prob) / 2


def describe(values: Array, prob: float) -> dict[str, float]:
    """Mean, sd, lower quantile, median and upper quantile of draws, as a row of a table.

    Parameters
    ----------
    values
        Draws, any shape.
    prob
        Probability of the equal-tailed interval.

    Returns
    -------
    dict
    """
    low, high = check_prob(prob)
    lower, middle, upper = np.quantile(values, [low, 0.5, high])
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)),
        percent(low): float(lower),
        "median": float(middle),
        percent(high): float(upper),
    }


def percent(p: float) -> str:
    """Name the column of a quantile.

    Examples
    --------
    >>> percent(0.025)
    '2.5%'
    """
    return f"{100 * p:g}%"


def effects_table(tree: xr.DataTree, name: str | None = None) -> pd.DataFrame:
    """Exact posterior mean and sd of the group effects.

    Parameters
    ----------
    tree
        Labelled draws.
    name
        One effect, such as `Days|Subject`; None for all.

    Returns
    -------
    pandas.DataFrame
        Columns mean and sd, in units of the response (per unit of x for a slope). One row per
        level; where there are several effects and none is named, indexed by effect and level.

    Raises
    ------
    DataError
        If there is no such effect.
    """
    import pandas as pd

    effects = json.loads(tree.attrs["effects"])
    written = json.loads(tree.attrs["names"])
    known = {written.get(stored, stored): stored for stored in effects}
    if name is not None and not is_name(name, known):
        raise DataError(f"There is no effect {brief(name)}. {nearest(name, known)}")
    parts = {}
    for shown, stored in known.items():
        if name in (None, shown):
            values = tree["effects"][stored]
            index = pd.Index(values.coords[values.dims[1]].to_numpy(), name=effects[stored])
            parts[shown] = pd.DataFrame(values.to_numpy().T, index=index, columns=["mean", "sd"])
    if len(parts) == 1:
        return next(iter(parts.values()))
    return pd.concat(parts, names=["effect", "level"])


def scalars(tree: xr.DataTree) -> dict[str, Array]:
    """List every scalar parameter but the group effects, shape (chains, draws) each."""
    effects = json.loads(tree.attrs["effects"])
    written = json.loads(tree.attrs["names"])
    out: dict[str, Array] = {}
    last: dict[str, Array] = {}
    for key, values in tree["posterior"].to_dataset().data_vars.items():
        if key in effects:
            continue
        name = written.get(str(key), str(key))
        values = values.transpose("chain", "draw", ...)
        # Correlations come after all standard deviations.
        into = last if _section(name, tree.attrs) == "Correlations" else out
        if values.ndim == 2:
            into[name] = values.to_numpy()
        else:
            for j, level in enumerate(values.coords[values.dims[2]].to_numpy()):
                into[f"{name}[{level}]"] = values.to_numpy()[:, :, j]
    return {**out, **last}


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
    section = ""
    for name, row in table.iterrows():
        if section != (section := _section(str(name), attrs)):
            body.append([section])
        digits = decimals(row["sd"])
        cells = [shown(row[c], digits) for c in table.columns[:5]]
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
    priors = [f"{k} ~ {v}" for k, v in json.loads(attrs["priors"]).items()]
    groups = count_levels(json.loads(attrs["groups"]))
    return "\n".join(
        [
            *([] if certificate.trusted else [certificate.warning]),
            f"{attrs['formula']}",
            f"{attrs['rows']:,} rows{dropped}, {groups}; {certificate.draws:,} {certificate.kind} "
            f"in {attrs['seconds']:.2g} s",
            "",
            *[line.rstrip() for line in lines],
            "",
            *[f"{title:13}{text}" for title, text in model_notes(attrs).items()],
            *_wrapped("Priors", priors),
            f"Certificate  {certificate}",
        ]
    )


def _wrapped(title: str, items: list[str], width: int = 100) -> list[str]:
    """Lines of a comma-separated list that break between items only."""
    lines = [f"{title:13}"]
    for i, item in enumerate(items):
        item += "," if i + 1 < len(items) else ""
        if len(lines[-1]) > 13 and len(lines[-1]) + len(item) > width:
            lines.append(" " * 13)
        lines[-1] += f"{item} "
    return [line.rstrip() for line in lines]


def format_rows(table: pd.DataFrame) -> str:
    """Write a table of posterior summaries as text, two significant digits of each row's sd.

    Parameters
    ----------
    table
        One row for each quantity, with a column `sd`. Columns whose names start with `P(` are
        probabilities and get three decimals.

    Returns
    -------
    str
    """
    body = [["", *map(str, table.columns)]]
    for name, row in table.iterrows():
        own = decimals(row["sd"])
        cells = [shown(row[c], 3 if str(c).startswith("P(") else own) for c in table.columns]
        label = ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)
        body.append([label, *cells])
    widths = [max(len(line[j]) for line in body) for j in range(len(body[0]))]
    return "\n".join(
        "  ".join(
            [r[0].ljust(widths[0]), *[c.rjust(w) for c, w in zip(r[1:], widths[1:], strict=True)]]
        )
        for r in body
    )


def count_levels(groups: Mapping[str, int]) -> str:
    """Write the number of levels of each grouping factor.

    Examples
    --------
    >>> count_levels({"batch": 10, "lab": 1})
    '10 levels of batch, 1 level of lab'
    """
    return ", ".join(f"{n:,} level{'s' * (n != 1)} of {g}" for g, n in groups.items())


def model_notes(attrs: Mapping[Any, Any]) -> dict[str, str]:
    """Say what else belongs to the model: known standard errors, columns that were left out.

    Examples
    --------
    >>> model_notes({"se": "se", "aliased": '["x2"]'})
    {'Residual': 'known standard errors, se', 'Left out': 'x2, determined by other columns'}
    """
    notes = {}
    if "family" in attrs:
        notes["Family"] = f"{attrs['family']}, link {attrs['link']}"
        if "trials" in attrs:
            notes["Family"] += f", trials {attrs['trials']}"
        if "success" in attrs:
            notes["Response"] = f"one where it is {attrs['success']!r}, else zero"
    if "se" in attrs:
        notes["Residual"] = f"known standard errors, {attrs['se']}"
    if aliased := json.loads(attrs.get("aliased", "[]")):
        notes["Left out"] = f"{', '.join(aliased)}, determined by other columns"
    return notes


def _section(name: str, attrs: Any) -> str:
    """Say which part of the table a parameter belongs to."""
    effects, written = json.loads(attrs["effects"]), json.loads(attrs["names"])
    groups = [written.get(stored, stored) for stored in effects]
    if name in json.loads(attrs.get("own_parameters", "[]")):
        return "Distribution"
    if name == "sigma" or any(name == f"{g}_sigma" for g in groups):
        return "Standard deviations"
    if any(correlation_label(f"|{factor}") in name for factor in effects.values()):
        return "Correlations"
    return "Fixed effects"


def shown(value: float, digits: int, comma: str = "") -> str:
    """Write a number with so many decimals; far from one in short scientific form.

    Examples
    --------
    >>> shown(1251.4, 0, ","), shown(0.25, 2), shown(3.14159e-140, 141), shown(-2e20, 0)
    ('1,251', '0.25', '3.14e-140', '-2.00e+20')
    """
    far = digits > _MOST_DECIMALS or abs(value) >= 1e15
    return f"{value:.2e}" if far and np.isfinite(value) else f"{value:{comma}.{digits}f}"


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

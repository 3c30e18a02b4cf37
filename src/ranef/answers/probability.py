"""Statements about a fit: their share of draws, and its error (mathematics.md, 5.6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.level_posterior import joint_draws, places, usable
from ranef.answers.statements import Probability, read_statement
from ranef.common.arguments import generator
from ranef.common.stored_names import stored_name
from ranef.errors import DataError
from ranef.posterior.summary import scalars

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

    from ranef.common.array_types import Array, IntArray, Seed
    from ranef.posterior.draws import PosteriorDraws

__all__ = ["answer_probability"]


def answer_probability(
    tree: xr.DataTree, arrays: Callable[[], PosteriorDraws], text: str, seed: Seed
) -> Probability:
    """Compute the probability of a statement; see `ranef.Fit.probability`.

    Parameters
    ----------
    tree
        Labelled draws.
    arrays
        Gives the same draws as arrays, where effects have to be drawn.
    text
        The statement.
    seed
        For the effects.

    Returns
    -------
    Probability

    Raises
    ------
    DataError
        See `ranef.answers.statements.read_statement`; also where draws give no number, as log(-1).
    """
    from arviz_stats.base import array_stats

    rng = generator(seed)
    parameters = scalars(tree)
    written = json.loads(tree.attrs["names"])
    levels: dict[str, list[str]] = {}
    for stored in json.loads(tree.attrs["effects"]):
        values = tree["effects"][stored]
        own = values.coords[values.dims[1]].to_numpy()
        levels[written.get(stored, stored)] = [str(v) for v in own]
    statement = read_statement(text, list(parameters), levels)
    chains = tree["posterior"].sizes["chain"]
    use = np.arange(chains * tree["posterior"].sizes["draw"])
    wanted = [n for n in statement.names if not isinstance(n, str)]
    effects: dict[tuple[str, str], Array] = {}
    if wanted:
        at = {pair: levels[pair[0]].index(pair[1]) for pair in wanted}
        effects, use = _effects(tree, arrays, at, use, rng)
    drawn = [
        parameters[n].ravel()[use] if isinstance(n, str) else effects[n] for n in statement.names
    ]
    if not drawn:
        raise DataError(f"Statement {text!r} names no parameter, e.g. {next(iter(parameters))!r}.")
    true = np.broadcast_to(statement.holds(drawn), use.shape)
    share = float(true.mean())
    draws = float(len(true))
    if 0 < share < 1:
        layout = true.reshape(chains, -1) if len(use) % chains == 0 else true[None]
        ess = float(array_stats.ess(layout.astype(float), chain_axis=0, draw_axis=1, method="mean"))
        draws = min(ess, draws)
    near = (share * draws + 1) / (draws + 2)
    return Probability(text, share, float(np.sqrt(near * (1 - near) / draws)), draws)


def _effects(
    tree: xr.DataTree,
    arrays: Callable[[], PosteriorDraws],
    at: dict[tuple[str, str], int],
    use: IntArray,
    rng: np.random.Generator,
) -> tuple[dict[tuple[str, str], Array], IntArray]:
    """Draws of some levels' effects, stored or drawn now, and which draws they belong to."""
    posterior = tree["posterior"]
    if all(stored_name(name) in posterior for name, _ in at):
        out = {}
        for (name, level), place in at.items():
            values = posterior[stored_name(name)].transpose("chain", "draw", ...)
            out[name, level] = values.to_numpy()[:, :, place].ravel()
        return out, use
    drawn = arrays()
    where = places(drawn)
    use = usable(drawn)
    out = {pair: np.empty(len(use)) for pair in at}
    for part, blocks in joint_draws(drawn, use, rng):
        for pair, place in at.items():
            factor, column = where[pair[0]]
            out[pair][part] = blocks[factor][:, place, column]
    return out, use

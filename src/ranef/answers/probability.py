"""Statements about a fit: their share of draws, and its error (mathematics.md, 5.6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ranef.answers.level_posterior import joint_draws, places, usable
from ranef.answers.statements import Probability, read_statement
from ranef.common.stored_names import stored_name
from ranef.errors import DataError
from ranef.posterior.summary import scalars

if TYPE_CHECKING:
    from ranef.common.array_types import Array, IntArray, Seed
    from ranef.posterior.posterior import Posterior

__all__ = ["probability"]


def probability(fit: Posterior, statement: str, *, seed: Seed = None) -> Probability:
    """Probability that a statement about parameters is true.

    Parameters
    ----------
    statement
        A comparison of names as `summary` prints them: `"Days > 10"`,
        `"1|Subject_sigma > sigma"`, `"abs(Days) < 5"`, `"0 < f[b] - f[c] < 2"`; group effects
        by level, `"1|Subject[308] > 1|Subject[309]"`. The operators are ``+ - * / ** and or
        not``, the functions abs, sqrt, exp, log, min, max.
    seed
        For group effects that were not stored, which are drawn jointly with the stored draws;
        by default the fit's own, so that the same question gets the same answer.

    Returns
    -------
    ranef.answers.statements.Probability
        The share of draws in which it holds and its Monte Carlo error; `float()` of it is the
        share.

    Raises
    ------
    DataError
        If it names what the fit does not have, or is no comparison. Nothing in a statement is
        run as code.

    Examples
    --------
    >>> import ranef as rf
    >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    >>> 0.2 < float(fit.probability("1|Batch_sigma > sigma")) < 0.5
    True
    """
    from arviz_stats.base import array_stats

    rng, tree = fit.stream(seed), fit.draws
    parameters = scalars(tree)
    written = json.loads(tree.attrs["names"])
    levels: dict[str, list[str]] = {}
    for stored in json.loads(tree.attrs["effects"]):
        values = tree["effects"][stored]
        own = values.coords[values.dims[1]].to_numpy()
        levels[written.get(stored, stored)] = [str(v) for v in own]
    parsed = read_statement(statement, list(parameters), levels)
    chains = tree["posterior"].sizes["chain"]
    use = np.arange(chains * tree["posterior"].sizes["draw"])
    wanted = [n for n in parsed.names if not isinstance(n, str)]
    effects: dict[tuple[str, str], Array] = {}
    if wanted:
        at = {pair: levels[pair[0]].index(pair[1]) for pair in wanted}
        effects, use = _effects(fit, at, use, rng)
    drawn = [parameters[n].ravel()[use] if isinstance(n, str) else effects[n] for n in parsed.names]
    if not drawn:
        raise DataError(
            f"Statement {statement!r} names no parameter, e.g. {next(iter(parameters))!r}."
        )
    true = np.broadcast_to(parsed.holds(drawn), use.shape)
    share = float(true.mean())
    draws = float(len(true))
    if 0 < share < 1:
        layout = true.reshape(chains, -1) if len(use) % chains == 0 else true[None]
        ess = float(array_stats.ess(layout.astype(float), chain_axis=0, draw_axis=1, method="mean"))
        draws = min(ess, draws)
    near = (share * draws + 1) / (draws + 2)
    return Probability(statement, share, float(np.sqrt(near * (1 - near) / draws)), draws)


def _effects(
    fit: Posterior,
    at: dict[tuple[str, str], int],
    use: IntArray,
    rng: np.random.Generator,
) -> tuple[dict[tuple[str, str], Array], IntArray]:
    """Draws of some levels' effects, stored or drawn now, and which draws they belong to."""
    posterior = fit.draws["posterior"]
    if all(stored_name(name) in posterior for name, _ in at):
        out = {}
        for (name, level), place in at.items():
            values = posterior[stored_name(name)].transpose("chain", "draw", ...)
            out[name, level] = values.to_numpy()[:, :, place].ravel()
        return out, use
    drawn = fit.posterior_draws
    where = places(drawn)
    use = usable(drawn)
    out = {pair: np.empty(len(use)) for pair in at}
    for part, blocks in joint_draws(drawn, use, rng):
        for pair, place in at.items():
            factor, column = where[pair[0]]
            out[pair][part] = blocks[factor][:, place, column]
    return out, use

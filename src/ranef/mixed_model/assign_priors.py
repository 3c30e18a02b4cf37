"""What a user states in `priors=`, sorted: by coefficient, by standard deviation, or jointly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import PriorError, nearest
from ranef.mixed_model.parameters import TermPrior, correlation_label
from ranef.priors import (
    Dirichlet,
    default_scale,
    dirichlet,
    half_t,
    lkj_shape,
    parse_prior,
    scale_prior,
)
from ranef.priors.joint import (
    SHARES,
    TOTAL,
    InverseWishart,
    Shares,
    inverse_wishart,
    is_inverse_wishart,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ranef.common.array_types import Array
    from ranef.formula.fixed_effects import FixedTerm
    from ranef.formula.grouping import GroupColumns
    from ranef.priors import ScalePrior

__all__ = ["Stated", "joint_names_taken", "sort_priors"]


@dataclass(frozen=True)
class Stated:
    """Priors by what they are on.

    Attributes
    ----------
    by_name
        Priors of coefficients, standard deviations and correlations that were stated, by
        parameter. What a joint prior covers is listed too, with that prior.
    wisharts
        Inverse-Wishart priors by the label of their term.
    total
        Prior on the total standard deviation, where variances are shares of a total.
    shares
        The Dirichlet on the shares; None where every standard deviation has its own prior.
    mad
        Spread of the response, for defaults.
    """

    by_name: dict[str, Any]
    wisharts: dict[str, InverseWishart]
    total: Any
    shares: Dirichlet | None
    mad: float

    def scale(self, name: str) -> ScalePrior:
        """Prior of one standard deviation, or of the total; the default where none is stated."""
        stated = self.total if name == TOTAL else self.by_name.get(name)
        return scale_prior(half_t(default_scale(self.mad)) if stated is None else stated, name)

    def residual(self) -> ScalePrior:
        """Prior of the residual's standard deviation, or of the total where that is stated."""
        return self.scale("sigma" if self.shares is None else TOTAL)

    def term(self, group: GroupColumns, place: tuple[int, ...]) -> TermPrior:
        """Prior of one group term whose columns stand at `place` in its factor's block."""
        correlated = group.correlated and len(place) > 1
        wishart, lkj_eta = self.wisharts.get(group.label), None
        if correlated:
            corr = correlation_label(group.label)
            lkj_eta = 1.0 if wishart else lkj_shape(self.by_name.get(corr, 1.0), corr)
        own = wishart is None and self.shares is None
        scales = tuple(self.scale(n) for n in group.names) if own else ()
        return TermPrior(group.label, group.factor, place, group.names, scales, lkj_eta, wishart)

    def joint(self, terms: Sequence[TermPrior], sizes: Sequence[Array]) -> Shares | None:
        """Shares of the total, given the root mean square of each factor's columns."""
        if self.shares is None:
            return None
        names = [n for t in terms for n in t.names]
        size = np.array([*(sizes[t.factor][j] for t in terms for j in t.place), 1.0])
        alpha = self.shares.parameters([*names, "sigma"])
        return Shares(self.scale(TOTAL), alpha, size, self.shares.text)


def sort_priors(
    stated: Mapping[str, Any],
    names: Sequence[str],
    terms: Sequence[FixedTerm],
    groups: Sequence[GroupColumns],
    dispersions: Sequence[str],
    *,
    mad: float,
) -> Stated:
    """Give each parameter the prior of its term or its own; refuse names that mean nothing.

    Parameters
    ----------
    given
        As in `ranef.fit`.
    names, terms
        Fixed-effect columns, and the same by term.
    groups
        The group terms.
    dispersions
        Names of the family's own parameters: `sigma`, unless it is known.
    mad
        Median absolute deviation of the response times 1.4826, for default priors.

    Returns
    -------
    Stated

    Raises
    ------
    PriorError
        If a name means nothing, or two priors are stated for one parameter.
    """
    stated = {k: _parsed(v) for k, v in stated.items()}
    sds = [*dispersions, *(n for g in groups for n in g.names)]
    wisharts = _take_wisharts(stated, groups)
    taken = joint_names_taken(names, terms)
    joint = {n: stated.pop(n) for n in (TOTAL, SHARES) if n in stated and n not in taken}
    of_coefficient = [n for n in taken if isinstance(stated.get(n), Dirichlet)]
    if taken and (joint or of_coefficient):
        raise PriorError(
            f"A fixed effect is called {taken[0]!r}, as is a prior on shares of the total "
            "variance, so the two cannot be told apart; rename the column.",
            parameter=taken[0],
        )
    by_name = _spread(stated, names, terms, groups, dispersions)
    for group in groups:
        if group.label in wisharts:
            _refuse_both(by_name, [*group.names, correlation_label(group.label)], group.label)
            by_name |= dict.fromkeys(group.names, wisharts[group.label])
    if not joint:
        return Stated(by_name, wisharts, None, None, mad)
    if not dispersions:
        raise PriorError("Shares of a total variance need a residual SD to be drawn; leave se out.")
    _refuse_both(by_name, sds, "shares of the total variance")
    by_name |= dict.fromkeys(sds, joint)
    shares = dirichlet(joint.get(SHARES, 1.0))
    return Stated(by_name, wisharts, joint.get(TOTAL), shares, mad)


def joint_names_taken(names: Sequence[str], terms: Sequence[FixedTerm]) -> list[str]:
    """Names of priors on shares of the total variance that fixed effects bear already.

    Parameters
    ----------
    names, terms
        Fixed-effect columns, and the same by term.

    Returns
    -------
    list of str
    """
    called = {*names, *(t.name for t in terms)}
    return [n for n in (TOTAL, SHARES) if n in called]


def _parsed(prior: Any) -> Any:
    return parse_prior(prior) if isinstance(prior, str) else prior


def _take_wisharts(
    stated: dict[str, Any], groups: Sequence[GroupColumns]
) -> dict[str, InverseWishart]:
    """Take the inverse-Wishart priors out of what was given."""
    found = {}
    labels = {g.label: g for g in groups}
    for name in [n for n, prior in stated.items() if is_inverse_wishart(prior)]:
        group = labels.get(name)
        if group is None:
            raise PriorError(
                f"invwishart was given for {name!r}; a group term with several columns is "
                f"expected. {nearest(name, labels)}",
                parameter=name,
            )
        if not group.correlated or len(group.columns) == 1:
            raise PriorError(
                f"invwishart was given for {name!r}, whose effects are not correlated; give each "
                "variance its own prior, e.g. variance(invgamma(2, scale=1)).",
                parameter=name,
            )
        found[name] = inverse_wishart(stated.pop(name), name, len(group.columns))
    return found


def _refuse_both(by_name: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    """Refuse a second prior on what a joint one covers."""
    for name in names:
        if name in by_name:
            raise PriorError(
                f"{name!r} has a prior of its own and another through {what!r}; leave one out.",
                parameter=name,
            )


def _spread(
    stated: Mapping[str, Any],
    names: Sequence[str],
    terms: Sequence[FixedTerm],
    groups: Sequence[GroupColumns],
    dispersions: Sequence[str],
) -> dict[str, Any]:
    """Give each parameter the prior of its term or its own; refuse names that mean nothing."""
    columns = {t.name: [names[i] for i in t.columns] for t in terms}
    for group in groups:
        for name in group.names:
            # Tables call its standard deviation so.
            columns[f"{name}_sigma"] = [name]
            # `f[b]|g` and its siblings can be named together, `f|g`.
            left, _, factor = name.rpartition("|")
            columns.setdefault(f"{left.partition('[')[0]}|{factor}", []).append(name)
    own = [*dispersions, *names, *(n for g in groups for n in g.names)]
    own += [correlation_label(g.label) for g in groups if g.correlated and len(g.columns) > 1]
    known = dict.fromkeys([*own, *columns])
    for name in stated:
        if name not in known:
            raise PriorError(
                f"A prior was given for {name!r}, which the model does not have. "
                f"{nearest(name, known)}",
                parameter=name,
            )
    spread = {c: stated[t] for t, owned in columns.items() if t in stated for c in owned}
    return {**spread, **{n: stated[n] for n in own if n in stated}}

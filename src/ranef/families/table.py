"""The table of families: what `family=` and `link=` may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranef.common.arguments import brief, is_name
from ranef.errors import DataError, nearest
from ranef.families.counts import NegativeBinomial, Poisson
from ranef.families.proportions import Bernoulli, Binomial

if TYPE_CHECKING:
    from ranef.families.response import ResponseFamily

__all__ = ["FAMILIES", "find_family"]

FAMILIES: dict[str, Any] = {f.name: f for f in (Bernoulli, Binomial, Poisson, NegativeBinomial)}

# What other packages call them.
_ALSO = {
    "binary": "bernoulli",
    "logistic": "bernoulli",
    "negbinomial": "negativebinomial",
    "negative_binomial": "negativebinomial",
    "neg_binomial_2": "negativebinomial",
    "nbinom2": "negativebinomial",
}


def find_family(family: Any, link: Any = None) -> ResponseFamily:
    """Look a family and its link up.

    Parameters
    ----------
    family, link
        As in `ranef.fit`; None for the family's default link.

    Returns
    -------
    ResponseFamily

    Raises
    ------
    DataError
        If there is no such family, or it does not have the link.

    Examples
    --------
    >>> find_family("bernoulli", "probit").link, find_family("poisson").link
    ('probit', 'log')
    """
    name = _ALSO.get(family, family) if isinstance(family, str) else family
    if not is_name(name, FAMILIES):
        known = ["gaussian", *FAMILIES]
        raise DataError(
            f"family is {brief(family)}; one of {', '.join(map(repr, known))} is expected. "
            f"{nearest(family, known)}".rstrip()
        )
    kind = FAMILIES[name]
    if link is None:
        return kind()  # type: ignore[no-any-return]
    if not is_name(link, kind.links):
        raise DataError(
            f"link is {brief(link)}, which family {name!r} does not have; "
            f"{' or '.join(map(repr, kind.links))} is expected."
        )
    return kind(link)  # type: ignore[no-any-return]

"""The article's sampler, printed and corrected, checked against its own model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranef.article.conditionals import article_log_joint, article_state, article_updates
from ranef.article.simulate import simulate
from ranef.gibbs_check.check import check_gibbs

if TYPE_CHECKING:
    from ranef.common.array_types import Seed
    from ranef.gibbs_check.report import GibbsReport

__all__ = ["check_article"]


def check_article(W: Any = None, *, rng: Seed = 0) -> dict[str, GibbsReport]:
    """Check the article's three updates as it prints them, and with the corrected term.

    Parameters
    ----------
    W
        Measurements, shape (n, J); None for the article's own.
    rng
        Seed or generator of the states that are looked at.

    Returns
    -------
    dict
        `printed` and `corrected`, a report each.

    Raises
    ------
    DataError
        If W is no finite matrix with two columns or more.

    Examples
    --------
    >>> check_article()["printed"].failures["X"]
    "update 'X' uses precision 2/sigma2_x + 1/sigma2_e; log_joint implies 1/sigma2_x + 2/sigma2_e"
    """
    W = simulate() if W is None else W
    log_joint, state = article_log_joint(W), article_state(W)
    return {
        conditional: check_gibbs(article_updates(W, conditional), log_joint, state, rng=rng)
        for conditional in ("printed", "corrected")
    }

"""The article that ranef starts from: its scenarios, its sampler as printed and corrected.

`W_ij = X_i + E_ij` with inverse-gamma priors on both variances. The article's full conditional of
X has the 2 on the wrong term; everything here can be had both ways, and exactly.
"""

from __future__ import annotations

from ranef.article.exact import exact
from ranef.article.gibbs import GibbsResult, gibbs
from ranef.article.scenarios import SCENARIOS, Scenario
from ranef.article.simulate import simulate
from ranef.article.study import Study, study

__all__ = ["SCENARIOS", "GibbsResult", "Scenario", "Study", "exact", "gibbs", "simulate", "study"]

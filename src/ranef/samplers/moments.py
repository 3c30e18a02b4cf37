"""Exact means and SDs of group effects by averaging conditional moments (Rao-Blackwell).

Given the variance parameters the effects are Gaussian with the coefficients integrated out, so no
draws of them are needed (mathematics.md, 4.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranef.marginal.gaussian import Profile
    from ranef.marginal.mixed import Mixed
    from ranef.types import Array

__all__ = ["mixed_moments"]

# Numbers worked on in all, and seconds spent, before draws are thinned; never below _LEAST draws.
_NUMBERS = 2e7
_SECONDS = 4.0
_LEAST = 16
_BLOCK = 2e6


def mixed_moments(target: Mixed, eta: Array, profile: Profile) -> dict[str, tuple[Array, Array]]:
    """Average the effects' conditional moments over draws of the variance parameters.

    Parameters
    ----------
    target
        The marginal posterior.
    eta
        Draws of the parameter vector, shape (n, d).
    profile
        At eta.

    Returns
    -------
    dict
        Mean and SD of each level's effect by effect name, shape (G,) each. Large designs use every
        k-th draw; the moments vary little with the variance parameters there.
    """
    model = target.model
    design = model.design
    P = design.p + 1
    width = sum(f.levels * len(f.columns) for f in design.factors)
    most = min(_NUMBERS / (width * P), _SECONDS / (6 * target.structure.cost))
    use = np.linspace(0, len(eta) - 1, int(np.clip(most, _LEAST, len(eta)))).astype(int)
    step = max(1, int(_BLOCK / (width * P * max(len(f.columns) for f in design.factors))))
    first = [np.zeros((f.levels, len(f.columns))) for f in design.factors]
    second = [np.zeros_like(a) for a in first]
    for start in range(0, len(use), step):
        at = use[start : start + step]
        part = profile.take(at)
        tau = model.layout.tau(eta[at])
        mean, root = target.coefficients.moments(part, tau)
        c = np.column_stack([-mean, np.ones(len(at))])
        response, covariance = target.structure.solve(model.layout.roots(eta[at]))
        for f, (B, C) in enumerate(zip(response, covariance, strict=True)):
            flat = B.reshape(len(at), -1, P)
            b = (flat @ c[:, :, None]).reshape(B.shape[:3])
            first[f] += b.sum(axis=0)
            second[f] += (b**2).sum(axis=0)
            second[f] += np.einsum("n,ngqq->gq", np.exp(2 * tau), C)
            if design.p:
                spread = flat[:, :, :-1] @ root
                second[f] += np.einsum("nkj,nkj->k", spread, spread).reshape(second[f].shape)
    out = {}
    for term in model.layout.terms:
        middle = first[term.factor] / len(use)
        sd = np.sqrt(np.maximum(second[term.factor] / len(use) - middle**2, 0.0))
        for j, name in zip(term.place, term.names, strict=True):
            out[name] = (middle[:, j], sd[:, j])
    return out

"""Predictive densities of what was left out, marginal likelihoods, and tests of group effects."""

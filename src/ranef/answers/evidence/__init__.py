"""Marginal likelihoods, and what they say of group effects."""

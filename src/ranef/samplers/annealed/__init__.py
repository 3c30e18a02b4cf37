"""Draws from a proposal that is fitted to the posterior, moved on where too few are accepted."""

"""Predictive densities of rows and groups that were left out."""

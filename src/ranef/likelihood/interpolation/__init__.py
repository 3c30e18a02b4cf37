"""Polynomials in place of an expensive likelihood, and where they hold."""

"""Answers of fits with other families, from joint draws and quadrature."""

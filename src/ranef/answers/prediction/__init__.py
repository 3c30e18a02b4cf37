"""Predictions, predictive checks and residuals."""

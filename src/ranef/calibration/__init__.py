"""Samplers checked by simulation: simulation-based calibration, Geweke's joint test."""

"""Checks of samplers and engines against simulated truth."""

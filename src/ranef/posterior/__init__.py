"""Draws with their labels, their certificate and their summary."""

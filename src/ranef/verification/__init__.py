"""Checks of samplers against the model they are meant to draw from."""

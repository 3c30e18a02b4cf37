"""Measurement system studies (gauge R&R)."""

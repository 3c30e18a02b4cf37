"""Levels 1 and 2: updates that cannot be replayed, checked by many draws."""

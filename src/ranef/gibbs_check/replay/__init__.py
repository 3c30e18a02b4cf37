"""Level 0: an update as a map of its random numbers, replayed."""

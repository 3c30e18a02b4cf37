"""How many groups and replicates a goal needs."""

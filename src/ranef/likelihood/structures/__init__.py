"""How the likelihood is evaluated for each structure of the grouping."""

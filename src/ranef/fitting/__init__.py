"""From a formula and a table to a fit, and fits beside each other."""

"""Formula and table to columns by row: fixed effects, group terms, levels; new rows alike."""

"""What a response may be, given its linear predictor: one file for each family, one table."""

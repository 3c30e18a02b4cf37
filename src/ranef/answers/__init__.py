"""Questions to a fit: shares of variance, group effects, statements, contrasts."""

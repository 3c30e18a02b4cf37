"""Draws by particles that are annealed from the modes to the posterior."""

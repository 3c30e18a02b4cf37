"""Independent draws: quadrature for random intercepts, a fitted proposal for everything else."""

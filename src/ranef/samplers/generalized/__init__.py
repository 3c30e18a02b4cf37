"""Models of other families: coordinates of their posteriors, and effects given all else."""

"""Log densities of the variance parameters with the effects integrated out."""

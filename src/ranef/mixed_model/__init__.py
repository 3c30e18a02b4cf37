"""Design and priors as one model: parameters, what is not identified, what is improper."""

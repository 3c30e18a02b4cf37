"""A Gibbs sampler's updates checked against a log joint density; needs nothing of the rest."""

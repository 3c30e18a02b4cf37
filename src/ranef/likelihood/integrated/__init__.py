"""Likelihoods of other families: group effects integrated out by quadrature."""

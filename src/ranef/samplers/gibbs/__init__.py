"""The textbook Gibbs sampler of a Gaussian mixed model, several chains side by side.

It shares no step with the exact sampler beyond the compressed data, so the two answer every
question twice. Each factor's effects are a block, and what effects and coefficients can trade is
redrawn in each sweep. It moves slowly where a variance is near zero; R-hat and ESS tell.
"""

from ranef.samplers.gibbs.sampler import sample_gibbs

__all__ = ["sample_gibbs"]

"""Whose the answer is: refits under other priors, power-scaling."""

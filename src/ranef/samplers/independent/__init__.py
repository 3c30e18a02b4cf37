"""Independent draws of random-intercept models, by quadrature."""

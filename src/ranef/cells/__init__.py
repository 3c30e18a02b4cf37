"""Counts, means and cross-products by combination of levels: all that the data say."""

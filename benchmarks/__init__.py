"""Measurements: ratios within one run, on whatever machine runs them."""

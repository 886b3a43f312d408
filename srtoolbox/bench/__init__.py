"""Measures speed and memory of networks, as ratios within one run."""

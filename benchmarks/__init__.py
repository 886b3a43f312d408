"""Measures the toolbox itself: how fast samples come, and what the trainer costs."""

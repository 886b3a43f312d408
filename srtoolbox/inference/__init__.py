"""Running trained networks on whole images."""

from srtoolbox.inference.padding import fits, predict, run_padded

__all__ = ["fits", "predict", "run_padded"]

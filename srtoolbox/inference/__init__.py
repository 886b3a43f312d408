"""Runs trained networks on whole images."""

from srtoolbox.inference.cascade import Cascade
from srtoolbox.inference.padding import accepts_size, run_padded
from srtoolbox.inference.prediction import EnhanceOptions, predict

__all__ = ["Cascade", "EnhanceOptions", "accepts_size", "predict", "run_padded"]

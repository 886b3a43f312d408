"""Running trained networks on whole images."""

from srtoolbox.inference.cascade import Cascade
from srtoolbox.inference.padding import fits, run_padded
from srtoolbox.inference.prediction import EnhanceSection, predict

__all__ = ["Cascade", "EnhanceSection", "fits", "predict", "run_padded"]

"""Datasets by kind of input, and the stream of training samples drawn from them."""

from srtoolbox.data.image import PairedImages
from srtoolbox.data.sample import SampleBursts
from srtoolbox.data.stream import SampleStream, to_float

__all__ = ["PairedImages", "SampleBursts", "SampleStream", "to_float"]

"""Datasets by kind of input, and the stream of training samples drawn from them."""

from srtoolbox.data.burst import Bursts
from srtoolbox.data.clip import Clips
from srtoolbox.data.image import PairedImages
from srtoolbox.data.sample import SampleBursts
from srtoolbox.data.space_time import SpaceTimeClips
from srtoolbox.data.stream import SampleStream, to_float
from srtoolbox.data.synthetic import SyntheticBursts

__all__ = [
    "Bursts",
    "Clips",
    "PairedImages",
    "SampleBursts",
    "SampleStream",
    "SpaceTimeClips",
    "SyntheticBursts",
    "to_float",
]

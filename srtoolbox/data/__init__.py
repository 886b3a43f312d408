"""Datasets by kind of input, and the stream of training samples drawn from them."""

from srtoolbox.data.datasets.bursts import Bursts
from srtoolbox.data.datasets.clips import Clips
from srtoolbox.data.datasets.paired_images import PairedImages
from srtoolbox.data.datasets.sample_bursts import SampleBursts
from srtoolbox.data.datasets.sbsr_bursts import SBSRBursts
from srtoolbox.data.datasets.space_time_clips import SpaceTimeClips
from srtoolbox.data.datasets.synthetic_bursts import SyntheticBursts
from srtoolbox.data.degradations.blind import BSRGAN, FirstOrder, RealESRGAN
from srtoolbox.data.stream import SampleStream, to_float

__all__ = [
    "BSRGAN",
    "Bursts",
    "Clips",
    "FirstOrder",
    "PairedImages",
    "RealESRGAN",
    "SBSRBursts",
    "SampleBursts",
    "SampleStream",
    "SpaceTimeClips",
    "SyntheticBursts",
    "to_float",
]

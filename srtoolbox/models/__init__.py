"""Models: what a task feeds a network and how its losses are formed."""

from srtoolbox.models.frames import arrange_frames
from srtoolbox.models.sr_model import SRModel

__all__ = ["SRModel", "arrange_frames"]

"""The form of an image as stated by its header, and the error for images that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srtoolbox.errors import UserError

ADVICE = (
    "convert it first, or set convert: rgb in the options of the dataset (commands metrics and "
    "prepare: --convert rgb)"
)
"""What to do about an image with a palette, alpha or other colours."""

_DTYPES = ("uint8", "uint16", "float32")

Decode = Callable[[], np.ndarray]
"""Decodes an image to (C, H, W)."""


class ImageInfo(NamedTuple):
    """Channels, size in pixels and type ("uint8", "uint16" or "float32") of an image.

    ``orientation`` is the tag of EXIF or TIFF, 1 to 8; 1 means that the image is stored upright.
    """

    channels: int
    height: int
    width: int
    dtype: str
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


class ImageFault(UserError):
    """The error for a file that is not a usable image; ``kind`` names the problem briefly."""

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


def check_form(path: Path, info: ImageInfo, raw: bool) -> None:
    """Checks that the toolbox supports an image's channels and type.

    Raises:
        ImageFault: if it does not.
    """
    if info.channels not in ((1, 3, 4) if raw else (1, 3)):
        wanted = "1, 3 or (packed RAW) 4" if raw else "1 (grey) or 3 (RGB), no alpha or other bands"
        advice = ADVICE if info.channels in (2, 4) and not raw else "convert it first"
        raise ImageFault(
            f"{path}: {info.channels} channels; expected {wanted}, {advice}",
            "wrong channels",
        )
    if info.dtype not in _DTYPES:
        raise ImageFault(
            f"{path}: {info.dtype} pixels; expected uint8, uint16, or float32 in [0, 1]; "
            "convert it first",
            "wrong depth",
        )
    if not (info.height and info.width):
        raise ImageFault(f"{path}: no pixels ({info.width}×{info.height})", "not an image")

"""What an image file's header says, and the fault of a file that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srtoolbox.errors import UserError

_DTYPES = ("uint8", "uint16", "float32")

Decode = Callable[[], np.ndarray]


class ImageInfo(NamedTuple):
    """Form of an image; ``dtype`` is "uint8", "uint16" or "float32"."""

    channels: int
    height: int
    width: int
    dtype: str


class ImageFault(UserError):
    """A file that is no usable image; ``kind`` says why in a word or two."""

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


def check_form(path: Path, info: ImageInfo, raw: bool) -> None:
    """Checks channels and type.

    Raises:
        ImageFault: if they are none that the toolbox works with.
    """
    if info.channels not in ((1, 3, 4) if raw else (1, 3)):
        wanted = "1, 3 or (packed RAW) 4" if raw else "1 (grey) or 3 (RGB), no alpha or other bands"
        raise ImageFault(
            f"{path}: {info.channels} channels; expected {wanted}, convert it first",
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

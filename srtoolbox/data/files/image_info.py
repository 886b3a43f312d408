"""The form of an image as stated by its header, and the error for images that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

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


@dataclass(frozen=True)
class WindowDecoder:
    """Decodes an image, or a window of it; calling it decodes the image.

    Args:
        whole: Decodes the image to (C, H, W).
        window: Decodes a window to (c, bottom - top, right - left), the same values as ``whole``.
            It is called with the indices of c channels, top, bottom, left and right.
        rows: Number of rows that are decoded together.
    """

    whole: Decode
    window: Callable[[Sequence[int], int, int, int, int], np.ndarray]
    rows: int = 1

    def __call__(self) -> np.ndarray:
        """Returns the pixels (C, H, W)."""
        return self.whole()


@dataclass(frozen=True)
class ReadOptions:
    """How the files of a set are read.

    Args:
        raw: Read sensor data: 4 channels are allowed, and the channels are in the order of
            ``cv2.imread(…, cv2.IMREAD_UNCHANGED)``, which is the order given to ``cv2.imwrite``.
            Orientation tags have no effect.
        convert: Convert palette, CMYK and 1-bit images to RGB, and drop alpha channels without
            blending; by default these images are errors. An alpha channel that ``channels`` or
            ``bands`` ask for is a band.
        channels: Number of bands of each file: grey files also fit 3. None: 1 or 3; for ``raw``
            also 4.
        bands: Numbers from 1 of the bands to return, in this order; a file may have more. None:
            all.
        nodata: Value of missing pixels; "file": the value that a GeoTIFF states, if it states one.
            With a value or "file", floats that are not finite are missing, too; missing pixels are
            filled from their neighbours, and the pixels get one more channel, the last, in the same
            type: 1 where all returned bands are known, 0 elsewhere.
        any_range: Allow int16, and floats of any range.

    Raises:
        UserError: if the options contradict each other.
    """

    raw: bool = False
    convert: bool = False
    channels: int | None = None
    bands: tuple[int, ...] | None = None
    nodata: float | Literal["file"] | None = None
    any_range: bool = False

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels < 1:
            raise UserError(f"channels {self.channels}: expected at least 1")
        if self.bands is None:
            return
        text = f"bands: [{', '.join(map(str, self.bands))}]"
        if not self.bands or min(self.bands) < 1 or len(set(self.bands)) < len(self.bands):
            raise UserError(f"{text}; expected different numbers, the first band is 1")
        if self.channels not in (None, len(self.bands)):
            raise UserError(f"{text}: {len(self.bands)} bands, but channels is {self.channels}")
        if self.raw:
            raise UserError(f"{text}: RAW files are read as they are; remove the option")

    @property
    def keeps_alpha(self) -> bool:
        """Whether an alpha channel is a band."""
        return self.bands is not None or self.channels not in (None, 1, 3)

    @property
    def num_extra(self) -> int:
        """Number of channels besides the bands: 1 with ``nodata``, otherwise 0."""
        return int(self.nodata is not None)


PLAIN = ReadOptions()
"""Grey and RGB images, as they are."""


class ImageInfo(NamedTuple):
    """Channels, size in pixels and type of an image as it is read.

    The type is "uint8", "uint16" or "float32", and with ``any_range`` also "int16".
    ``orientation`` is the tag of EXIF or TIFF, 1 to 8; 1 means that the image is stored upright.
    ``nodata`` is the value of missing pixels that a GeoTIFF states.
    """

    channels: int
    height: int
    width: int
    dtype: str
    orientation: int = 1
    nodata: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


class ImageFault(UserError):
    """The error for a file that is not a usable image; ``kind`` names the problem briefly."""

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


def check_form(path: Path, info: ImageInfo, options: ReadOptions = PLAIN) -> None:
    """Checks that a file has the bands and the type that the options ask for.

    Args:
        path: The file, for messages.
        info: Its form as stored, with all bands.
        options: How the file is read.

    Raises:
        ImageFault: if it does not.
    """
    if text := _channel_fault(info.channels, options):
        raise ImageFault(f"{path}: {text}", "wrong channels")
    wide = options.channels or options.bands or options.nodata is not None or options.any_range
    if info.dtype not in _DTYPES and not (
        (info.dtype == "float64" and wide) or (info.dtype == "int16" and options.any_range)
    ):
        advice = "convert it first"
        if info.dtype == "int16":
            advice = (
                "set white_level, the value that becomes 1, and black_level, which becomes 0 "
                "(commands metrics and prepare: --white-level, --black-level)"
            )
        raise ImageFault(
            f"{path}: {info.dtype} pixels; expected uint8, uint16, or float32 in [0, 1]; {advice}",
            "wrong depth",
        )
    if not (info.height and info.width):
        raise ImageFault(f"{path}: no pixels ({info.width}×{info.height})", "not an image")


def fits_channels(info: ImageInfo, options: ReadOptions) -> bool:
    """Returns whether an image, as it was read with some options, has the channels they ask for."""
    if options.bands is not None:
        return info.channels == len(options.bands) + options.num_extra
    return not _channel_fault(info.channels - options.num_extra, options)


def _channel_fault(found: int, options: ReadOptions) -> str:
    """Returns what is wrong with the number of channels of a file; empty if nothing is."""
    wanted = options.channels
    if options.bands is not None:
        if found >= max(options.bands):
            return ""
        text = ", ".join(map(str, options.bands))
        return f"{bands_text(found)}; bands: [{text}] needs files of {max(options.bands)} or more"
    if options.raw or wanted in (None, 3):
        if found in ((1, 3, 4) if options.raw else (1, 3)):
            return ""
        expected = "1, 3 or (packed RAW) 4"
        advice = "convert it first"
        if not options.raw:
            expected = "1 (grey) or 3 (RGB), no alpha or other bands"
            advice = f"{ADVICE}; " if found in (2, 4) else ""
            advice += f"to use all bands set channels: {found} (prepare: --channels {found})"
            if found > 3:
                advice += ", to use three of them bands: [3, 2, 1] (--bands 3 2 1)"
        return f"{found} channels; expected {expected}, {advice}"
    if found == wanted:
        return ""
    if found > wanted:
        first = ", ".join(str(number) for number in range(1, wanted + 1))
        advice = f"choose {wanted} of them, such as bands: [{first}]"
    else:
        advice = f"set channels (and num_in_ch of the network) to {found}, or use other files"
    return f"{bands_text(found)}; expected {bands_text(wanted)}: {advice}"


def bands_text(channels: int, raw: bool = False) -> str:
    """Returns a name for a number of bands: "grey", "RGB", "4 bands"; for RAW "packed RAW"."""
    if raw and channels == 4:
        return "packed RAW"
    return {1: "grey", 3: "RGB"}.get(channels, f"{channels} bands")

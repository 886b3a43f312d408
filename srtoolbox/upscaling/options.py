"""The options of ``srtoolbox upscale``, for the command, for Python and for the web page."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from srtoolbox.config.files import Tree
from srtoolbox.config.schema import check, option
from srtoolbox.engine.device import Precision
from srtoolbox.errors import UserError
from srtoolbox.media.value_range import check_value_range

Existing = Literal["skip", "overwrite", "error"]
PictureFormat = Literal["same", "png", "jpg", "webp", "tif"]
AnimationTarget = Literal["same", "gif", "webp", "apng", "mp4"]


@dataclass(frozen=True)
class UpscaleOptions:
    """Options for running networks on users' files and for writing results."""

    # Size
    outscale: float | None = option(
        None,
        exclusive_min=0,
        max=64,
        doc="Factor of the size; the network's result is resized to it by areas or by Lanczos.",
    )
    width: int | None = option(None, min=1, max=2**20, doc="Width of the result in pixels.")
    height: int | None = option(None, min=1, max=2**20, doc="Height of the result in pixels.")

    # Frames
    frames: int | None = option(
        None, min=1, max=1000, doc="Frames that a multi-frame network sees at a time."
    )
    scene_cut: float | Literal["auto", "off"] = option(
        "auto", doc="A window never crosses a cut: auto, off, or a threshold from 0 to 1."
    )
    burst: bool = option(
        False, doc="Each folder is one burst: its reference frame is restored from all frames."
    )
    reference: int = option(0, min=0, doc="Index of the frame of a burst that is restored.")

    # Run
    device: str = option("auto", doc="auto, cpu, cuda, cuda:1 or mps.")
    precision: Precision = option("auto", doc="Number format of the network.")
    tile: int | None = option(
        None, min=0, max=2**20, doc="Side of tiles in pixels; 0: whole images; auto by default."
    )
    halo: int | None = option(
        None,
        min=0,
        max=4096,
        doc="Pixels around a tile that the network sees; measured by default.",
    )
    self_ensemble: bool = option(False, doc="Average the results of eight orientations.")
    back_projection: int = option(
        0, min=0, max=1000, doc="Iterations that bring the downscaled result closer to the input."
    )
    blend: float = option(
        1.0, min=0, max=1, doc="Weight of the network; the rest is bicubic enlargement."
    )
    batch: int = option(
        1, min=1, max=1024, doc="Frames of a video that a single-image network gets at a time."
    )

    # Files
    recursive: bool = option(False, doc="Use the files in sub-folders, too.")
    keep_tree: bool = option(False, doc="Write results into the same sub-folders.")
    suffix: str | None = option(None, doc="Text after the names of results, such as _x4.")
    format: PictureFormat = option("same", doc="File format of pictures.")
    quality: int | None = option(None, min=1, max=100, doc="Quality of JPEG and WebP.")
    existing: Existing = option(
        "skip", doc="What to do where a result exists that this command did not write."
    )
    fail_fast: bool = option(False, doc="Stop at the first file that fails.")

    # Pictures
    bit_depth: Literal["same", 8, 16] = option("same", doc="Bits of a value.")
    alpha: Literal["model", "bicubic", "drop"] = option(
        "model", doc="Enlarge transparency by the network or bicubically, or leave it out."
    )
    strip_metadata: bool = option(False, doc="Leave out EXIF, XMP and texts.")
    auto_orient: bool = option(True, doc="Turn pictures as their EXIF orientation states.")

    # Animations
    anim_format: AnimationTarget = option("same", doc="File format of animations.")

    # Video
    codec: str = option("libx264", doc="Encoder: libx264, libx265, libvpx-vp9, libsvtav1, ffv1, …")
    crf: float | None = option(None, min=0, max=63, doc="Constant quality; lower is better.")
    preset: str | None = option(None, doc="The encoder's trade of time for size.")
    pix_fmt: str = option("same", doc="Pixel format of the video.")
    container: Literal["auto", "mkv", "mp4"] = option("auto", doc="File format of the video.")
    start: float | None = option(None, min=0, doc="Begin at this second of a video.")
    end: float | None = option(None, exclusive_min=0, doc="End at this second of a video.")
    segment: float = option(
        10.0, exclusive_min=0, doc="Seconds of video after which finished work is stored."
    )

    # Maps
    bands: list[int] | None = option(
        None,
        min=1,
        doc="Numbers (from 1) of the bands of a map or of an array; those of the network's "
        "training, if its weight file states them.",
    )
    value_range: str = option(
        "auto",
        doc="Values of a map that become 0 and 1: MIN,MAX, or p2-p98; MIN,MAX;MIN,MAX;… or "
        "each:p2-p98 for each band. auto: those of the network's training, if its weight file "
        "states them.",
    )
    nodata: float | Literal["keep"] = option("keep", doc="Value of missing pixels of a GeoTIFF.")
    window: int = option(512, min=16, max=2**16, doc="Side of the windows of a GeoTIFF in pixels.")
    cog: bool = option(False, doc="Write cloud-optimised GeoTIFF files.")

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults across options as (key, message)."""
        faults = []
        if self.outscale is not None and (self.width or self.height):
            faults.append(("outscale", "cannot be combined with width and height"))
        if isinstance(self.scene_cut, float) and not 0 < self.scene_cut <= 1:
            faults.append(("scene_cut", f"must be above 0 and at most 1, got {self.scene_cut}"))
        if self.start is not None and self.end is not None and self.end <= self.start:
            faults.append(("end", f"must be after start {self.start:g}, got {self.end:g}"))
        try:
            check_value_range(self.value_range)
        except UserError as error:
            faults.append(("value_range", str(error).removeprefix("value range ")))
        if self.suffix is not None and any(mark in self.suffix for mark in ("/", "\\", "\0")):
            faults.append(("suffix", "must not contain / or \\; it is a part of a file name"))
        return faults


GROUPS: dict[str, list[str]] = {
    "size": ["outscale", "width", "height"],
    "frames": ["frames", "scene_cut", "burst", "reference"],
    "run": [
        *("device", "precision", "tile", "halo", "self_ensemble", "back_projection", "blend"),
        "batch",
    ],
    "files": ["recursive", "keep_tree", "suffix", "format", "quality", "existing", "fail_fast"],
    "pictures": ["bit_depth", "alpha", "strip_metadata", "auto_orient"],
    "animations": ["anim_format"],
    "video": ["codec", "crf", "preset", "pix_fmt", "container", "start", "end", "segment"],
    "maps": ["bands", "value_range", "nodata", "window", "cog"],
}
"""Names of the options by topic, for the help of the command."""

_FIELDS = {field.name: field for field in dataclasses.fields(UpscaleOptions)}
_HINTS = typing.get_type_hints(UpscaleOptions)


def upscale_options(values: Mapping[str, Any]) -> UpscaleOptions:
    """Returns checked options; those that ``values`` lacks have their defaults.

    Raises:
        OptionErrors: for unknown names and impossible values; it names all of them.
    """
    tree = Tree()
    for name, value in values.items():
        tree.put(name, value, "upscale")
    return check(tree, UpscaleOptions)


def doc_of(name: str) -> str:
    """Returns the description of an option."""
    return _FIELDS[name].metadata["doc"]


def hint_of(name: str) -> Any:
    """Returns the type of an option."""
    return _HINTS[name]


def default_of(name: str) -> Any:
    """Returns the default of an option."""
    return _FIELDS[name].default

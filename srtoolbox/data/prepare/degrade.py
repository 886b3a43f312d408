"""Writes test sets of blind degradations: LR files that anybody can make again from their seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from srtoolbox.config.files import plain, read
from srtoolbox.config.load import check_options
from srtoolbox.config.schema import build
from srtoolbox.data.datasets.degraded import FIXED_SEED, Degrader, Spec
from srtoolbox.data.degradations.video import VideoCompression
from srtoolbox.data.files.find import Item
from srtoolbox.data.files.image_info import PLAIN, ReadOptions
from srtoolbox.data.files.levels import Levels
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.layouts import Layout
from srtoolbox.data.prepare.generate import check_card
from srtoolbox.data.prepare.make_lr import (
    DEGRADATION_CARD,
    check_others,
    lr_files,
    lr_suffix,
    write_lr,
)
from srtoolbox.errors import UserError
from srtoolbox.registry import DEGRADATION_REGISTRY
from srtoolbox.utils.console import Progress

_REVISION = 1  # raise it when the same options give other pixels
_TRAINING_ONLY = ("margin", "gt_usm")


@dataclass(frozen=True)
class DegradationFile:
    """An option file that describes the degradation of a test set.

    Attributes:
        degradation: As of the datasets.
        video_compression: As of ``Clips``.
        per_frame: As of ``Clips``.
    """

    degradation: Spec
    video_compression: VideoCompression | None = None
    per_frame: bool = False


def read_degradation(name: str) -> DegradationFile:
    """Returns the degradation with this name and its defaults, or that of an option file.

    Raises:
        UserError: if there is neither, or its options are faulty.
    """
    if name in DEGRADATION_REGISTRY:
        return DegradationFile({"type": name})
    if not Path(name).suffix:
        raise UserError(f"--degradation: {DEGRADATION_REGISTRY.explain_miss(name)}")
    return check_options(read(name), DegradationFile)


def degrade(
    layout: Layout,
    split: str,
    items: Sequence[Item],
    root: Path,
    out: Path,
    scale: int,
    options: DegradationFile,
    *,
    channels: int = 3,
    seed: int = FIXED_SEED,
    read_options: ReadOptions = PLAIN,
    levels: Levels | None = None,
    recursive: bool = False,
    progress: Progress = lambda done, total: None,
) -> int:
    """Writes the degraded LR files of a split that do not exist: PNG, or TIFF for other bands.

    The pixels are those of an evaluation dataset with the same degradation and seed. A call after
    an interruption continues; the clip that was interrupted is made again.

    Args:
        layout: Describes the places of the files.
        split: Name of the split.
        items: Items of the split with their HR files.
        root: Folder of the dataset.
        out: Folder that gets the LR files and ``DEGRADATION_CARD``.
        scale: Scale of the LR files.
        options: The degradation.
        channels: Bands of an image; grey files are repeated to three.
        seed: Selects other degradations.
        read_options: How HR files are read.
        levels: Values that become 0 and 1; None: those of the files' type.
        recursive: As of ``walk``.
        progress: Called with the number of finished items and the number of all items.

    Returns:
        The number of files written.

    Raises:
        UserError: if ``out`` has LR files of other options, or an HR file cannot be read.
        RunError: if a file cannot be written.
    """
    degradation = build("degradation", options.degradation)
    degrader = Degrader(
        degradation,
        scale,
        channels,
        seed=seed,
        video=options.video_compression,
        per_frame=options.per_frame,
    )
    levels = levels or Levels()
    reading = {
        "channels": channels,
        "bands": read_options.bands,
        "convert": read_options.convert,
        "nodata": read_options.nodata,
        "white_level": levels.white,
        "black_level": levels.black,
        "scale_floats": levels.scale_floats,
    }
    suffix = lr_suffix(channels)
    targets = lr_files(layout, split, items, root, out, scale, recursive, lambda _: suffix)
    check_others([path for path in targets.values() if not path.exists()])
    card = out / DEGRADATION_CARD
    if not card.exists() and (other := next(filter(Path.exists, targets.values()), None)):
        raise UserError(
            f"{other}: an LR file that was made otherwise; name an empty folder (--out DIR)"
        )
    check_card(card, {**_card(options, degradation, scale, seed), "reading": reading})
    written = 0
    for done, item in enumerate(items):
        progress(done, len(items))
        files = [targets[path] for path in item.gt]
        if all(path.exists() for path in files):
            continue
        first = read_image(item.gt[0], read_options)
        height, width = (side - side % scale for side in first.shape[1:])
        if not height or not width:
            raise UserError(f"{item.gt[0]}: smaller than scale {scale}")
        bands = len(first) - read_options.num_extra  # missing pixels are filled
        images = (read_image(path, read_options)[:bands] for path in item.gt)
        frames = (levels.apply(image[:, :height, :width]) for image in images)
        plan = degrader.fixed(item.key, (height, width), len(files))
        for path, image in zip(files, degrader.make(frames, plan), strict=True):
            write_lr(path, image)
        written += len(files)
    progress(len(items), len(items))
    return written


def _card(
    options: DegradationFile, degradation: Any, scale: int, seed: int
) -> Mapping[str, object]:
    """Returns all that LR depends on besides the HR files and their reading, with all defaults."""
    defaults = plain(degradation) if is_dataclass(degradation) else {}
    spec = {**defaults, **plain(options.degradation)}
    return {
        "revision": _REVISION,
        "scale": scale,
        "degradation_seed": seed,
        "degradation": {key: value for key, value in spec.items() if key not in _TRAINING_ONLY},
        "video_compression": plain(options.video_compression),
        "per_frame": options.per_frame,
    }

"""Checks all files of a dataset; datasets themselves report only the first ten faults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.config.components import parameters_of
from srtoolbox.data.datasets.reading import Reading, for_check
from srtoolbox.data.datasets.source import find_items, meta_info_path
from srtoolbox.data.files.checks import check_items
from srtoolbox.data.files.find import Fault, Item, scan_pair
from srtoolbox.data.files.image_info import PLAIN, ImageInfo, ReadOptions
from srtoolbox.data.files.reader import image_info
from srtoolbox.data.layouts import get_layout
from srtoolbox.registry import DATASET_REGISTRY
from srtoolbox.utils.console import Progress
from srtoolbox.utils.cpu import map_threads
from srtoolbox.utils.files import user_path

_ON_DISK = ("PairedImages", "Clips", "SpaceTimeClips", "Bursts", "SyntheticBursts", "SBSRBursts")


@dataclass(frozen=True)
class Examined:
    """The result of checking the files of a dataset.

    Attributes:
        items: The items that could be paired.
        faults: All faults.
        infos: The forms of the files, by path; a channel of known pixels is counted.
        gt_options: How the ground truth is read.
        lq_options: How LR is read.
    """

    items: list[Item]
    faults: list[Fault]
    infos: Mapping[Path, ImageInfo] = field(default_factory=dict)
    gt_options: ReadOptions = PLAIN
    lq_options: ReadOptions = PLAIN


def examine(
    spec: Mapping[str, Any],
    scale: int,
    training: bool,
    progress: Progress = lambda done, total: None,
    channels: int | None = None,
) -> Examined | None:
    """Decodes every file of the dataset that an option file describes.

    Args:
        spec: Options of ``datasets.train``, or of one dataset in ``datasets.val`` or
            ``datasets.test``.
        scale: Scale of the run.
        training: Whether crops are taken from the images.
        progress: Called with the number of files checked so far and the number of all files.
        channels: Channels that the network takes, if the dataset does not state them.

    Returns:
        None for a dataset that does not consist of pairs of files.

    Raises:
        UserError: if its folder, layout or split does not exist.
    """
    if spec["type"] not in _ON_DISK:
        return None
    known = parameters_of(DATASET_REGISTRY.get(spec["type"]))
    given: dict[str, Any] = {name: parameter.default for name, parameter in known.items()}
    given |= {"scale": scale, "channels": channels, **spec}
    layout, gt_size = get_layout(given["layout"]), given["gt_size"] if training else None
    if given["type"] in ("SyntheticBursts", "SBSRBursts"):
        layout = layout.without_lq()
        if given.get("resize"):
            gt_size = None  # images of any size are resized before they are cropped
    elif layout.raw and gt_size is not None:
        gt_size += given["scale"]  # keeping the Bayer pattern costs one packed pixel
    # The scale of a layout is relative to sensor pixels; a packed RAW pixel has 2 × 2 of them.
    published = given["scale"] // 2 if layout.raw else given["scale"]
    if given.get("dataroot_gt") is not None:
        lq = given["dataroot_lq"]
        root, root_lq = user_path(given["dataroot_gt"]), lq and user_path(lq)
        masks = given["dataroot_mask"] and user_path(given["dataroot_mask"])
        listing = given["meta_info_file"] and meta_info_path(given["meta_info_file"])
        how = given["filename_tmpl"], given["recursive"], masks, listing
        found = scan_pair(root, root_lq, *how)
    elif given["dataroot"] is None:
        return None  # the dataset itself reports what is missing
    else:
        lq = given.get("dataroot_lq")
        found = find_items(
            layout,
            given["dataroot"],
            given["split"],
            published,
            lq,
            given.get("recursive", False),
            given.get("meta_info_file"),
        )
    items, faults = found
    items = items[: given.get("num_image")]
    if layout.raw or given.get("pipeline") == "raw":
        given["channels"] = None  # those of the network do not matter
    gt_options, lq_options = Reading.of(given).in_layout(layout).options(layout, items)
    infos: dict[Path, ImageInfo] = {}
    faults += check_items(
        items,
        layout,
        published,
        deep=True,
        gt_size=gt_size,
        training=training,
        options=for_check(gt_options),
        lq_options=for_check(lq_options),
        known=infos,
        progress=progress,
    )
    return Examined(items, faults, infos, gt_options, replace(lq_options, raw=layout.raw))


def report_by_kind(faults: Sequence[Fault], title: str) -> str:
    """Lists all faults with their paths, grouped by kind."""
    kinds: dict[str, list[Fault]] = {}
    for fault in dict.fromkeys(faults):
        kinds.setdefault(fault.kind, []).append(fault)
    count = sum(map(len, kinds.values()))
    words = f"{count} {'fault' if count == 1 else 'faults'}"
    lines = [f"{title}: {words} of {len(kinds)} kinds" if len(kinds) > 1 else f"{title}: {words}"]
    for kind, members in kinds.items():
        lines.append(f"  {kind} ({len(members)})")
        lines += [f"    {fault.path}: {fault.text}" for fault in members]
    return "\n".join(lines)


def headers(paths: Sequence[Path], options: ReadOptions = PLAIN) -> list[ImageInfo]:
    """Reads the headers of image files.

    Raises:
        UserError: as ``image_info``.
    """
    return list(map_threads(partial(image_info, options=options), paths))


def decoded_size(infos: Sequence[ImageInfo]) -> int:
    """Returns the size of decoded images in bytes."""
    return sum(math.prod(info[:3]) * np.dtype(info.dtype).itemsize for info in infos)

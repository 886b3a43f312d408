"""Everything that is wrong with the files of a dataset, where the dataset itself names ten."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from srtoolbox.config.components import parameters_of
from srtoolbox.data.datasets.source import find_items
from srtoolbox.data.files.checks import check_items
from srtoolbox.data.files.find import Fault, Item, scan_pair
from srtoolbox.data.files.image_info import ImageInfo
from srtoolbox.data.files.reader import image_info
from srtoolbox.data.layouts import Layout, get_layout
from srtoolbox.registry import DATASET_REGISTRY
from srtoolbox.utils.console import progress_console, shows_progress
from srtoolbox.utils.cpu import map_threads

_ON_DISK = ("PairedImages", "Clips", "SpaceTimeClips", "Bursts", "SyntheticBursts")

Count = Callable[[int, int], None]


@dataclass(frozen=True)
class Examined:
    """What the files of a dataset look like.

    Attributes:
        items: Those that could be paired.
        faults: All of them.
        raw: Whether LR is packed RAW.
    """

    items: list[Item]
    faults: list[Fault]
    raw: bool = False


def examine(
    spec: Mapping[str, Any], scale: int, training: bool, progress: Count | None = None
) -> Examined | None:
    """Decodes every file of the dataset that an option file describes.

    Args:
        spec: A section ``datasets.train``, or one of ``datasets.val`` or ``datasets.test``.
        scale: That of the run.
        training: Whether crops are taken from the images.
        progress: Is told how many files are checked, of how many.

    Returns:
        None for a dataset that is not made of pairs of files.

    Raises:
        UserError: if its folder, layout or split does not exist.
    """
    if spec["type"] not in _ON_DISK:
        return None
    known = parameters_of(DATASET_REGISTRY.get(spec["type"]))
    given = {name: parameter.default for name, parameter in known.items()} | {"scale": scale}
    given |= spec
    layout, gt_size = get_layout(given["layout"]), given["gt_size"] if training else None
    if given["type"] == "SyntheticBursts":
        layout = without_lq(layout)
    elif layout.raw and gt_size is not None:
        gt_size += given["scale"]  # the packed pixel that keeping the Bayer pattern costs
    # Layouts count from the sensor's pixels, of which a packed RAW pixel holds two by two.
    published = given["scale"] // 2 if layout.raw else given["scale"]
    if given.get("dataroot_gt") is not None:
        lq = given["dataroot_lq"]
        found = scan_pair(Path(given["dataroot_gt"]), lq and Path(lq), given["filename_tmpl"])
    elif given["dataroot"] is None:
        return None  # the dataset says what it lacks
    else:
        lq = given.get("dataroot_lq")
        found = find_items(layout, given["dataroot"], given["split"], published, lq)
    items, faults = found
    faults = faults + check_items(
        items,
        scale=published,
        kind=layout.kind,
        raw=layout.raw,
        deep=True,
        gt_size=gt_size,
        progress=progress,
    )
    return Examined(items, faults, layout.raw)


def without_lq(layout: Layout) -> Layout:
    """The layout as if no LR files belonged to it."""
    splits = {
        name: tuple(replace(one, lq=None) for one in alternatives if one.gt is not None)
        for name, alternatives in layout.splits.items()
    }
    return replace(layout, splits=splits)


def report_by_kind(faults: Sequence[Fault], title: str) -> str:
    """All faults, each with its path, those of one kind together."""
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


def headers(paths: Sequence[Path], raw: bool = False) -> list[ImageInfo]:
    """What the headers of image files say."""
    return list(map_threads(partial(image_info, raw=raw), paths))


def decoded_size(infos: Sequence[ImageInfo]) -> int:
    """Bytes that images take when they are decoded."""
    return sum(math.prod(info[:3]) * np.dtype(info.dtype).itemsize for info in infos)


@contextmanager
def counting(title: str) -> Iterator[Count]:
    """A progress bar; what it gives is to be told what is done and of how much."""
    columns = TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn()
    with Progress(
        *(*columns, TimeRemainingColumn()),
        console=progress_console(),
        disable=not shows_progress(),
        transient=True,
    ) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

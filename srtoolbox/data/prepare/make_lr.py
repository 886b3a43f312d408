"""Writing the LR files of a dataset that has HR files only, by the rule of its publishers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from srtoolbox.data.files.find import Item
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.files.walk import fill, split_fixed, walk
from srtoolbox.data.layouts.base import Files, Layout
from srtoolbox.data.prepare.examine import Count
from srtoolbox.data.resize.array import imresize_window
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.cpu import map_threads


def make_lr(
    layout: Layout,
    split: str,
    items: Sequence[Item],
    root: Path,
    out: Path,
    scale: int,
    progress: Count | None = None,
) -> int:
    """Writes an LR file for every HR file that has none, as PNG.

    Pixels are those that a dataset makes when it has no LR files. Each file appears when it is
    complete; files that are there are not touched, so that a call after an interruption goes on.

    Args:
        layout: How the files lie, and by which rule LR is made.
        split: Part of the dataset.
        items: Its HR files.
        root: Folder of the dataset.
        out: Folder below which the LR files are written, where the layout expects them.
        scale: Their factor.
        progress: Is told how many files are there, of how many.

    Returns:
        How many files were written.

    Raises:
        UserError: if the layout has no place for them, or an HR file cannot be read.
        RunError: if one cannot be written.
    """
    targets = _targets(layout, split, items, root, out, scale)
    missing = [(gt, lq) for gt, lq in targets.items() if not lq.exists()]
    done = len(targets) - len(missing)
    for count, _ in enumerate(map_threads(lambda pair: _make(*pair, layout, scale), missing), 1):
        if progress is not None:
            progress(done + count, len(targets))
    return len(missing)


def _targets(
    layout: Layout, split: str, items: Sequence[Item], root: Path, out: Path, scale: int
) -> dict[Path, Path]:
    """The LR file that belongs to each HR file."""
    files = [path for item in items for path in item.gt]
    keys = [item.key for item in items]
    places: list[tuple[Files, dict[str, tuple[str, str]]]] = []
    apart = root.resolve() != out.resolve()
    splits = [one for one in layout.splits[split] if one.gt is not None]
    if apart:  # elsewhere LR files may also lie as the HR files do
        splits += [replace(one, lq=one.gt) for one in splits]
    for one in splits:
        if one.lq is None or "{any}" in str(one.lq):
            continue
        found = {
            path: (key, frame) for key, frame, path in walk(one.gt, root, scale, [], keys=keys)
        }
        if all(str(path) in found for path in files):
            places.append((one.lq, found))
    if not places:
        raise UserError(
            f"{root}: layout '{layout.name}' has no place for LR files beside HR files that lie "
            "like these; give another folder for them (--out DIR), or leave --make-lr out: they "
            "are then made whenever they are read"
        )
    # A folder that is there was filled before, by us or by others.
    lq, found = next(
        (place for place in places if (out / split_fixed(place[0], scale)[0]).is_dir()), places[0]
    )
    named = {path: fill(lq, scale, *found[str(path)]) for path in files}
    return {path: out / f"{name.removesuffix('.*')}.png" for path, name in named.items()}


def _make(gt: Path, lq: Path, layout: Layout, scale: int) -> None:
    image = read_image(gt)
    if image.dtype.kind != "u":
        raise UserError(
            f"{gt}: {image.dtype} pixels, but LR files are made of 8 and 16 bits; leave --make-lr "
            "out: LR is then made whenever it is read"
        )
    height, width = (side // scale for side in image.shape[1:])
    small = imresize_window(
        image[:, : height * scale, : width * scale],
        1 / scale,
        (0, 0, height, width),
        edge=layout.edge,
        round_between_passes=layout.round_between_passes,
    )
    _, content = cv2.imencode(".png", np.ascontiguousarray(small[::-1].transpose(1, 2, 0)))
    _write(lq, content.tobytes())


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all. (A hidden file is none of the dataset's.)"""
    work = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with work.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)
    except OSError as error:
        work.unlink(missing_ok=True)
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); the LR files that are whole stay; run "
            "the same again when that is put right"
        ) from error

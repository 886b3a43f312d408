"""Writes the LR files of a dataset that has only HR files, by the rule of its publishers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from srtoolbox.data.files.find import Item
from srtoolbox.data.files.image_info import PLAIN, ReadOptions
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.files.walk import fill, split_fixed, walk
from srtoolbox.data.layouts.base import Layout
from srtoolbox.data.prepare.generate import plain_tiff
from srtoolbox.data.resize.array import imresize_window
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import Progress
from srtoolbox.utils.cpu import map_threads
from srtoolbox.utils.files import write_atomic


def make_lr(
    layout: Layout,
    split: str,
    items: Sequence[Item],
    root: Path,
    out: Path,
    scale: int,
    progress: Progress = lambda done, total: None,
    *,
    options: ReadOptions = PLAIN,
    recursive: bool = False,
) -> int:
    """Writes an LR file for every HR file that has none: PNG, or TIFF for 2, 4 or more bands.

    The pixels are the same as those that a dataset makes when it has no LR files. Each file appears
    when it is complete. Existing files are not changed, so a call after an interruption continues.

    Args:
        layout: Describes the places of the files and the rule for making LR.
        split: Name of the split.
        items: Items of the split with their HR files.
        root: Folder of the dataset.
        out: Folder that gets the LR files, in the folders of the layout.
        scale: Scale of the LR files.
        progress: Called with the number of existing LR files and the number of all LR files.
        options: How HR files are read.
        recursive: As of ``walk``.

    Returns:
        The number of files written.

    Raises:
        UserError: if the layout has no place for LR files, or an HR file cannot be read.
        RunError: if a file cannot be written.
    """
    count = len(options.bands or ()) or options.channels or 3
    suffix = ".png" if count in (1, 3) else ".tif"
    targets = lr_files(layout, split, items, root, out, scale, recursive, suffix)
    missing = [(gt, lq) for gt, lq in targets.items() if not lq.exists()]
    done = len(targets) - len(missing)
    made = map_threads(lambda pair: _make(*pair, layout, scale, options), missing)
    for count, _ in enumerate(made, 1):
        progress(done + count, len(targets))
    return len(missing)


def lr_files(
    layout: Layout,
    split: str,
    items: Sequence[Item],
    root: Path,
    out: Path,
    scale: int,
    recursive: bool,
    suffix: str,
) -> dict[Path, Path]:
    """Returns the path of the LR file of each HR file; the arguments are those of ``make_lr``.

    Raises:
        UserError: if the layout has no place for LR files.
    """
    files = [path for item in items for path in item.gt]
    keys = [item.key for item in items]
    places: list[tuple[str, dict[str, tuple[str, str]]]] = []
    templates = [(found.gt, found.lq) for found in layout.splits[split] if found.gt is not None]
    if root.resolve() != out.resolve():  # another folder may have the arrangement of the HR files
        templates += [(gt, gt) for gt, _ in templates]
    for gt, lq in templates:
        if lq is None or "{any}" in lq:
            continue
        files_of = walk(gt, root, scale, [], keys=keys, recursive=recursive)
        found = {path: (key, frame) for key, frame, path in files_of}
        if all(str(path) in found for path in files):
            places.append((lq, found))
    if not places:
        raise UserError(
            f"{root}: layout '{layout.name}' has no place for LR files in this arrangement of HR "
            "files; name another folder for them (--out DIR), or remove --make-lr: LR is then made "
            "whenever it is read"
        )
    # Prefer a folder that exists: it may contain LR files already.
    lq, found = next(
        (place for place in places if (out / split_fixed(place[0], scale)[0]).is_dir()), places[0]
    )
    named = {path: fill(lq, scale, *found[str(path)]) for path in files}
    return {path: out / f"{name.removesuffix('.*')}{suffix}" for path, name in named.items()}


def _make(gt: Path, lq: Path, layout: Layout, scale: int, options: ReadOptions) -> None:
    image = read_image(gt, options)
    image = image[: len(image) - options.num_extra]  # missing pixels are filled
    if image.dtype.kind != "u":
        raise UserError(
            f"{gt}: {image.dtype} pixels; --make-lr writes LR files of uint8 and uint16 only: "
            "convert the files to uint16, or remove --make-lr: LR is then made whenever it is read"
        )
    height, width = (side // scale for side in image.shape[1:])
    small = imresize_window(
        image[:, : height * scale, : width * scale],
        1 / scale,
        (0, 0, height, width),
        edge=layout.edge,
        round_between_passes=layout.round_between_passes,
    )
    write_lr(lq, small)


def write_lr(path: Path, image: np.ndarray) -> None:
    """Writes an LR image (C, h, w) as PNG or, by its suffix, as TIFF.

    Raises:
        RunError: if it cannot be written.
    """
    if path.suffix == ".png":
        pixels = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))
        content = cv2.imencode(".png", pixels)[1].tobytes()
    else:
        content = plain_tiff(image)
    try:
        write_atomic(path, content)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); the finished LR files stay; fix this "
            "and run the same command again"
        ) from error

"""Writes the LR files of a dataset that has only HR files, by the rule of its publishers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from srtoolbox.data.files.find import Item
from srtoolbox.data.files.image_info import PLAIN, ReadOptions
from srtoolbox.data.files.reader import IMAGE_SUFFIXES, open_file, read_image
from srtoolbox.data.files.walk import fill, split_fixed, walk
from srtoolbox.data.layouts.base import Layout
from srtoolbox.data.prepare.generate import plain_tiff
from srtoolbox.data.resize.array import imresize_window
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import Progress
from srtoolbox.utils.cpu import map_threads
from srtoolbox.utils.files import write_atomic

CARD = "make_lr.json"
"""File in the folder of the LR files with the options that their pixels depend on."""
DEGRADATION_CARD = "degradation.json"
"""As ``CARD``, for LR files of a random degradation."""


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

    The pixels are the same as those that a dataset makes when it has no LR files. A file has all
    bands of its HR file, whatever ``bands`` of the options selects, so that a dataset with the same
    options reads the same bands of both. Each file appears when it is complete. Existing files are
    not changed, so a call after an interruption continues.

    Args:
        layout: Describes the places of the files and the rule for making LR.
        split: Name of the split.
        items: Items of the split with their HR files.
        root: Folder of the dataset.
        out: Folder that gets the LR files, in the folders of the layout, and ``CARD``.
        scale: Scale of the LR files.
        progress: Called with the number of existing LR files and the number of all LR files.
        options: How HR files are read.
        recursive: As of ``walk``.

    Returns:
        The number of files written.

    Raises:
        UserError: if the layout has no place for LR files, the folder has LR files that were made
            with other options, or an HR file cannot be read.
        RunError: if a file cannot be written.
    """

    @cache
    def reading(path: Path) -> ReadOptions:
        return _all_bands(path, options)

    def suffix(path: Path) -> str:
        return lr_suffix(reading(path).channels or 3)

    targets = lr_files(layout, split, items, root, out, scale, recursive, suffix)
    missing = [(gt, lq) for gt, lq in targets.items() if not lq.exists()]
    check_others([lq for _, lq in missing])
    nodata = options.nodata if isinstance(options.nodata, (int, float)) else None
    rules = {
        "nodata": nodata,
        "edge": layout.edge,
        "round_between_passes": layout.round_between_passes,
    }
    _check_card(out, f"{split} x{scale}", rules, len(targets) - len(missing), bool(missing))
    done = len(targets) - len(missing)
    made = map_threads(lambda pair: _make(*pair, layout, scale, reading(pair[0])), missing)
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
    suffix: Callable[[Path], str],
) -> dict[Path, Path]:
    """Returns the path of the LR file of each HR file; the arguments are those of ``make_lr``.

    ``suffix`` returns the suffix of the LR file of an HR file.

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
    return {path: out / f"{name.removesuffix('.*')}{suffix(path)}" for path, name in named.items()}


def lr_suffix(count: int) -> str:
    """Returns the suffix of an LR file with so many bands."""
    return ".png" if count in (1, 3) else ".tif"


def _all_bands(path: Path, options: ReadOptions) -> ReadOptions:
    """Returns how all bands of an HR file are read."""
    if options.bands is None:
        return options
    return replace(options, bands=None, channels=open_file(path, options).stored.channels)


def check_others(files: Sequence[Path]) -> None:
    """Raises a UserError if an LR file to write exists with another suffix."""
    found: dict[Path, dict[str, str]] = {}
    for path in files:
        folder = path.parent
        if folder not in found:
            present = folder.iterdir() if folder.is_dir() else ()
            images = (file for file in present if file.suffix.lower() in IMAGE_SUFFIXES)
            found[folder] = {file.stem: file.name for file in images}
        if other := found[folder].get(path.stem):
            raise UserError(
                f"{folder / other}: an LR file that was not made with these options, which give "
                f"{path.name}; remove the LR files to make them again, or name another folder "
                "(--out DIR)"
            )


def _check_card(
    out: Path, part: str, rules: Mapping[str, object], count: int, writes: bool
) -> None:
    """Compares the options with those that existing LR files were made with; notes new ones.

    Args:
        out: Folder of the LR files.
        part: Split and scale.
        rules: What the pixels depend on besides the HR files.
        count: Number of existing LR files.
        writes: Whether LR files will be written.

    Raises:
        UserError: if the options differ.
        RunError: if the card cannot be written.
    """
    if (out / DEGRADATION_CARD).exists():
        raise UserError(
            f"{out}: has LR files of a random degradation, see {DEGRADATION_CARD}; name another "
            "folder (--out DIR)"
        )
    path = out / CARD
    known: dict[str, Any] = {}
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it") from error
    if not isinstance(known, dict):
        raise UserError(f"{path}: does not list options by split; remove it")
    if count and known.get(part, rules) != rules:
        raise UserError(
            f"{out}: the LR files of {part} were made with other options, see {CARD}; remove them "
            "to make them again, or name another folder (--out DIR)"
        )
    if writes and known.get(part) != rules:
        _write(path, json.dumps({**known, part: rules}, indent=2) + "\n")


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
    _write(path, content)


def _write(path: Path, content: bytes | str) -> None:
    try:
        write_atomic(path, content)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); the finished LR files stay; fix this "
            "and run the same command again"
        ) from error

"""Generates datasets from images; each item is written completely or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from srtoolbox.errors import UserError
from srtoolbox.utils.console import Progress
from srtoolbox.utils.files import locked, write_atomic, write_synced

_UNFINISHED = ".unfinished"
_NODATA_TAG = 42113  # of GDAL


def generate(
    images: Sequence[Path],
    out: Path,
    card: str,
    options: Mapping[str, object],
    last: str,
    make: Callable[[str, Path], dict[str, bytes]],
    progress: Progress = lambda done, total: None,
    suffix: str = "",
) -> int:
    """Makes an item from each image, unless it exists.

    An item appears in ``out`` when it is complete. After an interruption, the same call makes the
    missing items; the files are the same as without the interruption.

    Args:
        images: Images with different stems, which become the names of the items.
        out: Folder for the dataset.
        card: Name of the file in ``out`` that contains ``options``.
        options: Everything that items depend on besides their images; must be valid JSON.
        last: Folder of the dataset in which an item appears last.
        make: Returns the content of an item's files, given its name and image, by their paths in
            ``out``. The paths begin with FOLDER/ITEM; those in ``last`` must come last.
        progress: Called with the number of finished items and the number of all items.
        suffix: Suffix of the item in ``last``, if it is a file instead of a folder.

    Returns:
        The number of items made, without those that existed.

    Raises:
        UserError: if there are no images, two have the same stem, ``out`` contains a dataset made
            with other options, or another process uses it.
    """
    sources: dict[str, Path] = {}
    for path in images:
        if (twin := sources.setdefault(path.stem, path)) is not path:
            raise UserError(
                f"{twin} and {path} share a stem, which names the generated files; rename one"
            )
    if not sources:
        raise UserError("no images to generate a dataset from")
    made = 0
    with locked(out):  # another process would remove an item that is not yet complete
        check_card(out / card, options)
        for done, (key, path) in enumerate(sources.items()):
            progress(done, len(sources))
            if not (out / last / f"{key}{suffix}").exists():
                _write_item(out, make(key, path))
                made += 1
        shutil.rmtree(out / _UNFINISHED, ignore_errors=True)
    progress(len(sources), len(sources))
    return made


def png(image: np.ndarray) -> bytes:
    """Encodes an RGB image (3, H, W), uint8, as PNG."""
    return encoded(image.transpose(1, 2, 0), "png")


def encoded(image: np.ndarray, form: str) -> bytes:
    """Encodes an RGB image (H, W, 3), uint8, in a format of Pillow: "png" or "bmp"."""
    content = BytesIO()
    Image.fromarray(image).save(content, form)
    return content.getvalue()


def plain_tiff(image: np.ndarray, nodata: float | None = None) -> bytes:
    """Encodes an image of any number of bands (C, H, W) as TIFF without a place on a map.

    Args:
        image: uint8, uint16 or float32; the bands have no colours.
        nodata: Value of missing pixels, stored as GDAL does.
    """
    import tifffile  # slow to import

    content = BytesIO()
    is_plane = len(image) == 1
    tifffile.imwrite(
        content,
        image[0] if is_plane else np.ascontiguousarray(image.transpose(1, 2, 0)),
        photometric="minisblack",
        planarconfig=None if is_plane else "contig",
        extratags=[] if nodata is None else [(_NODATA_TAG, "s", 0, f"{nodata:g}", True)],
        metadata=None,
    )
    return content.getvalue()


def npy(array: np.ndarray) -> bytes:
    """Encodes an array as NPY."""
    content = BytesIO()
    np.save(content, array)
    return content.getvalue()


def _write_item(out: Path, files: Mapping[str, bytes]) -> None:
    work = out / _UNFINISHED
    shutil.rmtree(work, ignore_errors=True)
    for name, content in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        write_synced(work / name, content)
    for part in dict.fromkeys("/".join(name.split("/")[:2]) for name in files):
        (out / part).parent.mkdir(parents=True, exist_ok=True)
        if (out / part).is_dir():  # from a run that was interrupted in this loop
            shutil.rmtree(out / part)
        (work / part).replace(out / part)


def check_card(path: Path, options: Mapping[str, object]) -> None:
    """Writes the options of a new dataset, or compares them with those of an existing one.

    Raises:
        UserError: if they differ.
    """
    text = json.dumps(options, indent=2) + "\n"
    if not path.exists():
        write_atomic(path, text)
    elif path.read_text() != text:
        raise UserError(f"{path.parent} holds a set made with other options; see {path}")

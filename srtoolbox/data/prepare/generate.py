"""Sets of files that are made from images, an item from each, complete or not there at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from srtoolbox.data.prepare.examine import Count
from srtoolbox.errors import UserError

_WORK = ".unfinished"


def generate(
    images: Sequence[Path],
    out: Path,
    card: str,
    options: Mapping[str, object],
    last: str,
    make: Callable[[str, Path], dict[str, bytes]],
    progress: Count | None = None,
) -> int:
    """Makes an item of each image, unless it is there.

    An item appears in ``out`` when it is complete. Called again after it was stopped, the function
    makes the items that are missing; the files are those of a run that was not stopped.

    Args:
        images: Told apart by their stems, which name the items.
        out: Folder for the set.
        card: Name of the file in it that says with which ``options`` the set was made.
        options: What items depend on besides their images; can be written as JSON.
        last: Folder of the set in which an item appears last.
        make: Gives the content of an item's files, by their paths in ``out``, which begin with
            FOLDER/ITEM; those in ``last`` come last.
        progress: Called with the number of items that are done and of all.

    Returns:
        How many items were made; those that were there are not counted.

    Raises:
        UserError: for no images, two of one stem, and a folder that holds a set made with other
            options.
    """
    sources: dict[str, Path] = {}
    for path in images:
        if (twin := sources.setdefault(path.stem, path)) is not path:
            raise UserError(
                f"{twin} and {path} share a stem, which is to name what is made of them"
            )
    if not sources:
        raise UserError("no images to make anything of")
    _agree(out / card, options)
    made = 0
    for done, (key, path) in enumerate(sources.items()):
        if progress is not None:
            progress(done, len(sources))
        if not (out / last / key).exists():
            _put(out, make(key, path))
            made += 1
    shutil.rmtree(out / _WORK, ignore_errors=True)
    if progress is not None:
        progress(len(sources), len(sources))
    return made


def png(image: np.ndarray) -> bytes:
    """An RGB image (3, H, W), uint8, as the content of a file."""
    content = BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(content, "png")
    return content.getvalue()


def npy(array: np.ndarray) -> bytes:
    """An array as the content of a file."""
    content = BytesIO()
    np.save(content, array)
    return content.getvalue()


def _put(out: Path, files: Mapping[str, bytes]) -> None:
    work = out / _WORK
    shutil.rmtree(work, ignore_errors=True)
    for name, content in files.items():
        _write(work / name, content)
    for part in dict.fromkeys("/".join(name.split("/")[:2]) for name in files):
        (out / part).parent.mkdir(parents=True, exist_ok=True)
        if (out / part).is_dir():  # of a run that was stopped between two of these
            shutil.rmtree(out / part)
        (work / part).replace(out / part)


def _agree(path: Path, options: Mapping[str, object]) -> None:
    """Writes down the options of a new set, or compares them with those of one that is there."""
    text = json.dumps(options, indent=2) + "\n"
    if not path.exists():
        _write(path.with_suffix(".tmp"), text.encode())
        path.with_suffix(".tmp").replace(path)
    elif path.read_text() != text:
        raise UserError(f"{path.parent} holds a set made with other options; see {path}")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

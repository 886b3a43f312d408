"""Writes a set of synthetic RGB bursts to disk, in the layout ``sbsr``.

::

    HR/<id>/<id>_x4.png           the image, cut to a multiple of the scale
    LR/<id>/<id>_x1_00.png …      its frames, 00 the reference
    motion/<id>.npy               (T, 2, 3): the true motion of each frame (see ``degradations``)
    sbsr.json                     the options

A burst depends on its image's pixels and name, the seed and the options, and on nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from srtoolbox.data.degradations import RgbPipeline
from srtoolbox.data.reader import read_image
from srtoolbox.data.synthetic import fixed_burst, fixed_rng
from srtoolbox.errors import UserError

_WORK = ".unfinished"


def generate_sbsr(
    images: Sequence[Path],
    out: Path,
    *,
    scale: int = 4,
    num_frame: int = 14,
    seed: int = 0,
    max_shift: float = 6.0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Makes one burst of each image.

    A burst appears in ``out`` when it is complete. Called again after it was stopped, the function
    makes the bursts that are missing; the files are those of a run that was not stopped.

    Args:
        images: 8-bit images, told apart by their stems.
        out: Folder for the set.
        scale: Reduction from an image to a frame.
        num_frame: Frames in a burst.
        seed: Another seed gives other bursts of the same images.
        max_shift: Largest shift along each axis, in HR pixels: 6 is usual, 24 hard.
        progress: Called with the number of bursts that are done and of all.

    Returns:
        How many bursts were made; those that were there are not counted.

    Raises:
        UserError: for two images of one stem, an image that is unreadable, not 8 bits deep or
            smaller than the scale, and a folder that holds a set made with other options.
    """
    pipeline = RgbPipeline(scale=scale, num_frame=num_frame, max_shift=max_shift)
    sources: dict[str, Path] = {}
    for path in images:
        if (twin := sources.setdefault(path.stem, path)) is not path:
            raise UserError(f"{twin} and {path} share a stem, which is to name their bursts")
    if not sources:
        raise UserError("no images to make bursts of")
    _agree(out / "sbsr.json", {"seed": seed, **asdict(pipeline)})
    made = 0
    for done, (key, path) in enumerate(sources.items()):
        if progress is not None:
            progress(done, len(sources))
        if not (out / "LR" / key).is_dir():
            _make(key, path, out, pipeline, seed)
            made += 1
    shutil.rmtree(out / _WORK, ignore_errors=True)
    if progress is not None:
        progress(len(sources), len(sources))
    return made


def _make(key: str, path: Path, out: Path, pipeline: RgbPipeline, seed: int) -> None:
    image = read_image(path)
    if image.dtype != np.uint8:
        raise UserError(f"{path}: {image.dtype} pixels; bursts are made of 8-bit images")
    burst = fixed_burst(image, key, pipeline, seed)
    work = out / _WORK
    shutil.rmtree(work, ignore_errors=True)
    for t, frame in enumerate(burst["lq"]):
        _write(work / "LR" / key / f"{key}_x1_{t:02d}.png", _png(frame))
    _write(work / "HR" / key / f"{key}_x{pipeline.scale}.png", _png(burst["gt"]))
    motion = BytesIO()
    np.save(motion, pipeline.draw(fixed_rng(key, seed))["motion"])
    _write(work / "motion" / f"{key}.npy", motion.getvalue())
    # The frames come last: where they are, the burst is complete.
    for part in (f"motion/{key}.npy", f"HR/{key}", f"LR/{key}"):
        (out / part).parent.mkdir(parents=True, exist_ok=True)
        if (out / part).is_dir():  # of a run that was stopped between two of these
            shutil.rmtree(out / part)
        (work / part).replace(out / part)


def _agree(path: Path, options: dict[str, object]) -> None:
    """Writes down the options of a new set, or compares them with those of one that is there."""
    text = json.dumps(options, indent=2) + "\n"
    if not path.exists():
        _write(path.with_suffix(".tmp"), text.encode())
        path.with_suffix(".tmp").replace(path)
    elif path.read_text() != text:
        raise UserError(f"{path.parent} holds bursts made with other options; see {path}")


def _png(image: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(content, "png")
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

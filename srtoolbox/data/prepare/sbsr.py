"""Generates synthetic RGB bursts from photographs, in the layout ``sbsr``.

::

    HR/<id>/<id>_x4.png           the image, cut to a multiple of the scale
    LR/<id>/<id>_x1_00.png …      its frames, 00 the reference
    motion/<id>.npy               (T, 2, 3): the true motion of each frame (see ``degradations``)
    sbsr.json                     the options

A burst depends only on the pixels and name of its image, the seed and the options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from srtoolbox.data.datasets.synthetic_bursts import fixed_burst, fixed_rng
from srtoolbox.data.degradations.rgb import RgbPipeline
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.prepare.generate import generate, npy, png
from srtoolbox.errors import UserError
from srtoolbox.utils.console import Progress

# These options have no effect here; with them, older datasets could not be continued.
_NOT_WRITTEN = ("num_object", "object_shift", "channels", "bit_depth", "band_shift")


def generate_sbsr(
    images: Sequence[Path],
    out: Path,
    *,
    scale: int = 4,
    num_frame: int = 14,
    seed: int = 0,
    max_shift: float = 6.0,
    progress: Progress = lambda done, total: None,
) -> int:
    """Makes one burst from each image; continues after an interruption (see ``generate``).

    Args:
        images: 8-bit images with different stems.
        out: Folder for the dataset.
        scale: Size of an image divided by that of a frame.
        num_frame: Number of frames in a burst.
        seed: Another seed gives other bursts of the same images.
        max_shift: Largest shift along each axis, in HR pixels: 6 is usual, 24 is hard.
        progress: Called with the number of finished bursts and the number of all bursts.

    Returns:
        The number of bursts made, without those that existed.

    Raises:
        UserError: if two images have the same stem; if an image is unreadable, does not have 8
            bits, or is smaller than the scale; if ``out`` contains a dataset made with other
            options.
    """
    pipeline = RgbPipeline(scale=scale, num_frame=num_frame, max_shift=max_shift)

    def make(key: str, path: Path) -> dict[str, bytes]:
        image = read_image(path)
        if image.dtype != np.uint8:
            raise UserError(f"{path}: {image.dtype} pixels; bursts are made only from 8-bit images")
        burst = fixed_burst(image, key, pipeline, seed)
        motion = pipeline.draw(fixed_rng(key, seed))["motion"]
        files = {f"motion/{key}.npy": npy(motion), f"HR/{key}/{key}_x{scale}.png": png(burst["gt"])}
        for t, frame in enumerate(burst["lq"]):
            files[f"LR/{key}/{key}_x1_{t:02d}.png"] = png(frame)
        return files

    options = {name: value for name, value in asdict(pipeline).items() if name not in _NOT_WRITTEN}
    return generate(images, out, "sbsr.json", {"seed": seed, **options}, "LR", make, progress)

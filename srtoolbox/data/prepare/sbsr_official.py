"""Generates SBSR bursts by the rules of the authors of DSTC-SRNet, in the layout ``sbsr_official``.

::

    gt/<id>.bmp                      the image, 384×384
    lr/<id>/lr_frame_00.bmp …        its frames, 00 the reference
    lr/<id>/motion_vectors.txt       a line for each frame: its number, and its translation along x
                                     and y in LR pixels (without zoom, rotation and shear)
    lr/<id>/hr_motion_vectors.txt    the same in HR pixels
    sbsr_official.json               the options

The form of the two text files is ours; nothing reads them. A burst depends only on the pixels and
name of its image, the seed and the options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from srtoolbox.data.datasets.sbsr_bursts import burst_image
from srtoolbox.data.datasets.synthetic_bursts import fixed_rng
from srtoolbox.data.degradations.sbsr import SBSRPipeline
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.prepare.generate import encoded, generate
from srtoolbox.errors import UserError
from srtoolbox.utils.console import Progress

_SIDE = 384  # of the authors' HR images


def generate_sbsr_official(
    images: Sequence[Path],
    out: Path,
    *,
    scale: int = 4,
    num_frame: int = 16,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> int:
    """Makes one burst from each image; continues after an interruption (see ``generate``).

    Images of other sizes are resized to 384×384 by area averaging, as the authors do. The bursts
    equal those of ``SBSRBursts`` with ``image_size: 384`` and ``resize: true``.

    Args:
        images: 8-bit images with different stems; a stem has no hyphen, because the name of a burst
            ends there.
        out: Folder for the dataset.
        scale: Size of an image divided by that of a frame; the authors' settings are those of 8.
        num_frame: Number of frames in a burst.
        seed: Another seed gives other bursts of the same images.
        progress: Called with the number of finished bursts and the number of all bursts.

    Returns:
        The number of bursts made, without those that existed.

    Raises:
        UserError: if two images have the same stem, or a stem has a hyphen; if an image is
            unreadable or does not have 8 bits; if 384 is not a multiple of the scale; if ``out``
            contains a dataset made with other options.
    """
    pipeline = SBSRPipeline(scale, num_frame)
    if _SIDE % scale:
        raise UserError(f"sbsr_official: {_SIDE} is not a multiple of scale {scale}")
    for path in images:
        if "-" in path.stem:
            raise UserError(
                f"{path}: the name of a burst ends at the first hyphen; rename the file without '-'"
            )

    def make(key: str, path: Path) -> dict[str, bytes]:
        image = read_image(path)
        if image.dtype != np.uint8:
            raise UserError(f"{path}: {image.dtype} pixels; bursts are made only from 8-bit images")
        image = burst_image(image, scale, _SIDE, resize=True)
        draws = pipeline.draw(fixed_rng(key, seed))
        files = {f"gt/{key}.bmp": encoded(image, "bmp")}
        for name, unit in (("motion_vectors", scale), ("hr_motion_vectors", 1)):
            moves = draws.motion[:, :2] / unit
            lines = [f"{t} {x:.6f} {y:.6f}\n" for t, (x, y) in enumerate(moves)]
            files[f"lr/{key}/{name}.txt"] = "".join(lines).encode()
        for t, frame in enumerate(pipeline.make(image, draws)):
            files[f"lr/{key}/lr_frame_{t:02d}.bmp"] = encoded(frame, "bmp")
        return files

    options = {"seed": seed, **asdict(pipeline)}
    return generate(images, out, "sbsr_official.json", options, "lr", make, progress)

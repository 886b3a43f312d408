"""Makes PNG files for measuring data loading, from the photographs of scikit-image.

A photograph is extended by reflection to the requested size, cropped at a random position and given
noise with a standard deviation of two 8-bit levels, so that a file has about the size and decoding
time of a file of a real dataset. The same options give the same files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from srtoolbox.config.schema import option
from srtoolbox.data import Bursts, Clips, PairedImages
from srtoolbox.data.datasets.sample_bursts import PHOTOGRAPHS
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.resize.array import imresize

Data = Literal["images", "clips", "bursts"]

_MOTION = 8  # largest shift of a frame along each axis, in HR pixels
_NOISE = 2.0  # standard deviation, in 8-bit levels


@dataclass(frozen=True)
class Pictures:
    """The files to make."""

    size: tuple[int, int] = option(min=8, doc="Height and width of the HR pictures.")
    count: int = option(default=8, min=1, doc="Images, clips or bursts.")
    num_frame: int = option(default=1, min=1, doc="Frames of a sample; clips have twice as many.")


def write_pictures(root: Path, data: Data, pictures: Pictures, scale: int) -> None:
    """Writes HR files into ``root/GT`` and LR files into ``root/LR``."""
    length = {"images": 1, "clips": 2 * pictures.num_frame, "bursts": pictures.num_frame}[data]
    for number in range(pictures.count):
        for t, frame in enumerate(_views(number, length, *pictures.size, scale)):
            name = f"{number:04d}" if data == "images" else f"{number:04d}/{t:04d}"
            if t == 0 or data != "bursts":
                _write(root / "GT" / f"{name}.png", frame)
            _write(root / "LR" / f"{name}.png", imresize(frame, 1 / scale))


def write_tiles(root: Path, pictures: Path, data: Data, tile: int, scale: int) -> None:
    """Cuts the files of ``write_pictures`` into squares of ``tile`` HR pixels (sub-images)."""
    for folder, side in (("GT", tile), ("LR", tile // scale)):
        for path in sorted((pictures / folder).rglob("*.png")):
            image = read_image(path).transpose(1, 2, 0)
            rows, columns = (max(1, length // side) for length in image.shape[:2])
            item = path.with_suffix("") if data == "images" else path.parent
            for number in range(rows * columns):
                y, x = (side * index for index in divmod(number, columns))
                name = root / folder / f"{item.name}_s{number:03d}"
                name = name.with_suffix(".png") if data == "images" else name / path.name
                _write(name, image[y : y + side, x : x + side])


def open_pictures(
    root: Path, data: Data, pictures: Pictures, scale: int, gt_size: int, cache: Path | None
) -> Any:
    """Opens the files under ``root`` as a training dataset.

    Raises:
        UserError: if the files are smaller than the crops.
    """
    common = {"scale": scale, "gt_size": gt_size, "cache": cache and str(cache)}
    if data == "images":
        dataset: Any = PairedImages(
            dataroot_gt=str(root / "GT"), dataroot_lq=str(root / "LR"), **common
        )
    else:
        kind = Clips if data == "clips" else Bursts
        dataset = kind(dataroot=str(root), num_frame=pictures.num_frame, **common)
    dataset.check_training()
    return dataset


def _views(number: int, length: int, height: int, width: int, scale: int) -> Iterator[np.ndarray]:
    """Yields noisy views (H, W, 3) of one scene, uint8, each slightly shifted."""
    import skimage

    rng = np.random.default_rng(number)
    height, width = height - height % scale, width - width % scale
    names = PHOTOGRAPHS["train"]
    photograph = read_image(Path(skimage.__file__).parent / "data" / names[number % len(names)])
    photograph = photograph.transpose(1, 2, 0)
    wanted = height + 2 * _MOTION, width + 2 * _MOTION
    grow = [(0, max(0, a - b)) for a, b in zip(wanted, photograph.shape[:2], strict=True)]
    scene = np.pad(photograph, [*grow, (0, 0)], mode="symmetric")
    top, left = (rng.integers(a - b + 1) for a, b in zip(scene.shape[:2], wanted, strict=True))
    for _ in range(length):
        y, x = top + rng.integers(2 * _MOTION + 1), left + rng.integers(2 * _MOTION + 1)
        view = scene[y : y + height, x : x + width]
        noise = _NOISE * rng.standard_normal(view.shape, np.float32)
        yield np.rint(view + noise).clip(0, 255).astype(np.uint8)


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise OSError(f"{path}: cannot be written")

"""Embedded data: bursts synthesised from the photographs that scikit-image includes.

They let every part of the toolbox run, from training to the printed table, without a download. They
are a demonstration, not a benchmark: there are only twelve photographs.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from srtoolbox.data.base import Sample
from srtoolbox.data.datasets.source import check_gt_size
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.resize.array import imresize
from srtoolbox.data.transforms.orientation import (
    orient_array,
    random_crop_origin,
    random_orientation,
)
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY

# The two motorcycle photographs are a stereo pair, so both are in the same split.
PHOTOGRAPHS = {
    "train": (
        "coffee.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
    ),
    "val": ("brick.png", "camera.png", "coins.png"),  # grey
    "test": ("astronaut.png", "chelsea.png", "rocket.jpg"),
}

_SMALLEST_SIDE = {"train": 400, "val": 300, "test": 300}  # pixels
_FIXED_SEED = {"train": 20, "val": 21, "test": 20}  # lists do not depend on the run's seed


@DATASET_REGISTRY.register()
class SampleBursts:
    """Hand-held bursts: T noisy, shifted and slightly rotated LR views of one scene.

    For each frame, the photograph is moved at high resolution by a random sub-pixel shift and
    rotation (except frame 0, the reference), reduced by MATLAB bicubic, degraded by
    signal-dependent noise of variance ``read_noise² + shot_noise · intensity``, and rounded to
    8 bits.

    Args:
        split: ``"train"`` draws random bursts without end; ``"val"`` and ``"test"`` are fixed lists
            of ``num_burst`` bursts. Every split has other photographs.
        scale: Size of the photograph divided by the size of a frame.
        num_frame: Frames in a burst, T.
        gt_size: Side of the square ground truth in HR pixels.
        max_shift: Maximum shift along each axis, in HR pixels.
        max_rotation: Maximum rotation, in degrees.
        read_noise: Range of the standard deviation of the read noise, in 8-bit levels.
        shot_noise: Range of the factor of the shot noise, for intensities in [0, 1].
        num_burst: Length of the fixed list.
        use_hflip: Mirror training photographs at random.
        use_rot: Rotate training photographs by random multiples of 90°.
        use_color_shuffle: Shuffle the colour channels of half of the training bursts. Six
            photographs have few colours, and networks without a skip from the LR frame do not
            extrapolate to others. If all bursts are shuffled, such networks learn colour much later
            than brightness.

    Raises:
        UserError: names the invalid option.
    """

    reference = 0

    def __init__(
        self,
        split: Literal["train", "val", "test"] = "train",
        scale: int = 4,
        num_frame: int = 5,
        gt_size: int = 96,
        max_shift: float = 6.0,
        max_rotation: float = 1.0,
        read_noise: tuple[float, float] = (2.0, 6.0),
        shot_noise: tuple[float, float] = (2e-4, 2e-3),
        num_burst: int = 12,
        use_hflip: bool = True,
        use_rot: bool = True,
        use_color_shuffle: bool = True,
    ) -> None:
        check_gt_size(self, gt_size, scale)
        if num_frame < 1 or num_burst < 1:
            raise UserError("SampleBursts: num_frame and num_burst must be at least 1")
        if gt_size > _SMALLEST_SIDE[split]:
            raise UserError(
                f"SampleBursts: gt_size {gt_size} is more than the {_SMALLEST_SIDE[split]} pixels "
                f"of the smallest photograph of '{split}'; lower gt_size"
            )
        self.split, self.scale, self.num_frame, self.gt_size = split, scale, num_frame, gt_size
        self.max_shift, self.max_rotation = max_shift, max_rotation
        self.read_noise, self.shot_noise = read_noise, shot_noise
        self.num_burst, self.use_hflip, self.use_rot = num_burst, use_hflip, use_rot
        self.use_color_shuffle = use_color_shuffle
        # Moved frames must never show pixels beyond the patch. The margin covers the shift, the
        # displacement of a corner by the rotation, and the reach of both bicubic kernels.
        reach = max_shift + np.deg2rad(max_rotation) * gt_size + 2 * scale + 2
        self.margin = int(np.ceil(reach / scale)) * scale

    def __len__(self) -> int:
        return len(PHOTOGRAPHS["train"]) if self.split == "train" else self.num_burst

    def __getitem__(self, index: int) -> Sample:
        """Returns burst ``index`` of a fixed list: lq (T, 3, h, w) and gt (3, H, W), uint8."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = np.random.default_rng(np.random.SeedSequence([_FIXED_SEED[self.split], index]))
        names = PHOTOGRAPHS[self.split]
        name = names[index % len(names)]
        return self._burst(name, f"{Path(name).stem}_{index // len(names):02d}", 0, rng)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Returns a random burst of photograph ``index``, as ``__getitem__``."""
        name = PHOTOGRAPHS[self.split][index]
        code = random_orientation(self.use_hflip, self.use_rot, rng)
        burst = self._burst(name, Path(name).stem, code, rng)
        order, is_shuffled = rng.permutation(3), rng.random() < 0.5
        if self.use_color_shuffle and is_shuffled:
            burst["lq"] = np.ascontiguousarray(burst["lq"][:, order])
            burst["gt"] = np.ascontiguousarray(burst["gt"][order])
        return burst

    def _burst(self, name: str, key: str, code: int, rng: np.random.Generator) -> Sample:
        photograph = _photograph(name, self.margin)
        height, width = photograph.shape[:2]
        side = self.gt_size + 2 * self.margin
        y, x = random_crop_origin(height, width, side, rng)
        window = photograph[y : y + side, x : x + side].transpose(2, 0, 1)
        patch = np.ascontiguousarray(orient_array(window, code).transpose(1, 2, 0))
        frames = np.stack([self._view(patch, t, rng) for t in range(self.num_frame)])
        frames = self._add_noise(frames, rng)
        inner = slice(self.margin, self.margin + self.gt_size)
        return {
            "key": key,
            "lq": np.ascontiguousarray(frames.transpose(0, 3, 1, 2)),
            "gt": np.ascontiguousarray(patch[inner, inner].transpose(2, 0, 1)),
        }

    def _view(self, patch: np.ndarray, frame: int, rng: np.random.Generator) -> np.ndarray:
        """Returns a frame before noise: float64 (h, w, 3), nominally in [0, 1]."""
        shift = rng.uniform(-self.max_shift, self.max_shift, 2)
        angle = rng.uniform(-self.max_rotation, self.max_rotation)
        view = patch.astype(np.float32) / 255
        if frame != self.reference:
            centre = (patch.shape[1] - 1) / 2, (patch.shape[0] - 1) / 2
            motion = cv2.getRotationMatrix2D(centre, angle, 1.0)
            motion[:, 2] += shift
            view = cv2.warpAffine(
                view,
                motion,
                patch.shape[1::-1],
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REFLECT,
            )
        small = imresize(view, 1 / self.scale)
        inner = slice(self.margin // self.scale, (self.margin + self.gt_size) // self.scale)
        return small[inner, inner]

    def _add_noise(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Adds shot and read noise to frames (T, h, w, 3) and rounds them to uint8."""
        read = rng.uniform(*self.read_noise) / 255
        shot = rng.uniform(*self.shot_noise)
        deviation = np.sqrt(read**2 + shot * frames.clip(0, 1))
        noisy = frames + deviation * rng.standard_normal(frames.shape)
        return np.floor(noisy.clip(0, 1) * 255 + 0.5).astype(np.uint8)


@lru_cache(maxsize=32)
def _photograph(name: str, margin: int) -> np.ndarray:
    """Reads a photograph, uint8 (H, W, 3), mirrored outwards by ``margin`` on every side.

    A grey photograph gets three equal channels.
    """
    import skimage

    image = read_image(Path(skimage.__file__).parent / "data" / name)
    image = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    return np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")

"""Generates satellite-like clips from photographs, in the layout ``satellite_clips``.

::

    GT/<id>/00000000.png …        HR frames of a drifting platform over moving objects
    LR4x/<id>/00000000.png …      LR frames, made by the rule of Jilin-189
    motion/<id>.npy               (T, 2, 3): from each frame into the scene (see ``degradations``)
    satellite_clips.json          the options

A clip depends only on the pixels and name of its image, the seed and the options.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from srtoolbox.data.datasets.synthetic_bursts import fixed_rng
from srtoolbox.data.degradations.objects import put_objects, stored
from srtoolbox.data.degradations.rgb import blur, motion_reach, to_levels, warp
from srtoolbox.data.files.reader import image_info, read_image
from srtoolbox.data.prepare.generate import generate, npy, png
from srtoolbox.data.resize.array import imresize_window
from srtoolbox.errors import UserError
from srtoolbox.utils.console import Progress

_log = logging.getLogger("srtoolbox")


@dataclass(frozen=True)
class SatellitePipeline:
    """Makes a clip from an image; lengths are in HR pixels, times in frames.

    The image is a scene, over which objects move along straight lines. It is blurred, which makes
    photographs about as sharp as the images of Jilin-1 (according to the power spectrum of one of
    its clips), and seen from a drifting platform. The speed of a clip is ``max_drift`` times the
    square of a uniform number: many clips hardly move, like published ones, which were stabilised.

    Args:
        scale: Size of an HR frame divided by that of an LR frame.
        num_frame: Number of frames in a clip, T.
        max_size: Longest side of a frame; larger images are cropped at random.
        min_size: Shortest side of a frame; images that are too small for it are left out.
        blur_sigma: Standard deviation of the blur.
        max_drift: Largest speed of the platform.
        max_acceleration: Largest acceleration of the platform along each axis.
        max_jitter: Largest amplitude of its sinusoidal motion along each axis.
        jitter_period: Range of the period of the sinusoidal motion.
        max_turn: Largest rotation from frame to frame, in degrees.
        object_area: Area of the scene divided by the number of objects.
        object_length: Range of the objects' lengths.
        object_aspect: Range of their widths divided by their lengths.
        object_speed: Range of their speeds over the scene, along their lengths.
        object_light: Range of the blending to white or black of two of three objects; 0 keeps the
            texture, a piece of the scene.
    """

    scale: int = 4
    num_frame: int = 13
    max_size: int = 640
    min_size: int = 128
    blur_sigma: float = 0.8
    max_drift: float = 1.5
    max_acceleration: float = 0.03
    max_jitter: float = 0.15
    jitter_period: tuple[float, float] = (6.0, 20.0)
    max_turn: float = 0.01
    object_area: float = 80.0**2
    object_length: tuple[float, float] = (4.0, 12.0)
    object_aspect: tuple[float, float] = (0.35, 0.7)
    object_speed: tuple[float, float] = (0.5, 4.0)
    object_light: tuple[float, float] = (0.4, 0.85)

    def frame_size(self, height: int, width: int) -> tuple[int, int] | None:
        """Returns height and width of the frames made from an image; None: it is too small.

        They are multiples of four LR pixels, and so small that all frames stay inside the image.
        """
        step = 4 * self.scale
        sides = [min(side - 2 * self.margin, self.max_size) for side in (height, width)]
        if min(sides) < max(self.min_size, step):
            return None
        return sides[0] - sides[0] % step, sides[1] - sides[1] % step

    @property
    def margin(self) -> int:
        """Number of scene pixels around the frames, which the motion and the blur need."""
        half = (self.num_frame - 1) / 2  # longest time from the middle frame
        shift = self.max_drift * half + self.max_acceleration * half**2 / 2 + self.max_jitter
        return motion_reach(self.max_size, shift, self.max_turn * half) + self.blur_radius + 2

    @property
    def blur_radius(self) -> int:
        """Number of pixels at every edge that the blur removes."""
        return math.ceil(3 * self.blur_sigma)

    def make(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Makes one clip.

        Args:
            image: (C, H, W), with one or three channels, as stored.
            rng: Random generator of all choices.

        Returns:
            ``gt`` (T, 3, H', W') and ``lq`` (T, 3, h, w), uint8; ``motion`` (T, 2, 3), float32.

        Raises:
            ValueError: if the image is too small.
        """
        size = self.frame_size(*image.shape[1:])
        if size is None:
            raise ValueError("image too small for a clip")
        cut = [side + 2 * self.margin for side in size]
        top, left = (
            rng.integers(side - length + 1)
            for side, length in zip(image.shape[1:], cut, strict=True)
        )
        window = image[:, top : top + cut[0], left : left + cut[1]]
        window = np.array(np.broadcast_to(window, (3, *cut)))
        scene = to_levels(torch.from_numpy(window)[None])
        motion = self._draw_platform(rng)
        shape, light, source, paths = self._draw_objects(size, rng)
        sigma = torch.tensor([self.blur_sigma])
        gt = []
        for matrix, place in zip(motion, paths, strict=True):
            seen = put_objects(
                scene, shape, place, source - place, self.object_length[1] / 2, light
            )
            seen = blur(seen, sigma, self.blur_radius)
            frame = warp(seen, torch.from_numpy(matrix)[None, None], size, "bicubic")
            gt.append(stored(frame[0, 0].clamp(0, 255), torch.uint8).numpy())
        whole = 0, 0, size[0] // self.scale, size[1] // self.scale
        lq = [imresize_window(frame, 1 / self.scale, whole, edge="replicate") for frame in gt]
        return {"gt": np.stack(gt), "lq": np.stack(lq), "motion": motion}

    def _draw_platform(self, rng: np.random.Generator) -> np.ndarray:
        """Draws the maps from positions in each frame to the scene: (T, 2, 3), float32.

        Positions are relative to the centres.
        """
        time = np.arange(self.num_frame)[:, None] - (self.num_frame - 1) / 2
        speed = self.max_drift * rng.uniform() ** 2
        heading = rng.uniform(0, 2 * math.pi)
        drift = speed * np.array([math.cos(heading), math.sin(heading)])
        acceleration = rng.uniform(-self.max_acceleration, self.max_acceleration, 2)
        amplitude = rng.uniform(0, self.max_jitter, 2)
        period, phase = rng.uniform(*self.jitter_period, 2), rng.uniform(0, 2 * math.pi, 2)
        shift = drift * time + acceleration * time**2 / 2
        shift += amplitude * np.sin(2 * math.pi * time / period + phase)
        angle = np.radians(rng.uniform(-self.max_turn, self.max_turn)) * time
        rows = (np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))
        turn = np.stack([np.concatenate(row, 1) for row in rows], 1)
        return np.concatenate([turn, shift[:, :, None]], 2).astype(np.float32)

    def _draw_objects(
        self, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[torch.Tensor, ...]:
        """Draws shapes (1, K, 4), light (1, K), texture positions (1, K, 2), paths (T, 1, K, 2)."""
        count = max(1, round(size[0] * size[1] / self.object_area))
        room = np.array(size[::-1])
        length = rng.uniform(*self.object_length, count)
        width = length * rng.uniform(*self.object_aspect, count)
        heading, power = rng.uniform(0, 2 * math.pi, count), rng.uniform(2, 6, count)
        shape = np.stack([length / 2, width / 2, heading, power], 1)
        light = rng.integers(-1, 2, count) * rng.uniform(*self.object_light, count)
        source, middle = (rng.uniform(-0.5, 0.5, (count, 2)) * room for _ in range(2))
        velocity = np.stack([np.cos(heading), np.sin(heading)], 1)
        velocity *= rng.uniform(*self.object_speed, count)[:, None]
        time = np.arange(self.num_frame)[:, None, None] - (self.num_frame - 1) / 2
        paths = middle + velocity * time
        drawn = (shape[None], light[None], source[None], paths[:, None])
        return tuple(torch.from_numpy(array.astype(np.float32)) for array in drawn)


def generate_satellite_clips(
    images: Sequence[Path],
    out: Path,
    *,
    scale: int = 4,
    num_frame: int = 13,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> int:
    """Makes one clip from each image that is large enough; continues after an interruption.

    Args:
        images: Images with different stems.
        out: Folder for the dataset.
        scale: Size of an HR frame divided by that of an LR frame.
        num_frame: Number of frames in a clip.
        seed: Another seed gives other clips of the same images.
        progress: Called with the number of finished clips and the number of all clips.

    Returns:
        The number of clips made, without those that existed.

    Raises:
        UserError: if two images have the same stem, an image is unreadable, all images are too
            small, or ``out`` contains a dataset made with other options.
    """
    pipeline = SatellitePipeline(scale=scale, num_frame=num_frame)
    large = [path for path in images if pipeline.frame_size(*image_info(path).size)]
    if len(large) < len(images):
        usable = set(large)
        small = [path.name for path in images if path not in usable]
        min_side = pipeline.min_size + 2 * pipeline.margin
        text = f"{len(small)} of {len(images)} images have a side below {min_side} pixels"
        names = ", ".join(small[:5]) + (", …" if len(small) > 5 else "")
        if not large:
            raise UserError(f"{text}, too small for clips of {num_frame} frames ({names})")
        _log.warning("left out: %s (%s)", text, names)

    def make(key: str, path: Path) -> dict[str, bytes]:
        clip = pipeline.make(read_image(path), fixed_rng(key, seed))
        files = {f"motion/{key}.npy": npy(clip["motion"])}
        for folder, frames in ((f"LR{scale}x", clip["lq"]), ("GT", clip["gt"])):
            for t, frame in enumerate(frames):
                files[f"{folder}/{key}/{t:08d}.png"] = png(frame)
        return files

    options = {"seed": seed, **asdict(pipeline)}
    return generate(large, out, "satellite_clips.json", options, "GT", make, progress)

"""Bursts made on the fly from folders of photographs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from srtoolbox.data.cache.pixels import open_pixels
from srtoolbox.data.datasets.source import choose_layout, find_items
from srtoolbox.data.degradations.raw import RawPipeline
from srtoolbox.data.degradations.rgb import RgbPipeline, Synthesis
from srtoolbox.data.files.checks import check_items, raise_faults
from srtoolbox.data.layouts import Layout
from srtoolbox.data.stream import Sample, to_float
from srtoolbox.data.transforms.orientation import (
    orient_array,
    random_crop_origin,
    random_orientation,
)
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY

Pipeline = RgbPipeline | RawPipeline

_FIXED_BURSTS = 2  # separates the seeds of fixed bursts from those of training samples


@DATASET_REGISTRY.register()
class SyntheticBursts:
    """Bursts of moved, reduced and noisy views, made from single images.

    In training each draw is a new burst of a random crop. In evaluation every image, cut to a
    multiple of ``scale``, gives one burst, whose random numbers come from the image's name: the
    same on any machine. What lies beyond an image's edge is its mirror image.

    Args:
        layout: Name of a known arrangement of single images; only its HR images are used.
        dataroot: Folder of the dataset.
        split: Part of the dataset, as the layout calls it; may be left out if there is one only.
        pipeline: ``"rgb"``: 8-bit sRGB frames; ``"raw"``: packed RGGB frames and a ground truth in
            linear sensor values, as in SyntheticBurst.
        scale: Ground truth over frame. Packing counts: ``"raw"`` with 8 reduces by 4.
        num_frame: Frames in a burst; frame 0 is the reference.
        gt_size: Side of a training crop in HR pixels.
        max_shift: Largest shift along each axis, in HR pixels; null is 6 for RGB (24 is hard) and
            24 for RAW.
        max_rotation: Largest rotation, in degrees.
        blur_sigma: Range of the deviation of a Gaussian blur, in HR pixels (RGB only).
        reduction: ``"box"``, ``"bicubic-aa"`` or ``"dbsr"`` (the two middle pixels); null is box
            for RGB and dbsr for RAW.
        noise: ``"gaussian"``, or ``"shot_read"`` in linear light (RAW always has the latter).
        noise_sigma: Range of the deviation of Gaussian noise, in 8-bit levels.
        shot_noise: Range of the shot noise in linear light; the read noise follows from it.
        num_object: Objects in each burst, pieces of its image, that move on their own, besides
            moving with the scene (RGB only).
        object_shift: Their largest shift against the scene along each axis, in HR pixels, another
            in each frame; the reference and the ground truth have them at their places (RGB only).
        truncate: Move and reduce 8-bit linear images as SyntheticBurst does (RAW only).
        use_hflip: Mirror training crops at random, before the burst is made.
        use_rot: Turn training crops by random multiples of 90°, before the burst is made.
        on_device: Make training bursts on the device that trains, a batch at a time. They differ
            from those made in the workers by that device's rounding.
        cache: Folder for decoded images; null decodes the files each time. Samples are the same.
        cache_limit: Most that the decoded images may take, in GiB.

    Raises:
        UserError: names the first ten faulty files, or the option that does not fit.
    """

    reference = 0

    def __init__(
        self,
        layout: str = "folder",
        dataroot: str | None = None,
        split: str | None = None,
        pipeline: Literal["rgb", "raw"] = "rgb",
        scale: int = 4,
        num_frame: int = 14,
        gt_size: int = 256,
        max_shift: float | None = None,
        max_rotation: float = 1.0,
        blur_sigma: tuple[float, float] = (0.0, 1.2),
        reduction: Literal["box", "bicubic-aa", "dbsr"] | None = None,
        noise: Literal["gaussian", "shot_read"] = "gaussian",
        noise_sigma: tuple[float, float] = (1.0, 5.0),
        shot_noise: tuple[float, float] = (1e-4, 0.012),
        num_object: int = 0,
        object_shift: float = 0.0,
        truncate: bool = True,
        use_hflip: bool = True,
        use_rot: bool = True,
        on_device: bool = False,
        cache: str | None = None,
        cache_limit: float = 200,
    ) -> None:
        if dataroot is None:
            raise UserError("SyntheticBursts: dataroot is missing; give a folder of images")
        if gt_size % scale:
            raise UserError(
                f"SyntheticBursts: gt_size {gt_size} is not a multiple of scale {scale}"
            )
        self.scale, self.num_frame, self.gt_size = scale, num_frame, gt_size
        self.use_hflip, self.use_rot, self.on_device = use_hflip, use_rot, on_device
        self.channels = 3 if pipeline == "rgb" else 4
        common: dict[str, Any] = {"scale": scale, "num_frame": num_frame}
        common |= {"max_rotation": max_rotation, "shot_noise": tuple(shot_noise)}
        common |= {} if max_shift is None else {"max_shift": max_shift}
        common |= {} if reduction is None else {"reduction": reduction}
        for_rgb = {"blur_sigma": tuple(blur_sigma), "noise": noise}
        for_rgb |= {"noise_sigma": tuple(noise_sigma)}
        for_rgb |= {"num_object": num_object, "object_shift": object_shift}
        for_raw = {"truncate": truncate}
        build, own, foreign, other = {
            "rgb": (RgbPipeline, for_rgb, for_raw, RawPipeline),
            "raw": (RawPipeline, for_raw, for_rgb, RgbPipeline),
        }[pipeline]
        for name, value in foreign.items():
            if value != getattr(other, name):
                raise UserError(
                    f"SyntheticBursts: pipeline '{pipeline}' has no {name}; leave it out"
                )
        self.pipeline: Pipeline = build(**common, **own)
        arrangement = choose_layout(layout, "image")
        self._items, faults = find_items(_hr_only(arrangement), dataroot, split, scale)
        self._title = f"SyntheticBursts ({dataroot})"
        raise_faults([*faults, *check_items(self._items, scale=scale, kind="image")], self._title)
        if not self._items:
            raise UserError(f"{self._title}: no images found")
        folder = None if cache is None else Path(cache)
        self._open = open_pixels(self.paths(), folder, limit_gib=cache_limit)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        """The fixed burst of a whole image, for evaluation, as ``draw`` without ``on_device``."""
        item = self._items[index]
        return {"key": item.key, **fixed_burst(self._open(item.gt[0]), item.key, self.pipeline)}

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """A random burst of image ``index``.

        RGB gives lq (T, 3, h, w) uint8 and gt (3, H, W) as stored; RAW lq (T, 4, h, w) and gt
        (3, H, W), float32. With ``on_device``: hr, the crop and its margin as stored, and
        synthesis, the random choices, of which ``finish`` makes the burst.
        """
        key, path = self._items[index].key, self._items[index].gt[0]
        image, size = self._open(path), self.gt_size
        height, width = image.shape[1:]
        if min(height, width) < size:
            raise UserError(
                f"{self._title}: {path} is {width}×{height}, smaller than gt_size {size}"
            )
        y, x = random_crop_origin(height, width, size, rng)
        code = random_orientation(self.use_hflip, self.use_rot, rng)
        margin = self.pipeline.margin(size)
        hr = orient_array(mirrored_window(image, y, x, (size, size), margin), code)
        synthesis = self.pipeline.draw(rng)
        if self.on_device:
            return {"key": key, "hr": np.ascontiguousarray(hr), "synthesis": synthesis}
        return {"key": key, **_one_burst(self.pipeline, hr, synthesis, (size, size))}

    def finish(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Makes the bursts of a batch on the device that holds it.

        Args:
            batch: What ``draw`` gives with ``on_device``, stacked: hr (N, 3, H, W) and synthesis.

        Returns:
            The batch with lq (N, T, C, h, w) and gt (N, 3, H, W), float32 in [0, 1], instead; a
            batch that has them already as it is.
        """
        if "hr" not in batch:
            return batch
        rest = {name: value for name, value in batch.items() if name not in ("hr", "synthesis")}
        size = self.gt_size, self.gt_size
        made = self.pipeline.apply(batch["hr"], batch["synthesis"], size)
        return {**rest, **{name: to_float(pixels) for name, pixels in made.items()}}

    def check_training(self) -> None:
        """Checks what only training asks for.

        Raises:
            UserError: names images that are smaller than the crop.
        """
        size = self.gt_size
        faults = check_items(self._items, scale=self.scale, kind="image", gt_size=size)
        raise_faults(faults, self._title)

    def paths(self) -> list[Path]:
        """All files that may be read."""
        return [path for item in self._items for path in item.gt]


def _hr_only(layout: Layout) -> Layout:
    """A layout without its LR files, whose state and scales then do not matter."""
    splits = {
        name: tuple(replace(split, lq=None) for split in alternatives)
        for name, alternatives in layout.splits.items()
    }
    return replace(layout, splits=splits)


def fixed_burst(
    image: np.ndarray, key: str, pipeline: Pipeline, seed: int = 0
) -> dict[str, np.ndarray]:
    """The burst of a whole image (C, H, W) that its name and a seed determine: lq and gt."""
    size = tuple(length - length % pipeline.scale for length in image.shape[1:])
    if not all(size):
        raise UserError(f"{key}: smaller than scale {pipeline.scale}")
    hr = mirrored_window(image, 0, 0, size, pipeline.margin(max(size)))
    return _one_burst(pipeline, hr, pipeline.draw(fixed_rng(key, seed)), size)


def fixed_rng(key: str, seed: int = 0) -> np.random.Generator:
    """The random numbers that belong to an image's name."""
    digest = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return np.random.default_rng(np.random.SeedSequence([_FIXED_BURSTS, seed, digest]))


def mirrored_window(
    image: np.ndarray, y: int, x: int, size: tuple[int, int], margin: int
) -> np.ndarray:
    """The window of an image (C, H, W) at (y, x) with a margin all around, as three channels.

    Beyond its edges the image is mirrored at its outermost pixels, as often as needed.
    """
    rows, columns = (
        _mirror(np.arange(start - margin, start + length + margin), whole)
        for start, length, whole in zip((y, x), size, image.shape[1:], strict=True)
    )
    top, left = rows.min(), columns.min()
    part = image[:, top : rows.max() + 1, left : columns.max() + 1]  # read no more of a large image
    window = part[:, rows[:, None] - top, columns - left]
    return np.broadcast_to(window, (3, *window.shape[1:]))


def _mirror(index: np.ndarray, length: int) -> np.ndarray:
    period = max(2 * (length - 1), 1)
    index = index % period
    return np.minimum(index, period - index) if length > 1 else 0 * index


def _one_burst(
    pipeline: Pipeline, hr: np.ndarray, synthesis: Synthesis, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    arrays = {name: torch.from_numpy(np.stack([array])) for name, array in synthesis.items()}
    made = pipeline.apply(torch.from_numpy(np.stack([hr])), arrays, size)
    return {name: np.ascontiguousarray(pixels[0].numpy()) for name, pixels in made.items()}

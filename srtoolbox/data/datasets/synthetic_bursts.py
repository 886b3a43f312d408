"""Bursts made on the fly from folders of photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import torch

from srtoolbox.data.base import Sample, StoredBatch, UnfinishedSample
from srtoolbox.data.datasets.reading import Level, Reading
from srtoolbox.data.datasets.source import MAX_DRAWS, FileDataset, choose_layout, find_items
from srtoolbox.data.degradations.raw import RawPipeline
from srtoolbox.data.degradations.rgb import RgbPipeline, Synthesis
from srtoolbox.data.stream import to_float
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
class SyntheticBursts(FileDataset):
    """Bursts of moved, reduced and noisy views, made from single images.

    For training, each draw makes a new burst from a random crop. For evaluation, every image,
    cropped to a multiple of ``scale``, gives one burst, whose random numbers depend on the image's
    name only: it is the same on any machine. Images are mirrored beyond their edges.

    Args:
        layout: Name of a known layout of single images; only its HR images are used.
        dataroot: Folder of the dataset.
        split: Part of the dataset, as the layout calls it; optional if there is only one.
        pipeline: ``"rgb"``: 8-bit sRGB frames, or frames of other bands; ``"raw"``: packed RGGB
            frames and a ground truth in linear sensor values, as in SyntheticBurst.
        scale: Ground-truth size divided by frame size, including the packing: ``"raw"`` with 8
            reduces by 4.
        num_frame: Frames in a burst; frame 0 is the reference.
        gt_size: Side of a training crop in HR pixels.
        max_shift: Maximum shift along each axis, in HR pixels; null: 6 for RGB (24 is hard) and 24
            for RAW.
        max_rotation: Maximum rotation, in degrees.
        blur_sigma: Range of the standard deviation of a Gaussian blur, in HR pixels (RGB only).
        reduction: ``"box"``, ``"bicubic-aa"`` or ``"dbsr"`` (the two middle pixels); null: box for
            RGB and dbsr for RAW.
        noise: ``"gaussian"``, or ``"shot_read"`` in linear light (RAW always uses the latter; three
            bands are converted from sRGB and back, other numbers of bands are linear).
        noise_sigma: Range of the standard deviation of Gaussian noise, in 8-bit levels.
        shot_noise: Range of the shot noise in linear light; the read noise depends on it.
        num_object: Objects in each burst that move independently: pieces of its image, which also
            move with the scene (RGB only).
        object_shift: Maximum shift of an object relative to the scene along each axis, in HR
            pixels. Each frame has its own shift; objects are not shifted in the reference and the
            ground truth (RGB only).
        truncate: Move and reduce 8-bit linear images as SyntheticBurst does (RAW only).
        use_hflip: Mirror training crops at random, before the burst is made.
        use_rot: Rotate training crops by random multiples of 90°, before the burst is made.
        on_device: Make training bursts on the training device, one batch at a time. They differ
            from bursts made in the workers by the device's rounding.
        cache: Folder for decoded images; null decodes the files each time. Samples are the same.
        cache_limit: Maximum size of the decoded images, in GiB.
        convert: ``"rgb"`` converts palette, CMYK and 1-bit images to RGB and drops alpha channels
            without blending; null: such images are errors.
        recursive: Also take images in sub-folders; links to folders are not followed.
        channels: Bands of a frame; null: as many as the network takes (without a network: as
            many as ``bands``, or 3). With 3, grey files are repeated to three bands; with
            other numbers, all files must have so many. RAW always has four.
        bands: Numbers from 1 of the bands to use, in this order, such as [4, 3, 2]; files may have
            more. Null: all.
        nodata: Value of missing pixels; null: the value that GeoTIFF files state, if they do.
            Missing pixels are filled from their neighbours, and losses and metrics leave those of
            the ground truth out. A training crop without any other pixel is drawn again, up to ten
            times in all.
        white_level: Value of 16-bit files that becomes 1, such as 4095 for 12 bits, or a list with
            a value for each band; null: 65535, for signed files 32767. Files of 8 bits and float
            are not changed.
        black_level: Value of 16-bit files that becomes 0, or a list with a value for each band.
        scale_floats: Apply the levels to float files, too, which may then have any range.
        bit_depth: Bits to which frames are rounded: 8 gives 8-bit frames, 9 to 16 give float32
            (RGB and other bands only).
        band_shift: Maximum shift of every other band relative to the first along each axis, in HR
            pixels, the same in all frames of a burst: a camera whose bands are not registered. The
            ground truth has none (RGB and other bands only).
        still: Fraction of bursts whose frames do not move (RGB and other bands only).
        same_noise: Fraction of those whose frames also have the same noise, so that all are equal.
        vary_shift: Draw for every burst how much of ``max_shift`` and ``max_rotation`` it uses,
            from 0 to 1 (RGB and other bands only).
        jpeg_quality: Range of the quality, from 1 to 100, with which the frames of a burst are
            compressed by JPEG, as libjpeg does it; null: not compressed (RGB and other bands only).

    Raises:
        UserError: names the first ten faulty files, or the invalid option.
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
        convert: Literal["rgb"] | None = None,
        recursive: bool = False,
        channels: int | None = None,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        white_level: Level | None = None,
        black_level: Level = 0,
        scale_floats: bool = False,
        bit_depth: int = 8,
        band_shift: float = 0.0,
        still: float = 0.0,
        same_noise: float = 0.0,
        vary_shift: bool = False,
        jpeg_quality: tuple[int, int] | None = None,
    ) -> None:
        if dataroot is None:
            raise UserError("SyntheticBursts: dataroot is missing; give a folder of images")
        super().__init__(scale, gt_size, use_hflip, use_rot)
        self.num_frame, self.on_device = num_frame, on_device
        # RAW frames are made from RGB images, whatever the channels of the network.
        channels = channels if pipeline == "rgb" else 3
        reading = Reading(
            convert, channels, bands, None, nodata, white_level, black_level, scale_floats
        )
        pipelines = {"rgb": RgbPipeline, "raw": RawPipeline}
        chosen = pipelines.pop(pipeline)
        (other,) = pipelines.values()
        given: dict[str, Any] = {
            "scale": scale,
            "num_frame": num_frame,
            "max_shift": max_shift,
            "max_rotation": max_rotation,
            "blur_sigma": tuple(blur_sigma),
            "reduction": reduction,
            "noise": noise,
            "noise_sigma": tuple(noise_sigma),
            "shot_noise": tuple(shot_noise),
            "num_object": num_object,
            "object_shift": object_shift,
            "truncate": truncate,
            "bit_depth": bit_depth,
            "band_shift": band_shift,
            "still": still,
            "same_noise": same_noise,
            "vary_shift": vary_shift,
            "jpeg_quality": tuple(jpeg_quality) if jpeg_quality else None,
        }
        known = {field.name for field in fields(chosen)}
        for name, value in given.items():
            if name not in known and value != getattr(other, name):
                raise UserError(
                    f"SyntheticBursts: pipeline '{pipeline}' has no {name}; remove the option"
                )
        own = {name: given[name] for name in known & given.keys() if given[name] is not None}
        if pipeline == "rgb":
            own["channels"] = reading.num_band
        self.pipeline: Pipeline = chosen(**own)
        hr_layout = choose_layout(layout, "image").without_lq()
        found = find_items(hr_layout, dataroot, split, scale, recursive=recursive)
        self._open(hr_layout, found, dataroot, None, None, cache, cache_limit, reading)
        if pipeline == "raw":
            self.raw, self.channels = True, 4

    def __getitem__(self, index: int) -> Sample:
        """Returns the fixed burst of a whole image, as ``draw`` does without ``on_device``."""
        item = self._items[index]
        image = self._truth(item, 0)
        pixels = self._levels.apply(image[:, :, :])
        burst = fixed_burst(pixels, item.key, self.pipeline)
        sample: Sample = {"key": item.key, "lq": burst["lq"], "gt": burst["gt"]}
        if self._masked:
            height, width = burst["gt"].shape[1:]
            sample["mask"] = image.mask(slice(0, height), slice(0, width))
        return sample

    def draw(self, index: int, rng: np.random.Generator) -> Sample | UnfinishedSample:
        """Returns a random burst of image ``index``.

        RGB has lq (T, C, h, w) uint8 and gt (C, H, W) as stored; RAW has lq (T, 4, h, w) and gt
        (3, H, W), float32. With ``on_device``, the sample has instead ``hr``, the crop with its
        margin as stored, and ``synthesis``, the random choices; ``finish`` makes the burst from
        them. With ``bit_depth`` above 8, lq is float32; with levels, gt is.

        Raises:
            UserError: if the image is smaller than the crop or cannot be read.
        """
        key, path = self._items[index].key, self._items[index].gt[0]
        image, size = self._truth(self._items[index], 0), self.gt_size
        height, width = image.shape[1:]
        if min(height, width) < size:
            raise UserError(
                f"{self._title}: {path} is {width}×{height}, smaller than gt_size {size}"
            )
        for _ in range(MAX_DRAWS):
            y, x = random_crop_origin(height, width, size, rng)
            if not self._masked:
                break
            mask = image.mask(slice(y, y + size), slice(x, x + size))
            if mask.any():
                break
        code = random_orientation(self.use_hflip, self.use_rot, rng)
        margin = self.pipeline.margin(size)
        window = mirrored_window(image, y, x, (size, size), margin, self.gt_channels)
        hr = orient_array(self._levels.apply(window), code)
        synthesis = self.pipeline.draw(rng)
        sample: Sample | UnfinishedSample
        if self.on_device:
            sample = {"key": key, "hr": np.ascontiguousarray(hr), "synthesis": synthesis}
        else:
            burst = _make_burst(self.pipeline, hr, synthesis, (size, size))
            sample = {"key": key, "lq": burst["lq"], "gt": burst["gt"]}
        if self._masked:
            sample["mask"] = np.ascontiguousarray(orient_array(mask, code))
        return sample

    def finish(self, batch: StoredBatch) -> StoredBatch:
        """Makes the bursts of a batch on its device.

        Args:
            batch: Collated samples of ``draw`` with ``on_device``: hr (N, C, H, W) and synthesis.

        Returns:
            The batch with lq (N, T, C, h, w) and gt (N, C', H, W), float32 in [0, 1], instead of
            them. A batch that already has lq and gt is returned unchanged.
        """
        if "hr" not in batch:
            return batch
        others = {name: value for name, value in batch.items() if name not in ("hr", "synthesis")}
        size = self.gt_size, self.gt_size
        burst = self.pipeline.apply(batch["hr"], batch["synthesis"], size)
        return {**others, **{name: to_float(pixels) for name, pixels in burst.items()}}


def fixed_burst(
    image: np.ndarray, key: str, pipeline: Pipeline, seed: int = 0
) -> dict[str, np.ndarray]:
    """Returns ``lq`` and ``gt`` of the burst of a whole image, determined by its name and a seed.

    Args:
        image: (C, H, W), as stored; it is cropped to a multiple of the scale.
        key: Name of the image.
        pipeline: Makes the burst.
        seed: Selects another burst of the same image.

    Raises:
        UserError: if the image is smaller than the scale.
    """
    height, width = (length - length % pipeline.scale for length in image.shape[1:])
    if not height or not width:
        raise UserError(f"{key}: smaller than scale {pipeline.scale}")
    margin = pipeline.margin(max(height, width))
    channels = pipeline.channels if isinstance(pipeline, RgbPipeline) else 3
    hr = mirrored_window(image, 0, 0, (height, width), margin, channels)
    return _make_burst(pipeline, hr, pipeline.draw(fixed_rng(key, seed)), (height, width))


def fixed_rng(key: str, seed: int = 0) -> np.random.Generator:
    """Returns the random generator that belongs to an image's name and a seed."""
    digest = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return np.random.default_rng(np.random.SeedSequence([_FIXED_BURSTS, seed, digest]))


def mirrored_window(
    image: Any, y: int, x: int, size: tuple[int, int], margin: int, channels: int = 3
) -> np.ndarray:
    """Returns the window of an image (C, H, W) at (y, x) with a margin; C is 1 or ``channels``.

    A single channel is repeated. Beyond its edges the image is mirrored at its outermost pixels, as
    often as needed.
    """
    rows, columns = (
        _mirror(np.arange(start - margin, start + length + margin), whole)
        for start, length, whole in zip((y, x), size, image.shape[1:], strict=True)
    )
    top, left = rows.min(), columns.min()
    # Reads only the needed part of a large image.
    part = image[:, int(top) : int(rows.max()) + 1, int(left) : int(columns.max()) + 1]
    window = part[:, rows[:, None] - top, columns - left]
    return np.broadcast_to(window, (channels, *window.shape[1:]))


def _mirror(index: np.ndarray, length: int) -> np.ndarray:
    period = max(2 * (length - 1), 1)
    index = index % period
    return np.minimum(index, period - index) if length > 1 else 0 * index


def _make_burst(
    pipeline: Pipeline, hr: np.ndarray, synthesis: Synthesis, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    arrays = {name: torch.from_numpy(np.stack([array])) for name, array in synthesis.items()}
    burst = pipeline.apply(torch.from_numpy(np.stack([hr])), arrays, size)
    return {name: np.ascontiguousarray(pixels[0].numpy()) for name, pixels in burst.items()}

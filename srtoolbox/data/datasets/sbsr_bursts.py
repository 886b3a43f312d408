"""SBSR bursts made on the fly from folders of images, by the rules of the authors' generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from srtoolbox.data.base import Sample
from srtoolbox.data.datasets.reading import Reading
from srtoolbox.data.datasets.source import MAX_DRAWS, FileDataset, choose_layout, find_items
from srtoolbox.data.datasets.synthetic_bursts import fixed_rng
from srtoolbox.data.degradations.sbsr import SBSRPipeline
from srtoolbox.data.transforms.orientation import (
    orient_array,
    random_crop_origin,
    random_orientation,
)
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class SBSRBursts(FileDataset):
    """Bursts by the generator that the authors of DSTC-SRNet released (see ``degradations.sbsr``).

    For training, each draw makes a new burst. Only the crop is computed, and it equals the crop of
    the burst of the whole image. For evaluation, every image gives one burst, whose random numbers
    depend on the image's name only: it is the same on any machine. Images are cropped to a multiple
    of ``scale``.

    Args:
        layout: Name of a known layout of single images; only its HR images are used.
        dataroot: Folder of the dataset.
        split: Part of the dataset, as the layout calls it; optional if there is only one.
        num_image: Use only the first images, in natural order of their names; null uses all.
        scale: Ground-truth size divided by frame size. The authors' settings are those of 8; other
            scales use the same rules, which is our choice.
        num_frame: Frames in a burst; frame 0 is the reference.
        gt_size: Side of a training crop in HR pixels.
        image_size: Maximum side, in HR pixels, of the image that a burst is made from. Larger
            images are cut: at random for training, in the middle for evaluation. Null uses whole
            images. The motion depends on the size of this image.
        resize: Resize every image to ``image_size`` × ``image_size`` by area averaging instead, as
            the authors do with 384. This changes the proportions of images that are not square.
        blur_sigma: Standard deviation of the blur, in HR pixels; the authors' is 3.2.
        noise_sigma: Standard deviation of the noise, in 8-bit levels; the authors' is 2.55.
        exact: Truncate and blur as the authors' code does, with dark edges of frames; if false,
            frames are rounded once, and the blur sees the mirrored image (see ``SBSRPipeline``).
        use_hflip: Mirror images at random, before the burst is made.
        use_rot: Rotate images by random multiples of 90°, before the burst is made.
        cache: Folder for decoded images; null decodes the files each time. Samples are the same.
        cache_limit: Maximum size of the decoded images, in GiB.
        convert: ``"rgb"`` converts palette, CMYK and 1-bit images to RGB and drops alpha channels
            without blending; null: such images are errors.
        recursive: Also take images in sub-folders; links to folders are not followed.
        channels: Bands of a frame; null: as many as the network takes (without a network: as
            many as ``bands``, or 3). With 3, grey files are repeated to three bands; with
            other numbers, all files must have so many.
        bands: Numbers from 1 of the bands to use, in this order, such as [4, 3, 2]; files may have
            more. Null: all.
        nodata: Value of missing pixels; null: the value that GeoTIFF files state, if they do.
            Missing pixels are filled from their neighbours, and losses and metrics leave those of
            the ground truth out. A training crop without any other pixel is drawn again, up to ten
            times in all.

    Raises:
        UserError: names the first ten faulty files, or the invalid option.
    """

    reference = 0

    def __init__(
        self,
        layout: str = "folder",
        dataroot: str | None = None,
        split: str | None = None,
        num_image: int | None = None,
        scale: int = 4,
        num_frame: int = 16,
        gt_size: int = 384,
        image_size: int | None = None,
        resize: bool = False,
        blur_sigma: float = 3.2,
        noise_sigma: float = 2.55,
        exact: bool = True,
        use_hflip: bool = True,
        use_rot: bool = True,
        cache: str | None = None,
        cache_limit: float = 200,
        convert: Literal["rgb"] | None = None,
        recursive: bool = False,
        channels: int | None = None,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
    ) -> None:
        if dataroot is None:
            raise UserError("SBSRBursts: dataroot is missing; give a folder of images")
        super().__init__(scale, gt_size, use_hflip, use_rot)
        self.num_frame, self.image_size, self.resize = num_frame, image_size, resize
        self.pipeline = SBSRPipeline(scale, num_frame, blur_sigma, noise_sigma, exact)
        if image_size is None:
            if resize:
                raise UserError("SBSRBursts: resize needs image_size; the authors use 384")
        elif image_size < scale:
            raise UserError(f"SBSRBursts: image_size {image_size} is smaller than scale {scale}")
        hr_layout = choose_layout(layout, "image").without_lq()
        if num_image is not None and num_image < 1:
            raise UserError(f"SBSRBursts: num_image must be at least 1, got {num_image}")
        items, faults = find_items(hr_layout, dataroot, split, scale, recursive=recursive)
        found = items[:num_image], faults
        reading = Reading(convert, channels, bands, nodata=nodata)
        self._open(hr_layout, found, dataroot, None, None, cache, cache_limit, reading)

    def gt_sizes(self) -> dict[Path, tuple[int, int]]:
        """Returns (H, W) of each ground truth, as of ``FileDataset``."""
        sizes = super().gt_sizes()
        if self.image_size is None:
            return sizes
        side = self.image_size // self.scale * self.scale
        return {
            path: (side, side) if self.resize else (min(side, size[0]), min(side, size[1]))
            for path, size in sizes.items()
        }

    def __getitem__(self, index: int) -> Sample:
        """Returns the fixed burst of an image: lq (T, C, h, w) and gt (C, H, W), uint8."""
        item = self._items[index]
        image, mask = self._image(index)
        lq = self.pipeline.make(image, self.pipeline.draw(fixed_rng(item.key)))
        return _sample(item.key, lq, image, mask)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Returns a random crop of a random burst: lq (T, C, h, w) and gt (C, H, W), uint8.

        Raises:
            UserError: if the image is smaller than the crop, is not an 8-bit image, or cannot be
                read.
        """
        item, scale, size = self._items[index], self.scale, self.gt_size
        image, mask = self._image(index, rng)
        code = random_orientation(self.use_hflip, self.use_rot, rng)
        image = _orient(image, code)
        mask = None if mask is None else _orient(mask, code)
        height, width = image.shape[:2]
        if min(height, width) < size:
            raise UserError(
                f"{self._title}: {item.gt[0]} gives an image of {width}×{height}, smaller than "
                f"gt_size {size}"
            )
        crop = size // scale
        for _ in range(MAX_DRAWS):
            y, x = random_crop_origin(height // scale, width // scale, crop, rng)
            place = np.s_[scale * y : scale * y + size, scale * x : scale * x + size]
            if mask is None or mask[place].any():
                break
        lq = self.pipeline.make(image, self.pipeline.draw(rng), (y, x, crop, crop))
        return _sample(item.key, lq, image[place], None if mask is None else mask[place])

    def check_training(self) -> None:
        """Checks whether every image can give training crops.

        Raises:
            UserError: if ``image_size`` is smaller than the crop; names the first ten images that
                are.
        """
        if self.image_size is not None and self.image_size < self.gt_size:
            raise UserError(
                f"{self._title}: image_size {self.image_size} is smaller than gt_size "
                f"{self.gt_size}"
            )
        super().check_training()

    @property
    def _crop_size(self) -> int:
        # An image of any size can be resized.
        return self.scale if self.resize else self.gt_size

    def _image(
        self, index: int, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the image of a burst, (H, W, C) uint8, and its mask, (H, W, 1) bool or None.

        The sides are multiples of the scale.

        Args:
            index: Number of the item.
            rng: Draws the place of a cut; None: the middle.
        """
        path = self._items[index].gt[0]
        image = self._truth(self._items[index], 0)
        if image.dtype != np.uint8:
            raise UserError(f"{path}: {image.dtype} pixels; bursts are made only from 8-bit images")
        if not self._masked:
            options = self.scale, self.image_size, self.resize, rng, self.channels
            return burst_image(image, *options), None
        # The mask is cut and resized with the image, as one more channel.
        mask = image.mask(slice(None), slice(None)).astype(np.uint8) * 255
        pixels = image[:, :, :]
        pixels = np.broadcast_to(pixels, (self.channels, *pixels.shape[1:]))
        options = self.scale, self.image_size, self.resize, rng, self.channels + 1
        both = burst_image(np.concatenate([pixels, mask]), *options)
        return np.ascontiguousarray(both[..., :-1]), both[..., -1:] == 255


def burst_image(
    image: np.ndarray,
    scale: int,
    image_size: int | None = None,
    resize: bool = False,
    rng: np.random.Generator | None = None,
    channels: int = 3,
) -> np.ndarray:
    """Cuts or resizes an image to the one that a burst is made from.

    Args:
        image: (C, H, W) uint8; C is 1 or ``channels``.
        scale: The sides of the result are multiples of it.
        image_size: As of ``SBSRBursts``; all of the image is used if None.
        resize: As of ``SBSRBursts``.
        rng: Draws the place of a cut; None: the middle.
        channels: Channels of the result; a single one is repeated.

    Returns:
        (H', W', channels), contiguous.
    """
    image = np.broadcast_to(image, (channels, *image.shape[1:])).transpose(1, 2, 0)
    if resize and image_size is not None and image.shape[:2] != (image_size, image_size):
        square = image_size, image_size
        # OpenCV takes up to 4 channels, and drops the axis of a single one.
        parts = np.split(image, range(4, channels, 4), axis=2)
        small = [
            cv2.resize(np.ascontiguousarray(part), square, interpolation=cv2.INTER_AREA)
            for part in parts
        ]
        image = np.dstack(small)
    sides = image.shape[:2]
    wanted = sides if image_size is None else [min(side, image_size) for side in sides]
    height, width = (side - side % scale for side in wanted)
    y = x = 0
    if image_size is not None:
        spare = sides[0] - height, sides[1] - width
        y, x = (int(rng.integers(left + 1)) if rng else left // 2 for left in spare)
    return np.ascontiguousarray(image[y : y + height, x : x + width])


def _orient(image: np.ndarray, code: int) -> np.ndarray:
    """Returns an image (H, W, C) in the orientation ``code``."""
    return np.ascontiguousarray(orient_array(image.transpose(2, 0, 1), code).transpose(1, 2, 0))


def _sample(key: str, lq: np.ndarray, gt: np.ndarray, mask: np.ndarray | None) -> Sample:
    sample: Sample = {"key": key, "lq": _channels_first(lq), "gt": _channels_first(gt)}
    if mask is not None:
        sample["mask"] = _channels_first(mask)
    return sample


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(images, -1, -3))

"""The base class of datasets on disk: finds and checks files, reads aligned LR and HR pixels.

Windows are counted in LR pixels; multiplied by ``scale``, they are the matching ground-truth
window. LR images that are not on disk are made by bicubic reduction, as the publishers of the data
did. A window of such an LR image is made from the part of the ground truth that it depends on, and
equals that window of the whole LR image, bit for bit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache as remember
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from srtoolbox.data.cache.pixels import open_pixels
from srtoolbox.data.files.checks import check_items, raise_faults
from srtoolbox.data.files.find import Fault, Item, scan
from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.levels import Levels, check_levels
from srtoolbox.data.files.reader import image_info
from srtoolbox.data.layouts import Layout, get_layout
from srtoolbox.data.resize.array import Edge, imresize_window
from srtoolbox.data.transforms.orientation import random_crop_origin
from srtoolbox.errors import UserError
from srtoolbox.utils.cpu import map_threads
from srtoolbox.utils.files import user_path

_log = logging.getLogger("srtoolbox")

DATASET_TYPES = {"image": "PairedImages", "clip": "Clips", "burst": "Bursts"}
"""The dataset that reads a layout, by the layout's kind."""

Convert = Literal["rgb"]
Found = tuple[list[Item], list[Fault]]
Window = tuple[int, int, int, int]  # top, left, height, width


def choose_layout(name: str, kind: str) -> Layout:
    """Returns the layout ``name``, which must describe the kind of data that the dataset reads.

    Raises:
        UserError: if the layout is unknown or describes another kind.
    """
    layout = get_layout(name)
    if layout.kind != kind:
        raise UserError(
            f"{DATASET_TYPES[kind]}: layout '{name}' describes {layout.kind}s, not {kind}s; "
            f"use type: {DATASET_TYPES[layout.kind]}"
        )
    return layout


def find_items(
    layout: Layout,
    dataroot: str,
    split: str | None,
    scale: int,
    dataroot_lq: str | None = None,
    recursive: bool = False,
) -> Found:
    """Returns the items of a split, and the faults in names and places of its files.

    Args:
        layout: Describes the dataset's file layout.
        dataroot: Folder of the dataset.
        split: Part of the dataset; None if the layout has only one.
        scale: Scale of the LR images.
        dataroot_lq: Another folder for the LR files.
        recursive: As of ``scan``.

    Raises:
        UserError: if there is no such folder or split, or no LR images of that scale.
    """
    if split is None and len(layout.splits) > 1:
        raise UserError(
            f"{DATASET_TYPES[layout.kind]}: layout '{layout.name}' has the splits "
            f"{', '.join(layout.splits)}; name one of them as split"
        )
    split = next(iter(layout.splits)) if split is None else split
    root_lq = None if dataroot_lq is None else user_path(dataroot_lq)
    items, faults = scan(layout, user_path(dataroot), split, scale, root_lq, recursive)
    if any(item.lq for item in items):
        layout.check_scale(scale)
    return items, faults


def check_gt_size(dataset: object, gt_size: int, scale: int) -> None:
    """Checks that a training crop has a whole number of LR pixels.

    Raises:
        UserError: names the class of the dataset and both options.
    """
    if gt_size % scale:
        raise UserError(
            f"{type(dataset).__name__}: gt_size {gt_size} is not a multiple of scale {scale}"
        )


class FileDataset:
    """Base class of the datasets on disk: checked items and their pixels.

    A subclass calls ``_open`` with its files after it has checked its own options.

    Args:
        scale: Size of the ground truth divided by that of LR.
        gt_size: Side of a training crop in HR pixels.
        use_hflip: Mirror training crops at random.
        use_rot: Rotate training crops by random multiples of 90°.

    Raises:
        UserError: if ``gt_size`` is not a multiple of ``scale``.
    """

    channels = 3  # of an LR frame

    def __init__(self, scale: int, gt_size: int, use_hflip: bool, use_rot: bool) -> None:
        check_gt_size(self, gt_size, scale)
        self.scale, self.gt_size = scale, gt_size
        self.use_hflip, self.use_rot = use_hflip, use_rot

    def _open(
        self,
        layout: Layout,
        found: Found,
        dataroot: str,
        edge: Edge | None,
        round_between_passes: bool | None,
        cache: str | None,
        cache_limit: float,
        convert: Convert | None = None,
        levels: tuple[int | None, int] = (None, 0),
    ) -> None:
        """Checks the headers of all files and opens the cache.

        Args:
            layout: Describes how LR images are made where they are not on disk.
            found: Items, and the faults that were found while looking for them.
            dataroot: Folder of the dataset, for messages.
            edge: Border rule for LR made here; None: the layout's.
            round_between_passes: Rounding rule for LR made here; None: the layout's.
            cache: Folder for decoded images; None: files are decoded whenever they are read.
            cache_limit: Maximum size of the cache, in GiB.
            convert: "rgb" converts palette, CMYK and 1-bit images to RGB and drops alpha channels.
            levels: White and black level of uint16 files, as of ``Levels``.

        Raises:
            UserError: names the first ten faults.
        """
        self._convert = convert == "rgb"
        if self._convert and layout.raw:
            raise UserError(
                f"{type(self).__name__}: layout '{layout.name}' is RAW; remove convert: rgb"
            )
        self._levels = Levels(*levels)
        if self._levels.changed and layout.raw:
            raise UserError(
                f"{type(self).__name__}: layout '{layout.name}' has its own white_level and "
                "black_level; remove the options"
            )
        self._title = f"{type(self).__name__} ({dataroot})"
        rules = {"edge": edge, "round_between_passes": round_between_passes}
        rules = {name: rule for name, rule in rules.items() if rule is not None}
        self._layout = replace(layout, **rules)
        self._items, faults = found
        raise_faults([*faults, *self._check()], self._title)
        if not self._items:
            raise UserError(f"{self._title}: no {layout.kind}s found")
        # Two caches, so that datasets that differ only in their LR images share the HR images.
        gt, lq = self._files()
        options = ReadOptions(convert=self._convert)
        self._open_gt = open_pixels(gt, cache, options=options, limit_gib=cache_limit)
        lq_cache = cache if lq else None
        options = replace(options, raw=layout.raw)
        self._open_lq = open_pixels(lq, lq_cache, options=options, limit_gib=cache_limit)
        if self._levels.changed or layout.raw:
            return
        files, read = (gt, self._open_gt) if gt else (lq, self._open_lq)
        if warning := check_levels(files, read, self._title):
            _log.warning("%s", warning)

    def __len__(self) -> int:
        """Returns the number of evaluation samples."""
        return len(self._items)

    @property
    def num_source(self) -> int:
        """Number of images, clips or bursts that training draws from."""
        return len(self._items)

    def paths(self) -> list[Path]:
        """Returns all files that may be read."""
        gt, lq = self._files()
        return gt + lq

    def gt_sizes(self) -> dict[Path, tuple[int, int]]:
        """Returns (H, W) of each ground truth as it is scored, from the first file of each item."""
        paths = [item.gt[0] for item in self._items if item.gt]
        infos = map_threads(partial(image_info, options=ReadOptions(convert=self._convert)), paths)
        return {
            path: (info.height // self.scale * self.scale, info.width // self.scale * self.scale)
            for path, info in zip(paths, infos, strict=True)
        }

    def check_training(self) -> None:
        """Checks whether every item can give training crops.

        Raises:
            UserError: names the first ten images that are smaller than the crop.
        """
        self._check_crops()

    def _check_crops(self, faults: Sequence[Fault] = ()) -> None:
        """Raises a UserError for the given faults and for images smaller than a training crop."""
        checked = self._check(self._crop_size, training=True)
        raise_faults([*faults, *checked], self._title)

    @property
    def _crop_size(self) -> int:
        """Side of the crop that is read for training, in HR pixels."""
        return self.gt_size

    def _read(
        self,
        item: Item,
        lq: Sequence[int],
        gt: Sequence[int],
        rng: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads aligned pixels of some frames of an item, as stored.

        Args:
            item: An item of this dataset.
            lq: Indices of the LR frames.
            gt: Indices of the ground-truth frames.
            rng: Draws the position of a training crop, the same in all frames; None: whole images
                are read.

        Returns:
            LR frames (T, 3, h, w), or (T, 4, h, w) for RAW, and ground truth (T', C, H, W). Grey
            images are repeated to three channels, except a whole ground truth: the protocol
            decides how that is scored.

        Raises:
            UserError: if a file cannot be read or is smaller than the crop.
        """
        # Opens each file once, even if LR is made from it.
        open_gt, open_lq = remember(self._open_gt), remember(self._open_lq)
        if item.lq:
            height, width = open_lq(item.lq[lq[0]]).shape[1:]
        else:
            height, width = (side // self.scale for side in open_gt(item.gt[lq[0]]).shape[1:])
        window = (0, 0, height, width)
        if rng is not None:
            size = self._crop_size // self.scale
            if min(height, width) < size:
                raise UserError(
                    f"{self._title}: {item.key} is {width}×{height} in LR, smaller than the crop "
                    f"of {size} (gt_size {self.gt_size})"
                )
            window = (*random_crop_origin(height, width, size, rng), size, size)

        def read_lq(t: int) -> np.ndarray:
            if item.lq:
                return _cut(open_lq(item.lq[t]), window)
            return self._reduce(open_gt(item.gt[t]), window)

        frames = {t: read_lq(t) for t in set(lq)}
        truth = [_cut(open_gt(item.gt[t]), window, self.scale) for t in gt]
        low, high = _stack([frames[t] for t in lq]), _stack(truth, as_colour=rng is not None)
        return self._levels.apply(low), self._levels.apply(high)

    def _files(self) -> tuple[list[Path], list[Path]]:
        """Returns all ground-truth files and all LR files."""
        return (
            [path for item in self._items for path in item.gt],
            [path for item in self._items for path in item.lq],
        )

    def _check(self, gt_size: int | None = None, training: bool = False) -> list[Fault]:
        # A packed pixel of RAW holds 2 × 2 sensor pixels, in which the checks count.
        scale = self.scale // 2 if self._layout.raw else self.scale
        return check_items(
            self._items,
            self._layout,
            scale,
            gt_size=gt_size,
            training=training,
            options=ReadOptions(convert=self._convert),
        )

    def _reduce(self, image: np.ndarray, window: Window) -> np.ndarray:
        """Makes a window of the LR image of a ground truth (C, H, W)."""
        height, width = (side - side % self.scale for side in image.shape[1:])
        is_integer = image.dtype.kind == "u"
        small = imresize_window(
            image[:, :height, :width],
            1 / self.scale,
            window,
            edge=self._layout.edge,
            round_between_passes=self._layout.round_between_passes and is_integer,
        )
        # The kernel overshoots at edges; integers were clipped when they were rounded.
        return small if is_integer else small.clip(0, 1).astype(image.dtype)


def _cut(image: np.ndarray, window: Window, scale: int = 1) -> np.ndarray:
    y, x, height, width = (scale * side for side in window)
    return image[:, y : y + height, x : x + width]


def _stack(images: list[np.ndarray], as_colour: bool = True) -> np.ndarray:
    """Stacks images (C, H, W) to a contiguous array (T, C, H, W); repeats grey to 3 channels."""
    channels, height, width = images[0].shape
    if as_colour and channels == 1:
        channels = 3
    out = np.empty((len(images), channels, height, width), images[0].dtype)
    for frame, image in zip(out, images, strict=True):
        frame[:] = image
    return out

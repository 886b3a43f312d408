"""What the datasets on disk share: finding and checking their files, and aligned LR and HR pixels.

Windows are counted in LR pixels; ``scale`` times as large, they are the same place of the ground
truth. LR images that are not on disk are made by bicubic reduction, as the data's publishers did
it; a window of one is made from the part of the ground truth that it depends on, and is equal, bit
for bit, to that window of the whole LR image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache as remember
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srtoolbox.data.cache.pixels import open_pixels
from srtoolbox.data.files.checks import check_items, raise_faults
from srtoolbox.data.files.find import Fault, Item, scan
from srtoolbox.data.layouts import Layout, get_layout
from srtoolbox.data.resize.array import Edge, imresize_window
from srtoolbox.data.transforms.orientation import random_crop_origin
from srtoolbox.errors import UserError

DATASET_TYPES = {"image": "PairedImages", "clip": "Clips", "burst": "Bursts"}
"""The dataset that reads a layout, by the layout's kind."""

Found = tuple[list[Item], list[Fault]]
Window = tuple[int, int, int, int]  # top, left, height, width


def choose_layout(name: str, kind: str) -> Layout:
    """The layout of that name, which must describe data of the kind that the dataset reads."""
    layout = get_layout(name)
    if layout.kind != kind:
        raise UserError(
            f"{DATASET_TYPES[kind]}: layout '{name}' describes {layout.kind}s, not {kind}s; "
            f"use type: {DATASET_TYPES[layout.kind]}"
        )
    return layout


def find_items(
    layout: Layout, dataroot: str, split: str | None, scale: int, dataroot_lq: str | None = None
) -> Found:
    """The items of a split, and the faults of their names and places.

    Args:
        layout: How the files lie.
        dataroot: Folder of the dataset.
        split: Part of the dataset; None if the layout has but one.
        scale: Factor of the LR images.
        dataroot_lq: Another folder under which the LR files lie.

    Raises:
        UserError: if there is no such folder or split, or no LR images of that scale.
    """
    if split is None and len(layout.splits) > 1:
        raise UserError(
            f"{DATASET_TYPES[layout.kind]}: layout '{layout.name}' has the splits "
            f"{', '.join(layout.splits)}; name one of them as split"
        )
    split = next(iter(layout.splits)) if split is None else split
    root_lq = None if dataroot_lq is None else Path(dataroot_lq)
    items, faults = scan(layout, Path(dataroot), split, scale, root_lq)
    on_disk = any(item.lq for item in items)
    if on_disk and layout.scales and scale not in layout.scales:
        known = ", ".join(map(str, layout.scales))
        raise UserError(f"layout '{layout.name}': scale is one of {known}, got {scale}")
    return items, faults


class Crop(NamedTuple):
    """Where a training crop is taken from, and what it draws the place with."""

    gt_size: int
    rng: np.random.Generator


class Source:
    """Checked items and their pixels.

    Args:
        layout: Gives the rules by which missing LR images are made.
        found: Items, and the faults met when they were looked for.
        scale: Size of the ground truth over that of LR.
        title: What messages call the dataset.
        edge: Border rule for LR made here; None is the layout's.
        round_between_passes: Rounding rule for LR made here; None is the layout's.
        cache: Folder of decoded images; None decodes files whenever they are read.
        cache_limit: Most that the cache may take, in GiB.

    Raises:
        UserError: names the first ten faults.
    """

    def __init__(
        self,
        layout: Layout,
        found: Found,
        scale: int,
        title: str,
        *,
        edge: Edge | None = None,
        round_between_passes: bool | None = None,
        cache: str | None = None,
        cache_limit: float = 200,
    ) -> None:
        self.items, faults = found
        self.layout, self.scale, self.title = layout, scale, title
        self.edge: Edge = layout.edge if edge is None else edge
        self.round_between_passes = (
            layout.round_between_passes if round_between_passes is None else round_between_passes
        )
        raise_faults([*faults, *self._check()], title)
        folder = None if cache is None else Path(cache)
        # Apart, so that data sets which differ in their LR images alone share the HR images.
        gt, lq = self._files()
        self._open_gt = open_pixels(gt, folder, limit_gib=cache_limit)
        self._open_lq = open_pixels(
            lq, folder if lq else None, raw=layout.raw, limit_gib=cache_limit
        )

    def paths(self) -> list[Path]:
        """All files that may be read."""
        gt, lq = self._files()
        return gt + lq

    def check_training(self, gt_size: int, faults: Sequence[Fault] = ()) -> None:
        """Checks that every image is large enough for crops of ``gt_size`` HR pixels.

        Raises:
            UserError: names the first ten that are not, and of the dataset's own ``faults``.
        """
        raise_faults([*faults, *self._check(gt_size)], self.title)

    def read(
        self, item: Item, lq: Sequence[int], gt: Sequence[int], crop: Crop | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Aligned pixels of some frames of an item, as stored.

        Args:
            item: One of ``items``.
            lq: Indices of the LR frames.
            gt: Indices of the ground-truth frames.
            crop: Size and random numbers of a training crop, the same place in all frames; None
                reads whole images.

        Returns:
            LR frames (T, 3, h, w), or (T, 4, h, w) of RAW, and ground truth (T', C, H, W). Grey
            images are repeated to three channels, but for a whole ground truth: how that is scored
            is the protocol's.

        Raises:
            UserError: if a file cannot be read or is smaller than the crop.
        """
        # Each file is opened once, also if LR is made from it.
        open_gt, open_lq = remember(self._open_gt), remember(self._open_lq)
        if item.lq:
            height, width = open_lq(item.lq[lq[0]]).shape[1:]
        else:
            height, width = (side // self.scale for side in open_gt(item.gt[lq[0]]).shape[1:])
        window = (0, 0, height, width)
        if crop is not None:
            size = crop.gt_size // self.scale
            if min(height, width) < size:
                raise UserError(
                    f"{self.title}: {item.key} is {width}×{height} in LR, smaller than the crop "
                    f"of {size} (gt_size {crop.gt_size})"
                )
            window = (*random_crop_origin(height, width, size, crop.rng), size, size)

        def small(t: int) -> np.ndarray:
            if item.lq:
                return _cut(open_lq(item.lq[t]), window)
            return self._reduce(open_gt(item.gt[t]), window)

        frames = {t: small(t) for t in set(lq)}
        truth = [_cut(open_gt(item.gt[t]), window, self.scale) for t in gt]
        return _stack([frames[t] for t in lq]), _stack(truth, as_colour=crop is not None)

    def _files(self) -> tuple[list[Path], list[Path]]:
        """All files of the ground truth, and all of LR."""
        return (
            [path for item in self.items for path in item.gt],
            [path for item in self.items for path in item.lq],
        )

    def _check(self, gt_size: int | None = None) -> list[Fault]:
        raw = self.layout.raw
        # A packed pixel of RAW holds two by two of the sensor's, from which its checks count.
        scale = self.scale // 2 if raw else self.scale
        return check_items(self.items, scale=scale, kind=self.layout.kind, raw=raw, gt_size=gt_size)

    def _reduce(self, image: np.ndarray, window: Window) -> np.ndarray:
        """A window of the LR image of a ground truth (C, H, W)."""
        height, width = (side - side % self.scale for side in image.shape[1:])
        whole = image.dtype.kind == "u"
        small = imresize_window(
            image[:, :height, :width],
            1 / self.scale,
            window,
            edge=self.edge,
            round_between_passes=self.round_between_passes and whole,
        )
        # The kernel overshoots at edges; integers were clipped when they were rounded.
        return small if whole else small.clip(0, 1).astype(image.dtype)


def _cut(image: np.ndarray, window: Window, scale: int = 1) -> np.ndarray:
    y, x, height, width = (scale * side for side in window)
    return image[:, y : y + height, x : x + width]


def _stack(images: list[np.ndarray], as_colour: bool = True) -> np.ndarray:
    """Images (C, H, W) as one contiguous array (T, C, H, W); grey is repeated to three channels."""
    channels, height, width = images[0].shape
    if as_colour and channels == 1:
        channels = 3
    out = np.empty((len(images), channels, height, width), images[0].dtype)
    for frame, image in zip(out, images, strict=True):
        frame[:] = image
    return out

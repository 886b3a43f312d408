"""The base class of datasets on disk: finds and checks files, reads aligned LR and HR pixels.

Windows are counted in LR pixels; multiplied by ``scale``, they are the matching ground-truth
window. LR images that are not on disk are made by bicubic reduction, as the publishers of the data
did. A window of such an LR image is made from the part of the ground truth that it depends on, and
equals that window of the whole LR image, bit for bit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache as remember
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srtoolbox.data.base import Sample
from srtoolbox.data.cache.pixels import CachedPixels, find_pixels, open_pixels
from srtoolbox.data.datasets.masked import MaskedImage
from srtoolbox.data.datasets.reading import Reading, for_check
from srtoolbox.data.files.checks import check_items, raise_faults
from srtoolbox.data.files.find import Fault, Item, scan
from srtoolbox.data.files.image_info import ImageInfo, ReadOptions
from srtoolbox.data.files.levels import Levels, check_levels
from srtoolbox.data.files.reader import MASK_OPTIONS, image_info
from srtoolbox.data.layouts import Layout, get_layout
from srtoolbox.data.resize.array import Edge, imresize_window
from srtoolbox.data.transforms.orientation import random_crop_origin
from srtoolbox.errors import UserError
from srtoolbox.utils.cpu import map_threads
from srtoolbox.utils.files import user_path

_log = logging.getLogger("srtoolbox")

DATASET_TYPES = {"image": "PairedImages", "clip": "Clips", "burst": "Bursts"}
"""The dataset that reads a layout, by the layout's kind."""

Found = tuple[list[Item], list[Fault]]
_FileSet = tuple[list[Path], str | None, ReadOptions]  # files, the folder of their cache
Window = tuple[int, int, int, int]  # top, left, height, width

MAX_DRAWS = 10
"""How often the place of a training crop is drawn, at most, to find one with a known pixel."""


class Pixels(NamedTuple):
    """LR frames (T, C, h, w), ground truth (T', C', H, W), and its mask (T', 1, H, W) or None."""

    lq: np.ndarray
    gt: np.ndarray
    mask: np.ndarray | None

    def as_sample(self, key: str, single: bool) -> Sample:
        """Returns a sample; ``single``: its ground truth is the only frame, (C', H, W)."""
        sample: Sample = {"key": key, "lq": self.lq, "gt": self.gt[0] if single else self.gt}
        if self.mask is not None:
            sample["mask"] = self.mask[0] if single else self.mask
        return sample


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
    meta_info: str | None = None,
) -> Found:
    """Returns the items of a split, and the faults in names and places of its files.

    Args:
        layout: Describes the dataset's file layout.
        dataroot: Folder of the dataset.
        split: Part of the dataset; None if the layout has only one.
        scale: Scale of the LR images.
        dataroot_lq: Another folder for the LR files.
        recursive: As of ``scan``.
        meta_info: File that names the items, as of ``scan``.

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
    listing = None if meta_info is None else meta_info_path(meta_info)
    items, faults = scan(layout, user_path(dataroot), split, scale, root_lq, recursive, listing)
    if any(item.lq for item in items):
        layout.check_scale(scale)
    return items, faults


def meta_info_path(meta_info: str) -> Path:
    """Returns the path of a file that names items.

    Raises:
        UserError: if there is no such file.
    """
    path = user_path(meta_info)
    if not path.is_file():
        raise UserError(f"meta_info_file: {path}: no such file")
    return path


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

    A subclass calls ``_open`` with its files after it has checked its own options. If pixels of the
    ground truth are missing (``nodata``, mask files), every sample has a mask. A training crop
    without any known pixel would teach nothing: its place is drawn again, up to ``MAX_DRAWS`` times
    in all, by the random numbers of its sample; the last one is taken in any case.

    Args:
        scale: Size of the ground truth divided by that of LR.
        gt_size: Side of a training crop in HR pixels.
        use_hflip: Mirror training crops at random.
        use_rot: Rotate training crops by random multiples of 90°.

    Raises:
        UserError: if ``gt_size`` is not a multiple of ``scale``.
    """

    channels = 3  # of an LR frame
    gt_channels = 3  # of the ground truth
    raw = False  # whether LR frames are packed RAW

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
        reading: Reading,
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
            reading: How files are read.

        Raises:
            UserError: names the first ten faults.
        """
        reading = reading.in_layout(layout)
        self._levels = reading.levels
        if layout.raw:
            try:
                reading.check_raw(layout)
            except UserError as error:
                raise UserError(f"{type(self).__name__}: {error}") from error
        self.raw = layout.raw
        self.channels = 4 if layout.raw else reading.num_band
        self.gt_channels = 3 if layout.raw else reading.num_band_gt
        self._title = f"{type(self).__name__} ({dataroot})"
        rules = {"edge": edge, "round_between_passes": round_between_passes}
        rules = {name: rule for name, rule in rules.items() if rule is not None}
        self._layout = replace(layout, **rules)
        self._items, faults = found
        self._gt_options, self._lq_options = reading.options(layout, self._items)
        gt, lq = self._files()
        masks = [path for item in self._items for path in item.mask]
        lq_options = replace(self._lq_options, raw=layout.raw)
        # Two caches, so that datasets that differ only in their LR images share the HR images.
        sets = (
            (gt, cache, self._gt_options),
            (masks, cache if masks else None, MASK_OPTIONS),
            (lq, cache if lq else None, lq_options),
        )
        cached = [find_pixels(*files) for files in sets]
        self._infos = self._known_infos(sets, cached)
        raise_faults([*faults, *self._check()], self._title)
        if not self._items:
            raise UserError(f"{self._title}: no {layout.kind}s found")
        self._masked = bool(masks) or self._gt_options.nodata is not None
        limits: dict[str, Any] = {"limit_gib": cache_limit}
        self._open_gt, self._open_mask, self._open_lq = (
            found or open_pixels(files, folder, options=options, **limits)
            for found, (files, folder, options) in zip(cached, sets, strict=True)
        )
        # Reads the files that LR is made from; they may have other bands than the ground truth.
        self._open_source = self._open_gt
        if self._lq_options != self._gt_options and not all(item.lq for item in self._items):
            self._open_source = open_pixels(gt, cache, options=self._lq_options, **limits)
        if self._levels.changed or layout.raw:
            return
        files, read = (gt, self._open_gt) if gt else (lq, self._open_lq)
        if warning := check_levels(files, read, self._title, self._gt_options):
            _log.warning("%s", warning)

    @property
    def levels(self) -> Levels:
        """White and black level that its files are read with."""
        return self._levels

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
        return gt + lq + [path for item in self._items for path in (*item.mask, *item.lq_mask)]

    def gt_sizes(self) -> dict[Path, tuple[int, int]]:
        """Returns (H, W) of each ground truth as it is scored, from the first file of each item."""
        paths = [item.gt[0] for item in self._items if item.gt]
        infos = self._infos
        if self._layout.raw:  # they were checked as RAW files, whose orientation has no effect
            read = map_threads(partial(image_info, options=self._gt_options), paths)
            infos = dict(zip(paths, read, strict=True))
        sizes = {path: infos[path].size for path in paths}
        scale = self.scale
        return {path: (h // scale * scale, w // scale * scale) for path, (h, w) in sizes.items()}

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
    ) -> Pixels:
        """Reads aligned pixels of some frames of an item, as stored.

        Args:
            item: An item of this dataset.
            lq: Indices of the LR frames.
            gt: Indices of the ground-truth frames.
            rng: Draws the position of a training crop, the same in all frames; None: whole images
                are read.

        Returns:
            LR frames (T, C, h, w), ground truth (T', C', H, W), and its mask. If three channels are
            asked for, grey images are repeated to three, except a whole ground truth: the protocol
            decides how that is scored.

        Raises:
            UserError: if a file cannot be read or is smaller than the crop.
        """
        # Opens each file once, even if LR is made from it.
        open_gt, open_lq = remember(partial(self._truth, item)), remember(self._open_lq)
        open_source = open_gt
        if self._open_source is not self._open_gt:
            open_source = remember(partial(self._source, item))
        if item.lq:
            height, width = open_lq(item.lq[lq[0]]).shape[1:]
        else:
            height, width = (side // self.scale for side in open_source(lq[0]).shape[1:])
        window = (0, 0, height, width)
        if rng is not None:
            size = self._crop_size // self.scale
            if min(height, width) < size:
                raise UserError(
                    f"{self._title}: {item.key} is {width}×{height} in LR, smaller than the crop "
                    f"of {size} (gt_size {self.gt_size})"
                )
            for _ in range(MAX_DRAWS):
                window = (*random_crop_origin(height, width, size, rng), size, size)
                if not self._masked or any(
                    _cut_mask(open_gt(t), window, self.scale).any() for t in gt
                ):
                    break

        def read_lq(t: int) -> np.ndarray:
            if not item.lq:
                return self._reduce(open_source(t), window)
            frame = _cut(open_lq(item.lq[t]), window)
            return frame[:-1] if self._lq_options.num_extra else frame

        frames = {t: read_lq(t) for t in set(lq)}
        truth = [_cut(open_gt(t), window, self.scale) for t in gt]
        low = _stack([frames[t] for t in lq], self.channels == 3)
        high = _stack(truth, rng is not None and self.gt_channels == 3)
        mask = None
        if self._masked:
            mask = np.stack([_cut_mask(open_gt(t), window, self.scale) for t in gt])
        return Pixels(self._levels.apply(low), self._levels.apply(high), mask)

    def _truth(self, item: Item, index: int) -> Any:
        """Returns ground truth ``index`` of an item, an array or a ``MaskedImage``."""
        pixels = self._open_gt(item.gt[index])
        return self._with_mask(pixels, item, index) if self._masked else pixels

    def _source(self, item: Item, index: int) -> Any:
        """Returns the image that LR frame ``index`` is made from, as ``_truth``."""
        pixels = self._open_source(item.gt[index])
        return self._with_mask(pixels, item, index) if self._masked else pixels

    def _with_mask(self, pixels: np.ndarray, item: Item, index: int) -> MaskedImage:
        mask = self._open_mask(item.mask[index]) if item.mask else None
        if mask is None and not self._gt_options.num_extra:
            mask = np.broadcast_to(np.uint8(1), (1, *pixels.shape[1:]))  # other items have masks
        return MaskedImage(pixels, bool(self._gt_options.num_extra), mask)

    def _files(self) -> tuple[list[Path], list[Path]]:
        """Returns all ground-truth files and all LR files."""
        return (
            [path for item in self._items for path in item.gt],
            [path for item in self._items for path in item.lq],
        )

    def _known_infos(
        self, sets: Iterable[_FileSet], cached: Iterable[CachedPixels | None]
    ) -> dict[Path, ImageInfo]:
        """Returns the forms of the files that the cache has: it has read them as they are."""
        infos: dict[Path, ImageInfo] = {}
        seen: set[Path] = set()  # a file of several sets is checked with the options of the first
        for (files, _, options), pixels in zip(sets, cached, strict=True):
            own = [path for path in files if path not in seen]
            seen.update(own)
            # In a layout of RAW files, the check reads the ground truth, too, as RAW.
            if pixels is not None and (options.raw or not self._layout.raw):
                infos |= pixels.infos(own, options)
        return infos

    def _check(self, gt_size: int | None = None, training: bool = False) -> list[Fault]:
        # A packed pixel of RAW holds 2 × 2 sensor pixels, in which the checks count.
        scale = self.scale // 2 if self._layout.raw else self.scale
        return check_items(
            self._items,
            self._layout,
            scale,
            gt_size=gt_size,
            training=training,
            options=for_check(self._gt_options),
            lq_options=for_check(self._lq_options),
            known=self._infos,
        )

    def _reduce(self, image: Any, window: Window) -> np.ndarray:
        """Makes a window of the LR image of a ground truth (C, H, W)."""
        height, width = (side - side % self.scale for side in image.shape[1:])
        is_integer = image.dtype.kind in "ui"
        small = imresize_window(
            image,
            1 / self.scale,
            window,
            edge=self._layout.edge,
            round_between_passes=self._layout.round_between_passes and is_integer,
            size=(height, width),
        )
        if is_integer:
            return small
        # The kernel overshoots at edges; integers were clipped when they were rounded. Floats of
        # another range are clipped by their levels.
        small = small if self._lq_options.any_range else small.clip(0, 1)
        return small.astype(image.dtype)


def _cut(image: Any, window: Window, scale: int = 1) -> np.ndarray:
    y, x, height, width = window
    return image[:, scale * y : scale * (y + height), scale * x : scale * (x + width)]


def _cut_mask(image: MaskedImage, window: Window, scale: int) -> np.ndarray:
    y, x, height, width = window
    rows, columns = slice(scale * y, scale * (y + height)), slice(scale * x, scale * (x + width))
    return image.mask(rows, columns)


def _stack(images: list[np.ndarray], as_colour: bool) -> np.ndarray:
    """Stacks images (C, H, W) to a contiguous array (T, C, H, W); repeats grey to 3 channels."""
    channels, height, width = images[0].shape
    if as_colour and channels == 1:
        channels = 3
    out = np.empty((len(images), channels, height, width), images[0].dtype)
    for frame, image in zip(out, images, strict=True):
        frame[:] = image
    return out

"""Bursts on disk: several views of one scene, and one ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from srtoolbox.data.base import Sample
from srtoolbox.data.datasets.reading import Level, Reading
from srtoolbox.data.datasets.source import FileDataset, Pixels, choose_layout, find_items
from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.files.reader import MASK_OPTIONS, as_mask, read_image
from srtoolbox.data.transforms.bayer import orient_bayer
from srtoolbox.data.transforms.orientation import random_orientation
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class Bursts(FileDataset):
    """Bursts of RGB or packed RAW frames, or of other bands; frame 0 is the reference.

    RAW frames become float32 in [0, 1] by the black and white level of their dataset. The records
    of single captures (``meta_info.pkl`` and similar files: exposure, white balance, whether a
    black level is subtracted) are never read, because pickle files can run code when they are
    opened. Pixel values are therefore used as stored, and RealBSR-RAW is read as if no black level
    had been subtracted.

    Args:
        layout: Name of a known file layout.
        dataroot: Folder of the dataset.
        split: Part of the dataset, as the layout calls it; optional if there is only one.
        scale: Ground-truth size divided by frame size, including the packing: 8 for RAW data
            published as ×4.
        num_frame: Frames to read from each burst: the first ``num_frame`` of them. In layouts with
            status maps (probav, worldstrat): the clearest first, equally clear ones by name.
        gt_size: Side of a training crop in HR pixels.
        use_hflip: Mirror training crops at random; the Bayer pattern of RAW is kept.
        use_rot: Rotate training crops by random multiples of 90°; the Bayer pattern is kept.
        cache: Folder for decoded images; null decodes the files each time. Samples are the same.
        cache_limit: Maximum size of the decoded images, in GiB.
        convert: ``"rgb"`` converts palette, CMYK and 1-bit images to RGB and drops alpha channels
            without blending; null: such images are errors.
        white_level: Value of 16-bit files that becomes 1, such as 4095 for 12 bits, or a list with
            a value for each band; null: 65535, for signed files 32767. Files of 8 bits and float
            are not changed. LR made here is rounded before.
        black_level: Value of 16-bit files that becomes 0, or a list with a value for each band.
        recursive: Also take bursts in sub-folders of the folder of bursts; links to folders are not
            followed.
        channels: Bands of a frame; null: as many as the network takes (without a network: as
            many as ``bands``, or 3). With 3, grey files are repeated to three bands; with
            other numbers, all files must have so many. RAW always has four.
        bands: Numbers from 1 of the bands to use, in this order, such as [4, 3, 2]; files may have
            more. Null: all.
        bands_gt: Bands of the ground truth to use; null: as ``bands``.
        nodata: Value of missing pixels; null: the value that GeoTIFF files state, if they do.
            Missing pixels are filled from their neighbours, and losses and metrics leave those of
            the ground truth out. A training crop without any other pixel is drawn again, up to ten
            times in all.
        scale_floats: Apply the levels to float files, too, which may then have any range.

    Raises:
        UserError: names the first ten faulty files or bursts, or the invalid option.
    """

    reference = 0

    def __init__(
        self,
        layout: str = "bursts",
        dataroot: str | None = None,
        split: str | None = None,
        scale: int = 4,
        num_frame: int = 14,
        gt_size: int = 256,
        use_hflip: bool = True,
        use_rot: bool = True,
        cache: str | None = None,
        cache_limit: float = 200,
        convert: Literal["rgb"] | None = None,
        white_level: Level | None = None,
        black_level: Level = 0,
        recursive: bool = False,
        channels: int | None = None,
        bands: Sequence[int] | None = None,
        bands_gt: Sequence[int] | None = None,
        nodata: float | None = None,
        scale_floats: bool = False,
    ) -> None:
        if dataroot is None:
            raise UserError("Bursts: dataroot is missing; give the folder of the dataset")
        if num_frame < 1:
            raise UserError(f"Bursts: num_frame must be at least 1, got {num_frame}")
        super().__init__(scale, gt_size, use_hflip, use_rot)
        self.num_frame = num_frame
        known_layout = choose_layout(layout, "burst")
        # Layouts count in sensor pixels; a packed pixel holds 2 × 2 of them.
        published = scale // 2 if known_layout.raw else scale
        if known_layout.raw and (scale % 2 or published not in known_layout.scales):
            known = " or ".join(
                f"{2 * factor} (×{factor} and packed)" for factor in known_layout.scales
            )
            raise UserError(f"Bursts: scale of layout '{layout}' is {known}, got {scale}")
        items, faults = find_items(known_layout, dataroot, split, published, recursive=recursive)
        found = items, [*faults, *filter(None, map(self._fault, items))]
        reading = Reading(
            convert,
            channels,
            bands,
            bands_gt,
            nodata,
            white_level,
            black_level,
            scale_floats,
        )
        self._open(known_layout, found, dataroot, None, None, cache, cache_limit, reading)
        self._orders: dict[str, list[int]] = {}  # of frames by clear pixels
        self.linear_gt = known_layout.gt_white_level is not None

    def __getitem__(self, index: int) -> Sample:
        """Returns a whole burst, for evaluation: lq (T, C, h, w) and gt (C', H, W).

        Pixels are as stored. RAW frames are float32; their ground truth is as stored or float32.
        """
        item = self._items[index]
        return self._read_burst(item).as_sample(item.key, single=True)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Returns a random aligned crop of burst ``index``: lq (T, C, h, w) and gt (C', H, W).

        RAW is already oriented; others come with an orientation to apply on the device.
        """
        item = self._items[index]
        sample = self._read_burst(item, rng).as_sample(item.key, single=True)
        orientation = random_orientation(self.use_hflip, self.use_rot, rng)
        if not self._layout.raw:
            sample["orientation"] = orientation
            return sample
        lq = sample["lq"]
        sample["lq"], sample["gt"] = orient_bayer(lq, sample["gt"], orientation, self.scale)
        if "mask" in sample:
            _, sample["mask"] = orient_bayer(lq, sample["mask"], orientation, self.scale)
        return sample

    @property
    def _crop_size(self) -> int:
        # Orienting RAW costs one packed pixel, because it keeps the Bayer pattern.
        return self.gt_size + (self.scale if self._layout.raw else 0)

    def _read_burst(self, item: Item, rng: np.random.Generator | None = None) -> Pixels:
        pixels, layout = self._read(item, self._frames(item), [0], rng), self._layout
        if not layout.raw:
            return pixels
        # The publishers wrote these R, G, B arrays with OpenCV, which expects B, G, R.
        gt = pixels.gt[:, ::-1]
        if layout.gt_white_level is not None:
            gt = _normalise(gt, layout.black_level, layout.gt_white_level)
        lq = _normalise(pixels.lq, layout.black_level, layout.white_level)
        return Pixels(lq, np.ascontiguousarray(gt), pixels.mask)

    def _frames(self, item: Item) -> Sequence[int]:
        """Returns the indices of the frames that are read, the reference first."""
        if not item.lq_mask:
            return range(self.num_frame)
        if item.key not in self._orders:
            maps = (as_mask(read_image(path, MASK_OPTIONS)) for path in item.lq_mask)
            clear = [np.count_nonzero(clear_pixels) for clear_pixels in maps]
            # The sort is stable: equally clear frames stay in the order of their names.
            self._orders[item.key] = sorted(range(len(clear)), key=lambda t: -clear[t])
        return self._orders[item.key][: self.num_frame]

    def _fault(self, item: Item) -> Fault | None:
        """Returns the reason why a burst cannot be used; None if it can."""
        path = (item.lq or item.gt)[0].parent
        if not item.gt:
            text = f"{item.key} has no ground truth; choose a split that has one"
            return Fault(path, "missing partner", text)
        if len(item.lq) < self.num_frame:
            text = f"{item.key} has {len(item.lq)} frames, num_frame asks for {self.num_frame}"
            return Fault(path, "too short", f"{text}; lower num_frame")
        return None


def _normalise(stored: np.ndarray, black: int, white: int | None) -> np.ndarray:
    """Converts sensor values to float32 in [0, 1]; ``white`` None: the maximum of their type."""
    if white is None:
        white = int(np.iinfo(stored.dtype).max)
    return ((stored.astype(np.float32) - black) / white).clip(0, 1)

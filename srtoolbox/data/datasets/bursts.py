"""Bursts on disk: several views of one scene, and one ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from srtoolbox.data.datasets.source import Crop, Source, choose_layout, find_items
from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.stream import Sample
from srtoolbox.data.transforms.bayer import orient_bayer
from srtoolbox.data.transforms.orientation import random_orientation
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class Bursts:
    """Bursts of RGB or packed RAW frames; frame 0 is the reference.

    RAW frames become float32 in [0, 1] by their dataset's black and white level. Records of single
    captures (``meta_info.pkl`` and the like: exposure, white balance, whether a black level is
    subtracted) are never read, for pickles can run code when they are opened: files are taken at
    their pixels' value, and RealBSR-RAW as from before the subtraction.

    Args:
        layout: Name of a known arrangement of files.
        dataroot: Folder of the dataset.
        split: Part of the dataset, as the layout calls it; may be left out if there is one only.
        scale: Ground truth over frame. Packing counts: for RAW data published as ×4 it is 8.
        num_frame: Frames of a burst that are read: the first of those that there are.
        gt_size: Side of a training crop in HR pixels.
        use_hflip: Mirror training crops at random; the Bayer pattern of RAW is kept.
        use_rot: Turn training crops by random multiples of 90°, likewise.
        cache: Folder for decoded images; null decodes the files each time. Samples are the same.
        cache_limit: Most that the decoded images may take, in GiB.

    Raises:
        UserError: names the first ten faulty files or bursts, or the option that does not fit.
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
    ) -> None:
        if dataroot is None:
            raise UserError("Bursts: dataroot is missing; give the folder of the dataset")
        if num_frame < 1:
            raise UserError(f"Bursts: num_frame must be at least 1, got {num_frame}")
        if gt_size % scale:
            raise UserError(f"Bursts: gt_size {gt_size} is not a multiple of scale {scale}")
        self.scale, self.num_frame, self.gt_size = scale, num_frame, gt_size
        self.use_hflip, self.use_rot = use_hflip, use_rot
        self.layout = choose_layout(layout, "burst")
        self.channels = 4 if self.layout.raw else 3
        # Layouts count from the sensor's pixels, of which a packed pixel holds two by two.
        published = scale // 2 if self.layout.raw else scale
        if self.layout.raw and (scale % 2 or published not in self.layout.scales):
            known = " or ".join(
                f"{2 * factor} (×{factor} and packed)" for factor in self.layout.scales
            )
            raise UserError(f"Bursts: scale of layout '{layout}' is {known}, got {scale}")
        items, faults = find_items(self.layout, dataroot, split, published)
        faults += [fault for item in items if (fault := self._fault(item))]
        self._source = Source(
            self.layout,
            (items, faults),
            scale,
            f"Bursts ({dataroot})",
            cache=cache,
            cache_limit=cache_limit,
        )

    def __len__(self) -> int:
        return len(self._source.items)

    def __getitem__(self, index: int) -> Sample:
        """A whole burst, for evaluation: lq (T, C, h, w) and gt (C', H, W).

        RGB as stored; RAW frames float32, and their ground truth as stored or float32.
        """
        item = self._source.items[index]
        lq, gt = self._read(item)
        return {"key": item.key, "lq": lq, "gt": gt}

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """A random aligned crop, for training: lq (T, C, h, w) and gt (3, H, W).

        RGB comes with an orientation, in which both are to be brought; RAW is in it already.
        """
        item = self._source.items[index]
        if not self.layout.raw:
            lq, gt = self._read(item, Crop(self.gt_size, rng))
            orientation = random_orientation(self.use_hflip, self.use_rot, rng)
            return {"key": item.key, "lq": lq, "gt": gt, "orientation": orientation}
        # One packed pixel more, which keeping the Bayer pattern costs.
        lq, gt = self._read(item, Crop(self.gt_size + self.scale, rng))
        orientation = random_orientation(self.use_hflip, self.use_rot, rng)
        lq, gt = orient_bayer(lq, gt, orientation, self.scale)
        return {"key": item.key, "lq": lq, "gt": gt}

    def check_training(self) -> None:
        """Checks what only training asks for.

        Raises:
            UserError: names bursts that are smaller than the crop.
        """
        self._source.check_training(self.gt_size + (self.scale if self.layout.raw else 0))

    def paths(self) -> list[Path]:
        """All files that may be read."""
        return self._source.paths()

    def _read(self, item: Item, crop: Crop | None = None) -> tuple[np.ndarray, np.ndarray]:
        lq, (gt,) = self._source.read(item, range(self.num_frame), [0], crop)
        layout = self.layout
        if layout.raw:
            lq = _normalise(lq, layout.black_level, layout.white_level)
            # OpenCV wrote these arrays of R, G, B as if they were B, G, R.
            gt = gt[::-1]
            if layout.gt_white_level is not None:
                gt = _normalise(gt, layout.black_level, layout.gt_white_level)
        return lq, np.ascontiguousarray(gt)

    def _fault(self, item: Item) -> Fault | None:
        """Why a burst can be neither trained on nor scored; None if it can."""
        path = (item.lq or item.gt)[0].parent
        if not item.gt:
            text = f"{item.key} has no ground truth; choose a split that has one"
            return Fault(path, "missing partner", text)
        if len(item.lq) < self.num_frame:
            text = f"{item.key} has {len(item.lq)} frames, num_frame asks for {self.num_frame}"
            return Fault(path, "too short", f"{text}; lower num_frame")
        return None


def _normalise(stored: np.ndarray, black: int, white: int) -> np.ndarray:
    """Sensor values as float32 in [0, 1]."""
    return ((stored.astype(np.float32) - black) / white).clip(0, 1)

"""Single images: pairs on disk, or HR images whose LR versions are made on the fly."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from srtoolbox.data.datasets.source import Crop, Source, choose_layout, find_items
from srtoolbox.data.files.find import scan_pair
from srtoolbox.data.stream import Sample
from srtoolbox.data.transforms.orientation import random_orientation
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class PairedImages:
    """Pairs of a ground-truth image and its low-quality version.

    The files are those of a known dataset (``layout``, ``dataroot``, ``split``) or of plain folders
    (``dataroot_gt``, ``dataroot_lq``). Every pair is checked by the files' headers when the dataset
    is built. A ground truth that is larger than scale × LR by less than one LR pixel is cut at its
    right and lower edge, as the benchmark sets expect.

    Args:
        layout: Name of a known arrangement of files.
        dataroot: Folder of a dataset in that layout.
        split: Part of the dataset, as the layout calls it; may be left out if there is one only.
        dataroot_gt: Folder of HR images, instead of ``dataroot``.
        dataroot_lq: Folder of the LR images if they lie elsewhere. With ``dataroot_gt`` alone, LR
            images are made by MATLAB bicubic.
        filename_tmpl: With ``dataroot_gt``: stem of an LR file from that of its HR file,
            ``"{}x4"`` for DIV2K.
        scale: How many times larger the HR images are.
        gt_size: Side of a training crop in HR pixels.
        use_hflip: Mirror training crops at random.
        use_rot: Turn training crops by random multiples of 90°.
        edge: Border rule for LR made here; null is the layout's.
        round_between_passes: Rounding rule for LR made here; null is the layout's.
        cache: Folder for decoded images; null decodes the files each time. Samples are the same.
        cache_limit: Most that the decoded images may take, in GiB.

    Raises:
        UserError: names the first ten faulty files.
    """

    num_frame = 1
    reference = 0
    channels = 3

    def __init__(
        self,
        layout: str = "folder",
        dataroot: str | None = None,
        split: str | None = None,
        dataroot_gt: str | None = None,
        dataroot_lq: str | None = None,
        filename_tmpl: str = "{}",
        scale: int = 4,
        gt_size: int = 192,
        use_hflip: bool = True,
        use_rot: bool = True,
        edge: Literal["replicate", "symmetric"] | None = None,
        round_between_passes: bool | None = None,
        cache: str | None = None,
        cache_limit: float = 200,
    ) -> None:
        if gt_size % scale:
            raise UserError(f"PairedImages: gt_size {gt_size} is not a multiple of scale {scale}")
        if (dataroot is None) == (dataroot_gt is None):
            raise UserError(
                "PairedImages: give either dataroot (the folder of a dataset, with layout and "
                "split) or dataroot_gt (a folder of HR images)"
            )
        self.scale, self.gt_size = scale, gt_size
        self.use_hflip, self.use_rot = use_hflip, use_rot
        arrangement = choose_layout(layout, "image")
        if dataroot_gt is not None:
            if split is not None:
                raise UserError("PairedImages: split belongs to dataroot; leave one of them out")
            folder_lq = None if dataroot_lq is None else Path(dataroot_lq)
            found = scan_pair(Path(dataroot_gt), folder_lq, filename_tmpl)
        else:
            if filename_tmpl != "{}":
                raise UserError(
                    "PairedImages: filename_tmpl belongs to dataroot_gt; a layout has names of its "
                    "own"
                )
            found = find_items(arrangement, dataroot, split, scale, dataroot_lq)
        self._source = Source(
            arrangement,
            found,
            scale,
            f"PairedImages ({dataroot_gt or dataroot})",
            edge=edge,
            round_between_passes=round_between_passes,
            cache=cache,
            cache_limit=cache_limit,
        )

    def __len__(self) -> int:
        return len(self._source.items)

    def __getitem__(self, index: int) -> Sample:
        """A whole pair, for evaluation: lq (1, 3, h, w) and gt (C, H, W) as stored."""
        item = self._source.items[index]
        lq, gt = self._source.read(item, [0], [0])
        return {"key": item.key, "lq": lq, "gt": gt[0]}

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """A random aligned crop, for training: lq (1, 3, h, w), gt (3, H, W) and an orientation."""
        item = self._source.items[index]
        lq, gt = self._source.read(item, [0], [0], Crop(self.gt_size, rng))
        orientation = random_orientation(self.use_hflip, self.use_rot, rng)
        return {"key": item.key, "lq": lq, "gt": gt[0], "orientation": orientation}

    def check_training(self) -> None:
        """Checks what only training asks for.

        Raises:
            UserError: names images that are smaller than the crop.
        """
        self._source.check_training(self.gt_size)

    def paths(self) -> list[Path]:
        """All files that may be read."""
        return self._source.paths()

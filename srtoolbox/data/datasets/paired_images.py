"""Single images: pairs on disk, or HR images whose LR versions are made on the fly."""

from __future__ import annotations

from typing import Literal

import numpy as np

from srtoolbox.data.base import Sample
from srtoolbox.data.datasets.source import FileDataset, choose_layout, find_items
from srtoolbox.data.files.find import scan_pair
from srtoolbox.data.transforms.orientation import random_orientation
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY
from srtoolbox.utils.files import user_path


@DATASET_REGISTRY.register()
class PairedImages(FileDataset):
    """Pairs of an HR image and its LR version.

    The files are those of a known dataset (``layout``, ``dataroot``, ``split``) or of plain folders
    (``dataroot_gt``, ``dataroot_lq``). The headers of every pair are checked when the dataset is
    built. A ground truth that is larger than scale × LR by less than one LR pixel is cropped at its
    right and bottom edge, as the benchmark sets expect.

    Args:
        layout: Name of a known file layout.
        dataroot: Folder of a dataset in that layout.
        split: Part of the dataset, as the layout calls it; optional if there is only one.
        dataroot_gt: Folder of HR images, instead of ``dataroot``.
        dataroot_lq: Folder of the LR images, if they are in another folder. With ``dataroot_gt``
            alone, LR images are made by MATLAB bicubic.
        filename_tmpl: With ``dataroot_gt``: stem of an LR file, from the stem of its HR file;
            ``"{}x4"`` for DIV2K.
        scale: HR size divided by LR size.
        gt_size: Side of a training crop in HR pixels.
        use_hflip: Mirror training crops at random.
        use_rot: Rotate training crops by random multiples of 90°.
        edge: Border rule for LR made here; null: the layout's.
        round_between_passes: Rounding rule for LR made here; null: the layout's.
        cache: Folder for decoded images; null decodes the files each time. Samples are the same.
        cache_limit: Maximum size of the decoded images, in GiB.
        convert: ``"rgb"`` converts palette, CMYK and 1-bit images to RGB and drops alpha channels
            without blending; null: such images are errors.
        white_level: Value of uint16 files that becomes 1, such as 4095 for 12 bits; null: 65535.
            Files of 8 bits and float are not changed. LR made here is rounded before.
        black_level: Value of uint16 files that becomes 0.
        recursive: Also take images in sub-folders; links to folders are not followed.

    Raises:
        UserError: names the first ten faulty files, or the invalid option.
    """

    num_frame = 1
    reference = 0

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
        convert: Literal["rgb"] | None = None,
        white_level: int | None = None,
        black_level: int = 0,
        recursive: bool = False,
    ) -> None:
        super().__init__(scale, gt_size, use_hflip, use_rot)
        known_layout = choose_layout(layout, "image")
        if dataroot is not None and dataroot_gt is None:
            if filename_tmpl != "{}":
                raise UserError(
                    "PairedImages: filename_tmpl works with dataroot_gt only, because a layout "
                    "defines the file names; remove one of them"
                )
            root = dataroot
            found = find_items(known_layout, root, split, scale, dataroot_lq, recursive)
        elif dataroot_gt is not None and dataroot is None:
            if split is not None:
                raise UserError("PairedImages: split works with dataroot only; remove one of them")
            root, root_lq = dataroot_gt, None if dataroot_lq is None else user_path(dataroot_lq)
            found = scan_pair(user_path(root), root_lq, filename_tmpl, recursive)
        else:
            raise UserError(
                "PairedImages: give either dataroot (the folder of a dataset, with layout and "
                "split) or dataroot_gt (a folder of HR images)"
            )
        levels = white_level, black_level
        self._open(
            known_layout,
            found,
            root,
            edge,
            round_between_passes,
            cache,
            cache_limit,
            convert,
            levels,
        )

    def __getitem__(self, index: int) -> Sample:
        """Returns a whole pair, for evaluation: lq (1, 3, h, w) and gt (C, H, W), as stored."""
        item = self._items[index]
        lq, gt = self._read(item, [0], [0])
        return {"key": item.key, "lq": lq, "gt": gt[0]}

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Returns a random aligned crop of pair ``index``: lq (1, 3, h, w) and gt (3, H, W)."""
        item = self._items[index]
        lq, gt = self._read(item, [0], [0], rng)
        orientation = random_orientation(self.use_hflip, self.use_rot, rng)
        return {"key": item.key, "lq": lq, "gt": gt[0], "orientation": orientation}

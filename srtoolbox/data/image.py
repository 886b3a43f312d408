"""Folders of single images: an HR folder, and an LR folder or LR made on the fly."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from srtoolbox.data.augment import apply_dihedral, random_crop_origin, random_dihedral
from srtoolbox.data.reader import image_size, list_images, read_image
from srtoolbox.data.resize import imresize
from srtoolbox.data.stream import Sample
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY

_OFFENDERS = 10  # how many faulty files a message names


@DATASET_REGISTRY.register()
class PairedImages:
    """Pairs of a ground-truth image and its low-quality version.

    Every pair is checked when the dataset is built: partners must exist and sizes must fit the
    scale. A ground truth that is larger than scale × LR by less than one LR pixel is cut at its
    right and lower edge, as the benchmark sets expect.

    Args:
        dataroot_gt: Folder of the HR images.
        dataroot_lq: Folder of the LR images; None makes them by MATLAB bicubic (replicated edge,
            rounded after each pass, the rule behind Set5, Set14, BSD100 and Urban100).
        scale: How many times larger the HR images are.
        gt_size: Side of a training crop in HR pixels.
        filename_tmpl: Stem of an LR file from that of its HR file: ``"{}x4"`` for DIV2K.
        use_hflip: Mirror training crops at random.
        use_rot: Turn training crops by random multiples of 90°.
        edge: Border rule for LR made here.
        round_between_passes: Rounding rule for LR made here.

    Raises:
        UserError: names the first ten faulty files.
    """

    num_frame = 1
    reference = 0

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str | None = None,
        scale: int = 4,
        gt_size: int = 192,
        filename_tmpl: str = "{}",
        use_hflip: bool = True,
        use_rot: bool = True,
        edge: Literal["replicate", "symmetric"] = "replicate",
        round_between_passes: bool = True,
    ) -> None:
        if gt_size % scale:
            raise UserError(f"PairedImages: gt_size {gt_size} is not a multiple of scale {scale}")
        self.scale, self.gt_size = scale, gt_size
        self.use_hflip, self.use_rot = use_hflip, use_rot
        self.edge, self.round_between_passes = edge, round_between_passes
        gt = list_images(Path(dataroot_gt))
        lq: dict[str, Path | None] = dict.fromkeys(gt)
        if dataroot_lq is not None:
            if "{}" not in filename_tmpl:
                raise UserError(
                    f"PairedImages: filename_tmpl '{filename_tmpl}' must hold {{}}, the place of "
                    "the HR file's stem"
                )
            partners = list_images(Path(dataroot_lq))
            for stem in gt:
                wanted = filename_tmpl.replace("{}", stem)
                lq[stem] = partners.get(wanted, Path(dataroot_lq, f"{wanted}.*"))
        self.pairs = [(stem, gt[stem], lq[stem]) for stem in gt]
        faults = [fault for _, *pair in self.pairs if (fault := self._fault(*pair))]
        if faults:
            more = f"\n  … and {len(faults) - _OFFENDERS} more" if len(faults) > _OFFENDERS else ""
            listed = "\n  ".join(faults[:_OFFENDERS])
            raise UserError(f"PairedImages: {len(faults)} faulty pairs:\n  {listed}{more}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """A whole pair, for evaluation: lq (1, 3, h, w) and gt (3, H, W), uint8."""
        key, gt, lq = self._load(index)
        return _sample(key, lq, gt)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """A random aligned crop of a pair, for training."""
        key, gt, lq = self._load(index)
        size = self.gt_size // self.scale
        if min(lq.shape[:2]) < size:
            raise UserError(f"{key}: {lq.shape[1]}×{lq.shape[0]} is smaller than the crop {size}")
        y, x = random_crop_origin(*lq.shape[:2], size, rng)
        mirror, turns = random_dihedral(self.use_hflip, self.use_rot, rng)
        lq = apply_dihedral(lq[y : y + size, x : x + size], mirror, turns)
        y, x, size = y * self.scale, x * self.scale, self.gt_size
        gt = apply_dihedral(gt[y : y + size, x : x + size], mirror, turns)
        return _sample(key, lq, gt)

    def _load(self, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        key, gt_path, lq_path = self.pairs[index]
        gt = read_image(gt_path)
        height, width = (length - length % self.scale for length in gt.shape[:2])
        gt = gt[:height, :width]
        if lq_path is not None:
            return key, gt, read_image(lq_path)
        lq = imresize(
            gt,
            1 / self.scale,
            edge=self.edge,
            round_between_passes=self.round_between_passes,
        )
        return key, gt, lq

    def _fault(self, gt: Path, lq: Path | None) -> str | None:
        """What is wrong with a pair as far as the files' headers tell; None if it is in order."""
        try:
            height, width = image_size(gt)
            wanted = height // self.scale, width // self.scale
            if lq is None:
                return None if all(wanted) else f"{gt}: smaller than scale {self.scale}"
            if lq.suffix == ".*":
                return f"{gt.name} has no partner {lq}"
            small = image_size(lq)
        except UserError as error:
            return str(error)
        if small == wanted:
            return None
        sizes = f"{gt.name} is {width}×{height}, {lq.name} {small[1]}×{small[0]}"
        return f"{sizes}: not scale {self.scale}"


def _sample(key: str, lq: np.ndarray, gt: np.ndarray) -> Sample:
    return {
        "key": key,
        "lq": np.ascontiguousarray(lq.transpose(2, 0, 1)[None]),
        "gt": np.ascontiguousarray(gt.transpose(2, 0, 1)),
    }

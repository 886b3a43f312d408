"""Single images: pairs on disk, or HR images whose LR versions are made on the fly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srtoolbox.data.base import Sample, UnfinishedSample
from srtoolbox.data.datasets.degraded import FIXED_SEED, DegradableDataset, Spec
from srtoolbox.data.datasets.reading import Level, Reading
from srtoolbox.data.datasets.source import choose_layout, find_items, meta_info_path
from srtoolbox.data.files.find import scan_pair
from srtoolbox.data.transforms.orientation import random_orientation
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY, constructor_parameters
from srtoolbox.utils.console import names_text
from srtoolbox.utils.files import user_path

DEFAULT_GT_SIZE = 192


@DATASET_REGISTRY.register()
class PairedImages(DegradableDataset):
    """Pairs of an HR image and its LR version.

    The files are those of a known dataset (``layout``, ``dataroot``, ``split``) or of plain folders
    (``dataroot_gt``, ``dataroot_lq``). A folder may also be an LMDB folder of BasicSR
    (``NAME.lmdb``) or a group of an HDF5 file (``NAME.h5/HR``). The headers of every pair are
    checked when the dataset is built. A ground truth that is larger than scale × LR by less than
    one LR pixel is cropped at its right and bottom edge, as the benchmark sets expect.

    Args:
        layout: Name of a known file layout.
        dataroot: Folder of a dataset in that layout.
        split: Part of the dataset, as the layout calls it; optional if there is only one.
        dataroot_gt: Folder of HR images, instead of ``dataroot``.
        dataroot_lq: Folder of the LR images, if they are in another folder. With ``dataroot_gt``
            alone, LR images are made by MATLAB bicubic.
        dataroot_mask: With ``dataroot_gt``: folder of masks, which have the sizes and stems of the
            HR images. A pixel counts where its mask is not 0; others are missing, see ``nodata``.
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
        white_level: Value of 16-bit files that becomes 1, such as 4095 for 12 bits, or a list with
            a value for each band; null: 65535, for signed files 32767. Files of 8 bits and float
            are not changed. LR made here is rounded before.
        black_level: Value of 16-bit files that becomes 0, or a list with a value for each band.
        recursive: Also take images in sub-folders; links to folders are not followed.
        channels: Bands of an image; null: as many as the network takes (without a network: as
            many as ``bands``, or 3). With 3, grey files are repeated to three bands; with
            other numbers, all files must have so many.
        bands: Numbers from 1 of the bands to use, in this order, such as [4, 3, 2]; files may have
            more. Null: all.
        bands_gt: Bands of the ground truth to use; null: as ``bands``.
        nodata: Value of missing pixels; null: the value that GeoTIFF files state, if they do.
            Missing pixels are filled from their neighbours, and losses and metrics leave those of
            the ground truth out. A training crop without any other pixel is drawn again, up to ten
            times in all.
        scale_floats: Apply the levels to float files, too, which may then have any range.
        scales: Scales of training, such as [2, 3, 4], for a network that takes several (MDSR).
            Each step draws one of them for its whole batch. ``scale`` is among them. ``gt_size`` is
            that of ``scale``; crops of other scales have as many LR pixels. Null: ``scale`` alone.
        meta_info_file: Text file of BasicSR that names the HR images to use, one in each line, such
            as ``0001_s001.png (480,480,3)``; null: all.
        degradation: Make LR images by a random degradation, ``{type: real_esrgan, …}``, instead of
            using LR files or bicubic reduction. Training samples get a new one at each draw; in
            evaluation it depends on the name of the image and on ``degradation_seed``.
        degradation_seed: Selects other degradations of evaluation images.
        bit_depth: Bits to which degraded LR is rounded: 8 gives 8-bit images, 9 to 16 give float32.
        on_device: Make degraded training samples on the training device, one batch at a time;
            otherwise in the workers. The samples are the same.

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
        gt_size: int = DEFAULT_GT_SIZE,
        use_hflip: bool = True,
        use_rot: bool = True,
        edge: Literal["replicate", "symmetric"] | None = None,
        round_between_passes: bool | None = None,
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
        dataroot_mask: str | None = None,
        scales: Sequence[int] | None = None,
        meta_info_file: str | None = None,
        degradation: Spec | None = None,
        degradation_seed: int = FIXED_SEED,
        bit_depth: int = 8,
        on_device: bool = True,
    ) -> None:
        given = dict(locals())  # the options, for the same dataset at other scales
        super().__init__(scale, gt_size, use_hflip, use_rot)
        known_layout = self._choose_degradation(
            degradation,
            choose_layout(layout, "image"),
            dataroot_lq=dataroot_lq,
            bands_gt=bands_gt,
            edge=edge,
            round_between_passes=round_between_passes,
        )
        if dataroot_mask is not None and dataroot_gt is None:
            raise UserError(
                "PairedImages: dataroot_mask works with dataroot_gt only; remove one of them"
            )
        if dataroot is not None and dataroot_gt is None:
            if filename_tmpl != "{}":
                raise UserError(
                    "PairedImages: filename_tmpl works with dataroot_gt only, because a layout "
                    "defines the file names; remove one of them"
                )
            root = dataroot
            place = root, split, scale, dataroot_lq, recursive, meta_info_file
            found = find_items(known_layout, *place)
        elif dataroot_gt is not None and dataroot is None:
            if split is not None:
                raise UserError("PairedImages: split works with dataroot only; remove one of them")
            root, root_lq = dataroot_gt, None if dataroot_lq is None else user_path(dataroot_lq)
            root_mask = None if dataroot_mask is None else user_path(dataroot_mask)
            listing = None if meta_info_file is None else meta_info_path(meta_info_file)
            roots = user_path(root), root_lq
            found = scan_pair(*roots, filename_tmpl, recursive, root_mask, listing)
        else:
            raise UserError(
                "PairedImages: give either dataroot (the folder of a dataset, with layout and "
                "split) or dataroot_gt (a folder of HR images)"
            )
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
        self._open(
            known_layout,
            found,
            root,
            edge,
            round_between_passes,
            cache,
            cache_limit,
            reading,
        )
        self._open_degradation(degradation, on_device, bit_depth=bit_depth, seed=degradation_seed)
        self.scales, self._others = None, {}
        if scales is not None:
            if degradation is not None:
                raise UserError(
                    "PairedImages: degradation makes LR at one scale; remove scales, or "
                    "remove degradation"
                )
            options = {key: given[key] for key in constructor_parameters(PairedImages)}
            options["scales"] = None
            self.scales = _check_scales(scales, scale, dataroot_lq, filename_tmpl)
            self._others = {
                other: PairedImages(**at_scale(options, scale, other))
                for other in self.scales
                if other != scale
            }
            _check_equal(self._title, [self, *self._others.values()])

    def at_scale(self, scale: int) -> PairedImages:
        """Returns the dataset with the training samples of one of ``scales``."""
        return self if scale == self.scale else self._others[scale]

    def check_training(self) -> None:
        """Checks whether every pair can give training crops, at every scale.

        Raises:
            UserError: names the first ten images that are smaller than the crop.
        """
        for dataset in (super(), *self._others.values()):
            dataset.check_training()

    def paths(self) -> list[Path]:
        """Returns all files that may be read."""
        others = [path for dataset in self._others.values() for path in dataset.paths()]
        return list(dict.fromkeys([*super().paths(), *others]))

    def __getitem__(self, index: int) -> Sample:
        """Returns a whole pair, for evaluation: lq (1, C, h, w) and gt (C, H, W), as stored."""
        item = self._items[index]
        read = self._read if self._degrader is None else self._read_degraded
        return read(item, [0], [0]).as_sample(item.key, single=True)

    def draw(self, index: int, rng: np.random.Generator) -> Sample | UnfinishedSample:
        """Returns a random aligned crop of pair ``index``: lq (1, C, h, w) and gt (C, H, W).

        With a degradation, ``finish`` makes them on the device; see ``Degrader``.
        """
        item = self._items[index]
        if self._degrader is not None:
            return self._draw_degraded(item, [0], rng)
        sample = self._read(item, [0], [0], rng).as_sample(item.key, single=True)
        sample["orientation"] = random_orientation(self.use_hflip, self.use_rot, rng)
        return sample


def at_scale(options: Mapping[str, Any], scale: int, other: int) -> dict[str, Any]:
    """Returns the options of a dataset with another scale and crops of as many LR pixels.

    Args:
        options: The options.
        scale: Their scale.
        other: The other scale.
    """
    size = options.get("gt_size", DEFAULT_GT_SIZE)
    return {**options, "scale": other, "gt_size": size // scale * other}


def _check_scales(
    scales: Sequence[int], scale: int, dataroot_lq: str | None, filename_tmpl: str
) -> tuple[int, ...]:
    if min(scales, default=0) < 1 or len(set(scales)) < len(scales) or scale not in scales:
        raise UserError(
            f"PairedImages: scales must be different numbers from 1 on, with scale {scale} among "
            f"them, got {list(scales)}"
        )
    if dataroot_lq is not None or filename_tmpl != "{}":
        raise UserError(
            "PairedImages: dataroot_lq and filename_tmpl describe the LR images of one scale; "
            "remove scales, or remove them and give dataroot with a layout"
        )
    return tuple(scales)


def _check_equal(title: str, datasets: Sequence[PairedImages]) -> None:
    """Raises a ``UserError`` if the datasets do not have the same images."""
    first, *others = ({item.key for item in dataset._items} for dataset in datasets)
    for dataset, keys in zip(datasets[1:], others, strict=True):
        if keys != first:
            missing = sorted(first ^ keys)
            raise UserError(
                f"{title}: x{datasets[0].scale} and x{dataset.scale} do not have the same images: "
                f"{names_text(missing)}; complete the LR folders, or remove the scale"
            )

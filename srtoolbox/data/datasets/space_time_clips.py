"""Clips for super-resolution in space and time: LR at a lower frame rate, HR at the full rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from srtoolbox.data.base import Sample, StoredBatch
from srtoolbox.data.datasets.reading import Level, Reading
from srtoolbox.data.datasets.source import FileDataset, choose_layout, find_items
from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.transforms.flow import flow_between, orient_flow_batch
from srtoolbox.data.transforms.orientation import random_orientation
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class SpaceTimeClips(FileDataset):
    """Clips with every ``time_scale``-th LR frame and all HR frames.

    A window has ``num_frame`` LR frames and all ``time_scale * (num_frame - 1) + 1`` HR frames from
    the first to the last of them. For training, a clip is a source: each draw takes a random window
    from it. For evaluation, the last frame of a window is the first frame of the next; it is scored
    once, in the earlier window. Frames at the end of a clip that fill no window are not scored (of
    100 frames, in windows of seven, the last three). The header of every file is checked when the
    dataset is built.

    Args:
        layout: Name of a known file layout; its clips have LR at the full rate, or none.
        dataroot: Folder of a dataset in that layout.
        split: Part of the dataset, as the layout calls it; optional if there is only one.
        dataroot_lq: Folder of the LR frames, if they are in another folder.
        scale: HR size divided by LR size.
        time_scale: HR frame rate divided by LR frame rate.
        num_frame: LR frames in a window.
        gt_size: Side of a training crop in HR pixels.
        random_reverse: Reverse training windows in time at random.
        use_hflip: Mirror training crops at random.
        use_rot: Rotate training crops by random multiples of 90°.
        skip_frames: Frames at each end of a clip that are not scored.
        flow: Name of the optical-flow estimator whose flow is added to training samples, computed
            by the workers; null: the network's estimator, if it needs flow.
        legacy: Repeat the last LR frame in place of all LR frames of a training window, as the data
            loader in MSTT-STVSR's public code does.
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
        recursive: Also take clips in sub-folders of the folder of clips; links to folders are not
            followed.
        channels: Bands of a frame; null: as many as the network takes (without a network: as
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

    Raises:
        UserError: names the first ten faulty files, or the invalid option.
    """

    reference = None

    def __init__(
        self,
        layout: str = "clips",
        dataroot: str | None = None,
        split: str | None = None,
        dataroot_lq: str | None = None,
        scale: int = 4,
        time_scale: int = 2,
        num_frame: int = 4,
        gt_size: int = 320,
        random_reverse: bool = False,
        use_hflip: bool = True,
        use_rot: bool = True,
        skip_frames: int = 0,
        flow: str | None = None,
        legacy: bool = False,
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
    ) -> None:
        self.time_scale, self.num_frame = time_scale, num_frame
        self.random_reverse, self.skip_frames = random_reverse, skip_frames
        self.flow, self.legacy = flow, legacy
        super().__init__(scale, gt_size, use_hflip, use_rot)
        for name, minimum in (("time_scale", 2), ("num_frame", 2), ("skip_frames", 0)):
            if (value := getattr(self, name)) < minimum:
                raise UserError(f"SpaceTimeClips: {name} must be at least {minimum}, got {value}")
        if dataroot is None:
            raise UserError("SpaceTimeClips: dataroot is missing; give the folder of the dataset")
        known_layout = choose_layout(layout, "clip")
        items, faults = find_items(known_layout, dataroot, split, scale, dataroot_lq, recursive)
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
        self._open(
            known_layout,
            found,
            dataroot,
            edge,
            round_between_passes,
            cache,
            cache_limit,
            reading,
        )
        self._windows = [
            (item, start)
            for item in self._items
            for start in range(0, item.num_frame - self.span + 1, self.span - 1)
        ]

    @property
    def span(self) -> int:
        """Number of HR frames in a window."""
        return self.time_scale * (self.num_frame - 1) + 1

    @property
    def clip_names(self) -> list[str]:
        """The clip of each evaluation window."""
        return [item.key for item, _ in self._windows]

    def __len__(self) -> int:
        """Returns the number of evaluation windows."""
        return len(self._windows)

    def __getitem__(self, index: int) -> Sample:
        """Returns a window for evaluation: whole frames as stored.

        lq is (T, C, h, w) and gt (T', C, H, W). ``frames`` are the names of the HR frames,
        ``kinds`` is ``"given"`` for HR frames whose LR frame is in ``lq``, else
        ``"interpolated"``, and ``scored`` lists the positions of the frames that are scored.
        """
        item, start = self._windows[index]
        window = range(start, start + self.span)
        sample = self._read(item, window[:: self.time_scale], window).as_sample(item.key, False)
        scored = range(self.skip_frames, item.num_frame - self.skip_frames)
        sample["frames"] = [item.gt[t].stem for t in window]
        sample["kinds"] = [
            "interpolated" if t % self.time_scale else "given" for t in range(self.span)
        ]
        sample["scored"] = [t - start for t in window if t in scored and (t > start or not start)]
        return sample

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Returns a random crop of a random window of clip ``index``, for training.

        lq is (T, C, h, w) and gt (T', C, H, W); with the option ``flow``, also ``flow``
        (2, T - 1, 2, h, w).
        """
        item = self._items[index]
        start = int(rng.integers(item.num_frame - self.span + 1))
        window = range(start, start + self.span)
        if self.random_reverse and rng.integers(2):
            window = window[::-1]
        pixels = self._read(item, window[:: self.time_scale], window, rng)
        if self.legacy:
            pixels.lq[:] = pixels.lq[-1].copy()
        sample = pixels.as_sample(item.key, single=False)
        sample["orientation"] = random_orientation(self.use_hflip, self.use_rot, rng)
        if self.flow is not None:
            sample["flow"] = flow_between(self.flow, pixels.lq)
        return sample

    def finish(self, batch: StoredBatch) -> StoredBatch:
        """Brings the flow of a batch into the orientation that its frames will get."""
        if "flow" not in batch:
            return batch
        return {**batch, "flow": orient_flow_batch(batch["flow"], batch["orientation"])}

    def _fault(self, item: Item) -> Fault | None:
        """Returns the reason why a clip cannot be used; None if it can."""
        if len(item.gt) < item.num_frame:
            text = f"{item.key} has a ground truth for its middle frame only"
        elif item.num_frame < self.span:
            text = (
                f"{item.key} has {item.num_frame} frames, too few for windows of {self.span} "
                f"({self.num_frame} given, time_scale {self.time_scale})"
            )
        else:
            return None
        return Fault(item.gt[0].parent, "too short", f"{text}; remove the clip")

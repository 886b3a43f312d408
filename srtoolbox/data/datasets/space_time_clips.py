"""Clips to be restored in space and time: LR frames of a lower rate, and HR frames of the full."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from srtoolbox.data.datasets.source import Crop, Source, choose_layout, find_items
from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.stream import Sample
from srtoolbox.data.transforms.flow import flow_between, orient_flow_batch
from srtoolbox.data.transforms.orientation import random_orientation
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY

KINDS = ("given", "interpolated")
"""What a frame can be: one whose LR frame is given, or one between two of those."""


@DATASET_REGISTRY.register()
class SpaceTimeClips:
    """Clips of which only every second LR frame is given, and every HR frame is wanted.

    A window has ``num_frame`` LR frames and all ``time_scale * (num_frame - 1) + 1`` HR frames from
    the first of them to the last. In training a clip is a source: each time it is drawn, a window
    is taken from it at random. In evaluation windows follow each other such that the last frame of
    one is the first of the next, which is scored once, in the earlier window; what is left at the
    end of a clip and fills no window is not scored (of 100 frames, in windows of seven, the last
    three). Every file is checked by its header when the dataset is built.

    Args:
        layout: Name of a known arrangement of files; its clips have LR at the full rate, or none.
        dataroot: Folder of a dataset in that layout.
        split: Part of the dataset, as the layout calls it; may be left out if there is one only.
        dataroot_lq: Folder under which the LR frames lie, if it is another.
        scale: How many times larger the HR frames are.
        time_scale: How many intervals of the full rate are one of the LR frames'.
        num_frame: LR frames in a window.
        gt_size: Side of a training crop in HR pixels.
        random_reverse: Let training windows run backwards in time at random.
        use_hflip: Mirror training crops at random.
        use_rot: Turn training crops by random multiples of 90°.
        skip_frames: Frames at each end of a clip that are not scored.
        flow: Name of the flow estimator whose flow a training sample brings along, computed by the
            workers; null: that of the network, if it wants one.
        legacy: All LR frames of a training window are its last one, as the loader of MSTT-STVSR's
            public code has it.
        edge: Border rule for LR made here; null is the layout's.
        round_between_passes: Rounding rule for LR made here; null is the layout's.
        cache: Folder for decoded images; null decodes the files each time. Samples are the same.
        cache_limit: Most that the decoded images may take, in GiB.

    Raises:
        UserError: names the first ten faulty files, or the option that does not fit.
    """

    channels = 3
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
    ) -> None:
        self.scale, self.time_scale, self.num_frame = scale, time_scale, num_frame
        self.gt_size, self.random_reverse = gt_size, random_reverse
        self.use_hflip, self.use_rot, self.skip_frames = use_hflip, use_rot, skip_frames
        self.flow, self.legacy = flow, legacy
        self._check_options()
        if dataroot is None:
            raise UserError("SpaceTimeClips: dataroot is missing; give the folder of the dataset")
        arrangement = choose_layout(layout, "clip")
        found, faults = find_items(arrangement, dataroot, split, scale, dataroot_lq)
        faults += [fault for item in found if (fault := self._fault(item))]
        self._source = Source(
            arrangement,
            (found, faults),
            scale,
            f"SpaceTimeClips ({dataroot})",
            edge=edge,
            round_between_passes=round_between_passes,
            cache=cache,
            cache_limit=cache_limit,
        )
        self._windows = [
            (item, start)
            for item in self._source.items
            for start in range(0, item.num_frame - self.span + 1, self.span - 1)
        ]

    @property
    def span(self) -> int:
        """HR frames in a window."""
        return self.time_scale * (self.num_frame - 1) + 1

    @property
    def num_source(self) -> int:
        """How many clips training draws from."""
        return len(self._source.items)

    @property
    def clip_names(self) -> list[str]:
        """The clip of every window of evaluation."""
        return [item.key for item, _ in self._windows]

    def __len__(self) -> int:
        """How many windows evaluation has."""
        return len(self._windows)

    def __getitem__(self, index: int) -> Sample:
        """A window, for evaluation: whole frames as stored.

        lq is (T, 3, h, w) and gt (T', C, H, W). ``frames`` are the names of the HR frames,
        ``kinds`` says which of them are given, ``scored`` is the positions of those that count.
        """
        item, start = self._windows[index]
        window = range(start, start + self.span)
        lq, gt = self._source.read(item, window[:: self.time_scale], window)
        counted = range(self.skip_frames, item.num_frame - self.skip_frames)
        return {
            "key": item.key,
            "lq": lq,
            "gt": gt,
            "frames": [item.gt[t].stem for t in window],
            "kinds": [KINDS[t % self.time_scale > 0] for t in range(self.span)],
            "scored": [t - start for t in window if t in counted and (t > start or not start)],
        }

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """A random window of clip ``index`` and a random crop of it, for training.

        lq is (T, 3, h, w) and gt (T', 3, H, W); ``flow`` (2, T - 1, 2, h, w) is there if asked for.
        """
        item = self._source.items[index]
        start = int(rng.integers(item.num_frame - self.span + 1))
        window = range(start, start + self.span)
        if self.random_reverse and rng.integers(2):
            window = window[::-1]
        lq, gt = self._source.read(
            item, window[:: self.time_scale], window, Crop(self.gt_size, rng)
        )
        if self.legacy:
            lq[:] = lq[-1].copy()
        orientation = random_orientation(self.use_hflip, self.use_rot, rng)
        sample = {"key": item.key, "lq": lq, "gt": gt, "orientation": orientation}
        return sample if self.flow is None else {**sample, "flow": flow_between(self.flow, lq)}

    def finish(self, batch: Sample) -> Sample:
        """A batch on the device, its flow in the orientation that its frames are going to have."""
        if "flow" not in batch:
            return batch
        return {**batch, "flow": orient_flow_batch(batch["flow"], batch["orientation"])}

    def check_training(self) -> None:
        """Checks what only training asks for.

        Raises:
            UserError: names frames smaller than the crop.
        """
        self._source.check_training(self.gt_size)

    def paths(self) -> list[Path]:
        """All files that may be read."""
        return self._source.paths()

    def _check_options(self) -> None:
        if self.gt_size % self.scale:
            raise UserError(
                f"SpaceTimeClips: gt_size {self.gt_size} is not a multiple of scale {self.scale}"
            )
        for name, least in (("time_scale", 2), ("num_frame", 2), ("skip_frames", 0)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"SpaceTimeClips: {name} must be at least {least}, got {value}")

    def _fault(self, item: Item) -> Fault | None:
        """Why a clip cannot be used; None if it can."""
        if len(item.gt) < item.num_frame:
            text = f"{item.key} has a ground truth for its middle frame only"
        elif item.num_frame < self.span:
            text = (
                f"{item.key} has {item.num_frame} frames, too few for windows of {self.span} "
                f"({self.num_frame} given, time_scale {self.time_scale})"
            )
        else:
            return None
        return Fault(item.gt[0].parent, "too short", f"{text}; leave the clip out")

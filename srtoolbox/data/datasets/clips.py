"""Clips: frames of a video or of a satellite's stare, restored in windows or as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from srtoolbox.data.datasets.source import Crop, Source, choose_layout, find_items
from srtoolbox.data.datasets.window import Rule, window_indices
from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.stream import Sample
from srtoolbox.data.transforms.orientation import random_orientation
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class Clips:
    """Clips of frames and their low-quality versions.

    In training a clip is a source: each time it is drawn, a window of ``num_frame`` frames is taken
    from it at random. In evaluation every frame is the centre of one window, or, with
    ``num_frame`` null, a clip is one sample. Clips of which only the middle frame has a ground
    truth give one window. Every file is checked by its header when the dataset is built.

    Args:
        layout: Name of a known arrangement of files.
        dataroot: Folder of a dataset in that layout.
        split: Part of the dataset, as the layout calls it; may be left out if there is one only.
        dataroot_lq: Folder under which the LR frames lie, if it is another.
        scale: How many times larger the HR frames are.
        num_frame: Frames in a window; null takes whole clips (evaluation only).
        gt_size: Side of a training crop in HR pixels.
        target: The ground truth is that of the window's ``"centre"``, or of ``"all"`` its frames.
        interval_list: Distances between the frames of a training window, drawn at random.
        random_reverse: Let training windows run backwards in time at random.
        use_hflip: Mirror training crops at random.
        use_rot: Turn training crops by random multiples of 90°.
        missing_neighbours: What stands in for frames beyond a clip's ends in evaluation:
            ``window_indices`` describes the rules.
        skip_frames: Frames at each end of a clip that are not evaluated as centres. (Of a whole
            clip the network gets all; the evaluator leaves them out.)
        edge: Border rule for LR made here; null is the layout's.
        round_between_passes: Rounding rule for LR made here; null is the layout's.
        cache: Folder for decoded images; null decodes the files each time. Samples are the same.
        cache_limit: Most that the decoded images may take, in GiB.

    Raises:
        UserError: names the first ten faulty files, or the option that does not fit.
    """

    channels = 3

    def __init__(
        self,
        layout: str = "clips",
        dataroot: str | None = None,
        split: str | None = None,
        dataroot_lq: str | None = None,
        scale: int = 4,
        num_frame: int | None = 5,
        gt_size: int = 256,
        target: Literal["centre", "all"] = "centre",
        interval_list: Sequence[int] = (1,),
        random_reverse: bool = False,
        use_hflip: bool = True,
        use_rot: bool = True,
        missing_neighbours: Rule = "centre",
        skip_frames: int = 0,
        edge: Literal["replicate", "symmetric"] | None = None,
        round_between_passes: bool | None = None,
        cache: str | None = None,
        cache_limit: float = 200,
    ) -> None:
        self.scale, self.num_frame, self.gt_size = scale, num_frame, gt_size
        self.target, self.interval_list = target, list(interval_list)
        self.random_reverse, self.use_hflip, self.use_rot = random_reverse, use_hflip, use_rot
        self.missing_neighbours, self.skip_frames = missing_neighbours, skip_frames
        self._check_options()
        if dataroot is None:
            raise UserError("Clips: dataroot is missing; give the folder of the dataset")
        arrangement = choose_layout(layout, "clip")
        self._source = Source(
            arrangement,
            find_items(arrangement, dataroot, split, scale, dataroot_lq),
            scale,
            f"Clips ({dataroot})",
            edge=edge,
            round_between_passes=round_between_passes,
            cache=cache,
            cache_limit=cache_limit,
        )
        self._samples = [
            (item, centre) for item in self._source.items for centre in self._centres(item)
        ]

    @property
    def reference(self) -> int | None:
        """Index of the frame whose ground truth is given; None where all frames have theirs."""
        return self.num_frame // 2 if self.target == "centre" else None

    @property
    def num_source(self) -> int:
        """How many clips training draws from."""
        return len(self._source.items)

    @property
    def clip_names(self) -> list[str]:
        """The clip of every sample of evaluation."""
        return [item.key for item, _ in self._samples]

    def __len__(self) -> int:
        """How many samples evaluation has: windows, or whole clips."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """A window or clip, for evaluation: whole frames as stored.

        lq is (T, 3, h, w); gt is (C, H, W) of the centre, or (T, C, H, W) of a whole clip, whose
        ``frames`` are the names of its frames.
        """
        item, centre = self._samples[index]
        if centre is None:
            frames = list(range(item.num_frame))
            lq, gt = self._source.read(item, frames, frames)
            names = [path.stem for path in item.gt]
            return {"key": item.key, "lq": lq, "gt": gt, "frames": names}
        if self.target == "all":
            raise UserError(
                "Clips: windows of which all frames are wanted are for training; evaluate whole "
                "clips by num_frame: null"
            )
        frames = window_indices(centre, self.num_frame, item.num_frame, self.missing_neighbours)
        lq, gt = self._source.read(item, frames, self._truth(item, frames))
        key = f"{item.key}/{item.gt[_truth_index(item, centre)].stem}"
        return {"key": key, "lq": lq, "gt": gt[0]}

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """A random window of clip ``index`` and a random crop of it, for training.

        lq is (T, 3, h, w); gt is (3, H, W) or (T, 3, H, W).
        """
        item = self._source.items[index]
        if (fault := self._fault(item)) is not None:
            raise UserError(f"{fault.path}: {fault.text}")
        frames = self._draw_window(item, rng)
        crop = Crop(self.gt_size, rng)
        lq, gt = self._source.read(item, frames, self._truth(item, frames), crop)
        return {
            "key": item.key,
            "lq": lq,
            "gt": gt[0] if self.target == "centre" else gt,
            "orientation": random_orientation(self.use_hflip, self.use_rot, rng),
        }

    def check_training(self) -> None:
        """Checks what only training asks for.

        Raises:
            UserError: names clips that are too short, and frames smaller than the crop.
        """
        faults = [fault for item in self._source.items if (fault := self._fault(item))]
        self._source.check_training(self.gt_size, faults)

    def paths(self) -> list[Path]:
        """All files that may be read."""
        return self._source.paths()

    def _check_options(self) -> None:
        if self.gt_size % self.scale:
            raise UserError(
                f"Clips: gt_size {self.gt_size} is not a multiple of scale {self.scale}"
            )
        if self.num_frame is None and self.target == "centre":
            raise UserError(
                "Clips: num_frame null takes whole clips, which have no centre; set target to 'all'"
            )
        if self.num_frame is not None and self.num_frame < 1:
            raise UserError(f"Clips: num_frame must be at least 1, got {self.num_frame}")
        if self.skip_frames < 0:
            raise UserError(f"Clips: skip_frames must not be negative, got {self.skip_frames}")
        if not self.interval_list or min(self.interval_list) < 1:
            raise UserError(
                f"Clips: interval_list needs intervals of at least 1, got {self.interval_list}"
            )

    def _centres(self, item: Item) -> list[int | None]:
        """The frames of a clip that are evaluated; ``[None]``: the clip as a whole."""
        length = item.num_frame
        if self.target == "all" and len(item.gt) < length:
            raise UserError(
                f"Clips: {item.key} has a ground truth for its middle frame only; set target to "
                "'centre'"
            )
        if self.num_frame is None:
            return [None]
        centres = _restored(item, range(self.skip_frames, length - self.skip_frames))
        if not centres:
            raise UserError(
                f"Clips: {item.key} has {length} frames; skip_frames {self.skip_frames} leaves none"
            )
        return centres

    def _truth(self, item: Item, frames: list[int]) -> list[int]:
        """Which of the item's ground truths belong to a window."""
        if self.target == "centre":
            frames = [frames[self.reference]]
        return [_truth_index(item, t) for t in frames]

    def _draw_window(self, item: Item, rng: np.random.Generator) -> list[int]:
        steps = self._steps(item)
        step, centres = steps[rng.integers(len(steps))]
        centre = centres[rng.integers(len(centres))]
        return [centre + step * (t - self.num_frame // 2) for t in range(self.num_frame)]

    def _steps(self, item: Item) -> list[tuple[int, list[int]]]:
        """Steps in time from frame to frame that fit into a clip, and the centres they allow."""
        before = self.num_frame // 2
        after = self.num_frame - 1 - before
        found = []
        for interval in self.interval_list:
            for step in (interval, -interval) if self.random_reverse else (interval,):
                left, right = sorted((-step * before, step * after))
                if centres := _restored(item, range(-left, item.num_frame - right)):
                    found.append((step, centres))
        return found

    def _fault(self, item: Item) -> Fault | None:
        """Why no training window can be taken from a clip; None if one can."""
        if self.num_frame is None:
            raise UserError("Clips: training needs windows of one length; set num_frame")
        if self._steps(item):
            return None
        return Fault(
            (item.lq or item.gt)[0].parent,
            "too short",
            f"{item.key} has {item.num_frame} frames, too few for windows of {self.num_frame} at "
            f"interval {min(self.interval_list)}; lower num_frame or leave the clip out",
        )


def _truth_index(item: Item, frame: int) -> int:
    """Where the ground truth of a frame is: all frames have one, or the middle one of the clip."""
    return frame if len(item.gt) == item.num_frame else 0


def _restored(item: Item, frames: range) -> list[int]:
    """Those of ``frames`` that have a ground truth."""
    length = item.num_frame
    return [t for t in frames if len(item.gt) == length or t == length // 2]

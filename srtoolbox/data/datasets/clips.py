"""Clips: frames of a video or of a staring satellite, restored in windows or as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from srtoolbox.data.base import Sample, UnfinishedSample
from srtoolbox.data.datasets.degraded import FIXED_SEED, DegradableDataset, Spec
from srtoolbox.data.datasets.reading import Level, Reading
from srtoolbox.data.datasets.source import choose_layout, find_items
from srtoolbox.data.datasets.window import Rule, window_indices
from srtoolbox.data.degradations.video import VideoCompression
from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.transforms.orientation import random_orientation
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class Clips(DegradableDataset):
    """Clips of HR frames and their LR versions.

    For training, a clip is a source: each draw takes a random window of ``num_frame`` frames from
    it. For evaluation, every frame is the centre of one window, or, if ``num_frame`` is null, a
    clip is one sample. A clip of Vimeo-90K with a ground truth for its middle frame only gives one
    window. The folder of the clips may also be an LMDB folder of BasicSR (``NAME.lmdb``). The
    header of every file is checked when the dataset is built.

    Args:
        layout: Name of a known file layout.
        dataroot: Folder of a dataset in that layout.
        split: Part of the dataset, as the layout calls it; optional if there is only one.
        dataroot_lq: Folder of the LR frames, if they are in another folder.
        scale: HR size divided by LR size.
        num_frame: Frames in a window; null takes whole clips (evaluation only).
        gt_size: Side of a training crop in HR pixels.
        target: Frames with ground truth: the window's ``"centre"``, or ``"all"`` its frames.
        interval_list: Intervals between the frames of a training window; one is drawn at random.
        random_reverse: Reverse training windows in time at random.
        mirror_sequence: Let each training window be followed by its own reversal, which gives
            ``2 * num_frame`` frames; needs target ``"all"``. Recurrent networks learn from clips
            of seven frames like this.
        use_hflip: Mirror training crops at random.
        use_rot: Rotate training crops by random multiples of 90°.
        missing_neighbours: Rule that replaces frames beyond a clip's ends in evaluation;
            ``window_indices`` describes the rules.
        skip_frames: Frames at each end of a clip that are not evaluated as centres. (The network
            gets all frames of a whole clip; the evaluator does not score these.)
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
        meta_info_file: Text file of BasicSR that names the clips to use, one in each line, such as
            ``00001/0001 7 (256,448,3)``; null: all.
        degradation: Make LR images by a random degradation, ``{type: real_esrgan, …}``, instead of
            using LR files or bicubic reduction. Training samples get a new one at each draw; in
            evaluation it depends on the name of the clip and on ``degradation_seed``.
        degradation_seed: Selects other degradations of evaluation clips.
        bit_depth: Bits to which degraded LR is rounded: 8 gives 8-bit images, 9 to 16 give float32.
        on_device: Make degraded training samples on the training device, one batch at a time;
            otherwise in the workers. The samples are the same.
        per_frame: Draw a degradation for each frame. Otherwise a clip has one, and its frames
            differ only in the numbers of their noise.
        video_compression: Compress degraded clips by a video codec (extra ``video``), after all
            other steps: ``{prob: 1.0, codec: [libx264, mpeg4], crf: [18, 35], qscale: [2, 15]}``.

    Raises:
        UserError: names the first ten faulty files, or the invalid option.
    """

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
        mirror_sequence: bool = False,
        use_hflip: bool = True,
        use_rot: bool = True,
        missing_neighbours: Rule = "centre",
        skip_frames: int = 0,
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
        meta_info_file: str | None = None,
        degradation: Spec | None = None,
        degradation_seed: int = FIXED_SEED,
        bit_depth: int = 8,
        on_device: bool = True,
        per_frame: bool = False,
        video_compression: VideoCompression | None = None,
    ) -> None:
        self.num_frame, self.target = num_frame, target
        self.interval_list, self.random_reverse = list(interval_list), random_reverse
        self.mirror_sequence = mirror_sequence
        self.missing_neighbours: Rule = missing_neighbours
        self.skip_frames = skip_frames
        super().__init__(scale, gt_size, use_hflip, use_rot)
        self._check_options()
        if dataroot is None:
            raise UserError("Clips: dataroot is missing; give the folder of the dataset")
        if video_compression is not None and degradation is None:
            raise UserError("Clips: video_compression is part of a degradation; add degradation")
        if mirror_sequence and degradation is not None:
            raise UserError(
                "Clips: mirror_sequence needs LR files; remove it, or remove degradation"
            )
        known_layout = self._choose_degradation(
            degradation,
            choose_layout(layout, "clip"),
            dataroot_lq=dataroot_lq,
            bands_gt=bands_gt,
            edge=edge,
            round_between_passes=round_between_passes,
        )
        place = dataroot, split, scale, dataroot_lq, recursive, meta_info_file
        found = find_items(known_layout, *place)
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
        if isinstance(video_compression, Mapping):  # given from Python
            video_compression = VideoCompression(**video_compression)
        self._open_degradation(
            degradation,
            on_device,
            bit_depth=bit_depth,
            seed=degradation_seed,
            video=video_compression,
            per_frame=per_frame,
            reference=self.reference,
        )
        self._samples = [(item, centre) for item in self._items for centre in self._centres(item)]

    @property
    def reference(self) -> int | None:
        """Index of the frame that has a ground truth; None if all frames have one."""
        if self.num_frame is None or self.target == "all":
            return None
        return self.num_frame // 2

    @property
    def clip_names(self) -> list[str]:
        """The clip of each evaluation sample."""
        return [item.key for item, _ in self._samples]

    @property
    def clip_lengths(self) -> dict[str, int]:
        """Number of scored frames of each clip, by name."""
        if self.num_frame is None:
            return {i.key: max(0, i.num_frame - 2 * self.skip_frames) for i in self._items}
        return dict(Counter(self.clip_names))

    def __len__(self) -> int:
        """Returns the number of evaluation samples: windows, or whole clips."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """Returns a window or a clip for evaluation: whole frames as stored.

        lq is (T, C, h, w); gt is (C, H, W) of the centre, or (T, C, H, W) of a whole clip, whose
        ``frames`` are the names of its frames.
        """
        item, centre = self._samples[index]
        read = self._read if self._degrader is None else self._read_degraded
        if centre is None or self.num_frame is None:
            frames = list(range(item.num_frame))
            sample = read(item, frames, frames).as_sample(item.key, single=False)
            sample["frames"] = [path.stem for path in item.gt]
            return sample
        if self.target == "all":
            raise UserError(
                "Clips: windows with target 'all' are for training only; set num_frame: null to "
                "evaluate whole clips"
            )
        frames = window_indices(centre, self.num_frame, item.num_frame, self.missing_neighbours)
        key = f"{item.key}/{item.gt[_truth_index(item, centre)].stem}"
        return read(item, frames, self._truths(item, frames)).as_sample(key, single=True)

    def draw(self, index: int, rng: np.random.Generator) -> Sample | UnfinishedSample:
        """Returns a random crop of a random window of clip ``index``, for training.

        lq is (T, C, h, w); gt is (C, H, W) or (T, C, H, W). T is ``num_frame``, or twice that with
        ``mirror_sequence``. With a degradation, ``finish`` makes them on the device; see
        ``Degrader``.

        Raises:
            UserError: if the clip is too short for a window, or its frames for a crop.
        """
        item, num_frame = self._items[index], self._training_length()
        steps = self._steps(item, num_frame)
        if not steps:
            fault = self._too_short(item, num_frame)
            raise UserError(f"{fault.path}: {fault.text}")
        step, centres = steps[rng.integers(len(steps))]
        centre = centres[rng.integers(len(centres))]
        frames = [centre + step * (t - num_frame // 2) for t in range(num_frame)]
        if self._degrader is not None:
            return self._draw_degraded(item, frames, rng)
        pixels = self._read(item, frames, self._truths(item, frames), rng)
        sample = pixels.as_sample(item.key, single=self.target == "centre")
        if self.mirror_sequence:
            sample["lq"], sample["gt"] = _mirrored(sample["lq"]), _mirrored(sample["gt"])
            if "mask" in sample:
                sample["mask"] = _mirrored(sample["mask"])
        sample["orientation"] = random_orientation(self.use_hflip, self.use_rot, rng)
        return sample

    def check_training(self) -> None:
        """Checks whether every clip can give training crops.

        Raises:
            UserError: if ``num_frame`` is null; names the first ten clips that are too short or
                frames that are smaller than the crop.
        """
        num_frame = self._training_length()
        self._check_crops(
            [self._too_short(i, num_frame) for i in self._items if not self._steps(i, num_frame)]
        )

    def _check_options(self) -> None:
        if self.num_frame is None and self.target == "centre":
            raise UserError(
                "Clips: num_frame null takes whole clips, which have no centre; set target to 'all'"
            )
        if self.num_frame is not None and self.num_frame < 1:
            raise UserError(f"Clips: num_frame must be at least 1, got {self.num_frame}")
        if self.mirror_sequence and self.target == "centre":
            raise UserError(
                "Clips: mirror_sequence needs a ground truth for all frames; set target to 'all'"
            )
        if self.skip_frames < 0:
            raise UserError(f"Clips: skip_frames must not be negative, got {self.skip_frames}")
        if not self.interval_list or min(self.interval_list) < 1:
            raise UserError(
                f"Clips: interval_list needs intervals of at least 1, got {self.interval_list}"
            )

    def _centres(self, item: Item) -> Sequence[int | None]:
        """Returns the frames of a clip that are evaluated; ``[None]`` for the whole clip."""
        length = item.num_frame
        if self.target == "all" and len(item.gt) < length:
            raise UserError(
                f"Clips: {item.key} has a ground truth for its middle frame only; set target to "
                "'centre'"
            )
        if self.num_frame is None:
            return [None]
        centres = _with_truth(item, range(self.skip_frames, length - self.skip_frames))
        if not centres:
            raise UserError(
                f"Clips: {item.key} has {length} frames; skip_frames {self.skip_frames} leaves none"
            )
        return centres

    def _truths(self, item: Item, frames: list[int]) -> list[int]:
        """Returns the indices of the ground truths of a window."""
        if self.reference is not None:
            frames = [frames[self.reference]]
        return [_truth_index(item, t) for t in frames]

    def _training_length(self) -> int:
        """Returns the number of frames of a training window."""
        if self.num_frame is None:
            raise UserError("Clips: training needs windows of one length; set num_frame")
        return self.num_frame

    def _steps(self, item: Item, num_frame: int) -> list[tuple[int, list[int]]]:
        """Returns the frame steps whose windows fit into a clip, each with its possible centres."""
        before = num_frame // 2
        after = num_frame - 1 - before
        found = []
        for interval in self.interval_list:
            for step in (interval, -interval) if self.random_reverse else (interval,):
                left, right = sorted((-step * before, step * after))
                if centres := _with_truth(item, range(-left, item.num_frame - right)):
                    found.append((step, centres))
        return found

    def _too_short(self, item: Item, num_frame: int) -> Fault:
        return Fault(
            (item.lq or item.gt)[0].parent,
            "too short",
            f"{item.key} has {item.num_frame} frames, too few for windows of {num_frame} at "
            f"interval {min(self.interval_list)}; lower num_frame or remove the clip",
        )


def _mirrored(frames: np.ndarray) -> np.ndarray:
    """Returns frames (T, …) followed by the same frames in reverse."""
    return np.concatenate([frames, frames[::-1]])


def _truth_index(item: Item, frame: int) -> int:
    """Returns the index of a frame's ground truth; 0 if only the middle frame has one."""
    return frame if len(item.gt) == item.num_frame else 0


def _with_truth(item: Item, frames: range) -> list[int]:
    """Returns those of ``frames`` that have a ground truth."""
    length = item.num_frame
    return [t for t in frames if len(item.gt) == length or t == length // 2]

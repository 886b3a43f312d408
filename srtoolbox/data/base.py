"""The contracts of datasets: what a sample holds, and what the toolbox asks of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
from torch import Tensor


class _Key(TypedDict):
    key: str


class Sample(_Key, total=False):
    """One sample of a dataset, or a batch of them (tensors with a leading N, lists of keys).

    Pixels are as stored (uint8, uint16, or float in [0, 1]); they become float32 in [0, 1] on the
    device. C is 3 for RGB and 4 for packed RAW.

    Attributes:
        key: The name by which messages and results call the sample.
        lq: LR frames (T, C, h, w).
        gt: HR image (C, H, W); (T', C, H, W) where every frame has one.
        orientation: Flip and rotation that are applied on the device, see
            ``data.transforms.orientation``.
        flow: Optical flow (2, T - 1, 2, h, w), forward and backward, in pixels.
        frames: Names of the frames of ``gt``, for a clip.
        kinds: For each frame of ``gt``: ``"given"`` or ``"interpolated"``.
        scored: Indices of the frames of ``gt`` that are scored.
        reference: Index of the reference frame in ``lq``, where it varies from step to step.
    """

    lq: Any
    gt: Any
    orientation: Any
    flow: Any
    frames: list[str]
    kinds: list[str]
    scored: Sequence[int]
    reference: int


class _Facts(Protocol):
    """What every dataset states.

    Attributes:
        scale: Super-resolution factor.
        num_frame: Frames of a sample's ``lq``; None: it varies (whole clips).
        reference: Index of the frame that ``gt`` belongs to; None: ``gt`` has all frames.
    """

    scale: int
    num_frame: int | None
    reference: int | None

    def __len__(self) -> int: ...


class TrainDataset(_Facts, Protocol):
    """A dataset that training samples are drawn from."""

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Returns a training sample of source ``index``; every random choice comes from ``rng``."""
        ...


class EvalDataset(_Facts, Protocol):
    """A dataset that networks are evaluated on."""

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset may state beyond its contract, with defaults.

    Attributes:
        channels: Channels of a frame.
        num_source: Number of sources that ``draw`` takes samples from; None: ``len``.
        gt_size: Side of a training crop in HR pixels; None: it varies.
        time_scale: Frame rate of ``gt`` divided by that of ``lq``.
        clip_names: For each sample the clip that it belongs to; None: there are no clips.
        missing_neighbours: How frames beyond the ends of a clip are replaced; None: not stated.
        skip_frames: Frames at both ends of a clip that are not scored; None: not stated.
        paths: Returns the files of the dataset.
        check_training: Raises a ``UserError`` for what only training needs.
        finish: Turns a batch of ``draw``'s samples into ``lq`` and ``gt`` on the device.
    """

    channels: int = 3
    num_source: int | None = None
    gt_size: int | None = None
    time_scale: int = 1
    clip_names: list[str] | None = None
    missing_neighbours: str | None = None
    skip_frames: int | None = None
    paths: Callable[[], list[Path]] | None = None
    check_training: Callable[[], None] | None = None
    finish: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None


def dataset_info(dataset: TrainDataset | EvalDataset) -> DatasetInfo:
    """Returns what a dataset states beyond its contract, with defaults for the rest."""
    stated = {
        field.name: getattr(dataset, field.name, field.default) for field in fields(DatasetInfo)
    }
    return DatasetInfo(**stated)

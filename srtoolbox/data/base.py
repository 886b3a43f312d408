"""The contracts of datasets: the content of a sample, and the attributes that the toolbox reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
from torch import Tensor

from srtoolbox.errors import ComponentError
from srtoolbox.utils.own_code import calling, describe_value, is_own, place_of


class _SamplePixels(TypedDict):
    key: str
    lq: np.ndarray
    gt: np.ndarray


class Sample(_SamplePixels, total=False):
    """One sample of a dataset.

    Pixels are as stored: uint8, uint16, or float in [0, 1]. C is 1 for grey images, 3 for RGB,
    4 for packed RAW, and any number for images of other bands.

    Attributes:
        key: Name of the sample in messages and results.
        lq: LR frames (T, C, h, w).
        gt: HR image (C, H, W); (T', C, H, W) if every frame has one.
        mask: Pixels of ``gt`` that count, bool (1, H, W) or (T', 1, H, W); a dataset that has masks
            has one in every sample. Losses and metrics leave other pixels out.
        orientation: Flip and rotation to apply on the device, see ``data.transforms.orientation``.
        flow: Optical flow (2, T - 1, 2, h, w), forward and backward, in pixels.
        frames: Names of the frames of ``gt``, for clips.
        kinds: ``"given"`` or ``"interpolated"`` for each frame of ``gt``.
        scored: Indices of the frames of ``gt`` that are scored.
    """

    mask: np.ndarray
    orientation: int
    flow: np.ndarray
    frames: list[str]
    kinds: list[str]
    scored: Sequence[int]


class _UnfinishedPixels(TypedDict):
    key: str
    hr: np.ndarray
    synthesis: dict[str, Any]


class UnfinishedSample(_UnfinishedPixels, total=False):
    """A training sample whose ``lq`` and ``gt`` are computed on the device.

    Attributes:
        key: Name of the sample in messages.
        hr: HR image (C, H, W) with a margin, as stored; (T, C, H, W) if frames have their own.
        synthesis: The random choices from which the dataset's ``finish`` makes ``lq`` and ``gt``:
            arrays, and objects that stay on the host.
        mask: As of ``Sample``.
    """

    mask: np.ndarray


StoredBatch = dict[str, Any]
"""Collated samples: their arrays as tensors with a leading N, all other values in lists."""


class _BatchPixels(TypedDict):
    key: list[str]
    lq: Tensor
    gt: Tensor


class Batch(_BatchPixels, total=False):
    """A training batch on the device, as networks and losses get it: float32 in [0, 1].

    Attributes:
        key: Names of the samples.
        lq: LR frames (N, T, C, h, w).
        gt: HR images (N, C, H, W), or (N, T', C, H, W).
        mask: Pixels of ``gt`` that count, bool (N, 1, H, W) or (N, T', 1, H, W), if the dataset has
            masks.
        flow: Optical flow (N, 2, T - 1, 2, h, w), in pixels, if the dataset has it.
        reference: Index of the reference frame in ``lq``, if it differs from the dataset's.
        scale: Scale of the batch, if the dataset has several.
    """

    mask: Tensor
    flow: Tensor
    reference: int
    scale: int


class _Dataset(Protocol):
    """The attributes of every dataset: class attributes, instance attributes or properties."""

    @property
    def scale(self) -> int:
        """Super-resolution factor."""
        ...

    @property
    def num_frame(self) -> int | None:
        """Number of frames in ``lq``; None if it varies (whole clips)."""
        ...

    @property
    def reference(self) -> int | None:
        """Index of the frame that ``gt`` belongs to; None if ``gt`` has all frames."""
        ...

    def __len__(self) -> int: ...


class TrainDataset(_Dataset, Protocol):
    """A dataset that training samples are drawn from."""

    def draw(self, index: int, rng: np.random.Generator) -> Sample | UnfinishedSample:
        """Returns a training sample of source ``index``; every random choice comes from ``rng``."""
        ...


class EvalDataset(_Dataset, Protocol):
    """A dataset that networks are evaluated on."""

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class DatasetInfo:
    """The optional attributes of a dataset, with defaults.

    Attributes:
        channels: Channels of an LR frame: 3 for RGB, 4 for packed RAW, n for n bands.
        gt_channels: Channels of the ground truth; None: not stated.
        raw: Whether LR frames are packed RAW; None: if they have four channels.
        num_source: Number of sources that ``draw`` takes samples from; None: ``len``.
        gt_size: Side of a training crop in HR pixels; None: it varies.
        time_scale: Frame rate of ``gt`` divided by that of ``lq``.
        linear_gt: Whether the ground truth of RAW frames has linear sensor values, not sRGB.
        clip_names: The clip of each evaluation sample; None: there are no clips.
        clip_lengths: Number of scored frames of each clip, by name; None: not known.
        missing_neighbours: Rule that replaces frames beyond the ends of a clip; None: not stated.
        skip_frames: Frames at each end of a clip that are not scored; None: not stated.
        paths: Returns the files of the dataset.
        gt_sizes: Returns (H, W) of the images that are scored, from the headers of their files.
        check_training: Raises a ``UserError`` if the dataset cannot be used for training.
        finish: Computes ``lq`` and ``gt`` of a batch of unfinished samples on the device.
        scales: Scales of training; each step draws one of them. None: ``scale`` alone.
        at_scale: Returns the dataset that gives the training samples of one of ``scales``; it has
            as many sources.
    """

    channels: int = 3
    gt_channels: int | None = None
    raw: bool | None = None
    num_source: int | None = None
    gt_size: int | None = None
    time_scale: int = 1
    linear_gt: bool = True
    clip_names: list[str] | None = None
    clip_lengths: dict[str, int] | None = None
    missing_neighbours: str | None = None
    skip_frames: int | None = None
    paths: Callable[[], list[Path]] | None = None
    gt_sizes: Callable[[], dict[Path, tuple[int, int]]] | None = None
    check_training: Callable[[], None] | None = None
    finish: Callable[[StoredBatch], StoredBatch] | None = None
    scales: tuple[int, ...] | None = None
    at_scale: Callable[[int], Any] | None = None


def dataset_info(dataset: TrainDataset | EvalDataset) -> DatasetInfo:
    """Returns the optional attributes of a dataset, with defaults for those it does not have."""
    stated: dict[str, Any] = {
        field.name: getattr(dataset, field.name, field.default) for field in fields(DatasetInfo)
    }
    return DatasetInfo(**stated)


def check_dataset(dataset: Any, training: bool) -> None:
    """Checks that a dataset has the attributes and methods that the toolbox needs.

    Args:
        dataset: A registered dataset.
        training: Whether training samples are drawn from it, instead of evaluating on it.

    Raises:
        ComponentError: if it lacks some, or one has a wrong value; the message names them.
    """
    cls = type(dataset)
    name = f"{cls.__name__}{place_of(cls, '__init__')}"
    members = ["scale", "num_frame", "reference", "__len__", "draw" if training else "__getitem__"]
    if missing := [member for member in members if not hasattr(dataset, member)]:
        raise ComponentError(f"{name} lacks {', '.join(missing)}")
    if not is_own(cls):
        return
    with calling(dataset, "__len__"):
        length = len(dataset)
    if length == 0:
        raise ComponentError(f"{name} has no samples (its length is 0)")
    for member, least in (("scale", 1), ("num_frame", 1), ("reference", 0)):
        value = getattr(dataset, member)
        optional = member != "scale"
        if value is None and optional:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            words = f"an integer from {least} on" + (" or None" if optional else "")
            raise ComponentError(f"{name}: {member} must be {words}, got {value!r}")
    frames, reference = dataset.num_frame, dataset.reference
    if frames is not None and reference is not None and reference >= frames:
        raise ComponentError(
            f"{name}: reference is {reference}, but a sample has {frames} frames (0 to "
            f"{frames - 1})"
        )


def draw_sample(
    dataset: TrainDataset, index: int, rng: np.random.Generator
) -> Sample | UnfinishedSample:
    """Returns ``dataset.draw(index, rng)``; errors of a user's own dataset become one line."""
    with calling(dataset, "draw"):
        sample = dataset.draw(index, rng)
    if is_own(dataset):
        _check_sample(dataset, "draw", sample, dataset_info(dataset).finish is not None)
    return sample


def read_sample(dataset: EvalDataset, index: int) -> Sample:
    """Returns ``dataset[index]``; errors of a user's own dataset become one line."""
    with calling(dataset, "__getitem__"):
        sample = dataset[index]
    if is_own(dataset):
        _check_sample(dataset, "__getitem__", sample, unfinished=False)
    return sample


def _check_sample(dataset: Any, method: str, sample: Any, unfinished: bool) -> None:
    """Raises a ``ComponentError`` for a sample that is not as ``Sample`` documents it."""
    name = f"{type(dataset).__name__}.{method}{place_of(dataset, method)}"
    wanted = 'return {"key": name, "lq": (T, C, h, w), "gt": (C, H, W)} with numpy arrays'
    if not isinstance(sample, dict):
        raise ComponentError(f"{name} returned {describe_value(sample)}; {wanted}")
    keys = ("key",) if unfinished else ("key", "lq", "gt")
    if missing := [key for key in keys if key not in sample]:
        raise ComponentError(f"{name} returned a sample without {', '.join(missing)}; {wanted}")
    if unfinished:
        return
    lq, gt = sample["lq"], sample["gt"]
    for key, value, dims in (("lq", lq, (4,)), ("gt", gt, (3, 4))):
        is_array = isinstance(value, np.ndarray)
        is_float = is_array and np.issubdtype(value.dtype, np.floating)
        is_pixels = is_float or (is_array and value.dtype in (np.uint8, np.uint16))
        if not is_pixels or value.ndim not in dims:
            raise ComponentError(
                f"{name}: sample {sample['key']!r} has {describe_value(value)} as {key}; {wanted} "
                "of type uint8, uint16 or float in [0, 1]"
            )
        if is_float and value.size and value.max() > 2:
            raise ComponentError(
                f"{name}: sample {sample['key']!r} has {key} with values up to {value.max():g}; "
                "return uint8 or uint16, or divide floats to [0, 1]"
            )
    expected = tuple(dataset.scale * side for side in lq.shape[-2:])
    if gt.shape[-2:] != expected:
        raise ComponentError(
            f"{name}: sample {sample['key']!r} has lq {lq.shape} and gt {gt.shape}; at scale "
            f"{dataset.scale} gt must be {expected[0]}×{expected[1]} (channels come before rows)"
        )
    if "mask" in sample:
        mask, shape = sample["mask"], (*gt.shape[:-3], 1, *gt.shape[-2:])
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != shape:
            raise ComponentError(
                f"{name}: sample {sample['key']!r} has {describe_value(mask)} as mask; return a "
                f"numpy array of bool with shape {shape}: True where a pixel of gt counts"
            )

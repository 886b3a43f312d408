"""LR images made by a random degradation, for training on the device, for evaluation fixed.

A training sample is drawn without pixels being computed: it is an HR crop with a margin and a
``Plan``, which holds all random choices. ``Degrader.finish`` computes LR of a whole batch on its
device. For evaluation, the choices depend on the name of the image or clip and on a seed, so LR is
the same on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from srtoolbox.config.schema import Component, build
from srtoolbox.data.base import Sample, StoredBatch, UnfinishedSample
from srtoolbox.data.datasets.source import MAX_DRAWS, FileDataset, Pixels
from srtoolbox.data.datasets.synthetic_bursts import fixed_rng, mirrored_window
from srtoolbox.data.degradations.blind import Degradation
from srtoolbox.data.degradations.rgb import crop_centre
from srtoolbox.data.degradations.steps import (
    Quantize,
    Recipe,
    Step,
    apply_recipes,
    for_frame,
    sharpen,
)
from srtoolbox.data.degradations.video import (
    Codec,
    VideoCompression,
    compress_clip,
    require_codecs,
)
from srtoolbox.data.files.find import Item
from srtoolbox.data.layouts import Layout
from srtoolbox.data.stream import collate
from srtoolbox.data.transforms.orientation import (
    orient_array,
    random_crop_origin,
    random_orientation,
)
from srtoolbox.errors import ComponentError, UserError
from srtoolbox.utils.own_code import calling, describe_value, place_of

Spec = Annotated[dict[str, Any], Component("degradation")]
"""Options of a degradation: ``{"type": name, option: value, …}``."""

FIXED_SEED = 0
"""Seed of the degradations of evaluation sets, unless an option states another."""


@dataclass(frozen=True)
class Plan:
    """All random choices of one sample.

    Args:
        recipes: A recipe for each frame.
        codec: Video codec of the whole clip, or None.
    """

    recipes: tuple[Recipe, ...]
    codec: Codec | None = None

    @property
    def steps(self) -> list[str]:
        """Descriptions of the steps of the first frame, without the rounding."""
        steps = [str(step) for step in self.recipes[0][:-1]]
        return steps if self.codec is None else [*steps, str(self.codec)]


@dataclass(frozen=True)
class Degrader:
    """Makes LR images of HR images by a random degradation.

    Args:
        degradation: Draws recipes.
        scale: HR size divided by LR size.
        channels: Channels of an image.
        bit_depth: Bits to which LR is rounded: 8 gives uint8, 9 to 16 give float32.
        seed: Seed of fixed degradations.
        video: Compresses clips, or None.
        per_frame: Draw a recipe for each frame of a clip; otherwise its frames differ only in the
            numbers of their noise.
        reference: Index of the frame of a training sample with ground truth; None: all have one.
    """

    degradation: Degradation
    scale: int
    channels: int
    bit_depth: int = 8
    seed: int = FIXED_SEED
    video: VideoCompression | None = None
    per_frame: bool = False
    reference: int | None = 0

    def __post_init__(self) -> None:
        _check_members(self.degradation)
        if not 8 <= self.bit_depth <= 16:
            raise UserError(f"bit_depth must be from 8 to 16, got {self.bit_depth}")
        if self.video is not None:
            if self.bit_depth != 8:
                raise UserError("video_compression needs bit_depth 8, because codecs have 8 bits")
            require_codecs(self.video.codec)

    @property
    def margin(self) -> int:
        """HR pixels around a training crop, a multiple of the scale."""
        return -(-self.degradation.margin // self.scale) * self.scale

    def draw(self, rng: np.random.Generator, size: tuple[int, int], num_frame: int = 1) -> Plan:
        """Draws all choices for the frames of an image or clip.

        Args:
            rng: Source of the choices.
            size: Height and width of a frame, multiples of the scale.
            num_frame: Number of frames.

        Raises:
            ComponentError: if a user's own degradation returns no steps.
        """
        if self.per_frame:
            drawn = [self._draw_recipe(rng, size) for _ in range(num_frame)]
        else:
            recipe = self._draw_recipe(rng, size)
            drawn = [for_frame(recipe, frame) for frame in range(num_frame)]
        return Plan(tuple(drawn), self.video.draw(rng) if self.video else None)

    def _draw_recipe(self, rng: np.random.Generator, size: tuple[int, int]) -> Recipe:
        with calling(self.degradation, "draw"):
            steps = self.degradation.draw(rng, size, self.scale, self.channels)
        is_recipe = isinstance(steps, list | tuple) and all(isinstance(s, Step) for s in steps)
        if not is_recipe:
            cls = type(self.degradation)
            raise ComponentError(
                f"{cls.__name__}.draw{place_of(cls, 'draw')} returned {describe_value(steps)}; "
                "return a tuple of steps, as in srtoolbox.data.degradations.steps"
            )
        return (*steps, Quantize(self.bit_depth))

    def fixed(self, key: str, size: tuple[int, int], num_frame: int = 1) -> Plan:
        """Returns the choices that belong to the name of an image or clip and to the seed."""
        return self.draw(fixed_rng(key, self.seed), size, num_frame)

    def make(self, frames: Iterator[np.ndarray], plan: Plan) -> np.ndarray:
        """Makes the LR frames of an image or clip, frame by frame, on the CPU.

        Args:
            frames: HR frames (C, H, W) as stored; one channel is repeated to ``channels``.
            plan: The choices.

        Returns:
            (T, C, h, w) uint8, or float32 in [0, 1] with more than 8 bits.
        """
        made = []
        for frame, recipe in zip(frames, plan.recipes, strict=True):
            whole = np.broadcast_to(frame, (self.channels, *frame.shape[1:]))
            levels = to_levels(torch.from_numpy(np.stack([whole])))
            made += self._reduced(levels, [recipe])
        return self._stored(self._compressed(torch.stack(made), plan)).numpy()

    def finish(self, batch: StoredBatch) -> StoredBatch:
        """Makes LR images and ground truth of a training batch on its device.

        Args:
            batch: Collated samples: hr (N, T, C, H, W) with the margin, and their plans.

        Returns:
            The batch with lq (N, T, C, h, w) and gt (N, C, H, W) or (N, T, C, H, W) instead. A
            batch that has them already is returned unchanged.
        """
        if "hr" not in batch:
            return batch
        others = {name: value for name, value in batch.items() if name not in ("hr", "synthesis")}
        hr, plans = batch["hr"], batch["synthesis"]["plan"]
        device = hr.device
        hr = hr.cpu() if device.type == "mps" else hr  # it has no float64
        (num, num_frame), (height, width) = hr.shape[:2], hr.shape[-2:]
        levels = to_levels(hr).flatten(0, 1)
        truth = hr
        if self.degradation.gt_usm:
            levels = sharpen(levels)
            truth = (levels / 255).float().unflatten(0, (num, num_frame))
        recipes = [recipe for plan in plans for recipe in plan.recipes]
        small = torch.stack(self._reduced(levels, recipes)).unflatten(0, (num, num_frame))
        clips = [self._compressed(clip, plan) for clip, plan in zip(small, plans, strict=True)]
        size = height - 2 * self.margin, width - 2 * self.margin
        lq = crop_centre(torch.stack(clips), (size[0] // self.scale, size[1] // self.scale))
        gt = crop_centre(truth, size)
        gt = gt if self.reference is None else gt[:, self.reference]
        return {**others, "lq": self._stored(lq).to(device), "gt": gt.contiguous().to(device)}

    def _reduced(self, levels: Tensor, recipes: Sequence[Recipe]) -> list[Tensor]:
        """Applies recipes, which must make LR of the right size."""
        height, width = levels.shape[-2:]
        expected = levels.shape[1], height // self.scale, width // self.scale
        made = apply_recipes(levels, recipes)
        for image in made:
            if image.shape != expected:
                cls = type(self.degradation)
                raise ComponentError(
                    f"{cls.__name__}.draw{place_of(cls, 'draw')}: its steps make "
                    f"{tuple(image.shape)} of {tuple(levels.shape[1:])}; at scale {self.scale} "
                    f"they must make {expected}"
                )
        return made

    @staticmethod
    def _compressed(clip: Tensor, plan: Plan) -> Tensor:
        return clip if plan.codec is None else compress_clip(clip, plan.codec)

    def _stored(self, levels: Tensor) -> Tensor:
        """Converts rounded levels to stored pixels."""
        if self.bit_depth == 8:
            return levels.to(torch.uint8)
        return (levels / 255).float()


def _check_members(degradation: Any) -> None:
    """Raises a ``ComponentError`` for an object that has not the members of ``Degradation``."""
    cls = type(degradation)
    name = f"{cls.__name__}{place_of(cls, '__init__')}"
    members = ("margin", "gt_usm", "draw")
    if missing := [member for member in members if not hasattr(degradation, member)]:
        raise ComponentError(f"{name} lacks {', '.join(missing)}")
    margin = degradation.margin
    if isinstance(margin, bool) or not isinstance(margin, int) or margin < 0:
        raise ComponentError(f"{name}: margin must be an integer from 0 on, got {margin!r}")


def to_levels(hr: Tensor) -> Tensor:
    """Converts stored pixels to float64 levels from 0 to 255."""
    if hr.dtype == torch.uint8:
        return hr.double()
    if hr.dtype == torch.uint16:
        return hr.to(torch.int32).double() * (255 / 65535)
    return (hr.double() * 255).clamp(0, 255)


class DegradableDataset(FileDataset):
    """A dataset on disk whose LR images may be made by a random degradation.

    A subclass calls ``_choose_degradation`` before ``_open`` and ``_open_degradation`` after it.
    """

    _degrader: Degrader | None = None
    _on_device = True
    _latest: tuple[str, np.ndarray] | None = None  # the LR frames of the last item that was read

    @property
    def finish(self) -> Callable[[StoredBatch], StoredBatch] | None:
        """Computes LR of a training batch on its device; None: LR needs no computation there."""
        return None if self._degrader is None else self._degrader.finish

    def _choose_degradation(
        self, spec: Mapping[str, Any] | None, layout: Layout, **unused: Any
    ) -> Layout:
        """Returns the layout without LR files if LR is made by a degradation.

        Args:
            spec: Options of the degradation, or None.
            layout: Layout of the files.
            unused: Options that a degradation does not use, by name, with their values.

        Raises:
            UserError: if the layout is RAW, or an unused option is set.
        """
        if spec is None:
            return layout
        name = type(self).__name__
        if layout.raw:
            raise UserError(f"{name}: layout '{layout.name}' is RAW; remove degradation")
        for option, value in unused.items():
            if value is not None:
                raise UserError(
                    f"{name}: degradation makes LR from the ground truth; remove {option}"
                )
        return layout.without_lq()

    def _open_degradation(
        self, spec: Mapping[str, Any] | None, on_device: bool, **options: Any
    ) -> None:
        """Builds the degradation.

        Args:
            spec: Its options, or None.
            on_device: Whether training samples are finished on the device.
            options: Of ``Degrader``.

        Raises:
            UserError: for invalid options.
        """
        if spec is None:
            return
        degradation = build("degradation", spec)
        try:
            self._degrader = Degrader(degradation, self.scale, self.channels, **options)
        except UserError as error:
            raise UserError(f"{type(self).__name__}: {error}") from error
        self._on_device = on_device
        short = [item for item in self._items if len(item.gt) < item.num_frame]
        if short:
            raise UserError(
                f"{self._title}: {short[0].key} has no ground truth for each frame, from which a "
                "degradation makes LR"
            )

    def _draw_degraded(
        self, item: Item, frames: Sequence[int], rng: np.random.Generator
    ) -> Sample | UnfinishedSample:
        """Draws a training sample of some frames of an item.

        Raises:
            UserError: if the frames are smaller than the crop or cannot be read.
        """
        assert self._degrader is not None
        reference, size, margin = self._degrader.reference, self.gt_size, self._degrader.margin
        images = {frame: self._truth(item, frame) for frame in dict.fromkeys(frames)}
        truths = frames if reference is None else [frames[reference]]
        height, width = images[frames[0]].shape[1:]
        if min(height, width) < size:
            raise UserError(
                f"{self._title}: {item.key} is {width}×{height}, smaller than gt_size {size}"
            )
        mask = None
        for _ in range(MAX_DRAWS):
            y, x = random_crop_origin(height, width, size, rng)
            if not self._masked:
                break
            place = slice(y, y + size), slice(x, x + size)
            mask = np.stack([images[frame].mask(*place) for frame in truths])
            if mask.any():
                break
        code = random_orientation(self.use_hflip, self.use_rot, rng)
        windows = [
            mirrored_window(images[frame], y, x, (size, size), margin, self.channels)
            for frame in frames
        ]
        hr = orient_array(np.stack([self._levels.apply(window) for window in windows]), code)
        plan = self._degrader.draw(rng, (hr.shape[-2], hr.shape[-1]), len(frames))
        sample: UnfinishedSample = {
            "key": item.key,
            "hr": np.ascontiguousarray(hr),
            "synthesis": {"plan": plan},
        }
        if mask is not None:
            mask = np.ascontiguousarray(orient_array(mask, code))
            sample["mask"] = mask if reference is None else mask[0]
        return sample if self._on_device else self._finished(sample)

    def _finished(self, sample: UnfinishedSample) -> Sample:
        assert self._degrader is not None
        batch = self._degrader.finish(collate([sample]))
        made: Sample = {
            "key": sample["key"],
            "lq": batch["lq"][0].numpy(),
            "gt": batch["gt"][0].numpy(),
        }
        if "mask" in sample:
            made["mask"] = sample["mask"]
        return made

    def _read_degraded(self, item: Item, frames: Sequence[int], truths: Sequence[int]) -> Pixels:
        """Reads whole frames and makes their LR, as ``_read`` does without a degradation."""
        lq = self._fixed_frames(item)
        height, width = (self.scale * side for side in lq.shape[-2:])
        images = [self._truth(item, frame) for frame in truths]
        gt = np.stack([self._levels.apply(image[:, :height, :width]) for image in images])
        mask = None
        if self._masked:
            place = slice(0, height), slice(0, width)
            mask = np.stack([image.mask(*place) for image in images])
        return Pixels(lq[list(frames)], gt, mask)

    def _fixed_frames(self, item: Item) -> np.ndarray:
        """Returns the LR of all frames of an item, made by the degradation of its name."""
        assert self._degrader is not None
        latest = self._latest
        if latest is not None and latest[0] == item.key:
            return latest[1]
        scale, num_frame = self.scale, item.num_frame
        height, width = (side - side % scale for side in self._truth(item, 0).shape[1:])
        if not height or not width:
            raise UserError(f"{self._title}: {item.key} is smaller than scale {scale}")
        images = (self._truth(item, frame) for frame in range(num_frame))
        frames = (self._levels.apply(image[:, :height, :width]) for image in images)
        plan = self._degrader.fixed(item.key, (height, width), num_frame)
        lq = self._degrader.make(frames, plan)
        self._latest = item.key, lq
        return lq

"""The sample stream: source, crop and augmentation of every training sample.

Sample ``i`` of step ``t`` is a function of ``(seed, t, i)`` alone. It is therefore the same for
every method of a comparison, for any number of workers or GPUs, and after a resume: a resumed run
requests the samples of step ``t`` directly, without replaying earlier steps.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from srtoolbox.data.base import (
    Batch,
    Sample,
    StoredBatch,
    TrainDataset,
    UnfinishedSample,
    dataset_info,
    draw_sample,
)
from srtoolbox.data.transforms.orientation import orient_batch
from srtoolbox.utils.malloc import return_freed_memory
from srtoolbox.utils.own_code import calling
from srtoolbox.utils.processes import end_with_parent

# Separates the streams of random numbers that are drawn for different purposes from one seed.
_ORDER, _SAMPLE, _NUM_FRAME, _SCALE = 0, 1, 4, 5


def sample_rng(seed: int, step: int, index: int) -> np.random.Generator:
    """Returns the random generator of sample ``index`` of step ``step``."""
    return np.random.default_rng(np.random.SeedSequence([_SAMPLE, seed, step, index]))


def source_of(seed: int, draw: int, length: int) -> int:
    """Returns the source of the ``draw``-th training sample: a new permutation in every epoch."""
    epoch, position = divmod(draw, length)
    return int(_permutation(seed, epoch, length)[position])


@lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng(np.random.SeedSequence([_ORDER, seed, epoch])).permutation(length)


def nearest_frames(num_frame: int, reference: int, count: int) -> range:
    """Returns the indices of the ``count`` frames nearest to the reference, which is among them.

    Of two equally near frames the earlier one is taken.

    Args:
        num_frame: Number of frames.
        reference: Index of the reference frame.
        count: Number of frames to return, at most ``num_frame``.
    """
    start = min(max(reference - count // 2, 0), num_frame - count)
    return range(start, start + count)


def scale_of(seed: int, step: int, scales: Sequence[int]) -> int:
    """Returns the scale of all samples of a step: each of ``scales`` with equal probability."""
    rng = np.random.default_rng(np.random.SeedSequence([_SCALE, seed, step]))
    return scales[int(rng.integers(len(scales)))]


class SampleStream(Dataset):
    """All training samples in order: item ``d`` is sample ``d % batch`` of step ``d // batch``.

    If the dataset has several scales, each step draws one of them for all its samples, and its
    batch has it as ``scale``.

    Args:
        dataset: Dataset that samples are drawn from.
        seed: Seed of the run.
        batch_size: Samples in one optimizer step, over all devices.
        rank: Index of this process; process ``r`` takes the samples ``r``, ``r + world_size``, ….
        world_size: Number of processes that share a step.
        num_frame_range: Minimum and maximum number of frames of a step. Each step draws one number
            for all its samples; its batch then has the reference and the frames nearest to it, and
            the new index of the reference as ``reference``. None: all frames of the dataset.

    Raises:
        ValueError: if the processes cannot share a batch equally, or ``num_frame_range`` is given
            for a dataset without a reference frame.
    """

    def __init__(
        self,
        dataset: TrainDataset,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        num_frame_range: tuple[int, int] | None = None,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} is not a multiple of {world_size} processes")
        if num_frame_range is not None and dataset.reference is None:
            raise ValueError("num_frame_range needs a dataset with a reference frame")
        self.dataset, self.seed, self.batch_size = dataset, seed, batch_size
        self.rank, self.world_size = rank, world_size
        self.num_frame_range = num_frame_range
        info = dataset_info(dataset)
        self.num_source = info.num_source or len(dataset)
        self._finish = info.finish
        self._scales, self._at_scale = info.scales, info.at_scale

    def __getitem__(self, draw: int) -> Sample | UnfinishedSample:
        step, index = divmod(draw, self.batch_size)
        source = source_of(self.seed, draw, self.num_source)
        dataset, scale = self.dataset, self._scale(step)
        if scale is not None and self._at_scale is not None:
            dataset = self._at_scale(scale)
        return draw_sample(dataset, source, sample_rng(self.seed, step, index))

    def _scale(self, step: int) -> int | None:
        """Returns the scale of a step; None: the dataset has only one."""
        return None if self._scales is None else scale_of(self.seed, step, self._scales)

    def batches(
        self, start: int, stop: int, num_worker: int = 0, device: torch.device | str = "cpu"
    ) -> Generator[Batch, None, None]:
        """Yields the batches of steps ``start`` to ``stop - 1`` on a device, float32 in [0, 1].

        On a GPU, the next batch is copied while the current one is used.
        """
        device = torch.device(device)
        loader = _start(self.loader(start, stop, num_worker))
        if device.type != "cuda":
            for step, stored in enumerate(loader, start):
                yield self._to_device(stored, device, step)
            return
        copies = torch.cuda.Stream(device)
        upcoming: tuple[Batch, torch.cuda.Event] | None = None
        for step, stored in enumerate(loader, start):
            with torch.cuda.stream(copies):
                batch = self._to_device(stored, device, step)
                copied = torch.cuda.Event()
                copied.record(copies)
            if upcoming is not None:
                yield _hand_over(*upcoming)
            upcoming = batch, copied
        if upcoming is not None:
            yield _hand_over(*upcoming)

    def loader(self, start: int, stop: int, num_worker: int = 0) -> DataLoader:
        """Returns a loader of the batches of steps ``start`` to ``stop - 1``, as stored."""
        first = start * self.batch_size + self.rank
        last = stop * self.batch_size
        return DataLoader(
            self,
            batch_size=self.batch_size // self.world_size,
            sampler=range(first, last, self.world_size),
            num_workers=num_worker,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_init_worker,
            persistent_workers=num_worker > 0,
        )

    def _to_device(self, stored: StoredBatch, device: torch.device, step: int) -> Batch:
        """Copies a batch as stored, then orients it and converts it to float32 on the device."""
        batch = _map_tensors(stored, lambda pixels: pixels.to(device, non_blocking=True))
        if self._finish is not None:
            with calling(self.dataset, "finish"):
                batch = self._finish(batch)
        if self.num_frame_range is not None:
            batch = self._choose_frames(batch, step, *self.num_frame_range)
        codes = batch.pop("orientation", None) or [0] * len(batch["key"])
        pixels = {name: to_float(orient_batch(batch[name], codes)) for name in ("lq", "gt")}
        if "mask" in batch:
            pixels["mask"] = orient_batch(batch["mask"], codes)
        scale = self._scale(step)
        several = {} if scale is None else {"scale": scale}
        return cast(Batch, {**batch, **pixels, **several})

    def _choose_frames(
        self, batch: StoredBatch, step: int, min_frames: int, max_frames: int
    ) -> StoredBatch:
        """Draws the number of frames of a step and keeps those nearest to the reference."""
        rng = np.random.default_rng(np.random.SeedSequence([_NUM_FRAME, self.seed, step]))
        lq, reference = batch["lq"], self.dataset.reference or 0
        frames = nearest_frames(
            lq.shape[1], reference, int(rng.integers(min_frames, max_frames + 1))
        )
        lq = lq[:, frames.start : frames.stop].contiguous()
        return {**batch, "lq": lq, "reference": reference - frames.start}


def _start(loader: DataLoader) -> Iterator[StoredBatch]:
    """Starts the workers of a loader, so that only reading a batch fails if one of them is killed.

    Torch would handle SIGCHLD and raise an error at once, also in the middle of an optimizer's step
    or of a save. Without its handler it finds the killed worker in at most five seconds.
    """
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    batches = iter(loader)
    if before is not None:
        with suppress(ValueError):  # not the main thread, where torch installs no handler either
            signal.signal(signal.SIGCHLD, before)
    return batches


def _map_tensors(batch: Any, function: Callable[[Tensor], Any]) -> Any:
    """Applies ``function`` to every tensor of a batch, including those in nested dicts."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {name: _map_tensors(value, function) for name, value in batch.items()}
    return batch


def _hand_over(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Makes a batch that was copied on another CUDA stream safe to use on the current one."""
    stream = torch.cuda.current_stream()
    stream.wait_event(copied)
    # Its memory must not be reused before this stream is done.
    _map_tensors(batch, lambda pixels: pixels.record_stream(stream))
    return batch


def collate(samples: Sequence[Mapping[str, Any]]) -> StoredBatch:
    """Stacks the arrays of samples to tensors (N, …), also in nested dicts; lists other values.

    Raises:
        ValueError: if the samples' arrays differ in size or type; names the keys and sizes.
    """
    return {name: _stack(name, [s[name] for s in samples], samples) for name in samples[0]}


def _stack(name: str, values: list[Any], samples: Sequence[Mapping[str, Any]]) -> Any:
    if isinstance(values[0], dict):
        return {part: _stack(part, [v[part] for v in values], samples) for part in values[0]}
    if not isinstance(values[0], np.ndarray):
        return values
    if len({(value.shape, value.dtype) for value in values}) > 1:
        pairs = zip(samples, values, strict=True)
        sizes = ", ".join(f"{s['key']} {tuple(value.shape)} {value.dtype}" for s, value in pairs)
        raise ValueError(f"samples of one batch differ in the size or type of '{name}': {sizes}")
    return torch.from_numpy(np.stack(values))


def split_batch(batch: Batch, num_part: int) -> Iterator[Batch]:
    """Yields ``num_part`` equal parts of a batch; the batch size must be a multiple of it."""
    if num_part == 1:
        yield batch
        return
    size = len(batch["key"]) // num_part
    for i in range(num_part):
        part = slice(i * size, (i + 1) * size)
        values = {
            name: value[part] if isinstance(value, Tensor | list) else value
            for name, value in batch.items()
        }
        yield cast(Batch, values)


def to_float(pixels: Tensor) -> Tensor:
    """Converts stored pixels to float32: uint8 / 255, uint16 / 65535, floats unchanged."""
    if pixels.dtype == torch.uint8:
        return pixels.float().div_(255)
    if pixels.dtype == torch.uint16:
        return pixels.to(torch.int32).float().div_(65535)
    return pixels.float()


def _init_worker(_: int) -> None:
    """Prepares a worker process: one thread, because the workers are the parallelism.

    Ctrl-C reaches all processes at once, but only the main process must handle it: without its
    workers it could not finish its step and save the state. SIGTERM must end workers, because that
    is how the main process stops them.
    """
    end_with_parent()
    return_freed_memory()  # images of other sizes than a training step would make it grow
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)

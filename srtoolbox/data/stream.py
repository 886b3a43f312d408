"""The sample stream: which sample, which crop, which augmentation, at which step.

Sample ``i`` of step ``t`` is a function of ``(seed, t, i)`` alone. It is therefore the same for
every method of a comparison, for any number of workers or GPUs, and after a resume: a run that goes
on at step ``t`` just asks for the samples of step ``t``; nothing is replayed.

A training dataset offers ``draw(index, rng) -> sample``, which makes one training sample from
source ``index`` (an image, a clip, a burst) with every random choice taken from ``rng``; it has
``num_source`` of them, by default ``len``. Datasets for evaluation offer ``__len__`` and
``__getitem__``.
Both state ``scale``, ``num_frame`` and ``reference`` (the index of the reference frame).

A sample is a dict: ``lq`` (T, C, h, w) and ``gt`` (C, H, W), or (T, C, H, W) where every frame has
its own, as stored (uint8, uint16 or float in [0, 1]), and ``key``, the name by which messages and
results call it. Training samples may have an ``orientation`` (see ``augment``). A dataset that
makes ``lq`` on the device gives other arrays instead, and has a method ``finish(batch)`` that turns
them into ``lq`` and ``gt`` there.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from srtoolbox.data.transforms.orientation import orient_batch

Sample = dict[str, Any]

# Separates the streams of random numbers drawn for different purposes from one seed.
_ORDER, _SAMPLE, _NUM_FRAME = 0, 1, 4


class TrainingData(Protocol):
    """What the stream needs of a dataset."""

    scale: int
    num_frame: int
    reference: int | None

    def __len__(self) -> int: ...

    def draw(self, index: int, rng: np.random.Generator) -> Sample: ...


def sample_rng(seed: int, step: int, index: int) -> np.random.Generator:
    """The random numbers of sample ``index`` of step ``step``."""
    return np.random.default_rng(np.random.SeedSequence([_SAMPLE, seed, step, index]))


def source_of(seed: int, draw: int, length: int) -> int:
    """Which source the ``draw``-th training sample uses: a new permutation in every pass."""
    lap, position = divmod(draw, length)
    return int(_permutation(seed, lap, length)[position])


@lru_cache(maxsize=8)
def _permutation(seed: int, lap: int, length: int) -> np.ndarray:
    return np.random.default_rng(np.random.SeedSequence([_ORDER, seed, lap])).permutation(length)


def nearest_frames(num_frame: int, reference: int, count: int) -> range:
    """The reference and the frames nearest to it, the earlier of two that are equally near.

    Args:
        num_frame: How many frames there are.
        reference: Index of one of them.
        count: How many are wanted, of those that there are.
    """
    start = min(max(reference - count // 2, 0), num_frame - count)
    return range(start, start + count)


class SampleStream(Dataset):
    """All training samples in order: item ``d`` is sample ``d % batch`` of step ``d // batch``.

    Args:
        dataset: Where samples are drawn from.
        seed: Seed of the run.
        batch_size: Samples in one optimizer step, over all devices.
        rank: Which of ``world_size`` processes this is; each takes every ``world_size``-th sample.
        world_size: Number of processes that share a step.
        num_frame_range: Fewest and most frames of a step. Each step draws one number, the same for
            all its samples, and batches have only the reference and the frames nearest to it, and
            the index of the reference among them as ``reference``. None: all that there are.
    """

    def __init__(
        self,
        dataset: TrainingData,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        num_frame_range: tuple[int, int] | None = None,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} is not a multiple of {world_size} processes")
        self.dataset, self.seed, self.batch_size = dataset, seed, batch_size
        self.rank, self.world_size = rank, world_size
        self.num_frame_range = num_frame_range
        self.num_source: int = getattr(dataset, "num_source", None) or len(dataset)

    def __getitem__(self, draw: int) -> Sample:
        step, index = divmod(draw, self.batch_size)
        source = source_of(self.seed, draw, self.num_source)
        return self.dataset.draw(source, sample_rng(self.seed, step, index))

    def keys(self, step: int) -> list[str]:
        """The names of the samples of one step, for messages."""
        first = step * self.batch_size
        return [self[draw]["key"] for draw in range(first, first + self.batch_size)]

    def batches(
        self, start: int, stop: int, num_worker: int = 0, device: torch.device | str = "cpu"
    ) -> Iterator[Sample]:
        """Batches of the steps ``start`` to ``stop - 1`` on a device, float32 in [0, 1].

        On a GPU the next batch is on its way while the current one is worked on.
        """
        device = torch.device(device)
        loader = self.loader(start, stop, num_worker)
        if device.type != "cuda":
            for step, batch in enumerate(loader, start):
                yield self._to_device(batch, device, step)
            return
        copies = torch.cuda.Stream(device)
        upcoming: tuple[Sample, torch.cuda.Event] | None = None
        for step, batch in enumerate(loader, start):
            with torch.cuda.stream(copies):
                fresh = self._to_device(batch, device, step)
                arrived = copies.record_event()
            if upcoming is not None:
                yield _hand_over(*upcoming)
            upcoming = fresh, arrived
        if upcoming is not None:
            yield _hand_over(*upcoming)

    def loader(self, start: int, stop: int, num_worker: int = 0) -> DataLoader:
        """Batches of the steps ``start`` to ``stop - 1`` as stored, in order."""
        first = start * self.batch_size + self.rank
        last = stop * self.batch_size
        workers: dict[str, Any] = {}
        if num_worker:
            workers = {"persistent_workers": True, "worker_init_fn": _init_worker}
        return DataLoader(
            self,
            batch_size=self.batch_size // self.world_size,
            sampler=range(first, last, self.world_size),
            num_workers=num_worker,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            **workers,
        )

    def _to_device(self, batch: Sample, device: torch.device, step: int) -> Sample:
        """Pixels travel as stored and become float32 on the device, in their orientation."""
        batch = _map_tensors(batch, lambda pixels: pixels.to(device, non_blocking=True))
        if hasattr(self.dataset, "finish"):
            batch = self.dataset.finish(batch)
        if self.num_frame_range is not None:
            batch = self._choose_frames(batch, step)
        codes = batch.pop("orientation", None) or [0] * len(batch["key"])
        pixels = {name: to_float(orient_batch(batch[name], codes)) for name in ("lq", "gt")}
        return {**batch, **pixels}

    def _choose_frames(self, batch: Sample, step: int) -> Sample:
        """A batch with as many frames as its step has, and where the reference is among them."""
        few, many = self.num_frame_range
        rng = np.random.default_rng(np.random.SeedSequence([_NUM_FRAME, self.seed, step]))
        lq, reference = batch["lq"], self.dataset.reference
        frames = nearest_frames(lq.shape[1], reference, int(rng.integers(few, many + 1)))
        lq = lq[:, frames.start : frames.stop].contiguous()
        return {**batch, "lq": lq, "reference": reference - frames.start}


def _map_tensors(batch: Any, call: Any) -> Any:
    """A batch with ``call`` applied to every tensor in it, also in dicts in it."""
    if isinstance(batch, Tensor):
        return call(batch)
    if isinstance(batch, dict):
        return {name: _map_tensors(value, call) for name, value in batch.items()}
    return batch


def _hand_over(batch: Sample, arrived: torch.cuda.Event) -> Sample:
    """A batch copied on another stream, made safe to use on the current one."""
    stream = torch.cuda.current_stream()
    stream.wait_event(arrived)

    def keep(pixels: Tensor) -> Tensor:  # its memory must not be reused before this stream is done
        pixels.record_stream(stream)
        return pixels

    return _map_tensors(batch, keep)


def collate(samples: list[Sample]) -> Sample:
    """A batch: arrays stacked to tensors (N, …), also those in dicts; all else in lists.

    Raises:
        ValueError: if samples differ in size; names the keys and sizes.
    """
    return {name: _stack(name, [s[name] for s in samples], samples) for name in samples[0]}


def _stack(name: str, values: list[Any], samples: list[Sample]) -> Any:
    if isinstance(values[0], dict):
        return {part: _stack(part, [v[part] for v in values], samples) for part in values[0]}
    if not isinstance(values[0], np.ndarray):
        return values
    if len({(value.shape, value.dtype) for value in values}) > 1:
        pairs = zip(samples, values, strict=True)
        sizes = ", ".join(f"{s['key']} {tuple(value.shape)} {value.dtype}" for s, value in pairs)
        raise ValueError(f"samples of one batch differ in the size or type of '{name}': {sizes}")
    return torch.from_numpy(np.stack(values))


def split_batch(batch: Sample, parts: int) -> Iterator[Sample]:
    """A batch on the device in ``parts`` of equal size, which divides its own."""
    if parts == 1:
        yield batch
        return
    size = len(batch["key"]) // parts
    for i in range(parts):
        part = slice(i * size, (i + 1) * size)
        yield {
            name: value[part] if isinstance(value, Tensor | list) else value
            for name, value in batch.items()
        }


def to_float(pixels: torch.Tensor) -> torch.Tensor:
    """Stored pixels to float32 in [0, 1]: uint8 by 255, uint16 by 65535, floats as they are."""
    if pixels.dtype == torch.uint8:
        return pixels.float().div_(255)
    if pixels.dtype == torch.uint16:
        return pixels.to(torch.int32).float().div_(65535)
    return pixels.float()


def _init_worker(_: int) -> None:
    """One thread per worker: the workers are the parallelism.

    Ctrl-C reaches all processes at once but is for the main one: it could not end its step and
    save the state if its workers were gone. (SIGTERM must end them: so they are told to leave.)
    """
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)

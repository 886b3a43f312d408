"""The sample stream: which sample, which crop, which augmentation, at which step.

Sample ``i`` of step ``t`` is a function of ``(seed, t, i)`` alone. It is therefore the same for
every method of a comparison, for any number of workers or GPUs, and after a resume: a run that goes
on at step ``t`` just asks for the samples of step ``t``; nothing is replayed.

A training dataset offers ``__len__`` (how many source images or clips it has) and
``draw(index, rng) -> sample``, which makes one training sample from source ``index`` with every
random choice taken from ``rng``. Datasets for evaluation offer ``__len__`` and ``__getitem__``.
Both state ``scale``, ``num_frame`` and ``reference`` (the index of the reference frame).

A sample is a dict: ``lq`` (T, C, h, w) and ``gt`` (C, H, W) as stored (uint8, uint16 or float in
[0, 1]), and ``key``, the name by which messages and results call it.
"""

from __future__ import annotations

import signal
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

Sample = dict[str, Any]

# Separates the streams of random numbers drawn for different purposes from one seed.
_ORDER, _SAMPLE = 0, 1


class TrainingData(Protocol):
    """What the stream needs of a dataset."""

    scale: int
    num_frame: int
    reference: int

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


class SampleStream(Dataset):
    """All training samples in order: item ``d`` is sample ``d % batch`` of step ``d // batch``.

    Args:
        dataset: Where samples are drawn from.
        seed: Seed of the run.
        batch_size: Samples in one optimizer step, over all devices.
        rank: Which of ``world_size`` processes this is; each takes every ``world_size``-th sample.
        world_size: Number of processes that share a step.
    """

    def __init__(
        self,
        dataset: TrainingData,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} is not a multiple of {world_size} processes")
        self.dataset, self.seed, self.batch_size = dataset, seed, batch_size
        self.rank, self.world_size = rank, world_size

    def __getitem__(self, draw: int) -> Sample:
        step, index = divmod(draw, self.batch_size)
        source = source_of(self.seed, draw, len(self.dataset))
        return self.dataset.draw(source, sample_rng(self.seed, step, index))

    def keys(self, step: int) -> list[str]:
        """The names of the samples of one step, for messages."""
        first = step * self.batch_size
        return [self[draw]["key"] for draw in range(first, first + self.batch_size)]

    def loader(self, start: int, stop: int, num_worker: int = 0) -> DataLoader:
        """Batches of the steps ``start`` to ``stop - 1``, in order."""
        first = start * self.batch_size + self.rank
        last = stop * self.batch_size
        workers: dict[str, Any] = {}
        if num_worker:
            workers = {"persistent_workers": True, "worker_init_fn": _calm_worker}
        return DataLoader(
            self,
            batch_size=self.batch_size // self.world_size,
            sampler=range(first, last, self.world_size),
            num_workers=num_worker,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            **workers,
        )


def collate(samples: list[Sample]) -> Sample:
    """A batch: images stacked to (N, …) tensors, keys in a list.

    Raises:
        ValueError: if samples differ in size; names the keys and sizes.
    """
    batch: Sample = {"key": [sample["key"] for sample in samples]}
    for name in ("lq", "gt"):
        shapes = {sample[name].shape for sample in samples}
        if len(shapes) > 1:
            sizes = ", ".join(f"{s['key']} {tuple(s[name].shape)}" for s in samples)
            raise ValueError(f"samples of one batch differ in the size of '{name}': {sizes}")
        batch[name] = torch.from_numpy(np.stack([sample[name] for sample in samples]))
    return batch


def to_device(batch: Sample, device: torch.device) -> Sample:
    """A batch on a device: its pixels travel as stored and become float32 in [0, 1] there."""
    moved = {name: batch[name].to(device, non_blocking=True) for name in ("lq", "gt")}
    return {**batch, **{name: to_float(pixels) for name, pixels in moved.items()}}


def to_float(pixels: torch.Tensor) -> torch.Tensor:
    """Stored pixels to float32 in [0, 1]: uint8 by 255, uint16 by 65535, floats as they are."""
    if pixels.dtype == torch.uint8:
        return pixels.float().div_(255)
    if pixels.dtype == torch.uint16:
        return pixels.to(torch.int32).float().div_(65535)
    return pixels.float()


def _calm_worker(_: int) -> None:
    """One thread per worker: the workers are the parallelism.

    Ctrl-C reaches all processes at once but is for the main one: it could not end its step and
    save the state if its workers were gone. (SIGTERM must end them: so they are told to leave.)
    """
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)

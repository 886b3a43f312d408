"""Measures training samples per second from PNG files, from sub-images and from the decoded cache.

Samples are drawn through the sample stream, as in training, and moved to the device.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from benchmarks.pictures import Data, Pictures, open_pictures, write_pictures, write_tiles
from benchmarks.session import train_in_blocks
from srtoolbox.bench.network import SEED, build_net
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Figures, Report, machine
from srtoolbox.bench.timing import speedup
from srtoolbox.config.schema import option
from srtoolbox.data import SampleStream
from srtoolbox.engine.device.precision import Precision, synchronize
from srtoolbox.engine.options import ArchSpec, TrainOptions

Storage = Literal["PNG", "sub-images", "cache"]
STORAGES: tuple[Storage, ...] = ("PNG", "sub-images", "cache")


@dataclass(frozen=True)
class WaitOptions:
    """The training that measures the share of time spent waiting for samples."""

    arch: ArchSpec
    batch_size: int = option(default=16, min=1, doc="Samples in a step.")
    num_worker: list[int] = option(default=[0, 1], min=0, doc="Data loading processes.")
    steps: int = option(default=2, min=1, doc="Steps that are timed at a time.")
    precision: Precision = option(default="fp32", doc="Number format of the forward pass.")


@dataclass(frozen=True, kw_only=True)
class DataOptions(BenchOptions):
    """Options of the benchmark of data loading."""

    images: Pictures | None = option(default=None, doc="Single images.")
    clips: Pictures | None = option(default=None, doc="Clips, as of video.")
    bursts: Pictures | None = option(default=None, doc="Bursts with one ground truth each.")
    scale: int = option(default=4, min=1, doc="Super-resolution factor.")
    gt_size: int = option(default=192, min=1, doc="Side of the crops in HR pixels.")
    tile: int = option(default=480, min=1, doc="Side of the sub-images in HR pixels.")
    batch_size: int = option(default=16, min=1, doc="Samples in a batch.")
    num_worker: list[int] = option(default=[0, 1, 2], min=0, doc="Data loading processes.")
    seconds: float = option(default=1.0, exclusive_min=0, doc="Least time of one measurement.")
    data_wait: WaitOptions | None = option(default=None, doc="A training on the images.")

    def validate(self) -> list[tuple[str, str]]:
        """Checks across fields; returns (key, message) of each fault."""
        faults = super().validate()
        if not self.pictures:
            faults.append(("images", "describe images, clips or bursts to be made"))
        if self.data_wait is not None and self.images is None:
            faults.append(("data_wait", "needs images"))
        faults += [
            (key, f"{value} is not a multiple of scale {self.scale}")
            for key, value in (("gt_size", self.gt_size), ("tile", self.tile))
            if value % self.scale
        ]
        sides = [
            self.tile,
            *(side for pictures in self.pictures.values() for side in pictures.size),
        ]
        if self.gt_size > min(sides):
            faults.append(("gt_size", f"{self.gt_size} is more than the {min(sides)} of a picture"))
        return faults

    @property
    def pictures(self) -> dict[Data, Pictures]:
        """The files to make, by kind."""
        kinds: dict[Data, Pictures | None] = {
            "images": self.images,
            "clips": self.clips,
            "bursts": self.bursts,
        }
        return {data: pictures for data, pictures in kinds.items() if pictures is not None}


class Rate(NamedTuple):
    """Samples per second of one kind of data in one storage, by number of workers and round."""

    data: Data
    storage: Storage
    samples: dict[int, list[float]]


class Wait(NamedTuple):
    """A training on images: seconds of a step and share of time spent waiting, by round."""

    storage: Storage
    num_worker: int
    step: list[float]
    wait: list[float]


def measure_data(opt: DataOptions, device: torch.device) -> tuple[list[Rate], list[Wait]]:
    """Makes files in a temporary folder, measures, and removes them.

    Raises:
        UserError: before anything is measured, if the network does not accept the images.
    """
    net = None
    if opt.data_wait is not None:
        size = opt.gt_size // opt.scale
        lq = (1, 3, size, size)
        net = build_net("data_wait.arch", opt.data_wait.arch, lq, scale=opt.scale).to(device)
    with TemporaryDirectory(prefix="srtoolbox-bench-") as name:
        folder = Path(name)
        datasets: dict[Data, dict[Storage, Any]] = {}
        for data, pictures in opt.pictures.items():
            whole, tiles = folder / data / "pictures", folder / data / "tiles"
            write_pictures(whole, data, pictures, opt.scale)
            write_tiles(tiles, whole, data, opt.tile, opt.scale)
            places = ((whole, None), (tiles, None), (whole, folder / "cache"))
            datasets[data] = {
                storage: open_pictures(root, data, pictures, opt.scale, opt.gt_size, cache)
                for storage, (root, cache) in zip(STORAGES, places, strict=True)
            }
        rates = [
            rate for data, ways in datasets.items() for rate in _rates(data, ways, opt, device)
        ]
        if net is None or opt.data_wait is None:
            return rates, []
        training, images = opt.data_wait, datasets["images"]
        return rates, _waits(net, images, training, opt.rounds, device, folder / "runs")


def _rates(
    data: Data, datasets: dict[Storage, Any], opt: DataOptions, device: torch.device
) -> list[Rate]:
    results = [Rate(data, storage, {n: [] for n in opt.num_worker}) for storage in datasets]
    for _ in range(opt.rounds):
        for num_worker in opt.num_worker:
            for result, dataset in zip(results, datasets.values(), strict=True):
                rate = _samples_per_second(dataset, opt, num_worker, device)
                result.samples[num_worker].append(rate)
    return results


def _samples_per_second(
    dataset: Any, opt: DataOptions, num_worker: int, device: torch.device
) -> float:
    """Returns the steady rate: the clock starts when every worker has delivered a batch."""
    stream = SampleStream(dataset, SEED, opt.batch_size)
    with closing(stream.batches(0, 2**40, num_worker, device)) as batches:
        lap = max(1, num_worker)  # workers deliver by turns
        _take(batches, lap)
        synchronize(device)
        start, laps = time.perf_counter(), 0
        while time.perf_counter() - start < opt.seconds:
            _take(batches, lap)
            laps += 1
        synchronize(device)
        elapsed = time.perf_counter() - start
    return laps * lap * opt.batch_size / elapsed


def _take(batches: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(batches)


def _waits(
    net: nn.Module,
    datasets: dict[Storage, Any],
    training: WaitOptions,
    rounds: int,
    device: torch.device,
    folder: Path,
) -> list[Wait]:
    train_opt = TrainOptions(
        total_iter=2 * training.steps, batch_size=training.batch_size, precision=training.precision
    )
    results = [
        Wait(storage, count, [], [])
        for count in training.num_worker
        for storage in ("PNG", "cache")
    ]
    for number in range(rounds):
        for result in results:
            trained = copy.deepcopy(net)
            run = folder / f"{number}-{result.storage}-{result.num_worker}"
            steps = replace(train_opt, num_worker=result.num_worker)
            _, block = train_in_blocks(
                trained, datasets[result.storage], steps, device, run, training.steps
            )
            result.step.append(block.seconds / training.steps)
            result.wait.append(block.wait)
    return results


def report_data(
    results: tuple[list[Rate], list[Wait]], opt: DataOptions, device: torch.device
) -> Report:
    """Returns the measurements as tables."""
    rates, waits = results
    head = ["data", "storage"]
    for count in opt.num_worker:
        head += [f"{count} worker{'s' * (count != 1)}", "×"]
    rows = []
    for rate in rates:
        base = next(r for r in rates if r.data == rate.data and r.storage == "PNG")
        row = [rate.data, rate.storage]
        for count, samples in rate.samples.items():
            row += [_figure(median(samples)), _figure(speedup(samples, base.samples[count]))]
        rows.append(row)
    tables = [Figures(head, rows, names=2)]
    if waits:
        cells = [
            [
                *(wait.storage, str(wait.num_worker), f"{median(wait.step) * 1e3:.0f}"),
                f"{100 * median(wait.wait):.2f}",
            ]
            for wait in waits
        ]
        tables.append(Figures(["storage", "workers", "step ms", "data wait %"], cells))
    records = {
        "samples_per_second": [rate._asdict() for rate in rates],
        "data_wait": [wait._asdict() for wait in waits],
    }
    return Report(tables, _notes(opt, device), records)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _notes(opt: DataOptions, device: torch.device) -> list[str]:
    made = "; ".join(
        f"{pictures.count} {data} of {pictures.size[1]}×{pictures.size[0]}"
        + (f", {pictures.num_frame} frames per sample" if data != "images" else "")
        for data, pictures in opt.pictures.items()
    )
    notes = [
        f"Samples per second that reach the device, {machine(opt, device)}.",
        f"Files made for this (HR size, ×{opt.scale}; LR on disk too): {made}. The operating "
        "system holds them in memory when they are read.",
        f"Crops of {opt.gt_size} HR pixels in batches of {opt.batch_size}; sub-images are PNGs of "
        f"{opt.tile}×{opt.tile} cut from the same pictures; cache is the decoded memory map.",
        f"Medians of {opt.rounds} rounds; × is the median of the ratios to PNG within a round. "
        "0 workers: samples are made by the training process itself.",
    ]
    if opt.data_wait is not None:
        training = opt.data_wait
        notes.append(
            f"Data wait: share of a training step of {training.arch['type']} on the images (batch "
            f"{training.batch_size}, {training.precision}) that the trainer waits for samples, as "
            "in its log."
        )
    return notes

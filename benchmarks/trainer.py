"""Measures the overhead of the trainer: its steps against a bare loop, in one process.

Blocks of steps alternate. The trainer's blocks include all that it does in a run (samples from the
cache, gradient norm, checks, EMA, schedule, logging). The bare loop only zeroes gradients, runs the
forward and backward pass and steps the optimizer, always on the same batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from benchmarks.busy import BusyMeter
from benchmarks.pictures import Data, Pictures, open_pictures, write_pictures
from benchmarks.session import Block, train_in_blocks
from benchmarks.waits import WaitCounter
from srtoolbox.bench.network import SEED, build_net
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Figures, Report, machine
from srtoolbox.config.schema import option
from srtoolbox.data import SampleStream
from srtoolbox.data.base import Batch
from srtoolbox.engine.device.precision import Precision, autocast
from srtoolbox.engine.options import ArchSpec, TrainOptions
from srtoolbox.engine.profiling import seconds
from srtoolbox.engine.training.optimization import build_optimizer
from srtoolbox.models.frames import arrange_frames


@dataclass(frozen=True)
class Case:
    """A network and its training data."""

    arch: ArchSpec
    data: Data = option(default="images", doc="Kind of samples.")
    num_frame: int = option(default=1, min=1, doc="Frames of a sample.")


@dataclass(frozen=True, kw_only=True)
class TrainerOptions(BenchOptions):
    """Options of the benchmark of the trainer."""

    cases: dict[str, Case]
    scale: int = option(default=4, min=1, doc="Super-resolution factor.")
    lq_size: int = option(default=32, min=1, doc="Side of the crops in LR pixels.")
    batch_size: int = option(default=2, min=1, doc="Samples in a step.")
    num_worker: int = option(default=0, min=0, doc="Data loading processes of the trainer.")
    steps: int = option(default=10, min=1, doc="Steps in a block.")
    precision: Precision = option(default="fp32", doc="Number format of the forward pass.")
    channels_last: bool = option(default=False, doc="Memory format of the network.")

    def validate(self) -> list[tuple[str, str]]:
        """Checks across fields; returns (key, message) of each fault."""
        missing = [] if self.cases else [("cases", "name at least one network")]
        return super().validate() + missing


@dataclass(frozen=True)
class Overhead:
    """Measurements of one case, by round.

    Attributes:
        case: Its name in the option file.
        trainer: Seconds of a step by the trainer.
        bare: Seconds of a step of the bare loop.
        wait: Share of the trainer's time that it waits for samples.
        busy: Share of the trainer's time in which the GPU computes; None without a GPU.
        waits: By place in the code, how often each of the trainer's steps waits for the GPU; None
            without a GPU.
    """

    case: str
    trainer: list[float]
    bare: list[float]
    wait: list[float]
    busy: float | None
    waits: dict[str, int] | None

    @property
    def ratios(self) -> list[float]:
        """The trainer's step time over the bare loop's in each round."""
        return [a / b for a, b in zip(self.trainer, self.bare, strict=True)]


def measure_trainer(opt: TrainerOptions, device: torch.device) -> Iterator[list[Overhead]]:
    """Trains every case beside its bare loop.

    Returns:
        The measurements of each case, as soon as it is measured.

    Raises:
        UserError: before anything is measured, if a network does not accept its data.
    """
    nets = {name: _build(name, case, opt, device) for name, case in opt.cases.items()}
    return _measure_all(nets, opt, device)


def _measure_all(
    nets: dict[str, nn.Module], opt: TrainerOptions, device: torch.device
) -> Iterator[list[Overhead]]:
    with TemporaryDirectory(prefix="srtoolbox-bench-") as folder:
        for number, (name, case) in enumerate(opt.cases.items()):
            yield [_measure(name, nets.pop(name), case, opt, device, Path(folder) / str(number))]


class BareLoop:
    """Training without a trainer: the same network and optimizer on one batch.

    Args:
        net: The network; it is copied.
        batch: ``lq`` (N, T, C, h, w) and ``gt`` (N, C, H, W), float32 on the device.
        reference: Index of the reference frame.
        opt: Optimizer, number format and memory format.
    """

    def __init__(self, net: nn.Module, batch: Batch, reference: int, opt: TrainOptions) -> None:
        self._net = copy.deepcopy(net).train()
        self._device = batch["gt"].device
        if opt.channels_last:
            self._net.to(memory_format=torch.channels_last)
        self._lq = arrange_frames(net, batch["lq"], reference)
        self._gt: Tensor = batch["gt"]
        self._precision: Precision = opt.precision
        self._optimizer = build_optimizer(opt.optim_g, self._net, self._device)

    def run(self, steps: int) -> None:
        """Trains for some steps."""
        for _ in range(steps):
            self._optimizer.zero_grad(set_to_none=True)
            with autocast(self._device, self._precision):
                output = self._net(self._lq)
            sr = output["sr"] if isinstance(output, dict) else output
            (sr.float() - self._gt).abs().mean().backward()
            self._optimizer.step()


def _build(name: str, case: Case, opt: TrainerOptions, device: torch.device) -> nn.Module:
    num_frame = 1 if case.data == "images" else case.num_frame
    lq = (num_frame, 3, opt.lq_size, opt.lq_size)
    reference = num_frame // 2 if case.data == "clips" else 0
    return build_net(f"cases.{name}", case.arch, lq, reference, opt.scale).to(device)


def _measure(
    name: str,
    net: nn.Module,
    case: Case,
    opt: TrainerOptions,
    device: torch.device,
    folder: Path,
) -> Overhead:
    gt_size = opt.lq_size * opt.scale
    pictures = Pictures(size=(3 * gt_size, 4 * gt_size), count=4, num_frame=case.num_frame)
    write_pictures(folder / "pictures", case.data, pictures, opt.scale)
    dataset = open_pictures(
        folder / "pictures", case.data, pictures, opt.scale, gt_size, folder / "cache"
    )
    # The GPU profiler and the count of waits cost time, so they have blocks after the rounds.
    blocks = 1 + opt.rounds + 2 * (device.type == "cuda")
    train_opt = TrainOptions(
        total_iter=blocks * opt.steps,
        batch_size=opt.batch_size,
        num_worker=opt.num_worker,
        ema_decay=0.999,
        precision=opt.precision,
        channels_last=opt.channels_last,
    )
    batch = next(SampleStream(dataset, SEED, opt.batch_size).batches(0, 1, device=device))
    loop = BareLoop(net, batch, dataset.reference, train_opt)
    bare: list[float] = []
    busy: list[float | None] = []
    waits: list[dict[str, int] | None] = []
    meter, counter = BusyMeter(device), WaitCounter(device)

    def between(block: int) -> None:
        if block <= opt.rounds:
            bare.append(seconds(lambda: loop.run(opt.steps), device))
        if block == opt.rounds:
            meter.start()
        elif block == opt.rounds + 1:
            busy.append(meter.stop())
            counter.start()
        elif block > opt.rounds + 1:
            waits.append(counter.stop())

    trained = train_in_blocks(net, dataset, train_opt, device, folder / "run", opt.steps, between)
    counted: list[Block] = trained[1 : opt.rounds + 1]
    return Overhead(
        name,
        [block.seconds / opt.steps for block in counted],
        [time / opt.steps for time in bare[1:]],
        [block.wait for block in counted],
        busy[0] if busy else None,
        _in_each_step(waits[0] if waits else None, opt.steps),
    )


def _in_each_step(waits: dict[str, int] | None, steps: int) -> dict[str, int] | None:
    """Returns the waits of one step; those of the log point at the end of a block do not count."""
    return waits and {place: count // steps for place, count in waits.items()}


def report_trainer(results: list[Overhead], opt: TrainerOptions, device: torch.device) -> Report:
    """Returns the measurements as a table."""
    head = (
        "network",
        "bare ms",
        "trainer ms",
        "ratio",
        "quartiles",
        "samples/s",
        "data wait %",
        "GPU busy %",
        "waits/step",
    )
    rows = [
        [
            result.case,
            f"{median(result.bare) * 1e3:.1f}",
            f"{median(result.trainer) * 1e3:.1f}",
            f"{median(result.ratios):.3f}",
            "–".join(f"{quartile:.2f}" for quartile in _quartiles(result.ratios)),
            f"{opt.batch_size / median(result.trainer):.1f}",
            f"{100 * median(result.wait):.2f}",
            "not measured" if result.busy is None else f"{100 * result.busy:.0f}",
            "not measured" if result.waits is None else str(sum(result.waits.values())),
        ]
        for result in results
    ]
    notes = [
        f"Time of a training step, {machine(opt, device)}; {opt.precision}, batches of "
        f"{opt.batch_size}, crops of {opt.lq_size}×{opt.lq_size} LR pixels, ×{opt.scale}.",
        f"trainer: {opt.num_worker} worker(s), samples from the cache, gradient norm, checks for "
        f"non-finite values, EMA of the weights, and every {opt.steps} steps a line on the "
        "terminal, in log.jsonl and in TensorBoard; no checkpoint, which a run writes every few "
        "thousand steps.",
        "bare: zero_grad, forward, L1 loss, backward and step of the same optimizer, always on "
        "the same batch.",
        f"Blocks of {opt.steps} steps alternate. Times are medians of {opt.rounds} rounds; ratio "
        "is the median of the ratios within a round; quartiles are those of these ratios.",
        "GPU busy: share of the time of one more block in which at least one kernel or copy ran.",
        "waits/step: operations of a step that make the host wait for the GPU, in one more block.",
    ]
    notes += [
        f"{result.case} waits in every step: "
        + ", ".join(f"{place} ({count}×)" for place, count in result.waits.items() if count)
        for result in results
        if result.waits and any(result.waits.values())
    ]
    records = [{**vars(result), "ratio": median(result.ratios)} for result in results]
    return Report([Figures(head, rows)], notes, records)


def _quartiles(values: list[float]) -> tuple[float, float]:
    """Returns the lower and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0]
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return lower, upper

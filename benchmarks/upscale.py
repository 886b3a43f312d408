"""Measures upscaling in tiles against a network that runs on the whole picture.

Every measurement is a process of its own, because memory that a process once had stays in its peak.
The whole picture is computed as most programs do: one forward pass without gradients in fp32, in
the usual memory format, then rounding to 8 bits.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

import numpy as np
import torch

from srtoolbox.bench.network import SEED
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Figures, Report, machine, thread_count
from srtoolbox.bench.timing import speedup
from srtoolbox.config.schema import build, option
from srtoolbox.engine.device.precision import synchronize
from srtoolbox.engine.options import ArchSpec
from srtoolbox.errors import RunError
from srtoolbox.media.picture import as_type
from srtoolbox.upscaling.options import upscale_options
from srtoolbox.upscaling.upscaler import Upscaler

Way = Literal["whole", "tiles"]
WAYS: tuple[Way, ...] = ("whole", "tiles")


@dataclass(frozen=True, kw_only=True)
class UpscaleBenchOptions(BenchOptions):
    """Options of the benchmark of upscaling."""

    arch: ArchSpec
    scale: int = option(default=4, min=1, doc="Super-resolution factor.")
    width: int = option(default=1280, min=1, doc="Width of the picture in pixels.")
    height: int = option(default=720, min=1, doc="Height of the picture in pixels.")
    tile: int | None = option(default=None, min=1, doc="Side of the tiles; null: automatic.")


@dataclass(frozen=True)
class Measured:
    """One run of one way.

    Attributes:
        seconds: Time from the picture in 8 bits to the result in 8 bits.
        memory: Growth of the process's peak memory, or of the GPU's, in MiB.
        mean: Mean of the result, to see that all ways compute the same.
    """

    seconds: float
    memory: float
    mean: float


def measure_upscale(opt: UpscaleBenchOptions, device: torch.device) -> dict[Way, list[Measured]]:
    """Runs both ways in turn, each in a new process.

    Raises:
        RunError: if a process fails, for example because memory does not suffice.
    """
    build("arch", opt.arch, scale=opt.scale)  # faults of the options, before anything is measured
    results: dict[Way, list[Measured]] = {way: [] for way in WAYS}
    context = multiprocessing.get_context("spawn")
    for _ in range(opt.rounds):
        for way in WAYS:
            queue = context.SimpleQueue()
            process = context.Process(target=_child, args=(queue, way, opt, str(device)))
            process.start()
            process.join()
            if process.exitcode != 0 or queue.empty():
                raise RunError(f"benchmark upscale: the process of '{way}' ended early")
            results[way].append(queue.get())
    return results


def run_once(way: Way, opt: UpscaleBenchOptions, device: torch.device) -> Measured:
    """Enlarges a picture of noise and measures it."""
    torch.manual_seed(SEED)
    net = build("arch", opt.arch, scale=opt.scale).to(device).eval()
    draw = np.random.default_rng(SEED)
    picture = draw.integers(0, 256, (3, opt.height, opt.width), np.uint8)
    upscaler = Upscaler([net], upscale_options({"tile": opt.tile, "device": str(device)}))
    if way == "whole":  # the Upscaler chose another memory format
        net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    _run(way, upscaler, net, picture[:, :32, :32], device)  # prepares the libraries
    before = _memory(device)
    start = time.perf_counter()
    result = _run(way, upscaler, net, picture, device)
    seconds = time.perf_counter() - start
    return Measured(seconds, _memory(device) - before, float(result.mean()))


def _run(
    way: Way,
    upscaler: Upscaler,
    net: torch.nn.Module,
    picture: np.ndarray,
    device: torch.device,
) -> np.ndarray:
    if way == "tiles":
        return as_type(upscaler.image(picture), np.uint8)
    with torch.no_grad():
        lq = torch.from_numpy(picture.astype(np.float32) / 255)[None].to(device)
        sr = net(lq)[0].clamp_(0, 1).cpu().numpy()
    synchronize(device)
    return (sr * 255).round().astype(np.uint8)


def _memory(device: torch.device) -> float:
    """Returns the peak memory so far in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _child(queue, way: Way, opt: UpscaleBenchOptions, device: str) -> None:
    torch.set_num_threads(thread_count(opt))
    queue.put(run_once(way, opt, torch.device(device)))


def report_upscale(
    results: dict[Way, list[Measured]], opt: UpscaleBenchOptions, device: torch.device
) -> Report:
    """Returns the measurements as a table."""
    whole, tiles = results["whole"], results["tiles"]
    rows = [
        [
            {"whole": "whole picture", "tiles": "srtoolbox upscale"}[way],
            f"{median(run.seconds for run in runs):.1f}",
            f"{median(run.memory for run in runs):.0f}",
        ]
        for way, runs in results.items()
    ]
    faster = speedup([run.seconds for run in whole], [run.seconds for run in tiles])
    smaller = median(run.memory for run in whole) / median(run.memory for run in tiles)
    rows.append(["ratio", f"{faster:.2f}×", f"{smaller:.1f}×"])
    size = f"{opt.width}×{opt.height} to {opt.width * opt.scale}×{opt.height * opt.scale}"
    difference = max(abs(a.mean - b.mean) for a, b in zip(whole, tiles, strict=True))
    notes = [
        f"{opt.arch['type']} ×{opt.scale}, {size}; {machine(opt, device)}",
        f"The means of the results differ by {difference:.1e} of 255 at most.",
    ]
    record = {way: [asdict(run) for run in runs] for way, runs in results.items()}
    return Report([Figures(("", "seconds", "memory MiB"), rows)], notes, record)

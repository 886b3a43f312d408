"""Measures networks with and without `torch.compile`, each in a process with a time limit.

A process of its own compiles with an empty cache, as a first training on a machine does, and what
fails in it ends only its own row of the table.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch
from torch import nn

from srtoolbox.bench.modes import Mode
from srtoolbox.bench.network import SEED, build_net
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Figures, Report, machine, thread_count
from srtoolbox.bench.timing import in_rounds, speedup
from srtoolbox.bench.variant import Variant
from srtoolbox.config.schema import option
from srtoolbox.engine.options import ArchSpec
from srtoolbox.engine.training.acceleration import describe_failure
from srtoolbox.utils.console import progress_bar
from srtoolbox.utils.malloc import freed_memory_kept
from srtoolbox.utils.processes import end_with_parent

VARIANTS = {
    "usual": Mode(),
    "channels_last": Mode(channels_last=True),
    "compiled": Mode(compile=True),
}
_FASTER = ("channels_last", "compiled")  # variants that are compared with the usual form
WORKS: dict[str, Callable[[Variant], object]] = {
    "forward": Variant.forward,
    "step": Variant.training,
}
_HEAD = (
    *("arch", "forward ms", "channels_last ×", "compiled ×", "compilation s"),
    *("step ms", "channels_last ×", "compiled ×", "compilation s", "rel. Δ"),
)


@dataclass(frozen=True, kw_only=True)
class CompileOptions(BenchOptions):
    """Options of the benchmark of compilation."""

    archs: dict[str, ArchSpec]
    input: tuple[int, int, int, int, int] = option(
        default=(4, 5, 3, 32, 32), min=1, doc="Clips, frames, channels, height, width of the LR."
    )
    time_limit: int = option(default=300, min=1, doc="Seconds after which an arch is given up.")

    def validate(self) -> list[tuple[str, str]]:
        """Checks across fields; returns (key, message) of each fault."""
        missing = [] if self.archs else [("archs", "name at least one arch")]
        return super().validate() + missing


@dataclass
class Compiled:
    """Measurements of one arch, as far as they got.

    Attributes:
        arch: Its name in the option file.
        times: By work ("forward": eval mode, without gradients; "step": forward and backward pass
            with an L1 loss) and variant, seconds by round.
        compilation: By work, seconds of the compilation.
        deviation: Relative norm of the difference between SR images compiled and as usual.
        failure: Why the rest is missing.
    """

    arch: str
    times: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    compilation: dict[str, float] = field(default_factory=dict)
    deviation: float | None = None
    failure: str | None = None


def measure_compile(opt: CompileOptions, device: torch.device) -> list[Compiled]:
    """Measures every arch in a new process.

    Raises:
        UserError: before anything is measured, if an arch does not accept the input or has no
            parameters.
    """
    for name, spec in opt.archs.items():
        build_net(f"archs.{name}", spec, opt.input[1:])
    results = []
    with progress_bar("networks") as progress:
        for number, name in enumerate(opt.archs):
            progress(number, len(opt.archs))
            with tempfile.TemporaryDirectory(prefix="srtoolbox-bench-") as cache:
                results.append(_in_process(name, opt, device, cache))
    return results


def _in_process(name: str, opt: CompileOptions, device: torch.device, cache: str) -> Compiled:
    """Receives the results of a process until it ends or its time is over."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, name, opt, str(device), cache))
    process.start()
    there.close()
    found, stop = Compiled(name), time.monotonic() + opt.time_limit
    try:
        while here.poll(max(0.0, stop - time.monotonic())):
            found = here.recv()
        found.failure = f"not finished after {opt.time_limit} s"
    except EOFError:  # it has ended
        process.join()
        if process.exitcode:
            found.failure = f"its process ended with exit code {process.exitcode}"
    finally:
        _kill(process)
        here.close()
    return found


def _kill(process: Any) -> None:
    """Ends a process and the compilers that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _child(results: Connection, name: str, opt: CompileOptions, device: str, cache: str) -> None:
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    end_with_parent()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    torch.set_num_threads(thread_count(opt))
    net = build_net(name, opt.archs[name], opt.input[1:]).to(device)
    found = Compiled(name)
    try:
        with freed_memory_kept():
            measure_network(net, opt, found, lambda: results.send(found))
    except Exception as error:  # the reason goes into the table
        found.failure = describe_failure(error)
        results.send(found)


def measure_network(
    net: nn.Module, opt: CompileOptions, found: Compiled, report: Callable[[], None]
) -> None:
    """Measures one network; calls ``report`` whenever ``found`` is more complete."""
    torch.manual_seed(SEED)
    device = next(net.parameters()).device
    lq = torch.rand(opt.input, device=device)
    networks = {variant: Variant(net, lq, mode) for variant, mode in VARIANTS.items()}
    usual, compiled = networks["usual"], networks["compiled"]
    for work, method in WORKS.items():
        start = time.perf_counter()
        runs = {variant: partial(method, network) for variant, network in networks.items()}
        runs["compiled"]()
        first = time.perf_counter() - start
        for run in runs.values():
            run()
        times = in_rounds(list(runs.values()), opt.rounds, device)
        found.times[work] = dict(zip(runs, times, strict=True))
        found.compilation[work] = max(0.0, first - median(times[-1]))
        if work == "forward":
            expected = usual.forward()
            difference = compiled.forward() - expected
            found.deviation = (difference.norm() / expected.norm()).item()
        report()


def report_compile(results: list[Compiled], opt: CompileOptions, device: torch.device) -> Report:
    """Returns the measurements as a table."""
    rows = []
    for found in results:
        row = [found.arch]
        for work in WORKS:
            row += _cells(found, work)
        row.append("" if found.deviation is None else f"{found.deviation:.1g}")
        rows.append(row)
    size = "×".join(map(str, opt.input))
    notes = [
        f"Input {size} (clips × frames × channels × height × width; single-image networks take "
        f"the first frames), fp32, on {machine(opt, device)}; C++ compiler: {_compiler()}.",
        "forward: a forward pass without gradients; step: forward and backward pass with an L1 "
        "loss; both as usual, in the memory format channels_last, and compiled (in the usual "
        "memory format, with an empty cache).",
        f"Times are medians of {opt.rounds} rounds; × is the speed-up over the usual form: the "
        "median of the ratios within a round, in which each form is timed once.",
        "compilation: seconds of the first compiled run beyond a later one.",
        "rel. Δ: relative norm of the difference between compiled and usual SR images.",
    ]
    notes += [f"{found.arch} fails: {found.failure}." for found in results if found.failure]
    return Report([Figures(_HEAD, rows)], notes, [asdict(found) for found in results])


def _cells(found: Compiled, work: str) -> list[str]:
    if work not in found.times:
        return ["fails", "", "", ""]
    times = found.times[work]
    ratios = [f"{speedup(times['usual'], times[variant]):.2f}" for variant in _FASTER]
    return [f"{1e3 * median(times['usual']):.0f}", *ratios, f"{found.compilation[work]:.0f}"]


def _compiler() -> str:
    """Returns the version of the C++ compiler that torch uses by default."""
    path = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if path is None:
        return "none found"
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return text.partition("\n")[0] or path

"""Runs a benchmark by an option file: measures, prints a table and writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Group

from srtoolbox.bench.archs import ArchsOptions, measure_archs, report_archs
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Report, to_terminal, write_report
from srtoolbox.config.load import load_options
from srtoolbox.engine.device.precision import cpu_threads


@dataclass(frozen=True)
class Benchmark:
    """A kind of measurement.

    Attributes:
        options: Class of its options.
        measure: Called with options and device; returns the measurements.
        report: Called with measurements, options and device; returns their tables.
    """

    options: type[BenchOptions]
    measure: Callable[[Any, torch.device], Any]
    report: Callable[[Any, Any, torch.device], Report]


NETWORKS = Benchmark(ArchsOptions, measure_archs, report_archs)


def run_bench(
    path: Path,
    overrides: Sequence[str],
    device: torch.device,
    command: str,
    benchmark: Benchmark = NETWORKS,
) -> tuple[Group, Path]:
    """Measures what an option file asks for and writes ``bench/<name>.md`` and ``.json``.

    Args:
        path: The option file.
        overrides: ``KEY=VALUE`` each.
        device: Where to measure.
        command: The command line, for the record.
        benchmark: What is measured.

    Returns:
        The tables for ``rich``, and the path of the Markdown file.

    Raises:
        UserError: if the options are invalid, before anything is measured.
    """
    opt, _ = load_options(path, overrides, benchmark.options)
    with cpu_threads(opt.threads):
        report = benchmark.report(benchmark.measure(opt, device), opt, device)
    return to_terminal(report, opt), write_report(report, opt, device, command)

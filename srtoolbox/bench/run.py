"""Runs a benchmark by an option file: measures, prints a table and writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Group

from srtoolbox.bench.archs import ArchsOptions, measure_archs, report_archs
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Report, to_terminal, write_report
from srtoolbox.config.load import load_options
from srtoolbox.engine.device.precision import cpu_threads
from srtoolbox.errors import RunError


@dataclass(frozen=True)
class Benchmark:
    """A kind of measurement.

    Attributes:
        options: Class of its options.
        measure: Called with options and device; returns the measurements. It may return an iterator
            of lists of them. Then the files are written again after each list, so that the
            measurements of a benchmark that is killed are kept.
        report: Called with measurements (of an iterator, all in one list), options and device;
            returns their tables.
    """

    options: type[BenchOptions]
    measure: Callable[[Any, torch.device], Any]
    report: Callable[[Any, Any, torch.device], Report]


NETWORKS = Benchmark(ArchsOptions, measure_archs, report_archs)


class Written(NamedTuple):
    """The outcome of a benchmark: tables for ``rich``, the Markdown file, lines of failures."""

    shown: Group
    path: Path
    failures: Sequence[str]

    def raise_failures(self) -> None:
        """Raises a ``RunError`` if something could not be measured."""
        if self.failures:
            raise RunError("; ".join(self.failures))


def run_bench(
    path: Path,
    overrides: Sequence[str],
    device: torch.device,
    command: str,
    benchmark: Benchmark = NETWORKS,
) -> Written:
    """Measures what an option file asks for and writes ``bench/<name>.md`` and ``.json``.

    Args:
        path: The option file.
        overrides: ``KEY=VALUE`` each.
        device: Where to measure.
        command: The command line, for the record.
        benchmark: What is measured.

    Raises:
        UserError: if the options are invalid, before anything is measured.
    """
    opt, _ = load_options(path, overrides, benchmark.options)

    def write(measurements: Any) -> Written:
        report = benchmark.report(measurements, opt, device)
        written = write_report(report, opt, device, command)
        return Written(to_terminal(report, opt), written, report.failures)

    with cpu_threads(opt.threads):
        measured = benchmark.measure(opt, device)
        if not isinstance(measured, Iterator):
            return write(measured)
        so_far: list[Any] = []
        for finished in measured:
            so_far += finished
            write(so_far)
        return write(so_far)

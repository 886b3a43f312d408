"""From an option file to what is printed and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Group

from srtoolbox.bench.archs import ArchsOptions, measure_archs, report_archs
from srtoolbox.bench.data import DataOptions, measure_data, report_data
from srtoolbox.bench.report import to_terminal, write_report
from srtoolbox.bench.train import TrainerBenchOptions, measure_training, report_training
from srtoolbox.config.files import locate, read
from srtoolbox.config.load import check_options
from srtoolbox.engine.device.precision import cpu_threads
from srtoolbox.errors import UserError

_KINDS = {
    "archs": (ArchsOptions, measure_archs, report_archs),
    "data": (DataOptions, measure_data, report_data),
    "train": (TrainerBenchOptions, measure_training, report_training),
}


def run_bench(
    path: Path, overrides: Sequence[str], device: torch.device, command: str
) -> tuple[Group, Path]:
    """Measures what an option file asks for and writes ``bench/<name>.md`` and ``.json``.

    Args:
        path: The option file; its ``kind`` says what is measured.
        overrides: ``KEY=VALUE``.
        device: Where to measure.
        command: The command line, for the record.

    Returns:
        The tables for ``rich``, and the path of the Markdown file.

    Raises:
        UserError: if the options are faulty, before anything is measured.
    """
    tree = read(path, overrides)
    kind = str(tree.get("kind", "archs"))
    if kind not in _KINDS:
        where = locate(tree, "kind") or path
        raise UserError(f"{where}: kind: expected one of {', '.join(_KINDS)}, got '{kind}'")
    section, measure, report = _KINDS[kind]
    opt = check_options(tree, section)
    with cpu_threads(opt.threads):
        found = report(measure(opt, device), opt, device)
    return to_terminal(found, opt), write_report(found, opt, device, command)

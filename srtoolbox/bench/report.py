"""Prints and writes the tables of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from srtoolbox.bench.options import BenchOptions
from srtoolbox.config.files import plain
from srtoolbox.utils.console import terminal_table
from srtoolbox.utils.environment import describe_environment
from srtoolbox.utils.files import write_atomic
from srtoolbox.utils.portable import to_json


@dataclass(frozen=True)
class Figures:
    """A table of text.

    Attributes:
        head: Titles of the columns.
        rows: The cells.
        names: Number of leading columns that hold names instead of numbers. With several, rows with
            the same first name are grouped.
    """

    head: Sequence[str]
    rows: list[list[str]]
    names: int = 1


@dataclass(frozen=True)
class Report:
    """The tables of a benchmark.

    Attributes:
        tables: The printed tables.
        notes: Sentences below the tables.
        results: The measurements of every round, for JSON.
        failures: What could not be measured because of an error: one line each.
    """

    tables: list[Figures]
    notes: list[str]
    results: Any
    failures: Sequence[str] = ()


def to_terminal(report: Report, opt: BenchOptions) -> Group:
    """Returns the tables and their notes for ``rich``."""
    tables = [terminal_table(opt.name, f.head, f.rows, f.names) for f in report.tables]
    notes = [Padding(Text(note, style="dim"), (0, 0, 0, 1)) for note in report.notes]
    return Group(*tables, *notes)


def to_markdown(report: Report, opt: BenchOptions, command: str) -> str:
    """Returns the tables, notes and the command in Markdown."""
    parts = [f"# {opt.name}"]
    for table in report.tables:
        rule = ["---"] * table.names + ["---:"] * (len(table.head) - table.names)
        lines = [table.head, rule, *table.rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    parts.append("\n".join(f"- {note}" for note in [*report.notes, f"Command: `{command}`"]))
    return "\n\n".join(parts) + "\n"


def write_report(report: Report, opt: BenchOptions, device: torch.device, command: str) -> Path:
    """Writes ``bench/<name>.md`` and ``.json`` (with the figures of every round).

    Returns:
        The path of the Markdown file.
    """
    path = opt.experiments_root / "bench" / f"{opt.name}.md"
    record = {
        "command": command,
        "options": plain(opt),
        "environment": {**describe_environment(device), "threads": thread_count(opt)},
        "results": report.results,
        "failures": list(report.failures),
    }
    write_atomic(path.with_suffix(".json"), to_json(record, indent=1, default=str) + "\n")
    write_atomic(path, to_markdown(report, opt, command))
    return path


def machine(opt: BenchOptions, device: torch.device) -> str:
    """Returns device, threads and version of torch, for a note."""
    name = describe_environment(device)["device"]
    return f"{name}, {thread_count(opt)} thread(s), torch {torch.__version__}"


def thread_count(opt: BenchOptions) -> int:
    """Returns the number of CPU threads in use."""
    return opt.threads or torch.get_num_threads()

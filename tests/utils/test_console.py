"""Units, tables and progress bars."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from srtoolbox.utils import console
from srtoolbox.utils.console import (
    clock_text,
    duration_text,
    progress_bar,
    size_text,
    terminal_table,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (0.0123, "0.012 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (119.4, "119 s"),
        (120, "2.0 min"),
        (7199, "120.0 min"),
        (7200, "2.0 h"),
        (86400 * 2.5, "2.5 d"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (40.9, "0:40"), (3599, "59:59"), (3607, "1:00:07"), (360_000, "100:00:00")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0 MiB"), (1.5 * 2**20, "1.5 MiB"), (10 * 2**20, "10 MiB"), (2**31, "2.0 GiB")],
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_drawn_on_terminals_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    drawn = Console(file=stream, force_terminal=terminal, width=80)
    monkeypatch.setattr(console, "progress_console", lambda: drawn)
    with progress_bar("checking") as progress:
        progress(3, 7)
    shown = stream.getvalue()
    assert ("checking" in shown and "3/7" in shown) is terminal
    assert terminal or not shown


def test_cells_of_a_table_are_never_broken() -> None:
    stream = io.StringIO()
    head, rows = ["method", "number of parameters"], [["[b]A[/b]", Text("1,234,567")], ["B", "2"]]
    Console(file=stream, width=40).print(terminal_table("title", head, rows))
    lines = stream.getvalue().splitlines()
    assert any("[b]A[/b]" in line and "1,234,567" in line for line in lines)  # no markup in strings
    assert "title" in lines[0]


def test_rows_of_one_name_are_grouped() -> None:
    stream = io.StringIO()
    rows = [["A", "x", "1"], ["A", "y", "2"], ["B", "x", "3"]]
    Console(file=stream, width=40).print(terminal_table(None, ["", "", "n"], rows, names=2))
    lines = [line.split() for line in stream.getvalue().splitlines()]
    assert lines.index(["A", "y", "2"]) == lines.index(["A", "x", "1"]) + 1
    assert lines.index(["B", "x", "3"]) > lines.index(["A", "y", "2"]) + 1

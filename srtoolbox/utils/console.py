"""Logging, progress bars, tables and units, the same for all commands."""

from __future__ import annotations

import io
import logging
import multiprocessing
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich import progress as rich_progress
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

MAX_NAMES = 3  # names that a message spells out
_MAX_NAME_WIDTH = 24  # longer names in tables may be folded
_UNPRINTABLE = ("Cc", "Cf", "Cs")  # control and invisible format characters, lone surrogates

Progress = Callable[[int, int], None]
"""A function that is called with the number of finished items and of all items."""


@cache
def progress_console() -> Console:
    """Returns the console on the error stream; the output stream is for results."""
    from rich.console import Console

    return Console(stderr=True)


def shows_progress() -> bool:
    """Returns whether progress bars can be drawn: by the main process, on a terminal."""
    return multiprocessing.parent_process() is None and progress_console().is_terminal


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Draws a progress bar with item counts and the remaining time on the error stream.

    Args:
        title: Text before the bar.

    Yields:
        A function that moves the bar. Where no bar can be drawn it does nothing.
    """
    with make_progress() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def make_progress(text: str = "") -> rich_progress.Progress:
    """Makes progress bars on the error stream, invisible where no bar can be drawn.

    Args:
        text: Format of one more column, such as ``"{task.fields[speed]}"``.
    """
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=28),
        progress.MofNCompleteColumn(),
        *([progress.TextColumn(text)] if text else []),
        progress.TimeRemainingColumn(),
        console=progress_console(),
        disable=not shows_progress(),
        transient=True,
    )


def set_up_logging(progress: bool = True) -> None:
    """Sends the toolbox's log to the error stream.

    Args:
        progress: Whether progress bars may be drawn below the lines.
    """
    logger = logging.getLogger("srtoolbox")
    if logger.handlers:
        return
    logger.setLevel(logging.INFO)
    if progress and sys.stderr.isatty():
        from rich.highlighter import NullHighlighter
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(
            console=progress_console(),
            show_path=False,
            show_level=False,
            highlighter=NullHighlighter(),
        )
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)


@cache
def warn_once(text: str) -> None:
    """Logs a warning that this process has not logged before."""
    logging.getLogger("srtoolbox").warning("%s", text)


def print_rich(content: RenderableType, **options: Any) -> None:
    """Prints a table, or another object of ``rich``, to the output stream.

    Args:
        content: The object.
        options: Options of ``rich.console.Console.print``.
    """
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper) and "utf" not in sys.stdout.encoding.lower():
        sys.stdout.reconfigure(errors="backslashreplace")  # characters that it lacks
    Console().print(content, **options)


def terminal_table(
    title: str | None, head: Sequence[str], rows: Sequence[Sequence[str | Text]], names: int = 1
) -> Table:
    """Makes a table for ``rich``. Column titles may break between words, cells never do.

    Args:
        title: Title above the table.
        head: Titles of the columns.
        rows: The cells; strings are printed without markup, a ``Text`` keeps its style.
        names: Number of leading columns that hold names; they are aligned left, and names that are
            too long for the terminal are folded, so that no number is cut. If there are
            several, a gap separates groups of rows with the same first name.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    rows = [
        [Text(printable(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows
    ]
    heading = None if title is None else Text(printable(title))
    table = Table(title=heading, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index, words in enumerate(head):
        if index < names:
            width = max([cell_len(words), *(row[index].cell_len for row in rows)])
            # rich would cut numbers to make room for long names, so these are folded here.
            narrow = min(width, _MAX_NAME_WIDTH)
            heading = _folded(Text(printable(words)), narrow)
            for row in rows:
                row[index] = _folded(row[index], narrow)
            # rich measures words, not lines; without a minimum it cuts lines of several words.
            table.add_column(heading, no_wrap=True, min_width=narrow)
        else:
            width = max([*map(cell_len, words.split()), *(row[index].cell_len for row in rows)])
            table.add_column(Text(printable(words)), justify="right", min_width=width)
    for number, row in enumerate(rows, 1):
        following = rows[number : number + 1]
        ends = names > 1 and any(row[0].plain != other[0].plain for other in following)
        table.add_row(*row, end_section=ends)
    return table


def _folded(text: Text, width: int) -> Text:
    """Returns text with line breaks, between words if possible, after at most ``width`` cells."""
    from rich.console import Console
    from rich.text import Text

    if text.cell_len <= width:
        return text
    return Text("\n").join(text.wrap(Console(), width, overflow="fold"))


def printable(text: str) -> str:
    """Returns text with visible codes for characters that control a terminal, as names may have.

    Line breaks and tabs stay.
    """
    return "".join(
        mark
        if mark in "\n\t" or unicodedata.category(mark) not in _UNPRINTABLE
        else ascii(mark)[1:-1]
        for mark in text
    )


def names_text(names: Sequence[str], count: int | None = None) -> str:
    """Lists the first names for a message: ``"a, b, c and 2 more"``.

    Args:
        names: The names, or at least the first ``MAX_NAMES`` of them.
        count: Number of all names; default: that of ``names``.
    """
    more = (len(names) if count is None else count) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def size_text(size: float) -> str:
    """Formats a number of bytes in MiB or GiB."""
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**20:.1f} MiB"


def duration_text(seconds: float | None) -> str:
    """Formats a duration in the unit that suits it: ``"2.5 h"``; ``"–"`` for None."""
    if seconds is None:
        return "–"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def clock_text(seconds: float) -> str:
    """Formats a duration as a clock shows it: ``"2:45:00"``, and ``"0:40"`` below an hour."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    text = f"{minutes % 60}:{int(seconds) % 60:02d}"
    return f"{hours}:{text:0>5}" if hours else text

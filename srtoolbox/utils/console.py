"""What commands print: logging, progress bars and tables, all of one look."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text


@cache
def progress_console() -> Console:
    """A console on the error stream; the output stream is for results."""
    from rich.console import Console

    return Console(stderr=True)


def shows_progress() -> bool:
    """Whether progress bars can be drawn: on a terminal, by the one process that owns it."""
    return multiprocessing.parent_process() is None and progress_console().is_terminal


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


def terminal_table(
    title: str | None, head: Sequence[str], rows: Sequence[Sequence[str | Text]], names: int = 1
) -> Table:
    """A table for ``rich``. Heads may be broken between words, cells never.

    Args:
        title: Above it.
        head: Titles of the columns.
        rows: The cells; plain strings are printed as they are, markup is in a ``Text``.
        names: How many of the first columns are names, which stand left; with several, the rows
            of one name in the first stand together.
    """
    rows = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index, words in enumerate(head):
        if index < names:
            table.add_column(words, no_wrap=True)
        else:
            width = max([*map(len, words.split()), *(row[index].cell_len for row in rows)])
            table.add_column(words, justify="right", min_width=width)
    for number, row in enumerate(rows, 1):
        following = rows[number : number + 1]
        ends = names > 1 and any(row[0].plain != other[0].plain for other in following)
        table.add_row(*row, end_section=ends)
    return table


def size_text(size: float) -> str:
    """Bytes in MiB or GiB."""
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**20:.1f} MiB"

"""Where progress is shown: one console, which progress bars and log lines share."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


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

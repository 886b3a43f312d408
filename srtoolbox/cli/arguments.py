"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = Any


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        commands: The commands of the program, or of a command.
        name: Its name.
        run: Runs it with the parsed arguments.
        text: Its help, in lower case and without a full stop.
    """
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def add_option_file(command: argparse.ArgumentParser, required: bool = True) -> None:
    """Adds the option file, ``--set`` and ``--device``."""
    command.add_argument(
        "options",
        type=Path,
        nargs=None if required else "?",
        metavar="OPTIONS",
        help="option file (YAML), or the name of a shipped one (see `srtoolbox options list`)",
    )
    add_overrides(command, "override an option, e.g. train.total_iter=1000 (may be repeated)")
    add_device(command)


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")


def add_overrides(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument(
        "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help=text
    )


def add_plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plugin",
        action="append",
        default=[],
        help="file or module that registers your own components (may be repeated)",
    )


def load_all_plugins(entries: Sequence[str]) -> None:
    """Loads the plugins of installed packages, then those of ``--plugin``."""
    from srtoolbox.plugins import load_entry_points, load_plugins

    load_entry_points()
    load_plugins(entries)

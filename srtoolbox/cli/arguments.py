"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srtoolbox.errors import UserError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = Any


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        commands: The commands of the program, or of a command.
        name: Its name.
        run: Runs it with the parsed arguments; it may return an exit code.
        text: Its help, in lower case and without a full stop.
    """
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def at_least(minimum: int) -> Callable[[str], int]:
    """Returns the type of an argument that is an integer from ``minimum`` on."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected an integer from {minimum} on, got '{text}'")
        return value

    return convert


def level(text: str) -> float | list[float]:
    """Reads a level: a number, or one for each band."""
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a number, or one for each band separated by commas, got '{text}'"
        ) from None
    numbers = [int(level) if level.is_integer() else level for level in levels]
    return numbers[0] if len(numbers) == 1 else numbers


def check_output(option: str, path: Path | None) -> None:
    """Checks that a file can be written, before the work whose result it gets.

    Raises:
        UserError: if ``path`` is a folder, or its folder cannot be made or written.
    """
    if path is None:
        return
    with writing(option, path):
        if path.is_dir():
            raise UserError(f"{option} {path}: is a folder; give the name of a file in it")
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not parent.is_dir():
            raise UserError(f"{option} {path}: {parent} is a file, not a folder")
        if not os.access(parent, os.W_OK):
            raise UserError(f"{option} {path}: no permission to write in {parent}")


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Context in which ``path`` is written; an error names the argument and the path.

    Raises:
        UserError: if the file cannot be written, except on a full disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = error.strerror or error
        raise UserError(f"{option} {path}: cannot be written ({reason})") from error


def check_kind(options: Path | None, overrides: Sequence[str], command: str) -> None:
    """Checks that an option file is of the kind that a command reads.

    Args:
        options: The option file; None is accepted.
        overrides: As for ``config.files.read``.
        command: Name of the command.

    Raises:
        UserError: if another command reads such files; the message names it.
    """
    if options is None:
        return
    from srtoolbox.config.files import read

    tree = read(options, overrides)
    kinds = {"methods": "compare", "archs": "bench", "network_g": "train"}
    found = next((kind for key, kind in kinds.items() if key in tree), None)
    reads = {"train": ("train",), "test": ("train",), "compare": ("compare",), "bench": ("bench",)}
    # A study may have a key network_g that all methods inherit, and a test needs no network_g.
    if found is None or found in reads[command]:
        return
    words = {"compare": "a study (it has methods)", "bench": "a benchmark (it has archs)"}
    kind = words.get(found, "one run (it has network_g and no methods)")
    commands = f"srtoolbox {found} {options}"
    if found == "train" and "train" not in tree:
        commands = f"srtoolbox test {options}"
    raise UserError(f"{options} is the option file of {kind}; use: {commands}")


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

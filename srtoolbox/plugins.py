"""Loads users' own components from files, modules and installed packages.

A plugin registers its components at import, with the same decorators as the toolbox.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import extract_tb
from typing import Any

from srtoolbox.errors import UserError
from srtoolbox.utils.files import check_regular

ENTRY_POINT_GROUP = "srtoolbox.plugins"
_MAX_SIZE = 16 * 1024**2  # bytes of a plugin's file
_plugin_folders: set[str] = set()


def load_plugins(entries: Sequence[str] | None) -> None:
    """Imports plugins, each at most once per process.

    Args:
        entries: Paths of ``.py`` files, or dotted names of importable modules. (Plugins are loaded
            before the options are checked, so this function checks the types itself.)

    Raises:
        UserError: if a plugin does not exist or fails at import; the message has the entry, the
            user's file and line, and the reason.
    """
    if isinstance(entries, str) or not all(isinstance(entry, str) for entry in entries or ()):
        raise UserError(f"plugins: expected a list of .py files and module names, got {entries!r}")
    for entry in entries or ():
        if "\0" in entry:
            raise UserError(f"plugins: {entry!r} contains a NUL character; remove it")
        if entry.endswith(".py") or "/" in entry:
            _guarded(f"plugin '{entry}'", _import_file, Path(entry))
        else:
            _guarded(f"plugin '{entry}'", importlib.import_module, entry)


@functools.cache
def load_entry_points() -> None:
    """Imports the plugins of installed packages (entry-point group ``srtoolbox.plugins``), once.

    Raises:
        UserError: if a plugin fails at import; names its distribution.
    """
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        owner = f" of the installed package '{point.dist.name}'" if point.dist else ""
        _guarded(f"plugin '{point.value}'{owner}", point.load)


def _import_file(path: Path) -> None:
    if path.suffix != ".py":
        raise UserError("is not a .py file (a module's name has dots, not slashes)")
    try:
        check_regular(path, _MAX_SIZE)
    except FileNotFoundError:
        raise UserError("no such file") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from None
    # A file is one module whatever path names it, with the same name in every process.
    real = path.resolve()
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    name = f"srtoolbox_plugin_{real.stem}_{digest}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, real)
    if spec is None or spec.loader is None:
        raise UserError("cannot be imported")
    _add_neighbours(real)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look it up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _add_neighbours(path: Path) -> None:
    """Lets a plugin import the files beside it; installed modules have priority.

    Raises:
        UserError: if it imports a neighbour, and a neighbour of another plugin has that name.
    """
    folder = str(path.parent)
    for name in _imports(path):
        neighbour = path.parent / f"{name}.py"
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is None or not neighbour.is_file() or Path(loaded) == neighbour:
            continue
        if str(Path(loaded).parent) in _plugin_folders - {folder}:
            raise UserError(
                f"imports {neighbour}, but another plugin has already loaded {loaded}; give one "
                "of these files another name"
            )
    _plugin_folders.add(folder)
    if folder not in sys.path:
        sys.path.append(folder)


def _imports(path: Path) -> set[str]:
    """Returns the first parts of all absolute imports in a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _guarded(plugin: str, load: Callable[..., Any], *arguments: Any) -> None:
    """Calls ``load`` and converts errors of the plugin's code to one line with file and line."""
    try:
        load(*arguments)
    except (Exception, SystemExit) as error:
        raise UserError(f"{plugin}: {_place(error)}{_reason(error)}") from error


def _place(error: BaseException) -> str:
    """Returns ``"file:line: "`` of the innermost plugin code that was being imported, if any."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: "
    frames = [
        frame
        for frame in extract_tb(error.__traceback__)
        if frame.name == "<module>" and not frame.filename.startswith("<")
    ]
    own = Path(__file__).parent
    theirs = [frame for frame in frames if own not in Path(frame.filename).parents]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}: " if theirs else ""


def _reason(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg}"
    return f"{type(error).__name__}: {error}"

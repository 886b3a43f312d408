"""Reads an option file, loads its plugins and checks all options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from srtoolbox.config.files import Tree, read
from srtoolbox.config.schema import check
from srtoolbox.plugins import load_entry_points, load_plugins

Options = TypeVar("Options")


def load_options(
    path: str | Path, overrides: Sequence[str], section: type[Options]
) -> tuple[Options, Tree]:
    """Reads an option file, loads its plugins and checks all options.

    Args:
        path: Path of the file, or the name of a shipped one (``"quickstart"``).
        overrides: ``"a.b.c=value"`` each, see ``config.files.read``.
        section: Class of the options: ``RunOptions``, ``StudyOptions``, …

    Returns:
        The checked options and the tree that they were read from.

    Raises:
        UserError: if the file cannot be read, a plugin fails, or options are faulty; all faults
            are named.
    """
    tree = read(path, overrides)
    return check_options(tree, section), tree


def check_options(tree: Tree, section: type[Options]) -> Options:
    """Loads the plugins of a tree, then checks it; see ``load_options``.

    A class of options may have a method ``expand(tree)``, which replaces short forms in the tree.
    """
    load_entry_points()
    plugins = tree.get("plugins")
    if isinstance(plugins, list) and all(isinstance(entry, str) for entry in plugins):
        load_plugins(plugins)
    if expand := getattr(section, "expand", None):
        expand(tree)
    return check(tree, section)

"""Reads an option file, loads the plugins that it names and checks all of it."""

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
    """Reads an option file, loads its plugins and checks all of it.

    Returns:
        The checked options and the tree that they were read from.
    """
    tree = read(path, overrides)
    return check_options(tree, section), tree


def check_options(tree: Tree, section: type[Options]) -> Options:
    """Options that were read, checked after the plugins that they name were loaded."""
    load_entry_points()
    plugins = tree.get("plugins")
    if isinstance(plugins, list) and all(isinstance(entry, str) for entry in plugins):
        load_plugins(plugins)
    return check(tree, section)

"""Reads option files: inheritance (``_base_``), ``--set`` overrides, plugin paths.

``schema`` validates the content. An option file is YAML 1.2: ``1e-4`` is a number, ``yes`` is text,
a key may occur only once in a mapping. There are three additions to YAML:

* ``_base_: other.yml`` (or a list of files) in any mapping inherits the content of the other file
  at this place; the mapping's own keys have priority. Mappings are merged key by key. Everything
  else is replaced as a whole, also lists (also ``plugins``), and a mapping whose ``type:`` changes,
  because the options of one component have no meaning for another.
* ``key: !delete`` removes an inherited key.
* Paths in ``plugins:`` are relative to the file that contains them.

``--set a.b.c=value`` acts like one more file ``a: {b: {c: value}}`` that inherits from the option
file. A number in the path selects an entry of a list.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from srtoolbox.config.shipped import resolve
from srtoolbox.config.yaml import (
    DELETE,
    MAX_DEPTH,
    MAX_ENTRIES,
    TOO_DEEP,
    TOO_MANY,
    Dumper,
    Items,
    Tree,
    parse,
    refuse_unprintable,
)
from srtoolbox.errors import UserError
from srtoolbox.utils.files import check_regular, user_path

BASE_KEY = "_base_"
_MAX_SIZE = 256 * 1024  # bytes of an option file
_MAX_CHAIN = 20  # files that inherit from each other


def read(path: str | os.PathLike[str] | None, overrides: Sequence[str] = ()) -> Tree:
    """Returns the content of an option file, with inherited content and overrides.

    Args:
        path: Path of a file or name of a shipped one (see ``shipped.resolve``); None if there are
            only overrides.
        overrides: ``"a.b.c=value"`` each, applied in order. The value is YAML; ``!delete``
            removes the key. Paths under ``_base_`` and ``plugins`` are relative to the current
            directory.

    Raises:
        UserError: one line, ``file:line: …``, if a file cannot be read or resolved.
    """
    files = _Files()
    tree = Tree() if path is None else files.read(resolve(path))
    for text in overrides:
        tree = merge(tree, _resolve_plugins(_overlay(files, tree, text), Path.cwd()))
    _refuse_deletes(tree, ())
    return tree


def locate(tree: Any, path: str) -> str:
    """Returns file and line of an option: ``"options/x.yml:37"`` for ``"train.optim_g.lr"``.

    If the last keys of the path do not exist, it is the line of the last key that does.
    """
    where = getattr(tree, "where", "")
    for key in path.split(".") if path else ():
        if isinstance(tree, Tree) and key in tree:
            where, tree = tree.marks[key], tree[key]
        elif isinstance(tree, Items) and key.isdigit() and int(key) < len(tree):
            where, tree = tree.marks[int(key)], tree[int(key)]
        else:
            break
    return where


def plain(tree: Any) -> Any:
    """Converts to ordinary dicts, lists and scalars; dataclasses become dicts, paths text."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {f.name: plain(getattr(tree, f.name)) for f in dataclasses.fields(tree)}
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return str(tree) if isinstance(tree, Path) else tree


def as_tree(content: Mapping[str, Any], mark: str) -> Tree:
    """Converts nested mappings to a tree, with ``mark`` as the place of every key.

    Raises:
        UserError: if they are nested too deeply.
    """

    def convert(value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise UserError(f"{mark}: {TOO_DEEP}")
        if isinstance(value, list | tuple):
            for entry in value:
                convert(entry, depth + 1)
        if not isinstance(value, Mapping):
            return value
        tree = Tree(mark)
        for key, entry in value.items():
            tree.put(str(key), convert(entry, depth + 1), mark)
        return tree

    return convert(content, 0)


def dump(tree: Any) -> str:
    """Returns YAML that ``read`` converts back to an equal tree; keys keep their order."""
    return yaml.dump(
        plain(tree), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100,
        default_flow_style=False,
    )  # fmt: skip


class _Files:
    """Reads files with what they inherit, each file once, within limits for all together."""

    def __init__(self) -> None:
        self._trees: dict[Path, Tree] = {}
        self._entries = 0

    def read(
        self, path: Path, asked_by: str = "", chain: tuple[Path, ...] = (), depth: int = 0
    ) -> Tree:
        """Returns the content of a file, with inherited content.

        Args:
            path: The file.
            asked_by: Place of the ``_base_`` that names it; empty for the file of the user.
            chain: The files that inherit from it, to detect circles.
            depth: Depth of the mapping that inherits from it.
        """
        shown, asked = shown_path(path), f"{asked_by}: {BASE_KEY}: " if asked_by else ""
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a circle of links, NUL bytes
            raise UserError(f"{asked}{shown}: is no path of a file ({error})") from None
        if resolved in chain:
            circle = [*chain[chain.index(resolved) :], resolved]
            names = " -> ".join(map(shown_path, circle))
            raise UserError(f"{asked}files inherit in a circle: {names}")
        if len(chain) >= _MAX_CHAIN:
            raise UserError(f"{asked}more than {_MAX_CHAIN} files inherit from each other in a row")
        if resolved not in self._trees:
            tree = self._content(path, shown, asked)
            tree = self.inherit(tree, path.parent, (*chain, resolved), 0)
            self._trees[resolved] = _resolve_plugins(tree, path.parent)
        tree = self._trees[resolved]
        entries, deepest = _extent(tree)
        self._entries += entries
        if self._entries > MAX_ENTRIES or depth + deepest > MAX_DEPTH:
            fault = TOO_MANY if self._entries > MAX_ENTRIES else TOO_DEEP
            raise UserError(f"{asked}{shown}: with everything that is inherited, {fault}")
        return tree

    def _content(self, path: Path, shown: str, asked: str) -> Tree:
        try:
            check_regular(path, _MAX_SIZE)
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise UserError(f"{asked}no such file: {shown}") from None
        except OSError as error:
            raise UserError(f"{asked}cannot read {shown}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{asked}{shown}: is not UTF-8 text (byte {error.start})") from None
        except UserError as error:
            raise UserError(f"{asked}cannot read {shown}: it {error}") from None
        tree = parse(text, shown)
        if tree is None:
            tree = Tree(f"{shown}:1")
        if not isinstance(tree, Tree):
            raise UserError(
                f"{shown}:1: an option file is a mapping (key: value), this is {_short(tree)}"
            )
        return tree

    def inherit(self, node: Any, folder: Path, chain: tuple[Path, ...], depth: int) -> Any:
        """Returns a copy of ``node`` in which each ``_base_``, at every depth, is resolved."""
        if isinstance(node, Items):
            return node.replaced(self.inherit(entry, folder, chain, depth + 1) for entry in node)
        if not isinstance(node, Tree):
            return node
        own, merged = Tree(node.where), Tree(node.where)
        for key, value in node.items():
            if key != BASE_KEY:
                own.put(key, self.inherit(value, folder, chain, depth + 1), node.marks[key])
        for name, mark in _bases(node):
            path = folder / user_path(name, f"{mark}: {BASE_KEY}: ")
            merged = merge(merged, self.read(path, mark, chain, depth))
        return merge(merged, own)


def _extent(node: Any) -> tuple[int, int]:
    """Returns the number of entries in a tree, and its depth."""
    if not isinstance(node, Tree | Items):
        return 1, 0
    children = [_extent(value) for value in (node.values() if isinstance(node, Tree) else node)]
    return 1 + sum(count for count, _ in children), 1 + max((d for _, d in children), default=0)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _bases(node: Tree) -> Iterator[tuple[str, str]]:
    """Yields the file names under ``_base_``, each with its place."""
    names = node.get(BASE_KEY, [])
    if isinstance(names, str):
        names = [names]
    marks = getattr(names, "marks", [node.marks.get(BASE_KEY)])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{node.marks[BASE_KEY]}: {BASE_KEY}: expected a path or a list of paths")
    yield from zip(names, marks, strict=False)


def merge(base: Any, over: Any) -> Any:
    """Returns ``over`` merged onto ``base``; neither is changed.

    Two mappings are merged key by key, unless both have a ``type`` and these differ. In all other
    cases ``over`` replaces ``base``. ``DELETE`` in ``over`` removes a key of ``base``.
    """
    if not isinstance(base, Tree) or not isinstance(over, Tree):
        return over
    types = base.get("type", DELETE), over.get("type", DELETE)
    if DELETE not in types and types[0] != types[1]:
        return over
    merged = Tree(over.where)
    for key, value in base.items():
        merged.put(key, value, base.marks[key])
    for key, value in over.items():
        if value is DELETE and merged.get(key, DELETE) is not DELETE:
            merged.remove(key)
        else:
            merged.put(key, merge(merged.get(key), value), over.marks[key])
    return merged


def _resolve_plugins(tree: Tree, folder: Path) -> Tree:
    """Makes the paths among ``plugins`` absolute, in place, and returns the tree."""
    plugins = tree.get("plugins")
    if isinstance(plugins, Items):
        resolved = plugins.replaced(
            os.path.abspath(folder / user_path(entry))  # noqa: PTH100 (keeps links)
            if isinstance(entry, str) and (entry.endswith(".py") or "/" in entry)
            else entry
            for entry in plugins
        )
        tree.put("plugins", resolved, tree.marks["plugins"])
    return tree


def _refuse_deletes(node: Any, path: tuple[str, ...]) -> None:
    """Raises an error for a ``!delete`` that found no key, which is probably misspelt."""
    if isinstance(node, Items):
        for index, value in enumerate(node):
            _refuse_deletes(value, (*path, str(index)))
    elif isinstance(node, Tree):
        for key, value in node.items():
            if value is DELETE:
                name = ".".join((*path, key))
                raise UserError(
                    f"{node.marks[key]}: {name}: nothing to delete, it is not inherited"
                )
            _refuse_deletes(value, (*path, key))


def _overlay(files: _Files, tree: Tree, text: str) -> Tree:
    """Converts ``--set text`` to a tree that can be merged onto ``tree``."""
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"--set {text}: expected key.key=value, e.g. train.total_iter=1000")
    mark = f"--set {text}"
    refuse_unprintable(path, f"--set {path!a}")
    if len(keys) > MAX_DEPTH:
        raise UserError(f"{mark[:60]}…: {TOO_DEEP}")
    parsed = parse(value, mark, line_numbers=False)
    if keys[-1] == BASE_KEY:  # a.b._base_=x means a.b={_base_: x}
        wrapped = Tree(mark)
        wrapped.put(keys.pop(), parsed, mark)
        parsed = wrapped
    value = files.inherit(parsed, Path.cwd(), chain=(), depth=len(keys))
    return _overlay_node(tree, keys, value, mark)


def _overlay_node(node: Any, keys: list[str], value: Any, mark: str) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, Items):  # merge replaces lists as a whole, so the result is a whole list
        if not key.isdigit() or int(key) >= len(node):
            raise UserError(
                f"{mark}: '{key}' is no entry of a list of {len(node)} (the first is 0)"
            )
        entries, index = list(node), int(key)
        if value is DELETE and not rest:
            return node.without(index)
        entries[index] = merge(node[index], _overlay_node(node[index], rest, value, mark))
        changed = node.replaced(entries)
        changed.marks[index] = node.marks[index] if rest else mark
        return changed
    if node is not None and not isinstance(node, Tree):
        raise UserError(f"{mark}: there is no '{key}' in {node!r}, which is not a mapping")
    # Mappings on the path keep their places in the file; only the new value is the override's.
    overlay = Tree(mark if node is None else node.where)
    if node is not None and key in node:
        child = _overlay_node(node[key], rest, value, mark)
        overlay.put(key, child, node.marks[key] if rest else mark)
    else:
        overlay.put(key, _overlay_node(None, rest, value, mark), mark)
    return overlay


def shown_path(path: str | os.PathLike[str]) -> str:
    """Returns a path as messages show it: relative to the current directory if that is shorter."""
    absolute = os.path.abspath(path)  # noqa: PTH100 (links stay as the user wrote them)
    try:
        return min(os.path.relpath(absolute), absolute, key=len)
    except ValueError:  # another drive
        return absolute

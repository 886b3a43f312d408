"""Option files: read, inherit, override, freeze. (What they may say is checked in ``schema``.)

An option file is YAML 1.2: ``1e-4`` is a number, ``yes`` is text, a key stands only once. Beyond
YAML it knows three things:

* ``_base_: other.yml`` (or a list) in any mapping merges the other file's content in at that
  place, below what the mapping itself says. Mappings merge key by key and the later one wins;
  everything else, lists too (also ``plugins``), is replaced as a whole. A mapping whose ``type:``
  changes is replaced as a whole as well, since the options of one component mean nothing to
  another.
* ``key: !delete`` removes an inherited key.
* entries of ``plugins:`` that are paths count from the file in which they stand.

``--set a.b.c=value`` is one more file on top that says ``a: {b: {c: value}}``; a number in the
path picks an entry of a list.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from srtoolbox.config.frozen import FrozenDict, FrozenList, freeze, thaw
from srtoolbox.config.yaml import DELETE, Dumper, Items, Tree, parse
from srtoolbox.errors import UserError

__all__ = [
    "FrozenDict",
    "FrozenList",
    "Items",
    "Tree",
    "as_tree",
    "dump",
    "freeze",
    "locate",
    "merge",
    "plain",
    "read",
    "thaw",
]

BASE_KEY = "_base_"


def read(path: str | os.PathLike[str] | None, overrides: Sequence[str] = ()) -> Tree:
    """The content of an option file with everything it inherits and every override applied.

    Args:
        path: The file; None if there is none but the overrides.
        overrides: ``"a.b.c=value"`` each, applied in order. The value is YAML; ``!delete``
            removes the key; a ``_base_`` or plugin path in it counts from the current directory.

    Raises:
        UserError: one line, ``file:line: …``, for anything that cannot be read or resolved.
    """
    tree = Tree() if path is None else _read_file(Path(path), asked_by="", chain=())
    for text in overrides:
        tree = merge(tree, _resolve_plugins(_overlay(tree, text), Path.cwd()))
    _refuse_deletes(tree, ())
    return tree


def locate(tree: Any, path: str) -> str:
    """Where ``path`` (``"train.optim_g.lr"``) is said: ``"options/x.yml:37"``.

    A path that is only partly there gives the place of its last part that is.
    """
    where = getattr(tree, "where", "")
    for key in path.split(".") if path else ():
        index = int(key) if isinstance(tree, Items) and key.isdigit() else key
        if not isinstance(tree, Tree | Items):
            break
        try:
            where, tree = tree.marks[index], tree[index]
        except (LookupError, TypeError):
            break
    return where


def plain(tree: Any) -> Any:
    """The same content in ordinary dicts, lists and scalars; dataclasses become dicts."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {f.name: plain(getattr(tree, f.name)) for f in dataclasses.fields(tree)}
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return str(tree) if isinstance(tree, Path) else tree


def as_tree(content: Mapping[str, Any], mark: str) -> Tree:
    """Nested mappings as if read from a file, with ``mark`` as the place of everything."""
    tree = Tree(mark)
    for key, value in content.items():
        tree.put(key, as_tree(value, mark) if isinstance(value, Mapping) else value, mark)
    return tree


def dump(tree: Any) -> str:
    """YAML that ``read`` turns into an equal tree; keys stay in order."""
    return yaml.dump(
        plain(tree), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100,
        default_flow_style=False,
    )  # fmt: skip


def _read_file(path: Path, asked_by: str, chain: tuple[Path, ...]) -> Tree:
    """One file with its bases merged in. ``asked_by`` is the place that names it as a base."""
    shown, asked = shown_path(path), f"{asked_by}: {BASE_KEY}: " if asked_by else ""
    resolved = path.resolve()
    if resolved in chain:
        circle = [*chain[chain.index(resolved) :], resolved]
        raise UserError(f"{asked}files inherit in a circle: {' -> '.join(map(shown_path, circle))}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{asked}no such file: {shown}") from None
    except OSError as error:
        raise UserError(f"{asked}cannot read {shown}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{asked}{shown}: is not UTF-8 text (byte {error.start})") from None
    tree = parse(text, shown)
    if tree is None:
        tree = Tree(f"{shown}:1")
    if not isinstance(tree, Tree):
        raise UserError(f"{shown}:1: an option file is a mapping (key: value), this is {tree!r}")
    return _resolve_plugins(_inherit(tree, path.parent, (*chain, resolved)), path.parent)


def _inherit(node: Any, folder: Path, chain: tuple[Path, ...]) -> Any:
    """``node`` with the files under ``_base_`` merged in, at every depth; ``node`` stays as is."""
    if isinstance(node, Items):
        return node.replaced(_inherit(entry, folder, chain) for entry in node)
    if not isinstance(node, Tree):
        return node
    own, merged = Tree(node.where), Tree(node.where)
    for key, value in node.items():
        if key != BASE_KEY:
            own.put(key, _inherit(value, folder, chain), node.marks[key])
    for name, mark in _bases(node):
        merged = merge(merged, _read_file(folder / Path(name).expanduser(), mark, chain))
    return merge(merged, own)


def _bases(node: Tree) -> Iterator[tuple[str, str]]:
    """The file names under ``_base_``, each with the place that gives it."""
    names = node.get(BASE_KEY, [])
    if isinstance(names, str):
        names = [names]
    marks = getattr(names, "marks", [node.marks.get(BASE_KEY)])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{node.marks[BASE_KEY]}: {BASE_KEY}: expected a path or a list of paths")
    yield from zip(names, marks, strict=False)


def merge(base: Any, over: Any) -> Any:
    """``over`` on top of ``base``; neither is changed."""
    if not isinstance(base, Tree) or not isinstance(over, Tree):
        return over
    if "type" in base and "type" in over and base["type"] != over["type"]:
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
    """``tree`` with those ``plugins`` that are paths made absolute."""
    plugins = tree.get("plugins")
    if isinstance(plugins, Items):
        resolved = plugins.replaced(
            os.path.abspath(folder / Path(entry).expanduser())  # noqa: PTH100 (keeps links)
            if isinstance(entry, str) and (entry.endswith(".py") or "/" in entry)
            else entry
            for entry in plugins
        )
        tree.put("plugins", resolved, tree.marks["plugins"])
    return tree


def _refuse_deletes(node: Any, path: tuple[str, ...]) -> None:
    """Complain about a ``!delete`` that found nothing: it is a misspelt key."""
    for key, value in node.items() if isinstance(node, Tree) else enumerate(node):
        if value is DELETE:
            name = ".".join((*path, str(key)))
            raise UserError(f"{node.marks[key]}: {name}: nothing to delete, it is not inherited")
        if isinstance(value, Tree | Items):
            _refuse_deletes(value, (*path, str(key)))


def _overlay(tree: Tree, text: str) -> Tree:
    """What ``--set text`` says, as a tree to be merged over ``tree``."""
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"--set {text}: expected key.key=value, e.g. train.total_iter=1000")
    mark = f"--set {text}"
    parsed = parse(value, mark, line_numbers=False)
    if keys[-1] == BASE_KEY:  # a.b._base_=x says the same as a.b={_base_: x}
        wrapped = Tree(mark)
        wrapped.put(keys.pop(), parsed, mark)
        parsed = wrapped
    return _overlay_node(tree, keys, _inherit(parsed, Path.cwd(), chain=()), mark)


def _overlay_node(node: Any, keys: list[str], value: Any, mark: str) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, Items):  # lists are replaced as a whole, so the overlay is a whole list
        if not key.isdigit() or int(key) >= len(node):
            raise UserError(
                f"{mark}: '{key}' is no entry of a list of {len(node)} (0 is the first)"
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
    # Mappings on the way keep their place in the file; only what is set comes from the override.
    known = isinstance(node, Tree) and key in node
    overlay = Tree(node.where if isinstance(node, Tree) else mark)
    child = _overlay_node(node[key] if known else None, rest, value, mark)
    overlay.put(key, child, node.marks[key] if known and rest else mark)
    return overlay


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as messages show it: from the current directory where that is shorter."""
    absolute = os.path.abspath(path)  # noqa: PTH100 (links stay as the user wrote them)
    try:
        return min(os.path.relpath(absolute), absolute, key=len)
    except ValueError:  # another drive
        return absolute

"""Reads and writes the YAML of option files: YAML 1.2 core schema, with the place of every key.

PyYAML follows YAML 1.1, in which ``1e-4`` is text, ``no`` is false and ``1:30`` is ninety, and it
silently drops the first of two equal keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import yaml

from srtoolbox.errors import UserError

MAX_DEPTH = 50
"""Maximum depth of mappings and lists in options, inherited ones included."""
MAX_ENTRIES = 10_000
"""Maximum number of keys and values in options, inherited and repeated ones included."""
_MAX_DIGITS = 300  # of an integer, so that it is also a float

DELETE = type("Delete", (), {"__repr__": lambda self: "!delete"})()
"""Value of a key with ``!delete``, until the mapping is merged onto the inherited one."""


class Tree(dict):
    """A mapping with its places in option files.

    Attributes:
        where: Place of the mapping, ``"options/x.yml:12"``.
        marks: Place of each key.
    """

    def __init__(self, where: str = "") -> None:
        super().__init__()
        self.where = where
        self.marks: dict[str, str] = {}

    def put(self, key: str, value: Any, mark: str) -> None:
        self[key] = value
        self.marks[key] = mark

    def remove(self, key: str) -> None:
        del self[key], self.marks[key]


class Items(list):
    """A list with its places in option files.

    Attributes:
        where: Place of the list.
        marks: Place of each entry.
    """

    def __init__(self, entries: Iterable[Any], where: str, marks: Iterable[str]) -> None:
        super().__init__(entries)
        self.where = where
        self.marks = list(marks)

    def replaced(self, entries: Iterable[Any]) -> Items:
        """Returns a list of other entries, as many, at the same places."""
        return Items(entries, self.where, self.marks)

    def without(self, index: int) -> Items:
        """Returns the list without one entry."""
        kept = [i for i in range(len(self)) if i != index]
        return Items([self[i] for i in kept], self.where, [self.marks[i] for i in kept])


TOO_DEEP = f"options are nested more than {MAX_DEPTH} levels deep"
TOO_MANY = f"the options have more than {MAX_ENTRIES} entries"

_TAG = "tag:yaml.org,2002:"
_INTEGER = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = (
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_CORE_SCALARS = {  # in this order, because every integer also matches the pattern of a float
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": _INTEGER,
    "float": _FLOAT,
}
_PATTERNS = [(_TAG + name, re.compile(f"^(?:{text})$")) for name, text in _CORE_SCALARS.items()]


class _Loader(yaml.SafeLoader):
    """Composes nodes with the scalar tags of the YAML 1.2 core schema."""

    yaml_implicit_resolvers = {None: _PATTERNS}  # noqa: RUF012 (None: any first letter)

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuses nodes that are nested too deeply or too many, before they are all read."""
        self._depth, self._count = self._depth + 1, self._count + 1
        if self._depth > MAX_DEPTH or self._count > MAX_ENTRIES:
            fault = TOO_DEEP if self._depth > MAX_DEPTH else TOO_MANY
            raise yaml.MarkedYAMLError(problem=fault, problem_mark=self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def scan_tag(self) -> yaml.TagToken:
        """Accepts ``{key: !delete}``; PyYAML requires a blank after a tag."""
        if self.prefix(8)[:7] != "!delete" or self.peek(7) not in ",]}":
            return super().scan_tag()
        start = self.get_mark()
        self.forward(7)
        return yaml.TagToken(("!", "delete"), start, self.get_mark())


class Dumper(yaml.SafeDumper):
    """Writes YAML that means the same in YAML 1.1 and 1.2, without anchors."""

    # Text that is not text in either version is quoted.
    yaml_implicit_resolvers = {  # noqa: RUF012
        **yaml.SafeDumper.yaml_implicit_resolvers,
        None: _PATTERNS,
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_list(self, data: list) -> yaml.Node:
        short = not any(isinstance(entry, dict | list) for entry in data)
        return self.represent_sequence(f"{_TAG}seq", data, flow_style=short)


Dumper.add_representer(list, Dumper.represent_list)


@lru_cache(maxsize=64)
def _compose(text: str) -> yaml.Node | None:
    """Returns the nodes of a document; many files inherit from the same few."""
    return yaml.compose(text, Loader=_Loader)


def parse(text: str, source: str, line_numbers: bool = True) -> Any:
    """Parses a YAML document into a ``Tree``, ``Items``, a scalar, ``None`` or ``DELETE``.

    Args:
        text: One YAML document.
        source: First part of each place: the file as messages show it.
        line_numbers: Whether a place is ``source:line`` or only ``source``.

    Raises:
        UserError: ``source:line:column: …`` for bad syntax, a duplicate key or an unknown tag.
    """

    def place(mark: yaml.Mark | None, column: bool = False) -> str:
        if mark is None or not line_numbers:
            return source
        return f"{source}:{mark.line + 1}" + (f":{mark.column + 1}" if column else "")

    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = _explain(error)
        raise UserError(f"{place(mark, column=True)}: not valid YAML: {message}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        column = error.position - (text.rfind("\n", 0, error.position) + 1)
        mark = yaml.Mark(source, error.position, line, column, None, 0)
        message = f"not valid YAML: the character {chr(error.character)!r} is not allowed"
        raise UserError(f"{place(mark, column=True)}: {message}") from None

    open_nodes: list[yaml.Node] = []  # the nodes that contain the current one
    count = 0  # of nodes that were built; an alias builds its node again

    def build(node: yaml.Node, where: str) -> Any:
        nonlocal count
        count += 1
        if node in open_nodes:
            raise UserError(f"{where}: the alias refers to a node that contains it")
        if count > MAX_ENTRIES or len(open_nodes) >= MAX_DEPTH:
            fault = TOO_MANY if count > MAX_ENTRIES else TOO_DEEP
            raise UserError(f"{where}: {fault}; use fewer aliases")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, where)
        convert, kind = (
            (mapping, "map") if isinstance(node, yaml.MappingNode) else (sequence, "seq")
        )
        if node.tag != _TAG + kind:
            raise UserError(f"{where}: the tag {node.tag} is not known; remove it")
        open_nodes.append(node)
        result = convert(node, where)
        open_nodes.pop()
        return result

    def mapping(node: yaml.Node, where: str) -> Tree:
        tree, inherited = Tree(where), []
        for key_node, value_node in node.value:
            mark = place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"{mark}: a key must be text, not a list or mapping")
            key = key_node.value  # as written: a key that looks like a number is text, too
            refuse_unprintable(key, mark)
            if key == "<<" and key_node.style is None:
                inherited.append((build(value_node, mark), mark))
                continue
            if key in tree:
                raise UserError(f"{mark}: duplicate key '{key}', first at {tree.marks[key]}")
            tree.put(key, build(value_node, mark), mark)
        for value, mark in inherited:
            for source in value if isinstance(value, Items) else [value]:
                if not isinstance(source, Tree):
                    raise UserError(
                        f"{mark}: '<<' expects the alias of a mapping, or a list of them"
                    )
                for key in source:
                    if key in tree:  # the mapping's own keys and earlier ones have priority
                        continue
                    tree.put(key, source[key], source.marks[key])
        return tree

    def sequence(node: yaml.Node, where: str) -> Items:
        marks = [place(entry.start_mark) for entry in node.value]
        entries = [build(entry, mark) for entry, mark in zip(node.value, marks, strict=True)]
        if DELETE in entries:
            mark = marks[entries.index(DELETE)]
            raise UserError(f"{mark}: !delete is for keys; lists are replaced as a whole")
        return Items(entries, where, marks)

    return None if node is None else build(node, place(node.start_mark))


def _explain(error: yaml.MarkedYAMLError) -> str:
    """Returns what is wrong and what to do, for the messages of PyYAML that users meet most."""
    problem, context = str(error.problem or ""), str(error.context or "")
    found = problem.rpartition("got ")[2] if "got " in problem else problem.rpartition(" ")[2]
    end = found == "'<stream end>'" or "end of stream" in problem
    here = "the end of the file" if end else found
    opened = error.context_mark
    start = "" if opened is None else f" that begins in line {opened.line + 1}"
    if "flow mapping" in context:
        return (
            f"the mapping in braces {{…}}{start} is not closed or lacks a comma: found {here} "
            "where ',' or '}' is expected; quote text that contains ': ' or one of , [ ] { }"
        )
    if "flow sequence" in context:
        return (
            f"the list in brackets […]{start} is not closed or lacks a comma: found {here} where "
            "',' or ']' is expected"
        )
    if "flow node" in context or "block node" in context:
        return f"a value is missing: found {here} instead; write null for no value"
    if "quoted scalar" in context:
        return f"the quoted text{start} has no closing quotation mark"
    if "mapping values are not allowed" in problem:
        return (
            "a second ': ' in one line, or a line that is indented deeper than the one above it; "
            "quote text that contains ': '"
        )
    if "cannot start any token" in problem:
        character = problem.split("'")[1] if "'" in problem else found
        if character == "\\t":
            return "found a tab; indent with spaces, not tabs"
        return f"a value cannot begin with {character}; put it in quotation marks"
    if "undefined alias" in problem:
        return f"the alias *{found.strip(chr(39))} has no anchor &{found.strip(chr(39))} above it"
    if "block mapping" in context:
        return (
            "the next key is expected here; check the indentation: the keys of one mapping begin "
            "in one column"
        )
    if "block collection" in context:
        return f"the next entry '- …' of the list{start} is expected here"
    if "simple key" in context:
        return "text without ': '; a mapping has lines 'key: value'"
    return f"{context}: {problem}".removeprefix(": ").replace("\n", " ")


def _scalar(node: yaml.ScalarNode, where: str) -> Any:
    text, tag = node.value, node.tag
    if tag == "!delete" and not text:
        return DELETE
    if tag == f"{_TAG}str":
        refuse_unprintable(text, where)
        return text
    pattern = dict(_PATTERNS).get(tag)
    if pattern is None:
        raise UserError(f"{where}: the tag {tag} is not known; the only tag is !delete")
    if not pattern.match(text):
        raise UserError(f"{where}: '{text}' is no {tag.removeprefix(_TAG)}")
    if tag == f"{_TAG}null":
        return None
    if tag == f"{_TAG}bool":
        return text.lower() == "true"
    if tag == f"{_TAG}int":  # int(…, 0) refuses the leading zeros that YAML allows
        if len(text) > _MAX_DIGITS:
            raise UserError(f"{where}: the integer {text[:20]}… has {len(text)} digits")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    # YAML's infinity and not-a-number have a dot, Python's do not.
    return float(text.replace(".", "", 1) if text.lower().endswith(("inf", "nan")) else text)


def refuse_unprintable(text: str, where: str) -> None:
    """Raises an error for characters that neither paths nor messages can contain."""
    for character in text:
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise UserError(f"{where}: the text contains the character {character!a}; remove it")

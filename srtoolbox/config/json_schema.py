"""Writes a JSON Schema (draft 2020-12) of option files, for completion and checks in editors."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from srtoolbox.config.components import Component, container, is_section, parameters_of
from srtoolbox.config.files import BASE_KEY, plain
from srtoolbox.config.ranges import range_in, range_of, refusal
from srtoolbox.registry import REGISTRIES, Registry, constructor_parameters

_BASE = {
    "description": "option files to inherit from at this place",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
_SCALARS = {int: "integer", float: "number", bool: "boolean", str: "string", Path: "string"}
_LIMITS = {"min": "minimum", "max": "maximum", "exclusive_min": "exclusiveMinimum"}


def json_schema(section: type) -> dict[str, Any]:
    """Returns the schema of option files of a class of options, with all registered components.

    No key is required, because a file may inherit any of them. Every mapping may have ``_base_``.
    """
    writer = _Writer()
    top = writer.hint(section)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **top,
        "$defs": dict(sorted(writer.definitions.items())),
    }


class _Writer:
    """Converts type hints to schemas; sections and components become shared definitions."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def hint(self, hint: Any, limits: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Returns the schema of a hint; ``limits`` apply to numbers, alone or in a list."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            for note in arguments[1:]:
                if isinstance(note, Component):
                    return self.reference(note.kind, self.kind, note.kind)
            return self.hint(arguments[0], limits)
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.hint(alternative, limits) for alternative in arguments]}
        if origin is Literal:
            return {"enum": list(arguments)}
        if hint is None or hint is type(None):
            return {"type": "null"}
        if hint in _SCALARS:
            return {"type": _SCALARS[hint], **(limits if limits and hint in (int, float) else {})}
        if is_section(hint):
            return self.reference(f"{hint.__module__}.{hint.__name__}", self.section, hint)
        return self.container(container(hint), arguments, limits)

    def container(
        self, kind: type | None, hints: tuple, limits: Mapping[str, float] | None
    ) -> dict[str, Any]:
        if kind is None:
            return {}
        if kind is dict:
            entry = self.hint(hints[1]) if hints else {}
            return {
                "type": "object",
                "properties": {BASE_KEY: _BASE},
                "additionalProperties": entry,
            }
        if kind is tuple and hints and hints[-1] is not Ellipsis:
            entries = [self.hint(entry, limits) for entry in hints]
            return {"type": "array", "prefixItems": entries, "items": False, "minItems": len(hints)}
        return {"type": "array", "items": self.hint(hints[0], limits) if hints else {}}

    def reference(self, name: str, write: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Returns a reference to the definition ``name``; the first reference writes it."""
        if name not in self.definitions:
            self.definitions[name] = {}  # a definition that contains itself must not recur for ever
            self.definitions[name] = write(*arguments)
        return {"$ref": f"#/$defs/{name}"}

    def section(self, section: type) -> dict[str, Any]:
        hints = typing.get_type_hints(section, include_extras=True)
        properties = {}
        for field in dataclasses.fields(section):
            if field.init:
                default = field.default_factory if callable(field.default_factory) else None
                value = default() if default else field.default
                limits = {_LIMITS[k]: v for k, v in field.metadata.items() if k in _LIMITS}
                properties[field.name] = {
                    **self.hint(hints[field.name], limits),
                    **_annotations(field.metadata.get("doc", ""), value),
                }
        return _object(properties, inspect.getdoc(section))

    def kind(self, kind: str) -> dict[str, Any]:
        """Returns the schema of any component of a kind; ``type`` decides which options it has."""
        known = REGISTRIES[kind]
        cases = []
        names = [name for name in known.names() if refusal(kind, name) is None]
        for name in names:
            chosen = {"properties": {"type": {"const": name}}, "required": ["type"]}
            arguments = known.get(name), name, known
            then = self.reference(f"{kind}.{name}", self.component, *arguments)
            cases.append({"if": chosen, "then": then})
        return {
            "type": "object",
            "properties": {"type": {"enum": names}, BASE_KEY: _BASE},
            "allOf": cases,
        }

    def component(self, component: Any, name: str, known: Registry) -> dict[str, Any]:
        kind, docs = known.kind, parameter_docs(component)
        properties: dict[str, Any] = {"type": {"const": name}}
        for option, parameter in parameters_of(component).items():
            if option not in known.injected:
                default = MISSING if parameter.required else parameter.default
                limits = range_in(parameter.hint) or range_of(kind, option)
                bounds = {
                    _LIMITS[k]: v
                    for k, v in asdict(limits).items()
                    if k in _LIMITS and v is not None
                }
                properties[option] = {
                    **self.hint(parameter.hint, bounds),
                    **_annotations(docs.get(option, ""), default),
                }
        return _object(properties, inspect.getdoc(component))


def parameter_docs(component: Any) -> dict[str, str]:
    """Returns the description of each constructor parameter from the ``Args:`` in docstrings."""
    texts = [inspect.getdoc(component) or "", inspect.getdoc(component.__init__) or ""]
    docs = {}
    for name in constructor_parameters(component):
        entry = rf"^( +){re.escape(name)}(?: \([^\n]*?\))?:\s*(.*(?:\n\1 +.*)*)"
        for text in texts:
            _, heading, arguments = text.partition("Args:\n")
            found = re.search(entry, arguments, re.MULTILINE) if heading else None
            if found and name not in docs:
                docs[name] = " ".join(found[2].split())
    return docs


def _object(properties: Mapping[str, Any], doc: str | None) -> dict[str, Any]:
    title = {"description": doc.split("\n\n")[0].replace("\n", " ")} if doc else {}
    return {
        "type": "object",
        **title,
        "properties": {**properties, BASE_KEY: _BASE},
        "additionalProperties": False,
    }


def _annotations(doc: str, default: Any) -> dict[str, Any]:
    """Returns ``description`` and ``default``, if there are any that JSON can express."""
    notes: dict[str, Any] = {"description": doc} if doc else {}
    value = plain(default)
    if isinstance(value, bool | int | float | str | list | dict | types.NoneType):
        notes["default"] = value
    return notes

"""Checks options: sections against dataclasses, components against their constructors.

One pass finds all errors of a tree, each with its file and line. A section is a dataclass that is
defined in the module that uses it::

    @dataclass(frozen=True)
    class TrainOptions:
        total_iter: int = option(doc="optimizer steps", min=1)
        optim_g: Annotated[dict, Component("optimizer", injected=("fused",))]
        grad_clip: float | None = option(None, exclusive_min=0)

        def validate(self) -> Iterator[tuple[str, str]]:  # optional: checks across fields
            if ...:
                yield "grad_clip", "needs …"  # the key and the message

``check(tree, TrainOptions)`` returns an instance; ``build("optimizer", opt.optim_g, …)`` builds the
component.
"""

from __future__ import annotations

import copy
import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING
from typing import Annotated, Any, Literal, TypeVar, Union

from srtoolbox.config.components import (
    INVALID,
    Component,
    build,
    container,
    describe,
    describe_value,
    is_section,
    parameters_of,
    same_shape,
    scalar,
)
from srtoolbox.config.files import locate, plain
from srtoolbox.config.frozen import FrozenDict, FrozenList, freeze
from srtoolbox.config.ranges import FINITE, Range, fault_of, refusal
from srtoolbox.config.yaml import Items, Tree
from srtoolbox.errors import UserError
from srtoolbox.registry import REGISTRIES, Registry, close_names

__all__ = ["Component", "OptionErrors", "build", "check", "option"]

Options = TypeVar("Options")

_MAX_FAULTS = 20  # that a message names


class OptionErrors(UserError):
    """All faults of the options, one line each.

    Attributes:
        errors: The lines.
    """

    def __init__(self, errors: Sequence[str]) -> None:
        shown = list(errors[:_MAX_FAULTS])
        if len(errors) > _MAX_FAULTS:
            shown.append(f"… and {len(errors) - _MAX_FAULTS} more faults")
        super().__init__("\n".join(shown))
        self.errors = tuple(errors)


def option(
    default: Any = MISSING,
    *,
    doc: str = "",
    min: float | None = None,
    max: float | None = None,
    exclusive_min: float | None = None,
    factory: Any = MISSING,
) -> Any:
    """Returns a dataclass field with a description and a range; no default: it is required.

    Args:
        default: May be a list or dict: every instance gets its own copy.
        doc: Meaning of the option, with its unit, for messages and the JSON Schema.
        min: Smallest value (of every entry, if the option is a list).
        max: Largest value.
        exclusive_min: The value must be larger than this.
        factory: ``default_factory`` of ``dataclasses.field``, e.g. the class of a nested section.
    """
    limits = {"min": min, "max": max, "exclusive_min": exclusive_min}
    metadata = {"doc": doc, **{key: value for key, value in limits.items() if value is not None}}
    if isinstance(default, list | dict | set):
        factory, default = lambda value=default: copy.deepcopy(value), MISSING
    if factory is not MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check(tree: Mapping[str, Any], section: type[Options]) -> Options:
    """Returns an instance of ``section`` with the values of ``tree`` and defaults for the rest.

    An integer becomes a float and text becomes a ``Path`` where the field has that type. Components
    stay mappings ``{"type": …, given options}``. The result cannot be changed.

    Raises:
        OptionErrors: names all faults.
    """
    checker = _Checker(tree)
    result = checker.section(section, tree, "", getattr(tree, "where", ""))
    if checker.errors:
        raise OptionErrors(checker.errors)
    return result


class _Checker:
    """Compares values with type hints, recursively, and collects the errors.

    In every method ``path`` is the dotted path of the value and ``where`` its file and line.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.errors: list[str] = []
        self._root = root

    def error(self, where: str, path: str, message: str) -> object:
        self.errors.append(": ".join(part for part in (where, path, message) if part))
        return INVALID

    def mismatch(self, hint: Any, value: Any, path: str, where: str) -> object:
        expected = f"expected {describe(hint)}, got {describe_value(value, hint)}"
        return self.error(where, path, expected)

    def value(self, hint: Any, value: Any, path: str, where: str) -> Any:
        """Returns ``value`` converted to the type of ``hint``, or ``INVALID``."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if hint is Any:
            return freeze(plain(value))
        if origin is Annotated:
            for note in arguments[1:]:
                if isinstance(note, Component):
                    return self.component(note, value, path, where)
            return self.value(arguments[0], value, path, where)
        if origin in (Union, types.UnionType):
            return self.union(hint, arguments, value, path, where)
        if origin is Literal:
            if any(value == choice and type(value) is type(choice) for choice in arguments):
                return value
        elif is_section(hint):
            return self.section(hint, value, path, where)
        elif (kind := container(hint)) is dict:
            if isinstance(value, Mapping):
                entry = arguments[1] if arguments else Any
                return self.entries(dict, [entry] * len(value), value, path, where)
        elif kind is not None:
            if isinstance(value, list | tuple):
                return self.sequence(kind, arguments, value, path, where)
        else:
            fault = FINITE.fault(value) if hint in (int, float) else None
            if fault:
                return self.error(where, path, fault)
            converted = scalar(hint, value)
            if converted is not INVALID:
                return converted
        return self.mismatch(hint, value, path, where)

    def union(self, hint: Any, hints: tuple, value: Any, path: str, where: str) -> Any:
        if any(type(value) is alternative for alternative in hints):  # int | float keeps 3 as int
            fault = FINITE.fault(value)
            return self.error(where, path, fault) if fault else plain(value)
        attempts = []
        for alternative in hints:
            attempt = _Checker(self._root)
            converted = attempt.value(alternative, value, path, where)
            if not attempt.errors:
                return converted
            attempts.append((alternative, attempt.errors))
        # If only one alternative has the shape of the value, the user must have meant that one.
        meant = [errors for alternative, errors in attempts if same_shape(alternative, value)]
        if len(meant) == 1:
            self.errors += meant[0]
            return INVALID
        return self.mismatch(hint, value, path, where)

    def sequence(self, kind: type, hints: tuple, value: Any, path: str, where: str) -> Any:
        if kind is tuple and hints and hints[-1] is not Ellipsis:
            if len(value) != len(hints):
                wanted = f"expected {len(hints)} values, got {len(value)}"
                return self.error(where, path, wanted)
            return self.entries(kind, hints, value, path, where)
        return self.entries(kind, [hints[0] if hints else Any] * len(value), value, path, where)

    def entries(self, kind: type, hints: Iterable, value: Any, path: str, where: str) -> Any:
        """Returns a list, tuple or dict with converted entries."""
        keys = list(value) if isinstance(value, Mapping) else range(len(value))
        converted = [
            self.value(hint, value[key], _join(path, key), _mark(value, key, where))
            for hint, key in zip(hints, keys, strict=True)
        ]
        if any(entry is INVALID for entry in converted):
            return INVALID
        if kind is dict:
            return FrozenDict(dict(zip(value, converted, strict=True)))
        return FrozenList(converted) if kind is list else tuple(converted)

    def section(self, section: type, tree: Any, path: str, where: str) -> Any:
        if not isinstance(tree, Mapping):
            return self.mismatch(section, tree, path, where)
        before = len(self.errors)
        hints = typing.get_type_hints(section, include_extras=True)
        fields = {field.name: field for field in dataclasses.fields(section) if field.init}
        self.unknown(tree, list(fields), path, where)
        values = {}
        for name, field in fields.items():
            if name in tree:
                there, mark = _join(path, name), _mark(tree, name, where)
                values[name] = self.value(hints[name], tree[name], there, mark)
                if values[name] is not INVALID:
                    self.limits(field.metadata, values[name], there, mark)
            elif field.default is MISSING and field.default_factory is MISSING:
                doc = field.metadata.get("doc")
                self.error(where, _join(path, name), f"missing{f' ({doc})' if doc else ''}")
        if len(self.errors) > before:
            return INVALID
        instance = section(**values)
        if hasattr(instance, "validate"):
            for name, message in instance.validate():
                self.error(locate(tree, name) or where, _join(path, name), message)
        return instance if len(self.errors) == before else INVALID

    def component(self, spec: Component, value: Any, path: str, where: str) -> Any:
        known = REGISTRIES[spec.kind]
        if not isinstance(value, Mapping):
            text = (
                f"expected a mapping with 'type:' ({spec.kind}), got {describe_value(value, dict)}"
            )
            return self.error(where, path, text)
        if "type" not in value:
            meant = _same_elsewhere(self._root, path.split("."))
            text = f"missing; one of {', '.join(known.names())}"
            if meant:
                text = f"missing; there is '{meant}'; did you mean that one?"
            return self.error(where, _join(path, "type"), text)
        name, there, mark = value["type"], _join(path, "type"), _mark(value, "type", where)
        if not isinstance(name, str):
            return self.mismatch(str, name, there, mark)
        try:
            component = known.get(name)
        except UserError as error:
            return self.error(mark, there, str(error))
        reason = refusal(spec.kind, name)
        if reason:
            return self.error(mark, there, f"{name} cannot be used: {reason}")
        before = len(self.errors)
        parameters = parameters_of(component)
        never_given = set(known.injected)
        options = [name for name in parameters if name not in never_given]
        self.unknown(value, ["type", *options], path, where, _variants(known, name))
        result = {"type": value["type"]}
        for name in options:
            there = _join(path, name)
            if name in value:
                mark = _mark(value, name, where)
                hint = parameters[name].hint
                result[name] = self.value(hint, value[name], there, mark)
                fault = None
                if result[name] is not INVALID:
                    fault = fault_of(spec.kind, name, result[name], hint, component)
                if fault:
                    self.error(mark, there, fault)
            elif parameters[name].required and name not in spec.injected:
                self.error(where, there, f"missing; {value['type']} needs it")
        return FrozenDict(result) if len(self.errors) == before else INVALID

    def unknown(
        self,
        tree: Mapping,
        known: list[str],
        path: str,
        where: str,
        variants: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Reports unknown keys; ``variants`` are components that may be meant, and their keys."""
        keys = set(known)
        for key in tree:
            if len(self.errors) > 2 * _MAX_FAULTS:  # similar names are searched for in each of them
                return
            if key not in keys:
                owners = [name for name, keys in (variants or {}).items() if key in keys]
                close = _suggestion(str(key), known)
                hint = f"did you mean {close}?" if close else f"known: {', '.join(known)}"
                if owners:
                    hint = f"{owners[0]} has this option; did you mean type: {owners[0]}?"
                self.error(_mark(tree, key, where), _join(path, _shown(key)), f"unknown; {hint}")

    def limits(self, limits: Mapping, value: Any, path: str, where: str) -> None:
        if isinstance(value, list | tuple):
            for index, entry in enumerate(value):
                self.limits(limits, entry, _join(path, index), where)
            return
        known = ("min", "max", "exclusive_min")
        fault = Range(**{key: limits[key] for key in known if key in limits}).fault(value)
        if fault:
            self.error(where, path, fault)


def _variants(registry: Registry, name: str) -> dict[str, Iterable[str]]:
    """Returns the components whose names continue ``name`` (DSTCSRNet: …Plus), and their options.

    A file may have been written before the component got its longer name.
    """
    longer = [other for other in registry.names() if other.startswith(name) and other != name]
    return {other: parameters_of(registry.get(other)) for other in longer}


def _suggestion(name: str, known: list[str]) -> str:
    """Returns known names similar to ``name``, or its abbreviation (``learning_rate``: ``lr``)."""

    def initials(words: str) -> str:
        return "".join(word[:1] for word in words.split("_"))

    short = [entry for entry in known if entry == initials(name) or name == initials(entry)]
    return close_names(name, known) or " or ".join(
        f"'{entry}'" for entry in short if "_" in name + entry
    )


def _same_elsewhere(root: Mapping[str, Any], keys: list[str]) -> str | None:
    """Returns the path of a component that differs from ``keys`` in one place; None without one.

    An override may name a dataset in the wrong section: ``datasets.test.X`` instead of
    ``datasets.val.X``.
    """
    for index, key in enumerate(keys[:-1]):
        for other in _descend(root, keys[:index]) or ():
            path = [*keys[:index], other, *keys[index + 1 :]]
            if other != key and "type" in (_descend(root, path) or ()):
                return ".".join(path)
    return None


def _descend(node: Any, keys: list[str]) -> Mapping[str, Any] | None:
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else None


def _shown(key: Any) -> str:
    text = str(key)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _mark(node: Any, key: Any, default: str) -> str:
    return node.marks[key] if isinstance(node, Tree | Items) else default

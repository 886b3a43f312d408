"""Builds components by name, and reads their options from their constructors' type hints."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Annotated, Any, Literal, Union

from srtoolbox.config.frozen import thaw
from srtoolbox.config.ranges import MAX_INTEGER, fault_of, refusal
from srtoolbox.errors import ComponentError, RunError, UserError
from srtoolbox.registry import REGISTRIES, Registry, constructor_parameters
from srtoolbox.utils.files import user_path
from srtoolbox.utils.own_code import calling, describe_error, is_own, raised_by

# What constructors raise for arguments that they do not accept.
_NOT_ACCEPTED = (TypeError, ValueError, RuntimeError, ArithmeticError, AssertionError)


@dataclass(frozen=True)
class Component:
    """Marks a field as a component: ``Annotated[dict, Component("arch", injected=("scale",))]``.

    Attributes:
        kind: A key of ``srtoolbox.registry.REGISTRIES``.
        injected: Constructor parameters that the program supplies if the options do not; they may
            be left out even if they have no default.
    """

    kind: str
    injected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """A parameter of a constructor: its type, and its default if it has one."""

    hint: Any
    required: bool
    default: Any


def build(kind: str | Registry, spec: Mapping[str, Any], **injected: Any) -> Any:
    """Builds a component from checked options.

    Args:
        kind: A registry, or a key of ``srtoolbox.registry.REGISTRIES``.
        spec: ``{"type": name, option: value, …}``.
        injected: Arguments that the program supplies. One is passed on only if the constructor
            has such a parameter and the options do not set it.

    Raises:
        UserError: if the constructor does not accept the options; names the component.
    """
    registry = kind if isinstance(kind, Registry) else REGISTRIES[kind]
    component = registry.get(spec["type"])
    known = constructor_parameters(component)
    supplied = {name: value for name, value in injected.items() if name in known}
    given = {name: thaw(value) for name, value in spec.items() if name != "type"}
    arguments = {**supplied, **given}
    if reason := refusal(registry.kind, spec["type"]):
        raise UserError(f"{registry.kind} {spec['type']} cannot be used: {reason}")
    hints = parameters_of(component) if given else {}
    for name, value in given.items():
        hint = hints[name].hint if name in hints else None
        if fault := fault_of(registry.kind, name, value, hint, component):
            raise UserError(f"{registry.kind} '{spec['type']}': {name}: {fault}")
    try:
        with calling(component, "__init__", _NOT_ACCEPTED):
            return component(**arguments)
    except (UserError, RunError):
        raise
    except _NOT_ACCEPTED as error:
        name = f"{registry.kind} '{spec['type']}' cannot be built"
        frame = extract_tb(error.__traceback__)[-1]
        inside = frame.filename != __file__  # otherwise the arguments do not match the signature
        if inside and is_own(component) and not raised_by(component, error):
            reason = describe_error(component, "__init__", error)
            raise ComponentError(f"{name}: {reason}") from error
        where = f" ({Path(frame.filename).name}:{frame.lineno})" if inside else ""
        raise UserError(f"{name}: {error}{where}") from error


def named_components(kind: str, spec: Mapping[str, Any]) -> Iterator[type]:
    """Yields the class that checked options name, and those that its own options name.

    Args:
        kind: A key of ``srtoolbox.registry.REGISTRIES``.
        spec: ``{"type": name, option: value, …}``.
    """
    component = REGISTRIES[kind].get(spec["type"])
    yield component
    hints = parameters_of(component)
    for name in spec.keys() & hints.keys():
        yield from _named_in(hints[name].hint, spec[name])


def _named_in(hint: Any, value: Any) -> Iterator[type]:
    """Yields the classes that the value of an option names."""
    if not isinstance(value, Mapping | list | tuple):
        return
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    notes = arguments[1:] if origin is Annotated else ()
    kind = next((note.kind for note in notes if isinstance(note, Component)), None)
    if kind is not None and isinstance(value, Mapping):
        yield from named_components(kind, value)
    elif origin is Annotated:
        yield from _named_in(arguments[0], value)
    elif origin in (Union, types.UnionType):
        for part in arguments:
            yield from _named_in(part, value)
    elif arguments and container(hint) is not None:
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _named_in(arguments[1 if isinstance(value, Mapping) else 0], entry)


def parameters_of(component: Any) -> dict[str, Parameter]:
    """Returns the parameters of a component's constructor, with hints to check options by."""
    hints = _hints_of(component.__init__ if inspect.isclass(component) else component)
    result = {}
    for name, parameter in constructor_parameters(component).items():
        required = parameter.default is parameter.empty
        hint = usable(hints[name]) if name in hints else None
        if hint is None:
            hint = Any if required else hint_of_default(parameter.default)
        elif parameter.default is None:
            hint = Union[hint, None]  # noqa: UP007 (hint is a value here)
        result[name] = Parameter(hint, required, None if required else parameter.default)
    return result


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the hints that can be resolved, each by itself.

    A name that is imported for type checkers only is most often one of ``collections.abc``.
    """
    names = {**vars(collections.abc), **getattr(inspect.unwrap(function), "__globals__", {})}
    hints = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(NameError, TypeError, AttributeError):
            hints |= typing.get_type_hints(alone, names, include_extras=True)
    return hints


INVALID = object()
"""Result of the conversion of a value that has errors."""


def is_section(hint: Any) -> bool:
    """Returns whether a hint is a class of options (a dataclass)."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def container(hint: Any) -> type | None:
    """Returns dict, tuple or list for the hint of a mapping or sequence, otherwise None."""
    kind = typing.get_origin(hint) or hint
    if kind in (dict, collections.abc.Mapping):
        return dict
    if kind is tuple:
        return tuple
    lists = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
    return list if kind in lists else None


_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    Any: "anything",
    type(None): "null",
    None: "null",
}


def describe(hint: Any) -> str:
    """Describes a hint in words: ``"an integer or null"``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(describe, arguments)))
    if origin is Literal:
        return " or ".join(map(_literal, arguments))
    if hint in _WORDS:
        return _WORDS[hint]
    kind = container(hint)
    if kind is list or kind is tuple:
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            return f"a list of {len(arguments)}"
        return f"a list (each: {describe(arguments[0])})" if arguments else "a list"
    return "a mapping"


def scalar(hint: Any, value: Any) -> Any:
    """Converts ``value`` to the scalar type ``hint``, or to ``INVALID``; a boolean is no number."""
    if hint is None or hint is type(None):
        return None if value is None else INVALID
    if hint is Path and isinstance(value, str | Path):
        return user_path(value)
    if type(value) is hint:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if (
        hint is int and type(value) is float and value.is_integer() and abs(value) < MAX_INTEGER
    ):  # total_iter: 1e5
        return int(value)
    return INVALID


def describe_value(value: Any, hint: Any) -> str:
    """Describes a value in words; for a usual mistake with ``hint``, also how to correct it."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = _literal(value)
    if isinstance(value, str):
        is_yes_no = value.lower() in ("yes", "no", "on", "off")
        advice = "; write true or false" if is_yes_no and "true or false" in describe(hint) else ""
        return f"{text} (a string){advice}"
    kind = "a boolean" if isinstance(value, bool) else "a number"
    advice = f"; put it in quotes: '{text}'" if "text" in describe(hint) else ""
    return f"{text} ({kind}){advice}"


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def same_shape(hint: Any, value: Any) -> bool:
    """Returns whether ``value`` is a mapping, list or scalar as the hint requires."""
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    kind = dict if is_section(hint) else container(hint)
    if isinstance(value, Mapping):
        return kind is dict
    if isinstance(value, list | tuple):
        return kind in (list, tuple)
    return kind is None and hint is not type(None) and value is not None


def usable(hint: Any) -> Any:
    """Returns the part of a hint that a YAML value can satisfy; None if there is no such part."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        parts = [part for part in map(usable, arguments) if part is not None]
        only_null = all(part is type(None) for part in parts)
        return None if only_null else Union[tuple(parts)]  # noqa: UP007
    if origin in (Literal, Annotated) or hint in (int, float, bool, str, Path, Any, type(None)):
        return hint
    if is_section(hint):
        return hint
    kind: Any = container(hint)
    if kind is None:
        return None
    entries = [entry if entry is Ellipsis else usable(entry) for entry in arguments]
    return None if None in entries else (kind[tuple(entries)] if entries else kind)


def hint_of_default(default: Any) -> Any:
    """Returns a hint for a parameter that has no usable one, from its default."""
    if isinstance(default, bool | str):
        return type(default)
    if isinstance(default, int | float):
        return int | float
    return list if isinstance(default, list | tuple) else Any

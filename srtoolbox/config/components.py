"""Looks up components by kind and name, and reads the options that their constructors take."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Annotated, Any, Literal, Union

from srtoolbox.config.files import thaw
from srtoolbox.errors import UserError
from srtoolbox.registry import REGISTRIES, Registry, constructor_parameters


@dataclass(frozen=True)
class Component:
    """Marks a field as a component: ``Annotated[dict, Component("arch", injected=("scale",))]``.

    Attributes:
        kind: A key of ``srtoolbox.registry.REGISTRIES``.
        injected: Constructor parameters that the owner of the section supplies when the options
            do not, so that they may be left out even if they have no default.
    """

    kind: str
    injected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """A constructor's parameter: what its values must look like, and whether it has a default."""

    hint: Any
    required: bool
    default: Any


def build(kind: str | Registry, spec: Mapping[str, Any], **injected: Any) -> Any:
    """The component that checked options describe.

    Args:
        kind: A registry, or a key of ``srtoolbox.registry.REGISTRIES``.
        spec: ``{"type": name, option: value, …}``.
        injected: What the program supplies. Each is passed on only if the constructor has such a
            parameter and the options do not give it.

    Raises:
        UserError: naming the component, if its constructor does not accept the options.
    """
    registry = kind if isinstance(kind, Registry) else REGISTRIES[kind]
    component = registry.get(spec["type"])
    known = constructor_parameters(component)
    supplied = {name: value for name, value in injected.items() if name in known}
    given = {name: thaw(value) for name, value in spec.items() if name != "type"}
    arguments = {**supplied, **given}
    try:
        return component(**arguments)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        frame = extract_tb(error.__traceback__)[-1]
        inside = frame.filename != __file__  # else the call itself did not fit
        where = f" ({Path(frame.filename).name}:{frame.lineno})" if inside else ""
        raise UserError(
            f"{registry.kind} '{spec['type']}' cannot be built: {error}{where}"
        ) from error


def parameters_of(component: Any) -> dict[str, Parameter]:
    """The parameters of a component's constructor with hints that options can be checked by."""
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
    """All hints that can be resolved: a name imported for type checkers only spoils just one."""
    # Such a name is most often one of collections.abc; the function's own names go before.
    names = {**vars(collections.abc), **getattr(inspect.unwrap(function), "__globals__", {})}
    hints = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(NameError, TypeError, AttributeError):
            hints |= typing.get_type_hints(alone, names, include_extras=True)
    return hints


INVALID = object()
"""What a value that has errors is converted to."""


def is_section(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def container(hint: Any) -> type | None:
    """``dict``, ``tuple`` or ``list`` for hints of mappings and sequences, otherwise ``None``."""
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
    """A hint in words: ``"an integer or null"``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(one) for one in arguments))
    if origin is Literal:
        return " or ".join(_literal(one) for one in arguments)
    if hint in _WORDS:
        return _WORDS[hint]
    kind = container(hint)
    if kind is list or kind is tuple:
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            return f"a list of {len(arguments)}"
        return f"a list (each: {describe(arguments[0])})" if arguments else "a list"
    return "a mapping"


def scalar(hint: Any, value: Any) -> Any:
    """``value`` as the scalar type ``hint``, or ``INVALID``; a boolean is never a number."""
    if hint is None or hint is type(None):
        return None if value is None else INVALID
    if hint is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    if type(value) is hint:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if hint is int and type(value) is float and value.is_integer():  # total_iter: 1e5
        return int(value)
    return INVALID


def describe_value(value: Any, hint: Any) -> str:
    """A value in words, with what to do if it is one of the usual mistakes for ``hint``."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = _literal(value)
    if isinstance(value, str):
        wordy = value.lower() in ("yes", "no", "on", "off") and "true or false" in describe(hint)
        return f"{text} (a string)" + ("; write true or false" if wordy else "")
    kind = "a boolean" if isinstance(value, bool) else "a number"
    return f"{text} ({kind})" + (
        f"; put it in quotes: '{text}'" if "text" in describe(hint) else ""
    )


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def same_shape(hint: Any, value: Any) -> bool:
    """Whether ``value`` is at least of the sort (mapping, list, scalar) that ``hint`` asks for."""
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    kind = dict if is_section(hint) else container(hint)
    if isinstance(value, Mapping):
        return kind is dict
    if isinstance(value, list | tuple):
        return kind in (list, tuple)
    return kind is None and hint is not type(None) and value is not None


def usable(hint: Any) -> Any:
    """The part of a hint that a YAML value can satisfy, or ``None`` if there is no such part."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        parts = [one for one in map(usable, arguments) if one is not None]
        only_null = all(one is type(None) for one in parts)
        return None if only_null else Union[tuple(parts)]  # noqa: UP007
    if origin in (Literal, Annotated) or hint in (int, float, bool, str, Path, Any, type(None)):
        return hint
    if is_section(hint):
        return hint
    kind = container(hint)
    if kind is None:
        return None
    entries = [one if one is Ellipsis else usable(one) for one in arguments]
    return None if None in entries else (kind[tuple(entries)] if entries else kind)


def hint_of_default(default: Any) -> Any:
    """What a parameter without a usable hint takes, judged by its default."""
    if isinstance(default, bool | str):
        return type(default)
    if isinstance(default, int | float):
        return int | float
    return list if isinstance(default, list | tuple) else Any

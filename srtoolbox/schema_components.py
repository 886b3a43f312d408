"""What the options know of components: where kinds are looked up, what constructors ask for.

A plugin may add a kind of its own, or replace one, in ``RESOLVERS``.
"""

from __future__ import annotations

import collections.abc
import contextlib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any, Union

from srtoolbox import registry
from srtoolbox.errors import UserError
from srtoolbox.options import thaw
from srtoolbox.registry import Registry, close_names, constructor_parameters
from srtoolbox.schema_hints import hint_of_default, usable


@dataclass(frozen=True)
class Component:
    """Marks a field as a component: ``Annotated[dict, Component("arch", injected=("scale",))]``.

    Attributes:
        kind: A key of ``RESOLVERS``.
        injected: Constructor parameters that the owner of the section supplies when the options
            do not, so that they may be left out even if they have no default.
    """

    kind: str
    injected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolver:
    """How components of one kind are found.

    Attributes:
        get: Gives the class of a name; raises ``UserError`` if there is none.
        names: All names.
        injected: Parameters that only the program can give; options must not name them.
    """

    get: Callable[[str], Any]
    names: Callable[[], list[str]]
    injected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """A constructor's parameter: what its values must look like, and whether it has a default."""

    hint: Any
    required: bool
    default: Any


def resolver(kind: str | Registry) -> Resolver:
    """Where components of ``kind`` are looked up."""
    if isinstance(kind, Registry):
        return Resolver(kind.get, kind.names)
    return RESOLVERS[kind]


def build(kind: str | Registry, spec: Mapping[str, Any], **injected: Any) -> Any:
    """The component that checked options describe.

    Args:
        kind: A registry, or a key of ``RESOLVERS``.
        spec: ``{"type": name, option: value, …}``.
        injected: What the program supplies. Each is passed on only if the constructor has such a
            parameter and the options do not give it.

    Raises:
        UserError: naming the component, if its constructor does not accept the options.
    """
    component = resolver(kind).get(spec["type"])
    known = constructor_parameters(component)
    supplied = {name: value for name, value in injected.items() if name in known}
    given = {name: thaw(value) for name, value in spec.items() if name != "type"}
    arguments = {**supplied, **given}
    try:
        return component(**arguments)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        word = kind.kind if isinstance(kind, Registry) else kind
        frame = extract_tb(error.__traceback__)[-1]
        inside = frame.filename != __file__  # else the call itself did not fit
        where = f" ({Path(frame.filename).name}:{frame.lineno})" if inside else ""
        raise UserError(f"{word} '{spec['type']}' cannot be built: {error}{where}") from error


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


def _torch_classes(module: str, base: str) -> dict[str, type]:
    members = vars(importlib.import_module(module))
    return {
        name: entry
        for name, entry in sorted(members.items())
        if inspect.isclass(entry) and issubclass(entry, members[base])
        if entry is not members[base] and not name.startswith("_")
    }


def _torch_resolver(kind: str, module: str, base: str, injected: str) -> Resolver:
    """Finds torch's own classes by their names there; torch is imported at the first look-up."""

    def names() -> list[str]:
        return list(_torch_classes(module, base))

    def get(name: str) -> type:
        classes = _torch_classes(module, base)
        if name in classes:
            return classes[name]
        close = close_names(str(name), list(classes))
        hint = f"did you mean {close}? " if close else ""
        raise UserError(f"unknown {kind} '{name}'; {hint}{module} has: {', '.join(classes)}")

    return Resolver(get, names, (injected,))


def _discriminators() -> Registry:
    from srtoolbox.archs.discriminators import DISCRIMINATOR_REGISTRY  # loads torch

    return DISCRIMINATOR_REGISTRY


RESOLVERS: dict[str, Resolver] = {
    "arch": resolver(registry.ARCH_REGISTRY),
    "dataset": resolver(registry.DATASET_REGISTRY),
    "discriminator": Resolver(
        lambda name: _discriminators().get(name), lambda: _discriminators().names()
    ),
    "loss": resolver(registry.LOSS_REGISTRY),
    "metric": resolver(registry.METRIC_REGISTRY),
    "model": resolver(registry.MODEL_REGISTRY),
    "optimizer": _torch_resolver("optimizer", "torch.optim", "Optimizer", "params"),
    "scheduler": _torch_resolver(
        "scheduler", "torch.optim.lr_scheduler", "LRScheduler", "optimizer"
    ),
}

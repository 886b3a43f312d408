"""Registries: the phone books in which every part of the toolbox is found by its name.

A component registers itself with a decorator::

    @ARCH_REGISTRY.register()              # known as "MyNet"
    class MyNet(nn.Module): ...

    @ARCH_REGISTRY.register("My-Net-v2")   # known under another name
    class MyNet2(nn.Module): ...

The parameters of a registered class's constructor are its options: they are what an option file
may say about it, and nothing else. For that reason constructors with ``**kwargs`` are refused.

This module imports neither torch nor any component. The package in which a registry's built-in
components live is imported at the first look-up.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from srtoolbox.errors import UserError

T = TypeVar("T")


class RegistryError(UserError):
    """A name that is not registered, or one that is registered twice."""


class Registry:
    """Maps names to classes of one kind.

    Args:
        kind: What is registered here, as messages call it (``"arch"``).
        home: Import path of the package with the built-in components, loaded at first look-up.
        injected: Constructor parameters that only the program can give; options must not name
            them.
    """

    def __init__(self, kind: str, home: str | None = None, injected: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.injected = injected
        self._home = home
        self._entries: dict[str, type] = {}

    def register(self, name: str | None = None) -> Callable[[type[T]], type[T]]:
        """Class decorator that enters a class under ``name`` (default: the class's own name).

        Raises:
            RegistryError: if the name is taken by another class (the registry stays as it was),
                or if the constructor takes ``*args`` or ``**kwargs``.
        """
        if name is not None and not isinstance(name, str):
            raise RegistryError(
                f"{self.kind} registry: register() needs its parentheses: @register() or "
                f"@register('name'), got {name!r}"
            )

        def add(cls: type[T]) -> type[T]:
            key = name or cls.__name__
            taken = self._entries.get(key)
            if taken is not None and not _same_definition(taken, cls):
                raise RegistryError(
                    f"{self.kind} '{key}' is registered twice: first at {_where(taken)}, "
                    f"again at {_where(cls)}; give one of them another name: register('…')"
                )
            for parameter in constructor_parameters(cls).values():
                if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    raise RegistryError(
                        f"{self.kind} '{key}' ({_where(cls)}): its constructor takes "
                        f"'{parameter}'; give it an __init__ that names every parameter, they "
                        "are the component's options"
                    )
            self._entries[key] = cls
            return cls

        return add

    def get(self, name: str) -> type:
        """The class registered under exactly ``name``.

        Raises:
            RegistryError: if there is none; the message lists close names, all names, and how
                to add one's own.
        """
        self._load_home()
        if name in self._entries:
            return self._entries[name]
        raise RegistryError(self.explain_miss(name))

    def explain_miss(self, name: object) -> str:
        """One line for a name that is not here: close names, all names, how to add one's own."""
        known = self.names()
        close = close_names(str(name), known)
        hint = f"did you mean {close}? " if close else ""
        return (
            f"unknown {self.kind} '{name}'; {hint}registered: {', '.join(known)}; "
            f"to use your own, decorate it with @{self.kind.upper()}_REGISTRY.register() and name "
            "its file under 'plugins:' in the option file"
        )

    def names(self) -> list[str]:
        """All registered names, sorted without regard to case."""
        self._load_home()
        return sorted(self._entries, key=str.lower)

    def __contains__(self, name: object) -> bool:
        self._load_home()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}, {self.names()})"

    def _load_home(self) -> None:
        if self._home is not None:
            importlib.import_module(self._home)


class TorchRegistry(Registry):
    """A registry that starts with the classes of a module of torch, under their names there.

    Args:
        kind: What is registered here.
        home: The module; torch is imported at the first look-up.
        base: Name of the class in it from which the others derive.
        injected: As for ``Registry``.
    """

    def __init__(self, kind: str, home: str, base: str, injected: tuple[str, ...]) -> None:
        super().__init__(kind, home, injected)
        self._base: str | None = base

    def _load_home(self) -> None:
        if self._base is None or self._home is None:
            return
        members = vars(importlib.import_module(self._home))
        base, self._base = members[self._base], None
        for name, entry in members.items():
            derived = inspect.isclass(entry) and issubclass(entry, base) and entry is not base
            if derived and not name.startswith("_"):
                self._entries.setdefault(name, entry)


def constructor_parameters(component: Any) -> dict[str, inspect.Parameter]:
    """The parameters by which a class or function is built, ``self`` left out."""
    target = component.__init__ if inspect.isclass(component) else component
    if target is object.__init__:
        return {}
    parameters = dict(inspect.signature(target).parameters)
    if inspect.isclass(component):
        parameters.pop(next(iter(parameters)))
    return parameters


def close_names(name: str, known: list[str]) -> str:
    """``"'EDSR' or 'EDVR'"``: the known names that look like ``name``; empty if none does."""
    folded: dict[str, list[str]] = {}
    for entry in known:
        folded.setdefault(_fold(entry), []).append(entry)
    matches = difflib.get_close_matches(_fold(name), list(folded), n=3, cutoff=0.6)
    return " or ".join(f"'{entry}'" for match in matches for entry in folded[match])


def _fold(name: str) -> str:
    """A name without what people mistype most: case, hyphens, underscores."""
    return name.lower().replace("-", "").replace("_", "")


def _same_definition(first: type, second: type) -> bool:
    """Whether two classes come from the same lines of code (a module that was loaded again)."""
    return _where(first) == _where(second) and first.__qualname__ == second.__qualname__


def _where(cls: type) -> str:
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):  # defined at a prompt or in an archive
        return f"{cls.__module__}.{cls.__qualname__}"


ARCH_REGISTRY = Registry("arch", "srtoolbox.archs")
DISCRIMINATOR_REGISTRY = Registry("discriminator", "srtoolbox.archs")
DATASET_REGISTRY = Registry("dataset", "srtoolbox.data")
LOSS_REGISTRY = Registry("loss", "srtoolbox.losses")
METRIC_REGISTRY = Registry("metric", "srtoolbox.metrics")
MODEL_REGISTRY = Registry("model", "srtoolbox.models")
FLOW_REGISTRY = Registry("flow", "srtoolbox.data")
"""Estimators of optical flow: classes without options, whose objects are called with two RGB images
(h, w, 3), uint8, and return the flow from the first to the second, (h, w, 2), in pixels."""
OPTIMIZER_REGISTRY = TorchRegistry("optimizer", "torch.optim", "Optimizer", ("params",))
SCHEDULER_REGISTRY = TorchRegistry(
    "scheduler", "torch.optim.lr_scheduler", "LRScheduler", ("optimizer",)
)

REGISTRIES: dict[str, Registry] = {
    registry.kind: registry
    for registry in (
        ARCH_REGISTRY,
        DATASET_REGISTRY,
        DISCRIMINATOR_REGISTRY,
        FLOW_REGISTRY,
        LOSS_REGISTRY,
        METRIC_REGISTRY,
        MODEL_REGISTRY,
        OPTIMIZER_REGISTRY,
        SCHEDULER_REGISTRY,
    )
}
"""All registries by kind. A plugin may add one of its own."""

"""Registries map names to the classes that option files may use.

A component registers itself with a decorator::

    @ARCH_REGISTRY.register()              # its name is "MyNet"
    class MyNet(nn.Module): ...

    @ARCH_REGISTRY.register("My-Net-v2")   # another name than the class
    class MyNet2(nn.Module): ...

The options of a component are the parameters of its constructor. Therefore constructors with
``*args`` or ``**kwargs`` are refused.

This module imports neither torch nor any component. A registry imports the package of its built-in
components at the first look-up.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from srtoolbox.errors import UserError

T = TypeVar("T")


class RegistryError(UserError):
    """An unknown name, a name that is registered twice, or a class that cannot be registered."""


class Registry:
    """Maps names to classes of one kind.

    Args:
        kind: Kind of the classes (``"arch"``), for messages and option files.
        home: Import path of the package with the built-in components.
        injected: Constructor parameters that only the program supplies; they are no options.
        own: Import path of a module of the toolbox that registers further classes.
    """

    def __init__(
        self,
        kind: str,
        home: str | None = None,
        injected: tuple[str, ...] = (),
        own: str | None = None,
    ) -> None:
        self.kind = kind
        self.injected = injected
        self._home, self._own = home, own
        self._entries: dict[str, type] = {}
        self._places: dict[str, tuple[str, int]] = {}  # files and lines that register them

    def register(self, name: str | None = None) -> Callable[[type[T]], type[T]]:
        """Returns a class decorator that registers a class.

        Args:
            name: Name of the class in option files; default: the name of the class.

        Raises:
            RegistryError: if another class has this name (the registry does not change), or if the
                constructor takes ``*args`` or ``**kwargs``.
        """
        if name is not None and not isinstance(name, str):
            raise RegistryError(
                f"{self.kind} registry: register() needs its parentheses: @register() or "
                f"@register('name'), got {name!r}"
            )

        def add(cls: type[T]) -> type[T]:
            key = name or cls.__name__
            caller = sys._getframe(1)  # differs between two classes of one name in a file
            place = caller.f_code.co_filename, caller.f_lineno
            taken, earlier = self._entries.get(key), self._places.get(key, place)
            if taken not in (None, cls) and not (earlier == place and _same_definition(taken, cls)):
                raise RegistryError(
                    f"{self.kind} '{key}' is registered twice: first at {_line(earlier)}, again "
                    f"at {_line(place)}; give one of them another name: register('…')"
                )
            for parameter in constructor_parameters(cls).values():
                if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    raise RegistryError(
                        f"{self.kind} '{key}' ({_where(cls)}): its constructor takes "
                        f"'{parameter}'; give it an __init__ that names every parameter, they "
                        "are the component's options"
                    )
            self._entries[key], self._places[key] = cls, place
            return cls

        return add

    def get(self, name: str) -> type:
        """Returns the class with exactly this name.

        Raises:
            RegistryError: if there is none; the message lists close names, all names, and how to
                register one's own class.
        """
        self._load_home()
        if name in self._entries:
            return self._entries[name]
        raise RegistryError(self.explain_miss(name))

    def explain_miss(self, name: object) -> str:
        """Returns the message for an unknown name; see ``get``."""
        known = self.names()
        close = close_names(str(name), known)
        hint = f"did you mean {close}? " if close else ""
        return (
            f"unknown {self.kind} '{name}'; {hint}registered: {', '.join(known)}; "
            f"to use your own, decorate it with @{self.kind.upper()}_REGISTRY.register() and name "
            "its file under 'plugins:' in the option file"
        )

    def names(self) -> list[str]:
        """Returns all names, sorted without regard to case."""
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
        for module in (self._home, self._own):
            if module is not None:
                importlib.import_module(module)


class TorchRegistry(Registry):
    """A registry that already has the classes of a module of torch.

    Args:
        kind: As for ``Registry``.
        home: The module; torch is imported at the first look-up.
        base: Name of the base class of these classes in the module.
        injected: As for ``Registry``.
        own: As for ``Registry``.
    """

    def __init__(
        self, kind: str, home: str, base: str, injected: tuple[str, ...], own: str | None = None
    ) -> None:
        super().__init__(kind, home, injected, own)
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
        if self._own is not None:
            importlib.import_module(self._own)


def constructor_parameters(component: Any) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a function, or of a class's constructor without ``self``."""
    target = component.__init__ if inspect.isclass(component) else component
    if target is object.__init__:
        return {}
    parameters = dict(inspect.signature(target).parameters)
    if inspect.isclass(component):
        parameters.pop(next(iter(parameters)))
    return parameters


def close_names(name: str, known: list[str]) -> str:
    """Returns the known names similar to ``name``: ``"'EDSR' or 'EDVR'"``; empty if none is."""
    folded: dict[str, list[str]] = {}
    for entry in known:
        folded.setdefault(_fold(entry), []).append(entry)
    matches = difflib.get_close_matches(_fold(name), list(folded), n=3, cutoff=0.6)
    return " or ".join(f"'{entry}'" for match in matches for entry in folded[match])


def _fold(name: str) -> str:
    """Returns a name without case, hyphens and underscores, which are mistyped most often."""
    return name.lower().replace("-", "").replace("_", "")


def _same_definition(first: type, second: type) -> bool:
    """Returns whether two classes have the same source lines (a module that was loaded again)."""
    return _where(first) == _where(second) and first.__qualname__ == second.__qualname__


def _line(place: tuple[str, int]) -> str:
    return f"{place[0]}:{place[1]}"


def _where(cls: type) -> str:
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):  # defined at a prompt or in an archive
        return f"{cls.__module__}.{cls.__qualname__}"


ARCH_REGISTRY = Registry("arch", "srtoolbox.archs", own="srtoolbox.engine.weights.spandrel_arch")
DISCRIMINATOR_REGISTRY = Registry("discriminator", "srtoolbox.archs")
DATASET_REGISTRY = Registry("dataset", "srtoolbox.data")
DEGRADATION_REGISTRY = Registry("degradation", "srtoolbox.data")
"""Degradations that make LR images: see ``srtoolbox.data.degradations.blind.Degradation``."""
LOSS_REGISTRY = Registry("loss", "srtoolbox.losses")
LOGGER_REGISTRY = Registry("logger", "srtoolbox.engine.training.trackers")
METRIC_REGISTRY = Registry("metric", "srtoolbox.metrics")
MODEL_REGISTRY = Registry("model", "srtoolbox.models")
FLOW_REGISTRY = Registry("flow", "srtoolbox.data")
"""Estimators of optical flow: classes without options. An object is called with two RGB images
(h, w, 3), uint8, and returns the flow from the first to the second, (h, w, 2), in pixels."""
OPTIMIZER_REGISTRY = TorchRegistry("optimizer", "torch.optim", "Optimizer", ("params",))
SCHEDULER_REGISTRY = TorchRegistry(
    "scheduler",
    "torch.optim.lr_scheduler",
    "LRScheduler",
    ("optimizer",),
    own="srtoolbox.engine.training.schedulers",
)

REGISTRIES: dict[str, Registry] = {
    registry.kind: registry
    for registry in (
        ARCH_REGISTRY,
        DATASET_REGISTRY,
        DEGRADATION_REGISTRY,
        DISCRIMINATOR_REGISTRY,
        FLOW_REGISTRY,
        LOGGER_REGISTRY,
        LOSS_REGISTRY,
        METRIC_REGISTRY,
        MODEL_REGISTRY,
        OPTIMIZER_REGISTRY,
        SCHEDULER_REGISTRY,
    )
}
"""All registries by kind. A plugin may add another one."""

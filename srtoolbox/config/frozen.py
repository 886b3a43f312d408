"""Options that cannot be changed after they were read, at any depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import addict


def freeze(value: Any) -> Any:
    """Returns a read-only copy of a mapping, list or tuple; other values are returned unchanged.

    Keys of a frozen mapping are also attributes: ``opt.train.lr`` or ``opt["train"]["lr"]``.
    """
    if isinstance(value, Mapping):
        return FrozenDict(value)
    if isinstance(value, list):
        return FrozenList(freeze(entry) for entry in value)
    if isinstance(value, tuple):
        return tuple(freeze(entry) for entry in value)
    return value


def thaw(value: Any) -> Any:
    """Returns a copy of a frozen value that can be changed; other values are returned unchanged."""
    if isinstance(value, FrozenDict):
        return {key: thaw(entry) for key, entry in value.items()}
    if isinstance(value, FrozenList):
        return [thaw(entry) for entry in value]
    return value


def _refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise TypeError(
        "options are frozen; srtoolbox.config.frozen.thaw(options) returns a copy you may change"
    )


class FrozenList(list):
    """A list that cannot be changed."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[type, tuple[list]]:
        return FrozenList, (list(self),)


class FrozenDict(addict.Dict):
    """An ``addict.Dict`` that cannot be changed, at every depth.

    A frozen ``addict.Dict`` still allows existing keys to be overwritten and deleted. A missing key
    raises ``KeyError`` for an item and ``AttributeError`` for an attribute.
    """

    def __init__(self, content: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        dict.update(self, {key: freeze(value) for key, value in (content or {}).items()})
        self.freeze()

    def __missing__(self, name: str) -> Any:
        raise KeyError(f"no option '{name}' here; there are: {', '.join(self)}")

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __reduce__(self) -> tuple[type, tuple[dict]]:
        return FrozenDict, (dict(self),)

    def __deepcopy__(self, memo: dict) -> FrozenDict:
        return self

    __setitem__ = __delitem__ = __setattr__ = __delattr__ = __ior__ = _refuse
    update = pop = popitem = clear = setdefault = unfreeze = _refuse

"""Turns the ``sweep`` of a study into methods: one for each combination of the values."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from srtoolbox.config.files import merge, plain
from srtoolbox.config.schema import OptionErrors, check
from srtoolbox.config.yaml import DELETE, MAX_DEPTH, TOO_DEEP, Items, Tree
from srtoolbox.registry import close_names

_KEY = "sweep"
_MAX_METHODS = 256  # of one sweep


def expand_sweep(tree: Tree, section: type) -> None:
    """Replaces each method of ``sweep`` by one method per combination of the values, in place.

    ``sweep: {EDSR: {train.optim_g.lr: [1e-4, 2e-4], network_g.num_feat: [16, 32]}}`` replaces the
    method ``EDSR`` by ``EDSR lr=1e-4 num_feat=16``, ``EDSR lr=1e-4 num_feat=32``, … The last key
    varies fastest. Each value has the place of its line in the file, so that a fault names it.

    Args:
        tree: The options of a study; afterwards it has no ``sweep``.
        section: Class of the options of a method.

    Raises:
        OptionErrors: if a method is unknown, if a value is no list, or if an option of a method
            does not exist or does not accept a value.
    """
    sweep, methods = tree.get(_KEY), tree.get("methods")
    if not isinstance(sweep, Tree) or not isinstance(methods, Tree):
        return  # missing, or the check of all options names the fault
    expansion = _Expansion(methods, section)
    for method, axes in sweep.items():
        expansion.add(method, axes, sweep.marks[method])
    if expansion.errors:
        raise OptionErrors(list(dict.fromkeys(expansion.errors)))
    tree.put("methods", expansion.methods(), tree.marks["methods"])
    tree.remove(_KEY)


class _Expansion:
    """Collects the methods that replace others, and the faults.

    Args:
        methods: The methods of the study.
        section: Class of the options of a method.
    """

    def __init__(self, methods: Tree, section: type) -> None:
        self.errors: list[str] = []
        self._methods, self._section = methods, section
        self._made: dict[str, dict[str, Tree]] = {}  # by the method that they replace

    def add(self, method: str, axes: Any, where: str) -> None:
        """Makes the methods that replace ``method``."""
        path = f"{_KEY}.{method}"
        if method not in self._methods:
            hint = _hint(method, self._methods)
            self.errors.append(f"{where}: {path}: no such method; {hint}")
            return
        base = self._methods[method]
        if not isinstance(base, Tree) or not isinstance(axes, Tree):
            if isinstance(base, Tree):
                text = "expected a mapping from options to lists of values"
                self.errors.append(f"{where}: {path}: {text}")
            return
        before = len(self.errors)
        found: dict[str, Any] = {}
        for key, values in _axes(axes):  # of equal keys, dotted and nested, the last one counts
            if other := next((k for k in found if k.startswith(f"{key}.")), None):
                text = f"would replace {other}; write {other} below it"
                self.errors.append(f"{_place(axes, key)}: {path}.{key}: {text}")
            found[key] = values
        for key, values in found.items():
            self._check_axis(base, key, values, f"{_place(axes, key)}: {path}.{key}")
        if not found:
            self.errors.append(f"{where}: {path}: name at least one option with its values")
        count = math.prod(len(values) for values in found.values() if isinstance(values, Items))
        if count > _MAX_METHODS:
            text = f"gives {count} methods; at most {_MAX_METHODS} are allowed"
            self.errors.append(f"{where}: {path}: {text}")
        if len(self.errors) > before:
            return
        labels = dict(zip(found, _labels(list(found)), strict=True))
        made: dict[str, Tree] = {}
        for numbers in product(*(range(len(values)) for values in found.values())):
            name, changed = method, base
            for (key, values), number in zip(found.items(), numbers, strict=True):
                name += f" {labels[key]}={_value_name(values, number)}"
                changed = merge(changed, _overlay(key, values[number], values.marks[number]))
            if name in made or name in self._methods:
                self.errors.append(f"{where}: {path}: there are two methods '{name}'; rename one")
            made[name] = changed
        self._made[method] = made

    def methods(self) -> Tree:
        """Returns all methods; those of a sweep are in the place of the method they replace."""
        result = Tree(self._methods.where)
        for method, base in self._methods.items():
            for name, changed in self._made.get(method, {method: base}).items():
                result.put(name, changed, self._methods.marks[method])
        return result

    def _check_axis(self, base: Tree, key: str, values: Any, place: str) -> None:
        """Checks that the values are a list of different ones which the method accepts."""
        if not isinstance(values, Items):
            self.errors.append(f"{place}: expected a list of values, got {_short(values)}")
            return
        if key.count(".") >= MAX_DEPTH:
            self.errors.append(f"{place[:200]}…: {TOO_DEEP}")
            return
        if not values:
            self.errors.append(f"{place}: name at least one value")
        texts = [
            json.dumps(_numbers(plain(value)), sort_keys=True, default=str) for value in values
        ]
        for text in (text for text, count in Counter(texts).items() if count > 1):
            self.errors.append(f"{place}: {_short(text)} is listed twice")
        for value, mark in zip(values, values.marks, strict=True):
            try:
                check(merge(base, _overlay(key, value, mark)), self._section)
            except OptionErrors as error:
                self.errors += error.errors


def _numbers(value: Any) -> Any:
    """Returns a value in which equal numbers are written in the same way: 1.0 as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _numbers(entry) for key, entry in value.items()}
    return [_numbers(entry) for entry in value] if isinstance(value, list | tuple) else value


def _axes(node: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted keys of a sweep with their lists; keys may be nested or dotted."""
    for key, value in node.items():
        if isinstance(value, Tree) and value:
            yield from _axes(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _place(axes: Tree, key: str) -> str:
    """Returns file and line of a dotted key of a sweep."""
    for own, value in axes.items():
        if own == key:
            return axes.marks[own]
        if isinstance(value, Tree) and key.startswith(f"{own}."):
            return _place(value, key[len(own) + 1 :])
    return axes.where


def _overlay(key: str, value: Any, mark: str) -> Tree:
    """Returns ``{a: {b: value}}`` for ``a.b``, all at one place."""
    first, _, rest = key.partition(".")
    tree = Tree(mark)
    tree.put(first, _overlay(rest, value, mark) if rest else value, mark)
    return tree


def _labels(keys: list[str]) -> list[str]:
    """Returns the shortest ends of dotted keys that differ: ``lr`` for ``train.optim_g.lr``."""

    def end(key: str, length: int) -> str:
        return ".".join(key.split(".")[-length:])

    labels = []
    for key in keys:
        lengths = range(1, key.count(".") + 2)
        others = [other for other in keys if other != key]
        unique = (n for n in lengths if end(key, n) not in [end(other, n) for other in others])
        labels.append(end(key, next(unique, len(lengths))))
    return labels


def _value_name(values: Items, number: int) -> str:
    """Returns a value for the name of a method; a component is named by its type."""
    value = values[number]
    if isinstance(value, Mapping):
        kinds = [entry.get("type") for entry in values if isinstance(entry, Mapping)]
        kind = value.get("type")
        return str(kind) if kind and kinds.count(kind) == 1 else str(number + 1)
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar_name, value)) + "]"
    return _scalar_name(value)


def _scalar_name(value: Any) -> str:
    """Returns a scalar as in YAML; of the ways to write a float, the shortest."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and math.isfinite(value) and value:
        digits = len(repr(value).partition("e")[0].replace(".", "").strip("-0")) or 1
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return min(repr(value), f"{mantissa}e{int(exponent)}", key=len)
    return str(value).replace("/", "_").replace("\\", "_")


def _hint(name: str, known: Mapping[str, Any]) -> str:
    close = close_names(name, list(known))
    return f"did you mean {close}?" if close else f"there are: {', '.join(known)}"


def _short(value: Any) -> str:
    text = "!delete" if value is DELETE else str(plain(value))
    return text if len(text) <= 60 else f"{text[:60]}…"

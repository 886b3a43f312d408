"""Takes the keys of an option file one by one, and notes those that are not translated as they are.

Each key is taken once; ``Section.finish`` names what nobody took. So no key is dropped silently.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from srtoolbox.config.yaml import Tree
from srtoolbox.errors import UserError

_OLD_NAMES = {
    "use_flip": "use_hflip",
    "pretrain_model_g": "pretrain_network_g",
    "strict_load": "strict_load_g",
    "niter": "total_iter",
}
"""Names of 2020 and their later ones; both are read."""

_LOADER = "samples are drawn by seed and step, without epochs or a queue"
LAUNCH = "torchrun starts the processes (docs/training.md)"
OTHER_PHASE = "BasicSR uses it in training only"

# Keys without an equivalent that change no result, and the reason.
_UNNEEDED = {
    "dist_params": LAUNCH,
    "find_unused_parameters": LAUNCH,
    "gpu_ids": LAUNCH,
    "set_CUDA_VISIBLE_DEVICES": LAUNCH,
    "use_shuffle": _LOADER,
    "dataset_enlarge_ratio": _LOADER,
    "prefetch_mode": _LOADER,
    "num_prefetch_queue": _LOADER,
    "pin_memory": _LOADER,
    "persistent_workers": _LOADER,
    "cache_data": "test frames are read when they are needed",
    "test_mode": "the key of the dataset (train, val, test) says it",
    "better": "the metric knows whether higher is better",
    "pbar": "the terminal decides whether a progress bar is shown",
    "use_pbar": "the terminal decides whether a progress bar is shown",
    "input_order": "images have one order of axes here",
    "print_network": "`srtoolbox show arch` describes a network",
}


@dataclass(frozen=True)
class Note:
    """A key that was not translated one to one.

    Attributes:
        kind: "lost": it cannot be translated; "differs": it was, and behaves differently;
            "unneeded": nothing here needs it.
        place: File and line.
        key: The key in BasicSR's file, dotted.
        text: The reason, and for "lost" what to do instead.
    """

    kind: Literal["lost", "differs", "unneeded"]
    place: str
    key: str
    text: str

    def __str__(self) -> str:
        prefix = {"lost": "cannot be translated: ", "differs": "", "unneeded": "not needed: "}
        return one_line(f"{self.place}: {self.key}: {prefix[self.kind]}{self.text}")


class Section:
    """A mapping of the input whose keys are taken one after another.

    Args:
        tree: The mapping.
        path: Its dotted path.
        notes: Receives the notes.
    """

    def __init__(self, tree: Tree, path: str, notes: list[Note]) -> None:
        self.tree, self.path, self.notes = tree, path, notes
        self.left = dict.fromkeys(tree)  # keys that nobody took, in the order of the file
        for old, new in _OLD_NAMES.items():
            if old in tree and new in tree:
                self.fault(old, f"{new} is its later name; remove one of them")

    def __contains__(self, key: str) -> bool:
        return key in self.left

    def name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def place(self, key: str) -> str:
        return self.tree.marks.get(key, self.tree.where)

    def fault(self, key: str, text: str) -> NoReturn:
        """Raises a UserError for a key."""
        raise UserError(one_line(f"{self.place(key)}: {self.name(key)}: {text}"))

    def note(self, kind: Literal["lost", "differs", "unneeded"], key: str, text: str) -> None:
        self.notes.append(Note(kind, self.place(key), self.name(key), text))

    def take(self, key: str, default: Any = None) -> Any:
        """Returns the value of a key, which counts as translated; the default if it is absent.

        A key that is null stays; ``finish`` names it.
        """
        for name in (key, *(old for old, new in _OLD_NAMES.items() if new == key)):
            if name in self.left:
                if self.tree[name] is not None:
                    del self.left[name]
                return self.tree[name]
        return default

    def move(self, key: str, target: Tree, name: str = "", integer: bool = False) -> None:
        """Puts the value of a key, if it is there and not null, into ``target``."""
        mark = self._mark(key)
        value = self.take_integer(key) if integer else self.take(key)
        if value is not None:
            target.put(name or key, value, mark)

    def take_integer(self, key: str, default: int | None = None) -> int | None:
        """Returns a whole number, which may be written as 5e3."""
        mark, value = self._mark(key), self.take(key)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(
                one_line(f"{mark}: {self.name(key)}: expected a whole number, got {shown(value)}")
            )
        return value

    def take_section(self, key: str, required: bool = False) -> Section | None:
        """Returns a mapping; None if it is absent or null."""
        value = self.take(key)
        if value is None and not required:
            return None
        if not isinstance(value, Tree):
            got = "nothing" if value is None else shown(value)
            self.fault(key, f"expected a mapping, as in option files of BasicSR, got {got}")
        return Section(value, self.name(key), self.notes)

    def take_type(self, kind: str, known: Collection[str], advice: str = "") -> str:
        """Returns the ``type`` of a component, which must be one of ``known``."""
        name = self.take("type")
        if not isinstance(name, str) or name not in known:
            advice = advice or f"only {', '.join(known)} can be translated"
            self.fault("type", f"srtoolbox has no {kind} {shown(name)}; {advice}")
        return name

    def finish(self, reasons: Mapping[Any, str] | None = None) -> None:
        """Names all keys that nobody took.

        Args:
            reasons: Reasons why keys are not needed, besides those of ``_UNNEEDED``.
        """
        reasons = {**_UNNEEDED, **(reasons or {})}
        for key in self.left:
            if key in reasons:
                self.note("unneeded", key, reasons[key])
            elif _is_unset(self.tree[key]):
                self.note("unneeded", key, "not set")
            else:
                self.note("lost", key, "srtoolbox has no such option; compare with docs/options.md")
        self.left.clear()

    def _mark(self, key: str) -> str:
        names = (key, *(old for old, new in _OLD_NAMES.items() if new == key))
        return self.place(next((name for name in names if name in self.tree), key))


def _is_unset(value: Any) -> bool:
    """Returns whether a value is null, or a mapping of such values."""
    return value is None or (isinstance(value, Mapping) and all(map(_is_unset, value.values())))


def shown(value: Any) -> str:
    """Returns a value as messages show it: one short line."""
    if value is None:
        return "null"
    if isinstance(value, Mapping | list):
        kind = "mapping" if isinstance(value, Mapping) else "list"
        return f"a {kind}" if kind == "mapping" or len(value) > 8 else f"{list(value)}"
    return textwrap.shorten(repr(value), 60, placeholder="…")


def one_line(text: str) -> str:
    """Returns text on one line, with escapes for what cannot be printed."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)

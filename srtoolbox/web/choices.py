"""The weights that can be chosen on the page, and the networks that are in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import nn

from srtoolbox.errors import UserError
from srtoolbox.upscaling.networks import find_file, load_networks
from srtoolbox.upscaling.waifu2x import STYLES
from srtoolbox.upscaling.weights import SCALES, path_of
from srtoolbox.utils.files import user_path

_LEVELS = (None, 0, 1, 2, 3)
_MAX_NETWORKS = 3  # that stay in memory


@dataclass(frozen=True)
class Choice:
    """Weights that can be chosen.

    Args:
        name: Unique name.
        entry: As for ``load_networks``.
        network: Class of the network.
        scale: Its factor.
        params: Number of its parameters; 0: not known, as for ONNX files.
        levels: Denoising levels; None among them: without denoising.
    """

    name: str
    entry: str
    network: str
    scale: int
    params: int
    levels: tuple[int | None, ...] = (None,)


class Choices:
    """Loads networks by the names of their weights; the last few stay in memory.

    Args:
        weights: Weight files, folders with denoising levels, and names as for ``srtoolbox
            upscale --weights``. None: the package's own weights.

    Raises:
        UserError: if one of them cannot be loaded.
    """

    def __init__(self, weights: Sequence[str] = ()) -> None:
        self._loaded: OrderedDict[tuple[str, int | None], list[nn.Module]] = OrderedDict()
        self._choices: dict[str, Choice] = {}
        given = list(dict.fromkeys(weights))
        entries = given or [str(path_of(scale)) for scale in SCALES]
        for name, entry in zip(_names(given), entries, strict=True):
            levels = _levels(entry)
            nets = load_networks([entry], None, levels[0])
            params = sum(p.numel() for net in nets for p in net.parameters())
            network, scale = type(nets[0]).__name__, cast(int, nets[0].scale)
            self._choices[name] = Choice(name, entry, network, scale, params, levels)
            self._keep((name, levels[0]), nets)

    @property
    def names(self) -> list[str]:
        """All names, in the order in which they were given."""
        return list(self._choices)

    @property
    def variants(self) -> list[tuple[str, int | None]]:
        """All names with each of their denoising levels."""
        return [(name, level) for name in self.names for level in self[name].levels]

    def __getitem__(self, name: str) -> Choice:
        """Returns the weights of a name.

        Raises:
            UserError: if there are none.
        """
        if name not in self._choices:
            raise UserError(f"weights: {name!r} is not among those of this page")
        return self._choices[name]

    def networks(self, name: str, level: int | None = None) -> list[nn.Module]:
        """Returns the networks of weights, from memory if they are there.

        Args:
            name: One of ``names``.
            level: Denoising level; None: without, or the first if all weights denoise.

        Raises:
            UserError: if there are no such weights, or they lack this level.
        """
        choice = self[name]
        if level is None and None not in choice.levels:
            level = choice.levels[0]
        key = (name, level)
        if key not in self._loaded:
            self._keep(key, load_networks([choice.entry], None, level))
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def _keep(self, key: tuple[str, int | None], nets: list[nn.Module]) -> None:
        self._loaded[key] = nets
        while len(self._loaded) > _MAX_NETWORKS:
            self._loaded.popitem(last=False)


def _names(weights: Sequence[str]) -> list[str]:
    """Returns unique short names of weights."""
    if not weights:
        return [f"srtoolbox ×{scale}" for scale in SCALES]
    names: list[str] = []
    for entry in weights:
        path = Path(entry)
        name = entry if entry in STYLES else path.name if path.is_dir() else path.stem
        name = name or entry
        if name in names and path.parent.name:
            name = f"{path.parent.name}/{name}"
        base, number = name, 2
        while name in names:
            name, number = f"{base} ({number})", number + 1
        names.append(name)
    return names


def _levels(entry: str) -> tuple[int | None, ...]:
    """Returns the denoising levels of weights."""
    if entry in STYLES:
        return _LEVELS
    path = user_path(entry, "--weights ")
    if not path.is_dir():
        return (None,)
    found = []
    for level in _LEVELS:
        try:
            find_file(path, level)
        except UserError:
            continue
        found.append(level)
    return tuple(found) or (None,)

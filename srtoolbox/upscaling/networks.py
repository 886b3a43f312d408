"""Finds and loads the networks of ``srtoolbox upscale``: files, folders with denoising levels, and
the weights that the package brings."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from srtoolbox.config.files import read
from srtoolbox.config.schema import build
from srtoolbox.engine.onnx_model import SUFFIX as ONNX_SUFFIX
from srtoolbox.engine.onnx_model import load_onnx
from srtoolbox.engine.weights.convert import network_options
from srtoolbox.engine.weights.load import read_weights
from srtoolbox.errors import UserError
from srtoolbox.upscaling import waifu2x
from srtoolbox.upscaling.weights import SCALES, path_of
from srtoolbox.utils.files import user_path

_log = logging.getLogger("srtoolbox")

_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".onnx")
_LEVEL = re.compile(r"(?:noise|denoise)[_-]?(\d)", re.IGNORECASE)


def load_networks(
    weights: Sequence[str | Path],
    outscale: float | None = None,
    denoise: int | None = None,
    arch: str | None = None,
    overrides: Sequence[str] = (),
) -> list[nn.Module]:
    """Loads the networks of a chain, in order.

    Args:
        weights: For each network a weight file, a folder with one file per denoising level, or the
            name ``waifu2x-photo`` or ``waifu2x-art``. None: the package's own weights.
        outscale: Factor that the user wants; it chooses among the package's own weights.
        denoise: Denoising level of the first entry, 0 to 3.
        arch: Name of the arch of the first entry, if its file does not contain it.
        overrides: Options of this arch, such as ``"branch=2"``.

    Raises:
        UserError: if there is no such file, it is no network, or it has no such level.
    """
    if (arch is not None or overrides) and (not weights or str(weights[0]) in waifu2x.STYLES):
        raise UserError("--arch and --set: need --weights with a weight file")
    if not weights:
        if denoise is not None:
            raise UserError(
                "--denoise: the package's own weights have no denoising levels; use --weights "
                "waifu2x-photo, or a folder with files of several levels"
            )
        return [load_network(path_of(_own_scale(outscale)))]
    nets = []
    for place, entry in enumerate(weights):
        level = denoise if place == 0 else None
        if str(entry) in waifu2x.STYLES:
            nets.append(waifu2x.load_waifu2x(str(entry), level))
        else:
            path = find_file(user_path(entry, "--weights "), level)
            own = place == 0
            nets.append(load_network(path, arch if own else None, overrides if own else ()))
    return nets


def load_network(path: Path, arch: str | None = None, overrides: Sequence[str] = ()) -> nn.Module:
    """Loads the network of a weight file, or of an ONNX file of ``srtoolbox export``.

    If the file does not contain its arch, the arch is found by the names and shapes of its tensors,
    and logged, because other options than those that shapes show have their defaults.

    Args:
        path: The file.
        arch: Name of the arch, if the file does not contain it.
        overrides: Options of the arch, such as ``"branch=2"``.

    Raises:
        UserError: if the file cannot be read, or its network is not known.
    """
    if path.suffix.lower() == ONNX_SUFFIX:
        if arch is not None or overrides:
            raise UserError(f"{path}: the network of an ONNX file cannot be changed by --set")
        return load_onnx(path)
    file = read_weights(path)
    if file.arch is None and arch is None and not file.keras:
        found = file.guessed_arch(read(None, overrides).get("scale"))
        if found is not None:
            file = replace(file, arch=found)
            _log.warning(
                "%s: does not contain its arch; its tensors fit %s, other options have their "
                "defaults or the values of --set",
                *(path, _text(found)),
            )
    net = build("arch", network_options(file, arch, overrides))
    _log.debug("%s", file.load_into(net))
    net.pixel_facts = file.pixels
    return net.eval()


def find_file(path: Path, level: int | None) -> Path:
    """Returns the weight file of a denoising level.

    Args:
        path: A weight file, or a folder whose files have their level in their names, such as
            ``photo_noise2.safetensors``, and none for the network that does not denoise.
        level: The level; None: the file without a level.

    Raises:
        UserError: if there is none, or there are several.
    """
    if not path.is_dir():
        found = _LEVEL.search(path.name)
        own = int(found[1]) if found else None
        if level is not None and own != level:
            raise UserError(
                f"--denoise {level}: {path} is one file"
                + (f" of level {own}" if own is not None else " without a denoising level")
                + "; give the folder with the files of all levels"
            )
        return path
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in _WEIGHT_SUFFIXES)
    levels: dict[int | None, list[Path]] = {}
    for file in files:
        found = _LEVEL.search(file.name)
        levels.setdefault(int(found[1]) if found else None, []).append(file)
    fitting = levels.get(level, [])
    if len(fitting) == 1:
        return fitting[0]
    what = "without a denoising level" if level is None else f"of denoising level {level}"
    if not fitting:
        there = ", ".join(sorted(str(own) for own in levels if own is not None)) or "none"
        raise UserError(f"{path}: has no weight file {what}; levels there: {there}")
    names = ", ".join(file.name for file in fitting[:3])
    raise UserError(f"{path}: has {len(fitting)} weight files {what} ({names}); give one of them")


def _own_scale(outscale: float | None) -> int:
    """Returns the scale of the package's own weights: the smallest that reaches ``outscale``."""
    if outscale is None:
        return max(SCALES)
    return next((scale for scale in SCALES if scale >= outscale), max(SCALES))


def _text(arch: dict[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in arch.items() if key != "type")
    return f"{arch['type']} ({options})"

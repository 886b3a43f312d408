"""Describes the network of a weight file, for `srtoolbox show weights FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from srtoolbox.archs.base import arch_info, channels_text
from srtoolbox.config.schema import build
from srtoolbox.engine.weights.load import read_weights, weights_hash
from srtoolbox.engine.weights.pixels import PixelFacts
from srtoolbox.engine.weights.spandrel_arch import Spandrel
from srtoolbox.errors import UserError


def describe_weights(path: Path) -> list[str]:
    """Returns lines on arch, scale, channels and input sizes of the network of a weight file.

    Raises:
        UserError: if the file cannot be read, or its network is not known.
    """
    file = read_weights(path)
    if file.keras:
        raise UserError(
            f"{path}: an HDF5 file of Keras does not contain its arch; it is for ISR_RDN or "
            "ISR_RRDN"
        )
    arch, source = file.arch, "the file contains its name"
    if arch is None:
        arch, source = file.guessed_arch(), "found by the names and shapes of its tensors"
    arch = dict(file.require_arch()) if arch is None else arch
    net = build("arch", arch)
    line = file.load_into(net)
    if isinstance(net, Spandrel):
        lines = net.describe()
    else:
        lines = [f"arch: {_options(arch)}; {source}", *_requirements(net), line]
    if file.pixels != PixelFacts():
        lines.append(f"pixels of the training data: {file.pixels.describe()}")
    count = sum(parameter.numel() for parameter in net.parameters())
    return [*lines, f"parameters: {count:,}; hash of the weights: {weights_hash(net)}"]


def _options(arch: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key}: {value}" for key, value in arch.items() if key != "type")
    return f"{arch['type']} ({options})" if options else arch["type"]


def _requirements(net: nn.Module) -> list[str]:
    info = arch_info(net)
    frames = {1: "one image", None: "any number of frames"}.get(
        info.num_frame, f"{info.num_frame} frames"
    )
    sizes = f"from {info.min_size} pixels, multiples of {info.size_multiple}"
    free = (info.min_size, info.size_multiple) == (1, 1)
    return [
        f"paper: {info.paper}",
        f"input: {frames}; scale: x{net.scale}; channels: {channels_text(net)}",
        f"input sizes: {'any' if free else f'{sizes} (others are padded)'}",
    ]

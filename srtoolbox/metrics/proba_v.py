"""The score of ESA's PROBA-V super-resolution challenge.

M. Märtens, D. Izzo, A. Krzic, D. Cox, "Super-resolution of PROBA-V images using convolutional
neural networks", Astrodynamics 2019. The challenge's page has the same rule: kelvins.esa.int,
"PROBA-V Super Resolution", section "Scoring".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.metrics.base import Metric
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.metrics.psnr import psnr_of
from srtoolbox.registry import METRIC_REGISTRY
from srtoolbox.utils.files import check_regular, user_path

_FULL = 65535  # the challenge divides its 16-bit values by it


@METRIC_REGISTRY.register()
class CPSNR(Metric):
    """PSNR of the clear pixels, without the difference in brightness, for the best shift.

    From below 0 dB to infinity; higher is better; in dB. It is the rule of the PROBA-V challenge:

    1. ``shift`` pixels are cropped from every side of the result SR. The ground truth HR is cut to
       the same size at each of the (2 · ``shift`` + 1)² positions (u, v).
    2. b = mean of HR(u, v) - SR over the clear pixels of HR(u, v), for each band.
    3. cMSE = mean of (HR(u, v) - SR - b)² over the clear pixels and all bands.
    4. The value is the largest -10 log10 cMSE over all positions, for intensities in [0, 1].

    Clear pixels are the valid ones of the mask; without a mask all are clear. The mask belongs to
    HR, so at other positions a pixel of SR may count that is masked at its own place. The protocol
    crops first; ``probav`` crops and rounds nothing. Märtens et al., Astrodynamics 2019.

    Args:
        shift: Largest shift in pixels along each axis.
        white_level: The dataset's ``white_level``, if it has one (black level 0). The challenge's
            intensities are 16-bit values divided by 65535, although the images have 14 bits; values
            that a white level of 16383 enlarged are reduced again.

    Raises:
        UserError: if ``shift`` is negative, or ``white_level`` is not from 1 to 65535.
    """

    higher_is_better = True
    unit = "dB"
    digits = 2
    paper = "Märtens et al., Astrodynamics 2019"
    takes_mask = True

    def __init__(self, shift: int = 3, white_level: int | None = None) -> None:
        name = type(self).__name__
        if shift < 0:
            raise UserError(f"{name}: shift must be at least 0, got {shift}")
        if white_level is not None and not 1 <= white_level <= _FULL:
            raise UserError(f"{name}: white_level must be from 1 to {_FULL}, got {white_level}")
        self.shift = shift
        self.white_level = white_level

    def min_size(self, protocol: Protocol) -> int:
        return 2 * self.shift + 1

    def score(
        self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int, mask: Tensor | None = None
    ) -> float:
        x, y = (protocol.prepare_spectrum(image, scale) / 255 for image in (sr, gt))
        protocol.check_size(f"{type(self).__name__}:", self.min_size(protocol), x, sr)
        height, width = (side - 2 * self.shift for side in x.shape[1:])
        x = x[:, self.shift : self.shift + height, self.shift : self.shift + width]
        errors = []
        for u in range(2 * self.shift + 1):  # all v at once; all (u, v) would need much memory
            rows = y[:, u : u + height].unfold(2, width, 1).transpose(1, 2)  # (C, v, h, w)
            clear = None
            if mask is not None:
                clear = mask[:, u : u + height].unfold(2, width, 1).transpose(1, 2)
            errors.append(_clear_errors(rows - x[:, None], clear))
        least = torch.cat(errors).min().item()  # NaN if one is
        if math.isinf(least):
            raise self._nothing_left("pixel")
        level = _FULL if self.white_level is None else self.white_level
        return psnr_of(least, _FULL / level)


def _clear_errors(difference: Tensor, clear: Tensor | None) -> Tensor:
    """Returns cMSE at each position (V,); infinite if no pixel is clear there.

    Args:
        difference: HR - SR (C, V, h, w) at V positions.
        clear: Clear pixels (1, V, h, w), bool; None: all.
    """
    if clear is None:
        bias = difference.mean(dim=(2, 3), keepdim=True)
        return (difference - bias).square().mean(dim=(0, 2, 3))
    number = clear.sum(dim=(2, 3), keepdim=True).double()
    bias = difference.masked_fill(~clear, 0).sum(dim=(2, 3), keepdim=True) / number
    error = (difference - bias).masked_fill(~clear, 0).square().sum(dim=(2, 3)) / number[..., 0, 0]
    return error.mean(0).masked_fill(number[0, :, 0, 0] == 0, math.inf)


@METRIC_REGISTRY.register()
class ProbaVScore(CPSNR):
    """Score of the PROBA-V challenge: cPSNR of its baseline divided by the cPSNR of the result.

    From 0 (identical images) to infinity; lower is better; below 1 it is better than the baseline;
    no unit. The mean over the scenes is the score of the challenge. A cPSNR of 0 dB or less gives
    infinity. Märtens et al., Astrodynamics 2019.

    Args:
        norm: The dataset's file ``norm.csv``: a line for each scene with its name and the cPSNR of
            its baseline. A scene is found if its name is part of the image's key, such as
            ``imgset0594`` or ``RED/imgset0594``.
        shift: As of ``CPSNR``.
        white_level: As of ``CPSNR``.

    Raises:
        UserError: if ``norm`` cannot be read, an image is not in it, or as ``CPSNR``.
    """

    higher_is_better = False
    unit = ""
    digits = 5
    needs_key = True

    def __init__(self, norm: Path, shift: int = 3, white_level: int | None = None) -> None:
        super().__init__(shift, white_level)
        self.norm = user_path(norm)
        self._content, self._baselines = _read_norm(self.norm)

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**options, "norm": hashlib.sha256(self._content).hexdigest()}

    def score(
        self,
        sr: Tensor,
        gt: Tensor,
        protocol: Protocol,
        scale: int,
        mask: Tensor | None = None,
        key: str | None = None,
    ) -> float:
        parts = reversed((key or "").split("/"))
        scene = next((part for part in parts if part in self._baselines), None)
        if scene is None:
            raise UserError(f"ProbaVScore: {self.norm} has no line for '{key}'")
        cpsnr = super().score(sr, gt, protocol, scale, mask)
        return math.inf if cpsnr <= 0 else self._baselines[scene] / cpsnr


def _read_norm(path: Path) -> tuple[bytes, dict[str, float]]:
    """Returns the content of ``norm.csv``, and the cPSNR of the baseline by scene."""
    try:
        check_regular(path)
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except UserError as error:
        raise UserError(f"ProbaVScore: norm: {path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text file"
        raise UserError(f"ProbaVScore: norm: {path}: cannot be read ({reason})") from None
    baselines: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            scene, value = words[0], float(words[1])
            if len(words) != 2 or not 0 < value < math.inf:
                raise ValueError
        except (ValueError, IndexError):
            raise UserError(
                f"ProbaVScore: norm: {path}:{number}: expected the name of a scene and its cPSNR, "
                f"such as 'imgset0594 45.3', got '{line[:60]}'"
            ) from None
        baselines[scene] = value
    if not baselines:
        raise UserError(f"ProbaVScore: norm: {path}: it has no scenes")
    return content, baselines

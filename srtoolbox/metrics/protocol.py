"""Protocols: everything that turns two images into the one number that a table prints.

The same two images score 27.3 or 25.8 dB depending on colour space, crop, rounding and peak. A
protocol fixes all of it under one name; its hash stands under every table, and numbers of
different hashes are never put into the same one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.registry import close_names

_LUMA = (65.481, 128.553, 24.966)  # BT.601, studio swing: black is 16, white 235

_CHOICES = {
    "color": ("y", "rgb"),
    "grey": ("replicate", "direct"),
    "psnr_channels": ("joint", "mean"),
    "lpips_range": ("signed", "unit"),
    "average": ("images", "clips"),
    "missing_neighbours": (
        "centre",
        "replicate",
        "reflection",
        "mirror",
        "reflection_circle",
        "circle",
    ),
}


@dataclass(frozen=True)
class Protocol:
    """How results are scored. Every field is part of the hash.

    Attributes:
        name: By which option files and tables call it.
        version: Raised whenever the meaning of the name changes.
        color: ``"y"``: luma of BT.601, 16 to 235; ``"rgb"``: the three channels.
        grey: Images of one channel are treated as RGB with three equal channels
            (``"replicate"``, as BasicSR does) or taken as they are (``"direct"``, as MATLAB
            scripts do). On Y this is a difference of 1.3 dB: luma compresses the range.
        y_rounding: Round the luma to 8 bits, as MATLAB's ``rgb2ycbcr`` does.
        peak: The signal's peak in PSNR, on the scale 0 to 255.
        ssim_range: The L of SSIM's constants, on the scale 0 to 255.
        crop_border: Pixels cut off on every side before scoring, or ``"scale"``.
        round_8bit: Round both images to 8 bits first.
        psnr_channels: PSNR of the error over all channels (``"joint"``), or the mean of each
            channel's PSNR (``"mean"``, which is never lower).
        lpips_range: LPIPS is fed [-1, 1] as it expects (``"signed"``) or [0, 1] (``"unit"``).
        average: A dataset's score is the mean over its images, or over its clips' means.
        skip_frames: Frames left out of the score at each end of a clip.
        missing_neighbours: What stands in for the frames beyond a clip's ends: ``"centre"`` the
            frame being restored, ``"replicate"`` the clip's last frame, ``"reflection"`` the clip
            mirrored, ``"mirror"`` the same with its last frame twice, ``"reflection_circle"``
            frames from the window's other side, ``"circle"`` the window's other side in temporal
            order.
    """

    name: str
    version: int = 1
    color: Literal["y", "rgb"] = "rgb"
    grey: Literal["replicate", "direct"] = "replicate"
    y_rounding: bool = False
    peak: float = 255.0
    ssim_range: float = 255.0
    crop_border: int | Literal["scale"] = 0
    round_8bit: bool = True
    psnr_channels: Literal["joint", "mean"] = "joint"
    lpips_range: Literal["signed", "unit"] = "signed"
    average: Literal["images", "clips"] = "images"
    skip_frames: int = 0
    missing_neighbours: str = "reflection_circle"

    def __post_init__(self) -> None:
        for field, allowed in _CHOICES.items():
            if getattr(self, field) not in allowed:
                raise UserError(
                    f"protocol '{self.name}': {field} is one of {', '.join(allowed)}, "
                    f"got {getattr(self, field)!r}"
                )
        for field in ("peak", "ssim_range"):  # 255 and 255.0 are one protocol, hence one hash
            object.__setattr__(self, field, float(getattr(self, field)))

    @cached_property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change with any field."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def describe(self) -> str:
        """One sentence with all of it, to stand under a table."""
        grey = "grey values directly" if self.grey == "direct" else "grey images as RGB"
        if self.color == "y":
            rounded = "rounded to 8 bits" if self.y_rounding else "not rounded"
            color = f"luma of BT.601 (16–235, {rounded}; {grey})"
        else:
            color = f"RGB ({grey})"
        crop = "the scale's" if self.crop_border == "scale" else str(self.crop_border)
        parts = [
            color,
            "images rounded to 8 bits" if self.round_8bit else "images not rounded",
            f"{crop} pixels cropped per side",
            f"PSNR with peak {self.peak:g}"
            + (" as mean of the channels' PSNRs" if self.psnr_channels == "mean" else ""),
            f"SSIM with L {self.ssim_range:g}",
            f"LPIPS of images in {'[-1, 1]' if self.lpips_range == 'signed' else '[0, 1]'}",
            f"mean over {self.average}"
            + (f" without {self.skip_frames} frames at each end" if self.skip_frames else ""),
            f"missing neighbours: {self.missing_neighbours}",
        ]
        return f"Protocol {self.name} v{self.version} ({self.hash}): {', '.join(parts)}."

    def prepare(self, image: Tensor, scale: int) -> Tensor:
        """The values that are compared.

        Args:
            image: (C, H, W) with one or three channels, float in [0, 1] (clamped to it).
            scale: Factor of the super-resolution, for ``crop_border="scale"``.

        Returns:
            (C', h, w), float64 in 0 to 255, on the image's device.

        Raises:
            UserError: for another number of channels, or if the crop leaves nothing.
        """
        image = self._crop_and_round(image, scale)
        if len(image) == 1 and self.grey == "direct":
            return image
        image = image.expand(3, -1, -1)
        if self.color == "rgb":
            return image
        luma = 16 + sum(
            weight / 255 * channel for weight, channel in zip(_LUMA, image, strict=True)
        )
        return (luma.add(0.5).floor() if self.y_rounding else luma)[None]

    def match_grey(self, sr: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        """A grey image's result (3, H, W) and truth (1, H, W), made comparable by ``grey``."""
        if self.grey == "direct":
            return sr.mean(0, keepdim=True), gt
        return sr, gt.expand(3, -1, -1)

    def prepare_rgb(self, image: Tensor, scale: int) -> Tensor:
        """As ``prepare``, but always RGB (3, h, w): for metrics that are defined on RGB only."""
        return self._crop_and_round(image, scale).expand(3, -1, -1)

    def _crop_and_round(self, image: Tensor, scale: int) -> Tensor:
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise UserError(
                f"protocol '{self.name}': scores grey or RGB images (1 or 3, H, W), "
                f"got shape {tuple(image.shape)}"
            )
        crop = scale if self.crop_border == "scale" else self.crop_border
        height, width = image.shape[1:]
        if min(height, width) <= 2 * crop:
            raise UserError(
                f"protocol '{self.name}': cropping {crop} pixels per side leaves nothing of an "
                f"image of {height}×{width}"
            )
        image = image.detach()[:, crop : height - crop, crop : width - crop]
        if image.device.type == "mps":  # has no float64
            image = image.cpu()
        image = image.to(torch.float64).clamp(0, 1) * 255
        return image.round() if self.round_8bit else image


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # The tables of most single-image papers since BasicSR, and of this toolbox.
        Protocol("basicsr-y", color="y", crop_border="scale"),
        # Their predecessors' MATLAB scripts: 0.02 to 0.08 dB lower on Set5.
        Protocol("matlab-y", color="y", grey="direct", y_rounding=True, crop_border="scale"),
        Protocol("rgb"),
        # Vid4 as in DUF's tables and BasicSR's model zoo.
        Protocol("duf-y", color="y", crop_border=8, average="clips"),
        # Jilin-189, every frame of a clip.
        Protocol("jilin189", color="y", average="clips", missing_neighbours="centre"),
        # What fits the printed tables of MSDTGP, LGTD and MSTT: peak and L of the luma's own
        # range, which makes their PSNR 0.709 dB lower than the usual one.
        Protocol(
            "jilin189-table",
            color="y",
            peak=235,
            ssim_range=219,
            average="clips",
            missing_neighbours="centre",
        ),
        Protocol("realbsr"),
        # FBANet's own script (ICCV 2023). It averages SSIM over batches of 16, which on the 2224
        # bursts of RealBSR's test set is the mean over images.
        Protocol(
            "fbanet",
            crop_border=40,
            round_8bit=False,
            psnr_channels="mean",
            lpips_range="unit",
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UserError: if there is none; the message lists close names and all names.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    close = close_names(str(name), list(PROTOCOLS))
    hint = f"did you mean {close}? " if close else ""
    raise UserError(f"unknown protocol '{name}'; {hint}there are: {', '.join(PROTOCOLS)}")

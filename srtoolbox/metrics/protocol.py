"""Protocols: named rules for scoring, such as colour space, crop, rounding and peak.

The same two images score 27.3 or 25.8 dB depending on these rules. A protocol has a name and a hash
that is printed under every table; numbers of different protocols are never in one column.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from srtoolbox.errors import UserError, check_choice
from srtoolbox.registry import close_names
from srtoolbox.utils.environment import digest

_LUMA = (65.481, 128.553, 24.966)  # BT.601, studio swing: black is 16, white 235


@dataclass(frozen=True)
class Protocol:
    """The rules under which results are scored. Every field is part of the hash.

    Attributes:
        name: Name in option files and tables.
        version: A number that is raised whenever the meaning of the name changes.
        color: ``"y"``: luma of BT.601, 16 to 235; ``"rgb"``: the three channels; ``"bands"``: the
            bands themselves, one or any other number.
        grey: Images with one channel are converted to RGB with three equal channels
            (``"replicate"``, as in BasicSR) or compared directly (``"direct"``, as in MATLAB
            scripts). With ``color="y"``, ``"replicate"`` gives 1.32 dB more: luma has a smaller
            range.
        y_rounding: Round the luma to 8 bits, like ``rgb2ycbcr`` of MATLAB.
        peak: Peak value of PSNR, in the range 0 to 255.
        ssim_range: The L in SSIM's constants, in the range 0 to 255.
        ssim_window: ``"gaussian"``: 11×11, sigma 1.5 (Wang et al., TIP 2004); ``"uniform"``: 7×7
            averages and sample covariances (n / (n − 1)), the defaults of scikit-image.
        crop_border: Pixels that are cropped on every side before scoring, or ``"scale"``.
        round_8bit: Round both images to 8 bits first.
        psnr_channels: PSNR of the error over all channels (``"joint"``), or the mean of each
            channel's PSNR (``"mean"``, which is never lower).
        lpips_range: Range of the images for LPIPS: [-1, 1] as it expects (``"signed"``), or [0, 1]
            (``"unit"``).
        average: The score of a dataset is the mean over images, or over the means of clips.
        skip_frames: Number of frames at each end of a clip that are not scored.
        missing_neighbours: Frames that replace those beyond the ends of a clip: ``"centre"`` the
            frame that is restored, ``"replicate"`` the first or last frame, ``"reflection"`` the
            mirrored clip, ``"mirror"`` the same with the end frame repeated,
            ``"reflection_circle"`` frames from the opposite side of the window, nearest first,
            ``"circle"`` the same in temporal order.
    """

    name: str
    version: int = 1
    color: Literal["y", "rgb", "bands"] = "rgb"
    grey: Literal["replicate", "direct"] = "replicate"
    y_rounding: bool = False
    peak: float = 255.0
    ssim_range: float = 255.0
    ssim_window: Literal["gaussian", "uniform"] = "gaussian"
    crop_border: int | Literal["scale"] = 0
    round_8bit: bool = True
    psnr_channels: Literal["joint", "mean"] = "joint"
    lpips_range: Literal["signed", "unit"] = "signed"
    average: Literal["images", "clips"] = "images"
    skip_frames: int = 0
    missing_neighbours: Literal[
        "centre", "replicate", "reflection", "mirror", "reflection_circle", "circle"
    ] = "reflection_circle"

    def __post_init__(self) -> None:
        for field, hint in get_type_hints(Protocol).items():
            if get_origin(hint) is Literal:
                name = f"protocol '{self.name}': {field}"
                check_choice(name, getattr(self, field), get_args(hint))
        for field in ("peak", "ssim_range"):  # 255 and 255.0 are one protocol, hence one hash
            object.__setattr__(self, field, float(getattr(self, field)))

    @cached_property
    def hash(self) -> str:
        """Hash of all fields, 12 hexadecimal digits."""
        rules = asdict(self)
        if self.ssim_window == "gaussian":  # protocols older than this field keep their hash
            del rules["ssim_window"]
        return digest(rules)

    def describe(self) -> str:
        """Returns one sentence with all rules, for the footnote of a table."""
        grey = "grey values directly" if self.grey == "direct" else "grey images as RGB"
        if self.color == "y":
            rounded = "rounded to 8 bits" if self.y_rounding else "not rounded"
            color = f"luma of BT.601 (16–235, {rounded}; {grey})"
        elif self.color == "bands":
            color = "all bands"
        else:
            color = f"RGB ({grey})"
        crop = "the scale's" if self.crop_border == "scale" else str(self.crop_border)
        uniform = " and 7×7 uniform windows (sample covariance)"
        parts = [
            color,
            "images rounded to 8 bits" if self.round_8bit else "images not rounded",
            f"{crop} pixels cropped per side",
            f"PSNR with peak {self.peak:g}"
            + (" as mean of the channels' PSNRs" if self.psnr_channels == "mean" else ""),
            f"SSIM with L {self.ssim_range:g}" + (uniform if self.ssim_window == "uniform" else ""),
            f"LPIPS of images in {'[-1, 1]' if self.lpips_range == 'signed' else '[0, 1]'}",
            f"mean over {self.average}"
            + (f" without {self.skip_frames} frames at each end" if self.skip_frames else ""),
            f"missing neighbours: {self.missing_neighbours}",
        ]
        return f"Protocol {self.name} v{self.version} ({self.hash}): {', '.join(parts)}."

    def prepare(self, image: Tensor, scale: int) -> Tensor:
        """Crops, rounds and converts an image to the values that are compared.

        Args:
            image: (C, H, W), float; clamped to [0, 1]. With ``color="bands"`` C is any number,
                otherwise one or three.
            scale: Super-resolution factor, for ``crop_border="scale"``.

        Returns:
            (C', h, w), float64 in [0, 255], on the image's device. Black is 0 and white 255 for
            images of any bit depth.

        Raises:
            UserError: for another number of channels, or if no pixel is left after cropping.
        """
        image = self._crop_and_round(image, scale)
        if self.color == "bands" or (len(image) == 1 and self.grey == "direct"):
            return image
        image = image.expand(3, -1, -1)
        if self.color == "rgb":
            return image
        luma = self.luma(image)
        return luma.add(0.5).floor() if self.y_rounding else luma

    @staticmethod
    def luma(rgb: Tensor) -> Tensor:
        """Returns the luma of BT.601 (1, H, W), from 16 to 235, of RGB (3, H, W) in [0, 255]."""
        red, green, blue = (
            weight / 255 * channel for weight, channel in zip(_LUMA, rgb, strict=True)
        )
        return (16 + (red + green + blue))[None]

    def match_grey(self, sr: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        """Converts an RGB result (3, H, W) and its grey ground truth (1, H, W) to equal shapes."""
        if self.grey == "direct":
            return sr.mean(0, keepdim=True), gt
        return sr, gt.expand(3, -1, -1)

    def prepare_rgb(self, image: Tensor, scale: int) -> Tensor:
        """Does the same as ``prepare``, but always returns RGB (3, h, w), for metrics of RGB.

        Raises:
            UserError: as ``prepare``; under each protocol for images that are not grey or RGB.
        """
        self._check_colours(image)
        return self._crop_and_round(image, scale).expand(3, -1, -1)

    def prepare_spectrum(self, image: Tensor, scale: int) -> Tensor:
        """Does the same as ``prepare``, but never returns luma, for metrics of several bands.

        Returns:
            (C', h, w): all bands with ``color="bands"``, otherwise RGB.
        """
        return (self.prepare if self.color == "bands" else self.prepare_rgb)(image, scale)

    def takes(self, channels: int) -> bool:
        """Returns whether images with this number of channels can be scored."""
        return self.color == "bands" or channels in (1, 3)

    def border(self, scale: int) -> int:
        """Returns how many pixels ``crop`` removes at each side."""
        return scale if self.crop_border == "scale" else self.crop_border

    def crop(self, image: Tensor, scale: int) -> Tensor:
        """Crops an image or a mask (C, H, W) as ``prepare`` does; its values stay.

        Raises:
            UserError: if no pixel is left.
        """
        crop = self.border(scale)
        height, width = image.shape[1:]
        if min(height, width) <= 2 * crop:
            raise UserError(
                f"protocol '{self.name}': cropping {crop} pixels per side leaves no pixel of an "
                f"image of {height}×{width}"
            )
        image = image.detach()[:, crop : height - crop, crop : width - crop]
        return image.cpu() if image.device.type == "mps" else image  # it has no float64

    def check_size(self, what: str, size: int, cropped: Tensor, image: Tensor) -> None:
        """Checks that a cropped image (C, h, w) has at least ``size`` pixels per side.

        Raises:
            UserError: if it has fewer; the message says that ``what`` needs them.
        """
        if min(cropped.shape[1:]) < size:
            raise UserError(
                f"{what} needs {size}×{size} pixels, but protocol '{self.name}' leaves "
                f"{cropped.shape[1]}×{cropped.shape[2]} of an image of "
                f"{image.shape[1]}×{image.shape[2]}"
            )

    def _crop_and_round(self, image: Tensor, scale: int) -> Tensor:
        if self.color != "bands":
            self._check_colours(image)
        elif image.ndim != 3 or len(image) == 0:
            raise UserError(
                f"protocol '{self.name}': scores images (C, H, W), got shape {tuple(image.shape)}"
            )
        image = self.crop(image, scale).to(torch.float64).clamp(0, 1) * 255
        return image.round() if self.round_8bit else image

    def _check_colours(self, image: Tensor) -> None:
        """Raises a UserError for an image that is not grey or RGB."""
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            hint = "" if self.color == "bands" else "; protocol 'bands' scores any number of bands"
            raise UserError(
                f"protocol '{self.name}': scores grey or RGB images (1 or 3, H, W), "
                f"got shape {tuple(image.shape)}{hint}"
            )


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # The tables of most single-image papers since BasicSR, and of this toolbox.
        Protocol("basicsr-y", color="y", crop_border="scale"),
        # The MATLAB scripts before BasicSR. Compared with basicsr-y, rounding lowers the mean PSNR
        # on Set5: by 0.03, 0.02, 0.01 dB for Bicubic x2, x3, x4, by 0.08 dB for DSRNet x2. On Set14
        # Bicubic is 0.1 dB lower: its grey img_003, compared directly, is 1.32 dB lower.
        Protocol("matlab-y", color="y", grey="direct", y_rounding=True, crop_border="scale"),
        Protocol("rgb"),
        # EDSR and RRDBNet in BasicSR: its option files crop the scale and compare RGB.
        Protocol("basicsr-rgb", crop_border="scale"),
        # Vid4 as in DUF's tables and BasicSR's model zoo.
        Protocol("duf-y", color="y", crop_border=8, average="clips"),
        # Whole clips of Vid4, Vimeo-90K and UDM10 in the tables of BasicVSR: luma of whole frames.
        Protocol("video-y", color="y", average="clips"),
        # Jilin-189, every frame of a clip.
        Protocol("jilin189", color="y", average="clips", missing_neighbours="centre"),
        # It reproduces the tables of MSDTGP, LGTD and MSTT: peak and L are those of the luma's
        # range, so PSNR is 0.709 dB lower than under jilin189.
        Protocol(
            "jilin189-table",
            color="y",
            peak=235,
            ssim_range=219,
            average="clips",
            missing_neighbours="centre",
        ),
        Protocol("realbsr"),
        # The script of FBANet (ICCV 2023). Its mean of SSIM over batches of 16 equals the mean over
        # images for the 2224 bursts of RealBSR's test set.
        Protocol(
            "fbanet",
            crop_border=40,
            round_8bit=False,
            psnr_channels="mean",
            lpips_range="unit",
        ),
        # The evaluation of DSTC-SRNet's authors (MinjieWan/DTSC-SRNet): 4 HR pixels at every scale.
        Protocol(
            "dstc",
            ssim_window="uniform",
            crop_border=4,
            round_8bit=False,
            lpips_range="unit",
        ),
        # Satellite images of any number of bands and of any bit depth.
        Protocol("bands", color="bands", grey="direct", round_8bit=False, crop_border="scale"),
        # The PROBA-V challenge: its metrics CPSNR and ProbaVScore crop by themselves.
        Protocol("probav", color="bands", grey="direct", round_8bit=False),
    )
}


def get_protocol(name: str) -> Protocol:
    """Returns a protocol by its name.

    Raises:
        UserError: if there is none; the message lists close names and all names.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    close = close_names(str(name), list(PROTOCOLS))
    hint = f"did you mean {close}? " if close else ""
    raise UserError(f"unknown protocol '{name}'; {hint}there are: {', '.join(PROTOCOLS)}")

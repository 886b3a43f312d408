"""SRVGGNetCompact: plain convolutions at the size of the input, a small net of Real-ESRGAN."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.archs.shapes import Shapes, bands_as_options, count_children
from srtoolbox.errors import check_choice
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class SRVGGNetCompact(nn.Module):
    """A list of convolutions and activations, added to the repeated pixels of the input.

    ``num_conv`` is 16 in ``realesr-animevideov3`` and 32 in ``realesr-general-x4v3``.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features.
        num_conv: Convolutions between the first and the last one.
        act_type: Activation: PReLU with a slope for each channel, ReLU, or leaky ReLU with slope
            0.1.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input, to which it is added, so
            another number is refused.
    """

    paper = (
        "Wang et al., Real-ESRGAN: Training real-world blind super-resolution with pure synthetic "
        "data, ICCVW 2021"
    )
    scales = (1, 2, 3, 4)

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_conv: int = 16,
        act_type: Literal["prelu", "relu", "leakyrelu"] = "prelu",
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch, equal=True)
        check_choice("SRVGGNetCompact: act_type", act_type, ("prelu", "relu", "leakyrelu"))
        layers: list[nn.Module] = []
        for number in range(num_conv + 1):
            num_in = num_feat if number else self.channels
            layers += [conv3(num_in, num_feat), _activation(act_type, num_feat)]
        self.body = nn.Sequential(*layers, conv3(num_feat, self.out_channels * scale**2))

    @staticmethod
    def options_from_shapes(shapes: Shapes) -> dict[str, Any] | None:
        """Returns the options of the network whose tensors have these shapes; None: of none.

        Only PReLU has tensors, so that networks with another activation are not recognised.
        """
        number = count_children(shapes, "body") - 1
        first, last = shapes.get("body.0.weight"), shapes.get(f"body.{number}.weight")
        if first is None or last is None or len(first) < 2 or "body.1.weight" not in shapes:
            return None
        return {
            "scale": math.isqrt(last[0] // first[1]),
            "num_feat": first[0],
            "num_conv": number // 2 - 1,
            **bands_as_options(first[1], first[1]),
        }

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_in_ch, h * scale, w * scale)."""
        repeated = F.interpolate(lq, scale_factor=self.scale)
        return F.pixel_shuffle(self.body(lq), self.scale) + repeated


def _activation(act_type: str, num_feat: int) -> nn.Module:
    if act_type == "prelu":
        return nn.PReLU(num_feat)
    return nn.ReLU() if act_type == "relu" else nn.LeakyReLU(0.1)

"""Parts that BasicVSR and BasicVSR++ share: flow of a clip, trunks, and the layers that enlarge."""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, enlarge
from srtoolbox.archs.layers.residual import residual_blocks
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.archs.layers.video.spynet import SpyNet, as_rgb


class RecurrentNetwork(nn.Module):
    """A network that carries features from frame to frame, aligned by optical flow.

    Args:
        scale: Super-resolution factor, one of the network's ``scales``.
        num_feat: Channels of the features.
        num_hr_feat: Channels after the second enlargement.
        num_flow_level: Levels of `SpyNet`.
        num_flow_feat: Channels of `SpyNet`.
        num_in_ch: Bands of the input; the flow of other numbers than 3 is that of their mean.
        num_out_ch: Bands of the output, equal to ``num_in_ch``; None: ``num_in_ch``.
    """

    restores_all = True
    num_frame = None

    def __init__(
        self,
        scale: int,
        num_feat: int,
        num_hr_feat: int,
        num_flow_level: int,
        num_flow_feat: int,
        num_in_ch: int,
        num_out_ch: int | None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch, equal=True)
        self.num_feat = num_feat
        self.spynet = SpyNet(num_flow_level, num_flow_feat)
        self.upconv1 = conv3(num_feat, 4 * num_feat)
        self.upconv2 = conv3(num_feat, 4 * num_hr_feat)
        self.conv_hr = conv3(num_hr_feat, num_hr_feat)
        self.conv_last = conv3(num_hr_feat, num_in_ch)

    def tensors_of(self, file: Any) -> dict[str, Any]:
        """Returns the tensors of a weight file; those of a file of SpyNet alone as ``spynet.…``.

        Args:
            file: The file, whose ``state`` has the tensors by name.
        """
        state: dict[str, Any] = file.state
        bare = {name.removeprefix("module."): value for name, value in state.items()}
        if all(re.match(r"basic_module\.\d+\.basic_module\.|mean$|std$", name) for name in bare):
            return {f"spynet.{name}": value for name, value in bare.items()}
        return state

    def flows(self, frames: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the flows of clips (N, T, C, h, w) to the next and to the previous frame.

        Each is a list of T - 1 tensors (N, 2, h, w) in pixels, x before y. Published programs
        compute only one direction for clips that are followed by their own reversal, as the other
        one has the same flows in reverse; the result is the same.
        """
        after, before = self.spynet.between_neighbours(as_rgb(frames))
        return list(after.unbind(1)), list(before.unbind(1))

    def enlarge_features(self, feat: Tensor, frame: Tensor) -> Tensor:
        """Maps features (N, num_feat, h, w) and their LR frame to the SR frame of four times h, w.

        A frame of the size of the result is added as it is.
        """
        # These are the largest maps of the network; new memory for them takes more time than the
        # activations.
        feat = F.leaky_relu_(F.pixel_shuffle(self.upconv1(feat), 2), 0.1)
        feat = F.leaky_relu_(F.pixel_shuffle(self.upconv2(feat), 2), 0.1)
        residual = self.conv_last(F.leaky_relu_(self.conv_hr(feat), 0.1))
        return residual + (frame if frame.shape[-1] == residual.shape[-1] else enlarge(frame, 4))


class Trunk(nn.Module):
    """Convolution, leaky ReLU and residual blocks: maps (N, num_in, h, w) to (N, num_feat, h, w).

    Args:
        num_in: Channels of the input.
        num_feat: Channels of the output.
        num_block: Number of residual blocks.
    """

    def __init__(self, num_in: int, num_feat: int, num_block: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv3(num_in, num_feat), nn.LeakyReLU(0.1), residual_blocks(num_block, num_feat)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


def to_fast_format(x: Tensor) -> Tensor:
    """Returns maps (N, C, h, w) in the memory format in which convolutions are fastest.

    On a CPU this is channels_last. Layers keep the format of their input.
    """
    if x.device.type == "cpu":
        return x.contiguous(memory_format=torch.channels_last)
    return x

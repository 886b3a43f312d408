"""TDAN: alignment of frames by deformable convolutions instead of optical flow."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3
from srtoolbox.archs.layers.deform import DeformConv, align_frames
from srtoolbox.archs.layers.residual import ResidualBlock
from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class TDAN(nn.Module):
    """Temporally deformable alignment network.

    The paper trains it with two losses: SR image against ground truth, and every aligned LR frame
    against the LR reference frame. Sampled values fade to zero over one pixel beyond the border;
    the operator behind the published weights was cut off at the last row and column instead.

    Args:
        scale: Factor by which height and width grow; 4 in the paper.
        num_feat: Channels of the features.
        num_extract_block: Residual blocks applied to each frame.
        num_reconstruct_block: Residual blocks applied to all aligned frames together.
        deformable_groups: Groups of channels, each with its own offsets; divides ``num_feat``.
        num_frame: Frames of a clip; the reference is number ``num_frame // 2``, counted from 0. The
            authors use 5.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = "Tian et al., TDAN: Temporally deformable alignment network for video SR, CVPR 2020"
    scales = (2, 3, 4)
    num_frame = 5
    reference = 2
    checkpoint_blocks = ("residual_layer", "recon_layer")

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_extract_block: int = 5,
        num_reconstruct_block: int = 10,
        deformable_groups: int = 8,
        num_frame: int = 5,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        if num_frame < 2:
            raise UserError(f"TDAN: num_frame must be at least 2, got {num_frame}")
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        self.num_frame = num_frame
        self.reference = num_frame // 2

        deformable = partial(DeformConv, num_feat, num_feat, deformable_groups, bias=False)
        self.conv_first = conv3(self.channels, num_feat)
        self.residual_layer = nn.Sequential(
            *(ResidualBlock(num_feat) for _ in range(num_extract_block))
        )
        self.cr = conv3(2 * num_feat, num_feat)
        self.dconv_1, self.deconv_2, self.deconv_3, self.dconv = (deformable() for _ in range(4))
        self.off2d_1, self.off2d_2, self.off2d_3, self.off2d = (
            conv3(num_feat, self.dconv.offset_channels) for _ in range(4)
        )
        self.recon_lr = conv3(num_feat, self.channels)

        self.fea_ex = nn.Sequential(conv3(self.channels * num_frame, num_feat), nn.ReLU())
        self.recon_layer = nn.Sequential(
            *(ResidualBlock(num_feat) for _ in range(num_reconstruct_block))
        )
        self.up = nn.Sequential(
            Upsample(scale, num_feat), conv3(num_feat, self.out_channels, bias=False)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
                nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))

    def forward(self, lq: Tensor) -> dict[str, Tensor]:
        """Super-resolves the middle frame of each clip.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1], T = ``num_frame``.

        Returns:
            ``sr`` (N, num_out_ch, h * scale, w * scale), and ``aligned`` (N, T, num_in_ch, h, w):
            the LR frames aligned to the middle one, which is returned unchanged.
        """
        n, frames = lq.shape[:2]
        centred = lq - 0.5
        feat = torch.relu(self.conv_first(centred.flatten(0, 1)))
        feat = self.residual_layer(feat).unflatten(0, (n, frames))

        others = [index for index in range(frames) if index != self.reference]
        aligned = align_frames(self._align, [feat[:, others]], [feat[:, self.reference]])
        aligned = list(aligned.to(lq.dtype).unbind(1))
        aligned.insert(self.reference, centred[:, self.reference])
        aligned = torch.stack(aligned, dim=1)

        sr = self.up(self.recon_layer(self.fea_ex(aligned.flatten(1, 2))))
        return {"sr": sr + 0.5, "aligned": aligned + 0.5}

    def _align(self, frame: list[Tensor], reference: list[Tensor]) -> Tensor:
        """Aligns a frame: features of it and of the reference (M, num_feat, h, w) to bands."""
        (supporting,), (middle,) = frame, reference
        feat = self.cr(torch.cat((middle, supporting), dim=1))
        feat = self.dconv_1(feat, self.off2d_1(feat))
        feat = self.deconv_2(feat, self.off2d_2(feat))
        # The third one samples the frame's own features; the first two only estimate the motion.
        feat = self.deconv_3(supporting, self.off2d_3(feat))
        return self.recon_lr(self.dconv(feat, self.off2d(feat)))

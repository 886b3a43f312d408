"""DSTC-SRNet+: our own network for bursts, single images and clips."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, enlarge
from srtoolbox.archs.layers.burst.bayer import demosaic
from srtoolbox.archs.layers.burst.motion import estimate_motion, motion_to_flow, warp
from srtoolbox.archs.layers.burst.samples import (
    fine_samples,
    mean_of_frames,
    num_plane,
    shares_of_frames,
)
from srtoolbox.archs.layers.burst.trust import trust_in_frames
from srtoolbox.archs.layers.residual import ResidualBlock, scaled_kaiming_
from srtoolbox.archs.layers.upsample import bicubic_upsample, check_scale
from srtoolbox.errors import UserError, check_choice
from srtoolbox.registry import ARCH_REGISTRY

_IMAGE_GAIN = 0.1
"""Factor on the output of every convolution that predicts an image. Adam changes all weights by
similar amounts, which add up in such a convolution: without this factor, one step at a high
learning rate shifts the whole image visibly."""


class _Burst(NamedTuple):
    """A burst seen from its reference."""

    mean: Tensor  # (N, B, h, w): the reference and the frames with its phase
    number: Tensor  # (N, 1, h, w): frames in the mean
    base: Tensor  # (N, B, H, W): the enlarged mean
    fine: Tensor  # (N, K, H, W): samples of the other frames, minus the base
    novelty: Tensor  # (N, 1, h, w): 0 to 1, how many these are


@ARCH_REGISTRY.register()
class DSTCSRNetPlus(nn.Module):
    """DSTC-SRNet+: super-resolution of bursts, clips and single images. Ours.

    Without learning, the network estimates the motion of the frames, averages the frames whose
    pixels coincide with those of the reference with it, and puts the samples of all other frames on
    the ×s grid (shift-and-add), where they fade if none of them is new. The learned part is a stack
    of residual blocks at LR size, which gets the mean and the samples, and a few convolutions at HR
    size, which join its result with the samples. The output is added to the enlarged mean.

    The other frames so influence the output from the first training step; without these paths
    training tends to end as a single-image network. With one frame, or where nothing moves, the
    samples are absent, and a single-image network of the same parameters works on the mean. At the
    start the network interpolates all samples by normalised convolution; all other contributions
    are small.

    The name comes from its first version, which had the five stages of DSTC-SRNet
    (MinjieWan/DTSC-SRNet, © 2026 Minjie Wan, MIT licence). They contributed less than 0.05 dB and
    were removed. The authors' network is `DSTCSRNet`. Weights of the first version do not fit.

    ===============  ======================  =================================================
    step             shape                   content
    ===============  ======================  =================================================
    input            (N, T, B, h, w)         reference first, the others in order (RAW: B = 4)
    motion           (N, T, 2, 3)            `estimate_motion`, no gradients
    trust            (N, T - 1, h, w)        `trust_in_frames`: moving objects are left out
    mean             (N, B, h, w)            of the reference and the frames with its phase
    fine samples     (N, 2B + 1, h·s, w·s)   `fine_samples` of all others (RAW: 9 planes)
    head             (N, C, h, w)            3×3 convolution of mean, difference to it, 1 - 1/n
    samples          (N, C, h, w)            pixel unshuffle, 3×3 convolution; added to the head
    body             (N, C, h, w)            residual blocks
    up               (N, F/2, h·s, w·s)      3×3 convolution, pixel shuffle
    refine           (N, F, h·s, w·s)        3×3 convolutions; where samples are new
    image            (N, B, h·s, w·s)        3×3 convolution; the enlarged mean is added
    ===============  ======================  =================================================

    B is the number of bands: 3 for RGB, any other for spectral images. For RAW the output is RGB.

    Time and memory of every part are linear in pixels and in frames. T can be any number ≥ 1; train
    with the number of frames of the application, or with a varying number. The defaults are preset
    B; presets S and L are in ``options/_base_/networks``.

    Args:
        scale: 2, 3 or 4; for packed RAW, whose frames have half the size of the sensor, 4, 6 or 8.
        num_feat: Channels C at LR size.
        num_block: Residual blocks at LR size.
        num_feat_fine: Channels F of the convolutions at HR size, even.
        num_layer_fine: Convolutions at HR size before the one that predicts the image.
        average: Whether frames with the phase of the reference are averaged with it.
        samples: Whether samples of the other frames are used.
        refine: Whether there are convolutions at HR size over the samples; needs ``samples``.
        trust: Whether frames have less influence where they disagree with the reference.
        reference: Index of the reference frame in the input.
        channels: 3 for images of bands; 4 for RAW packed as R, G beside R, G beside B, B, whose
            output is RGB. Images of four bands have ``num_in_ch: 4`` instead.
        max_frame: Maximum number of frames to use: the reference and its nearest neighbours.
        num_in_ch: Bands of the input; it has no meaning for RAW.
        num_out_ch: Bands of the output, equal to ``num_in_ch``, since the result is added to the
            input; None: ``num_in_ch``.
    """

    paper = "ours (srtoolbox, 2026)"
    scales = (2, 3, 4)
    num_frame = None
    checkpoint_blocks = ("body",)

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 17,
        num_feat_fine: int = 32,
        num_layer_fine: int = 2,
        average: bool = True,
        samples: bool = True,
        refine: bool = True,
        trust: bool = True,
        reference: int = 0,
        channels: Literal[3, 4] = 3,
        max_frame: int | None = None,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        if max_frame is not None and max_frame < 1:
            raise UserError(f"DSTCSRNetPlus: max_frame must be at least 1, got {max_frame}")
        if num_feat_fine < 2 or num_feat_fine % 2:
            raise UserError(f"DSTCSRNetPlus: num_feat_fine must be even, got {num_feat_fine}")
        if num_layer_fine < 1:
            raise UserError(
                f"DSTCSRNetPlus: num_layer_fine must be at least 1, got {num_layer_fine}; "
                "refine: false leaves these convolutions out"
            )
        check_choice("DSTCSRNetPlus: channels", channels, (3, 4))
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch, equal=True)
        self.max_frame, self.raw = max_frame, channels == 4
        if self.raw and num_in_ch != 3:
            raise UserError(
                f"DSTCSRNetPlus: channels: 4 means packed RAW, but num_in_ch is {num_in_ch}; for "
                f"images of {num_in_ch} bands leave channels out, for RAW leave num_in_ch out"
            )
        if self.raw:
            self.channels = 4
            self.scales = tuple(2 * factor for factor in type(self).scales)
        self.scale = check_scale(self, scale)
        self.reference, self.average, self.trust = reference, average, trust

        bands, planes = self.out_channels, num_plane(self.channels, self.raw)
        self.head = conv3(2 * self.channels + 1, num_feat)
        blocks = [ResidualBlock(num_feat) for _ in range(num_block)]
        self.body = scaled_kaiming_(nn.Sequential(*blocks))
        with torch.no_grad():
            # Usual weights in the first convolutions. With the published tenth, Adam's steps move
            # the biases more than the output and push channels below zero, where ReLU keeps them.
            for block in blocks:
                block.conv1.weight.mul_(10)
        narrow = num_feat_fine // 2
        self.up = nn.Sequential(
            conv3(num_feat, narrow * scale**2), nn.PixelShuffle(scale), nn.LeakyReLU(0.1)
        )
        width = narrow + bands + (planes if samples else 0)
        self.samples = self.refine = None
        if samples:
            self.samples = nn.Sequential(
                nn.PixelUnshuffle(scale), conv3(planes * scale**2, num_feat)
            )
        last = width
        if samples and refine:
            layers: list[nn.Module] = []
            for i in range(num_layer_fine):
                layers += [conv3(num_feat_fine if i else width, num_feat_fine), nn.LeakyReLU(0.1)]
            self.refine = nn.Sequential(*layers)
            last = num_feat_fine + width
        self.image = scaled_kaiming_(conv3(last, bands))
        if samples:
            with torch.no_grad():  # at the start it adds the mean of the samples around each pixel
                self.image.weight[:, -bands:, 1, 1] += torch.eye(bands) / _IMAGE_GAIN

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, T, B, h, w) in [0, 1] to (N, B, h·scale, w·scale); RAW (B = 4) to RGB."""
        lq = lq[:, self._frames(lq.shape[1])]
        burst = self._divide(lq)
        less_noise = 1 - 1 / burst.number  # the variance of the mean falls by this share
        x = self.head(torch.cat([burst.mean - 0.5, lq[:, 0] - burst.mean, less_noise], 1))
        if self.samples is not None:
            x = x + self.samples(burst.fine) * burst.novelty
        x = torch.cat([self.up(x + self.body(x)), burst.base - 0.5, burst.fine], 1)
        # In this format, a CPU is twice as fast with so few channels.
        x = x.contiguous(memory_format=torch.channels_last)
        if self.refine is not None:
            x = torch.cat([self.refine(x) * enlarge(burst.novelty, self.scale), x], 1)
        return burst.base + _IMAGE_GAIN * self.image(x)

    def _frames(self, num_frame: int) -> list[int]:
        """Returns the indices of the frames to use: the reference first, the others in order."""
        first, *others = sorted(range(num_frame), key=lambda t: abs(t - self.reference))
        limit = self.max_frame or num_frame
        return [first, *sorted(others[: limit - 1])]

    def _divide(self, lq: Tensor) -> _Burst:
        """Divides a burst, the reference first, into a mean and samples between its pixels."""
        reference, others = lq[:, 0], lq[:, 1:]
        motion = estimate_motion(lq)[:, 1:]
        flow = motion_to_flow(motion, (lq.shape[-2], lq.shape[-1]))
        warped = warp(others.flatten(0, 1), flow.flatten(0, 1)).view_as(others)
        trust = torch.ones_like(flow[:, :, 0])
        if self.trust:
            trust = trust_in_frames(reference, warped)
        average, novelty = shares_of_frames(flow, trust)
        if not self.average:
            average = torch.zeros_like(average)
        mean, number = mean_of_frames(reference, warped, average)
        if self.raw:
            base = bicubic_upsample(demosaic(mean), self.scale // 2)
        else:
            base = bicubic_upsample(mean, self.scale)
        novelty = novelty.sum(1, keepdim=True)
        novelty = (novelty / (novelty + 0.5)).to(lq.dtype)
        fine = base[:, :0]
        if self.samples is not None:
            fine = fine_samples(others, motion, trust, base, self.scale).to(lq.dtype)
            fine = fine * enlarge(novelty, self.scale)
        return _Burst(mean, number, base, fine, novelty)

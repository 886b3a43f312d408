"""The temporal memory of a burst: sub-pixel samples, aligned features, recurrence."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.burst.bayer import shift_and_add_raw
from srtoolbox.archs.layers.burst.motion import inside, motion_to_flow, warp
from srtoolbox.archs.layers.burst.splat import shift_and_add
from srtoolbox.archs.layers.burst.trust import trust_in_frames
from srtoolbox.archs.layers.recurrent import ConvGRU
from srtoolbox.archs.layers.residual import scaled_kaiming_


def conv3(num_in: int, num_out: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size, or divides it by ``stride``."""
    return nn.Conv2d(num_in, num_out, 3, stride, padding=1)


_FEW, _FEW_AROUND = 0.03, 0.005  # weight of samples in or around a cell that is half believed


def fine_samples(frames: Tensor, motion: Tensor, base: Tensor, scale: int) -> Tensor:
    """What the samples of all frames say beyond ``base``, where they fall and around.

    Samples count as far as their frame agrees with the reference there (`trust_in_frames`). Cells
    between the samples get a mean of those around them, by normalised convolution (Knutsson
    and Westin, "Normalized and Differential Convolution", CVPR 1993).

    Args:
        frames: (N, T, C, h, w): RGB, or RAW packed into four channels.
        motion: (N, T, 2, 3): where a point of the reference is seen in each frame.
        base: (N, 3, H, W), the enlarged reference, RGB at the size of the result.
        scale: Of ``base`` over the frames.

    Returns:
        (N, K, H, W). First three planes with the samples' mean minus ``base`` in the cells where
        they fall, 0 elsewhere; then whether any fell, from 0 to 1, of RAW for each colour; at last
        three planes with the mean over a cell's neighbourhood. Where the frames do not move they
        are nearly those of a single frame, with less noise.
    """
    gather = shift_and_add if frames.shape[2] == 3 else shift_and_add_raw
    total, weight = gather(frames, motion, scale, trust_in_frames(frames, motion))
    beyond = total - weight * base
    around = blur(beyond, scale / 4) / (blur(weight, scale / 4) + _FEW_AROUND)
    return torch.cat([beyond / (weight + _FEW), weight / (weight + _FEW), around], 1)


NUM_PLANE = {3: 7, 4: 9}
"""K of `fine_samples`, for RGB and RAW."""


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, C, h, w), zeros beyond the border; in float32, also under autocast."""
    reach = math.ceil(2 * sigma)
    tap = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.softmax(-0.5 * (tap / sigma) ** 2, 0).view(1, 1, 1, -1)
    with torch.autocast(x.device.type, enabled=False):
        rows = F.conv2d(x.flatten(0, 1)[:, None], kernel, padding=(0, reach))
        return F.conv2d(rows, kernel.mT, padding=(reach, 0)).view_as(x)


class SampleMemory(nn.Module):
    """Shift-and-add memory: (N, K, h·s, w·s) sub-pixel samples to (N, C, h, w) features.

    The fine grid enters as s² phases of each LR pixel, so nothing of it is lost or averaged.

    Args:
        scale: s.
        num_feat: C.
        num_plane: K, as `fine_samples` gives it.
    """

    def __init__(self, scale: int, num_feat: int, num_plane: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(scale),
            conv3(num_plane * scale**2, num_feat),
            nn.LeakyReLU(0.1),
            conv3(num_feat, num_feat),
        )

    def forward(self, fine: Tensor) -> Tensor:
        return self.layers(fine)


class MTMS(nn.Module):
    """Multi-scale temporal memory stream.

    On each level of a pyramid the frames are warped to the reference and embedded together with
    it and with their sub-pixel phase; a ConvGRU reads them from both ends of the burst towards
    the reference. The mean of the embeddings goes past the recurrence to the output.

    Args:
        num_feat: Channels.
        num_level: Levels, each of half the size.
        kernel_size: Of the recurrence.
        residual: Whether offsets are learned on top of the global motion.
    """

    def __init__(self, num_feat: int, num_level: int, kernel_size: int, residual: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList(conv3(num_feat, num_feat, 2) for _ in range(num_level - 1))
        self.levels = nn.ModuleList(
            MemoryLevel(num_feat, kernel_size, residual) for _ in range(num_level)
        )
        self.merge = nn.ModuleList(conv3(2 * num_feat, num_feat) for _ in range(num_level - 1))

    def forward(self, feat: Tensor, motion: Tensor | None) -> Tensor:
        """(N, T, C, h, w), reference first, and (N, T, 2, 3) or None to (N, C, h, w)."""
        pyramid = [feat]
        for down in self.down:
            coarser = down(F.leaky_relu(pyramid[-1].flatten(0, 1), 0.1))
            pyramid.append(coarser.unflatten(0, feat.shape[:2]))
        memory = offset = None
        for i in reversed(range(len(pyramid))):
            size = pyramid[i].shape[-2:]
            if motion is None:
                flow = feat.new_zeros(*feat.shape[:2], 2, *size)
            else:
                flow = motion_to_flow(motion, size, 2**i)
            finer, offset = self.levels[i](pyramid[i], flow, offset)
            if memory is not None:
                above = F.interpolate(memory, scale_factor=2)[..., : size[0], : size[1]]
                finer = finer + self.merge[i](torch.cat([finer, above], 1))
            memory = finer
        return memory


class MemoryLevel(nn.Module):
    """One level of `MTMS`: align, embed, remember."""

    def __init__(self, num_feat: int, kernel_size: int, residual: bool) -> None:
        super().__init__()
        self.offset = None
        if residual:
            self.offset = nn.Sequential(
                conv3(2 * num_feat, num_feat),
                nn.LeakyReLU(0.1),
                scaled_kaiming_(conv3(num_feat, 2), 0.01),
            )
        self.embed_frame = conv3(num_feat + 4, num_feat)
        self.embed_reference = nn.Conv2d(num_feat, num_feat, 3, padding=1, bias=False)
        self.memory = ConvGRU(num_feat, kernel_size)
        self.read = nn.Conv2d(2 * num_feat, num_feat, 1)

    def forward(
        self, feat: Tensor, flow: Tensor, coarser: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the memory (N, C, h, w) and the learned offsets (N·T, 2, h, w), if any."""
        n, t, _, h, w = feat.shape
        frames, flow = feat.flatten(0, 1), flow.flatten(0, 1)
        offset = None
        if self.offset is not None:
            if coarser is not None:
                coarser = 2 * F.interpolate(coarser, scale_factor=2)[..., :h, :w]
                flow = flow + coarser
            reference = feat[:, :1].expand_as(feat).flatten(0, 1)
            seen = self.offset(torch.cat([warp(frames, flow), reference], 1))
            learned = 2 * torch.tanh(seen.float())
            flow = flow + learned
            offset = learned if coarser is None else learned + coarser
        # Where between its own pixels a frame was sampled; zero where it was not.
        phase = torch.cat([torch.sin(2 * torch.pi * flow), torch.cos(2 * torch.pi * flow)], 1)
        phase = (phase * inside(flow)).to(feat.dtype)
        embedded = self.embed_frame(torch.cat([warp(frames, flow), phase], 1))
        embedded = embedded.unflatten(0, (n, t)) + self.embed_reference(feat[:, 0])[:, None]
        embedded = F.leaky_relu(embedded, 0.1)

        # Both passes end at the reference; they share their weights.
        back, forth = [*range(t - 1, -1, -1)], [*range(1, t), 0]
        states = self.memory(embedded, [back, forth])
        return self.read(torch.cat(states, 1)) + embedded.mean(1), offset

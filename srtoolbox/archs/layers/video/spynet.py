"""SpyNet: optical flow by small networks on a pyramid, from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import is_exporting
from srtoolbox.archs.layers.burst.motion import warp
from srtoolbox.errors import UserError

PAIR_PIXELS = {"cpu": 2**14, "cuda": 2**23}
"""Pixels of the pairs that are processed at a time without gradients. Long clips need no more
memory than short ones then, and on a CPU the data stay in the cache."""


class SpyNet(nn.Module):
    """Optical flow between frames (Ranjan and Black, CVPR 2017), as BasicVSR uses it.

    The published size has 1,440,300 parameters. The flow of each level of a pyramid is that of the
    coarser level, enlarged, plus the output of five convolutions, which see the one frame, the
    other frame warped by the enlarged flow, and this flow.

    Args:
        num_level: Levels of the pyramid, each half as large as the next.
        num_feat: Channels of the first convolution; the others have twice, once and half of them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_level: int = 6, num_feat: int = 32) -> None:
        super().__init__()
        if num_level < 1 or num_feat < 2 or num_feat % 2:
            raise UserError(
                "SpyNet: the levels must be at least 1 and the features even and at least 2, got "
                f"{num_level} and {num_feat}"
            )
        self.basic_module = nn.ModuleList(_FlowStep(num_feat) for _ in range(num_level))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Estimates the flow with which ``fixed(p)`` looks like ``moving(p + flow(p))``.

        Args:
            fixed: RGB images (B, 3, h, w) in [0, 1], of any size.
            moving: The same.

        Returns:
            (B, 2, h, w) in pixels, x before y.
        """
        fixed_levels, moving_levels = self._pyramid(fixed), self._pyramid(moving)
        return self._estimate(fixed_levels, moving_levels, fixed.shape[-2:])

    def between_neighbours(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates the flows between neighbouring frames of clips, in both directions.

        Args:
            clip: RGB frames (N, T, 3, h, w) in [0, 1].

        Returns:
            The flows from each frame to the next, and from each frame but the first to the one
            before, both (N, T - 1, 2, h, w) in pixels, x before y.
        """
        n, frames, _, *size = clip.shape
        if frames == 1:
            nothing = clip.new_zeros(n, 0, 2, *size)
            return nothing, nothing
        levels = [x.unflatten(0, (n, frames)) for x in self._pyramid(clip.flatten(0, 1))]
        pairs = frames - 1
        if not torch.is_grad_enabled() and not is_exporting():
            limit = PAIR_PIXELS.get(clip.device.type, PAIR_PIXELS["cuda"])
            pairs = max(1, limit // (n * size[0] * size[1]))
        flows = []
        for shift, other in ((0, 1), (1, 0)):
            parts = []
            for start in range(0, frames - 1, pairs):
                stop = min(start + pairs, frames - 1)
                fixed = [x[:, start + shift : stop + shift].flatten(0, 1) for x in levels]
                moving = [x[:, start + other : stop + other].flatten(0, 1) for x in levels]
                flow = self._estimate(fixed, moving, size)
                parts.append(flow.unflatten(0, (n, stop - start)))
            flows.append(torch.cat(parts, 1))
        return flows[0], flows[1]

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        """Returns normalised images of all levels, the smallest first.

        They are first enlarged to sides that can be halved for each level.
        """
        multiple = 2 ** (len(self.basic_module) - 1)
        size = [-(-side // multiple) * multiple for side in images.shape[-2:]]
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        levels = [(images - self.mean) / self.std]
        for _ in range(len(self.basic_module) - 1):
            levels.insert(0, F.avg_pool2d(levels[0], 2))
        return levels

    def _estimate(self, fixed: list[Tensor], moving: list[Tensor], size: Sequence[int]) -> Tensor:
        """Returns the flow (B, 2, *size) of two pyramids.

        The smallest level starts with no motion. In the published code it starts with an enlarged
        empty flow where a side has one pixel only, which fails for images of up to 32 pixels.
        """
        flow = fixed[0].new_zeros(len(fixed[0]), 2, *fixed[0].shape[-2:])
        for level, (step, one, other) in enumerate(
            zip(self.basic_module, fixed, moving, strict=True)
        ):
            if level:
                flow = 2 * F.interpolate(
                    flow, scale_factor=2.0, mode="bilinear", align_corners=True
                )
            flow = step(torch.cat([one, warp(other, flow), flow], 1)) + flow
        height, width = fixed[-1].shape[-2:]
        flow = F.interpolate(flow, list(size), mode="bilinear", align_corners=False)
        # An exported program cannot make a tensor of ratios of free sizes.
        return torch.cat([flow[:, :1] * (size[1] / width), flow[:, 1:] * (size[0] / height)], 1)


class _FlowStep(nn.Module):
    """Improves the flow of one level: maps (B, 8, h, w) to (B, 2, h, w)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        widths = [8, num_feat, 2 * num_feat, num_feat, num_feat // 2, 2]
        layers: list[nn.Module] = []
        for num_in, num_out in pairwise(widths):
            layers += [nn.Conv2d(num_in, num_out, 7, padding=3), nn.ReLU()]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.basic_module(x)


def as_rgb(lq: Tensor) -> Tensor:
    """Returns what `SpyNet` sees of frames: RGB as it is, otherwise the mean of all bands.

    Args:
        lq: (…, C, h, w).

    Returns:
        (…, 3, h, w); for C other than 3, the mean of the bands three times.
    """
    if lq.shape[-3] == 3:
        return lq
    shape = [-1] * lq.ndim
    shape[-3] = 3
    return lq.mean(-3, keepdim=True).expand(shape)

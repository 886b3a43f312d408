"""BasicVSR: features that are carried through a clip in both directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import lrelu
from srtoolbox.archs.layers.burst.motion import warp
from srtoolbox.archs.layers.video.recurrent import RecurrentNetwork, Trunk, to_fast_format
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class BasicVSR(RecurrentNetwork):
    """Bidirectional recurrent network; the defaults are the published size.

    It restores all frames of a clip of any length. From the last frame to the first, and from the
    first to the last, features are warped to the next frame by optical flow and refined there. The
    SR frame is made of the features of both directions.

    Published weights of SpyNet have a learning rate of their own and are frozen at first:
    ``train.param_groups``.

    Args:
        scale: 4.
        num_feat: Channels of the features.
        num_block: Residual blocks of each direction: 30 in the paper.
        num_hr_feat: Channels after the second enlargement.
        num_flow_level: Levels of SpyNet, each half as large as the next.
        num_flow_feat: Channels of SpyNet's first convolution.
        num_in_ch: Bands of the input. The flow of other numbers than 3 is that of their mean.
        num_out_ch: Bands of the output, equal to ``num_in_ch``, since the result is added to the
            input; None: ``num_in_ch``.
    """

    paper = "Chan et al., BasicVSR: The search for essential components, CVPR 2021"
    scales = (4,)
    checkpoint_blocks = ("backward_trunk.main.2", "forward_trunk.main.2")

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 30,
        num_hr_feat: int = 64,
        num_flow_level: int = 6,
        num_flow_feat: int = 32,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        flow = num_flow_level, num_flow_feat
        super().__init__(scale, num_feat, num_hr_feat, *flow, num_in_ch, num_out_ch)
        self.backward_trunk = Trunk(num_in_ch + num_feat, num_feat, num_block)
        self.forward_trunk = Trunk(num_in_ch + num_feat, num_feat, num_block)
        self.fusion = nn.Conv2d(2 * num_feat, num_feat, 1)

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolves all frames of each clip.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1].

        Returns:
            (N, T, num_in_ch, h * scale, w * scale).
        """
        to_next, to_previous = self.flows(lq)
        frames = [to_fast_format(frame) for frame in lq.unbind(1)]
        last = len(frames) - 1
        start = frames[0].new_zeros(len(lq), self.num_feat, *lq.shape[-2:])

        feat, backward = start, [start] * len(frames)
        for i in reversed(range(len(frames))):
            if i < last:
                feat = warp(feat, to_next[i], "zeros")
            feat = backward[i] = self.backward_trunk(torch.cat([frames[i], feat], 1))
        feat, restored = start, []
        for i, frame in enumerate(frames):
            if i:
                feat = warp(feat, to_previous[i - 1], "zeros")
            feat = self.forward_trunk(torch.cat([frame, feat], 1))
            both = lrelu(self.fusion(torch.cat([backward[i], feat], 1)))
            backward[i] = start  # frees the memory
            restored.append(self.enlarge_features(both, frame))
        return torch.stack(restored, 1)

"""Temporal and spatial attention over aligned frames (Wang et al., EDVR, CVPRW 2019)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import enlarge, lrelu, max_and_mean

EDVR_NAMES = {
    "reference": "temporal_attn1",
    "frames": "temporal_attn2",
    "fusion": "feat_fusion",
    **{f"attn{i}": f"spatial_attn{i}" for i in range(1, 6)},
    **{f"level{i}": f"spatial_attn_l{i}" for i in range(1, 4)},
    **{f"shift{i}": f"spatial_attn_add{i}" for i in range(1, 3)},
}
LGTD_NAMES = {
    "frames": "tAtt_1",
    "reference": "tAtt_2",
    "fusion": "fea_fusion",
    **{f"attn{i}": f"sAtt_{i}" for i in range(1, 6)},
    **{f"level{i}": f"sAtt_L{i}" for i in range(1, 4)},
    **{f"shift{i}": f"sAtt_add_{i}" for i in range(1, 3)},
}
"""Names of the layers of `TSAFusion` in published weights, in the order of their creation."""


class TSAFusion(nn.Module):
    """Weighs frames by their similarity to the reference, fuses them, and weighs the pixels.

    Args:
        num_feat: Channels C of a frame's features.
        num_frame: Frames T of a clip.
        reference: Index of the frame that the others are compared with.
        names: Name of each layer; these are keys of weight files.
    """

    def __init__(
        self,
        num_feat: int,
        num_frame: int,
        reference: int,
        names: Mapping[str, str] = EDVR_NAMES,
    ) -> None:
        super().__init__()
        self.reference, self.names = reference, names
        num_in = {"fusion": num_frame, "attn1": num_frame, "attn2": 2, "level2": 2}
        kernel_3x3 = ("reference", "frames", "attn3", "attn5", "level2", "level3")
        for role, name in names.items():
            size = 3 if role in kernel_3x3 else 1
            conv = nn.Conv2d(num_in.get(role, 1) * num_feat, num_feat, size, padding=size // 2)
            self.add_module(name, conv)

    def forward(self, aligned: Tensor) -> Tensor:
        """Maps (N, T, C, h, w) to (N, C, h, w); h and w are multiples of 4."""
        layer = {role: getattr(self, name) for role, name in self.names.items()}
        reference = layer["reference"](aligned[:, self.reference])
        embedded = layer["frames"](aligned.flatten(0, 1)).unflatten(0, aligned.shape[:2])
        frames = weigh_frames(aligned, embedded, reference)

        feat = lrelu(layer["fusion"](frames))
        attn = lrelu(layer["attn2"](max_and_mean(lrelu(layer["attn1"](frames)))))
        level = lrelu(layer["level1"](attn))
        level = lrelu(layer["level3"](lrelu(layer["level2"](max_and_mean(level)))))
        attn = lrelu(layer["attn3"](attn)) + enlarge(level)
        attn = layer["attn5"](enlarge(lrelu(layer["attn4"](attn))))
        shift = layer["shift2"](lrelu(layer["shift1"](attn)))
        return feat * torch.sigmoid(attn) * 2 + shift


def weigh_frames(frames: Tensor, embedded: Tensor, reference: Tensor) -> Tensor:
    """Multiplies each pixel of each frame by its similarity to the reference, from 0 to 1.

    Args:
        frames: (N, T, C, h, w).
        embedded: Embeddings of the frames, (N, T, C, h, w).
        reference: Embedding of the reference frame, (N, C, h, w).

    Returns:
        (N, T * C, h, w).
    """
    similarity = (embedded * reference.unsqueeze(1)).sum(dim=2, keepdim=True)
    return (frames * torch.sigmoid(similarity)).flatten(1, 2)

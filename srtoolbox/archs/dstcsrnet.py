"""DSTC-SRNet: burst super-resolution by a temporal and a spatial stream, as published."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, is_exporting
from srtoolbox.archs.layers.conv_lstm import ConvLSTM
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

_NUM_MEDIAN = 16
"""Number of frames, from the first on, whose median is the reference."""

_INFERENCE_PIXELS = {"cpu": 2**14, "cuda": 2**20}
"""Pixels of all frames that are processed as one batch in inference, by device. Larger batches run
no faster and need more memory; on a CPU, smaller ones reorder the weights more often."""

_STEPS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
"""Factors of the stages of the decoder, by scale."""


@ARCH_REGISTRY.register()
class DSTCSRNet(nn.Module):
    """DSTC-SRNet: deep spatio-temporal collaboration for the super-resolution of a burst.

    "DSTC-SRNet: A Multi-Frame Super-Resolution Method Based on Deep Spatio-Temporal Collaboration",
    as in the authors' repository MinjieWan/DTSC-SRNet (© 2026 Minjie Wan, MIT licence). The names
    and shapes of the tensors and the outputs are those of the authors, so their weight files load.

    =================================  ===================  =======================================
    stage                              shape                content
    =================================  ===================  =======================================
    input                              (N, T, B, h, w)      the frames of B bands, not aligned
    ``unit1``                          (N, T, C, h, w)      `Encoder` of each frame and of the
                                                            reference, the median of 16 frames
    ``alpha_predictor``                (N, T)               weights of the frames
    ``unit2``                          (N, T, C, h, w)      `Encoder` of frame and reference
    ``fuse.temporal_stream``           (N, C, h, w)         `MTMS`: three recurrent memories
    ``fuse.spatial_stream``            (N, C, h, w)         `DRSS`: means over parts of the image
    ``fuse``                           (N, C, h, w)         attention between both, gates
    ``feature_enhancement``            (N, C, h, w)         `MLFE`: three sizes, channel attention
    ``decode``                         (N, B, h·s, w·s)     `ProgressiveDecoder`, ×2 in each stage
    =================================  ===================  =======================================

    The SR image is not clipped. There is no connection from the LR frames to the SR image around
    the network, so it must learn the image itself, and needs long training.

    The same functions are computed in fewer and larger operations than in a straightforward form
    (`srtoolbox.bench.straightforward`, a reference for speed and values). Memory is linear in the
    number of pixels; the time of the attention between all pixels is quadratic.

    Args:
        scale: 4 is published. 2 and 8 (one and three stages of the decoder) and 3 (one stage that
            enlarges by 3) are ours.
        num_feat: Channels C, a multiple of 8; 64 is published. All other widths follow from it.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = (
        "DSTC-SRNet: A Multi-Frame Super-Resolution Method Based on Deep Spatio-Temporal "
        "Collaboration (MinjieWan/DTSC-SRNet, 2026)"
    )
    scales = (2, 3, 4, 8)
    num_frame = None
    min_size = 4
    checkpoint_blocks = (
        "unit1",
        "unit2",
        "alpha_predictor",
        "fuse.temporal_stream",
        "fuse.spatial_stream",
        "feature_enhancement",
        "decode",
    )

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        if num_feat < 8 or num_feat % 8:
            raise UserError(f"DSTCSRNet: num_feat must be a multiple of 8, got {num_feat}")
        self.unit1 = Encoder(self.channels, num_feat)
        self.fuse = StreamFusion(num_feat)
        self.feature_enhancement = MLFE(num_feat)
        self.decode = ProgressiveDecoder(num_feat, _STEPS[scale], self.out_channels)
        self.unit2 = Encoder(2 * num_feat, num_feat)
        self.alpha_predictor = AlphaPredictor(num_feat)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps bursts to images.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1]; T ≥ 1, h and w ≥ 4.

        Returns:
            (N, num_out_ch, h·scale, w·scale).
        """
        # The median is the lower of the two middle values, where their number is even.
        median = _median(lq[:, :_NUM_MEDIAN])
        feat = each_frame(self.unit1, torch.cat((lq, median), 1))
        feat, reference = feat[:, :-1], feat[:, -1]
        alpha = self.alpha_predictor(feat)
        feat = self.unit2.beside(feat, reference)
        return self.decode(self.feature_enhancement(self.fuse(feat, alpha)))


def _median(frames: Tensor) -> Tensor:
    """Returns the median of frames (N, T, C, h, w) as (N, 1, C, h, w)."""
    if is_exporting():  # ONNX has no median
        middle = (frames.shape[1] - 1) // 2
        return frames.sort(1).values[:, middle : middle + 1]
    return frames.median(1, keepdim=True).values


class ResBlock(nn.Module):
    """Adds two convolutions, each with a PReLU, to its input (N, C, h, w)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            conv3(num_feat, num_feat), nn.PReLU(), conv3(num_feat, num_feat), nn.PReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class Encoder(nn.Module):
    """Convolution, two residual blocks, convolution: (M, channels, h, w) to (M, C, h, w)."""

    def __init__(self, channels: int, num_feat: int) -> None:
        super().__init__()
        self.init_layer = nn.Sequential(conv3(channels, num_feat), nn.PReLU())
        self.res_layers = nn.Sequential(ResBlock(num_feat), ResBlock(num_feat))
        self.final = nn.Sequential(conv3(num_feat, num_feat))

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.res_layers(self.init_layer(x)))

    def beside(self, x: Tensor, reference: Tensor) -> Tensor:
        """Encodes the concatenation of each frame (N, T, C, h, w) and the reference (N, C, h, w).

        The first convolution of a concatenation is the sum of two convolutions. Thus that of the
        reference is computed once for all frames of a burst.
        """
        conv, prelu = cast(nn.Conv2d, self.init_layer[0]), self.init_layer[1]
        own, other = conv.weight.split(x.shape[2], 1)
        shared = F.conv2d(reference, other, conv.bias, padding=1)

        def encode(frames: Tensor) -> Tensor:
            first = F.conv2d(frames, own, padding=1).unflatten(0, (len(shared), -1))
            first = prelu((first + shared[:, None]).flatten(0, 1))
            return self.final(self.res_layers(first))

        return each_frame(encode, x)


class Attention(nn.Module):
    """The parameters of ``torch.nn.MultiheadAttention``, which also starts like it.

    Args:
        num_feat: Channels C, divisible by ``num_head``.
        num_head: Attention heads.
    """

    def __init__(self, num_feat: int, num_head: int) -> None:
        super().__init__()
        self.num_head = num_head
        self.in_proj_weight = nn.Parameter(torch.empty(3 * num_feat, num_feat))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * num_feat))
        self.out_proj = nn.Linear(num_feat, num_feat)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, other: Tensor) -> Tensor:
        """Maps queries (N, L, C) and keys, which are also the values, (N, S, C) to (N, L, C).

        The weights (N, heads, L, S) are never in memory as a whole.
        """
        c = query.shape[-1]
        q = F.linear(query, self.in_proj_weight[:c], self.in_proj_bias[:c])
        kv = F.linear(other, self.in_proj_weight[c:], self.in_proj_bias[c:])
        q = q.unflatten(2, (self.num_head, -1)).transpose(1, 2)
        k, v = kv.unflatten(2, (2, self.num_head, -1)).permute(2, 0, 3, 1, 4).unbind()
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class AlphaPredictor(nn.Module):
    """Weights of the frames of each burst: (N, T, C, h, w) to (N, T) with sum 1."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.temporal_attention = Attention(num_feat, 4)
        self.spatial_encoder = nn.Sequential(
            conv3(num_feat, num_feat), nn.PReLU(), conv3(num_feat, num_feat), nn.PReLU()
        )
        self.quality_net = nn.Sequential(
            nn.Linear(num_feat, num_feat // 2), nn.PReLU(), nn.Linear(num_feat // 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        vector = each_frame(lambda frames: self.spatial_encoder(frames).mean((2, 3)), x)
        vector = self.temporal_attention(vector, vector)
        quality = torch.sigmoid(self.quality_net(vector)).squeeze(2)
        return (vector.mean(2) * quality).softmax(1)


class StreamFusion(nn.Module):
    """Both streams and their fusion: (N, T, C, h, w) and weights (N, T) to (N, C, h, w)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.temporal_stream = MTMS(num_feat)
        self.spatial_stream = DRSS(num_feat)
        self.fusion_strategy = FusionStrategy(num_feat)
        self.fusion_selector = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(2 * num_feat, num_feat // 4, 1),
            nn.PReLU(),
            nn.Conv2d(num_feat // 4, 2, 1),
            nn.Softmax(1),
        )
        self.refinement = nn.Sequential(
            ResBlock(num_feat), ResBlock(num_feat), conv3(num_feat, num_feat)
        )

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        temporal = self.temporal_stream(x, alpha)
        spatial = self.spatial_stream(x, alpha)
        both = torch.cat((temporal, spatial), 1)
        gated = self.fusion_strategy.gated(temporal, spatial, both)
        crossed = self.fusion_strategy.cross_attention(temporal, spatial)
        choice = self.fusion_selector(both)
        return self.refinement(choice[:, :1] * gated + choice[:, 1:] * crossed)


def frames_at_once(shape: torch.Size, device: torch.device) -> int:
    """Returns how many frames of bursts (N, T, C, h, w) to process as one batch in inference."""
    limit = _INFERENCE_PIXELS.get(device.type, _INFERENCE_PIXELS["cuda"])
    return max(1, limit // (shape[0] * shape[3] * shape[4]))


def each_frame(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a layer that maps (M, C, h, w) to (M, …) to bursts (N, T, C, h, w), to (N, T, …)."""
    if torch.is_grad_enabled() or is_exporting():  # everything is kept anyway
        return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    parts = x.split(frames_at_once(x.shape, x.device), 1)
    return torch.cat([layer(p.flatten(0, 1)).unflatten(0, p.shape[:2]) for p in parts], 1)


def weighted_sum(x: Tensor, alpha: Tensor) -> Tensor:
    """Sums frames (N, T, C, h, w) with their weights (N, T) to (N, C, h, w)."""
    return torch.einsum("nt,ntchw->nchw", alpha, x)


class MemoryUnit(nn.Module):
    """A `ConvLSTM` under the authors' name."""

    def __init__(self, num_feat: int, kernel: int) -> None:
        super().__init__()
        self.conv_lstm = ConvLSTM(num_feat, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_lstm(x)


class MTMS(nn.Module):
    """Multi-scale temporal memory stream."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.coarse_lstm = MemoryUnit(num_feat, 5)
        self.medium_lstm = MemoryUnit(num_feat, 3)
        self.fine_lstm = MemoryUnit(num_feat, 1)
        self.fusion_conv = nn.Sequential(
            nn.Conv2d(3 * num_feat, num_feat, 1), nn.PReLU(), ResBlock(num_feat)
        )

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        units = (self.coarse_lstm, self.medium_lstm, self.fine_lstm)
        if torch.is_grad_enabled():
            return self._fused([unit(x) for unit in units], x, alpha)
        # All units take a few frames, then the next ones, so that few maps are in memory.
        num_frame = frames_at_once(x.shape, x.device)
        streams = [unit.conv_lstm.states(x) for unit in units]
        total = x.new_zeros(())
        for part, weights in zip(x.split(num_frame, 1), alpha.split(num_frame, 1), strict=True):
            count = part.shape[1]
            hidden = [torch.stack(list(islice(stream, count)), 1) for stream in streams]
            total = total + self._fused(hidden, part, weights)
        return total

    def _fused(self, hidden: list[Tensor], x: Tensor, alpha: Tensor) -> Tensor:
        both = torch.cat([h + x for h in hidden], 2).flatten(0, 1)
        return weighted_sum(self.fusion_conv(both).unflatten(0, x.shape[:2]), alpha)


class DRSS(nn.Module):
    """Spatial stream."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.deform_conv = nn.Sequential(
            conv3(num_feat, num_feat), nn.PReLU(), conv3(num_feat, num_feat), nn.PReLU()
        )
        self.pyramid_fusion = nn.Sequential(nn.Conv2d(4 * num_feat, num_feat, 1), nn.PReLU())

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        return weighted_sum(each_frame(self._means, x), alpha)

    def _means(self, x: Tensor) -> Tensor:
        x = self.deform_conv(x)
        conv, prelu = cast(nn.Conv2d, self.pyramid_fusion[0]), self.pyramid_fusion[1]
        total = cast(Tensor, conv.bias)[:, None, None]
        for size, weight in zip((1, 2, 4, 8), conv.weight.chunk(4, 1), strict=True):
            level = F.conv2d(F.adaptive_avg_pool2d(x, size), weight)
            if is_exporting() or level.shape[2:] != x.shape[2:]:
                level = F.interpolate(level, x.shape[2:], mode="bilinear")
            total = total + level
        return prelu(total)


class GatedFusion(nn.Module):
    """Fusion by two maps that a small network computes."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.gate_net = nn.Sequential(
            conv3(2 * num_feat, num_feat // 4), nn.PReLU(), nn.Conv2d(num_feat // 4, 2, 1)
        )
        self.temporal_transform = nn.Conv2d(num_feat, num_feat, 1)
        self.spatial_transform = nn.Conv2d(num_feat, num_feat, 1)

    def forward(self, temporal: Tensor, spatial: Tensor, both: Tensor) -> Tensor:
        gate = self.gate_net(both).softmax(1)
        a = gate[:, :1] * self.temporal_transform(temporal)
        return a + gate[:, 1:] * self.spatial_transform(spatial) + temporal


class CrossAttention(nn.Module):
    """Fusion by attention between all positions, in both directions."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.temporal_to_spatial_attn = Attention(num_feat, 2)
        self.spatial_to_temporal_attn = Attention(num_feat, 2)
        self.fusion_gate = nn.Sequential(nn.Linear(2 * num_feat, num_feat), nn.Sigmoid())

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        t, s = (x.flatten(2).transpose(1, 2) for x in (temporal, spatial))
        a, b = self.temporal_to_spatial_attn(t, s), self.spatial_to_temporal_attn(s, t)
        gate = self.fusion_gate(torch.cat((a.mean(1), b.mean(1)), 1))[:, None]
        return torch.lerp(b, a, gate).transpose(1, 2).reshape(temporal.shape)


class FusionStrategy(nn.Module):
    """The two fusions under the authors' names."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.gated = GatedFusion(num_feat)
        self.cross_attention = CrossAttention(num_feat)


class MLFE(nn.Module):
    """Multi-level feature enhancement."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.residual_scale = nn.Parameter(torch.tensor(0.1))
        self.encoder = nn.Sequential(
            conv3(num_feat, num_feat), nn.PReLU(), *(ResBlock(num_feat) for _ in range(4))
        )
        self.multi_scale_branches = nn.ModuleList(
            [
                nn.Identity(),
                *(
                    nn.Sequential(
                        nn.AvgPool2d(factor),
                        conv3(num_feat, num_feat),
                        nn.PReLU(),
                        ResBlock(num_feat),
                    )
                    for factor in (2, 4)
                ),
            ]
        )
        self.feature_fusion = nn.Sequential(
            nn.Conv2d(3 * num_feat, num_feat, 1),
            nn.PReLU(),
            ResBlock(num_feat),
            ResBlock(num_feat),
        )
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(num_feat, num_feat // 8, 1),
            nn.PReLU(),
            nn.Conv2d(num_feat // 8, num_feat, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        feat = self.encoder(x)
        levels = [
            F.interpolate(level, x.shape[2:], mode="bilinear") if level.shape != x.shape else level
            for level in (branch(feat) for branch in self.multi_scale_branches)
        ]
        feat = self.feature_fusion(torch.cat(levels, 1))
        return x + self.residual_scale * (feat * self.attention(feat))


class ProgressiveDecoder(nn.Module):
    """Enlarges (N, C, h, w) step by step and returns an image."""

    def __init__(self, num_feat: int, steps: tuple[int, ...], num_out_ch: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in steps:
            conv = nn.Conv2d(num_feat, num_feat, 3, padding=1, padding_mode="reflect")
            layers += [nn.Upsample(scale_factor=step, mode="bilinear"), conv, nn.PReLU()]
        self.upsample = nn.Sequential(*layers)
        self.refine_blocks = nn.Sequential(ResBlock(num_feat), ResBlock(num_feat))
        self.final = nn.Conv2d(num_feat, num_out_ch, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.refine_blocks(self.upsample(x)))

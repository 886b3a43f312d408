"""Computes networks in a straightforward form, for comparisons of speed and values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.basicvsr import BasicVSR
from srtoolbox.archs.basicvsrpp import BRANCHES, BasicVSRPlusPlus
from srtoolbox.archs.bipnet import BIPNet
from srtoolbox.archs.burstormer import Burstormer
from srtoolbox.archs.dstcsrnet import Attention, DSTCSRNet
from srtoolbox.archs.fbanet import FBANet
from srtoolbox.archs.layers.conv_lstm import ConvLSTM
from srtoolbox.archs.layers.transformer import drop_branch
from srtoolbox.archs.layers.video.spynet import SpyNet, as_rgb
from srtoolbox.archs.layers.window import SwinAttention, from_windows, to_windows
from srtoolbox.archs.swinir import RSTB, SwinIR, mask_of_image
from srtoolbox.bench.straightforward_bursts import (
    StraightforwardBIPNet,
    StraightforwardBurstormer,
    explicit_attention,
)


def straightforward(net: nn.Module) -> nn.Module:
    """Returns the straightforward form of a network, with the same parameters.

    A network that has no other form is returned as it is.
    """
    if isinstance(net, DSTCSRNet):
        return StraightforwardDSTCSRNet(net)
    if isinstance(net, BasicVSR):
        return StraightforwardBasicVSR(net)
    if isinstance(net, BasicVSRPlusPlus):
        return StraightforwardBasicVSRPlusPlus(net)
    if isinstance(net, Burstormer):
        return StraightforwardBurstormer(net)
    if isinstance(net, BIPNet):
        return StraightforwardBIPNet(net)
    if isinstance(net, FBANet):
        return explicit_attention(net)
    return StraightforwardSwinIR(net) if isinstance(net, SwinIR) else net


class StraightforwardDSTCSRNet(nn.Module):
    """DSTC-SRNet computed step by step, as its description reads.

    Each gate has its own convolutions, each frame is processed on its own where frames do not
    influence each other, the features of the reference are repeated for each frame, and the weights
    of the attention between all pixels are tensors.

    Args:
        net: The network; its parameters are shared.
    """

    scales = DSTCSRNet.scales
    num_frame = DSTCSRNet.num_frame
    min_size = DSTCSRNet.min_size

    def __init__(self, net: DSTCSRNet) -> None:
        super().__init__()
        self.net, self.scale = net, net.scale
        self.channels, self.out_channels = net.channels, net.out_channels

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, T, bands, h, w) to (N, bands, h·scale, w·scale); see `DSTCSRNet`."""
        net, shape = self.net, lq.shape[:2]
        feat = net.unit1(lq.flatten(0, 1)).unflatten(0, shape)
        alpha = self._alpha(feat)
        reference = net.unit1(lq[:, :16].median(1).values)
        pair = torch.cat((feat, reference[:, None].expand_as(feat)), 2).flatten(0, 1)
        unit2 = net.unit2
        feat = unit2.final(unit2.res_layers(unit2.init_layer(pair))).unflatten(0, shape)
        fused = self._fuse(self._temporal(feat, alpha), self._spatial(feat, alpha))
        return net.decode(net.feature_enhancement(fused))

    def _alpha(self, feat: Tensor) -> Tensor:
        predictor = self.net.alpha_predictor
        vectors = [predictor.spatial_encoder(frame).mean((2, 3)) for frame in feat.unbind(1)]
        vector = torch.stack(vectors, 1)
        vector = _attend(predictor.temporal_attention, vector, vector)
        quality = torch.sigmoid(predictor.quality_net(vector)).squeeze(2)
        return (vector.mean(2) * quality).softmax(1)

    def _temporal(self, feat: Tensor, alpha: Tensor) -> Tensor:
        stream = self.net.fuse.temporal_stream
        units = (stream.coarse_lstm, stream.medium_lstm, stream.fine_lstm)
        hidden = cell = [torch.zeros_like(feat[:, 0])] * len(units)
        total = torch.zeros_like(feat[:, 0])
        for t, frame in enumerate(feat.unbind(1)):
            steps = [
                _lstm_step(unit.conv_lstm, frame, h, c)
                for unit, h, c in zip(units, hidden, cell, strict=True)
            ]
            hidden, cell = map(list, zip(*steps, strict=True))
            fused = stream.fusion_conv(torch.cat([h + frame for h in hidden], 1))
            total = total + alpha[:, t, None, None, None] * fused
        return total

    def _spatial(self, feat: Tensor, alpha: Tensor) -> Tensor:
        stream, size = self.net.fuse.spatial_stream, feat.shape[3:]
        total = torch.zeros_like(feat[:, 0])
        for t, frame in enumerate(feat.unbind(1)):
            frame = stream.deform_conv(frame)
            levels = [
                F.interpolate(F.adaptive_avg_pool2d(frame, cells), size, mode="bilinear")
                for cells in (1, 2, 4, 8)
            ]
            total = total + alpha[:, t, None, None, None] * stream.pyramid_fusion(
                torch.cat(levels, 1)
            )
        return total

    def _fuse(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        fuse = self.net.fuse
        crossed = fuse.fusion_strategy.cross_attention
        t, s = (x.flatten(2).transpose(1, 2) for x in (temporal, spatial))
        a = _attend(crossed.temporal_to_spatial_attn, t, s)
        b = _attend(crossed.spatial_to_temporal_attn, s, t)
        gate = crossed.fusion_gate(torch.cat((a.mean(1), b.mean(1)), 1))[:, None]
        attended = (gate * a + (1 - gate) * b).transpose(1, 2).reshape(temporal.shape)

        both = torch.cat((temporal, spatial), 1)
        gated = fuse.fusion_strategy.gated
        gate = gated.gate_net(both).softmax(1)
        mixed = gate[:, :1] * gated.temporal_transform(temporal)
        mixed = mixed + gate[:, 1:] * gated.spatial_transform(spatial) + temporal

        choice = fuse.fusion_selector(both)
        return fuse.refinement(choice[:, :1] * mixed + choice[:, 1:] * attended)


class StraightforwardSwinIR(nn.Module):
    """SwinIR with its attention written out: products, biases, a mask for every window, softmax.

    Masks of images of other sizes than ``img_size`` are computed once for each size.

    Args:
        net: The network; its parameters are shared.
    """

    scales = SwinIR.scales

    def __init__(self, net: SwinIR) -> None:
        super().__init__()
        self.net, self.scale = net, net.scale
        self.channels, self.out_channels = net.channels, net.out_channels
        self.size_multiple, self.min_size = net.size_multiple, net.min_size
        self.pad_mode = net.pad_mode
        self._masks: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, bands, h, w) to (N, bands, h·scale, w·scale); see `SwinIR`."""
        net = self.net
        shallow = net.conv_first((lq - net.mean) * net.img_range)
        feat = net.patch_embed(shallow.movedim(1, -1))
        for layer in cast(Iterable[RSTB], net.layers):
            inner = feat
            for block in layer.blocks:
                attended = self._attend(block.attn, block.norm1(inner))
                inner = inner + drop_branch(attended, block.drop, self.training)
                changed = block.mlp(block.norm2(inner))
                inner = inner + drop_branch(changed, block.drop, self.training)
            feat = feat + layer.conv(inner.movedim(-1, 1)).movedim(1, -1)
        feat = shallow + net.conv_after_body(net.norm(feat).movedim(-1, 1))
        return net.enlarged(feat) / net.img_range + net.out_mean

    def _attend(self, attn: SwinAttention, x: Tensor) -> Tensor:
        n, height, width, _ = x.shape
        size, shift, heads = attn.window_size, attn.shift, attn.num_head
        x = x.roll((-shift, -shift), (1, 2)) if shift else x
        windows = to_windows(x, size).flatten(0, 2)  # (windows, pixels, C)
        qkv = attn.qkv(windows).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv  # (windows, heads, pixels, channels of a head)
        scores = query * query.shape[-1] ** -0.5 @ key.mT
        index = attn.relative_position_index
        scores = scores + attn.relative_position_bias_table[index].permute(2, 0, 1)
        if shift:
            mask = self._mask(height, width, size, x.device)[None, :, None]
            scores = (scores.unflatten(0, (n, -1)) + mask).flatten(0, 1)
        windows = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        grid = (n, height // size, width // size)
        x = from_windows(attn.proj(windows).unflatten(0, grid), size)
        return x.roll((shift, shift), (1, 2)) if shift else x

    def _mask(self, height: int, width: int, size: int, device: torch.device) -> Tensor:
        """Returns the mask of the shifted windows: (windows, pixels, pixels)."""
        if (height, width, device) not in self._masks:
            self._masks[height, width, device] = mask_of_image(height, width, size).to(device)
        return self._masks[height, width, device]


def _lstm_step(cell: ConvLSTM, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Returns hidden state and cell state after the frame ``x``, each (N, C, h, w)."""
    take = torch.sigmoid(cell.W_xi(x) + cell.W_hi(h) + cell.W_ci(c) + cell.b_i)
    keep = torch.sigmoid(cell.W_xf(x) + cell.W_hf(h) + cell.W_cf(c) + cell.b_f)
    new = torch.tanh(cell.W_xc(x) + cell.W_hc(h) + cell.b_c)
    c = keep * c + take * new
    out = torch.sigmoid(cell.W_xo(x) + cell.W_ho(h) + cell.W_co(c) + cell.b_o)
    return out * torch.tanh(c), c


def _attend(attention: Attention, query: Tensor, other: Tensor) -> Tensor:
    """Applies torch's multi-head attention, which also returns its weights."""
    q, kv = query.transpose(0, 1), other.transpose(0, 1)
    out, _ = F.multi_head_attention_forward(
        q,
        kv,
        kv,
        q.shape[-1],
        attention.num_head,
        attention.in_proj_weight,
        attention.in_proj_bias,
        None,
        None,
        False,
        0.0,
        attention.out_proj.weight,
        attention.out_proj.bias,
    )
    return out.transpose(0, 1)


class StraightforwardBasicVSR(nn.Module):
    """BasicVSR computed step by step, as its description reads.

    Both directions of the flow are estimated on their own, each with its own pyramids, all pairs at
    once. Features are warped by ``grid_sample`` with aligned corners, in the usual memory format.

    Args:
        net: The network; its parameters are shared.
    """

    scales = BasicVSR.scales
    num_frame = BasicVSR.num_frame
    restores_all = BasicVSR.restores_all

    def __init__(self, net: BasicVSR) -> None:
        super().__init__()
        self.net, self.scale = net, net.scale
        self.channels, self.out_channels = net.channels, net.out_channels

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, T, bands, h, w) to (N, T, bands, h·scale, w·scale); see `BasicVSR`."""
        net, frames = self.net, lq.shape[1]
        to_next, to_previous = _flows(net.spynet, lq)
        feat = lq.new_zeros(len(lq), net.num_feat, *lq.shape[3:])
        backward = []
        for i in reversed(range(frames)):
            if i < frames - 1:
                feat = _warp(feat, to_next[:, i], "zeros")
            feat = net.backward_trunk(torch.cat((lq[:, i], feat), 1))
            backward.insert(0, feat)
        feat, restored = torch.zeros_like(feat), []
        for i in range(frames):
            if i > 0:
                feat = _warp(feat, to_previous[:, i - 1], "zeros")
            feat = net.forward_trunk(torch.cat((lq[:, i], feat), 1))
            both = F.leaky_relu(net.fusion(torch.cat((backward[i], feat), 1)), 0.1)
            restored.append(net.enlarge_features(both, lq[:, i]))
        return torch.stack(restored, 1)


class StraightforwardBasicVSRPlusPlus(nn.Module):
    """BasicVSR++ computed step by step, as its description reads; see `StraightforwardBasicVSR`.

    All features are kept until the end of the clip.

    Args:
        net: The network; its parameters are shared.
    """

    num_frame = BasicVSRPlusPlus.num_frame
    restores_all = BasicVSRPlusPlus.restores_all

    def __init__(self, net: BasicVSRPlusPlus) -> None:
        super().__init__()
        self.net, self.scale, self.scales = net, net.scale, (net.scale,)
        self.channels, self.out_channels = net.channels, net.out_channels
        self.size_multiple = self.min_size = net.size_multiple

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, T, bands, h, w) to (N, T, bands, h·scale, w·scale); see `BasicVSRPlusPlus`."""
        net, frames = self.net, lq.shape[1]
        small = lq
        if net.scale == 1:
            small = F.interpolate(lq.flatten(0, 1), scale_factor=0.25, mode="bicubic")
            small = small.unflatten(0, lq.shape[:2])
        to_next, to_previous = _flows(net.spynet, small)
        spatial = net.feat_extract(lq.flatten(0, 1)).unflatten(0, lq.shape[:2])
        known = [[spatial[:, i]] for i in range(frames)]
        for branch in BRANCHES:
            order = list(range(frames))
            flows = to_previous
            if branch.startswith("backward"):
                order, flows = order[::-1], to_next.flip(1)
            passed: list[Tensor] = []
            for n, i in enumerate(order):
                own = spatial[:, i]
                feat = torch.zeros_like(own)
                if n > 0:
                    one, flow1 = passed[-1], flows[:, n - 1]
                    two, flow2 = torch.zeros_like(own), torch.zeros_like(flow1)
                    moved2 = torch.zeros_like(own)
                    if n > 1:
                        two, flow2 = passed[-2], flows[:, n - 2]
                        flow2 = flow1 + _warp(flow2, flow1, "zeros")
                        moved2 = _warp(two, flow2, "zeros")
                    moved1 = _warp(one, flow1, "zeros")
                    condition = torch.cat((moved1, own, moved2, flow1, flow2), 1)
                    both = torch.cat((one, two), 1)
                    feat = net.deform_align[branch](both, condition, flow1, flow2)
                feat = feat + net.backbone[branch](torch.cat((*known[i], feat), 1))
                passed.append(feat)
                known[i].append(feat)
        restored = [
            net.enlarge_features(net.reconstruction(torch.cat(feats, 1)), lq[:, i])
            for i, feats in enumerate(known)
        ]
        return torch.stack(restored, 1)


def _flows(spynet: SpyNet, lq: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the flows to the next and to the previous frame, both (N, T - 1, 2, h, w)."""
    n, frames, _, *size = lq.shape
    if frames == 1:
        return lq.new_zeros(n, 0, 2, *size), lq.new_zeros(n, 0, 2, *size)
    rgb = as_rgb(lq)
    earlier, later = rgb[:, :-1].flatten(0, 1), rgb[:, 1:].flatten(0, 1)
    to_next, to_previous = _flow(spynet, earlier, later), _flow(spynet, later, earlier)
    return to_next.unflatten(0, (n, frames - 1)), to_previous.unflatten(0, (n, frames - 1))


def _flow(spynet: SpyNet, fixed: Tensor, moving: Tensor) -> Tensor:
    """Returns the flow between images, as `SpyNet.forward` does."""
    multiple = 2 ** (len(spynet.basic_module) - 1)
    height, width = fixed.shape[2:]
    size = [-(-side // multiple) * multiple for side in (height, width)]
    pyramids = []
    for images in (fixed, moving):
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        levels = [(images - spynet.mean) / spynet.std]
        for _ in range(len(spynet.basic_module) - 1):
            levels.insert(0, F.avg_pool2d(levels[0], 2))
        pyramids.append(levels)
    flow = torch.zeros_like(pyramids[0][0][:, :2])
    for level, step in enumerate(spynet.basic_module):
        if level > 0:
            flow = 2 * F.interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=True)
        moved = _warp(pyramids[1][level], flow, "border")
        flow = flow + step(torch.cat((pyramids[0][level], moved, flow), 1))
    flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
    factors = flow.new_tensor([width / size[1], height / size[0]])
    return flow * factors[:, None, None]


def _warp(x: Tensor, flow: Tensor, beyond: str) -> Tensor:
    """Warps (N, C, h, w) by (N, 2, h, w) in pixels, x before y."""
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device, dtype=x.dtype)
    columns = torch.arange(width, device=x.device, dtype=x.dtype)
    y, x0 = torch.meshgrid(rows, columns, indexing="ij")
    position = torch.stack((x0, y), 2) + flow.permute(0, 2, 3, 1)
    ends = flow.new_tensor([max(width - 1, 1), max(height - 1, 1)])
    return F.grid_sample(x, 2 * position / ends - 1, padding_mode=beyond, align_corners=True)

"""Computes burst networks as their descriptions read, one burst at a time."""

from __future__ import annotations

import copy
import itertools
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.bipnet import BIPNet
from srtoolbox.archs.burstormer import BackProjection, Burstormer, ReferenceAlignment, burst_pool
from srtoolbox.archs.fbanet import Block, FBANet, IndexedAttention, TwoProjections
from srtoolbox.archs.layers.basic import enlarge
from srtoolbox.archs.layers.restormer import PixelNorm, TransposedAttention, TransposedBlock
from srtoolbox.archs.layers.window import from_windows, to_windows


class StraightforwardBurst(nn.Module):
    """A burst network in a straightforward form.

    Args:
        net: The network; its parameters are shared.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.scale = net, net.scale
        for name in ("scales", "num_frame", "size_multiple", "min_size", "channels"):
            setattr(self, name, getattr(net, name))
        self.out_channels = net.out_channels

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, T, bands, h, w) to (N, bands, h·scale, w·scale), burst by burst."""
        return torch.cat([self.restore(burst) for burst in lq])

    def restore(self, lq: Tensor) -> Tensor:
        """Maps one burst (T, bands, h, w) to (1, bands, h·scale, w·scale)."""
        raise NotImplementedError


class StraightforwardBurstormer(StraightforwardBurst):
    """Burstormer step by step.

    The reference is repeated for every frame and aligned like them, queries and keys are normalised
    before their product, and every convolution is one operation on all frames of the burst.
    """

    def restore(self, lq: Tensor) -> Tensor:
        net = cast(Burstormer, self.net)
        feat = burst_pool(self._align(net.conv1(lq))[None])
        feat = net.up1(self._fuse(net.back_projection1, feat[0]))
        feat = self._fuse(net.back_projection2, feat.unflatten(1, (2, -1))[0])
        sr = net.out_conv(net.up3(net.up2(feat)))
        return sr + enlarge(lq[:1], net.scale) if net.skip else sr

    def _align(self, x: Tensor) -> Tensor:
        align = self.net.align
        full = _run(align.encoder_level1, x)
        half = _run(align.encoder_level2, align.down1(full))
        quarter = align.down2(half)
        aligned, motion = self._move(align.alignment2, quarter, None)
        larger = align.up2(aligned)
        aligned, motion = self._move(align.alignment1, half, 2 * align.offset_up2(motion))
        larger = align.up1(larger + aligned)
        aligned, motion = self._move(align.alignment0, full, 2 * align.offset_up1(motion))
        return self._move(align.cascade_alignment, larger + aligned, motion)[0]

    def _move(
        self, layer: ReferenceAlignment, x: Tensor, motion: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        new = layer.bottleneck(torch.cat((x[:1].expand_as(x), x), 1))
        if motion is not None:
            new = layer.bottleneck_o(torch.cat((motion, new), 1))
        first, second, mask = layer.offset_conv(new).chunk(3, 1)
        moved = layer.deform(x, torch.cat((first, second), 1), torch.sigmoid(mask))
        moved = torch.cat((x[:1], moved[1:].to(x.dtype)))
        return self._project(layer.back_projection, moved), new

    def _project(self, layer: BackProjection, x: Tensor) -> Tensor:
        if layer.joint:
            pairs = _run(layer.encoder1, torch.cat((x[:1].expand_as(x), x), 1))
        else:
            feat = _run(layer.encoder1, x)
            pairs = torch.cat((feat[:1].expand_as(feat), feat), 1)
        fused = layer.feat_fusion(pairs)
        return fused + layer.diff_fusion(layer.feat_expand(fused) - pairs)

    def _fuse(self, layer: Any, x: Tensor) -> Tensor:
        rolled = hasattr(layer, "diff_fusion")
        pairs = x.reshape(-1, 2 * x.shape[1], *x.shape[2:])
        if rolled:
            pairs = torch.cat((pairs, x.roll(1, 0).reshape(pairs.shape)))
        pairs = _run(layer.encoder1, pairs)
        fused = layer.feat_fusion(pairs)
        if rolled:
            fused = fused + layer.diff_fusion(pairs - layer.feat_expand(fused))
        else:
            fused = 2 * pairs - layer.feat_expand(fused)
        return fused.reshape(1, -1, *x.shape[2:])


def _run(blocks: nn.Sequential, x: Tensor) -> Tensor:
    for block in cast("list[TransposedBlock]", list(blocks)):
        x = x + _attend(block.attn, _normalise(block.norm1, x))
        x = x + block.ffn(_normalise(block.norm2, x))
    return x


def _normalise(norm: PixelNorm, x: Tensor) -> Tensor:
    """Normalises the tokens of a copy in which channels come last."""
    tokens = norm.body(x.flatten(2).transpose(1, 2).contiguous())
    return tokens.transpose(1, 2).contiguous().view_as(x)


def _attend(attention: TransposedAttention, x: Tensor) -> Tensor:
    """Attention across channels with separate convolutions and normalised queries and keys."""
    heads = len(attention.temperature)
    query, key = attention.qk_dwconv(attention.qk(x)).chunk(2, 1)
    value = attention.v_dwconv(attention.v(x))
    query, key, value = (t.flatten(2).unflatten(1, (heads, -1)) for t in (query, key, value))
    query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
    weights = (query @ key.transpose(2, 3) * attention.temperature).softmax(-1)
    return attention.project_out((weights @ value).flatten(1, 2).view_as(x))


class StraightforwardBIPNet(StraightforwardBurst):
    """BIPNet step by step, with the reference repeated for every frame."""

    def restore(self, lq: Tensor) -> Tensor:
        net = cast(BIPNet, self.net)
        base = net.conv1(lq)
        frames = net.encoder(base)
        feat = net.bottleneck(torch.cat((frames[:1].expand_as(frames), frames), 1))
        for number in range(1, 5):
            first, second, mask = net.get_submodule(f"offset_conv{number}")(feat).chunk(3, 1)
            moved = frames if number == 3 else feat
            offset = torch.cat((first, second), 1)
            feat = net.get_submodule(f"deform{number}")(moved, offset, torch.sigmoid(mask))
        feat = net.feat_ext1(feat)
        feat = feat + net.cor_conv1(feat - base[:1])
        maps = net.UNet(net.conv2(feat.transpose(0, 1)))
        for number in range(1, net.num_step + 1):
            maps = net.get_submodule(f"SKFF{number}")(maps)
        sr = net.conv3(maps)
        return sr + enlarge(lq[:1], net.scale) if net.skip else sr


def explicit_attention(net: FBANet) -> FBANet:
    """Returns FBANet with the weights of its attention as tensors; the parameters are shared."""
    shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    other = copy.deepcopy(net, shared)
    for block in other.modules():
        if isinstance(block, Block):
            setattr(block, "attn", ExplicitAttention(block.attn))  # noqa: B010 (another type)
    return other


class ExplicitAttention(nn.Module):
    """Window attention by its formula, with one mask for all windows of a map."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = cast(IndexedAttention, attention)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape."""
        attention, size, shape = self.attention, self.attention.window_size, x.shape
        shift, heads, pixels = attention.shift, attention.num_head, size**2
        x = to_windows(x.roll((-shift, -shift), (1, 2)), size).flatten(0, 2)
        projections = cast(TwoProjections, attention.qkv)
        query = projections.to_q(x).unflatten(2, (heads, -1)).transpose(1, 2)
        key, value = projections.to_kv(x).unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
        table = attention.relative_position_bias_table
        bias = table[attention.relative_position_index.flatten()].view(pixels, pixels, heads)
        logits = query * query.shape[3] ** -0.5 @ key.transpose(2, 3) + bias.permute(2, 0, 1)
        if shift:
            mask = _region_mask(shape[1], shape[2], size, shift).to(logits)
            logits = logits.unflatten(0, (-1, len(mask))) + mask[:, None]
            logits = logits.flatten(0, 1)
        x = (logits.softmax(3) @ value).transpose(1, 2).flatten(2)
        grid = (shape[0], shape[1] // size, shape[2] // size)
        x = from_windows(attention.proj(x).unflatten(0, grid), size)
        return x.roll((shift, shift), (1, 2))


def _region_mask(height: int, width: int, size: int, shift: int) -> Tensor:
    """Returns −100 for pixels of different regions of a rolled map, else 0: (windows, L, L)."""
    region = torch.zeros(1, height, width, 1)
    borders = (slice(0, -size), slice(-size, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate(itertools.product(borders, borders)):
        region[:, rows, columns] = number
    region = to_windows(region, size).flatten(0, 2)
    return (region != region.transpose(1, 2)).float() * -100

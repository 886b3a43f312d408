"""HAT: the hybrid attention transformer, used as the last part of larger networks."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from srtoolbox.archs.layers.basic import conv3
from srtoolbox.archs.layers.channel_attention import ChannelAttention
from srtoolbox.archs.layers.transformer import Mlp, drop_branch, init_linear_
from srtoolbox.archs.layers.upsample import Upsample
from srtoolbox.archs.layers.window import (
    WindowAttention,
    attend,
    bias_table,
    from_windows,
    overlap_index,
    self_index,
    to_overlapping_windows,
    to_windows,
)
from srtoolbox.errors import UserError


class HAT(nn.Module):
    """Hybrid attention transformer: window, overlapping-window and channel attention.

    Chen et al., "Activating More Pixels in Image Super-Resolution Transformer", CVPR 2023. Channel
    attention depends on the whole image, so that a tiled result differs a little.

    Args:
        num_in_ch: Channels of the input.
        scale: Factor by which height and width grow.
        embed_dim: Channels of the inner layers, divisible by ``num_head``.
        num_group: Residual groups.
        num_block: Hybrid attention blocks in each group.
        num_head: Attention heads.
        window_size: Height and width of a window, a multiple of 4. Input sizes are multiples of it.
        conv_scale: Weight of the convolutions in a block.
        drop_path: Probability that the last block skips a branch in training; it increases linearly
            from 0 in the first block.
        num_feat: Channels of the upsampler.
        num_out_ch: Channels of the output.
    """

    def __init__(
        self,
        num_in_ch: int,
        scale: int = 4,
        embed_dim: int = 180,
        num_group: int = 6,
        num_block: int = 6,
        num_head: int = 6,
        window_size: int = 16,
        conv_scale: float = 0.01,
        drop_path: float = 0.1,
        num_feat: int = 64,
        num_out_ch: int = 3,
    ) -> None:
        super().__init__()
        if embed_dim % num_head:
            raise UserError(f"HAT: num_head ({num_head}) must divide embed_dim ({embed_dim})")
        if window_size < 4 or window_size % 4:
            raise UserError(f"HAT: window_size must be a multiple of 4, got {window_size}")
        overlap = window_size // 4
        self.register_buffer("relative_position_index_SA", self_index(window_size))
        self.register_buffer("relative_position_index_OCA", overlap_index(window_size, overlap))

        def block(number: int) -> HAB:
            drop = drop_path * number / max(num_group * num_block - 1, 1)
            conv = CAB(embed_dim)
            attn = WindowAttention(embed_dim, window_size, num_head, shifted=number % 2 == 1)
            return HAB(attn, conv, conv_scale, Mlp(embed_dim), drop)

        self.conv_first = nn.Conv2d(num_in_ch, embed_dim, 3, padding=1)
        self.patch_embed = nn.Sequential(OrderedDict(norm=nn.LayerNorm(embed_dim)))
        self.layers = nn.ModuleList(
            RHAG(
                [block(group * num_block + number) for number in range(num_block)],
                OCAB(embed_dim, window_size, overlap, num_head),
                embed_dim,
            )
            for group in range(num_group)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self.conv_before_upsample = nn.Sequential(conv3(embed_dim, num_feat), nn.LeakyReLU())
        self.upsample = Upsample(scale, num_feat)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        init_linear_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) to (N, num_out_ch, h * scale, w * scale)."""
        shallow = self.conv_first(x)
        feat = self.patch_embed(shallow.movedim(1, -1))
        for layer in self.layers:
            feat = layer(feat, self.relative_position_index_SA, self.relative_position_index_OCA)
        feat = shallow + self.conv_after_body(self.norm(feat).movedim(-1, 1))
        return self.conv_last(self.upsample(self.conv_before_upsample(feat)))


class RHAG(nn.Module):
    """Residual group: hybrid attention blocks, then an overlapping cross-attention block.

    Args:
        blocks: The hybrid attention blocks.
        overlap_attn: The overlapping cross-attention block.
        embed_dim: Channels.
    """

    def __init__(self, blocks: list[HAB], overlap_attn: OCAB, embed_dim: int) -> None:
        super().__init__()
        self.residual_group = nn.ModuleDict(
            {"blocks": nn.ModuleList(blocks), "overlap_attn": overlap_attn}
        )
        self.conv = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)

    def forward(self, x: Tensor, self_rows: Tensor, overlap_rows: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape.

        Args:
            x: The map.
            self_rows: `self_index` of the window size.
            overlap_rows: `overlap_index` of the window size and the overlap.
        """
        feat = x
        for block in self.residual_group["blocks"].children():
            feat = block(feat, self_rows)
        feat = self.residual_group["overlap_attn"](feat, overlap_rows)
        return x + self.conv(feat.movedim(-1, 1)).movedim(1, -1)


class HAB(nn.Module):
    """Hybrid attention block: window attention and convolutions in parallel, then a perceptron.

    Args:
        attn: Window attention.
        conv_block: Convolutions with channel attention.
        conv_scale: Weight of the convolutions.
        mlp: The perceptron.
        drop: Probability that an image skips a branch in training.
    """

    def __init__(
        self, attn: WindowAttention, conv_block: CAB, conv_scale: float, mlp: Mlp, drop: float
    ) -> None:
        super().__init__()
        embed_dim = attn.proj.out_features
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attn = attn
        self.conv_block = conv_block
        self.conv_scale, self.drop = conv_scale, drop
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = mlp

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape."""
        feat = self.norm1(x)
        local = self.conv_block(feat.movedim(-1, 1)).movedim(1, -1)
        attended = drop_branch(self.attn(feat, index), self.drop, self.training)
        x = x + attended + self.conv_scale * local
        return x + drop_branch(self.mlp(self.norm2(x)), self.drop, self.training)


class OCAB(nn.Module):
    """Overlapping cross-attention block: queries of a window, keys of a larger window.

    Beyond the image border keys and values are zero; these keys are not masked.

    Args:
        embed_dim: Channels, divisible by ``num_head``.
        window_size: Height and width of a query window.
        overlap: Pixels by which a key window is larger on each side.
        num_head: Attention heads.
    """

    def __init__(self, embed_dim: int, window_size: int, overlap: int, num_head: int) -> None:
        super().__init__()
        self.window_size, self.overlap, self.num_head = window_size, overlap, num_head
        self.norm1 = nn.LayerNorm(embed_dim)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.relative_position_bias_table = bias_table(2 * (window_size + overlap) - 1, num_head)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = Mlp(embed_dim)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape."""
        channels = x.shape[-1]
        query, key_value = self.qkv(self.norm1(x)).split((channels, 2 * channels), dim=-1)
        query = to_windows(query, self.window_size)
        query = query.unflatten(-1, (self.num_head, -1)).transpose(3, 4)
        key_value = to_overlapping_windows(key_value, self.window_size, self.overlap)
        # (2, N, rows, columns, heads, pixels, channels of a head)
        key_value = key_value.unflatten(3, (2, self.num_head, -1)).permute(3, 0, 1, 2, 4, 6, 5)
        bias = self.relative_position_bias_table.t()[:, index]
        key, value = key_value
        windows = attend(query, key, value, bias)
        x = x + self.proj(from_windows(windows, self.window_size))
        return x + self.mlp(self.norm2(x))


class CAB(nn.Sequential):
    """Two convolutions and channel attention (Zhang et al., RCAN, ECCV 2018); keeps the shape.

    The first convolution reduces the channels to a third. The attention has C / 30 inner channels,
    but at least 4, because a single one that is negative for all images would have no effect after
    the ReLU.
    """

    def __init__(self, num_feat: int) -> None:
        narrow = max(num_feat // 3, 1)
        cab = nn.Sequential(
            nn.Conv2d(num_feat, narrow, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(narrow, num_feat, 3, padding=1),
            ChannelAttention(num_feat, max(num_feat // 30, 4)),
        )
        super().__init__(OrderedDict(cab=cab))

"""HAT, the hybrid attention transformer, as the tail of larger networks."""

from __future__ import annotations

from torch import Tensor, nn

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
    """Hybrid attention transformer: windows, overlapping windows, and attention to channels.

    Chen et al., "Activating More Pixels in Image Super-Resolution Transformer", CVPR 2023. The
    attention to channels looks at the whole image: computed in tiles, the result differs a little.

    Args:
        num_in_ch: Channels of the input.
        scale: Factor by which height and width grow.
        embed_dim: Channels within, divisible by ``num_head``.
        num_group: Residual groups.
        num_block: Hybrid attention blocks of each.
        num_head: Attention heads.
        window_size: Side of the windows, a multiple of 4. Input sizes are multiples of it.
        compress_ratio: By how much the convolutions in a block narrow.
        squeeze_factor: By how much the attention to channels narrows.
        conv_scale: Weight of the convolutions in a block.
        mlp_ratio: By how much the perceptrons widen.
        drop_path: Probability with which the last block skips a branch in training; it grows
            linearly from 0 in the first.
        num_feat: Channels of the upsampler.
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
        compress_ratio: int = 3,
        squeeze_factor: int = 30,
        conv_scale: float = 0.01,
        mlp_ratio: float = 2.0,
        drop_path: float = 0.1,
        num_feat: int = 64,
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
            conv = CAB(embed_dim, compress_ratio, squeeze_factor)
            attn = WindowAttention(embed_dim, window_size, num_head, shifted=number % 2 == 1)
            return HAB(attn, conv, conv_scale, Mlp(embed_dim, mlp_ratio), drop)

        self.conv_first = nn.Conv2d(num_in_ch, embed_dim, 3, padding=1)
        self.patch_embed = nn.Module()
        self.patch_embed.norm = nn.LayerNorm(embed_dim)
        self.layers = nn.ModuleList(
            RHAG(
                [block(group * num_block + number) for number in range(num_block)],
                OCAB(embed_dim, window_size, overlap, num_head, mlp_ratio),
                embed_dim,
            )
            for group in range(num_group)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self.conv_before_upsample = nn.Sequential(
            nn.Conv2d(embed_dim, num_feat, 3, padding=1), nn.LeakyReLU()
        )
        self.upsample = Upsample(scale, num_feat)
        self.conv_last = nn.Conv2d(num_feat, 3, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) to (N, 3, h * scale, w * scale)."""
        shallow = self.conv_first(x)
        feat = self.patch_embed.norm(shallow.movedim(1, -1))
        for layer in self.layers:
            feat = layer(feat, self.relative_position_index_SA, self.relative_position_index_OCA)
        feat = shallow + self.conv_after_body(self.norm(feat).movedim(-1, 1))
        return self.conv_last(self.upsample(self.conv_before_upsample(feat)))


class RHAG(nn.Module):
    """Residual group of hybrid attention blocks, closed by an overlapping cross-attention block.

    Args:
        blocks: The hybrid attention blocks.
        overlap_attn: The overlapping cross-attention block.
        embed_dim: Channels.
    """

    def __init__(self, blocks: list[HAB], overlap_attn: OCAB, embed_dim: int) -> None:
        super().__init__()
        self.residual_group = nn.Module()
        self.residual_group.blocks = nn.ModuleList(blocks)
        self.residual_group.overlap_attn = overlap_attn
        self.conv = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)

    def forward(self, x: Tensor, self_rows: Tensor, overlap_rows: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape, given the rows of the two tables of biases."""
        feat = x
        for block in self.residual_group.blocks:
            feat = block(feat, self_rows)
        feat = self.residual_group.overlap_attn(feat, overlap_rows)
        return x + self.conv(feat.movedim(-1, 1)).movedim(1, -1)


class HAB(nn.Module):
    """Hybrid attention block: windows and convolutions side by side, then a perceptron.

    Args:
        attn: Attention in windows.
        conv_block: Convolutions with attention to channels.
        conv_scale: Weight of the convolutions.
        mlp: The perceptron.
        drop: Probability with which an image skips a branch in training.
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
        x = x + self._drop(self.attn(feat, index)) + self.conv_scale * local
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, branch: Tensor) -> Tensor:
        """Stochastic depth (Huang et al., ECCV 2016): in training, none of it for some images."""
        if not self.training or self.drop == 0:
            return branch
        kept = branch.new_empty(len(branch), 1, 1, 1).bernoulli_(1 - self.drop)
        return branch * (kept / (1 - self.drop))


class OCAB(nn.Module):
    """Overlapping cross-attention block: windows that look beyond their border.

    Beyond the border of the image, keys and values are zero and count as keys all the same.

    Args:
        embed_dim: Channels, divisible by ``num_head``.
        window_size: Side of the windows that ask.
        overlap: Pixels by which those that answer are larger on each side.
        num_head: Attention heads.
        mlp_ratio: By how much the perceptron widens.
    """

    def __init__(
        self, embed_dim: int, window_size: int, overlap: int, num_head: int, mlp_ratio: float
    ) -> None:
        super().__init__()
        self.window_size, self.overlap, self.num_head = window_size, overlap, num_head
        self.norm1 = nn.LayerNorm(embed_dim)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.relative_position_bias_table = bias_table(2 * (window_size + overlap) - 1, num_head)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = Mlp(embed_dim, mlp_ratio)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape."""
        channels = x.shape[-1]
        query, answers = self.qkv(self.norm1(x)).split((channels, 2 * channels), dim=-1)
        query = to_windows(query, self.window_size)
        query = query.unflatten(-1, (self.num_head, -1)).transpose(3, 4)
        answers = to_overlapping_windows(answers, self.window_size, self.overlap)
        # (2, N, rows, columns, heads, pixels, channels of a head)
        answers = answers.unflatten(3, (2, self.num_head, -1)).permute(3, 0, 1, 2, 4, 6, 5)
        bias = self.relative_position_bias_table.t()[:, index]
        windows = attend(query, *answers, bias)
        x = x + self.proj(from_windows(windows, self.window_size))
        return x + self.mlp(self.norm2(x))


class CAB(nn.Module):
    """Two convolutions and attention to channels (Zhang et al., RCAN, ECCV 2018).

    Args:
        num_feat: Channels in and out.
        compress_ratio: By how much the convolutions narrow in between.
        squeeze_factor: By how much the attention narrows.
    """

    def __init__(self, num_feat: int, compress_ratio: int, squeeze_factor: int) -> None:
        super().__init__()
        narrow = max(num_feat // compress_ratio, 1)
        self.cab = nn.Sequential(
            nn.Conv2d(num_feat, narrow, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(narrow, num_feat, 3, padding=1),
            ChannelAttention(num_feat, squeeze_factor),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        return self.cab(x)


class ChannelAttention(nn.Module):
    """Weighs channels by what their means over the image say: (N, C, h, w) to the same shape.

    It narrows to 4 channels at least: a single one that is negative for all images is silent.
    """

    def __init__(self, num_feat: int, squeeze_factor: int) -> None:
        super().__init__()
        narrow = max(num_feat // squeeze_factor, 4)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(num_feat, narrow, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, num_feat, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


class Mlp(nn.Module):
    """Perceptron of each pixel, (…, C) to the same shape."""

    def __init__(self, num_feat: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(num_feat, round(num_feat * ratio))
        self.act = nn.GELU()
        self.fc2 = nn.Linear(round(num_feat * ratio), num_feat)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))

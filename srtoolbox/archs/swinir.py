"""SwinIR: residual groups of attention in windows that are shifted in every second block."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands, mean_of_bands
from srtoolbox.archs.layers.basic import conv3, lrelu
from srtoolbox.archs.layers.transformer import Mlp, drop_branch, init_linear_
from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.archs.layers.window import SwinAttention, shift_mask
from srtoolbox.archs.shapes import Shapes, bands_as_options, count_children, scale_of_upsample
from srtoolbox.errors import UserError, check_choice
from srtoolbox.registry import ARCH_REGISTRY

_NUM_FEAT = 64  # of the tails "pixelshuffle" and "nearest+conv"
_SLOPE = 0.2  # of the tail "nearest+conv"


@ARCH_REGISTRY.register()
class SwinIR(nn.Module):
    """Image restoration by a Swin transformer; the defaults are the published classical network.

    The lightweight network has ``embed_dim=60, depths=(6, 6, 6, 6), num_heads=(6, 6, 6, 6),
    upsampler="pixelshuffledirect"``. The real-world network M has ``upsampler="nearest+conv"``; L
    also has ``embed_dim=240, depths=(6,) * 9, num_heads=(8,) * 9, resi_connection="3conv"``.

    Args:
        scale: Factor by which height and width grow; 4 with the upsampler "nearest+conv".
        img_size: Side of the LR patches of the published training. It decides the size of the masks
            that a weight file contains, which are not used. At most ``window_size``: it is the side
            of the windows, and no window is shifted.
        embed_dim: Channels of the features, divisible by each of ``num_heads``.
        depths: Blocks of each residual group.
        num_heads: Attention heads of each residual group.
        window_size: Side of the attention windows.
        mlp_ratio: Inner channels of each perceptron divided by ``embed_dim``.
        drop_path_rate: Probability that the last block skips a branch in training; it increases
            linearly from 0 in the first block.
        upsampler: Tail: sub-pixel convolutions ("pixelshuffle"), a single one
            ("pixelshuffledirect"), or repeated pixels and convolutions ("nearest+conv").
        resi_connection: Convolutions at the end of each group: one ("1conv"), or three with fewer
            channels ("3conv").
        img_range: Factor from [0, 1] to the range of values inside.
        num_in_ch: Bands of the input. The mean colour is subtracted from 3 bands only (RGB).
        num_out_ch: Bands of the output; None: as many as the input. The mean colour is added to 3
            bands only.
    """

    paper = "Liang et al., SwinIR: Image restoration using Swin transformer, ICCVW 2021"
    scales = (2, 3, 4, 8)
    size_multiple = 8
    min_size = 8
    pad_mode = "reflect"
    checkpoint_blocks = ("layers",)

    mean: Tensor
    out_mean: Tensor

    def __init__(
        self,
        scale: int = 4,
        img_size: int = 64,
        embed_dim: int = 180,
        depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6),
        num_heads: tuple[int, ...] = (6, 6, 6, 6, 6, 6),
        window_size: int = 8,
        mlp_ratio: float = 2.0,
        drop_path_rate: float = 0.1,
        upsampler: Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv"] = "pixelshuffle",
        resi_connection: Literal["1conv", "3conv"] = "1conv",
        img_range: float = 1.0,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        check_choice(
            "SwinIR: upsampler",
            upsampler,
            ("pixelshuffle", "pixelshuffledirect", "nearest+conv"),
        )
        check_choice("SwinIR: resi_connection", resi_connection, ("1conv", "3conv"))
        _check_sizes(scale, img_size, embed_dim, depths, num_heads, window_size, upsampler)
        self.upsampler, self.img_range = upsampler, img_range
        shifts = img_size > window_size
        window = window_size if shifts else img_size
        self.size_multiple = self.min_size = window

        for name, number in (("mean", self.channels), ("out_mean", self.out_channels)):
            self.register_buffer(name, mean_of_bands(number), persistent=False)
        mask = mask_of_image(img_size, img_size, window) if shifts else None
        drops = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist()

        self.conv_first = conv3(self.channels, embed_dim)
        self.patch_embed = nn.Sequential(OrderedDict(norm=nn.LayerNorm(embed_dim)))
        self.layers = nn.ModuleList()
        for depth, num_head in zip(depths, num_heads, strict=True):
            blocks = []
            for number in range(depth):
                shifted = shifts and number % 2 == 1
                attn = SwinAttention(embed_dim, window, num_head, shifted)
                mlp = Mlp(embed_dim, mlp_ratio)
                blocks.append(SwinBlock(attn, mlp, drops.pop(0), mask if shifted else None))
            self.layers.append(RSTB(blocks, _convs(embed_dim, resi_connection)))
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = _convs(embed_dim, resi_connection)
        self._add_tail(embed_dim)
        init_linear_(self)

    def _add_tail(self, embed_dim: int) -> None:
        if self.upsampler == "pixelshuffledirect":
            conv = conv3(embed_dim, self.scale**2 * self.out_channels)
            self.upsample = nn.Sequential(conv, nn.PixelShuffle(self.scale))
            return
        self.conv_before_upsample = nn.Sequential(conv3(embed_dim, _NUM_FEAT), nn.LeakyReLU())
        if self.upsampler == "pixelshuffle":
            self.upsample = Upsample(self.scale, _NUM_FEAT)
        else:
            self.conv_up1 = conv3(_NUM_FEAT, _NUM_FEAT)
            self.conv_up2 = conv3(_NUM_FEAT, _NUM_FEAT)
            self.conv_hr = conv3(_NUM_FEAT, _NUM_FEAT)
        self.conv_last = conv3(_NUM_FEAT, self.out_channels)

    @staticmethod
    def options_from_shapes(shapes: Shapes) -> dict[str, Any] | list[dict[str, Any]] | None:
        """Returns the options of the network whose tensors have these shapes; None: of none.

        With "pixelshuffledirect", several scales may fit: the last tensor has scale² times as many
        channels as the output has bands. They are returned as a list; outputs of more than four
        bands, and more than the input has, are left out.

        ``drop_path_rate`` and ``img_range`` have no effect on shapes.
        """
        block = "layers.{}.residual_group.blocks.0"
        first, hidden = (
            shapes.get("conv_first.weight"),
            shapes.get(f"{block}.mlp.fc1.bias".format(0)),
        )
        groups = range(count_children(shapes, "layers"))
        tables = [
            shapes.get(f"{block}.attn.relative_position_bias_table".format(number), (0, 1))
            for number in groups
        ]
        if first is None or hidden is None or not all(rows for rows, _ in tables):
            return None
        window = (math.isqrt(tables[0][0]) + 1) // 2
        masks = [shape for key, shape in shapes.items() if key.endswith(".attn_mask")]
        options = {
            "img_size": math.isqrt(masks[0][0]) * window if masks else window,
            "embed_dim": first[0],
            "depths": [
                count_children(shapes, f"layers.{number}.residual_group.blocks")
                for number in groups
            ],
            "num_heads": [heads for _, heads in tables],
            "window_size": window,
            "mlp_ratio": hidden[0] / first[0],
            "resi_connection": "3conv" if "conv_after_body.0.weight" in shapes else "1conv",
        }
        last, single = shapes.get("conv_last.weight"), shapes.get("upsample.0.weight")
        if last is None and single is not None:
            tails = [
                (scale, "pixelshuffledirect", single[0] // scale**2)
                for scale in SwinIR.scales
                if single[0] % scale**2 == 0 and single[0] // scale**2 <= max(4, first[1])
            ]
        elif last is not None and "conv_up2.weight" in shapes:
            tails = [(4, "nearest+conv", last[0])]
        elif last is not None and single is not None:
            tails = [(scale_of_upsample(shapes, _NUM_FEAT), "pixelshuffle", last[0])]
        else:
            return None
        found = [
            {"scale": scale, **options, "upsampler": tail, **bands_as_options(first[1], num_out)}
            for scale, tail, num_out in tails
        ]
        return found[0] if len(found) == 1 else found

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolves images.

        Args:
            lq: (N, num_in_ch, h, w) in [0, 1]; h and w are multiples of ``window_size``.

        Returns:
            (N, num_out_ch, h * scale, w * scale).
        """
        shallow = self.conv_first((lq - self.mean) * self.img_range)
        feat = self.patch_embed(shallow.movedim(1, -1))
        for layer in self.layers:
            feat = layer(feat)
        feat = shallow + self.conv_after_body(self.norm(feat).movedim(-1, 1))
        return self.enlarged(feat) / self.img_range + self.out_mean

    def enlarged(self, feat: Tensor) -> Tensor:
        """Maps features (N, embed_dim, h, w) to images (N, num_out_ch, h * scale, w * scale)."""
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(feat)
        feat = self.conv_before_upsample(feat)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(feat))
        for conv in (self.conv_up1, self.conv_up2):  # after repeating every pixel 2×2 times
            feat = lrelu(conv(F.interpolate(feat, scale_factor=2)), _SLOPE)
        return self.conv_last(lrelu(self.conv_hr(feat), _SLOPE))

    def tensors_of(self, file: Any) -> dict[str, Any]:
        """Returns the tensors of a weight file (`WeightFile`) with the masks of this network.

        Masks follow from ``img_size``, which differs between published files, and are not used.
        """
        masks = {key: value for key, value in self.named_buffers() if key.endswith("attn_mask")}
        own = next(iter(masks.values()), None)
        return {
            key: own if key.endswith(".attn_mask") and own is not None else value
            for key, value in file.state.items()
        }


class RSTB(nn.Module):
    """Residual group: Swin blocks and a convolution, with a residual connection around them.

    Args:
        blocks: The blocks.
        conv: The convolution.
    """

    def __init__(self, blocks: list[SwinBlock], conv: nn.Module) -> None:
        super().__init__()
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape."""
        feat = x
        for block in self.blocks:
            feat = block(feat)
        return x + self.conv(feat.movedim(-1, 1)).movedim(1, -1)

    @property
    def blocks(self) -> list[SwinBlock]:
        """The blocks in their order."""
        return [cast(SwinBlock, block) for block in self.residual_group["blocks"].children()]


class SwinBlock(nn.Module):
    """Window attention and a perceptron, each after a normalisation and added to its input.

    Args:
        attn: Window attention.
        mlp: The perceptron.
        drop: Probability that an image skips a branch in training.
        mask: The mask that published weight files contain; None: the windows are not shifted. The
            attention has its own, for all sizes.
    """

    def __init__(self, attn: SwinAttention, mlp: Mlp, drop: float, mask: Tensor | None) -> None:
        super().__init__()
        embed_dim = attn.proj.out_features
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attn = attn
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = mlp
        self.drop = drop
        self.register_buffer("attn_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape."""
        attended = self.attn(self.norm1(x), self.attn.relative_position_index)
        x = x + drop_branch(attended, self.drop, self.training)
        return x + drop_branch(self.mlp(self.norm2(x)), self.drop, self.training)


def mask_of_image(height: int, width: int, window_size: int) -> Tensor:
    """Returns the mask of the shifted windows of an image, as published weight files contain it.

    Args:
        height: A multiple of ``window_size``.
        width: A multiple of ``window_size``.
        window_size: Side of a window.

    Returns:
        (number of windows, window_size², window_size²): 0 where a query (second dimension) may
        attend to a key, else −100.
    """
    kinds = torch.where(shift_mask(window_size), 0.0, SwinAttention.penalty)
    lower, right = (
        torch.arange(length // window_size) == length // window_size - 1
        for length in (height, width)
    )
    return kinds[(2 * lower[:, None] + right[None, :].long()).flatten()]


def _convs(embed_dim: int, kind: str) -> nn.Module:
    if kind == "1conv":
        return conv3(embed_dim, embed_dim)
    narrow = embed_dim // 4
    return nn.Sequential(
        conv3(embed_dim, narrow),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(narrow, narrow, 1),
        nn.LeakyReLU(_SLOPE),
        conv3(narrow, embed_dim),
    )


def _check_sizes(
    scale: int,
    img_size: int,
    embed_dim: int,
    depths: tuple[int, ...],
    num_heads: tuple[int, ...],
    window_size: int,
    upsampler: str,
) -> None:
    if not depths or len(depths) != len(num_heads) or min(*depths, *num_heads) < 1:
        raise UserError(
            "SwinIR: depths and num_heads need one number of at least 1 for each residual group, "
            f"got {list(depths)} and {list(num_heads)}"
        )
    if any(embed_dim % number for number in num_heads):
        raise UserError(
            f"SwinIR: each of num_heads {list(num_heads)} must divide embed_dim ({embed_dim})"
        )
    if window_size < 1 or img_size < 1 or (img_size > window_size and img_size % window_size):
        raise UserError(
            f"SwinIR: img_size ({img_size}) must be a multiple of window_size ({window_size}), or "
            "smaller"
        )
    if upsampler == "nearest+conv" and scale != 4:
        raise UserError(
            f"SwinIR: the upsampler 'nearest+conv' has scale 4, got scale {scale}; use "
            "'pixelshuffle' or 'pixelshuffledirect'"
        )

"""FBANet: fusion of aligned frames by their affinity to the first one, then window attention."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, enlarge, lrelu
from srtoolbox.archs.layers.burst.frames import aligned
from srtoolbox.archs.layers.transformer import drop_branch
from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.archs.layers.window import WindowAttention, self_index
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

_DROPS = {
    "encoderlayer_0": (0.0, 1 / 70),
    "encoderlayer_1": (2 / 70, 3 / 70),
    "middle": (0.1, 0.1),
    "decoderlayer_0": (0.1, 6 / 70),
    "decoderlayer_1": (5 / 70, 4 / 70),
}
"""Probabilities that a block skips a branch in training, by layer."""

_UNUSED = (
    "output_proj_HG1_0.",
    *(f"se_block_HG{part}_{level}." for part in (1, 2) for level in (0, 1)),
    *(f"HG{part}_{kind}_" for part in (1, 2) for kind in ("res", "conv")),
)
"""Prefixes of the layers that the published code builds and never uses."""


@ARCH_REGISTRY.register()
class FBANet(nn.Module):
    """Federated burst affinity network, for bursts whose frames are already aligned.

    Wei et al., "Towards Real-World Burst Image Super-Resolution: Benchmark and Method", ICCV 2023,
    by its authors' code (yjsunnn/FBANet, MIT licence). Names and shapes of the tensors and the
    outputs are those of the authors, so their weight files load.

    ======================  ================  ======================================================
    stage                   shape             content
    ======================  ================  ======================================================
    ``head``, ``body``      (N, T, C, h, w)   features of each frame
    ``fusion``              (N, C, h, w)      frames weighted by their difference from the first
    ``HG1_…``, ``HG2_…``    (N, C, h, w)      two U-nets of window attention
    ``tail``                (N, bands, ·, ·)  is added to the bilinear enlargement of frame 0
    ======================  ================  ======================================================

    The network does not move pixels. Its authors align the frames before, by a translation that
    OpenCV's ECC finds; unaligned bursts need ``align``.

    Args:
        scale: 4 is published; 2 and 3 are ours.
        num_feat: Channels C, divisible by 4; 64 is published.
        num_frame: Frames of a burst, the reference first; 14 is published. It fixes a layer.
        window_size: Height and width of the attention windows; 10 is published.
        num_head: Heads of the five attention layers of a U-net, from the first to the last.
        align: Estimate the motion of every frame from the images, and warp the frames to the first
            one before anything else. This is ours, and no part of published results.
        unused_layers: Also build the layers that the published code builds and never uses (39 % of
            the parameters); its weights have them.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output, equal to ``num_in_ch``, since the result is added to the
            input; None: ``num_in_ch``.
    """

    paper = "Wei et al., Towards real-world burst image SR: Benchmark and method, ICCV 2023"
    scales = (2, 3, 4)
    num_frame = 14
    size_multiple = 40
    min_size = 40
    checkpoint_blocks = (
        "body",
        *(
            f"HG{part}_{side}layer_{level}.blocks"
            for part in (1, 2)
            for side in ("encoder", "decoder")
            for level in (0, 1)
        ),
        "conv_HG1.blocks",
        "conv_HG2.blocks",
    )
    dead_parameters = _UNUSED

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_frame: int = 14,
        window_size: int = 10,
        num_head: tuple[int, int, int, int, int] = (1, 2, 16, 16, 8),
        align: bool = False,
        unused_layers: bool = True,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch, equal=True)
        if num_frame < 1:
            raise UserError(f"FBANet: num_frame must be at least 1, got {num_frame}")
        if window_size < 2:
            raise UserError(f"FBANet: window_size must be at least 2, got {window_size}")
        self.num_frame, self.align = num_frame, align
        self.size_multiple = self.min_size = 4 * window_size
        self.dead_parameters = _UNUSED if unused_layers else ()
        widths = (1, 2, 4, 4, 2)
        for width, heads in zip(widths, num_head, strict=True):
            if heads < 1 or width * num_feat % heads:
                raise UserError(
                    f"FBANet: num_head {tuple(num_head)} must divide the channels "
                    f"{tuple(number * num_feat for number in widths)}"
                )

        c = num_feat
        self.head = nn.Sequential(conv3(self.channels, c))
        self.body = nn.Sequential(ResBlock(c), ResBlock(c))
        self.fusion = AffinityFusion(c, num_frame)
        self.input_proj = Projection(c, c, activated=True)
        for part in ("HG1", "HG2"):
            layers = {
                name: Layer(width * c, window_size, heads, drops)
                for (name, drops), width, heads in zip(
                    _DROPS.items(), widths, num_head, strict=True
                )
            }
            self.add_module(f"conv_{part}", layers.pop("middle"))
            for name, layer in layers.items():
                self.add_module(f"{part}_{name}", layer)
            self.add_module(f"{part}_dowsample_0", Downsample(c))  # sic, as in published weights
            self.add_module(f"{part}_dowsample_1", Downsample(2 * c))
            self.add_module(f"{part}_upsample_0", Enlarge(4 * c, 2 * c))
            self.add_module(f"{part}_upsample_1", Enlarge(4 * c, c))
        self.output_proj_HG2_0 = Projection(8 * c, 4 * c)
        self.output_proj_HG2_1 = Projection(4 * c, 2 * c)
        self.output_proj = Projection(2 * c, c)
        self.output_proj_2 = Projection(2 * c, c)
        self.tail = nn.Sequential(Upsample(scale, c), conv3(c, self.out_channels))
        if unused_layers:
            self._add_unused(c)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps bursts of aligned frames to images.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1], T = ``num_frame``; images (N, num_in_ch, h, w) if
                ``num_frame`` is 1; h and w multiples of 4 · ``window_size``.

        Returns:
            (N, num_in_ch, h·scale, w·scale).
        """
        lq = lq[:, None] if lq.dim() == 4 else lq
        if self.align:
            lq = aligned(lq)
        feat = self.body(self.head(lq.flatten(0, 1))).unflatten(0, lq.shape[:2])
        tokens = self.input_proj(self.fusion(feat)).permute(0, 2, 3, 1)
        first, kept = self._hourglass("HG1", tokens, ())
        tokens = self.output_proj(first.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        second, _ = self._hourglass("HG2", tokens, kept)
        residual = self.tail(self.output_proj_2(second.permute(0, 3, 1, 2)))
        return residual + enlarge(lq[:, 0], self.scale)

    def _hourglass(
        self, part: str, x: Tensor, before: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Runs a U-net on (N, h, w, C).

        Args:
            part: "HG1" or "HG2".
            x: The map.
            before: The inputs of the decoder layers of the first U-net, for the second one.

        Returns:
            (N, h, w, 2C), and the inputs of its two decoder layers.
        """

        def run(name: str, x: Tensor) -> Tensor:
            return self.get_submodule(f"{part}_{name}")(x)

        first = run("encoderlayer_0", x)
        second = run("encoderlayer_1", run("dowsample_0", first))
        middle = self.get_submodule(f"conv_{part}")(run("dowsample_1", second))
        inputs = torch.cat((run("upsample_0", middle), second), 3)
        kept = (inputs,)
        if before:
            inputs = self._join(self.output_proj_HG2_0, before[0], inputs)
        x = run("decoderlayer_0", inputs)
        inputs = torch.cat((run("upsample_1", x), first), 3)
        kept = (*kept, inputs)
        if before:
            inputs = self._join(self.output_proj_HG2_1, before[1], inputs)
        return run("decoderlayer_1", inputs), kept

    @staticmethod
    def _join(projection: nn.Module, first: Tensor, second: Tensor) -> Tensor:
        """Applies a convolution to the channels of two maps (N, h, w, C)."""
        both = torch.cat((first, second), 3).permute(0, 3, 1, 2)
        return projection(both).permute(0, 2, 3, 1)

    def _add_unused(self, c: int) -> None:
        """Adds the layers that only the names in weight files need."""
        self.output_proj_HG1_0 = Projection(2 * c, c)
        levels = (("enc0", c), ("enc1", 2 * c), ("dec0", 4 * c), ("dec1", 2 * c))
        for part in ("HG1", "HG2"):
            for level, width in enumerate((4 * c, 2 * c)):
                self.add_module(f"se_block_{part}_{level}", SqueezeBlock(width))
            for level, width in levels:
                blocks = nn.Sequential(ResBlock(width), ResBlock(width))
                self.add_module(f"{part}_res_{level}", blocks)
                self.add_module(f"{part}_conv_{level}", nn.Sequential(conv3(width, width)))


class ResBlock(nn.Module):
    """Adds two convolutions with a ReLU between them to its input (N, C, h, w)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3(num_feat, num_feat), nn.ReLU(), conv3(num_feat, num_feat))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class AffinityFusion(nn.Module):
    """Weights frames by their affinity to the first one and fuses them: (N, T, C, h, w) to one map.

    At each pixel, a frame has the weight σ(|e·r − e₀·r|), where e, e₀ and r are embeddings of the
    frame, the first frame, and the first frame as reference. The first frame has the weight 1.
    """

    def __init__(self, num_feat: int, num_frame: int) -> None:
        super().__init__()
        c = num_feat

        def blocks(width: int) -> nn.Sequential:
            return nn.Sequential(ResBlock(width), ResBlock(width))

        self.temporal_attn1 = conv3(c, c)
        self.temporal_attn2 = conv3(c, c)
        self.feat_fusion = nn.Conv2d(num_frame * c, c, 1)
        self.downsample1, self.downsample2 = _Halve(c), _Halve(2 * c)
        self.upsample1, self.upsample2 = _Enlarge(4 * c, 2 * c), _Enlarge(4 * c, c)
        self.res_block1, self.res_block2 = blocks(c), blocks(2 * c)
        self.res_block3, self.res_block4 = blocks(4 * c), blocks(4 * c)
        self.res_block5 = blocks(2 * c)
        self.fusion_tail = nn.Sequential(conv3(2 * c, c))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weights(x)
        weighted = torch.cat((x[:, :1], x[:, 1:] * weights[:, :, None]), 1)
        fused = lrelu(self.feat_fusion(weighted.flatten(1, 2)), 0.1)
        full = self.res_block1(fused)
        half = self.res_block2(self.downsample1(full))
        quarter = self.res_block3(self.downsample2(half))
        half = self.res_block4(torch.cat((self.upsample1(quarter), half), 1))
        full = self.res_block5(torch.cat((self.upsample2(half), full), 1))
        return self.fusion_tail(full) + fused

    def weights(self, x: Tensor) -> Tensor:
        """Returns the weights of all frames but the first, (N, T − 1, h, w)."""
        reference = self.temporal_attn1(x[:, 0])
        embedded = self.temporal_attn2(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        affinity = torch.einsum("ntchw,nchw->nthw", embedded, reference)
        return torch.sigmoid((affinity[:, 1:] - affinity[:, :1]).abs())


class _Halve(nn.Module):
    """Halves the size and doubles the channels of (N, C, h, w)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(num_feat, 2 * num_feat, 4, 2, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Enlarge(nn.Module):
    """Doubles the size of (N, C, h, w)."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.deconv = nn.Sequential(nn.ConvTranspose2d(num_in, num_out, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.deconv(x)


class Downsample(_Halve):
    """Halves the size and doubles the channels of (N, h, w, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Enlarge(_Enlarge):
    """Doubles the size of (N, h, w, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Projection(nn.Module):
    """3×3 convolution, with a leaky ReLU of slope 0.01 if ``activated``: keeps (h, w)."""

    def __init__(self, num_in: int, num_out: int, activated: bool = False) -> None:
        super().__init__()
        self.proj = nn.Sequential(conv3(num_in, num_out))
        if activated:
            self.proj.append(nn.LeakyReLU(0.01))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Layer(nn.Module):
    """Two transformer blocks, the second one with shifted windows; keeps (N, h, w, C)."""

    def __init__(
        self, num_feat: int, window_size: int, num_head: int, drops: tuple[float, float]
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                Block(num_feat, window_size, num_head, number == 1, drop)
                for number, drop in enumerate(drops)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class Block(nn.Module):
    """Window attention, then a locally enhanced feed-forward, each after a normalisation.

    Args:
        num_feat: Channels C, divisible by ``num_head``.
        window_size: Height and width of a window.
        num_head: Attention heads.
        shifted: Whether to shift the windows by half of their size.
        drop: Probability that an image skips a branch in training.
    """

    def __init__(
        self, num_feat: int, window_size: int, num_head: int, shifted: bool, drop: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(num_feat)
        self.attn = IndexedAttention(num_feat, window_size, num_head, shifted)
        self.norm2 = nn.LayerNorm(num_feat)
        self.mlp = LeFF(num_feat)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape."""
        x = x + drop_branch(self.attn(self.norm1(x)), self.drop, self.training)
        return x + drop_branch(self.mlp(self.norm2(x)), self.drop, self.training)


class IndexedAttention(WindowAttention):
    """Window attention whose weights have an index of the biases, and two projections."""

    relative_position_index: Tensor

    def __init__(self, embed_dim: int, window_size: int, num_head: int, shifted: bool) -> None:
        super().__init__(embed_dim, window_size, num_head, shifted)
        self.register_buffer("relative_position_index", self_index(window_size))
        self.qkv = TwoProjections(embed_dim)

    def forward(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """Maps (N, h, w, C) to the same shape, with its own index instead of ``index``."""
        return super().forward(x, self.relative_position_index)


class TwoProjections(nn.Module):
    """Projects (…, C) to queries, keys and values, (…, 3C)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(num_feat, num_feat)
        self.to_kv = nn.Linear(num_feat, 2 * num_feat)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.cat((self.to_q.weight, self.to_kv.weight))
        return F.linear(x, weight, torch.cat((self.to_q.bias, self.to_kv.bias)))


class LeFF(nn.Module):
    """Perceptron with a depthwise convolution between its layers (Wang et al., Uformer, CVPR 2022).

    Maps (N, h, w, C) to the same shape, with 4C inner channels.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        wide = 4 * num_feat
        self.linear1 = nn.Sequential(nn.Linear(num_feat, wide), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(wide, num_feat))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.dwconv(self.linear1(x).permute(0, 3, 1, 2))
        return self.linear2(wide.permute(0, 2, 3, 1))


class SqueezeBlock(nn.Module):
    """Parameters of two convolutions and a channel attention; the network never uses them."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        narrow = max(num_feat // 16, 1)
        self.conv1 = conv3(num_feat, num_feat, bias=False)
        self.conv2 = conv3(num_feat, num_feat, bias=False)
        fc = OrderedDict(
            {
                "0": nn.Linear(num_feat, narrow, bias=False),
                "2": nn.Linear(narrow, num_feat, bias=False),
            }
        )
        self.se = nn.ModuleDict({"fc": nn.ModuleDict(fc)})

"""The two generators of idealo's image-super-resolution (ISR), variants of RDN and ESRGAN's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.archs.rdn import DenseBlock, RDNFeatures
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

SOURCE = "Cardinale et al., ISR (idealo), 2018"


@ARCH_REGISTRY.register()
class ISR_RDN(RDNFeatures):
    """ISR's RDN: another upsampler than the paper's; the defaults are those of its large weights.

    "psnr-large" and "noise-cancel" are the defaults at scale 2; "psnr-small" has ``num_block=10,
    num_layer=3``. `load_keras` takes the published weights.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features (G0).
        num_block: Residual dense blocks (D).
        num_layer: Convolutions of each block (C).
        num_grow_ch: Channels that each of them adds (G).
        upscaling: "ups" repeats pixels, as all published weights want it; "shuffle" turns channels
            into pixels.
    """

    paper = f"Zhang et al., Residual dense network for image SR, CVPR 2018, as in {SOURCE}"
    scales = (2, 3, 4)
    num_frame = 1
    size_multiple = 1
    min_size = 1

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 20,
        num_layer: int = 6,
        num_grow_ch: int = 64,
        upscaling: Literal["ups", "shuffle"] = "ups",
    ) -> None:
        if upscaling not in ("ups", "shuffle"):
            raise UserError(f"ISR_RDN: upscaling must be 'ups' or 'shuffle', got {upscaling!r}")
        check_scale(self, scale)
        super().__init__(num_feat, num_block, num_layer, num_grow_ch)
        self.scale = scale
        shuffle = upscaling == "shuffle"
        num_out = 3 * scale**2
        self.upscale = nn.Sequential(
            nn.Conv2d(num_feat, 64, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, num_out, 3, padding=1),
            nn.PixelShuffle(scale) if shuffle else nn.Upsample(scale_factor=scale),
        )
        self.output = nn.Conv2d(3 if shuffle else num_out, 3, 3, padding=1)
        _initialise(self)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, 3, h, w) in [0, 1] to (N, 3, h * scale, w * scale)."""
        return self.output(self.upscale(self.features(lq)))

    def keras_layers(self) -> dict[str, str]:
        """The original's name of every layer, and ours."""
        names = {"F_m1": "sfe1", "F_0": "sfe2", "GFF_1": "gff.0", "GFF_2": "gff.1"}
        for d, rdb in enumerate(self.rdbs):
            names |= _dense_layers(f"{d + 1}", f"rdbs.{d}", rdb)
        names |= {f"UPN{i + 1}": f"upscale.{2 * i}" for i in range(3)}
        return {**names, "SR": "output"}


@ARCH_REGISTRY.register()
class ISR_RRDN(nn.Module):
    """ISR's residual-in-residual dense network; the defaults are those of its weights "gans".

    Unlike ESRGAN's it has ReLU throughout, no residual within a dense block, and one pixel shuffle.
    `load_keras` takes the published weights.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features (G0).
        num_block: Residual-in-residual blocks (T).
        num_dense_block: Dense blocks of each (D).
        num_layer: Convolutions of each dense block (C).
        num_grow_ch: Channels that each of them adds (G).
        res_scale: Weight of every residual.
    """

    paper = f"Wang et al., ESRGAN, ECCVW 2018, as in {SOURCE}"
    scales = (2, 3, 4)
    num_frame = 1
    size_multiple = 1
    min_size = 1
    checkpoint_blocks = ("body",)

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 32,
        num_block: int = 10,
        num_dense_block: int = 3,
        num_layer: int = 4,
        num_grow_ch: int = 32,
        res_scale: float = 0.2,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.conv_first = nn.Conv2d(3, num_feat, 3, padding=1)
        self.body = nn.Sequential(
            *(
                _RRDB(num_feat, num_dense_block, num_layer, num_grow_ch, res_scale)
                for _ in range(num_block)
            )
        )
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upscale = nn.Sequential(
            nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )
        self.output = nn.Conv2d(3, 3, 3, padding=1)
        _initialise(self)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, 3, h, w) in [0, 1] to (N, 3, h * scale, w * scale)."""
        feat = self.conv_first(lq)
        feat = feat + self.conv_body(self.body(feat))
        return self.output(self.upscale(feat))

    def keras_layers(self) -> dict[str, str]:
        """The original's name of every layer, and ours."""
        names = {"Pre_blocks_conv": "conv_first", "post_blocks_conv": "conv_body"}
        for t, rrdb in enumerate(self.body):
            for d, block in enumerate(rrdb.blocks):
                names |= _dense_layers(f"{t + 1}_{d + 1}", f"body.{t}.blocks.{d}", block)
        return {**names, "PreShuffle": "upscale.0", "SR": "output"}


def load_keras(net: ISR_RDN | ISR_RRDN, arrays: Mapping[str, Tensor]) -> None:
    """Gives a network the weights of the original, which Keras keeps in HDF5 files.

    They are read with h5py, which the toolbox does not need otherwise::

        arrays = {}
        def keep(name, item):
            if isinstance(item, h5py.Dataset):
                arrays[name] = torch.from_numpy(item[()])
        h5py.File("weights.hdf5").visititems(keep)

    Args:
        net: The network, of the same configuration.
        arrays: Kernels (k, k, in, out) and biases by Keras's names, of which only the end counts:
            ``…/F_1_2/kernel:0``.

    Raises:
        UserError: if a name is missing or left over, or a shape is another.
    """
    given = {"/".join(name.split(":")[0].split("/")[-2:]): array for name, array in arrays.items()}
    hint = "; build the network with the C, D, G, G0, T and x in the name of the weights' file"
    # The last layer of the upsampler follows the one whose channels it turns into pixels.
    *_, before, last = net.upscale.named_children()
    shuffled = f"upscale.{before[0]}" if isinstance(last[1], nn.PixelShuffle) else None
    state = {}
    for layer, module in net.keras_layers().items():
        for theirs, ours in (("kernel", "weight"), ("bias", "bias")):
            array = given.pop(f"{layer}/{theirs}", None)
            if array is None:
                raise UserError(f"{type(net).__name__}: {layer}/{theirs} is missing{hint}")
            shape = tuple(net.get_parameter(f"{module}.{ours}").shape)
            if theirs == "kernel":
                array = array.movedim((-1, -2), (0, 1))
            if tuple(array.shape) != shape:
                raise UserError(
                    f"{type(net).__name__}: {layer}/{theirs} has the shape {tuple(array.shape)} "
                    f"(channels first) instead of {shape}{hint}"
                )
            if module == shuffled:  # colours within pixels there, pixels within colours here
                array = array.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
            state[f"{module}.{ours}"] = array
    if given:
        raise UserError(f"{type(net).__name__}: there is no place for {next(iter(given))}{hint}")
    net.load_state_dict(state)


class _RRDB(nn.Module):
    """Dense blocks, each with a residual, within one residual."""

    def __init__(
        self,
        num_feat: int,
        num_dense_block: int,
        num_layer: int,
        num_grow_ch: int,
        res_scale: float,
    ) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.blocks = nn.ModuleList(
            DenseBlock(num_feat, num_layer, num_grow_ch, fusion_size=3)
            for _ in range(num_dense_block)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block in self.blocks:
            y = torch.add(y, block(y), alpha=self.res_scale)
        # y contains x already, so that x counts 1 + res_scale times.
        return torch.add(x, y, alpha=self.res_scale)


def _dense_layers(number: str, name: str, block: DenseBlock) -> dict[str, str]:
    """The original's names of a dense block's layers, and ours."""
    names = {f"F_{number}_{c + 1}": f"{name}.layers.{c}.conv" for c in range(len(block.layers))}
    return {**names, f"LFF_{number}": f"{name}.lff"}


def _initialise(net: nn.Module) -> None:
    """Uniform weights and zero biases, as the original starts."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.weight, -0.05, 0.05)
            nn.init.zeros_(layer.bias)

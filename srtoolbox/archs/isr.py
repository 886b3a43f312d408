"""The two generators of idealo's image-super-resolution (ISR), variants of RDN and RRDBNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, init_convs_
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.archs.rdn import DenseBlock, RDNFeatures
from srtoolbox.errors import UserError, check_choice
from srtoolbox.registry import ARCH_REGISTRY

SOURCE = "Cardinale et al., ISR (idealo), 2018"


@ARCH_REGISTRY.register()
class ISR_RDN(RDNFeatures):
    """ISR's RDN, which has another upsampler than the paper; the defaults are its large variant.

    The published weights "psnr-large" and "noise-cancel" have the defaults at scale 2; "psnr-small"
    has ``num_block=10, num_layer=3``. `load_keras` loads the published weights.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features (G0).
        num_block: Residual dense blocks (D).
        num_layer: Convolutions of each block (C).
        num_grow_ch: Channels that each of these convolutions adds (G).
        upscaling: "ups" repeats pixels, for all published weights; "shuffle" is a pixel shuffle.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = f"Zhang et al., Residual dense network for image SR, CVPR 2018, as in {SOURCE}"
    scales = (2, 3, 4)

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 20,
        num_layer: int = 6,
        num_grow_ch: int = 64,
        upscaling: Literal["ups", "shuffle"] = "ups",
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        check_choice("ISR_RDN: upscaling", upscaling, ("ups", "shuffle"))
        bands = check_bands(self, num_in_ch, num_out_ch)
        super().__init__(num_feat, num_block, num_layer, num_grow_ch, num_in_ch)
        self.channels, self.out_channels = bands
        self.scale = check_scale(self, scale)
        shuffle = upscaling == "shuffle"
        num_out = self.out_channels * scale**2
        self.upscale = nn.Sequential(
            nn.Conv2d(num_feat, 64, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, num_out, 3, padding=1),
            nn.PixelShuffle(scale) if shuffle else nn.Upsample(scale_factor=scale),
        )
        num_last = self.out_channels if shuffle else num_out
        self.output = nn.Conv2d(num_last, self.out_channels, 3, padding=1)
        _initialise(self)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_out_ch, h * scale, w * scale)."""
        return self.output(self.upscale(self.features(lq)))

    def keras_layers(self) -> dict[str, str]:
        """Returns the name in Keras of every layer and its name here."""
        names = {"F_m1": "sfe1", "F_0": "sfe2", "GFF_1": "gff.0", "GFF_2": "gff.1"}
        for d, rdb in enumerate(self.rdbs):
            names |= _dense_layers(f"{d + 1}", f"rdbs.{d}", rdb)
        names |= {f"UPN{i + 1}": f"upscale.{2 * i}" for i in range(3)}
        return {**names, "SR": "output"}


@ARCH_REGISTRY.register()
class ISR_RRDN(nn.Module):
    """ISR's residual-in-residual dense network; the defaults are those of its weights "gans".

    Unlike ESRGAN's generator it has ReLU everywhere, no residual connection inside a dense block,
    and one pixel shuffle. `load_keras` loads the published weights.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features (G0).
        num_block: Residual-in-residual blocks (T).
        num_dense_block: Dense blocks in each residual-in-residual block (D).
        num_layer: Convolutions of each dense block (C).
        num_grow_ch: Channels that each of these convolutions adds (G).
        res_scale: Weight of every residual.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = f"Wang et al., ESRGAN, ECCVW 2018, as in {SOURCE}"
    scales = (2, 3, 4)
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
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        self.conv_first = conv3(self.channels, num_feat)
        dense_block = num_feat, num_layer, num_grow_ch
        blocks = (_RRDB(num_dense_block, res_scale, *dense_block) for _ in range(num_block))
        self.body = nn.Sequential(*blocks)
        self.conv_body = conv3(num_feat, num_feat)
        num_out = self.out_channels
        self.upscale = nn.Sequential(conv3(num_feat, num_out * scale**2), nn.PixelShuffle(scale))
        self.output = nn.Conv2d(num_out, num_out, 3, padding=1)
        _initialise(self)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_out_ch, h * scale, w * scale)."""
        feat = self.conv_first(lq)
        feat = feat + self.conv_body(self.body(feat))
        return self.output(self.upscale(feat))

    def keras_layers(self) -> dict[str, str]:
        """Returns the name in Keras of every layer and its name here."""
        names = {"Pre_blocks_conv": "conv_first", "post_blocks_conv": "conv_body"}
        for t, rrdb in enumerate(self.body):
            for d, block in enumerate(rrdb.get_submodule("blocks").children()):
                names |= _dense_layers(f"{t + 1}_{d + 1}", f"body.{t}.blocks.{d}", block)
        return {**names, "PreShuffle": "upscale.0", "SR": "output"}


def load_keras(net: ISR_RDN | ISR_RRDN, arrays: Mapping[str, Tensor]) -> None:
    """Loads the original weights, which Keras stores in HDF5 files.

    Read the file with h5py, which the toolbox does not need otherwise::

        arrays = {}
        def keep(name, item):
            if isinstance(item, h5py.Dataset):
                arrays[name] = torch.from_numpy(item[()])
        h5py.File("weights.hdf5").visititems(keep)

    Args:
        net: The network, built with the configuration of the weights.
        arrays: Kernels (k, k, in, out) and biases by their names in Keras. Only the end of a name
            matters: ``…/F_1_2/kernel:0``.

    Raises:
        UserError: if an array is missing, superfluous or of another shape.
    """
    given = {"/".join(name.split(":")[0].split("/")[-2:]): array for name, array in arrays.items()}
    hint = "; build the network with the C, D, G, G0, T and x in the name of the weights' file"
    # The convolution before a pixel shuffle, which orders channels differently in TensorFlow.
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
            if module == shuffled:  # (pixel, colour) in TensorFlow, (colour, pixel) in PyTorch
                array = array.unflatten(0, (-1, net.out_channels)).transpose(0, 1).flatten(0, 1)
            state[f"{module}.{ours}"] = array
    if given:
        raise UserError(f"{type(net).__name__}: no layer for {next(iter(given))}{hint}")
    net.load_state_dict(state)


class _RRDB(nn.Module):
    """Dense blocks, each with a residual connection, and one around all of them."""

    def __init__(self, num_dense_block: int, res_scale: float, *dense_block: int) -> None:
        super().__init__()
        self.res_scale = res_scale
        blocks = (DenseBlock(*dense_block, fusion_size=3) for _ in range(num_dense_block))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block in self.blocks:
            y = torch.add(y, block(y), alpha=self.res_scale)
        # y already contains x, so that the weight of x is 1 + res_scale.
        return torch.add(x, y, alpha=self.res_scale)


def _dense_layers(number: str, name: str, block: nn.Module) -> dict[str, str]:
    """Returns the names in Keras of the layers of a `DenseBlock` and their names here."""
    count = len(list(block.get_submodule("layers").children()))
    names = {f"F_{number}_{c + 1}": f"{name}.layers.{c}.conv" for c in range(count)}
    return {**names, f"LFF_{number}": f"{name}.lff"}


def _initialise(net: nn.Module) -> None:
    """Sets uniform weights and zero biases, the original's initialisation."""
    init_convs_(net, lambda weight: nn.init.uniform_(weight, -0.05, 0.05))

"""Small networks of other projects, built from the code in the package spandrel."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

SIDE = 16  # of training crops, which window-based networks need to know


def _swin(arch: str) -> Callable[..., nn.Module]:
    def make(scale: int) -> nn.Module:
        from spandrel.architectures import Swin2SR, SwinIR

        cls = {"SwinIR": SwinIR.SwinIR, "Swin2SR": Swin2SR.Swin2SR}[arch]
        return cls(
            img_size=SIDE,
            embed_dim=12,
            depths=[2],
            num_heads=[2],
            window_size=8,
            upscale=scale,
            upsampler="pixelshuffledirect",
        )

    return make


def _esrgan(scale: int) -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(num_filters=8, num_blocks=1, scale=scale)


def _compact(scale: int) -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_feat=8, num_conv=2, upscale=scale)


def _rcan(scale: int) -> nn.Module:
    from spandrel.architectures.RCAN import RCAN

    return RCAN(scale=scale, n_resgroups=2, n_resblocks=2, n_feats=16, reduction=4)


def _cugan(scale: int) -> nn.Module:
    from spandrel.architectures.RealCUGAN import UpCunet2x, UpCunet3x, UpCunet4x

    return {2: UpCunet2x, 3: UpCunet3x, 4: UpCunet4x}[scale]()


def _omnisr(scale: int) -> nn.Module:
    from spandrel.architectures.OmniSR import OmniSR

    return OmniSR(num_feat=16, up_scale=scale)


def _dat(scale: int) -> nn.Module:
    from spandrel.architectures.DAT import DAT

    return DAT(
        img_size=SIDE, embed_dim=16, split_size=[4, 4], depth=[2], num_heads=[2], upscale=scale
    )


def _hat(scale: int) -> nn.Module:
    from spandrel.architectures.HAT import HAT

    return HAT(img_size=SIDE, embed_dim=30, depths=[2], num_heads=[2], window_size=8, upscale=scale)


def _span(scale: int) -> nn.Module:
    from spandrel.architectures.SPAN import SPAN

    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=scale)


def _safmn(scale: int) -> nn.Module:
    from spandrel.architectures.SAFMN import SAFMN

    return SAFMN(dim=8, n_blocks=2, upscaling_factor=scale)


def _dncnn(_: int) -> nn.Module:
    from spandrel.architectures.DnCNN import DnCNN

    return DnCNN(in_nc=3, out_nc=3, nc=8, nb=4)


def _uformer(_: int) -> nn.Module:
    from spandrel.architectures.Uformer import Uformer

    return Uformer(img_size=128, embed_dim=4, depths=[1] * 9, num_heads=[1] * 9)


SR: dict[str, Callable[[int], nn.Module]] = {
    "ESRGAN": _esrgan,
    "SwinIR": _swin("SwinIR"),
    "Swin2SR": _swin("Swin2SR"),
    "RealESRGAN Compact": _compact,
    "RealCUGAN": _cugan,
    "OmniSR": _omnisr,
    "DAT": _dat,
    "HAT": _hat,
    "SPAN": _span,
    "SAFMN": _safmn,
    "RCAN": _rcan,
}
"""Networks for super-resolution by spandrel's names of their architectures."""

RESTORATION: dict[str, Callable[[int], nn.Module]] = {"DnCNN": _dncnn, "Uformer": _uformer}
"""Networks of scale 1."""


def foreign_net(name: str, scale: int = 4, seed: int = 0) -> nn.Module:
    """Returns a small network of an architecture, with weights drawn from a seed."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {**SR, **RESTORATION}[name](scale).eval()


def foreign_file(folder: Path, name: str, scale: int = 4, seed: int = 0) -> Path:
    """Writes the weights of such a network as other projects do; returns the file."""
    path = folder / f"{name.replace(' ', '_')}_x{scale}.pth"
    torch.save({"params": foreign_net(name, scale, seed).state_dict()}, path)
    return path
